"""Coordinates of order one at every energy, smooth where a cell is empty."""

import pytest
import torch

from posterity.data import Calorimeter, Layer, Showers
from posterity.inference.showers import ShowerCoordinates, observables

SHOWERS = Showers()


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    found = SHOWERS.simulate(SHOWERS.draw_energies(3000, seed=1), seed=2)
    return found.cells, found.energy


def test_observables_are_standardised_at_every_energy(sample) -> None:  # type: ignore[no-untyped-def]
    """Means within 0.3 and standard deviations of 0.4 to 1.3 in each third of the energies."""
    cells, energy = sample
    coordinates = ShowerCoordinates(cells, energy, SHOWERS.calorimeter)
    found = coordinates(cells, energy[:, None])[:, : len(coordinates.names)]
    for rows in energy.argsort().chunk(3):
        assert float(found[rows].mean(0).abs().max()) < 0.3
        assert float(found[rows].std(0).min()) > 0.4
        assert float(found[rows].std(0).max()) < 1.3


def test_they_do_not_depend_on_the_unit_of_energy_of_the_cells(sample) -> None:  # type: ignore[no-untyped-def]
    """Cells in MeV with energies in GeV: the response has another scale, and no coordinate changes."""
    cells, energy = sample
    one = ShowerCoordinates(cells, energy, SHOWERS.calorimeter)(cells, energy[:, None])
    other = ShowerCoordinates(1000 * cells, energy, SHOWERS.calorimeter)(1000 * cells, energy[:, None])
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_the_gradient_from_no_spot_to_one_is_the_difference(sample) -> None:  # type: ignore[no-untyped-def]
    """What a generator of whole numbers needs: over one spot, an empty cell and its activity change as their slope."""
    cells, energy = sample
    coordinates = ShowerCoordinates(cells, energy, SHOWERS.calorimeter).double()
    one = cells[:1].double().clone().requires_grad_()
    spot = float(cells[cells > 0].quantile(0.05))
    empty = int((cells[0] == 0).nonzero()[0])
    for column in (len(coordinates.names) + empty, coordinates.names.index("active_0")):
        value = coordinates(one, energy[:1, None])[0, column]
        (slope,) = torch.autograd.grad(value, one)
        value = value.detach()
        more = one.detach().clone()
        more[0, empty] += spot
        change = float(coordinates(more, energy[:1, None])[0, column] - value)
        assert change == pytest.approx(float(slope[0, empty]) * spot, rel=0.12, abs=1e-9)


def test_the_names_are_those_of_the_observables_and_of_the_layers(sample) -> None:  # type: ignore[no-untyped-def]
    cells, energy = sample
    coordinates = ShowerCoordinates(cells, energy, SHOWERS.calorimeter)
    logs = [f"log_energy_{layer}" for layer in range(3)]
    assert coordinates.names == (*observables(cells, energy, SHOWERS.calorimeter), *logs)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="at least 100 showers, got 5"):
        ShowerCoordinates(torch.ones(5, 504), torch.ones(5), SHOWERS.calorimeter)
    with pytest.raises(ValueError, match="expected at least one cell above 0, got only zeros"):
        ShowerCoordinates(torch.zeros(200, 1), torch.ones(200), Calorimeter((Layer(0, 5, 1, 1),)))
    with pytest.raises(ValueError, match="cells of shape"):
        ShowerCoordinates(torch.ones(200, 3), torch.ones(200), SHOWERS.calorimeter)
