"""A report of convergence on chains whose fault is known, its numbers against ArviZ's, and divergences whose place is
known."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy import stats
from scipy.signal import lfilter

from posterity.inference import HMC, SVI, Ensemble, Posterior, infer
from posterity.inference.arviz import INDEPENDENT, bfmi, ess, from_arrays, from_groups, rhat
from posterity.inference.convergence import statistics
from posterity.inference.diagnostics.sampling._findings import nested_disagreement
from posterity.inference.diagnostics.sampling._findings_of_run import no_chains
from posterity.inference.diagnostics.sampling._functions import Functions
from posterity.inference.diagnostics.sampling.divergences import locate_divergences
from posterity.inference.diagnostics.sampling.nested import nested_rhat
from posterity.inference.diagnostics.sampling.report import ConvergenceReport, convergence_report
from posterity.inference.program.sites import inspect
from posterity.models import bayesian, mlp

SETTINGS = "NUTS(draws=1000, chains=4, superchains=None, target_accept=0.8, max_tree_depth=10)"


def independent(seed: int, chains: int = 4, draws: int = 1000, points: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(chains, draws, points))


def autoregressive(rng: np.random.Generator, coefficient: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draws along the second dimension, from a stationary start."""
    noise = rng.normal(size=shape)
    noise[:, 0] /= np.sqrt(1 - coefficient**2)
    return lfilter([1.0], [1.0, -coefficient], noise, axis=1)


def data(f: np.ndarray, stats: dict[str, np.ndarray] | None = None, **attrs):
    """ArviZ data of functions f at x = 0, 0.5, ... and of a sampler at its best, or with other ``stats``."""
    posterior = xr.Dataset({"f": (("chain", "draw", "x"), f)}, coords={"x": np.arange(f.shape[2]) / 2})
    rng, shape = np.random.default_rng(99), f.shape[:2]
    kept = {
        "energy": rng.normal(size=shape),
        "diverging": np.zeros(shape, bool),
        "acceptance_rate": np.full(shape, 0.9),
        **(stats or {}),
    }
    sample_stats = xr.Dataset({name: (("chain", "draw"), values) for name, values in kept.items()})
    return from_groups({"posterior": posterior, "sample_stats": sample_stats}, {"settings": SETTINGS, **attrs})


def report(f: np.ndarray, stats: dict[str, np.ndarray] | None = None, **attrs) -> ConvergenceReport:
    return convergence_report(data(f, stats, **attrs), var_names="f")


def names(found: ConvergenceReport) -> list[tuple[str, str]]:
    return [(finding.name, finding.severity) for finding in found.findings]


# Its numbers


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


# What it finds


def test_good_chains_are_ok():
    found = report(independent(0))
    assert found.ok
    assert found.findings == ()
    text = str(found)
    assert text.startswith("4 chains of 1000 draws, judged by 5 functions: no sign of a problem.")
    assert "0 divergences" in text
    assert "calibr" in text or "coverage" in text


def test_a_stuck_chain_is_named():
    f = independent(0)
    f[2] = f[2, :1]
    found = report(f)
    assert not found.ok
    assert found.verdict == "stop"
    assert found["stuck"].number == 1
    assert "chain 2" in found["stuck"].words
    assert "Chain 2 is furthest" in found["rhat"].words
    slow = report(independent(0), {"acceptance_rate": np.repeat([[0.9], [0.9], [0.2], [0.9]], 1000, 1)})
    assert names(slow) == [("slow", "caution")]
    assert "1 of 4 chains accept less than 50 % of their steps (chain 2:" in slow["slow"].words


def test_nothing_that_moves_is_stuck_everywhere():
    found = report(np.ones((4, 100, 3)))
    assert ("stuck", "stop") in names(found)
    assert bool(found.dataset.rhat.isnull().all())


