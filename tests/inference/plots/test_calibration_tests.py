"""Plots of calibration show the numbers they were given, mark what is wrong, and only that."""

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from scipy.stats import kstest, norm

from posterity.inference.diagnostics.calibration.ecdf import ecdf_band
from posterity.inference.diagnostics.calibration.regions import coverage
from posterity.inference.diagnostics.calibration.widths import pull_summary
from posterity.inference.plots import (
    plot_calibration_tests,
    plot_coverage,
    plot_pit_ecdf,
    plot_pull,
    plot_pull_vs,
    plot_recalibration,
)
from posterity.inference.plots._style import ALARM
from posterity.inference.plots.pull_vs import _bands

UNIFORM = xr.Dataset({"pit": ("obs", (np.arange(200) + 0.5) / 200)})


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def legend(ax: plt.Axes) -> str:
    return "\n".join(text.get_text() for text in ax.get_legend().get_texts())


def line(ax: plt.Axes, label: str) -> np.ndarray:
    """Points (N, 2) of the one line whose label begins so."""
    (found,) = [one for one in ax.lines if str(one.get_label()).startswith(label)]
    return np.asarray(found.get_xydata())


def bars(ax: plt.Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and errors of the one series with error bars whose label begins so."""
    (found,) = [one for one in ax.containers if one.get_label().startswith(label)]
    ends = np.array(found[2][0].get_segments())[:, :, 1]
    return found[0].get_xydata(), 0.5 * (ends[:, 1] - ends[:, 0])


# ---- pulls


def pulls(n: int, seed: int, **attrs: str) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    return xr.Dataset({"pull": ("obs", rng.normal(size=n)), "x": ("obs", rng.uniform(0, 10, n))}, attrs=attrs)


def test_pulls_name_mean_and_width_with_errors_and_count_outliers():
    values = xr.Dataset({"pull": ("obs", np.r_[np.random.default_rng(0).normal(size=999), 40.0])})
    ax, summary = plot_pull(values), pull_summary(values)
    text = legend(ax)
    assert "1,000 pulls, 1 beyond ±5" in text
    assert f"mean {float(summary['mean']):.3f} ± {float(summary['mean_se']):.3f}" in text
    assert f"width {float(summary['width']):.3f} ± {float(summary['width_se']):.3f}" in text
    density, edges, _ = ax.patches[0].get_data()
    np.testing.assert_allclose(density, np.histogram(values.pull, edges)[0] / (1000 * 0.25))
    fitted = ax.lines[1]
    expected = norm.pdf(fitted.get_xdata(), float(summary["mean"]), float(summary["width"]))
    np.testing.assert_allclose(fitted.get_ydata(), expected)


def test_two_heaps_of_pulls_are_drawn_without_a_warning_of_what_is_not_drawn():
    heaps = np.r_[np.full(200, -1.0), np.full(200, 1.0)] + 0.01 * np.random.default_rng(0).normal(size=400)
    plot_pull(xr.Dataset({"pull": ("obs", heaps)}))


def test_pulls_over_a_covariate_are_the_summary_of_each_bin():
    values = pulls(800, seed=1)
    ax, summary = plot_pull_vs(values, "x", bins=5, limit=6.0), pull_summary(values, by="x", bins=5)
    for name in ("mean", "width"):
        places, errors = bars(ax, name)
        np.testing.assert_allclose(places, np.stack([summary["group"], summary[name]], 1))
        np.testing.assert_allclose(errors, summary[f"{name}_se"])
    scatter = line(ax, "800 pulls")
    np.testing.assert_allclose(scatter, np.stack([values.x, values.pull], 1))
    assert ax.get_xlabel() == "x"
    # The bands meet between the bins, and cover all of x.
    areas = [one.get_paths()[0].vertices[:, 0] for one in ax.collections if isinstance(one, PolyCollection)]
    ends = np.array([[area.min(), area.max()] for area in areas[:5]])
    np.testing.assert_allclose(ends[1:, 0], ends[:-1, 1])
    np.testing.assert_allclose([ends[0, 0], ends[-1, 1]], [values.x.min(), values.x.max()])


def test_bands_hold_all_means_and_widths_as_often_as_promised():
    """1,000 right models in five bins of 12: 90 % stay in all ten bands (within 4 standard errors of .0095)."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1000, 5, 12))
    band = _bands(np.full(5, 12), 0.9)
    inside = np.ones(1000, bool)
    for name, found in (("mean", values.mean(-1)), ("width", values.std(-1, ddof=1))):
        inside &= ((found >= band[name][:, 0]) & (found <= band[name][:, 1])).all(-1)
    assert inside.mean() == pytest.approx(0.9, abs=4 * np.sqrt(0.9 * 0.1 / 1000))
    # Pointwise bands would not do: ten of them, each of 90 %, hold everything in .9^10 = 35 %.
    assert 0.9**10 < 0.9 - 4 * 0.0095


def test_the_bins_that_are_wrong_are_circled():
    values = pulls(800, seed=3)
    assert "outside" not in legend(plot_pull_vs(values, "x", bins=4))
    high = np.asarray(values.x > np.quantile(values.x, 0.75))
    wide = values.assign(pull=("obs", np.where(high, 1.5, 1.0) * values.pull.values))
    ax = plot_pull_vs(wide, "x", bins=4)
    assert "width outside: 1 of 4" in legend(ax)
    assert "mean outside" not in legend(ax)
    circled = line(ax, "width outside")
    np.testing.assert_allclose(circled[0], bars(ax, "width")[0][-1])
    shifted = values.assign(pull=("obs", values.pull.values + high))
    assert "mean outside: 1 of 4" in legend(plot_pull_vs(shifted, "x", bins=4))


def test_moment_pulls_have_no_bands_since_a_right_model_need_not_have_normal_ones():
    normal, moment = (plot_pull_vs(pulls(400, 0, kind=kind), "x", bins=4) for kind in ("component", "moment"))
    assert len(normal.collections) == len(moment.collections) + 8
    wide = pulls(400, 0, kind="moment")
    assert "outside" not in legend(plot_pull_vs(wide.assign(pull=3 * wide.pull), "x", bins=4))


def test_groups_by_name_stand_side_by_side():
    values = pulls(300, seed=0)
    region = np.array(["north", "east", "south"])[np.arange(300) % 3]
    ax = plot_pull_vs(values, region, xlabel="region")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["east", "north", "south"]
    places, _ = bars(ax, "mean")
    np.testing.assert_allclose(places[1], [1, values.pull.values[region == "north"].mean()])
    scatter = line(ax, "300 pulls")
    np.testing.assert_array_equal(np.round(scatter[:, 0]), np.where(region == "north", 1, 2 * (region == "south")))


def test_pulls_far_out_are_counted_and_not_drawn():
    values = pulls(400, seed=0)
    values["pull"][7] = 30.0
    ax = plot_pull_vs(values, "x", limit=4.0)
    assert "400 pulls, 1 beyond ±4" in legend(ax)
    assert np.abs(line(ax, "400 pulls")[:, 1]).max() <= 4


# ---- PIT values


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


def test_recalibration_gives_the_largest_distances():
    before, after = UNIFORM**2, xr.Dataset({"pit": ("obs", np.random.default_rng(0).random(200))})
    texts = legend(plot_recalibration(before, after)).split("\n")
    for name, values, text in (("before", before, texts[1]), ("after", after, texts[2])):
        assert text.startswith(f"{name}: off by up to {kstest(values.pit.values, 'uniform').statistic:.3f}")
    assert "outside at" in texts[1]
    assert "outside" not in texts[2]


# ---- coverage


def levels(n: int, power: float = 1.0) -> xr.Dataset:
    return xr.Dataset({"level": ("obs", ((np.arange(n) + 0.5) / n) ** power)}, attrs={"kind": "central"})


def test_coverage_of_several_models_by_name():
    result = coverage(levels(100))
    ax = plot_coverage({"network": result, "ensemble": result})
    assert legend(ax).split("\n") == ["calibrated", "network", "ensemble"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), result.coverage)
    difference = plot_coverage(result, difference=True)
    np.testing.assert_allclose(difference.lines[1].get_ydata(), result.coverage - result.level)
    assert legend(difference).split("\n") == ["calibrated", "central regions"]


