"""Drawn components: by inversion of the cumulative weights, and the parameters of the components that are drawn."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from posterity.models.mixtures.drawing import draw_components, gather_components, select_components
from posterity.models.parameters import split

JUST_BELOW_1 = 1 - 2.0**-53
WEIGHTS = {
    "first has none": [0.0, 0.5, 0.5],
    "middle has none": [0.5, 0.0, 0.5],
    "last has none": [0.5, 0.5, 0.0],
    "not normalised": [3.0, 1.0, 4.0],
    "sums below 1": [0.01] * 100,
}
FAMILIES = {
    "normal": lambda n, k: dist.Normal(torch.randn(n, k), torch.rand(n, k) + 0.1),
    "several targets": lambda n, k: dist.Normal(torch.randn(n, k, 2), torch.rand(n, k, 2) + 0.1).to_event(1),
    "full covariance": lambda n, k: dist.MultivariateNormal(
        torch.randn(n, k, 2), scale_tril=torch.eye(2) + torch.rand(n, k, 2, 2).tril(-1)
    ),
    "low rank": lambda n, k: dist.LowRankMultivariateNormal(
        torch.randn(n, k, 3), torch.randn(n, k, 3, 1), torch.rand(n, k, 3) + 0.1
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_index_is_the_number_of_cumulative_weights_that_are_not_above_the_uniform_number(name):
    weights = torch.tensor(WEIGHTS[name], dtype=torch.double)
    uniform = torch.tensor([0.0, 1e-300, 0.25, 0.5, 0.75, JUST_BELOW_1], dtype=torch.double)
    index = draw_components(weights, uniform)
    cumulative = np.cumsum(WEIGHTS[name])
    assert index.tolist() == [int((cumulative <= u * cumulative[-1]).sum()) for u in uniform.tolist()]
    assert bool((weights[index] > 0).all())


def test_components_are_drawn_as_often_as_their_weights_in_each_row():
    """Chi squared in both rows, at one false alarm in a thousand; seed 0."""
    weights = torch.tensor([[0.1, 0.2, 0.7], [4.0, 3.0, 1.0]], dtype=torch.double)
    index = draw_components(weights, torch.rand(2, 20_000, dtype=torch.double))
    for row in range(2):
        expected = 20_000 * weights[row] / weights[row].sum()
        assert stats.chisquare(torch.bincount(index[row], minlength=3), expected).pvalue > 1e-3


def test_dimensions_on_the_left_are_batch_dimensions():
    weights, uniform = torch.rand(2, 3, 4), torch.rand(2, 3, 5)
    index = draw_components(weights, uniform)
    for place in np.ndindex(2, 3):
        assert torch.equal(index[place], draw_components(weights[place], uniform[place]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameters_are_those_of_the_components_at_the_index(family):
    components = FAMILIES[family](3, 4)
    selected = select_components(components, torch.tensor([[0, 3], [1, 1], [2, 0]]))
    gathered = gather_components(components, torch.tensor([[0, 1, 2], [3, 1, 0]]))
    for whole, two, one in zip(*(split(d)[0] for d in (components, selected, gathered)), strict=True):
        assert torch.equal(two, torch.stack([whole[0, [0, 3]], whole[1, [1, 1]], whole[2, [2, 0]]]))
        assert torch.equal(one, torch.stack([whole[[0, 1, 2], [0, 1, 2]], whole[[0, 1, 2], [3, 1, 0]]]))
    assert type(selected) is type(gathered) is type(components)
