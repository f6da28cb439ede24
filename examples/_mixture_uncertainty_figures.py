"""Figures of ``mixture_uncertainty.py``: maps of the variance for the three cases, and tests of its split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _report import inches, save_figure
from matplotlib.figure import Figure

CASES = {"absence": "no data in the quadrant", "noise": "much noise in it", "composition": "two answers in it"}
COLUMNS = {
    "between": "one network:\nbetween components",
    "noise": "posterior:\nnoise",
    "ambiguity": "posterior:\nambiguity",
    "epistemic": "posterior:\nepistemic",
}
COLOURS = {"noise": "#777777", "ambiguity": "#1f77b4", "epistemic": "#d62728"}


def draw_figures(out: Path, metrics: Mapping[str, float], settings: Any) -> None:
    """Write ``maps.png`` and ``split.png``."""
    save_figure(maps(out), out / "maps.png")
    save_figure(split_tests(metrics, settings), out / "split.png")


def maps(out: Path) -> Figure:
    """Square roots of the parts of the variance, on one colour scale; the first quadrant is framed."""
    figure = Figure(figsize=inches(11.5, 8.4), layout="constrained")
    axes = figure.subplots(len(CASES), len(COLUMNS), sharex=True, sharey=True)
    for number, (row, (case, title)) in enumerate(zip(axes, CASES.items(), strict=True)):
        with np.load(out / f"{case}.npz") as file:
            content = dict(file)
        for ax, (name, label) in zip(row, COLUMNS.items(), strict=True):
            side = int(len(content[name]) ** 0.5)
            image = np.sqrt(content[name]).reshape(side, side).T
            drawn = ax.imshow(image, extent=(-6, 6, -6, 6), origin="lower", vmin=0, vmax=3, cmap="magma")
            ax.plot([0, 0, 6], [6, 0, 0], color="white", lw=1.5, ls="--")
            if number == 0:
                ax.set_title(label)
            if number == len(CASES) - 1:
                ax.set_xlabel("first input")
        row[0].set_ylabel(f"{title}\n\nsecond input")
    figure.colorbar(drawn, ax=axes, label="standard deviation, units of y", extend="max", shrink=0.7)
    return figure


def split_tests(metrics: Mapping[str, float], settings: Any) -> Figure:
    """The parts of the variance against the number of rows, and inside and outside the support."""
    figure = Figure(figsize=inches(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = np.array(settings.branch_rows)
    for name, colour in COLOURS.items():
        values, errors = (
            np.array([metrics[f"branches.{name}.n{n}{end}"] for n in settings.branch_rows]) for end in ("", "_se")
        )
        left.errorbar(rows, values, yerr=2 * errors, marker="o", capsize=4, color=colour, label=name)
    left.plot(
        rows,
        metrics[f"branches.epistemic.n{rows[0]}"] * rows[0] / rows,
        ":",
        color=COLOURS["epistemic"],
        label="proportional to 1/N",
    )
    left.set(xscale="log", yscale="log", xlabel="training rows, N", ylabel="part of the variance, squared units of y")
    left.set_xticks(rows, [f"{n:,}" for n in rows])
    left.minorticks_off()
    left.set_title("With more data only the epistemic part falls")
    left.legend(fontsize="small")
    place = np.arange(len(COLOURS))
    largest = rows[-1]
    for shift, key, label, hatch in ((-0.2, "", "inside the data", ""), (0.2, "off.", "far from the data", "//")):
        values = [metrics[f"branches.{key}{name}.n{largest}"] for name in COLOURS]
        bars = right.bar(place + shift, values, 0.38, color=list(COLOURS.values()), hatch=hatch, edgecolor="white")
        right.bar_label(bars, [f"{value:.2g}" for value in values], fontsize="small")
        right.bar([0], [0], color="#bbbbbb", hatch=hatch, edgecolor="white", label=label)
    right.margins(y=0.15)
    right.set(
        yscale="log", ylabel="part of the variance, squared units of y", title=f"Far from the data (N = {largest:,})"
    )
    right.set_xticks(place, list(COLOURS))
    right.legend(fontsize="small")
    return figure
