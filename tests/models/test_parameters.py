import contextlib
import copy
from typing import ClassVar

import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td

from posterity.models import Mixture
from posterity.models.parameters import map_parameters, split

B = 4
GENERATOR = torch.Generator().manual_seed(0)
TRIL = torch.tensor([[1.0, 0.0], [0.6, 0.8]])


def t(*shape, low=0.2, high=0.9):
    return low + (high - low) * torch.rand(*shape, generator=GENERATOR)


CASES = {
    "Normal": dist.Normal(t(B), t(B)),
    "torch's Normal": td.Normal(t(B), t(B)),
    "Normal with a number": dist.Normal(t(B), 1.0),
    "Normal, expanded": dist.Normal(0.0, 1.0).expand([B]),
    "LogNormal": dist.LogNormal(t(B), t(B)),
    "LogNormal, expanded": dist.LogNormal(0.0, 1.0).expand([B]),
    "Beta": dist.Beta(t(B), t(B)),
    "Gamma": dist.Gamma(t(B), t(B)),
    "InverseGamma": dist.InverseGamma(t(B), t(B)),
    "Chi2": dist.Chi2(t(B)),
    "Exponential": dist.Exponential(t(B)),
    "HalfNormal": dist.HalfNormal(t(B)),
    "HalfCauchy": dist.HalfCauchy(t(B)),
    "StudentT": dist.StudentT(4.0, t(B), t(B)),
    "Laplace": dist.Laplace(t(B), t(B)),
    "Cauchy": dist.Cauchy(t(B), t(B)),
    "Gumbel": dist.Gumbel(t(B), t(B)),
    "Uniform": dist.Uniform(t(B), 2 + t(B)),
    "Weibull": dist.Weibull(t(B), t(B)),
    "Pareto": dist.Pareto(t(B), t(B)),
    "VonMises": dist.VonMises(t(B), t(B)),
    "Kumaraswamy": dist.Kumaraswamy(t(B), t(B)),
    "Poisson": dist.Poisson(t(B)),
    "GammaPoisson": dist.GammaPoisson(t(B), t(B)),
    "ZeroInflatedPoisson": dist.ZeroInflatedPoisson(t(B), gate=t(B)),
    "Bernoulli probs": dist.Bernoulli(probs=t(B)),
    "Bernoulli logits": dist.Bernoulli(logits=t(B)),
    "Binomial": dist.Binomial(5, probs=t(B)),
    "NegativeBinomial probs": dist.NegativeBinomial(t(B), probs=t(B)),
    "NegativeBinomial logits": dist.NegativeBinomial(5.0, logits=t(B)),
    "BetaBinomial": dist.BetaBinomial(t(B), t(B), 5),
    "Geometric": dist.Geometric(t(B)),
    "Categorical logits": dist.Categorical(logits=t(B, 3)),
    "Categorical probs": dist.Categorical(probs=t(B, 3)),
    "OneHotCategorical logits": dist.OneHotCategorical(logits=t(B, 3)),
    "OneHotCategorical probs": dist.OneHotCategorical(probs=t(B, 3)),
    "Multinomial": dist.Multinomial(7, probs=t(B, 3)),
    "OrderedLogistic": dist.OrderedLogistic(t(B), torch.tensor([0.0, 1.0])),
    "Dirichlet": dist.Dirichlet(t(B, 3)),
    "DirichletMultinomial": dist.DirichletMultinomial(t(B, 3), 6),
    "MultivariateNormal tril": dist.MultivariateNormal(t(B, 2), scale_tril=TRIL),
    "MultivariateNormal covariance": dist.MultivariateNormal(t(B, 2), covariance_matrix=TRIL @ TRIL.T),
    "MultivariateNormal precision": dist.MultivariateNormal(t(B, 2), precision_matrix=TRIL @ TRIL.T),
    "LowRankMultivariateNormal": dist.LowRankMultivariateNormal(t(B, 2), t(B, 2, 1), t(B, 2)),
    "Independent": dist.Normal(t(B, 2), t(B, 2)).to_event(1),
    "Independent twice": dist.Laplace(t(B, 2, 3), t(B, 2, 3)).to_event(2),
    "Independent of Bernoulli": dist.Bernoulli(probs=t(B, 2)).to_event(1),
    "MixtureSameFamily": dist.MixtureSameFamily(dist.Categorical(logits=t(B, 3)), dist.Normal(t(B, 3), t(B, 3))),
    "Mixture of one set of weights": Mixture(dist.Categorical(logits=t(3)), dist.Normal(t(B, 3), t(B, 3))),
    "mixture of MultivariateNormal": dist.MixtureSameFamily(
        dist.Categorical(probs=t(B, 3)), dist.MultivariateNormal(t(B, 3, 2), scale_tril=TRIL)
    ),
    "Mixture": Mixture.normal(t(B, 3), t(B, 3), t(B, 3)),
    "Mixture, expanded": Mixture.normal(t(3), t(3), t(3)).expand([B]),
    "Mixture, to_event": Mixture.normal(t(B, 2, 3), t(B, 2, 3), t(B, 2, 3)).to_event(1),
    "TransformedDistribution": dist.TransformedDistribution(
        dist.Normal(t(B), t(B)), [td.AffineTransform(t(B), t(B)), td.ExpTransform()]
    ),
    "a power with a parameter": dist.TransformedDistribution(
        dist.Normal(t(B), t(B)), [td.ExpTransform(), td.PowerTransform(t(B))]
    ),
    "a chain of transforms and an inverse": dist.TransformedDistribution(
        dist.Normal(t(B), t(B)),
        [td.ComposeTransform([td.ExpTransform(), td.AffineTransform(0.0, t(B))]), td.AffineTransform(0.0, t(B)).inv],
    ),
    "ZeroInflatedDistribution": dist.ZeroInflatedDistribution(dist.NegativeBinomial(t(B), probs=t(B)), gate=t(B)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_distribution_is_rebuilt_from_its_parameters(name):
    distribution = CASES[name]
    y = distribution.sample()
    tensors, rebuild = split(distribution)
    rebuilt = rebuild(tensors)
    assert type(rebuilt) is type(distribution)
    assert rebuilt.batch_shape == distribution.batch_shape
    assert rebuilt.event_shape == distribution.event_shape
    torch.testing.assert_close(rebuilt.log_prob(y), distribution.log_prob(y))


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_the_full_batch_shape(name):
    distribution = CASES[name]
    tensors, _ = split(distribution)
    assert all(tensor.shape[: len(distribution.batch_shape)] == distribution.batch_shape for tensor in tensors)


@pytest.mark.parametrize("name", CASES)
def test_dimensions_added_to_the_left_are_batch_dimensions(name):
    """The rows are permuted, so that a wrong order is detected."""
    distribution = CASES[name]
    y = distribution.sample()
    order = torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2]])
    both = map_parameters(distribution, lambda tensor: tensor[order])
    assert both.batch_shape == (2, *distribution.batch_shape)
    torch.testing.assert_close(both.log_prob(y[order]), distribution.log_prob(y)[order])


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"OrderedLogistic"}))  # Pyro's own does not run under vmap
def test_parameters_leave_vmap_and_come_back(name):
    """As a likelihood does: each of three draws shifts the parameters, or keeps them, under vmap."""
    distribution = CASES[name]
    y = distribution.sample()
    tensors, rebuild = split(distribution)
    factors = torch.tensor([1.0, 0.5, 0.9])
    state = {}

    def one(factor):
        moved = rebuild([tensor * factor if tensor.is_floating_point() else tensor for tensor in tensors])
        leaving, state["rebuild"] = split(moved)
        return tuple(leaving)

    batched = torch.func.vmap(one)(factors)
    together = state["rebuild"](list(batched))
    assert together.batch_shape == (3, *distribution.batch_shape)
    found = together.log_prob(y.expand(3, *y.shape))
    torch.testing.assert_close(found[0], distribution.log_prob(y), atol=1e-5, rtol=1e-4)


