"""Calorimeters: the energy of a profile in each cell against numerical integrals, and bad layers."""

import math

import pytest
import torch
from scipy.integrate import dblquad

from posterity.data import Calorimeter, Layer, Material
from posterity.data.calorimeter import MATERIALS, corner_integral


def density(y: float, x: float, radius: float) -> float:
    return radius**2 / (math.pi * (x * x + y * y + radius**2) ** 2)


def test_the_share_of_each_cell_is_the_integral_of_the_density() -> None:
    layer = Layer(0, 1, rows=2, columns=3, height=3.0, width=2.0)
    radius, position = torch.tensor([0.4], dtype=torch.double), torch.tensor([[0.3, -0.6]], dtype=torch.double)
    found = layer.shares(radius, position)[0]
    y, x = layer.edges
    for row in range(2):
        for column in range(3):
            wanted, error = dblquad(
                lambda a, b: density(b - 0.3, a + 0.6, 0.4), y[row], y[row + 1], x[column], x[column + 1]
            )
            assert abs(float(found[row, column]) - wanted) < 1e-9 + error


def test_a_disc_is_known_too() -> None:
    """A share of R² / (1 + R²) of the energy is farther than 1 from the axis; many cells make up the disc."""
    layer, radius = Layer(0, 1, 801, 801, 2.0, 2.0), torch.tensor(0.3, dtype=torch.double)
    share = layer.shares(radius, torch.zeros(2, dtype=torch.double))
    y, x = layer.centres
    inside = torch.hypot(y[:, None], x) < 1
    assert float(share[inside].sum()) == pytest.approx(1 / (1 + 0.09), abs=2e-4)


def test_the_whole_plane_has_the_whole_energy() -> None:
    far = torch.tensor(1e6, dtype=torch.double)
    for signs, wanted in (((1, 1), 0.25), ((-1, 1), -0.25), ((-1, -1), 0.25)):
        corner = corner_integral(signs[0] * far, signs[1] * far, torch.tensor(0.2, dtype=torch.double))
        assert float(corner) == pytest.approx(wanted, abs=1e-6)


def test_cells_are_split_by_layer() -> None:
    calorimeter = Calorimeter()
    parts = calorimeter.split(torch.arange(2.0 * calorimeter.cells).reshape(2, -1))
    assert [tuple(part.shape) for part in parts] == [(2, 3, 96), (2, 12, 12), (2, 12, 6)]
    assert float(parts[1][0, 0, 0]) == 288
    assert calorimeter.medium == MATERIALS["lead tungstate"]


def test_centres_lie_between_edges() -> None:
    y, x = Layer(0, 1, 2, 4, height=2.0, width=4.0).centres
    assert y.tolist() == [-0.5, 0.5]
    assert x.tolist() == [-1.5, -0.5, 0.5, 1.5]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Layer(3, 3, 1, 1), "expected end to be behind start 3, got 3"),
        (lambda: Layer(-1, 3, 1, 1), "start"),
        (lambda: Layer(0, 3, 0, 1), "rows"),
        (lambda: Layer(0, 3, 1, 1, width=0), "width"),
        (lambda: Layer(0, 3, 1, 1).shares(torch.zeros(1), torch.zeros(1, 2)), "radius above 0, got 0"),
        (lambda: Layer(0, 3, 1, 1).shares(torch.ones(1), torch.zeros(2)), r"position of shape \(1, 2\)"),
        (lambda: Calorimeter().split(torch.zeros(2, 5)), r"energies of shape \(..., 504\), got \(2, 5\)"),
        (lambda: Material(1, 1, 1, 1), "z"),
        (lambda: Material(50, 0, 1, 1), "critical_energy"),
        (lambda: Calorimeter(()), "at least one Layer"),
        (lambda: Calorimeter([Layer(0, 1, 1, 1)]), "tuple of Layer"),
        (lambda: Calorimeter((Layer(0, 2, 1, 1), Layer(1, 3, 1, 1))), "from front to back, got one from 1 behind 2"),
        (lambda: Calorimeter(material="wood"), "expected material to be a Material or one of"),
        (lambda: Calorimeter(material=3), "expected material to be a Material or a name"),
        (lambda: Calorimeter(noise=-1), "noise"),
        (lambda: Calorimeter(threshold=float("nan")), "threshold"),
    ],
)
def test_bad_calorimeters_are_refused(make, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()
