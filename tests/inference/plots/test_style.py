"""The reader's rcParams are kept: cycles, legends, dark pages; without a cycle the palette is a safe one."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from posterity.inference import plots
from posterity.inference.plots._style import PALETTE
from tests.inference.plots.cases import COVERAGE, PIT, PREDICTIVE, PULLS, X


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
