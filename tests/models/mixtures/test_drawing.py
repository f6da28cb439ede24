"""Components are drawn as often as their weights, and gathered or selected by their index."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from posterity.models.mixtures.drawing import draw_components, gather_components, select_components


@pytest.mark.parametrize("total", [1.0, 20.0], ids=["normalised", "not normalised"])
def test_components_are_drawn_as_often_as_their_weights(total):
    """Within five standard errors of 100,000 draws; a component without weight is never drawn."""
    weights, count = torch.tensor([[0.1, 0.0, 0.6, 0.3], [0.0, 0.25, 0.75, 0.0]], dtype=torch.double), 100_000
    drawn = draw_components(total * weights, torch.rand(2, count, dtype=torch.double))
    for row, probability in zip(drawn, weights, strict=True):
        frequency = torch.bincount(row, minlength=4) / count
        assert bool(((frequency - probability).abs() <= 5 * (probability * (1 - probability) / count).sqrt()).all())


def test_inversion_gives_the_interval_of_cumulative_weights():
    weights, uniform = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([0.0, 0.24, 0.25, 0.74, 0.75, 0.99])
    assert draw_components(weights, uniform).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_number_that_rounds_to_one_gives_the_last_component():
    assert draw_components(torch.ones(3), torch.ones(1)).tolist() == [2]


def test_gathered_components_are_those_at_the_index():
    components = Normal(torch.randn(5, 3), torch.rand(5, 3) + 0.1)
    index = torch.randint(3, (4, 5))
    gathered = gather_components(components, index)
    assert gathered.batch_shape == (4, 5)
    for sample, row in np.ndindex(4, 5):
        assert gathered.loc[sample, row] == components.loc[row, index[sample, row]]
        assert gathered.scale[sample, row] == components.scale[row, index[sample, row]]


def test_selected_components_of_several_targets_are_those_at_the_index():
    components = MultivariateNormal(torch.randn(5, 3, 2), scale_tril=torch.eye(2).expand(5, 3, 2, 2))
    index = torch.randint(3, (5, 7))
    selected = select_components(components, index)
    assert selected.batch_shape == (5, 7)
    for row, place in np.ndindex(5, 7):
        torch.testing.assert_close(selected.loc[row, place], components.loc[row, index[row, place]])