def test_two_modes_are_found_at_their_function_alone():
    f = independent(0)
    f[:2, :, 3] += 5.0
    found = report(f)
    assert found.verdict == "stop"
    assert "The chains do not agree" in found["rhat"].words
    assert "at f[1.5], and 1.01 or more at 1 of 5 functions" in found["rhat"].words
    assert "solve that first" in found["ess_bulk"].words
    assert "no sign" not in str(found)


def test_weights_are_not_what_to_judge():
    f = independent(0)
    f[0] = -f[0] + 4
    named, all_of_them = report(f), convergence_report(data(f))
    assert "permuted" in all_of_them["rhat"].words
    assert "permuted" not in named["rhat"].words


def test_few_draws_are_told_from_chains_that_disagree():
    """60 draws of chains that agree have an R-hat above 1.01; so have 60 of chains that do not."""
    few = independent(3, draws=60)
    found = report(few)
    assert found.verdict == "caution"
    assert found["rhat"].number > 1.01
    assert "by chance" in found["rhat"].words
    few[0, :, 1] += 2.0
    assert "do not agree" in report(few)["rhat"].words


def test_the_advised_number_of_draws_is_enough():
    """An AR(1) of coefficient 0.9 has 1/19 of its draws: of 4 * 800 some 170, of 400 wanted."""
    rng = np.random.default_rng(4)
    found = report(autoregressive(rng, 0.9, (4, 800, 1)))
    words = found["ess_bulk"].words
    advised = int(words.split("draws=")[1].split(")")[0])
    assert 1200 < advised < 4000
    assert "ess_bulk" not in [name for name, _ in names(report(autoregressive(rng, 0.9, (4, 2 * advised, 1))))]


def test_many_short_chains_that_agree_are_enough():
    """Independent draws of 64 chains: fewer than 100 of each, and more than enough of all."""
    found = report(independent(5, chains=64, draws=80, points=2))
    assert found.ok
    assert set(names(found)) == {("ess_bulk", "note"), ("ess_tail", "note")}


def test_superchains_are_judged_by_nested_rhat():
    f = independent(6, chains=32, draws=20)
    settings = "HMC(chains=32, superchains=8, target_accept=0.8)"
    found = report(f, settings=settings)
    assert found.ok
    np.testing.assert_allclose(found.dataset.nested_rhat, nested_rhat(f, 8).nested_rhat)
    assert found.dataset.attrs["superchains"] == 8
    assert "by chance" in report(f)["rhat"].words  # chains of 20 draws cannot be compared one by one
    f[4:8, :, 2] += 2.0
    found = report(f, settings=settings)
    assert found.verdict == "stop"
    assert "still depend on their starting points" in found["nested_rhat"].words
    one_draw = report(independent(8, chains=64, draws=1), settings=settings)
    assert "rhat" not in [name for name, _ in names(one_draw)]
    assert not one_draw.dataset.nested_rhat.isnull().any()


def test_superchains_that_agree_seldom_remember_their_start():
    """Slow chains have a nested R-hat above that of independent draws, which is chance and said to be.

    200 times 4 superchains of 8 chains of 20 draws, AR(1) of coefficient 0.9: at a level of 1 %, 2 ± 1.4 are blamed on
    the starts, here up to 7. Seed 5.
    """
    values = autoregressive(np.random.default_rng(5), 0.9, (32, 20, 200))
    found = [
        nested_disagreement(values[..., i : i + 1], ["f"], nested_rhat(values[..., i : i + 1], 4)) for i in range(200)
    ]
    words = [finding.words for finding in found if finding]
    assert sum("by chance" in said for said in words) > 100
    assert sum("still depend on" in said for said in words) <= 7


def test_energies_that_crawl_are_found():
    energy = np.random.default_rng(0).normal(size=(4, 1000))
    energy[1] = np.cumsum(energy[1])
    found = report(independent(0), {"energy": energy})
    assert names(found) == [("ebfmi", "caution")]
    assert "in 1 of 4 chains (chain 1)" in found["ebfmi"].words


