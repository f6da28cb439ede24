"""Generated images on axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from posterity.inference.plots._axes import axes
from posterity.validation import check_integer

if TYPE_CHECKING:
    from torch import Tensor


def plot_samples(images: Tensor, *, columns: int = 8, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Images (N, C, H, W) with values from -1 to 1 in rows of ``columns``, on axes without ticks. Returns the axes.

    Raises:
        ValueError: as `posterity.data.pictures.tiled`.
    """
    import torch

    from posterity.data.pictures import tiled

    if not isinstance(images, torch.Tensor):
        raise ValueError(f"expected images to be a tensor (N, C, H, W), got {type(images).__name__}")
    check_integer("columns", columns, 1)
    sheet = tiled(images, columns=columns).numpy()
    ax = axes(ax)
    ax.imshow(sheet[..., 0] if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xticks=[], yticks=[], title=title or "")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
