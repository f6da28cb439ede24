"""Enlarge a picture of the user with the stored networks."""

from pathlib import Path

import numpy as np
import torch
from _report import save_figure
from matplotlib.figure import Figure

from _super.evaluation import enlarged, pixel_distribution
from _super.figures import TITLES, busiest, show, shown_array
from _super.networks import load
from _super.settings import SCALE
from posterity.data import Picture

LARGEST = 5_000_000  # pixels of the input: sixteen times as many come out, which takes minutes


def enlarge_own(path: Path, networks: Path, out: Path) -> list[Path]:
    """Write the picture enlarged in three ways, the predicted error of each pixel, and a figure side by side.

    Raises:
        ValueError: the file is not a picture, or too large.
    """
    picture = Picture.read(path, largest=LARGEST)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for way in ("bicubic", "pixel", "adversarial"):
        large = enlarged(way, picture, networks)
        kept = large if large.mode == "L" else large.rounded(8)  # PNG by Pillow has 16 bits for grey alone
        written.append(kept.save(out / f"{path.stem}-{way}.png"))
    with torch.no_grad():
        sd = 255 * pixel_distribution(load("pixel", networks), picture).stddev
    full = np.rint(1000 * sd.numpy()).clip(0, 65535).astype(np.uint16)  # thousandths of a level
    written.append(Picture.from_array(full).save(out / f"{path.stem}-sd.png"))
    figure = Figure(figsize=(2.9 * 5, 3.4), layout="constrained")
    rows, columns = (
        busiest(enlarged("bicubic", picture, networks).luminance) if min(picture.size) > 1 else (slice(4),) * 2
    )
    axes = figure.subplots(1, 5)
    for ax, way in zip(axes, ("nearest", "bicubic", "pixel", "adversarial"), strict=False):
        show(ax, shown_array(enlarged(way, picture, networks))[rows, columns])
        ax.set_title(TITLES[way])
    image = axes[-1].imshow(sd[rows, columns].numpy(), cmap="magma", vmin=0)
    axes[-1].set(xticks=[], yticks=[])
    axes[-1].set_title("predicted sd")
    figure.colorbar(image, ax=axes[-1], label="levels (of 255)")
    height, width = picture.size
    figure.suptitle(
        f"{path.name}: {height} x {width} to {SCALE * height} x {SCALE * width}, the busiest detail", parse_math=False
    )
    return [*written, save_figure(figure, out / f"{path.stem}-side-by-side.png")]
