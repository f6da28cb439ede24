"""The ECDF of PIT values minus the diagonal, in its simultaneous band."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from posterity.inference.diagnostics.calibration.ecdf import ecdf_band
from posterity.inference.plots import plot_pit_ecdf
from tests.inference.plots.cases import UNIFORM, legend, line, pulls


def test_pit_draws_the_difference_and_marks_what_leaves_the_band():
    ax = plot_pit_ecdf(UNIFORM)
    assert "outside" not in legend(ax)
    assert np.abs(ax.lines[1].get_ydata()).max() <= 0.5 / 200 + 1e-12
    low = (ecdf_band(200).lower - ecdf_band(200).z).min()
    assert ax.collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(float(low))
    bent = plot_pit_ecdf(UNIFORM**2)
    assert "outside at" in legend(bent)
    dots = line(bent, "outside")
    np.testing.assert_allclose(dots[:, 1], np.searchsorted(UNIFORM.pit**2, dots[:, 0], "right") / 200 - dots[:, 0])
    band = ecdf_band(200).interp(z=dots[:, 0])
    assert bool((dots[:, 1] > band.upper - band.z).all())


def test_pit_of_several_models_has_one_band_and_says_whose_curve_leaves_it():
    ax = plot_pit_ecdf({"right": UNIFORM, "bent": UNIFORM**2})
    assert len(ax.collections) == 1
    texts = legend(ax).split("\n")
    assert texts[:2] == ["95% simultaneous band", "right"]
    assert texts[2].startswith("bent, outside at")
    np.testing.assert_allclose(line(ax, "right"), plot_pit_ecdf(UNIFORM).lines[1].get_xydata())


def test_the_band_says_where_it_does_not_hold():
    dependent = UNIFORM.assign_attrs(dependent=1)
    assert "95% band of independent values" in legend(plot_pit_ecdf(dependent))
    assert "HD region" in plot_pit_ecdf(UNIFORM.assign_attrs(kind="hdi")).get_xlabel()
    assert plot_pit_ecdf(UNIFORM).get_xlabel() == "PIT  u = F(y|x)"


def test_bad_input_of_pit_ecdf_is_refused_before_a_figure_is_there():
    values = pulls(100, 0)
    with pytest.raises(ValueError, match=r"expected a result of pit\(\), with pit, got"):
        plot_pit_ecdf(values)
    with pytest.raises(ValueError, match=r"expected at least one result of pit\(\), got none"):
        plot_pit_ecdf({})
    with pytest.raises(ValueError, match="expected pit of at least 2 observations, got 1"):
        plot_pit_ecdf(UNIFORM.isel(obs=[0]))
    assert not plt.get_fignums()
