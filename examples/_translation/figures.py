"""Figures of ``translation.py``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _report import save_figure
from matplotlib.figure import Figure

from _translation.digits import DIRECTIONS
from _translation.settings import Settings

COLUMNS = 14
NICE = {"mnist_to_usps": ("MNIST", "USPS"), "usps_to_mnist": ("USPS", "MNIST")}


def draw_digits(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Digits, their translation, and back, in both directions."""
    figure = Figure(figsize=(COLUMNS, 7.2), layout="constrained")
    for part, name in zip(figure.subfigures(2, 1), DIRECTIONS, strict=True):
        stored, (source, target) = np.load(work / f"digits-{name}.npz"), NICE[name]
        rows = _two_of_each(stored["labels"])
        accuracy = metrics[f"digits.{settings.seeds[0]}.{name}.accuracy"]
        part.suptitle(f"{source} to {target}: {100 * accuracy:.1f}% of the translations have the right class")
        strips = {source: "inputs", f"as {target}": "moved", "and back": "back"}
        _strips(part, {title: stored[key][rows] for title, key in strips.items()})
    return save_figure(figure, out / "translation-digits.png")


def draw_clothes(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Outlines from clothes and clothes from outlines, beside the hidden truth and a network that saw pairs."""
    stored, paired = np.load(work / "clothes.npz"), np.load(work / "clothes-paired.npz")
    rows = np.arange(min(COLUMNS, len(stored["images"])))
    figure = Figure(figsize=(COLUMNS, 10), layout="constrained")
    above, below = figure.subfigures(2, 1)
    seed = settings.seeds[0]
    for part, title, key, truth, inputs, name in (
        (above, "Clothes to outlines", "drawn", "outlines", "images", "psnr"),
        (below, "Outlines to clothes", "dressed", "images", "outlines", "psnr_clothes"),
    ):
        unpaired, with_pairs, mean = (metrics[f"edges.{which}.{name}"] for which in (seed, "paired", "mean"))
        part.suptitle(
            f"{title}: {unpaired:.1f} dB without pairs, {with_pairs:.1f} dB with pairs, mean image {mean:.1f} dB"
        )
        strips = {"input": stored[inputs], "no pairs": stored[key], "pairs": paired[key], "truth": stored[truth]}
        _strips(part, {name: values[rows] for name, values in strips.items()})
    return save_figure(figure, out / "translation-clothes.png")


def draw_scores(settings: Settings, metrics: Mapping[str, float], out: Path) -> Path:
    """Accuracy of each seed beside the baselines, and confusion of classes."""
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    bars, *tables = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    for number, name in enumerate(DIRECTIONS):
        values = [metrics[f"digits.{seed}.{name}.accuracy"] for seed in settings.seeds]
        rows = {
            "not translated": [metrics[f"digits.{name}.judge.untranslated"]],
            "moved and scaled": [metrics[f"digits.{name}.judge.placed_only"]],
            "translated": values,
            "real": [metrics[f"digits.{name}.judge.own"]],
        }
        for place, each in enumerate(rows.values()):
            x = place + 0.4 * (number - 0.5)
            bars.bar(x, np.mean(each) - 0.8, 0.36, bottom=0.8, color=f"C{number}", alpha=0.75)
            bars.plot([x] * len(each), each, "k.", ms=5)
        bars.bar(0, 0, color=f"C{number}", label=" to ".join(NICE[name]))
        bars.set_xticks(range(len(rows)), list(rows))
    bars.set(ylabel="right class, by a frozen classifier", ylim=(0.8, 1.03))
    bars.set_title("Five seeds" if len(settings.seeds) == 5 else f"{len(settings.seeds)} seed")
    bars.legend(loc="upper left", ncols=2)
    for ax, name in zip(tables, DIRECTIONS, strict=True):
        seed = settings.seeds[0]
        table = np.array([[metrics[f"digits.{seed}.{name}.confusion.{a}.{b}"] for b in range(10)] for a in range(10)])
        image = ax.imshow(table, cmap="Blues", vmin=0, vmax=1)
        ax.set(xticks=range(10), yticks=range(10), xlabel="class of the translation", ylabel="class of the digit")
        ax.set_title(" to ".join(NICE[name]))
    figure.colorbar(image, ax=tables, label="share of the digits of a class")
    return save_figure(figure, out / "translation-scores.png")


def _strips(part: Any, strips: Mapping[str, np.ndarray]) -> None:
    for ax, (title, images) in zip(part.subplots(len(strips), 1), strips.items(), strict=True):
        ax.imshow(np.concatenate(list(images[:COLUMNS, 0]), 1), cmap="gray", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(title, rotation=0, ha="right", va="center")


def _two_of_each(labels: np.ndarray) -> np.ndarray:
    """Positions of the first images of each class, one after the other, up to the number of columns."""
    firsts = [np.flatnonzero(labels == label)[:2] for label in range(10)]
    return np.concatenate([np.concatenate([f[:1] for f in firsts]), np.concatenate([f[1:] for f in firsts])])[:COLUMNS]