def test_coverage_over_groups_has_a_line_and_limits_for_each():
    by = np.repeat(["day", "night"], 50)
    result = coverage(levels(100, 2.0), by=by)
    ax = plot_coverage(result)
    assert legend(ax).split("\n") == ["calibrated", "day", "night"]
    for name in ("day", "night"):
        one = result.sel(group=name)
        np.testing.assert_allclose(line(ax, name), np.stack([one.level, one.coverage], 1))
    upper = [area.get_paths()[0].vertices[:, 1].max() for area in ax.collections]
    np.testing.assert_allclose(upper, result.upper.max("level"))
    assert "bnn, day" in legend(plot_coverage({"bnn": result}))


def test_bins_of_a_covariate_are_named_by_their_ends_in_an_order_of_colours():
    result = coverage(levels(400), by=np.random.default_rng(0).permutation(400) / 100, bins=3)
    ax = plot_coverage(result)
    first = legend(ax).split("\n")[1]
    assert first == f"{result.low.values[0]:.3g} to {result.high.values[0]:.3g}"
    brightness = [sum(to_rgb(one.get_color())) for one in ax.lines[1:]]
    assert brightness == sorted(brightness)


def test_results_of_tarp_are_drawn():
    rng = np.random.default_rng(0)
    from posterity.inference.diagnostics.simulation.tarp import tarp

    centre = rng.normal(size=(100, 2))
    result = tarp(centre + rng.normal(size=(99, 100, 2)), centre + rng.normal(size=(100, 2)))
    ax = plot_coverage(result)
    assert "balls around random points" in legend(ax)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), result.coverage)


