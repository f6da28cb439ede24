"""Normals of two dimensions, against torch's, and the mixture that is nearest to weighted points. Seed 0."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from posterity.models.tracking.normals import log_normal, moment, moments, shares


def normals(count):
    random = torch.Generator().manual_seed(0)
    tril = torch.diag_embed(0.2 + torch.rand(count, 2, dtype=torch.double, generator=random))
    tril[:, 1, 0] = torch.randn(count, dtype=torch.double, generator=random)
    return torch.randn(count, 2, dtype=torch.double, generator=random), tril


def test_densities_are_those_of_torch():
    loc, tril = normals(7)
    x = torch.randn(5, 1, 2, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(log_normal(x, loc, tril), MultivariateNormal(loc, scale_tril=tril).log_prob(x))


def test_moments_are_those_of_the_points_and_of_their_squares():
    random = torch.Generator().manual_seed(0)
    points = torch.randn(3, 50, 2, dtype=torch.double, generator=random)
    weights = torch.rand(3, 50, 4, dtype=torch.double, generator=random)
    weights = weights / weights.sum(1, keepdim=True)
    loc, tril = moments(weights, points, 0.12)
    torch.testing.assert_close(loc, torch.einsum("npk,npd->nkd", weights, points))
    away = points[:, :, None] - loc[:, None]
    covariance = torch.einsum("npk,npki,npkj->nkij", weights, away, away) + 0.01 * torch.eye(2)
    torch.testing.assert_close(tril @ tril.mT, covariance)
    whole = moment(weights[..., 1], points, 0.12)
    torch.testing.assert_close(whole[0][:, 0], loc[:, 1])
    torch.testing.assert_close(whole[1], tril[:, 1])


def test_one_point_alone_is_as_wide_as_its_square():
    loc, tril = moments(torch.tensor([[1.0], [0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 0.48)
    assert loc.tolist() == [[3.0, 4.0]]
    torch.testing.assert_close(tril[0], 0.2 * torch.eye(2))


def divergence(points, weights, found, area):
    """Of the mixture that has these shares, from the points: sum of w log w - w log(density * area)."""
    pieces = weights[..., None] * found
    total = pieces.sum(-2)
    loc, tril = moments(pieces / total[..., None, :], points, area)
    density = (log_normal(points[:, None], loc, tril) + total.log()).logsumexp(-1)
    return float((weights * (weights.log() - density)).sum())


def test_every_round_brings_the_mixture_nearer_to_a_uniform_square():
    along = torch.linspace(-1, 1, 30, dtype=torch.double)
    points = torch.cartesian_prod(along, along)
    weights = torch.full((900,), 1 / 900, dtype=torch.double)
    starts = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.double)
    area = float(along[1] - along[0]) ** 2
    far = [divergence(points, weights, shares(weights, points, area, starts, n), area) for n in (0, 1, 2, 4, 8)]
    assert far == sorted(far, reverse=True)
    one = divergence(points, weights, torch.ones(900, 1, dtype=torch.double), area)
    assert far[-1] < one - 0.1


def test_two_heaps_are_told_apart():
    random = torch.Generator().manual_seed(0)
    heaps = torch.randn(2, 400, 2, dtype=torch.double, generator=random) * torch.tensor([[[0.2]], [[0.5]]])
    points = torch.cat([heaps[0] - 3, heaps[1] + 3])
    weights = torch.full((800,), 1 / 800, dtype=torch.double)
    found = shares(weights, points, 0.0, torch.tensor([[-0.5, 0.0], [0.5, 0.3]], dtype=torch.double), 20)
    torch.testing.assert_close(found.sum(-1), torch.ones(800, dtype=torch.double))
    assert float(found[:400, 0].min()) > 0.999
    assert float(found[400:, 1].min()) > 0.999
    _, tril = moments(weights[:, None] * found * 2, points, 0.0)
    assert float(tril[0, 0, 0]) == pytest.approx(0.2, rel=5 / 800**0.5)
    assert float(tril[1, 0, 0]) == pytest.approx(0.5, rel=5 / 800**0.5)
