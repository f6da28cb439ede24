"""The likelihood over draws, against Pyro at one draw at a time."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.inference.program.likelihood import likelihood_over_draws
from posterity.models import bayesian, gaussian, heteroscedastic_gaussian, mixture_head, mlp, point, priors, student_t
from tests.inference.program.cases import varying_slopes

N, S = 6, 5
X = torch.linspace(-1, 1, N)[:, None]
NET1, NET2, NET6, NET3 = mlp(1, 4, 1, seed=0), mlp(1, 4, 2, seed=1), mlp(1, 4, 6, seed=2), mlp(1, 4, 3, seed=3)
CONVOLUTION = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))


def simple(likelihood, net=NET1, prior=None):
    """A model of one network whose features become the distribution of y, in the plate "obs"."""

    def model(x, y=None):
        features = bayesian("net", net, prior)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", likelihood(features), obs=y)

    return model


def with_noise(x, y=None):
    features = bayesian("net", NET1)(x)
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, noise), obs=y)


def masked(x, y=None):
    features = bayesian("net", NET1)(x)
    with pyro.plate("obs", len(x)), pyro.poutine.mask(mask=x[:, 0] > 0):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def without_plate(x, y=None):
    return pyro.sample("y", gaussian(bayesian("net", NET1)(x), 0.3).to_event(1), obs=y)


def with_decay(x, y=None):
    features = point("net", NET1, decay=1.0)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def covariance(x, y=None):
    scale = pyro.sample("scale", dist.HalfNormal(torch.ones(2)).to_event(1))
    tril = scale[:, None] * pyro.sample("corr", dist.LKJCholesky(2, 1.0))
    loc = bayesian("net", NET2)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.MultivariateNormal(loc, scale_tril=tril), obs=y)


MODELS = {
    "Gaussian": (with_noise, X),
    "heteroscedastic": (simple(heteroscedastic_gaussian, NET2), X),
    "mixture density": (simple(mixture_head(2), NET6), X),
    "Student-t": (simple(lambda f: student_t(f, 0.5, 4.0)), X),
    "to_event": (simple(lambda f: dist.Normal(f, 0.5).to_event(1), NET2), X),
    "no plate": (without_plate, X),
    "masked": (masked, X),
    "hierarchical prior": (simple(lambda f: gaussian(f, 0.3), prior=priors.HierarchicalNormal()), X),
    "horseshoe": (simple(lambda f: gaussian(f, 0.3), prior=priors.Horseshoe()), X),
    "classifier": (simple(lambda f: dist.Categorical(logits=f), CONVOLUTION), torch.randn(N, 1, 4, 4)),
    "one hot": (simple(lambda f: dist.OneHotCategorical(logits=f), NET3), X),
    "Bernoulli": (simple(lambda f: dist.Bernoulli(logits=f[:, 0])), X),
    "Poisson": (simple(lambda f: dist.Poisson(f[:, 0].exp())), X),
    "negative binomial": (simple(lambda f: dist.NegativeBinomial(4.0, logits=f[:, 0])), X),
    "multinomial": (simple(lambda f: dist.Multinomial(5, logits=f), NET3), X),
    "Beta": (simple(lambda f: dist.Beta(f[:, 0].exp(), f[:, 1].exp()), NET2), X),
    "LogNormal": (simple(lambda f: dist.LogNormal(f[:, 0], f[:, 1].exp()), NET2), X),
    "Gamma": (simple(lambda f: dist.Gamma(f[:, 0].exp(), f[:, 1].exp()), NET2), X),
    "groups and deterministic": (varying_slopes, X),
    "full covariance": (covariance, X),
    "mixture of events": (
        simple(
            lambda f: dist.MixtureSameFamily(
                dist.Categorical(logits=f[:, :2]),
                dist.Normal(f[:, 2:].unflatten(-1, (2, 2)), 0.4).to_event(1),
            ),
            NET6,
        ),
        X,
    ),
}


def prior_draws(model, x):
    """S independent draws of all latent sites, stacked."""
    traces = [pyro.poutine.trace(model).get_trace(x) for _ in range(S)]
    latents = [n for n in traces[0].stochastic_nodes if n not in ("y", "obs", "groups")]
    return {n: torch.stack([trace.nodes[n]["value"].detach() for trace in traces]) for n in latents}


@pytest.mark.parametrize("name", MODELS)
def test_all_draws_at_once_equal_a_loop_over_draws(name):
    """Against Pyro itself: `condition` on one draw at a time; density to 1e-5, each deterministic site exactly."""
    model, x = MODELS[name]
    draws = prior_draws(model, x)
    y = model(x).detach()
    likelihood, deterministics = likelihood_over_draws(model, (x,), draws, "y")
    for s in range(S):
        conditioned = pyro.poutine.condition(model, data={n: v[s] for n, v in draws.items()})
        nodes = pyro.poutine.trace(conditioned).get_trace(x).nodes
        fn = nodes["y"]["fn"]
        fn = fn.base_dist if hasattr(fn, "_mask") else fn
        torch.testing.assert_close(likelihood.log_prob(y)[s], fn.log_prob(y), atol=1e-5, rtol=1e-5)
        for site, values in deterministics.items():
            torch.testing.assert_close(values[s], nodes[site]["value"])
    assert likelihood.batch_shape[0] == S
    assert type(likelihood).__name__ == type(fn).__name__


def test_deterministic_sites_come_with_the_likelihood():
    draws = prior_draws(varying_slopes, X)
    _, deterministics = likelihood_over_draws(varying_slopes, (X,), draws, "y")
    torch.testing.assert_close(deterministics["slope"], draws["overall"][:, None] + 0.5 * draws["own"])


def test_chunks_change_nothing():
    draws = prior_draws(with_noise, X)
    whole, _ = likelihood_over_draws(with_noise, (X,), draws, "y")
    parts, _ = likelihood_over_draws(with_noise, (X,), draws, "y", chunk_size=2)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.variance, whole.variance)


def test_draws_of_parameters_take_their_place():
    weights = {f"net.{n}": torch.randn(S, *p.shape) for n, p in NET1.named_parameters()}
    likelihood, _ = likelihood_over_draws(with_decay, (X,), weights, "y")
    for s in range(S):
        state = {n.removeprefix("net."): v[s] for n, v in weights.items()}
        expected = torch.func.functional_call(NET1, state, (X,))[:, 0]
        torch.testing.assert_close(likelihood.mean[s], expected.detach())


def test_other_inputs_than_those_of_training():
    draws = prior_draws(with_noise, X)
    assert likelihood_over_draws(with_noise, (torch.zeros(11, 1),), draws, "y")[0].batch_shape == (S, 11)


def test_a_site_that_belongs_to_each_row_cannot_move_to_other_rows():
    def local(x, y=None):
        with pyro.plate("obs", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            return pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    draws = {"z": torch.randn(S, N)}
    torch.testing.assert_close(likelihood_over_draws(local, (X,), draws, "y")[0].mean, draws["z"])
    with pytest.raises(ValueError, match=r"expected draws of 'z' of shape \(9,\) with these inputs, got \(6,\)"):
        likelihood_over_draws(local, (torch.zeros(9, 1),), draws, "y")


def test_random_numbers_of_the_models_own_raise():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w * x[:, 0] + torch.randn(len(x)), 1.0), obs=y)

    with pytest.raises(
        ValueError, match=r"expected all randomness in pyro.sample statements .* random numbers outside"
    ):
        likelihood_over_draws(model, (X,), {"w": torch.zeros(S)}, "y")


def test_dropout_in_training_mode_raises_and_in_evaluation_mode_works():
    net = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    model = simple(lambda f: gaussian(f, 0.3), net)
    draws = {f"net.{n}": torch.randn(S, *p.shape) for n, p in net.named_parameters()}
    with pytest.raises(ValueError, match=r"dropout off: module.eval\(\)"):
        likelihood_over_draws(model, (X,), draws, "y")
    net.eval()
    assert likelihood_over_draws(model, (X,), draws, "y")[0].batch_shape == (S, N)


def test_draws_that_do_not_fit_raise():
    draws = prior_draws(with_noise, X)
    with pytest.raises(ValueError, match=r"expected draws of one number for all sites, got \[4, 5\]"):
        likelihood_over_draws(with_noise, (X,), {**draws, "noise": torch.ones(4)}, "y")
    missing = {n: v for n, v in draws.items() if n != "noise"}
    with pytest.raises(ValueError, match="expected draws of every latent site, got none of 'noise'"):
        likelihood_over_draws(with_noise, (X,), missing, "y")
    with pytest.raises(ValueError, match="expected the model to reach site 'z'"):
        likelihood_over_draws(lambda x: pyro.sample("w", dist.Normal(0.0, 1.0)), (X,), {"w": torch.zeros(S)}, "z")


def test_validation_is_off_inside_and_as_before_after():
    seen = []

    def model(x, y=None):
        seen.append(torch.distributions.Distribution._validate_args)
        return with_noise(x, y)

    likelihood_over_draws(model, (X,), prior_draws(with_noise, X), "y")
    assert seen == [False]
    assert torch.distributions.Distribution._validate_args
