"""Advice never names a value that is already in use."""

import re

import pytest

from posterity.inference.convergence import advice


@pytest.mark.parametrize("target", [0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999])
def test_advised_target_rates_are_higher_than_the_one_in_use(target):
    text = advice.smaller_steps(target)
    advised = re.search(rf"from {target:g} to ([\d. or]+)", text)
    higher = [float(rate) for rate in advised[1].split(" or ")] if advised else []
    assert all(rate > target for rate in higher)
    assert higher or f"already {target:g}" in text
    assert text.endswith(advice.NON_CENTRED)


def test_a_funnel_is_met_by_the_setting_that_removes_it_unless_it_is_in_use():
    assert "reparam" not in advice.smaller_steps(0.8)  # a sampler without the setting
    assert advice.smaller_steps(0.8, reparam=False).endswith(
        "use the non-centred model (reparam='auto'), or lighter tails"
    )
    assert advice.smaller_steps(0.99, reparam=True) == f"target_accept is already 0.99: {advice.LIGHTER}"
    assert "centred" not in advice.non_centred(True)


@pytest.mark.parametrize("names", [advice.INITS, advice.PYRO_INITS])
def test_advised_starts_are_other_starts(names):
    for init in (*names, None):
        advised = re.findall(r"'(\w+)'", advice.another_init(init, names))
        assert len(advised) == 2
        assert set(advised) <= set(names) - {init}


@pytest.mark.parametrize(("function", "setting"), [(advice.longer_warmup, "warmup"), (advice.more_draws, "draws")])
def test_runs_become_longer(function, setting):
    for length in (1, 300, 1000.0):
        assert f"({setting}={int(2 * length)})" in function(length)
    assert "=" not in function(None)


def test_a_run_without_a_warmup_is_advised_to_have_one():
    assert advice.longer_warmup(0) == f"a warmup (warmup={advice.WARMUP})"


def test_trees_are_not_advised_to_be_deeper_than_nuts_allows():
    for depth in (None, 10, advice.DEEPEST - 1):
        assert "raise max_tree_depth" in advice.deeper_trees(depth)
    assert "max_tree_depth" not in advice.deeper_trees(advice.DEEPEST)


def test_smaller_energy_errors_are_a_tenth_of_those_in_use_or_none():
    said = advice.smaller_energy_errors(5e-4, reparam=False)
    assert said.startswith("lower energy_variance from 0.0005 to 5e-05, or set adjusted=True; if divergences remain, ")
    assert said.endswith(advice.AUTOMATIC)