def test_trees_that_were_cut_off_are_a_note():
    depth = np.full((4, 1000), 6)
    depth[0, :200] = 10
    found = report(independent(0), {"tree_depth": depth})
    assert found.ok
    assert found["tree_depth"].number == 0.05
    assert "tree depth of 10" in found["tree_depth"].words
    reached = report(independent(0), {"reached_max_treedepth": depth == 10}, settings="")
    assert reached["tree_depth"].number == 0.05


def test_divergences_are_counted_and_located():
    f = independent(0)
    found = report(f, {"diverging": f[..., 1] < -2.5})
    said = found["divergences"]
    count = int((f[..., 1] < -2.5).sum())
    assert said.number == count
    assert said.severity == "caution"
    assert f"{count} of 4000 transitions" in said.words
    assert "They concentrate where f[0.5] is low" in said.words
    assert "Raise target_accept from 0.8 to 0.95 or 0.99; if divergences remain" in said.words
    assert int(found.dataset.divergent_strength.values.argmax()) == 1
    assert int(found.dataset.divergences.sum()) == count
    elsewhere = report(f, {"diverging": np.random.default_rng(7).random((4, 1000)) < 0.02})
    assert elsewhere.verdict == "stop"
    assert "cannot be told from chance" in elsewhere["divergences"].words


def test_a_single_chain_is_not_judged():
    found = report(independent(0, chains=1))
    assert found.verdict == "unknown"
    assert not found.ok
    assert np.isnan(found["rhat"].number)
    assert bool(found.dataset.rhat.isnull().all())
    assert "the halves of the chain agree" in found["rhat"].words
    assert "chains=4" in found["rhat"].words
    assert float(found.dataset.ess_bulk.min()) > 500
    drifting = independent(0, chains=1) + np.linspace(0, 4, 1000)[None, :, None]
    assert "do not even agree" in report(drifting)["rhat"].words
    assert "too short" in report(independent(0, chains=1, draws=6))["rhat"].words
    assert "R-hat needs 4 draws of each chain, got 2" in report(independent(0, draws=2))["rhat"].words


def test_what_cannot_be_compared_is_said():
    f = independent(0)
    f[0, 0, 0], f[..., 1] = np.nan, 3.0
    found = report(f)
    assert names(found) == [("not finite", "stop"), ("constant", "note")]
    assert "f[0.0]" in found["not finite"].words
    assert "f[0.5]" in found["constant"].words
    assert found.dataset.rhat.isnull().values.tolist() == [True, True, False, False, False]
    all_bad = report(np.full((4, 10, 2), np.inf))
    assert ("not finite", "stop") in names(all_bad)


def test_an_interrupted_run_and_one_without_statistics_are_noted():
    assert names(report(independent(0), interrupted=1)) == [("interrupted", "note")]
    bare = from_groups({"posterior": xr.Dataset({"f": (("chain", "draw"), independent(0)[..., 0])})})
    found = convergence_report(bare, var_names=["f"])
    assert found.ok
    assert names(found) == [("no statistics", "note")]
    assert found.dataset.label.values.tolist() == ["f"]


def test_a_finding_is_had_by_its_name():
    found = report(independent(0, chains=1))
    assert found["rhat"] is found.findings[0]
    with pytest.raises(KeyError, match="'divergences': the findings are"):
        found["divergences"]


# Posteriors


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.5), obs=y)


def classes(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Categorical(logits=x[:, None] * w), obs=y)


X = torch.linspace(-1, 1, 12)
GRID = torch.tensor([-0.5, 0.0, 0.7])
FAST = {"engine": "eager", "threads": 1, "progress": False}


