"""One fit of a guide: the data of a step, and the bound, in closed form."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import SVI, infer
from posterity.inference.guide_fit import GuideFit
from posterity.inference.program.sites import inspect
from posterity.inference.training.guide_widths import set_widths
from posterity.inference.training.optimiser import AdaptiveAdam
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


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_the_guide_finds_the_posterior_of_a_mean_in_any_unit(unit):
    """Precision 12 + 1/100, mean 66 over it."""

    def in_units(y=None):
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0 * unit))
        with pyro.plate("rows", 12 if y is None else len(y)):
            return pyro.sample("y", dist.Normal(mean, unit), obs=y)

    args = (unit * Y,)
    with seeded(0), pyro.get_param_store().scope():
        settings = SVI(progress=False, steps=700, learning_rate=0.02)
        one = GuideFit(settings, in_units, inspect(in_units, args), args)
        one.guide = make_guide("mean_field", in_units)
        set_widths(one.guide, args, {"mean": 10.0 * unit}, 0.05)
        assert one.has_finite_bound()
        one.train()
        draws = one.draw(4000)["mean"] / unit
    assert one.problems() == []
    assert float(draws.mean()) == pytest.approx(66 / 12.01, abs=0.05)
    assert float(draws.std()) == pytest.approx(12.01**-0.5, rel=0.1)


def test_the_gain_of_a_probe_is_the_difference_of_the_bounds():
    """A normal posterior of precision 12.01: a location off by d costs 12.01 d**2 / 2 nats. Within 5 errors."""
    with seeded(0), pyro.get_param_store().scope():
        one = fit(steps=400)
        one.guide = make_guide("mean_field", model)
        one.parameters, _ = one._parameters()
        one.num_elements = 2
        location, width = torch.tensor(66 / 12.01), torch.tensor(12.01**-0.5).log()
        one._measure_gain([location + 1.0, width], [location, width])
    assert one.noise > 0
    assert abs(one.gained - 12.01 / 2) < 5 * one.noise


@pytest.mark.parametrize(
    ("gained", "noise", "said"),
    [
        (0.0, 0.1, None),  # the tolerance of 12 rows and 2 numbers is 0.12 nats, that of a loss 1.08
        (0.11, 0.0, None),
        (0.5, 0.0, "has not converged and still gained 0.5 nats"),
        (0.5, 0.2, None),  # less than three standard errors above the tolerance
        (-1.0, 0.0, None),
        (-2.0, 0.1, "has not settled: .* lost 2 nats"),
        (-58.0, 140.0, "cannot be tested: after 512 draws, the standard error of the gain .* is 140 nats"),
        (0.0, 1.0, None),
    ],
)
def test_the_sentence_follows_from_gain_and_noise(gained, noise, said):
    """A standard error far above the tolerance once passed in silence, with locations off by 600 posterior sd."""
    one = fit(steps=400)
    one.guide, one.num_elements, one.optimiser = (
        make_guide("mean_field", model),
        2,
        AdaptiveAdam(torch.ones(2), noisy=True),
    )
    one.gained, one.noise, one.probe_draws = gained, noise, 512
    sentences = one.problems()
    if said is None:
        assert sentences == []
    else:
        assert re.search(said, sentences[0])
        assert sentences[0].endswith("or raise particles for a less noisy gradient")


def unbounded(y=None):
    """A scale that the prior puts below zero in 31 % of its draws, where Pyro's checks refuse it."""
    scale = pyro.sample("scale", dist.Normal(0.5, 1.0))
    with pyro.plate("rows", 12 if y is None else len(y)):
        return pyro.sample("y", dist.Normal(0.0, scale), obs=y)


@pytest.mark.parametrize("guide", ["map", "mean_field", "low_rank"])
def test_a_fit_goes_on_where_checks_refuse_a_parameter(guide):
    """The mode is where 12/s = sum(y^2)/s^3 - (s - 0.5), for s > 0; a mean-field fit is near it."""
    y = torch.linspace(-3, 3, 12)
    posterior = infer(unbounded, y, method=SVI(guide=guide, steps=1000, progress=False), seed=1)
    scale = torch.linspace(0.5, 4, 100_000)
    mode = scale[(dist.Normal(0, scale[:, None]).log_prob(y).sum(1) - 0.5 * (scale - 0.5) ** 2).argmax()]
    assert float(posterior.draws["scale"].mean()) == pytest.approx(float(mode), abs=1e-2 if guide == "map" else 0.2)
    assert bool(torch.isfinite(posterior.history["loss"]).all())


def test_a_refused_start_says_what_was_refused():
    def never(y=None):
        pyro.sample("w", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(0.0, torch.tensor(-1.0)).expand([12]).to_event(1), obs=y)

    with pytest.raises(ValueError, match=r"expected init with a finite bound .*GreaterThan"):
        infer(never, Y, method=SVI(steps=2, progress=False), seed=0)


def test_a_gain_that_is_not_a_number_is_not_reported_as_one():
    members = fit()
    members.num_elements, members.gained, members.probe_draws = 1, math.nan, 16
    members.optimiser = AdaptiveAdam(torch.ones(1), noisy=True)
    assert members.problems()[0].startswith("the bound is not finite at some of 16 draws of the guide")
