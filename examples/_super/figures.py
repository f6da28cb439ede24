"""Figures of ``super_resolution.py``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import save_figure
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from _super.evaluation import NEW, enlarged, inner, pixel_distribution
from _super.networks import load
from _super.settings import SCALE, Settings, test_pictures
from posterity.data import Picture
from posterity.inference.adversarial.metrics import power_spectrum

TITLES = {
    "nearest": "input",
    "bicubic": "bicubic",
    "pixel": "pixel loss",
    "adversarial": "adversarial loss",
    "truth": "original",
}
COLOURS = {"bicubic": "C7", "pixel": "C0", "adversarial": "C3", "truth": "k"}
CROP = 112  # pixels of each side of the details that are shown
SHOWN = 3


def shown_array(picture: Picture) -> np.ndarray:
    """Grey or coloured values from 0 to 1."""
    array = picture.to_array().astype(float) / (2**picture.bits - 1)
    return array if array.ndim == 2 else array[..., : 3 if array.shape[2] > 2 else 1].squeeze()


def busiest(luminance: Tensor) -> tuple[slice, slice]:
    """The square of `CROP` pixels with the longest gradients."""
    down, right = luminance.diff(dim=0)[:, :-1].abs(), luminance.diff(dim=1)[:-1].abs()
    side = min(CROP, *down.shape)
    energy = torch.nn.functional.avg_pool2d((down + right)[None, None], side, stride=16)[0, 0]
    row, column = divmod(int(energy.argmax()), energy.shape[1])
    return slice(16 * row, 16 * row + side), slice(16 * column, 16 * column + side)


def draw_details(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """A detail of test pictures, enlarged in each way."""
    pictures = test_pictures(settings)
    indices = [index for index in (2, 1, 4) if index < len(pictures)] or [0]
    figure = Figure(figsize=(2.45 * len(TITLES), 2.75 * len(indices)), layout="constrained")
    for number, (axes, index) in enumerate(
        zip(figure.subplots(len(indices), len(TITLES), squeeze=False), indices, strict=True)
    ):
        name, picture = pictures.names[index], pictures.pictures[index].cropped(SCALE)
        rows, columns = busiest(picture.luminance)
        for ax, (way, title) in zip(axes, TITLES.items(), strict=True):
            found = picture if way == "truth" else enlarged(way, picture.reduced(SCALE), work)
            show(ax, shown_array(found)[rows, columns])
            score = metrics.get(f"{way}.psnr_of.{name}")
            ax.set_title(title if not number else "", fontsize=12)
            ax.set_xlabel(f"{score:.2f} dB" if score is not None else name if way == "truth" else "")
    figure.suptitle(f"{SCALE} x {SCALE} pixels from one: details of test pictures, PSNR of the whole picture")
    return save_figure(figure, out / "super-resolution-details.png")


def draw_textures(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Power spectra and gradients of the test pictures, and what each way misses."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    spectrum, gradients, bars = figure.subplots(1, 3)
    for way, colour in COLOURS.items():
        powers, lengths = [], []
        for picture in test_pictures(settings).pictures:
            whole = picture.cropped(SCALE)
            found = whole if way == "truth" else enlarged(way, picture.reduced(SCALE), work)
            plane = inner(found.luminance)
            powers.append(power_spectrum(plane).log10())
            lengths.append(torch.hypot(plane.diff(dim=0)[:, :-1], plane.diff(dim=1)[:-1]).flatten())
        frequency = (np.arange(len(powers[0])) + 0.5) / (2 * len(powers[0]))
        style: dict[str, Any] = {"color": colour, "lw": 2, "ls": "--" if way == "truth" else "-", "label": TITLES[way]}
        spectrum.plot(frequency[1:], torch.stack(powers).mean(0)[1:], **style)
        edges = np.geomspace(1.5, 200, 22)
        counts, _ = np.histogram(255 * torch.cat(lengths).numpy(), edges)
        gradients.plot(np.sqrt(edges[1:] * edges[:-1]), counts / counts.sum(), **style)
    spectrum.axvspan(NEW, 0.5, color="k", alpha=0.07)
    spectrum.set_ylim(top=spectrum.get_ylim()[1] + 0.8)
    spectrum.text(NEW + 0.01, spectrum.get_ylim()[1] - 0.15, "not in the input", va="top")
    spectrum.set(xlabel="frequency in cycles per pixel", ylabel="log10 of the power", title="Power spectrum")
    spectrum.legend(loc="upper right", bbox_to_anchor=(1, 0.9))
    gradients.set(xscale="log", xlabel="gradient in levels (of 255) per pixel", ylabel="share", title="Gradients")
    ways = ("bicubic", "pixel", "adversarial")
    for offset, (key, label) in enumerate((("spectrum_distance", "spectrum"), ("gradient_distance", "gradients"))):
        values = np.array([metrics[f"{way}.{key}"] for way in ways])
        bars.bar(np.arange(3) + 0.4 * (offset - 0.5), values / values[1], 0.38, color=f"C{offset + 1}", label=label)
    bars.axhline(0.5, color="k", lw=1, ls=":")
    bars.set_xticks(range(3), [f"{TITLES[way]}\n{metrics[f'{way}.psnr']:.2f} dB" for way in ways])
    bars.set(ylabel="distance from the original / that of pixel loss", title="What is missing")
    bars.legend(loc="upper right")
    return save_figure(figure, out / "super-resolution-textures.png")


def draw_errors(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Predicted and actual errors of a test picture, and the pulls of all."""
    pictures = test_pictures(settings)
    picture = pictures.pictures[2 if len(pictures) > 2 else 0].cropped(SCALE)
    mixture = pixel_distribution(load("pixel", work), picture.reduced(SCALE))
    actual = (picture.luminance - mixture.mean).abs()
    figure = Figure(figsize=(14, 3.9), layout="constrained")
    axes = figure.subplots(1, 4)
    show(axes[0], shown_array(enlarged("pixel", picture.reduced(SCALE), work)))
    axes[0].set_title("enlarged, pixel loss")
    top = float(255 * mixture.stddev.quantile(0.995)) if mixture.stddev.numel() < 2**24 else None
    for ax, values, title in ((axes[1], actual, "actual error"), (axes[2], mixture.stddev, "predicted sd")):
        image = ax.imshow(255 * values.numpy(), cmap="magma", vmin=0, vmax=top)
        ax.set_title(title)
        ax.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=axes[1:3], label="levels (of 255)", shrink=0.9)
    stored = np.load(work / "errors.npz")
    edges = np.linspace(-5, 5, 61)
    axes[3].hist(stored["pulls"].clip(-5, 5), edges, density=True, color="C0", label="pulls of the pixels")
    axes[3].plot(edges, norm.pdf(edges), "k--", label="N(0, 1)")
    axes[3].set(xlabel="pull", ylabel="density", ylim=(0, 0.62))
    axes[3].set_title(f"width {metrics['errors.pull_width']:.2f}, in 90%: {100 * metrics['errors.coverage_90']:.1f}%")
    axes[3].legend(loc="upper left")
    return save_figure(figure, out / "super-resolution-errors.png")


def show(ax: Any, values: np.ndarray) -> None:
    ax.imshow(values, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