def test_a_posterior_is_judged_by_what_it_predicts():
    posterior = infer(line, X, 2 * X, method=HMC(chains=4, warmup=100, draws=200, **FAST), seed=0)
    found = convergence_report(posterior, GRID)
    places = ["x[0] = -0.5", "x[1] = 0", "x[2] = 0.7"]
    assert found.dataset.label.values.tolist() == [*places, "log density", "w[0]", "w[1]"]
    assert "judged by 4 functions and 2 elements of sites" in str(found)
    np.testing.assert_allclose(
        found.dataset.rhat[4:], rhat(xr.DataArray(posterior.draws["w"].double().numpy(), dims=("chain", "draw", "p")))
    )
    functions = xr.DataArray(posterior.function_draws(GRID).numpy(), dims=("chain", "draw", "point"))
    np.testing.assert_allclose(found.dataset.rhat[:3], rhat(functions.astype(float)), rtol=1e-6)
    assert found.dataset.x.values[:3, 0].tolist() == pytest.approx(GRID.tolist())
    assert "4 chains of 200 draws of HMC" in str(found)
    assert found.verdict in ("note", "caution")
    assert {"ebfmi", "divergences", "acceptance_rate"} <= set(found.dataset.data_vars)


def test_a_posterior_of_classes_is_judged_by_their_probabilities():
    posterior = infer(
        classes, X, (X > 0).long(), method=HMC(chains=4, superchains=2, draws=30, warmup=50, **FAST), seed=0
    )
    found = convergence_report(posterior, GRID)
    assert found.dataset.sizes["point"] == 13
    assert found.dataset.label.values[[0, 8]].tolist() == ["x[0] = -0.5, class 0", "x[2] = 0.7, class 2"]
    # At x = 0 every draw gives each class a third.
    assert found["constant"].number == 3
    assert found.dataset.attrs["superchains"] == 2


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (SVI(steps=400, draws=50, progress=False), "a mean-field guide is too narrow"),
        (Ensemble(members=5, steps=200, progress=False), "members trained from different starts"),
    ],
)
def test_draws_that_no_chain_made_are_not_judged(method, words):
    posterior = infer(line, X, 2 * X, method=method, seed=0)
    found = convergence_report(posterior, GRID)
    assert not found.ok
    assert found.verdict in ("unknown", "caution")
    assert words in found["no chains"].words
    assert bool(found.dataset.rhat.isnull().all())
    assert "training" in [name for name, _ in names(found)]
    stored = from_arrays(posterior={"f": np.zeros((50, 3))}, chains=False)
    assert stored.attrs["sampling"] == INDEPENDENT
    assert "no chains" in [name for name, _ in names(convergence_report(stored))]


@pytest.mark.parametrize(
    ("slope", "severity"), [(0.0, "note"), (-0.05, "caution"), (0.05, "note")], ids=["flat", "falling", "rising"]
)
def test_a_loss_that_still_falls_is_found(slope, severity):
    """1,000 steps with noise of sd 5: a fall by 5 nats a tenth is seen, at 5 standard errors; seed 0."""
    losses = 100 + slope * np.arange(1000) + np.random.default_rng(0).normal(size=1000) * 5
    functions = Functions(np.zeros((1, 5, 1)), ["f"], {}, {"method": "SVI"}, losses=losses)
    assert list(no_chains(functions))[1].severity == severity


# Named sites


def squared(x, y=None):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(m**2 + x, 1.0), obs=y)


def mirrored(spread: torch.Tensor, settings: str = SETTINGS, chains: int = 4) -> Posterior:
    """Draws of m near 2 times ``spread`` (chain,)."""
    m = 2 + 0.1 * torch.as_tensor(independent(3, chains, 500, 1)[..., 0])
    stats = {"lp": -((m - 2) ** 2), "diverging": torch.zeros(m.shape, dtype=torch.bool)}
    attrs = {"method": "NUTS", "settings": settings}
    return Posterior(squared, inspect(squared, (X, X)), {"m": m * spread[:, None]}, stats, attrs=attrs)


def test_mirrored_modes_are_a_matter_of_the_site_and_not_of_the_predictions():
    report = convergence_report(mirrored(torch.tensor([1.0, 1.0, -1.0, 1.0])), GRID)
    assert report.verdict == "caution"
    assert names(report)[0] == ("site_rhat", "caution")
    said = report["site_rhat"]
    assert said.number > 1.5
    assert "agree on predictions, but not on site 'm' (R-hat" in said.words
    assert "label switching, mirrored modes" in said.words
    assert "rhat" not in dict(names(report))
    assert convergence_report(mirrored(torch.ones(4)), GRID).ok


