"""Observables of showers whose cells are known, and of units that do not matter."""

import math

import numpy as np
import pytest
import torch

from posterity.data import Calorimeter, Layer, Showers
from posterity.inference.showers import observables

TWO = Calorimeter((Layer(0, 1, 1, 2, width=2.0), Layer(1, 2, 2, 2, height=4.0, width=2.0)))


def test_a_shower_by_hand() -> None:
    cells = torch.tensor([[1.0, 3.0, 0.0, 2.0, 0.0, 2.0]])
    found = observables(cells, torch.tensor([10.0]), TWO)
    wanted = {
        "response": 0.8, "fraction_0": 0.5, "fraction_1": 0.5,
        "centre_y_0": 0.0, "centre_x_0": 0.25, "width_y_0": 0.0, "width_x_0": math.sqrt(0.75 * 0.25),
        "active_0": 1.0, "brightest_0": 0.75,
        "centre_y_1": 0.0, "centre_x_1": 0.5, "width_y_1": 1.0, "width_x_1": 0.0,
        "active_1": 0.5, "brightest_1": 0.5,
    }  # fmt: skip
    assert {name: pytest.approx(float(value)) for name, value in found.items()} == wanted


def test_a_layer_without_energy_has_zeros() -> None:
    found = observables(torch.tensor([[1.0, 0, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0]]), torch.tensor([1.0, 1.0]), TWO)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    assert found["width_x_1"].tolist() == [0, 0]
    assert found["fraction_0"].tolist() == [1, 0]


def test_gradients_are_finite_where_a_layer_is_empty_or_has_one_bright_cell() -> None:
    cells = torch.tensor([[1.0, 0, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0]], requires_grad=True)
    sum(value.sum() for value in observables(cells, torch.ones(2), TWO).values()).backward()  # type: ignore[union-attr]
    assert cells.grad is not None
    assert bool(torch.isfinite(cells.grad).all())


def test_the_unit_of_energy_does_not_matter() -> None:
    showers = Showers()
    sample = showers.simulate(showers.draw_energies(50), seed=0)
    one = observables(sample.cells, sample.energy, showers.calorimeter)
    other = observables(1000 * sample.cells, 1000 * sample.energy, showers.calorimeter)
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-5, atol=1e-7)


def test_centres_follow_the_position() -> None:
    """Particles 0.5 Molière radii aside: the mean of the centre in the fine layer moves as far, less what leaks out."""
    showers = Showers(Calorimeter((Layer(0, 6, 3, 96),)))
    energy = torch.full((400,), 20.0)
    sample = showers.simulate(energy, seed=1, position=torch.tensor([[0.0, 0.5]]).expand(400, 2))
    centre = observables(sample.cells, energy, showers.calorimeter)["centre_x_0"]
    assert 0.4 < float(centre.mean()) < 0.5


@pytest.mark.parametrize(
    ("cells", "energy", "complaint"),
    [
        (torch.ones(2, 5), torch.ones(2), r"cells of shape \(N, 6\), got \(2, 5\)"),
        (torch.ones(2, 6), torch.ones(3), r"energy of shape \(2,\)"),
        (torch.ones(2, 6), torch.tensor([1.0, 0.0]), "energy above 0, got 0"),
        (-torch.ones(2, 6), torch.ones(2), "cells of at least 0, got -1"),
        (torch.full((2, 6), math.nan), torch.ones(2), "cells"),
        (torch.ones(2, 6, dtype=torch.long), torch.ones(2), "cells"),
    ],
)
def test_bad_showers_are_refused(cells: torch.Tensor, energy: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        observables(cells, energy, TWO)


def test_a_calorimeter_is_needed() -> None:
    with pytest.raises(ValueError, match="expected calorimeter to be a Calorimeter"):
        observables(torch.ones(2, 6), torch.ones(2), TWO.layers)
