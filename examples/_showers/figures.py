"""Figures of ``showers.py``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from _report import save_figure
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from _showers.networks import load_surrogate
from _showers.settings import CELL_METHODS, GAP, HIGH, LOW, METHODS, NAMES, REGIONS, SHOWERS, Settings

TITLES = {
    "surrogate": "adversarial ensemble", "member": "one generator", "mixture": "mixture network",
    "library": "mixture and library", "flow": "flows", "flow_library": "flow and library", "null": "simulation again",
    "simulation": "simulation",
}  # fmt: skip
COLOURS = {
    "surrogate": "C3", "member": "C1", "mixture": "C0", "library": "C2", "flow": "C4", "flow_library": "C9",
    "null": "0.5",
}  # fmt: skip
SHOWN = {
    "response": "energy seen / energy", "fraction_0": "share of layer 0", "fraction_2": "share of layer 2",
    "width_x_0": "width of layer 0, Molière radii", "active_1": "active share of layer 1",
    "brightest_1": "brightest cell of layer 1",
}  # fmt: skip
ENERGIES = (2.0, 10.0, 30.0, 80.0)  # GeV of the showers that are drawn
LARGEST_PULL = 5.0


def draw(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> list[Path]:
    return [
        draw_showers(settings, work, out), draw_histograms(work, out), draw_scores(metrics, out),
        draw_uncertainty(settings, metrics, work, out),
    ]  # fmt: skip


def draw_showers(settings: Settings, work: Path, out: Path) -> Path:
    """Single showers of the simulation and of the surrogate, at the same energies."""
    energy = torch.tensor(ENERGIES)
    made = load_surrogate(settings, work).simulate(energy, seed=settings.seed)
    real = SHOWERS.simulate(energy, seed=settings.seed + 1).cells
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    scale = LogNorm(1e-3, 5)
    axes = figure.subplots(len(ENERGIES), 6, width_ratios=(1.3, 1, 0.6) * 2)
    for row, e in enumerate(ENERGIES):
        for side, cells in enumerate((real[row], made[row])):
            for layer, part in enumerate(SHOWERS.calorimeter.split(cells)):
                ax = axes[row, 3 * side + layer]
                extent = (-2.5, 2.5, -2.5, 2.5)
                image = ax.imshow(
                    part.where(part > 0, torch.nan), norm=scale, extent=extent, aspect="auto", cmap="viridis"
                )
                ax.set(xticks=[], yticks=[], facecolor="0.93")
                if row == 0:
                    title = ("simulation", "surrogate")[side] if layer == 1 else ""
                    ax.set_title(f"{title}\nlayer {layer}")
        gap = " (left out)" if GAP[0] < e < GAP[1] else ""
        axes[row, 0].set_ylabel(f"{e:g} GeV{gap}")
    figure.colorbar(image, ax=axes, label="energy of a cell, GeV", shrink=0.7)
    return save_figure(figure, out / "showers-pictures.png")


def draw_histograms(work: Path, out: Path) -> Path:
    """Histograms of six observables, and their ratio to the simulation."""
    stored = {method: np.load(work / f"features-{method}-inside.npz") for method in METHODS if method != "member"}
    figure = Figure(figsize=(15, 8.4), layout="constrained")
    panels = figure.subfigures(2, 3)
    for panel, (name, title) in zip(panels.flat, SHOWN.items(), strict=True):
        column = NAMES.index(name)
        real = stored["surrogate"]["real"][:, column]
        above, below = panel.subplots(2, 1, height_ratios=(2.2, 1), sharex=True)
        low, high = np.quantile(real, (0.002, 0.998))
        edges = np.linspace(low, high, 31)
        count = np.histogram(real, edges)[0]
        above.stairs(count, edges, fill=True, color="0.85", label="simulation")
        for method, arrays in stored.items():
            values = np.histogram(arrays["made"][:, column], edges)[0]
            above.stairs(values, edges, color=COLOURS[method], label=TITLES[method])
            ratio = np.where(count > 20, values / np.maximum(count, 1), np.nan)
            below.stairs(ratio, edges, color=COLOURS[method], baseline=None)
        error = np.where(count > 20, 1 / np.sqrt(np.maximum(count, 1)), np.nan)
        below.fill_between((edges[1:] + edges[:-1]) / 2, 1 - 2 * error, 1 + 2 * error, color="0.85")
        below.set(ylim=(0.6, 1.4), xlabel=title, ylabel="ratio")
        above.set(ylabel="showers", ylim=(0, 1.25 * count.max()))
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return save_figure(figure, out / "showers-histograms.png")


def draw_scores(metrics: Mapping[str, float], out: Path) -> Path:
    """Areas under the ROC curve of both classifiers for each method, and the time for a shower."""
    figure = Figure(figsize=(18, 4.8), layout="constrained")
    *areas, time = figure.subplots(1, 3, width_ratios=(1.25, 1.1, 0.8))
    for ax, level, methods in (
        (areas[0], "high", (*METHODS, "null")), (areas[1], "low", (*CELL_METHODS, "null")),
    ):  # fmt: skip
        for place, method in enumerate(methods):
            for region in REGIONS:
                value, se = (metrics[f"{method}.{region}.auc_{level}{end}"] for end in ("", "_se"))
                x = place + (0.2 if region == "gap" else -0.2)
                style = {"hatch": "///", "edgecolor": "white"} if region == "gap" else {}
                ax.bar(x, value - 0.45, 0.38, bottom=0.45, yerr=2 * se, color=COLOURS[method], **style)
                ax.text(x, value + 2 * se + 0.008, f"{value:.2f}", ha="center", fontsize=8)
        ax.axhline(0.5, color="k", ls="--", lw=1)
        ax.set(ylim=(0.45, 1.08), ylabel="area under the ROC curve")
        ax.set_xticks(range(len(methods)), [TITLES[method].replace(" ", "\n") for method in methods], fontsize=9)
        ax.set_title(
            {"high": "Classifier of 22 features", "low": "Classifier of all cells"}[level]
            + " (hatched: energies left out)"
        )
    names = (*CELL_METHODS, "simulation")
    values = [metrics[f"microseconds.{name}"] for name in names]
    time.barh(range(len(names)), values, color=[COLOURS.get(name, "0.5") for name in names])
    for place, value in enumerate(values):
        time.text(value + 0.01 * max(values), place, f"{value:.0f}", va="center")
    time.set_yticks(range(len(names)), [TITLES[name] for name in names])
    time.set(xlim=(0, max(values) * 1.15), xlabel="microseconds for each shower, one thread")
    time.invert_yaxis()
    time.set_title("Cost")
    return save_figure(figure, out / "showers-scores.png")


def draw_uncertainty(settings: Settings, metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Pulls of all histogram bins, and the disagreement of the members as a function of energy."""
    pulls, known = np.load(work / "pulls.npz"), np.load(work / "disagreement.npz")
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.linspace(-LARGEST_PULL, LARGEST_PULL, 41)
    for region, colour, title in (("inside", "C3", "energies of training"), ("gap", "C0", "energies left out")):
        values = pulls[f"{region}_width"]
        width = metrics[f"pulls.{region}.width"]
        left.hist(
            np.clip(values, *edges[[0, -1]]), edges, density=True, histtype="step", lw=1.8, color=colour,
            label=f"{title}: width {width:.2f}",
        )  # fmt: skip
    left.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), "k--", lw=1, label="normal")
    left.set(xlabel="(surrogate - simulation) / stated error", ylabel="density", ylim=(0, 0.95))
    left.set_title(f"Pulls of {len(pulls['inside_width'])} bins of histograms")
    left.legend(loc="upper left")
    found = np.where(known["disagreement"] > 0, known["disagreement"], np.nan)  # none beyond that of finite samples
    right.loglog(known["energy"], found, "C3o-", ms=4)
    right.axhline(float(known["limit"]), color="k", ls="--", lw=1, label="largest inside")
    right.axvspan(LOW, HIGH, color="C2", alpha=0.12, label="energies of training")
    right.axvspan(*GAP, color="white")
    right.axvspan(*GAP, color="C0", alpha=0.15, label="left out")
    right.set(xlabel="energy, GeV", ylabel="spread of the members / spread of showers")
    right.set_title("Disagreement of the members about mean observables")
    right.legend(loc="upper center", ncols=3)
    bottom, top = right.get_ylim()
    right.set_ylim(bottom, top * 3)
    return save_figure(figure, out / "showers-uncertainty.png")