# ---- the panel of tests


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
    assert legend(ax) == "by itself alone"


def test_panel_of_a_right_model_has_no_colour(panel):
    fine = panel.assign(p_value=("test", np.full(5, 0.3)))
    ax = plot_calibration_tests(fine.assign_attrs(fault="none"), title="")
    assert to_rgb(ALARM) not in {to_rgb(one.get_color()) for one in ax.lines}
    assert ax.get_legend() is None
    assert ax.get_title() == ""
    assert ax.get_xlim() == (0, 3)


def test_bad_input_is_refused_before_a_figure_is_there(panel):
    values = pulls(100, 0)
    result = coverage(levels(100))
    with pytest.raises(ValueError, match="expected limit to be a finite number above 0"):
        plot_pull(values, limit=0.0)
    with pytest.raises(ValueError, match=r"expected bins to be a whole number of 1 or more, got 0"):
        plot_pull(values, bins=0)
    with pytest.raises(ValueError, match=r"expected a result of pulls\(\), with pull, got"):
        plot_pull_vs(UNIFORM, "x")
    with pytest.raises(ValueError, match="expected by to be one of"):
        plot_pull_vs(values, "height")
    with pytest.raises(ValueError, match="expected by with 100 values, one for each observation, got 99"):
        plot_pull_vs(values, np.zeros(99))
    with pytest.raises(ValueError, match=r"expected prob to be a number in \(0, 1\), got 1"):
        plot_pull_vs(values, "x", prob=1)
    with pytest.raises(ValueError, match="expected limit to be a finite number above 1"):
        plot_pull_vs(values, "x", limit=1.0)
    with pytest.raises(ValueError, match=r"expected a result of pit\(\), with pit, got"):
        plot_pit_ecdf(values)
    with pytest.raises(ValueError, match=r"expected at least one result of pit\(\), got none"):
        plot_pit_ecdf({})
    with pytest.raises(ValueError, match="expected as many PIT values of each, for one band, got \\[200, 199\\]"):
        plot_recalibration(UNIFORM, UNIFORM.isel(obs=slice(1, None)))
    with pytest.raises(ValueError, match="expected pit of at least 2 observations, got 1"):
        plot_pit_ecdf(UNIFORM.isel(obs=[0]))
    with pytest.raises(ValueError, match=r"expected a result of coverage\(\), with coverage, lower, upper, level, got"):
        plot_coverage({"a": values})
    with pytest.raises(ValueError, match=r"expected at least one result of coverage\(\), got none"):
        plot_coverage({})
    with pytest.raises(ValueError, match="expected coverage over 'level', or 'group' and 'level', got"):
        plot_coverage(result.expand_dims(fold=2))
    with pytest.raises(ValueError, match=r"expected a result of calibration_tests\(\), with p_value, test, sees, got"):
        plot_calibration_tests(panel.drop_vars("sees"))
    with pytest.raises(ValueError, match=r"expected p-values in \[0, 1\] over 'test', got \[1.2"):
        plot_calibration_tests(panel.assign(p_value=panel.p_value + 1))
    with pytest.raises(ValueError, match="expected limit to be a finite number of 2 or more, got 1"):
        plot_calibration_tests(panel, limit=1)
    assert not plt.get_fignums()
