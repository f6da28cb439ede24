"""Curve and band are drawn as differences from the diagonal, and dots mark where the curve leaves the band."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from posterity.inference.plots._ecdf import draw_band, draw_curve, frame

Z = np.array([0.25, 0.5, 0.75])


def curve(ecdf: list[float], outside: int) -> xr.Dataset:
    """An ECDF of 100 values in a band of half width 0.1."""
    values = {"ecdf": ("z", ecdf), "lower": ("z", Z - 0.1), "upper": ("z", Z + 0.1)}
    return xr.Dataset(values, coords={"z": Z}, attrs={"outside": outside, "n": 100})


def test_the_band_is_drawn_about_zero_and_its_reach_returned():
    ax = Figure().subplots()
    assert draw_band(ax, curve([0.25, 0.5, 0.75], 0), "band") == pytest.approx(0.1)
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == (pytest.approx(-0.1), pytest.approx(0.1))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), 0)


def test_the_curve_starts_and_ends_at_zero_and_dots_mark_the_points_outside():
    ax = Figure().subplots()
    reach = draw_curve(ax, curve([0.25, 0.8, 0.6], 2), {"color": "black", "label": "model"})
    assert reach == pytest.approx(0.3)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 0], [0.25, 0], [0.5, 0.3], [0.75, -0.15], [1, 0]])
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[0.5, 0.3], [0.75, -0.15]])
    assert ax.lines[1].get_label() == "outside at 2 of 3 points"
    assert ax.lines[1].get_color() != "black"


def test_one_of_several_curves_has_dots_of_its_own_colour_and_no_dots_inside():
    ax = Figure().subplots()
    draw_curve(ax, curve([0.25, 0.8, 0.75], 1), {"color": "black", "label": "model"}, one_of_several=True)
    assert ax.lines[0].get_label() == "model, outside at 1 of 3 points"
    assert ax.lines[1].get_color() == "black"
    ax = Figure().subplots()
    draw_curve(ax, curve([0.25, 0.55, 0.75], 0), {"color": "black", "label": "model"})
    assert len(ax.lines) == 1


def test_limits_are_around_zero_with_room_for_the_legend():
    ax = Figure().subplots()
    frame(ax, 0.2, "z", "difference")
    low, high = ax.get_ylim()
    assert low < -0.2
    assert high > -low
    assert ax.get_xlim() == (0, 1)
