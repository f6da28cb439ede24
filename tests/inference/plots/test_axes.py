"""What all plots have in common: they draw on the axes given, in the reader's style, and need no torch."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from matplotlib import pyplot as plt

from posterity.data import Observations
from posterity.inference import plots
from posterity.inference.plots._axes import named, panels, places
from tests.diagnostic_cases import Predicts
from tests.inference.plots.cases import COVERAGE, LOO, PANEL, PIT, PPC, PREDICTIVE, PULLS, RNG, SBC, SPLIT, N, X

Case = tuple[Callable[..., Any], tuple[Any, ...], int]
CASES: dict[str, Case] = {  # the function, its arguments, the number of its axes
    "bands": (plots.plot_bands, (PREDICTIVE, X), 1),
    "bands_along": (
        partial(plots.plot_bands_along, resolution=N),
        (Predicts(PREDICTIVE), np.stack([X, X], 1), 0),
        1,
    ),
    "calibration_tests": (plots.plot_calibration_tests, (PANEL,), 1),
    "compare_uncertainty": (plots.plot_compare_uncertainty, ({"a": PREDICTIVE, "b": PREDICTIVE}, X), 4),
    "conditional_density": (plots.plot_conditional_density, (PREDICTIVE, X), 1),
    "coverage": (plots.plot_coverage, (COVERAGE,), 1),
    "khat": (plots.plot_khat, (LOO,), 1),
    "ood": (plots.plot_ood, (RNG.random(30), RNG.random(20)), 2),
    "pit_ecdf": (plots.plot_pit_ecdf, (PIT,), 1),
    "ppc": (plots.plot_ppc, (PPC,), 1),
    "pull": (plots.plot_pull, (PULLS,), 1),
    "pull_vs": (plots.plot_pull_vs, (PULLS, "x"), 1),
    "recalibration": (plots.plot_recalibration, (PIT, PIT), 1),
    "samples": (plots.plot_samples, (torch.zeros(2, 1, 4, 4),), 1),
    "sbc": (plots.plot_sbc, (SBC,), 1),
    "uncertainty_split": (plots.plot_uncertainty_split, (SPLIT, X), 1),
}


def test_every_plot_is_a_case():
    assert {f"plot_{name}" for name in CASES} == set(plots.__all__)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_draws_on_the_axes_given_and_makes_no_other_figure(case: Case):
    function, arguments, count = case
    given = np.ravel(plt.figure().subplots(1, count, squeeze=False))
    found = function(*arguments, ax=given[0] if count == 1 else given)
    assert all(one is other for one, other in zip(np.ravel(found), given, strict=True))
    given[0].figure.canvas.draw()
    assert len(plt.get_fignums()) == 1
    with pytest.raises(ValueError, match=r"expected ax to be matplotlib axes, got str|expected . axes, got 1"):
        function(*arguments, ax="left")


@pytest.mark.parametrize("name", sorted(set(CASES) - {"samples"}))
def test_axes_are_named_and_keep_what_the_reader_has_set(name: str):
    function, arguments, count = CASES[name]
    widths = line_widths(np.ravel(function(*arguments)))
    mpl.rcParams.update({"figure.figsize": (5.0, 3.0), "font.size": 7.0, "lines.linewidth": 4.5})
    found = np.ravel(function(*arguments))
    np.testing.assert_allclose(line_widths(found), 3 * np.array(widths))  # 1.5 points by default
    figure = found[0].figure
    if count == 1:
        assert tuple(figure.get_size_inches()) == (5.0, 3.0)
    else:
        rows = 2 if name == "compare_uncertainty" else 1
        np.testing.assert_allclose(figure.get_size_inches(), (0.7 * 2 * 5, 0.7 * rows * 3))
    assert all(one.get_xlabel() or one.get_shared_x_axes().get_siblings(one) != [one] for one in found)
    assert all(label.get_size() == 7.0 for one in found for label in (one.xaxis.label, one.yaxis.label))


def line_widths(found: np.ndarray) -> list[float]:
    return [one.get_linewidth() for ax in found for one in ax.lines]


def test_settings_of_the_main_artist_come_last_by_either_of_their_names():
    line = plots.plot_pit_ecdf(PIT, plot_kwargs={"lw": 7, "c": "lime"}).lines[1]
    assert (line.get_linewidth(), line.get_color()) == (7, "lime")
    assert plots.plot_pull(PULLS, plot_kwargs={"hatch": "//"}).patches[0].get_hatch() == "//"
    assert plots.plot_bands(PREDICTIVE, X, plot_kwargs={"ls": ":"}).lines[0].get_linestyle() == ":"
    assert plots.plot_khat(LOO, plot_kwargs={"marker": "s"}).lines[0].get_marker() == "s"
    ax = plots.plot_uncertainty_split(SPLIT, X, colors={"noise": "black"}, plot_kwargs={"alpha": 1.0})
    assert tuple(ax.collections[0].get_facecolor()[0]) == (0, 0, 0, 1)


def test_plots_are_imported_and_draw_without_torch():
    program = """
import importlib.util, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pyro"):
            raise ImportError("no " + name)
sys.meta_path.insert(0, Absent())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ("torch", "pyro") else found(name, package)
import numpy as np, xarray as xr
from posterity.inference import plots
from posterity.inference.diagnostics.calibration.regions import coverage
values = np.random.default_rng(0).normal(size=(50, 30))
plots.plot_bands(values, np.arange(30))
plots.plot_coverage(coverage(values[1:], values[0]))
plots.plot_pull_vs(xr.Dataset({"pull": ("obs", values[0])}), np.arange(30), bins=3)
try:
    plots.plot_conditional_density(values, np.arange(30))
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "expected a Mixture for a density, got draws, which have no density and no components\n"


def test_panels_grow_with_the_letters():
    """At 20 points titles and legends of neighbours would meet in figures that are made for 10."""
    width = panels(1, 2)[0, 0].figure.get_size_inches()
    with mpl.rc_context({"font.size": 20}):
        np.testing.assert_allclose(panels(1, 2)[0, 0].figure.get_size_inches(), 2 * width)
        np.testing.assert_allclose(panels(1, 1)[0, 0].figure.get_size_inches(), mpl.rcParams["figure.figsize"])
    plt.close("all")


def test_labels_are_the_names_of_columns():
    data = Observations(torch.zeros(2, 1), torch.zeros(2), ["dose"], ["response"])
    column = pd.Series([1.0, 2.0], name="time")
    assert named(column, pl.Series("height", [1.0, 2.0]), None, None) == ("time", "height")
    assert named(column.to_frame(), None, None, None) == ("time", "y")
    assert named([1.0], data, None, None) == ("dose", "response")
    assert named(column, data, "t [s]", "") == ("t [s]", "")
    assert named(np.ones(2), torch.ones(2), None, None) == ("x", "y")


def test_observations_are_points_with_places_of_their_own():
    data = Observations(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 4.0]))
    at, y = places(np.zeros(5), data, None)
    assert (at.tolist(), y.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    with pytest.raises(ValueError, match="expected no x_data with Observations"):
        places(np.zeros(5), data, [1.0])
    with pytest.raises(ValueError, match=r"expected x of y of shape \(N,\), got \(2, 2\)"):
        places(np.zeros(5), Observations(torch.ones(2, 2), torch.ones(2)), None)
