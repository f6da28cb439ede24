"""What all plots have in common: they draw on the axes given, in the reader's style, and need no torch."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from posterity.inference import plots
from posterity.inference.plots._axes import panels
from posterity.inference.plots._style import PALETTE
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture

N = 25
X = torch.linspace(-2, 2, N)
RNG = np.random.default_rng(0)
LOC = torch.stack([X + 1, -X - 1], -1) + torch.arange(4.0)[:, None, None] * 0.1 * X[:, None] ** 2
PREDICTIVE = PredictiveMixture.from_draws(Mixture.normal(torch.zeros(4, N, 2), LOC, torch.full((4, N, 2), 0.3)))
SPLIT = xr.Dataset({name: ("obs", RNG.random(N)) for name in ("noise", "ambiguity", "epistemic")})
SPLIT["total"] = SPLIT.noise + SPLIT.ambiguity + SPLIT.epistemic
PULLS = xr.Dataset({"pull": ("obs", RNG.normal(size=200)), "x": ("obs", RNG.random(200))})
PIT = xr.Dataset({"pit": ("obs", RNG.random(60))})
LEVELS = np.array([0.5, 0.9])
COVERAGE = xr.Dataset(
    {"coverage": ("level", LEVELS - 0.1), "lower": ("level", LEVELS - 0.2), "upper": ("level", LEVELS)},
    coords={"level": LEVELS},
)
PANEL = xr.Dataset(
    {"p_value": ("test", [0.5, 1e-4])}, coords={"test": ["ks", "ad"], "sees": ("test", ["a shift", "tails"])}
)
LOO = xr.Dataset({"pareto_k": ("obs", [0.1, 0.9])}, attrs={"threshold": 0.7})
PPC = xr.Dataset(
    {"replicated": (("statistic", "sample"), RNG.normal(size=(1, 50))), "observed": ("statistic", [0.3]),
     "p_value": ("statistic", [0.4])},
    coords={"statistic": ["mean"]},
)  # fmt: skip
SBC = xr.Dataset({"pit": (("simulation", "quantity"), RNG.random((40, 1)))}, coords={"quantity": ["mu"]})

Case = tuple[Callable[..., Any], tuple[Any, ...], int]
CASES: dict[str, Case] = {  # the function, its arguments, the number of its axes
    "bands": (plots.plot_bands, (PREDICTIVE, X), 1),
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


@pytest.fixture(autouse=True)
def fresh_style() -> Iterator[None]:
    with mpl.rc_context():
        yield
    plt.close("all")


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


def colours(ax: plt.Axes) -> set[tuple[float, ...]]:
    return {to_rgb(one.get_color()) for one in ax.lines}


def test_series_take_the_readers_cycle_and_a_safe_palette_without_one():
    two = {"one": COVERAGE, "other": COVERAGE}
    assert colours(plots.plot_coverage(two)) >= {to_rgb(colour) for colour in PALETTE[:2]}
    mpl.rcParams["axes.prop_cycle"] = cycler(color=["#123456", "#654321"])
    assert colours(plots.plot_coverage(two)) >= {to_rgb("#123456"), to_rgb("#654321")}
    assert to_rgb("#123456") in colours(plots.plot_pit_ecdf(PIT))
    assert to_rgb("#123456") in colours(plots.plot_bands(PREDICTIVE, X))
    assert colours(plots.plot_coverage(two, colors=["red", "lime"])) >= {(1, 0, 0), (0, 1, 0)}
    mpl.rcParams["axes.prop_cycle"] = cycler(linestyle=["-", "--"])
    assert colours(plots.plot_coverage(two)) >= {to_rgb(colour) for colour in PALETTE[:2]}
    with pytest.raises(ValueError, match="expected 2 colors, got 3"):
        plots.plot_coverage(two, colors=["red", "lime", "blue"])


def test_what_is_out_of_bounds_keeps_its_colour_in_every_style():
    mpl.rcParams["axes.prop_cycle"] = cycler(color=["#123456"])
    bent = xr.Dataset({"pit": ("obs", np.linspace(0, 1, 60) ** 3)})
    assert to_rgb("#D55E00") in colours(plots.plot_pit_ecdf(bent))


def test_legends_are_small_and_bare_unless_the_reader_wants_them_otherwise():
    legend = plots.plot_pull(PULLS).get_legend()
    assert not legend.get_frame_on()
    assert legend.get_texts()[0].get_size() == pytest.approx(0.833 * 10)
    mpl.rcParams.update({"legend.fontsize": 13, "legend.loc": "lower left"})
    legend = plots.plot_pull(PULLS).get_legend()
    assert legend.get_texts()[0].get_size() == 13
    assert legend._get_loc() == 3  # lower left


def test_reference_lines_are_seen_on_a_dark_page():
    plt.style.use("dark_background")
    ax = plots.plot_bands(PREDICTIVE, X, y=X)
    assert to_rgb(ax.collections[-1].get_facecolor()[0]) == (1, 1, 1)  # data
    darkest = ax.collections[0].get_facecolor()[0][:3]  # the widest band, of 0.15 of its colour
    np.testing.assert_allclose(darkest, 0.15 * np.array(to_rgb(mpl.rcParams["axes.prop_cycle"].by_key()["color"][0])))
    assert (1, 1, 1) in colours(plots.plot_coverage(COVERAGE))


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
