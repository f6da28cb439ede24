"""Generated images on axes."""

from matplotlib.axes import Axes
from torch import Tensor

from posterity.data.pictures import tiled
from posterity.inference.plots._axes import axes


def plot_samples(images: Tensor, *, columns: int = 8, ax: Axes | None = None, title: str | None = None) -> Axes:
    """The `tiled` images on axes without ticks. Returns the axes."""
    ax = axes(ax)
    sheet = tiled(images, columns=columns).numpy()
    ax.imshow(sheet[..., 0] if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xticks=[], yticks=[], title=title or "")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
