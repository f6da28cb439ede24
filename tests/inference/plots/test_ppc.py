"""Plots of inference and model checks: replicated statistics, simulation-based calibration, k-hat, scores elsewhere."""

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from scipy.stats import mannwhitneyu

from posterity.inference.diagnostics.calibration.ecdf import ecdf_band
from posterity.inference.diagnostics.decomposition.ood import auroc
from posterity.inference.plots import plot_khat, plot_ood, plot_ppc, plot_sbc
from posterity.inference.plots._style import ALARM


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def legend(ax: plt.Axes) -> str:
    return "\n".join(text.get_text() for text in ax.get_legend().get_texts())


@pytest.fixture
def check() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {"replicated": (("statistic", "sample"), rng.normal(size=(2, 500)) + np.array([[0], [5]])),
         "observed": ("statistic", [0.1, 9.0]), "p_value": ("statistic", [1.0, 0.04])},
        coords={"statistic": ["mean", "max"]},
    )  # fmt: skip


def test_ppc_shows_the_observed_statistic_among_the_replicated(check):
    left, right = plot_ppc(check)
    for ax, name in ((left, "mean"), (right, "max")):
        part = check.sel(statistic=name)
        count, edges, _ = ax.patches[0].get_data()
        assert count.sum() == 500
        np.testing.assert_array_equal(count, np.histogram(part.replicated, edges)[0])
        assert ax.lines[0].get_xdata()[0] == float(part.observed)
        assert ax.get_xlim()[0] <= part.observed <= ax.get_xlim()[1]
        assert f"observed, p = {float(part.p_value):.3f}" in legend(ax)
        assert ax.get_xlabel() == f"T = {name}"
    assert to_rgb(left.lines[0].get_color()) != to_rgb(ALARM)
    assert to_rgb(right.lines[0].get_color()) == to_rgb(ALARM)


def test_one_statistic_is_on_axes_by_itself_and_may_have_one_value(check):
    ax = plot_ppc(check, statistics=["max"])
    assert isinstance(ax, plt.Axes)
    same = check.assign(replicated=check.replicated * 0)
    count, edges, _ = plot_ppc(same, statistics="mean").patches[0].get_data()
    assert count.max() == 500
    assert edges[0] < 0 < edges[-1]


def test_ppc_takes_what_the_diagnostic_returns():
    from posterity.inference.diagnostics.checks.predictive_check import posterior_predictive_check

    rng = np.random.default_rng(0)
    result = posterior_predictive_check(rng.normal(size=(400, 100)), rng.exponential(size=100) - 1)
    found = plot_ppc(result)
    assert [ax.get_xlabel() for ax in found] == [f"T = {name}" for name in result.statistic.values]
    alarm = [to_rgb(ax.lines[0].get_color()) == to_rgb(ALARM) for ax in found]
    assert alarm == (result.p_value < 0.05).values.tolist()
    assert any(alarm)
    assert not all(alarm)


@pytest.fixture
def ranks() -> xr.Dataset:
    rng = np.random.default_rng(1)
    pit = np.stack([rng.random(300), rng.beta(0.5, 0.5, 300), rng.random(300), rng.random(300)], 1)
    return xr.Dataset({"pit": (("simulation", "quantity"), pit)}, coords={"quantity": ["a", "b", "c", "d"]})


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


def test_ood_is_mann_and_whitneys_count_ties_included():
    rng = np.random.default_rng(0)
    usual, other = rng.poisson(4, 300).astype(float), rng.poisson(7, 200).astype(float)
    left, right = plot_ood(usual, other, labels=("digits", "letters"))
    wins = mannwhitneyu(other, usual).statistic
    assert legend(right).split("\n")[1] == f"AUROC {wins / (300 * 200):.3f} ± {float(auroc(usual, other).auroc_se):.3f}"
    thresholds = np.arange(max(usual.max(), other.max()), -1, -1)
    curve = [[(usual >= one).mean(), (other >= one).mean()] for one in thresholds]
    drawn = right.lines[1].get_xydata()
    assert drawn[0].tolist() == [0, 0]
    assert drawn[-1].tolist() == [1, 1]
    assert {tuple(np.round(one, 9)) for one in drawn[1:]} == {tuple(np.round(one, 9)) for one in curve}
    assert legend(left).split("\n") == ["digits (300)", "letters (200)"]
    for patch, values in zip(left.patches[::2], (usual, other), strict=True):
        density, edges, _ = patch.get_data()
        np.testing.assert_allclose(density, np.histogram(values, edges, density=True)[0])
    assert right.get_xlabel() == "digits: share refused"