LAZY = ("probs", "logits", "covariance_matrix", "scale_tril", "precision_matrix")


@pytest.mark.parametrize("name", CASES)
def test_parameters_read_before_do_not_confuse(name):
    """torch caches the parameters that it computes from the given one."""
    distribution = copy.copy(CASES[name])
    y = distribution.sample()
    for part in (distribution, getattr(distribution, "mixture_distribution", None)):
        for parameter in LAZY:
            with contextlib.suppress(ValueError):  # of a mixture of one target there is no covariance
                getattr(part, parameter, None)
    expected = distribution.log_prob(y)
    torch.testing.assert_close(map_parameters(distribution, torch.clone).log_prob(y), expected)


def test_of_two_parametrisations_the_given_one_is_kept():
    """A probability of exactly zero has no finite logit: through logits it would become 1e-7."""
    distribution = dist.Categorical(probs=torch.tensor([0.0, 0.25, 0.75]))
    distribution.logits  # noqa: B018
    assert map_parameters(distribution, torch.clone).probs.tolist() == [0.0, 0.25, 0.75]


def test_a_mask_is_dropped():
    masked = dist.Normal(t(B), t(B)).mask(torch.tensor([True, False, True, False]))
    rebuilt = map_parameters(masked, torch.clone)
    y = torch.zeros(B)
    torch.testing.assert_close(rebuilt.log_prob(y), masked.base_dist.log_prob(y))


def test_float64_is_kept():
    distribution = map_parameters(dist.Normal(t(B), t(B)), torch.Tensor.double)
    assert distribution.mean.dtype == torch.double


def test_parameters_with_transforms_of_their_own_raise():
    vector = dist.TransformedDistribution(dist.Normal(t(B, 2), t(B, 2)).to_event(1), [td.ExpTransform()])
    with pytest.raises(ValueError, match="expected a transformed distribution of scalar events"):
        split(vector)
    for lost in (td.CumulativeDistributionTransform(td.Normal(t(B), t(B))), td.StackTransform([td.ExpTransform()])):
        with pytest.raises(ValueError, match=r"expected (affine|a transformed distribution of scalar)"):
            split(dist.TransformedDistribution(dist.Normal(t(B), t(B)), [lost]))


def test_an_unknown_kind_raises():
    class Unknown(torch.distributions.Distribution):
        arg_constraints: ClassVar = {}

    with pytest.raises(ValueError, match="expected a distribution with arg_constraints, got Unknown"):
        split(Unknown())


def test_lazy_parameters_are_not_computed_to_see_whether_they_are_there() -> None:
    tril = torch.eye(2).expand(3, 4, 2, 2)
    normal = td.MultivariateNormal(torch.zeros(3, 4, 2), scale_tril=tril)
    mapped = map_parameters(normal, lambda tensor: tensor[1:])
    assert mapped.batch_shape == (2, 4)
    for distribution in (normal, mapped):
        assert not {"precision_matrix", "covariance_matrix"} & vars(distribution).keys()
