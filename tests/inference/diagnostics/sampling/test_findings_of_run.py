"""Findings about the run that made the draws: energies, trees, divergences, losses."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference import SVI, Ensemble, infer
from posterity.inference.arviz import INDEPENDENT, from_arrays, from_groups
from posterity.inference.diagnostics.sampling._findings_of_run import no_chains
from posterity.inference.diagnostics.sampling._functions import Functions
from posterity.inference.diagnostics.sampling.report import convergence_report
from tests.inference.diagnostics.sampling.cases import (
    GRID,
    X,
    funnel,
    independent,
    line,
    names,
    report,
)


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


def test_divergences_of_a_sampler_that_refuses_nothing_have_their_own_advice():
    f = independent(0)
    settings = "MCLMC(draws=1000, target_accept=None, adjusted=False, energy_variance=0.0005)"
    said = report(f, {"diverging": f[..., 1] < -2.5}, settings=settings)["divergences"]
    assert "Lower energy_variance from 0.0005 to 5e-05, or set adjusted=True" in said.words
    assert "target_accept" not in said.words


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


def test_an_interrupted_run_and_one_without_statistics_are_noted():
    assert names(report(independent(0), interrupted=1)) == [("interrupted", "note")]
    bare = from_groups({"posterior": xr.Dataset({"f": (("chain", "draw"), independent(0)[..., 0])})})
    found = convergence_report(bare, var_names=["f"])
    assert found.ok
    assert names(found) == [("no statistics", "note")]
    assert found.dataset.label.values.tolist() == ["f"]


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


def test_the_report_says_that_a_neck_is_near_the_middle():
    values, diverging = funnel(1)
    words = report(values[..., 1:], {"diverging": diverging})["divergences"].words
    assert "where f[0.0] is near its middle" in words


def test_the_report_leaves_a_function_that_does_not_differ_out_of_divergences():
    values, diverging = funnel(0)
    values[..., 2] = 1.0
    strength = report(values, {"diverging": diverging}).dataset["divergent_strength"]
    np.testing.assert_array_equal(strength.isnull(), [False, False, True])
