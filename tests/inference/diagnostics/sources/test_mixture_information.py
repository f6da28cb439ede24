"""Mutual information by samples: two ways to the density, weights of zero, and the budget."""

import math

import numpy as np
import pyro.distributions as dist
import torch

from posterity.inference import PredictiveMixture
from posterity.inference.diagnostics.decomposition.information import information_split
from posterity.inference.diagnostics.sources import mixture_information as _mixture_information


def normals(loc, scale) -> PredictiveMixture:
    loc, scale = (torch.as_tensor(value, dtype=torch.double) for value in (loc, scale))
    return PredictiveMixture.from_draws(dist.Normal(loc, scale))


def test_normals_by_a_matrix_product_are_those_of_the_density():
    """The same numbers from the family's own log_prob, with means far from 0 and scales far apart; seed 1."""
    generator = torch.Generator().manual_seed(1)
    loc = 1e4 + 5 * torch.randn(20, 6, generator=generator).double()
    scale = torch.randn(20, 6, generator=generator).double().mul(2).exp()
    log_weights = torch.randn(6, 20, generator=generator).double().log_softmax(-1)
    components = dist.Normal(loc.T, scale.T)
    y = components.sample(torch.Size([3]))[..., 0]
    found = _mixture_information._joint(components, log_weights, y)
    torch.testing.assert_close(found, components.log_prob(y[..., None]) + log_weights, rtol=1e-6, atol=1e-6)


def test_draws_of_no_weight_and_values_out_of_range_do_not_count():
    """A third draw of no weight changes nothing; of a log-normal nothing is below 0, which is no nan."""
    loc = torch.tensor([[0.0], [2.0], [50.0]]).double().expand(3, 200)
    weights = torch.tensor([0.0, 0.0, -torch.inf])
    with_none = information_split(PredictiveMixture.from_draws(dist.Normal(loc, 1.0), weights), samples=64)
    without = information_split(normals(loc[:2], torch.tensor(1.0)), samples=64)
    difference = float(with_none.mutual_information.mean() - without.mutual_information.mean())
    assert abs(difference) < 4 * math.sqrt(2) * float((without.mutual_information_se**2).sum()) ** 0.5 / 200
    narrow = dist.Uniform(torch.tensor([[0.0], [10.0]]).double(), torch.tensor([[1.0], [11.0]]).double())
    apart = information_split(PredictiveMixture.from_draws(narrow), samples=8)
    np.testing.assert_allclose(apart.mutual_information, math.log(2), rtol=1e-9)


def test_samples_keep_within_their_budget():
    assert information_split(normals(torch.zeros(2, 3), torch.tensor(1.0))).attrs["samples"] == 512
    large = normals(torch.zeros(1, 1), torch.tensor(1.0)).expand(torch.Size([10_000_000]))
    assert _mixture_information.default_samples(large) == 30
