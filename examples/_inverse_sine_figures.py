"""Figures of ``inverse_sine.py``: predictive densities, scores, and the split of the variance."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import inches, save_figure
from matplotlib.figure import Figure

from posterity.data import inverse_sine
from posterity.inference import Posterior
from posterity.inference.plots import plot_conditional_density

X = torch.linspace(-12.0, 12.0, 241)[:, None]
Y = (-13.0, 13.0)
SCORES = (
    ("n3000.nll_excess", "one network, N = 3,000"),
    ("n3000.ensemble_nll_excess", "ensemble, N = 3,000"),
    ("n3000.varied_ensemble_nll_excess", "ensemble of two kinds, N = 3,000"),
    ("n3000.bayes_nll_excess", "Bayesian (HMC), N = 3,000"),
    ("n100000.nll_excess", "one network, N = 100,000"),
    ("n100000.ensemble_nll_excess", "ensemble, N = 100,000"),
)
TERMS = (("noise", "#777777"), ("ambiguity", "#1f77b4"), ("epistemic", "#d62728"))


def draw_figures(out: Path, metrics: Mapping[str, float], settings: Any, pair: Callable[..., Any]) -> None:
    """Write ``density.png``, ``scores.png`` and ``split.png``."""
    save_figure(densities(out, settings, pair), out / "density.png")
    save_figure(scores(metrics), out / "scores.png")
    save_figure(split(metrics), out / "split.png")


def densities(out: Path, settings: Any, pair: Callable[..., Any]) -> Figure:
    """p(y|x) of the Bayesian network from few and from many rows, and the exact density."""
    figure = Figure(figsize=inches(13, 4.2), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    figure.suptitle("p(y|x): dark is likely, each column divided by its maximum")
    for ax, n in zip(axes[:2], (min(settings.rows), max(settings.rows)), strict=True):
        data = inverse_sine(n, seed=10 * settings.seed)
        posterior = Posterior.load(out / f"n{n}.post", pair(data, settings).model, data.x, data.y)
        some = slice(0, 400)
        predictive = posterior.predictive(X, draws=settings.scored)
        plot_conditional_density(
            predictive, X[:, 0], y=data.y[some], x_data=data.x[some, 0], limits=Y, ax=ax, colorbar=False
        )
        ax.set_title(f"Bayesian MDN from {n:,} rows")
    y = torch.linspace(*Y, 400).double()
    density = inverse_sine(2, seed=0).oracle(X.double()).log_prob(y[:, None]).exp()  # type: ignore[misc]
    image = (density / density.amax(0)).sqrt().numpy()
    axes[2].imshow(image, extent=(float(X[0]), float(X[-1]), *Y), origin="lower", aspect="auto", cmap="Blues", vmin=0)
    axes[2].set(title="exact density", xlabel="x")
    for ax in axes:
        ax.set_xlim(float(X[0]), float(X[-1]))
    for ax in axes[1:]:
        ax.set_ylabel("")
    return figure


def scores(metrics: Mapping[str, float]) -> Figure:
    """Log scores below that of the exact p(y|x), in nats per point; no prediction scores above zero."""
    shown = [(name, label) for name, label in SCORES if name in metrics]
    figure = Figure(figsize=inches(7.5, 0.9 + 0.62 * len(shown)), layout="constrained")
    ax = figure.subplots()
    for row, (name, _) in enumerate(shown):
        value, error = metrics[name], metrics[f"{name}_se"]
        ax.errorbar(value, row, xerr=2 * error, fmt="o", color="#1f77b4", capsize=4, ms=8)
        ax.text(1.02, row, f"{value:.4f}", va="center", transform=ax.get_yaxis_transform())
    ax.errorbar([], [], xerr=[], fmt="o", color="#1f77b4", capsize=4, label="mean over data sets, ± 2 standard errors")
    ax.axvline(0, color="black", lw=1, label="the exact p(y|x): the best possible score")
    ax.set_yticks(range(len(shown)), [label for _, label in shown])
    ax.set(xlabel="mean log score below that of the exact p(y|x), nats per point", ylim=(len(shown) - 0.5, -0.7))
    ax.set_xlim(-0.002, None)
    figure.legend(loc="outside lower center", fontsize="small", ncols=2)
    return figure


def split(metrics: Mapping[str, float]) -> Figure:
    """The three parts of the variance against the number of rows."""
    figure = Figure(figsize=inches(6.5, 4.4), layout="constrained")
    ax = figure.subplots()
    rows = sorted(
        int(name.removeprefix("noise.n")) for name in metrics if name.startswith("noise.n") and "_" not in name
    )
    for term, colour in TERMS:
        values = np.array([metrics[f"{term}.n{n}"] for n in rows])
        errors = np.array([metrics[f"{term}.n{n}_se"] for n in rows])
        ax.errorbar(rows, values, yerr=2 * errors, marker="o", color=colour, capsize=4, label=term)
    if rows:
        first = metrics[f"epistemic.n{rows[0]}"]
        ax.plot(rows, [first * rows[0] / n for n in rows], color="#d62728", ls=":", label="proportional to 1/N")
    ax.set(xscale="log", yscale="log", xlabel="training rows, N", ylabel="part of the variance, squared units of y")
    ax.set_xticks(rows, [f"{n:,}" for n in rows])
    ax.minorticks_off()
    ax.legend(fontsize="small")
    ax.set_title("With more data the epistemic part falls as 1/N, ambiguity remains")
    return figure
