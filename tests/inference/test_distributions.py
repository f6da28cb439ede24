"""Distributions of Pyro from `infer` to ArviZ: the gradient is that of Pyro's potential, scores are their own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model

from posterity.inference import NUTS, infer
from posterity.inference.engine import Density, prepare
from posterity.random import seeded

ROWS = 5
X = torch.linspace(-1.0, 1.0, ROWS)
STEPS = 6
IDENTITY = torch.eye(2)


def normal(name: str, *shape: int) -> Any:
    return pyro.sample(name, dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape)))


def positive(name: str, *shape: int) -> Any:
    return pyro.sample(name, dist.LogNormal(torch.zeros(shape), 0.3).to_event(len(shape)))


def simplex(name: str, size: int) -> Any:
    return pyro.sample(name, dist.Dirichlet(torch.full((size,), 2.0)))


# Each draws its parameters and returns the distribution of the rows of x.


def discrete_hmm(x):
    transition = pyro.sample("transition", dist.Dirichlet(torch.tensor([[4.0, 2.0], [2.0, 4.0]])).to_event(1))
    observed = dist.Normal(normal("loc", 2) + x[:, None, None], 1.0)
    return dist.DiscreteHMM(torch.zeros(2), transition.log(), observed, duration=STEPS)


def gaussian_hmm(x):
    initial = dist.MultivariateNormal(torch.zeros(2), IDENTITY)
    moves = dist.MultivariateNormal(torch.zeros(2), positive("noise") * IDENTITY)
    observed = dist.MultivariateNormal(torch.zeros(1), torch.eye(1))
    transition = IDENTITY * torch.tanh(normal("memory"))
    return dist.GaussianHMM(initial, transition, moves, torch.ones(2, 1), observed, duration=STEPS).expand([len(x)])


def ordered_logistic(x):
    steps = normal("steps", 2)
    return dist.OrderedLogistic(normal("slope") * x, torch.cumsum(torch.stack([steps[0], steps[1].exp()]), -1))


def multinomial(x):
    return dist.Multinomial(5, simplex("probs", 3)).expand([len(x)])


def diagonal_normals(x):
    return dist.MixtureOfDiagNormals(normal("loc", 2, 3), positive("scale", 2, 3), normal("logits", 2)).expand([len(x)])


def low_rank(x):
    return dist.LowRankMultivariateNormal(x[:, None].expand(-1, 3), normal("factor", 3, 1), positive("diagonal", 3))


def wishart(x):
    precision = pyro.sample("precision", dist.Wishart(torch.tensor(4.0), IDENTITY))
    return dist.MultivariateNormal(torch.zeros(2), precision_matrix=precision).expand([len(x)])


def beta_mixture(x):
    beta = dist.Beta(1 + positive("a", 2), 1 + positive("b", 2))
    return dist.MixtureSameFamily(dist.Categorical(simplex("weights", 2)), beta).expand([len(x)])


def binomial_mixture(x):
    binomial = dist.Binomial(5, logits=normal("logits", 2))
    return dist.MixtureSameFamily(dist.Categorical(simplex("weights", 2)), binomial).expand([len(x)])


def lkj(x):
    factor = positive("sd", 2)[:, None] * pyro.sample("factor", dist.LKJCholesky(2, 2.0))
    return dist.MultivariateNormal(torch.zeros(2), scale_tril=factor).expand([len(x)])


def dirichlet(x):
    return dist.Dirichlet(positive("concentration", 3)).expand([len(x)])


def von_mises(x):
    return dist.VonMises(normal("loc") + x, positive("concentration"))


def gamma_poisson(x):
    return dist.GammaPoisson(positive("a") * x.exp(), positive("b"))


def zero_inflated_poisson(x):
    return dist.ZeroInflatedPoisson(positive("rate") * x.exp(), gate=pyro.sample("gate", dist.Beta(2.0, 2.0)))


def beta_binomial(x):
    return dist.BetaBinomial(positive("a") * x.exp(), positive("b"), total_count=5)


def student_t(x):
    return dist.StudentT(2 + positive("df"), normal("slope") * x, positive("scale"))


CASES = [
    discrete_hmm, gaussian_hmm, ordered_logistic, multinomial, diagonal_normals, low_rank, wishart, beta_mixture,
    binomial_mixture, lkj, dirichlet, von_mises, gamma_poisson, zero_inflated_poisson, beta_binomial, student_t,
]  # fmt: skip
NOT_OF_PYRO = (wishart,)  # Pyro's samplers have no bijection to positive definite matrices
NO_MEAN = (discrete_hmm, gaussian_hmm, diagonal_normals, ordered_logistic)
every_case = pytest.mark.parametrize("rows", CASES, ids=lambda case: case.__name__)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Singular sample detected"),  # torch says this of samples that are not
    pytest.mark.filterwarnings("ignore:the model runs on the tier 'eager'"),
]


def model_of(rows: Callable[..., Any]) -> Callable[..., Any]:
    def model(x, y=None):
        fn = rows(x)
        with pyro.plate("rows", len(x)):
            return pyro.sample("y", fn, obs=y)

    return model


def data_of(model: Callable[..., Any]) -> torch.Tensor:
    with seeded(1), torch.no_grad():
        return pyro.poutine.trace(model).get_trace(X).nodes["y"]["value"]


@every_case
def test_the_gradient_is_that_of_pyro_s_potential(rows):
    """On the fastest tier; if that is not the compiled one, the engine says why."""
    model = model_of(rows)
    y = data_of(model)
    density = Density(model, (X, y))
    q = 0.3 * torch.randn(3, density.dim, generator=torch.Generator().manual_seed(0))
    engine = prepare(density, q, calls=1000, threads=1)
    assert engine.kind == "lanes" or engine.reason
    value, grad = engine.gradient(q)
    if rows in NOT_OF_PYRO:
        with pyro.validation_enabled(False):
            grads, values = torch.func.vmap(torch.func.grad_and_value(density))(q)
        torch.testing.assert_close(value, values, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(grad, grads, rtol=1e-3, atol=1e-3)
        return
    potential = initialize_model(model, model_args=(X, y))[1]
    for row in range(3):
        leaf = q[row].clone().requires_grad_()
        free = {s.name: leaf[s.start : s.start + s.size].reshape(s.unconstrained) for s in density.sites}
        expected = -potential(free)
        expected.backward()
        torch.testing.assert_close(value[row], expected.detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(grad[row], leaf.grad, rtol=1e-3, atol=1e-3)


@every_case
def test_scores_and_predictions_are_those_of_the_distribution(rows):
    model = model_of(rows)
    y = data_of(model)
    method = NUTS(chains=2, warmup=3, draws=3, max_tree_depth=2, engine="eager", threads=1, progress=False)
    posterior = infer(model, X, y, method=method, seed=0)
    flat = {name: value.flatten(0, 1) for name, value in posterior.draws.items()}
    fns = []
    for draw in range(6):
        with pyro.poutine.condition(data={name: value[draw] for name, value in flat.items()}), torch.no_grad():
            fns.append(pyro.poutine.trace(model).get_trace(X).nodes["y"]["fn"])
    expected = torch.stack([fn.log_prob(y) for fn in fns])
    torch.testing.assert_close(posterior.log_likelihood(X, y).flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    likelihood = posterior.likelihood(X)
    torch.testing.assert_close(likelihood.log_prob(y), expected, rtol=1e-4, atol=1e-4)
    data = posterior.to_arviz(X, y, log_prior=True, predict=X[:2])
    assert data.posterior_predictive["y"].shape == (2, 3, *y.shape)
    assert data.predictions["y"].shape == (2, 3, 2, *y.shape[1:])
    np.testing.assert_allclose(data.log_likelihood["y"], posterior.log_likelihood(X, y))
    predictive = posterior.predictive(X)
    torch.testing.assert_close(
        predictive.log_prob(y), torch.logsumexp(expected, 0) - np.log(6), rtol=1e-4, atol=1e-4
    )  # fmt: skip
    if rows in NO_MEAN:
        with pytest.raises(
            ValueError, match=r"expected components (with a mean|whose mean is known in closed form), got"
        ):
            predictive.mean  # noqa: B018
    else:
        assert bool(torch.isfinite(predictive.mean).all())