def test_ood_of_scores_that_tell_nothing_or_everything():
    assert "AUROC 0.500 ± 0.000" in legend(plot_ood(np.ones(10), np.ones(20))[1])
    assert "AUROC 1.000" in legend(plot_ood(np.arange(10), 20.0 + np.arange(5))[1])
    assert "AUROC 0.000" in legend(plot_ood(20.0 + np.arange(5), np.arange(10))[1])


def test_khat_marks_the_bad_and_names_the_worst():
    k = np.full(100, 0.2)
    k[[3, 50, 70, 80]] = 0.75, 1.4, np.inf, 0.9
    refitted = np.arange(100) == 80
    ax = plot_khat(xr.Dataset({"pareto_k": ("obs", k), "refitted": ("obs", refitted)}, attrs={"threshold": 0.68}))
    good, bad, infinite, again = (one.get_xydata() for one in ax.lines[:4])
    assert len(good) == 96
    np.testing.assert_allclose(bad, [[3, 0.75], [50, 1.4]])
    assert infinite[0, 0] == 70
    assert 1.4 < infinite[0, 1] < ax.get_ylim()[1]
    np.testing.assert_allclose(again, [[80, 0.9]])
    assert legend(ax).split("\n") == ["96 of 100 good", "2 bad: k > 0.68", "1 infinite", "1 bad, fitted again"]
    assert {text.get_text() for text in ax.texts} == {"3", "50", "70", "80"}
    bounds = [one.get_ydata()[0] for one in ax.lines if one.get_linestyle() in ("--", ":")]
    assert bounds == [0.68, 1.0]


def test_khat_of_a_good_fit_over_two_dimensions_has_no_bad_one():
    k = xr.Dataset({"pareto_k": (("row", "column"), np.full((3, 4), 0.1))}, attrs={"good_k": 0.7})
    ax = plot_khat(k)
    assert legend(ax) == "12 of 12 good"
    assert not ax.texts


def test_bad_input_is_refused_before_a_figure_is_there(check, ranks):
    loo = xr.Dataset({"pareto_k": ("obs", [0.1, np.nan])}, attrs={"threshold": 0.7})
    with pytest.raises(ValueError, match=r"expected a result of posterior_predictive_check\(\), with replicated, o"):
        plot_ppc(ranks)
    with pytest.raises(ValueError, match=r"expected names of statistic from \['mean', 'max'\], got \['min'\]"):
        plot_ppc(check, statistics=["min"])
    with pytest.raises(ValueError, match="expected finite replicated of the result, got 1000 of 1000"):
        plot_ppc(check.assign(replicated=check.replicated * np.nan))
    with pytest.raises(ValueError, match="expected bins to be a whole number of 1 or more, got 0"):
        plot_ppc(check, bins=0)
    with pytest.raises(ValueError, match=r"expected a result of sbc\(\), with pit, got"):
        plot_sbc(check)
    with pytest.raises(ValueError, match="expected pit over 'quantity', got"):
        plot_sbc(ranks.isel(quantity=0))
    with pytest.raises(ValueError, match="expected names of quantity from"):
        plot_sbc(ranks, quantities=[])
    with pytest.raises(ValueError, match=r"expected prob to be a number in \(0, 1\), got 0"):
        plot_sbc(ranks, prob=0)
    many = xr.concat([ranks.drop_vars("quantity")] * 10, "quantity")
    with pytest.raises(ValueError, match="expected at most 30 panels in a figure, got 40: choose some by name"):
        plot_sbc(many)
    with pytest.raises(ValueError, match="expected finite out_scores, got 1 of 2"):
        plot_ood([0.0, 1.0], [0.0, np.inf])
    with pytest.raises(ValueError, match=r"expected in_scores of shape \(N,\), got \(0,\)"):
        plot_ood([], [0.0])
    with pytest.raises(ValueError, match="expected bins to be a whole number of 1 or more, got 0"):
        plot_ood([0.0], [1.0], bins=0)
    with pytest.raises(ValueError, match=r"expected out_scores of shape \(N,\), N of 2 or more, got \(1,\)"):
        plot_ood([0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="expected 2 labels, got 1"):
        plot_ood([0.0, 1.0], [1.0, 2.0], labels=["digits"])
    with pytest.raises(ValueError, match=r"expected a result of loo\(\), with pareto_k, got"):
        plot_khat(ranks)
    with pytest.raises(ValueError, match="with the attribute 'threshold', got"):
        plot_khat(loo.drop_attrs())
    with pytest.raises(ValueError, match="expected at least one pareto_k, none nan, got 1 of 2 nan"):
        plot_khat(loo)
    assert not plt.get_fignums()
