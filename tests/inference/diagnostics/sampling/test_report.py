"""A report of convergence on chains whose fault is known, its numbers against ArviZ's, and divergences whose place is
known."""

import numpy as np
import pytest
import torch
import xarray as xr

from posterity.inference import SVI, infer
from posterity.inference.arviz import bfmi, ess, from_groups, rhat
from posterity.inference.convergence import statistics
from posterity.inference.diagnostics.sampling.report import convergence_report
from tests.inference.diagnostics.sampling.cases import (
    GRID,
    SETTINGS,
    Meanless,
    X,
    autoregressive,
    data,
    independent,
    line,
    mirrored,
    names,
    report,
)
from tests.test_display import cells


@pytest.mark.parametrize("shape", [(4, 100), (2, 4), (3, 7), (2, 33), (8, 250)])
@pytest.mark.parametrize("coefficient", [-0.7, 0.0, 0.9])
@pytest.mark.parametrize("rounded", [False, True])
def test_rhat_and_ess_are_arvizs(shape, coefficient, rounded):
    values = autoregressive(np.random.default_rng(0), coefficient, (*shape, 6))
    values[0, :, 0] += 3.0
    values = np.round(values) if rounded else values  # many ties
    values = values[..., np.ptp(values, axis=(0, 1)) > 0]
    found = statistics.convergence(values)
    draws = xr.DataArray(values, dims=("chain", "draw", "point"))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = {"rhat": rhat(draws), "ess_bulk": ess(draws), "ess_tail": ess(draws, method="tail")}
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, rtol=1e-9, err_msg=name)


def test_blocks_of_functions_do_not_change_the_numbers(monkeypatch):
    values = independent(0, draws=50, points=7)
    expected = statistics.convergence(values)
    monkeypatch.setattr(statistics, "CHUNK", 450)
    for name, numbers in statistics.convergence(values).items():
        np.testing.assert_array_equal(numbers, expected[name])


@pytest.mark.parametrize(("coefficient", "chains", "draws"), [(0.0, 4, 100), (0.8, 4, 400), (0.5, 32, 40)])
def test_chains_that_agree_seldom_exceed_what_chance_gives(coefficient, chains, draws):
    """At a level of 20 %: 40 ± 5.7 of 200 runs, or somewhat fewer, as bulk and folded R-hat are not independent.

    With the effective number of draws that ESS has for chains so short, of 32 chains 116 would. Seed 1.
    """
    rng = np.random.default_rng(1)
    values = autoregressive(rng, coefficient, (chains, draws, 200))
    limits = np.array([statistics.rhat_by_chance(values[..., i], 1, 0.2) for i in range(200)])
    assert 0.08 < (statistics.convergence(values)["rhat"] > limits).mean() < 0.285


def test_the_dataset_has_it_all(tmp_path):
    f, energy = independent(1), np.random.default_rng(2).normal(size=(4, 1000))
    found = report(f, {"energy": energy, "lp": -100.0 + f[..., 0]}, method="NUTS")
    draws = xr.DataArray(f, dims=("chain", "draw", "point"))
    np.testing.assert_allclose(found.dataset.rhat[:5], rhat(draws), rtol=1e-9)
    np.testing.assert_allclose(found.dataset.rhat[5], found.dataset.rhat[0], rtol=1e-5)
    np.testing.assert_allclose(found.dataset.ebfmi, bfmi(xr.DataArray(energy, dims=("chain", "draw"))))
    assert found.dataset.label.values.tolist() == ["f[0.0]", "f[0.5]", "f[1.0]", "f[1.5]", "f[2.0]", "log density"]
    assert found.dataset.attrs == {"method": "NUTS", "chains": 4, "draws": 1000, "superchains": 0, "sites": 0}
    found.dataset.to_netcdf(tmp_path / "report.nc", engine="h5netcdf")


