"""Clusters: where their centres are, how their points lie around them; tolerances of 5 standard errors, seed 0."""

import math

import pytest
import torch

from posterity.data import Clusters, grid, ring


def test_the_ring_and_the_grid_are_those_of_the_papers():
    eight = ring()
    assert eight.centres.shape == (8, 2)
    torch.testing.assert_close(eight.centres.norm(dim=-1), torch.ones(8))
    torch.testing.assert_close(eight.centres[1], torch.tensor([math.sqrt(0.5)] * 2))
    assert eight.sd == 0.01
    twenty_five = grid()
    assert twenty_five.centres.shape == (25, 2)
    assert sorted(set(twenty_five.centres.flatten().tolist())) == [-4, -2, 0, 2, 4]
    assert twenty_five.sd == 0.05


@pytest.mark.parametrize("clusters", [ring(), grid()], ids=["ring", "grid"])
def test_draws_lie_as_the_density_says(clusters):
    """All modes evenly, squared distances as of two normals, 98.9 % within 3 sd, and the entropy of the density."""
    n = 20_000
    draws = clusters.sample(n, seed=0)
    which, away = clusters.nearest(draws)
    count = len(clusters.centres)
    share = torch.bincount(which, minlength=count) / n
    error = math.sqrt((1 / count) * (1 - 1 / count) / n)
    assert float((share - 1 / count).abs().max()) < 5 * error
    assert float((away**2).mean()) == pytest.approx(2, abs=5 * 2 / math.sqrt(n))
    within = 1 - math.exp(-4.5)
    assert float((away < 3).double().mean()) == pytest.approx(within, abs=5 * math.sqrt(within * (1 - within) / n))
    entropy = math.log(count) + math.log(2 * math.pi * math.e * clusters.sd**2)
    assert float(-clusters.distribution.log_prob(draws).mean()) == pytest.approx(entropy, abs=5 / math.sqrt(n))


def test_the_same_seed_gives_the_same_points_and_leaves_torch_alone():
    before = torch.get_rng_state()
    assert torch.equal(ring().sample(10, seed=3), ring().sample(10, seed=3))
    assert not torch.equal(ring().sample(10, seed=3), ring().sample(10, seed=4))
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_no_set_of_clusters_is_refused():
    with pytest.raises(ValueError, match=r"expected centres of shape \(M, D\), got \(3,\)"):
        Clusters(torch.zeros(3), 0.1)
    with pytest.raises(ValueError, match=r"below a third of the smallest distance between centres, 2, got 0\.7"):
        grid(sd=0.7)
    with pytest.raises(ValueError, match=r"expected sd to be a finite number above 0, got 0.0"):
        ring(sd=0.0)
    with pytest.raises(ValueError, match="expected modes to be a whole number of 1 or more, got 0"):
        ring(0)
    with pytest.raises(ValueError, match=r"expected points of shape \(N, 2\), got \(4, 3\)"):
        ring().nearest(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="expected n to be a whole number of 1 or more, got 0"):
        ring().sample(0, seed=0)
    assert ring(1).sample(5, seed=0).shape == (5, 2)