def test_chains_that_predict_differently_disagree_on_the_site_as_well():
    found = convergence_report(mirrored(torch.tensor([1.0, 1.0, 1.5, 1.0])), GRID)
    assert [(name, severity) for name, severity in names(found) if "rhat" in name] == [
        ("rhat", "stop"), ("site_rhat", "stop")
    ]  # fmt: skip
    assert found["site_rhat"].words.startswith("The chains do not agree on site 'm'")


def test_superchains_are_compared_at_sites_too():
    """Each of four superchains is of one sign."""
    spread = torch.tensor([1.0, 1.0, -1.0, 1.0]).repeat_interleave(4)
    found = convergence_report(mirrored(spread, SETTINGS.replace("superchains=None", "superchains=4"), 16), GRID)
    assert {"site_rhat", "site_nested_rhat"} <= set(dict(names(found)))
    assert "nested_rhat" not in dict(names(found))


SHAPES = {
    "net.hidden1.weight": (2, 1),
    "net.hidden1.bias": (2,),
    "net.output.weight": (1, 2),
    "net.output.bias": (1,),
}


def test_weights_of_a_network_are_no_named_sites():
    net = mlp(1, 2, 1, seed=0)

    def network(x, y=None):
        f = bayesian("net", net)(x[:, None])[:, 0]
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(f, sigma), obs=y)

    program = inspect(network, (X, X))
    rng = torch.Generator().manual_seed(0)
    draws = {name: torch.randn(4, 500, *shape, generator=rng) for name, shape in SHAPES.items()}
    draws["sigma"] = torch.rand(4, 500, generator=rng)
    for name in ("net.hidden1.weight", "net.hidden1.bias"):  # units in another order in the last chain
        draws[name] = draws[name] + torch.tensor([1.0, -4.0]).view(2, *[1] * (draws[name].ndim - 3))
        draws[name][3] = draws[name][3].flip(1)
    draws["net.output.weight"][3] = draws["net.output.weight"][3].flip(-1)
    stats = {"lp": torch.randn(4, 500, generator=rng)}
    found = convergence_report(Posterior(network, program, draws, stats), GRID)
    assert found.dataset.label.values.tolist()[-2:] == ["log density", "sigma"]
    assert float(found.dataset.rhat.max()) < 1.02


def test_a_chain_that_is_a_copy_of_another_is_named():
    f = independent(0)
    f[3] = f[1]
    found = report(f)
    assert found["copies"].severity == "stop"
    assert "The draws of 1 of 4 chains (chain 3) are exactly those of another chain" in found["copies"].words
    f[3] = f[3, 0]  # one point is no copy
    f[2] = f[3]
    assert "copies" not in dict(names(report(f)))


# Where divergences are


