"""The figures of `compare_uncertainty`: one page each for densities, bands, pulls, calibration and the split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from _report import save_figure
from matplotlib.figure import Figure

from posterity.inference import Posterior
from posterity.inference.diagnostics import coverage, score_summary, uncertainty_split
from posterity.inference.plots import plot_bands, plot_coverage, plot_density, plot_pit, plot_pulls, plot_split

TITLES = {
    "map": "Gaussian network, MAP",
    "bnn_homo": "BNN, one noise (NUTS)",
    "bnn_hetero": "BNN, noise from x (NUTS)",
    "mdn": "MDN, MAP",
    "bayesian_mdn": "Bayesian MDN (SVI)",
}
GRID = 160
DRAWS = 300


def draw_figures(name: str, jobs: Sequence[Any], rows: dict[str, xr.Dataset], out: Path) -> list[Path]:
    """All pages of one data set; those over x only where there is one x. ``jobs`` are the fits of the first fold."""
    out.mkdir(parents=True, exist_ok=True)
    pages = [_pulls(name, rows), _calibration(name, rows)]
    if jobs[0].train.x.shape[1] == 1:
        pages += _over_x(name, jobs, rows)
    return [save_figure(page, out / f"{name}-{stem}.png") for stem, page in pages]


def _panels(count: int, title: str, *, height: float = 3.6) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(4.4 * count, height), layout="constrained")
    figure.suptitle(title)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


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
    density, top = _panels(len(jobs), f"{name}: predicted density p(y|x), with the training points")
    bands, middle = _panels(len(jobs), f"{name}: central 50% and 90% bands, with the training points")
    split, bottom = _panels(len(jobs), f"{name}: what the predictive variance is made of")
    tallest = 0.0
    for job, one, two, three in zip(jobs, top, middle, bottom, strict=True):
        pair, _ = job.pair()
        posterior = Posterior.load(job.posterior_path, pair, train.x, train.y)
        draws = min(DRAWS, posterior.num_chains * posterior.num_draws)
        predictive = posterior.predictive(x[:, None], draws=draws)
        terms = uncertainty_split(predictive)
        summary = score_summary(rows[job.model])
        score = f"elpd {float(summary['log_score']):.3f} ± {float(summary['log_score_se']):.3f}"
        plot_density(predictive, x, limits=limits, colorbar=job is jobs[-1], ax=one, **labels, **shown)
        plot_bands(predictive, x, ax=two, **labels, **shown)
        plot_split(terms, x, ax=three, xlabel=problem.xlabel, ylabel="variance of y")
        two.set_ylim(*limits)
        for ax in (one, two, three):
            ax.set_title(f"{TITLES[job.model]}\n{score}", fontsize="medium")
        for ax in (one, two):
            if ax.get_legend() is not None and job is not jobs[0]:
                ax.get_legend().remove()
        tallest = max(tallest, float(np.quantile(terms["total"], 0.98)))
    for ax in bottom:
        ax.set_ylim(0, 1.1 * tallest)
    return [("density", density), ("bands", bands), ("split", split)]


def _pulls(name: str, rows: dict[str, xr.Dataset]) -> tuple[str, Figure]:
    figure, panels = _panels(len(rows), f"{name}: pulls of held-out points; a calibrated model has mean 0, width 1")
    for (model, table), ax in zip(rows.items(), panels, strict=True):
        plot_pulls(table, ax=ax, bins=40 if table.sizes["obs"] > 1000 else 25)
        ax.set_title(TITLES[model], fontsize="medium")
    return "pulls", figure


def _calibration(name: str, rows: dict[str, xr.Dataset]) -> tuple[str, Figure]:
    figure = Figure(figsize=(4.4 * len(rows), 7), layout="constrained")
    figure.suptitle(f"{name}: PIT (inside the band: calibrated) and coverage of highest-density regions, held out")
    panels = figure.subplots(2, len(rows), squeeze=False)
    for (model, table), top, bottom in zip(rows.items(), *panels, strict=True):
        plot_pit(table, ax=top)
        plot_coverage(coverage(table), ax=bottom)
        top.set_title(TITLES[model], fontsize="medium")
    return "calibration", figure
