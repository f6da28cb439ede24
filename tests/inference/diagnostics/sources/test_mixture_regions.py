"""Highest-density regions of known shape, and the distance of y from them."""

import numpy as np
import torch
from scipy import stats

from posterity.inference.diagnostics.sources.mixture_regions import measure_regions
from posterity.models.mixtures import Mixture


def test_the_region_of_a_normal_is_the_central_interval():
    y = torch.tensor([0.0, 1.0, -5.0]).double()
    model = Mixture.normal(torch.zeros(3, 1), torch.zeros(3, 1), torch.full((3, 1), 2.0))
    length, distance, count = measure_regions(model, y, 0.9)
    half = 2 * stats.norm.ppf(0.95)
    np.testing.assert_allclose(length, 2 * half, rtol=1e-6)
    np.testing.assert_allclose(distance, [0, 0, 5 - half], atol=1e-6)
    assert count.tolist() == [1, 1, 1]


def test_two_peaks_far_apart_have_two_intervals_and_a_gap():
    y = torch.tensor([-10.0, 0.0]).double()
    model = Mixture.normal(torch.zeros(2), torch.tensor([-10.0, 10.0]), torch.tensor(1.0)).expand([2])
    length, distance, count = measure_regions(model, y, 0.8)
    half = stats.norm.ppf(0.9)
    np.testing.assert_allclose(length, 4 * half, rtol=1e-5)
    np.testing.assert_allclose(distance, [0, 10 - half], atol=1e-5)
    assert count.tolist() == [2, 2]


def test_a_missing_y_has_no_distance():
    model = Mixture.normal(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
    assert np.isnan(measure_regions(model, torch.tensor([torch.nan]).double(), 0.5)[1]).all()