def test_good_chains_are_ok():
    found = report(independent(0))
    assert found.ok
    assert found.findings == ()
    text = str(found)
    assert text.startswith("4 chains of 1000 draws, judged by 5 functions: no sign of a problem.")
    assert "0 divergences" in text
    assert "calibr" in text or "coverage" in text


def test_weights_are_not_what_to_judge():
    f = independent(0)
    f[0] = -f[0] + 4
    named, all_of_them = report(f), convergence_report(data(f))
    assert "permuted" in all_of_them["rhat"].words
    assert "permuted" not in named["rhat"].words


def test_many_short_chains_that_agree_are_enough():
    """Independent draws of 64 chains: fewer than 100 of each, and more than enough of all."""
    found = report(independent(5, chains=64, draws=80, points=2))
    assert found.ok
    assert set(names(found)) == {("ess_bulk", "note"), ("ess_tail", "note")}


def test_a_finding_is_had_by_its_name():
    found = report(independent(0, chains=1))
    assert found["rhat"] is found.findings[0]
    with pytest.raises(KeyError, match="'divergences': the findings are"):
        found["divergences"]


def test_superchains_are_compared_at_sites_too():
    """Each of four superchains is of one sign."""
    spread = torch.tensor([1.0, 1.0, -1.0, 1.0]).repeat_interleave(4)
    found = convergence_report(mirrored(spread, SETTINGS.replace("superchains=None", "superchains=4"), 16), GRID)
    assert {"site_rhat", "site_nested_rhat"} <= set(dict(names(found)))
    assert "nested_rhat" not in dict(names(found))


def test_bad_input_is_refused():
    posterior = infer(line, X, 2 * X, method=SVI(steps=5, draws=5, progress=False), seed=0)
    with pytest.raises(ValueError, match="expected inputs x, at which functions of the posterior are judged"):
        convergence_report(posterior)
    with pytest.raises(ValueError, match="expected var_names only with ArviZ data, got 'w' with a Posterior"):
        convergence_report(posterior, GRID, var_names="w")
    with pytest.raises(ValueError, match=r"expected a Posterior with x, or ArviZ data .* got ndarray"):
        convergence_report(np.zeros((4, 10, 3)))
    with pytest.raises(ValueError, match="expected no x with ArviZ data"):
        convergence_report(data(independent(0)), GRID)
    with pytest.raises(
        ValueError, match=r"expected var_names from the variables of the posterior \['f'\], got \['g'\]"
    ):
        convergence_report(data(independent(0)), var_names=["g"])
    with pytest.raises(ValueError, match="expected ArviZ data with a group 'posterior', got groups"):
        convergence_report(from_groups({"prior": xr.Dataset({"f": (("chain", "draw"), np.zeros((2, 5)))})}))
    named = from_groups({"posterior": xr.Dataset({"f": (("chain", "draw"), [["a"]]), "g": (("draw",), [1.0])})})
    for name in ("f", "g"):
        with pytest.raises(ValueError, match=f"expected numbers with the dimensions chain and draw in '{name}'"):
            convergence_report(named, var_names=name)
    with pytest.raises(ValueError, match="expected a likelihood with a mean, or of classes, got Distribution"):
        convergence_report(Meanless(), GRID)
    with pytest.raises(ValueError, match="expected superchains to divide the 4 chains, got 3"):
        convergence_report(data(independent(0)), superchains=3)


def test_a_notebook_shows_severity_finding_and_advice():
    draws = np.random.default_rng(0).normal(size=(4, 500, 2))
    draws[3, :, 1] += 2
    groups = from_groups({"posterior": xr.Dataset({"f": (("chain", "draw", "x"), draws)})})
    found = convergence_report(groups, var_names=["f"])
    shown = cells(found._repr_html_())
    assert shown[:3] == ["stop", "rhat", found["rhat"].words]
    assert len(shown) == 3 * len(found.findings)
    assert "Convergence: do not use these draws" in found._repr_html_()
    assert cells(found["rhat"]._repr_html_())[0] == "stop"
