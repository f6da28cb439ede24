"""Findings about chains whose fault is known."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics.sampling._findings import nested_disagreement
from posterity.inference.diagnostics.sampling.nested import nested_rhat
from posterity.inference.diagnostics.sampling.report import convergence_report
from tests.inference.diagnostics.sampling.cases import (
    autoregressive,
    independent,
    names,
    report,
)


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


def test_a_chain_that_is_a_copy_of_another_is_named():
    f = independent(0)
    f[3] = f[1]
    found = report(f)
    assert found["copies"].severity == "stop"
    assert "The draws of 1 of 4 chains (chain 3) are exactly those of another chain" in found["copies"].words
    f[3] = f[3, 0]  # one point is no copy
    f[2] = f[3]
    assert "copies" not in dict(names(report(f)))


@pytest.mark.parametrize("f", [np.zeros((1, 1, 1)), np.zeros((4, 1, 2)), np.ones((1, 1, 3))])
def test_a_single_draw_is_not_believed(f):
    found = convergence_report(from_groups({"posterior": xr.Dataset({"f": (("chain", "draw", "x"), f)})}))
    assert not found.ok
    assert found.verdict == "unknown"
    assert "functions varies over" in found["nothing to compare"].words
