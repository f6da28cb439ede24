"""One fit of a guide: the data of a step, and the bound, in closed form."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import SVI
from posterity.inference.guide_fit import GuideFit
from posterity.inference.program.sites import inspect
from posterity.models.guides import make_guide
from posterity.random import seeded

Y = torch.arange(12.0)


def model(y=None):
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", 12 if y is None else len(y)):
        return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def fit(**settings):
    return GuideFit(SVI(progress=False, **settings), model, inspect(model, (Y,)), (Y,))


def test_the_terms_of_a_batch_count_for_all_rows():
    """Four rows at a time: the mean of the scaled log likelihood is that of all rows (1,000 batches, 5 errors)."""
    members = fit(batch_size=4)
    totals = []
    with seeded(0):
        for _ in range(1000):
            args, scaled = members.some_rows()
            assert len(args[0]) == 4
            with scaled, pyro.poutine.condition(data={"mean": torch.tensor(2.0)}):
                totals.append(float(pyro.poutine.trace(model).get_trace(*args).log_prob_sum()))
    totals = torch.tensor(totals)
    exact = dist.Normal(2.0, 1.0).log_prob(Y).sum() + dist.Normal(0.0, 10.0).log_prob(torch.tensor(2.0))
    assert abs(float(totals.mean() - exact)) < 5 * float(totals.std()) / math.sqrt(1000)


def test_a_fit_of_the_whole_has_the_whole():
    args, _ = fit().some_rows()
    assert torch.equal(args[0], Y)


def test_the_guide_finds_the_posterior_of_a_mean():
    """Precision 12 + 1/100, mean 66 over it."""
    with seeded(0), pyro.get_param_store().scope():
        one = fit(steps=1500, learning_rate=0.02)
        one.guide = make_guide("mean_field", model)
        assert one.has_finite_bound()
        one.train()
        draws = one.draw(4000)["mean"]
    assert one.problems() == []
    assert float(draws.mean()) == pytest.approx(66 / 12.01, abs=0.05)
    assert float(draws.std()) == pytest.approx(12.01**-0.5, rel=0.1)
