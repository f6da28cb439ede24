"""Figures of ``faces.py``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from _report import save_figure
from matplotlib.figure import Figure

from _faces.settings import PARTS, Settings, masks

FACES = 10
WORST = 2
NAMES = {
    "mean": "mean face", "knn": "neighbours", "ridge": "ridge", "ridge_moved": "ridge, moved copies", "ppca": "PPCA",
    "network": "network",
}  # fmt: skip


def draw_completions(settings: Settings, work: Path, out: Path) -> Path:
    """Ten faces in the columns: the truth, what is visible, five completions, their mean and spread; the worst last."""
    stored = np.load(work / "completions.npz")
    figure = Figure(figsize=(18, 6.2), layout="constrained")
    for part, mask, panel in zip(PARTS, masks(settings).numpy(), figure.subfigures(1, len(PARTS)), strict=True):
        order = stored[f"{part}_order"]
        best = order[WORST:][:: max(1, (len(order) - WORST) // (FACES - WORST))][: FACES - WORST]
        shown = np.concatenate([best[::-1], order[:WORST][::-1]])
        truth, draws = stored["truth"][shown], stored[f"{part}_draws"][:, shown]
        rows = {
            "truth": truth,
            "visible": np.where(mask, 0, truth),
            **{("draws" if i == len(draws) // 2 else " " * i): each for i, each in enumerate(draws)},
            "mean": stored[f"{part}_expected"][shown],
            "3 x sd": 3 * stored[f"{part}_sd"][shown] - 1,
        }
        panel.suptitle(f"Hidden: {part}{' half' if part == 'lower' else ''}; the two worst of all on the right")
        for ax, (title, images) in zip(panel.subplots(len(rows), 1), rows.items(), strict=True):
            ax.imshow(np.concatenate(list(images), 1), cmap="gray", vmin=-1, vmax=1)
            ax.set(xticks=[], yticks=[])
            if part == PARTS[0]:
                ax.set_ylabel(title.strip(), rotation=0, ha="right", va="center")
    return save_figure(figure, out / "faces-completions.png")


def draw_scores(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """PSNR of all methods, coverage of intervals, and PSNR of each face."""
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    bars, intervals = figure.subplots(1, 2, width_ratios=(1.7, 1))
    width = 0.8 / len(NAMES)
    for number, (name, title) in enumerate(NAMES.items()):
        values = [metrics[f"{name}.{part}.psnr"] for part in PARTS]
        places = np.arange(len(PARTS)) + width * (number - (len(NAMES) - 1) / 2)
        bars.bar(
            places,
            values,
            0.9 * width,
            label=title,
            color="C3" if name == "network" else f"C{number}" if number < 3 else f"C{number + 1}",
        )
    lowest = min(metrics[f"{name}.{part}.psnr"] for name in NAMES for part in PARTS)
    highest = max(metrics[f"{name}.{part}.psnr"] for name in NAMES for part in PARTS)
    bars.set(ylim=(lowest - 1, highest + 1.6), ylabel="PSNR in the hidden part, dB")
    bars.set_xticks(range(len(PARTS)), [f"{part} hidden" for part in PARTS])
    bars.legend(ncols=3, loc="upper left")
    bars.set_title("Expected completion of people that no method has seen")
    for number, (name, title) in enumerate({"network": "network", "pca": "PPCA posterior"}.items()):
        values = [100 * metrics[f"{name}.{part}.coverage"] for part in PARTS]
        intervals.bar(
            np.arange(len(PARTS)) + 0.4 * (number - 0.5), values, 0.36, label=title, color=("C3", "C5")[number]
        )
    intervals.axhline(90, color="k", ls="--", lw=1)
    intervals.set(ylim=(50, 112), ylabel="pixels inside of 90% intervals, %")
    intervals.set_xticks(range(len(PARTS)), [f"{part} hidden" for part in PARTS])
    intervals.legend(ncols=2, loc="upper left")
    intervals.set_title("Coverage of 90% intervals (dashed: 90%)")
    return save_figure(figure, out / "faces-scores.png")