def funnel(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Neal's funnel and something else, (v, theta, other); what diverged is where its neck is narrow, v < -4."""
    rng = np.random.default_rng(seed)
    v = 3 * autoregressive(rng, 0.6, (4, 1000)) * np.sqrt(1 - 0.36)
    theta = np.exp(v / 2) * rng.normal(size=v.shape)
    return np.stack([v, theta, rng.normal(size=v.shape)], -1), v < -4


def test_divergences_of_a_funnel_are_in_its_neck():
    values, diverging = funnel(0)
    found = locate_divergences(torch.as_tensor(values), torch.as_tensor(diverging))
    rest = values[~diverging]
    shift = (values[diverging].mean(0) - rest.mean(0)) / rest.std(0)
    np.testing.assert_allclose(found["shift"], shift, rtol=1e-10)
    np.testing.assert_allclose(found.spread, values[diverging].std(0, ddof=1) / rest.std(0), rtol=1e-10)
    assert found["shift"][0] < -1.5
    assert abs(found["shift"][1]) < 0.2  # theta is symmetric: only its spread tells
    assert found.spread[1] < 0.1
    assert found.location[0] < -10
    assert abs(found.location[1]) < 3
    assert found.scale[1] < -4
    assert found.strength[2] < 4
    assert found.sortby("strength", ascending=False)["quantile"][0] < 0.1
    assert float(found.p_value) == 1 / 4000
    assert found.attrs == {"chains": 4, "draws": 1000, "divergences": int(diverging.sum()), "share": diverging.mean()}


def test_the_report_says_that_a_neck_is_near_the_middle():
    values, diverging = funnel(1)
    words = report(values[..., 1:], {"diverging": diverging})["divergences"].words
    assert "where f[0.0] is near its middle" in words


def test_divergences_anywhere_are_found_nowhere():
    """Bursts that have nothing to do with slow chains: 5 % of the p-values are below 0.05, as for a right test.

    150 repetitions: 1 to 14, to 3 standard deviations. A test for independent draws (Mann-Whitney, at the best of 3
    functions, times 3) rejects most. Seed 2.
    """
    rng, found, naive = np.random.default_rng(2), [], []
    for _ in range(150):
        values, other = autoregressive(rng, 0.95, (4, 300, 3)), autoregressive(rng, 0.95, (4, 300))
        hit = other > np.quantile(other, 0.95)
        found.append(float(locate_divergences(values, hit).p_value))
        best = min(stats.mannwhitneyu(values[..., i][hit], values[..., i][~hit]).pvalue for i in range(3))
        naive.append(3 * best)
    assert 1 <= (np.array(found) < 0.05).sum() <= 15
    assert (np.array(naive) < 0.05).mean() > 0.5


def test_all_shifts_are_the_sums_written_out():
    rng = np.random.default_rng(0)
    values, hit = rng.normal(size=(3, 5, 1)), rng.random((3, 5)) < 0.3
    places = (stats.rankdata(values).reshape(3, 5) - 0.5) / 15 - 0.5
    sums = np.array([places[np.roll(hit, (c, d), (0, 1))].sum() for c in range(3) for d in range(5)])
    found = locate_divergences(values, hit)
    assert float(found.location[0]) == pytest.approx(sums[0] / sums.std(), rel=1e-10)
    squares = (places**2).ravel()
    spread = np.array([squares[np.roll(hit, (c, d), (0, 1)).ravel()].sum() for c in range(3) for d in range(5)])
    assert float(found.scale[0]) == pytest.approx((spread[0] - spread.mean()) / spread.std(), rel=1e-9)
    strength = np.maximum(abs(sums) / sums.std(), abs(spread - spread.mean()) / spread.std())
    assert float(found.p_value) == pytest.approx((strength >= strength[0] - 1e-9).mean())


def test_one_divergence_has_a_place_and_no_spread(tmp_path):
    values = independent(0, draws=100)
    hit = np.zeros((4, 100), bool)
    hit[np.unravel_index(values[..., 2].argmin(), hit.shape)] = True
    found = locate_divergences(values, hit)
    assert int(found.strength.values.argmax()) == 2
    assert float(found["quantile"][2]) == pytest.approx(0.5 / 400)
    assert bool(found.spread.isnull().all())
    found.to_netcdf(tmp_path / "divergences.nc", engine="h5netcdf")


def test_divergences_are_the_same_in_blocks(monkeypatch):
    values, diverging = funnel(0)
    found = locate_divergences(values, diverging)
    monkeypatch.setattr("posterity.inference.diagnostics.sampling.divergences.BLOCK", 4000)
    xr.testing.assert_allclose(locate_divergences(values, diverging), found)


def test_divergences_of_arviz_data_are_read_by_the_names_of_their_dimensions():
    values, diverging = funnel(0)
    array = xr.DataArray(values, dims=("chain", "draw", "p")).transpose("p", "draw", "chain")
    hit = xr.DataArray(diverging, dims=("chain", "draw"))
    expected = locate_divergences(values, diverging)
    for given in (diverging, hit, hit.T):
        xr.testing.assert_identical(locate_divergences(array, given), expected)


def test_the_report_leaves_a_function_that_does_not_differ_out_of_divergences():
    values, diverging = funnel(0)
    values[..., 2] = 1.0
    strength = report(values, {"diverging": diverging}).dataset["divergent_strength"]
    np.testing.assert_array_equal(strength.isnull(), [False, False, True])


HIT = np.eye(2, 10, dtype=bool)


@pytest.mark.parametrize(
    ("values", "diverging", "message"),
    [
        (np.zeros((2, 10)), HIT, r"expected values of shape \(chain, draw, points\), got \(2, 10\)"),
        (np.zeros((2, 10, 1)), HIT[:1], r"expected diverging of shape \(2, 10\), \(chain, draw\), got \(1, 10\)"),
        (np.full((2, 10, 1), np.nan), HIT, "expected finite values, got 20 of 20"),
        (np.zeros((2, 10, 1)), 2 * HIT, "expected diverging as true or false"),
        (np.zeros((2, 10, 1)), 0 * HIT, "expected draws that diverged and others, got 0 of 20"),
        (np.zeros((2, 10, 1)), HIT | True, "expected draws that diverged and others, got 20 of 20"),
        (np.zeros((2, 10, 1)), HIT, "expected values that differ between draws, got 1 points"),
        (np.zeros((2, 10, 1), complex), HIT, "expected real numbers as values, got complex128"),
        (np.ma.masked_all((2, 10, 1)), HIT, "expected values without a mask"),
        (np.zeros((2, 10, 1)), HIT.astype(str), "expected real numbers as diverging, got <U5"),
        (np.zeros((2, 10, 1)), np.ma.masked_array(HIT), "expected diverging without a mask"),
        (xr.DataArray(np.zeros((2, 10, 1)), dims=("c", "d", "p")), HIT, "expected values as a DataArray with the dim"),
        (np.zeros((2, 10, 1)), xr.DataArray(HIT, dims=("c", "d")), "expected diverging as a DataArray with the dim"),
    ],
)
def test_bad_divergences_are_refused(values, diverging, message):
    with pytest.raises(ValueError, match=message):
        locate_divergences(values, diverging)


class Meanless:
    """What a posterior is to the report, of a likelihood that nobody knows the mean of."""

    num_chains, num_draws, function_draws = 2, 5, None

    def likelihood(self, x):
        return torch.distributions.Distribution(torch.Size([10, len(x)]), validate_args=False)


def test_bad_input_is_refused():
    posterior = infer(line, X, 2 * X, method=SVI(steps=5, draws=5, progress=False), seed=0)
    with pytest.raises(ValueError, match="expected the inputs x at which functions of the posterior are judged"):
        convergence_report(posterior)
    with pytest.raises(ValueError, match="expected var_names only with ArviZ data, got 'w' with a Posterior"):
        convergence_report(posterior, GRID, var_names="w")
    with pytest.raises(ValueError, match=r"expected a Posterior with x, or ArviZ data .* got ndarray"):
        convergence_report(np.zeros((4, 10, 3)))
    with pytest.raises(ValueError, match="expected no x beside ArviZ data"):
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
    with pytest.raises(ValueError, match="expected superchains that 4 chains can fill equally, got 3"):
        convergence_report(data(independent(0)), superchains=3)


@pytest.mark.parametrize("f", [np.zeros((1, 1, 1)), np.zeros((4, 1, 2)), np.ones((1, 1, 3))])
def test_a_single_draw_is_not_believed(f):
    found = convergence_report(from_groups({"posterior": xr.Dataset({"f": (("chain", "draw", "x"), f)})}))
    assert not found.ok
    assert found.verdict == "unknown"
    assert "functions varies over" in found["nothing to compare"].words
