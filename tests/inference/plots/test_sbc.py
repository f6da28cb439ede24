"""Simulation-based calibration: one panel for each quantity, in a band for all."""

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

from posterity.inference.diagnostics.calibration.ecdf import ecdf_band
from posterity.inference.plots import plot_sbc
from tests.inference.plots.cases import legend


def test_sbc_shows_each_quantity_in_a_band_for_all(ranks):
    found = plot_sbc(ranks)
    band = ecdf_band(300, prob=1 - 0.05 / 4)
    for ax, name in zip(found, "abcd", strict=True):
        assert ax.get_title() == name
        corners = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert corners.max() == pytest.approx(float((band.upper - band.z).max()))
        values = ranks.pit.sel(quantity=name).values
        ecdf = (values[:, None] <= band.z.values).mean(0)
        np.testing.assert_allclose(ax.lines[1].get_ydata()[1:-1], ecdf - band.z)
        assert ("outside" in legend(ax)) == (name == "b")
        assert "95% band for all 4" in legend(ax)
    assert len({ax.get_ylim() for ax in found}) == 1
    assert len(found[0].figure.axes) == 4


def test_sbc_of_one_quantity_has_the_narrower_band(ranks):
    ax = plot_sbc(ranks, quantities=["b"])
    band = ecdf_band(300)
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.max() == pytest.approx(float((band.upper - band.z).max()))
    assert legend(ax).startswith("95% band\n300 simulations")


def test_sbc_takes_what_the_diagnostic_returns():
    from posterity.inference.diagnostics.simulation.sbc import sbc

    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 50, 2))
    narrow = {"truth": (("simulation", "quantity"), 3 * values[:, 0])}
    result = sbc(xr.Dataset(narrow | {"draws": (("simulation", "draw", "quantity"), values[:, 1:])}))
    assert all("outside" in legend(ax) for ax in plot_sbc(result))


def test_bad_input_of_sbc_is_refused_before_a_figure_is_there(check, ranks):
    many = xr.concat([ranks.drop_vars("quantity")] * 10, "quantity")
    with pytest.raises(ValueError, match=r"expected a result of sbc\(\), with pit, got"):
        plot_sbc(check)
    with pytest.raises(ValueError, match="expected pit over 'quantity', got"):
        plot_sbc(ranks.isel(quantity=0))
    with pytest.raises(ValueError, match="expected names of quantity from"):
        plot_sbc(ranks, quantities=[])
    with pytest.raises(ValueError, match=r"expected prob to be a number in \(0, 1\), got 0"):
        plot_sbc(ranks, prob=0)
    with pytest.raises(ValueError, match="expected at most 30 panels in a figure, got 40: choose some by name"):
        plot_sbc(many)
    assert not plt.get_fignums()
