"""Natural gradients against their formulas, and fits with them."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.data import Observations, Standardization, wavy
from posterity.inference import Ensemble, infer
from posterity.inference.training.natural_gradient import natural, with_natural_gradient
from posterity.models import Mixture, bayesian_mixture_density, mixture_density, multivariate_mixture_head

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.randn(50, generator=GENERATOR).double()
PARTS = [torch.randn(50, 2, generator=GENERATOR).double().requires_grad_() for _ in range(3)]


def two(unit=1.0):
    logits, loc, log_scale = PARTS
    return Mixture.normal(logits, unit * loc, unit * log_scale.exp())


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_the_gradient_of_two_components_is_that_of_the_formulas(unit):
    logits, loc, log_scale = PARTS
    plain, y = two(unit), unit * Y
    value = natural(plain, torch.tensor(2 * unit)).log_prob(y)
    assert torch.equal(value, plain.log_prob(y))
    by_logits, by_loc, by_scale = torch.autograd.grad(value.sum(), PARTS)
    share, away = plain.responsibilities(y), Y[:, None] - loc
    torch.testing.assert_close(by_logits, share - torch.softmax(logits, -1))
    torch.testing.assert_close(by_loc, share * away / 4)  # in units of 2, whatever the unit of y
    torch.testing.assert_close(by_scale, share / 2 * ((away / log_scale.exp()) ** 2 - 1))


def test_fisher_information_of_a_normal():
    """The mean outer product of the gradient: 1/σ² for the location and 2 for the log-scale, within 5 errors."""
    loc, log_scale = torch.tensor(0.3).requires_grad_(), torch.tensor(-1.0).requires_grad_()
    y = dist.Normal(0.3, math.exp(-1)).sample((20_000,))
    with torch.no_grad():
        by_loc, by_scale = (y - 0.3) * math.exp(2), (y - 0.3) ** 2 * math.exp(2) - 1
    assert float(by_loc.square().mean()) == pytest.approx(math.exp(2), rel=5 * (2 / 20_000) ** 0.5)
    assert float(by_scale.square().mean()) == pytest.approx(2, rel=5 * (14 / 20_000) ** 0.5)
    value = natural(dist.Normal(loc, log_scale.exp()), torch.tensor(1.0)).log_prob(y)
    found = torch.autograd.grad(value.mean(), (loc, log_scale))
    torch.testing.assert_close(found[0], by_loc.mean() / math.exp(2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], by_scale.mean() / 2, atol=1e-5, rtol=1e-4)


def test_several_targets_sequences_and_masks():
    loc = torch.randn(7, 3, 2, generator=GENERATOR).requires_grad_()
    y, unit = torch.randn(7, 2, generator=GENERATOR), torch.tensor([1.0, 10.0])
    mixture = Mixture(dist.Categorical(torch.ones(7, 3)), dist.Normal(loc, 0.5).to_event(1))
    (found,) = torch.autograd.grad(natural(mixture, unit).log_prob(y).sum(), loc)
    expected = mixture.responsibilities(y)[..., None] * (y[:, None] - loc) / unit**2
    torch.testing.assert_close(found, expected)
    steps = Mixture.normal(torch.zeros(7, 2, 3), loc.mT, torch.tensor(0.5)).to_event(1)
    (found,) = torch.autograd.grad(natural(steps, unit).log_prob(y).sum(), loc)
    expected = steps.base_dist.responsibilities(y) * (y[..., None] - loc.mT) / unit[:, None] ** 2
    torch.testing.assert_close(found, expected.mT)
    keep = torch.tensor([True] * 3 + [False] * 4)
    masked = natural(dist.Normal(loc[:, 0, 0], 0.5).mask(keep), torch.tensor(1.0))
    (found,) = torch.autograd.grad(masked.log_prob(y[:, 0]).sum(), loc)
    torch.testing.assert_close(found[:, 0, 0], torch.where(keep, y[:, 0] - loc[:, 0, 0], 0.0))


def test_other_likelihoods_are_refused():
    head = multivariate_mixture_head(2, 2)
    for likelihood in (dist.StudentT(4.0), head(torch.zeros(5, head.features))):
        with pytest.raises(ValueError, match=r"expected a likelihood of normals, .* for gradient='natural', got"):
            natural(likelihood, torch.tensor(1.0))


def marginal(x, y=None):
    """A mixture that does not depend on x."""
    logits, loc = pyro.param("logits", torch.zeros(2)), pyro.param("loc", torch.tensor([-0.5, 1.0]))
    scale = pyro.param("log_scale", torch.zeros(2)).exp()
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", Mixture.normal(logits, loc, scale), obs=y)


def bimodal(n=400, seed=1):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(n, generator=generator) < 0.3
    return torch.where(first, -1.0, 2.0) + torch.where(first, 0.2, 0.6) * torch.randn(n, generator=generator)


@pytest.mark.parametrize("engine", ["replay", "compiled"])
def test_the_fixed_point_is_maximum_likelihood_where_scales_do_not_depend_on_x(engine):
    y, settings = bimodal(), {"members": 1, "steps": 500, "learning_rate": 0.03, "progress": False, "engine": engine}
    plain, other = (
        infer(marginal, torch.zeros(400), y, method=Ensemble(**settings, gradient=gradient), seed=0)
        for gradient in ("plain", "natural")
    )
    assert other.attrs["tier"] == engine
    for name in ("loc", "log_scale"):
        torch.testing.assert_close(other.draws[name], plain.draws[name], atol=2e-3, rtol=0)
    assert other.attrs["best_score"] == pytest.approx(plain.attrs["best_score"], abs=1e-3)


def fitted(unit, **settings):
    data = wavy(n=200, seed=0)
    x, y = data.x, unit * data.y
    pair = mixture_density(Standardization.fit(Observations(x, y)), components=2, hidden=(8,))
    method = Ensemble(
        **({"members": 2, "steps": 600, "progress": False, "engine": "replay", "behind": "keep"} | settings)
    )
    posterior = infer(pair, x, y, method=method, seed=0)
    return posterior.predictive(x).log_prob(y).mean() + math.log(unit), posterior


def test_a_fit_is_the_same_in_other_units_and_better_than_a_normal():
    """By half a nat per row, with all rows as with batches and noise."""
    one, posterior = fitted(1.0, gradient="natural")
    million, _ = fitted(1e6, gradient="natural")
    torch.testing.assert_close(million, one, atol=0.01, rtol=0)
    losses = posterior.history["loss"]
    assert bool((losses[-1] < losses[0] - 50).all())
    y = wavy(n=200, seed=0).y
    normal = dist.Normal(y.mean(), y.std()).log_prob(y).mean()
    noisy, posterior = fitted(1.0, gradient="natural", noise=0.02, batch_size=50)
    assert posterior.attrs["tier"] == "replay"
    assert min(one, noisy) > normal + 0.5


def test_models_with_latent_sites_are_refused():
    """A sampler has no such setting: its gradient has to be that of the log joint."""
    data = wavy(n=20, seed=0)
    pair = bayesian_mixture_density(Standardization.fit(data), components=2, hidden=(4,))
    method = Ensemble(members=1, steps=10, progress=False, gradient="natural")
    with pytest.raises(ValueError, match="expected gradient to be 'plain' for a model with latent sites"):
        infer(pair, data.x, data.y, method=method)
    with pytest.raises(ValueError, match="expected gradient to be one of 'plain', 'natural', got 'em'"):
        Ensemble(gradient="em")


def test_the_model_of_the_user_does_not_change():
    y = bimodal(20)
    node = pyro.poutine.trace(marginal).get_trace(torch.zeros(20), y).nodes["y"]
    trained = with_natural_gradient(marginal, "y", node)
    here = pyro.poutine.trace(trained).get_trace(torch.zeros(20), y)
    assert trained.__name__ == "marginal"
    assert torch.equal(here.nodes["y"]["fn"].log_prob(y), node["fn"].log_prob(y))


def test_the_unit_is_that_of_the_rows_that_are_scored_and_1_for_equal_values():
    there = torch.arange(50) % 2 == 0

    def unit(y, mask=there):
        loc = torch.zeros(50).requires_grad_()

        def level(y=None):
            with pyro.plate("obs", 50):
                return pyro.sample("y", dist.Normal(loc, 0.1).mask(mask), obs=y)

        node = pyro.poutine.trace(level).get_trace(y).nodes["y"]
        trained = with_natural_gradient(level, "y", node)
        log_prob = pyro.poutine.trace(trained).get_trace(y).log_prob_sum()
        (found,) = torch.autograd.grad(log_prob, loc)
        return float((y[0] / found[0]).sqrt().detach())  # the gradient is y / unit² at a location of 0

    y = Y.float()
    expected = float(y[there].std(correction=0))
    assert unit(y) == pytest.approx(unit(torch.where(there, y, -999.0)), rel=1e-5) == pytest.approx(expected, rel=1e-5)
    assert unit(torch.full((50,), 0.1)) == pytest.approx(1)


def test_components_that_share_a_parameter_are_not_fitted_by_maximum_likelihood():
    """Branches of slope 1 with noise 0.1 and slope 2 with noise 1, fitted by one slope and a noise for each.

    The maximum of the likelihood is near the slope of the sharp branch; natural gradients count both branches alike.
    """
    generator = torch.Generator().manual_seed(0)
    x, upper = torch.linspace(-1, 1, 400), torch.randint(2, (400,), generator=generator) == 0
    noise = torch.randn(400, generator=generator)
    y = torch.where(upper, 3 + x + 0.1 * noise, -3 + 2 * x + noise)

    def branches(x, y=None):
        slope = pyro.param("slope", torch.tensor(1.5))
        log_scale = pyro.param("log_scale", torch.tensor([-1.0, 0.0]))
        loc = torch.stack([3 + slope * x, -3 + slope * x], -1)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", Mixture.normal(torch.zeros(2), loc, log_scale.exp()), obs=y)

    settings = {"members": 1, "steps": 400, "engine": "replay", "progress": False}
    plain, natural_ = (
        float(infer(branches, x, y, method=Ensemble(gradient=gradient, **settings)).draws["slope"])
        for gradient in ("plain", "natural")
    )
    assert plain == pytest.approx(1.0, abs=0.05)
    assert natural_ == pytest.approx(1.5, abs=0.1)
