"""The panel of calibration tests shows each p-value and names the fault."""

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from posterity.inference.plots import plot_calibration_tests
from posterity.inference.plots._style import ALARM
from tests.inference.plots.cases import legend


@pytest.fixture
def panel() -> xr.Dataset:
    names = ["ks", "ad", "pot_c", "component_weight", "hdi"]
    return xr.Dataset(
        {"p_value": ("test", [0.2, 0.03, 0.0, 1e-6, np.nan])},
        coords={"test": names, "sees": ("test", [f"sees {name}" for name in names])},
        attrs={"level": 0.05, "fault": "component_weight", "verdict": "the weights are wrong"},
    )


def test_panel_shows_each_p_value_and_names_the_fault(panel):
    ax = plot_calibration_tests(panel)
    dots = [one for one in ax.lines if one.get_marker() not in ("None", "")]
    np.testing.assert_allclose([one.get_xdata()[0] for one in dots], [-np.log10(0.2), -np.log10(0.03), 10, 6, 0])
    assert [one.get_marker() for one in dots] == ["o", "o", ">", "o", "x"]
    alarm = [to_rgb(one.get_color()) == to_rgb(ALARM) for one in dots]
    assert alarm == [False, True, True, True, False]
    assert all(one.get_markerfacecolor() == one.get_color() for one in dots)
    assert ax.get_title() == "the weights are wrong"
    assert [text.get_text() for text in ax.get_yticklabels()] == panel.test.values.tolist()
    assert [text.get_fontweight() for text in ax.get_yticklabels()] == ["normal"] * 3 + ["bold", "normal"]
    assert [text.get_text() for text in ax.texts][:5] == panel.sees.values.tolist()
    bounds = [one.get_xdata()[0] for one in ax.lines if one.get_linestyle() == "--"]
    np.testing.assert_allclose(bounds, [-np.log10(0.05)])
    assert ax.get_xlim() == (0, 10)


def test_what_is_seen_by_one_test_alone_is_hollow(panel):
    """One of twenty tests rejects a right model; all together do not, so that no fault is named."""
    chance = panel.assign(p_value=("test", [0.2, 0.03, 0.4, 0.5, 0.6])).assign_attrs(fault="none")
    ax = plot_calibration_tests(chance)
    dots = [one for one in ax.lines if one.get_marker() not in ("None", "")]
    hollow = [one.get_markerfacecolor() != one.get_color() for one in dots]
    assert hollow == [False, True, False, False, False]
    assert legend(ax) == "this test alone"


def test_panel_of_a_right_model_has_no_colour(panel):
    fine = panel.assign(p_value=("test", np.full(5, 0.3)))
    ax = plot_calibration_tests(fine.assign_attrs(fault="none"), title="")
    assert to_rgb(ALARM) not in {to_rgb(one.get_color()) for one in ax.lines}
    assert ax.get_legend() is None
    assert ax.get_title() == ""
    assert ax.get_xlim() == (0, 3)


def test_bad_input_of_calibration_tests_is_refused_before_a_figure_is_there(panel):
    with pytest.raises(ValueError, match=r"expected a result of calibration_tests\(\), with p_value, test, sees, got"):
        plot_calibration_tests(panel.drop_vars("sees"))
    with pytest.raises(ValueError, match=r"expected p-values in \[0, 1\] over 'test', got \[1.2"):
        plot_calibration_tests(panel.assign(p_value=panel.p_value + 1))
    with pytest.raises(ValueError, match="expected limit to be a finite number of 2 or more, got 1"):
        plot_calibration_tests(panel, limit=1)
    assert not plt.get_fignums()
