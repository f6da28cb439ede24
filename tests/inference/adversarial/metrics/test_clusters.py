"""Metrics of clusters: the values of a perfect sampler, and the one metric that each failure changes."""

import math

import pytest
import torch

from posterity.data import Clusters, grid, ring
from posterity.inference.adversarial.metrics.clusters import cluster_quality


@pytest.mark.parametrize("clusters", [ring(), grid()], ids=["ring", "grid"])
def test_a_perfect_sampler_has_the_values_of_the_theory(clusters):
    """Means of 40 sets of 2,500 draws, seeds 0 to 39, within 5 standard errors of the theory."""
    qualities = [cluster_quality(clusters.sample(2500, seed=seed), clusters) for seed in range(40)]
    count = len(clusters.centres)
    assert all(f["modes"] == count for f in qualities)

    def mean_and_error(name):
        values = torch.tensor([f[name] for f in qualities], dtype=torch.double)
        return float(values.mean()), float(values.std()) / math.sqrt(len(values))

    for name, expected in (
        ("high_quality", 1 - math.exp(-4.5)),
        ("reverse_kl", (count - 1) / 5000),
        ("sd_ratio", 1.0),
    ):
        mean, error = mean_and_error(name)
        assert mean == pytest.approx(expected, abs=5 * error + 1e-4 * expected), name
    assert qualities[0]["reverse_kl_floor"] == (count - 1) / 5000


def test_three_modes_of_eight_are_missed():
    few = Clusters(ring().centres[:5], 0.01)
    quality = cluster_quality(few.sample(5000, seed=0), ring())
    assert quality["modes"] == 5
    assert quality["reverse_kl"] == pytest.approx(math.log(8 / 5), abs=0.01)
    assert quality["sd_ratio"] == pytest.approx(1, abs=0.05)


def test_narrow_and_wide_clusters_are_told_apart():
    """Half as wide: a ratio of one half, and all of high quality; 1.5 times as wide: a share of 1 - exp(-2)."""
    quality = cluster_quality(ring(sd=0.005).sample(5000, seed=0), ring())
    assert quality["sd_ratio"] == pytest.approx(0.5 / math.sqrt(0.94945), abs=0.02)
    assert quality["high_quality"] == 1
    wide = cluster_quality(ring(sd=0.015).sample(5000, seed=0), ring())
    assert wide["high_quality"] == pytest.approx(1 - math.exp(-2), abs=0.025)


def test_centres_have_no_width_and_points_between_them_no_quality():
    centres = ring().centres
    quality = cluster_quality(centres, ring())
    assert quality["modes"] == 8
    assert math.isnan(quality["sd_ratio"])
    same = cluster_quality(centres.repeat(10, 1), ring())
    assert same["sd_ratio"] == pytest.approx(0, abs=1e-6)
    middle = cluster_quality(torch.zeros(10, 2), ring())
    assert (middle["modes"], middle["high_quality"]) == (0, 0)
    assert middle["reverse_kl"] == pytest.approx(math.log(8))
    shifted = cluster_quality(grid().sample(5000, seed=0) + 0.05, grid())
    assert shifted["sd_ratio"] == pytest.approx(1, abs=0.1)  # around the mean of the samples, not the centre


def test_bad_samples_of_clusters_are_refused():
    with pytest.raises(ValueError, match=r"expected real samples of shape \(N, D\), N of 1 or more, got torch.float32"):
        cluster_quality(torch.zeros(0, 2), ring())
    with pytest.raises(ValueError, match="expected finite samples, got 6 of 6 that are nan or infinite"):
        cluster_quality(torch.full((3, 2), math.nan), ring())
    with pytest.raises(ValueError, match=r"expected clusters such as posterity.data.ring\(\), got 'ring'"):
        cluster_quality(torch.zeros(3, 2), "ring")
    with pytest.raises(ValueError, match=r"expected points of shape \(N, 2\), got \(3, 1\)"):
        cluster_quality(torch.zeros(3, 1), ring())
