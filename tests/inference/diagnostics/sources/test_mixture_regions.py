"""Highest-density regions: length, number of intervals and distance of y from the nearest."""

import numpy as np
import torch
from scipy.stats import norm

from posterity.inference.diagnostics.sources.mixture_regions import measure_regions
from posterity.models.mixtures import Mixture


def test_of_one_normal_the_region_is_the_central_interval():
    mixture = Mixture.normal(torch.zeros(3, 1), torch.tensor([[0.0], [1.0], [2.0]]), torch.full((3, 1), 2.0))
    half = 2 * norm.ppf(0.95)
    y = torch.tensor([0.5, 1 + half + 0.25, 2 - half - 3], dtype=torch.double)
    length, distance, count = measure_regions(mixture, y, 0.9)
    np.testing.assert_allclose(length, 2 * half, rtol=1e-4)
    np.testing.assert_allclose(distance, [0, 0.25, 3], atol=1e-3)
    np.testing.assert_array_equal(count, 1)


def test_of_two_far_peaks_the_gap_is_outside_by_the_distance_to_the_nearer():
    loc = torch.tensor([-10.0, 10.0]).expand(3, 2)
    mixture = Mixture.normal(torch.zeros(3, 2), loc, torch.ones(3, 2))
    half = norm.ppf(0.95)
    length, distance, count = measure_regions(mixture, torch.tensor([-10.0, 4.0, 10.0]).double(), 0.9)
    np.testing.assert_allclose(length, 4 * half, rtol=1e-4)
    np.testing.assert_allclose(distance, [0, 6 - half, 0], atol=1e-3)
    np.testing.assert_array_equal(count, 2)


def test_a_missing_y_has_no_distance():
    model = Mixture.normal(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
    assert np.isnan(measure_regions(model, torch.tensor([torch.nan]).double(), 0.5)[1]).all()
