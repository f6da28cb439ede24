"""Figures of ``calibration.py``."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from _report import inches
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from posterity.inference.diagnostics import calibration_tests, coverage, pit, pulls
from posterity.inference.plots import (
    plot_calibration_tests,
    plot_conditional_density,
    plot_coverage,
    plot_pit_ecdf,
    plot_pull,
    plot_pull_vs,
)
from posterity.models import Mixture

ORDER = (
    *("component_width", "component_shift", "component_weight", "hdi"),
    *("pull_width", "pull_mean", "ks", "ad", "chi2", "berkowitz", "pot_c", "together"),
)


def draw_page(title: str, model: Callable[[Tensor], Mixture], x: Tensor, y: Tensor) -> Figure:
    """One page for a model: density and data, pulls, pulls against x, PIT, coverage, and all tests."""
    predictive = model(x)
    figure, axes = plt.subplots(2, 3, figsize=inches(15, 8.5), layout="constrained")
    grid = torch.linspace(-1, 1, 200).double()
    plot_conditional_density(model(grid), grid, y=y, x_data=x, ax=axes[0, 0])
    table = pulls(predictive, y)
    plot_pull(table, ax=axes[0, 1])
    plot_pull_vs(table, by=x, bins=6, ax=axes[0, 2])
    axes[0, 2].set_xlabel("x")
    plot_pit_ecdf(pit(predictive, y), ax=axes[1, 0])
    levels = {"central": coverage(predictive, y), "highest density": coverage(predictive, y, kind="hdi")}
    plot_coverage(levels, difference=True, ax=axes[1, 1])
    panel = calibration_tests(predictive, y)
    plot_calibration_tests(panel, ax=axes[1, 2])
    figure.suptitle(" ".join(title.split("\n")), fontsize="x-large")
    return figure


def draw_rejections(rates: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]) -> Figure:
    """Colour table of the share of repetitions in which each test rejects each model."""
    tests = [name for name in ORDER if any(f"test.{name}" in shares for shares in rates.values())]
    table = np.array([[rates[model].get(f"test.{test}", np.nan) for model in titles] for test in tests])
    figure, ax = plt.subplots(figsize=inches(11, 7.5), layout="constrained")
    image = ax.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(table.shape):
        value = table[row, column]
        text, colour = (
            ("–", "#777777") if np.isnan(value) else (f"{100 * value:.0f}", "white" if value > 0.6 else "#222222")
        )
        ax.text(column, row, text, ha="center", va="center", color=colour)
    ax.set_xticks(range(len(titles)), list(titles.values()))
    ax.tick_params(axis="x", labelsize="small", rotation=0)
    ax.set_yticks(range(len(tests)), [name.replace("_", " ") for name in tests])
    for boundary in (3.5, 5.5, 10.5):
        ax.axhline(boundary, color="white", linewidth=3)
    ax.axvline(0.5, color="white", linewidth=3)
    figure.colorbar(image, ax=ax, label="share of repetitions that reject at 5 %")
    ax.set_title("Rejections of each test in % of the repetitions (should be 5 for the right model)")
    return figure
