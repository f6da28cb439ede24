"""Densities and interval probabilities in chunks, against those of the mixture."""

import math

import torch

from posterity.models.mixtures import density
from tests.mixture_cases import random_mixture


def test_densities_in_blocks_are_those_of_the_mixture_wherever_they_are_small():
    """Against `log_prob` and the distribution functions, from the centre to 60 scales away, and at infinite points."""
    mixture = random_mixture(7, components=300, seed=3)
    ends = torch.tensor([0.0, 1.0, 8.0, 60.0, 1e3, 1e4, math.inf, -math.inf]).double()[:, None]
    for value in (
        ends + torch.linspace(0, 1, 7),
        torch.linspace(-9, 9, 700).double()[:, None] + torch.linspace(0, 1, 7),
    ):
        finite = value.isfinite()
        expected = mixture.log_prob(value.nan_to_num(0.0, 0.0, 0.0)).masked_fill(~finite, -math.inf)
        torch.testing.assert_close(density.log_density(mixture, value), expected, rtol=1e-12, atol=1e-12)
    low, high = (
        torch.tensor([-math.inf, -math.inf, -1.0, 9.0, 30.0]),
        torch.tensor([math.inf, 0.5, 1.0, math.inf, 31.0]),
    )
    found = density.interval_probability(mixture, *(end.double()[:, None].expand(5, 7) for end in (low, high)))
    zero = torch.zeros(7).double()
    cdf, sf = mixture.cdf, mixture.sf
    above = [sf(zero + 9), sf(zero + 30) - sf(zero + 31)]
    expected = torch.stack([zero + 1, cdf(zero + 0.5), cdf(zero + 1) - cdf(zero - 1), *above])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
