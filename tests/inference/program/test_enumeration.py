"""Which discrete sites can be enumerated, and the likelihood without those of each row."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import Posterior
from posterity.inference.program.enumeration import check_discrete, plate_nesting
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import trace

GENERATOR = torch.Generator().manual_seed(0)
X = torch.linspace(-1, 1, 7)
Y = torch.randn(7, generator=GENERATOR)
DRAWS = {
    "weights": torch.tensor([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]]),
    "loc": torch.randn(1, 2, 3, generator=GENERATOR),
}


def mixture(x, y=None):
    """Regression lines of three kinds; each row has its kind, and whether it is an outlier."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with pyro.plate("rows", len(x)):
        kind = pyro.sample("kind", dist.Categorical(weights))
        pyro.deterministic("mean", loc[kind] * x)
        outlier = pyro.sample("outlier", dist.Bernoulli(0.1 + 0.1 * kind))
        return pyro.sample("y", dist.Normal(loc[kind] * x, 1.0 + 4.0 * outlier), obs=y)


def exact(weights, loc, y):
    """The log density of each row, summed over the six pairs of values."""
    terms = []
    for kind in range(3):
        for outlier in (0, 1):
            share = 0.1 + 0.1 * kind
            log_share = torch.tensor(share if outlier else 1 - share).log()
            terms.append(weights[kind].log() + log_share + dist.Normal(loc[kind] * X, 1.0 + 4 * outlier).log_prob(y))
    return torch.logsumexp(torch.stack(terms), 0)


@pytest.fixture(scope="module")
def posterior():
    return Posterior(mixture, inspect(mixture, (X, Y)), DRAWS)


def test_the_likelihood_of_a_row_is_the_mixture_over_its_discrete_sites(posterior):
    expected = torch.stack([exact(DRAWS["weights"][0, s], DRAWS["loc"][0, s], Y) for s in range(2)])
    torch.testing.assert_close(posterior.log_likelihood(X, Y)[0], expected)
    assert posterior.likelihood(X).component_distribution.batch_shape == (2, 7, 6)
    predictive = posterior.predictive(X)
    torch.testing.assert_close(predictive.log_prob(Y), torch.logsumexp(expected, 0) - torch.tensor(2.0).log())
    assert predictive.quantiles(torch.tensor([0.1, 0.9])).shape == (7, 2)


def test_arviz_has_no_discrete_sites_and_no_sites_that_depend_on_them(posterior):
    data = posterior.to_arviz(X, Y, log_prior=True)
    assert set(data.posterior.data_vars) == set(data.log_prior.data_vars) == {"weights", "loc"}
    np.testing.assert_allclose(data.log_likelihood["y"], posterior.log_likelihood(X, Y))


def test_masked_rows_have_no_log_density(posterior):
    kept = torch.arange(7) != 3

    def masked(x, y=None):
        with pyro.poutine.mask(mask=kept):
            return mixture(x, y)

    log_prob = Posterior(masked, inspect(masked, (X, Y)), DRAWS).log_likelihood(X, Y)
    torch.testing.assert_close(log_prob, torch.where(kept, posterior.log_likelihood(X, Y), 0.0))


def test_rows_that_share_a_discrete_site_have_no_likelihood_of_their_own():
    def model(x, y=None):
        k, a = pyro.sample("k", dist.Bernoulli(0.3)), pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            return pyro.sample("y", dist.Normal(a + k * x, 1.0), obs=y)

    posterior = Posterior(model, inspect(model, (X, Y)), {"a": torch.zeros(1, 2)})
    for call in (lambda: posterior.predictive(X), lambda: posterior.log_likelihood(X, Y)):
        with pytest.raises(ValueError, match="expected discrete latent sites of each row alone, got 'k', on which"):
            call()


def test_a_continuous_site_of_each_row_that_depends_on_a_discrete_one_has_no_likelihood():
    def model(x, y=None):
        loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("rows", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.3)).long()
            own = pyro.sample("own", dist.Normal(loc[k], 1.0))
            return pyro.sample("y", dist.Normal(own, 1.0), obs=y)

    draws = {"loc": torch.zeros(1, 2, 2), "own": torch.zeros(1, 2, 7)}
    posterior = Posterior(model, inspect(model, (X, Y)), draws)
    with pytest.raises(ValueError, match="continuous latent sites that do not depend on discrete ones, got 'own'"):
        posterior.predictive(X)


# Sites


def node(fn, plates=()):
    def model():
        with pyro.plate_stack("plates", plates):
            pyro.sample("k", fn)

    return trace(model, (), seed=0)["k"]


def test_sites_with_finite_support_can_be_enumerated():
    assert check_discrete("k", node(dist.Categorical(torch.ones(3))))
    assert check_discrete("k", node(dist.OneHotCategorical(torch.ones(3)), (4,)))
    assert check_discrete("k", node(dist.Binomial(5, 0.5)))
    assert not check_discrete("k", node(dist.Normal(0.0, 1.0), (4,)))
    for fn in (dist.Poisson(2.0), dist.Geometric(0.5), dist.Bernoulli(torch.full((3,), 0.5)).to_event(1)):
        with pytest.raises(ValueError, match=r"expected continuous latent sites, or .* finite support .*, got 'k'"):
            check_discrete("k", node(fn))


def test_elements_of_a_discrete_site_must_be_in_plates():
    with pytest.raises(
        ValueError, match=r"dimensions of the discrete latent site 'k' in plates, got .* \(3,\) with .*"
    ):
        check_discrete("k", node(dist.Bernoulli(torch.full((3,), 0.5))))


def test_plates_and_batches_take_the_dimensions_on_the_right():
    def model():
        with pyro.plate("outer", 2, dim=-3):
            pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(torch.zeros(4), 1.0))

    assert plate_nesting(trace(model, (), seed=0).values()) == 3
    assert plate_nesting([]) == 0
