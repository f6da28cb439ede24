"""Figures of ``compare_uncertainty.py``: densities, bands, pulls, calibration, and the split of the variance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from _report import inches, save_figure
from matplotlib.figure import Figure

from posterity.inference import Posterior
from posterity.inference.diagnostics import coverage, score_summary, uncertainty_split
from posterity.inference.plots import (
    plot_bands,
    plot_conditional_density,
    plot_coverage,
    plot_pit_ecdf,
    plot_pull,
    plot_uncertainty_split,
)

TITLES = {
    "map": "Gaussian network, MAP",
    "bnn_homo": "BNN, one noise (HMC)",
    "bnn_hetero": "BNN, noise from x (HMC)",
    "mdn": "MDN, MAP",
    "bayesian_mdn": "Bayesian MDN (SVI)",
}
DENSITY = """How to read this

Dark is likely: each column of p(y|x) is divided by its
maximum, so that shapes can be compared.

elpd: log density of held-out points, nats per point,
with its standard error. Higher is better."""
BANDS = """How to read this

Half of the points should lie in the dark band, nine
tenths in the light one.

The dashed lines enclose the mean and close in with more
data. A model with a single set of weights has none."""
SPLIT = """How to read this

noise: remains with any amount of data
ambiguity: several answers are right
epistemic: too little data; falls with more data

The three sum to the predictive variance."""
PULLS = """How to read this

A pull is the error in units of the predicted error,
z = Phi^-1(F(y|x)): standard normal for a calibrated model.

Wider than 1: over-confident. Narrower: under-confident."""
GRID = 160
DRAWS = 300


def draw_figures(name: str, jobs: Sequence[Any], rows: dict[str, xr.Dataset], out: Path) -> list[Path]:
    """Draw all pages of one data set, those over x only for a single x. ``jobs`` are the fits of the first fold."""
    out.mkdir(parents=True, exist_ok=True)
    pages = [_pulls(name, rows), _calibration(name, rows)]
    if jobs[0].train.x.shape[1] == 1:
        pages += _over_x(name, jobs, rows)
    return [save_figure(page, out / f"{name}-{stem}.png") for stem, page in pages]


def _panels(count: int, title: str, note: str) -> tuple[Figure, list[Any]]:
    """Two rows of panels; a free panel gets the note."""
    columns = (count + 1) // 2
    figure = Figure(figsize=inches(5 * columns, 8), layout="constrained")
    figure.suptitle(title, fontsize="x-large")
    panels = list(figure.subplots(2, columns, squeeze=False).ravel())
    for spare in panels[count:]:
        spare.axis("off")
        spare.text(0.05, 0.95, note, va="top", wrap=True, linespacing=1.5, transform=spare.transAxes)
    return figure, panels[:count]


def _over_x(name: str, jobs: Sequence[Any], rows: dict[str, xr.Dataset]) -> list[tuple[str, Figure]]:
    train, problem = jobs[0].train, jobs[0].problem
    low, high = float(train.x.min()), float(train.x.max())
    margin = 0.08 * (high - low)
    x = torch.linspace(low - margin, high + margin, GRID)
    spread = float(train.y.max() - train.y.min())
    limits = (float(train.y.min()) - 0.15 * spread, float(train.y.max()) + 0.15 * spread)
    points = slice(0, 1000)
    labels: dict[str, Any] = {"xlabel": problem.xlabel, "ylabel": problem.ylabel}
    shown: dict[str, Any] = {"y": train.y[points], "x_data": train.x[points, 0]}
    density, top = _panels(len(jobs), f"{name}: predictive density p(y|x) and training points", DENSITY)
    bands, middle = _panels(len(jobs), f"{name}: central 50 % and 90 % bands and training points", BANDS)
    split, bottom = _panels(len(jobs), f"{name}: parts of the predictive variance", SPLIT)
    tallest = 0.0
    for job, one, two, three in zip(jobs, top, middle, bottom, strict=True):
        pair, _ = job.pair()
        posterior = Posterior.load(job.posterior_path, pair, train.x, train.y)
        draws = min(DRAWS, posterior.num_chains * posterior.num_draws)
        predictive = posterior.predictive(x[:, None], draws=draws)
        terms = uncertainty_split(predictive)
        summary = score_summary(rows[job.model])
        score = f"elpd {float(summary['log_score']):.3f} ± {float(summary['log_score_se']):.3f}"
        plot_conditional_density(predictive, x, limits=limits, colorbar=False, ax=one, **labels, **shown)
        plot_bands(predictive, x, ax=two, **labels, **shown)
        plot_uncertainty_split(terms, x, ax=three, xlabel=problem.xlabel, ylabel="variance of y")
        two.set_ylim(*limits)
        for ax in (one, two, three):
            ax.set_title(f"{TITLES[job.model]}\n{score}", fontsize="medium")
        for ax in (one, two):
            if ax.get_legend() is not None and job is not jobs[0]:
                ax.get_legend().remove()
        tallest = max(tallest, float(np.quantile(terms["total"], 0.98)))
    for ax in bottom:
        ax.set_ylim(0, 1.1 * tallest)
        if ax is not bottom[0] and ax.get_legend() is not None:
            ax.get_legend().remove()
    return [("density", density), ("bands", bands), ("split", split)]


def _pulls(name: str, rows: dict[str, xr.Dataset]) -> tuple[str, Figure]:
    figure, panels = _panels(len(rows), f"{name}: pulls of held-out points", PULLS)
    for (model, table), ax in zip(rows.items(), panels, strict=True):
        plot_pull(table, ax=ax, bins=40 if table.sizes["obs"] > 1000 else 25)
        ax.set_title(TITLES[model], fontsize="medium")
    return "pulls", figure


def _calibration(name: str, rows: dict[str, xr.Dataset]) -> tuple[str, Figure]:
    figure = Figure(figsize=inches(4.4 * len(rows), 7), layout="constrained")
    figure.suptitle(
        f"{name}, held-out points: PIT (inside the band if calibrated) and coverage of highest-density regions",
        fontsize="x-large",
    )
    panels = figure.subplots(2, len(rows), squeeze=False)
    for (model, table), top, bottom in zip(rows.items(), *panels, strict=True):
        plot_pit_ecdf(table, ax=top)
        plot_coverage(coverage(table), ax=bottom)
        top.set_title(TITLES[model], fontsize="medium")
    return "calibration", figure
