"""A pair in words, and as a table of its sites."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.data import Observations, Standardization
from posterity.models import (
    Pair,
    bayesian_classification,
    bayesian_mixture_density,
    bayesian_regression,
    mixture_density,
)
from posterity.models.pair import model_name
from tests.test_display import cells

DATA = Observations(torch.randn(20, 2), torch.randn(20))
SCALE = Standardization.fit(DATA)
PAIRS = {
    "bayesian_regression": bayesian_regression(SCALE, hidden=(4,)),
    "bayesian_classification": bayesian_classification(SCALE, 3, hidden=(4,)),
    "mixture_density": mixture_density(SCALE, hidden=(4,)),
    "bayesian_mixture_density": bayesian_mixture_density(SCALE, hidden=(4,)),
}
NUMBERS = {
    "bayesian_regression": 22,
    "bayesian_classification": 27,
    "mixture_density": 57,
    "bayesian_mixture_density": 57,
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_names_its_model_its_guide_and_its_sites(name):
    pair = PAIRS[name]
    guide = "no guide, since its weights are parameters" if pair.guide_name is None else f"guide {pair.guide_name!r}"
    assert repr(pair) == f"Pair({name}, {guide})"
    html = pair._repr_html_()
    shown = cells(html)
    assert f"{guide}, {NUMBERS[name]} unknown numbers" in html.replace("&#x27;", "'")
    assert shown[:3] == ["net.hidden1.weight", "parameter" if pair.guide_name is None else "latent", "(4, 2)"]
    assert shown[-3:] == ["y", "observed", "() for each row"]
    assert ("Ensemble()" in html) == (pair.guide_name is None)


def test_a_table_leaves_the_random_state_and_the_parameters_as_they_are():
    state = torch.get_rng_state()
    PAIRS["mixture_density"]._repr_html_()
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(pyro.get_param_store())


def test_a_pair_without_an_example_and_one_that_fails_have_no_table():
    def line(x, y=None):
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    for pair in (Pair(line, None), Pair(line, None, (3,))):
        assert "<table" not in pair._repr_html_()
        assert repr(pair).startswith("Pair(line, ")
    deep = bayesian_regression(SCALE, hidden=(2,) * 9)
    assert "and 10 more sites" in deep._repr_html_()


def test_pairs_are_equal_by_model_and_guide():
    pair = PAIRS["bayesian_regression"]
    assert copy.copy(pair) == pair == Pair(pair.model, pair.guide_name)
    assert pair.guide is not pair.guide


def test_names_of_models():
    class Line(torch.nn.Module):
        pass

    def model(x):
        return x

    assert model_name(Line()) == "Line"
    assert model_name(model) == "test_names_of_models"
    assert model_name(torch.nn.Linear(1, 1)) == "Linear"
