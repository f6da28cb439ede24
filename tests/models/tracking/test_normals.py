"""Normals of two dimensions, against torch's, and moments of weighted points. Seed 0."""

import torch
from torch.distributions import MultivariateNormal

from posterity.models.tracking.normals import grid_moments, log_normal


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
    points = torch.randn(50, 2, dtype=torch.double, generator=random)
    weights = torch.rand(3, 4, 50, dtype=torch.double, generator=random)
    weights = weights / weights.sum(-1, keepdim=True)
    loc, tril = grid_moments(weights, points, 0.12)
    torch.testing.assert_close(loc[..., 0, :], torch.einsum("nmp,pd->nmd", weights, points))
    away = points - loc
    covariance = torch.einsum("nmp,nmpi,nmpj->nmij", weights, away, away) + 0.01 * torch.eye(2)
    torch.testing.assert_close(tril @ tril.mT, covariance)


def test_one_point_alone_is_as_wide_as_its_square():
    loc, tril = grid_moments(torch.tensor([1.0, 0.0]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 0.48)
    assert loc.tolist() == [[3.0, 4.0]]
    torch.testing.assert_close(tril, 0.2 * torch.eye(2))
