"""A generator of showers: energy is conserved, mirrored cells are alike, and it starts from the mean shower."""

import math

import numpy as np
import pytest
import torch

from posterity.data import Calorimeter, Layer, Showers
from posterity.models.showers import ShowerGenerator
from posterity.models.showers.generator import cell_orbits

SMALL = Calorimeter((Layer(0, 6, 2, 4), Layer(6, 18, 3, 3), Layer(18, 25, 2, 2)))


@pytest.fixture(scope="module")
def started() -> tuple[ShowerGenerator, torch.Tensor, torch.Tensor]:
    showers = Showers(SMALL)
    sample = showers.simulate(showers.draw_energies(2000), seed=0)
    torch.manual_seed(0)
    energy = sample.energy.float()[:, None]
    return ShowerGenerator(SMALL, shape=4, hidden=(32,)).start_from(sample.cells, energy), sample.cells, energy


def drawn(generator: ShowerGenerator, energy: torch.Tensor, seed: int = 0) -> torch.Tensor:
    z = torch.randn(len(energy), generator.latent, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        cells: torch.Tensor = generator(z, energy)
    return cells


def test_cells_are_empty_or_above_the_threshold_and_energy_is_conserved(started) -> None:  # type: ignore[no-untyped-def]
    generator, _, energy = started
    cells = drawn(generator, energy)
    assert bool(((cells == 0) | (cells > SMALL.threshold)).all())
    assert bool((cells == 0).any())
    response = (cells.sum(1) / energy[:, 0]).double()
    assert float(response.mean()) < 1
    # Above 1 only by the resolution of sampling: 6 standard deviations of the learnt one.
    assert bool((response < 1 + 6 * float(generator.sampling.detach()) / energy[:, 0].sqrt()).all())


def test_it_starts_from_the_mean_shower(started) -> None:  # type: ignore[no-untyped-def]
    """Means of cells over energy, resolution and share of empty cells, before any training."""
    generator, cells, energy = started
    made = drawn(generator, energy)
    real, found = ((part / energy).mean(0) for part in (cells, made))
    np.testing.assert_allclose(found, real, atol=0.1 * float(real.max()))
    assert float((made == 0).float().mean()) == pytest.approx(float((cells == 0).float().mean()), abs=0.05)
    assert float(generator.sampling.detach()) == pytest.approx(0.05, rel=0.5)


def test_every_layer_has_a_spot_also_at_the_lowest_energies(started) -> None:  # type: ignore[no-untyped-def]
    """A layer that sees energy gives it to at least one place: its cells sum to what it sees, or to 0 beside them."""
    generator = started[0]
    quiet = ShowerGenerator(Calorimeter(SMALL.layers, threshold=0.0), shape=4, hidden=(32,))
    quiet.load_state_dict(generator.state_dict())
    with torch.no_grad():
        quiet.net[-1].bias[-3:] = -8.0  # hardly any spots
    cells = drawn(quiet, torch.ones(500, 1))
    for part in SMALL.split(cells):
        bright = (part > 0).sum((1, 2))
        assert float((bright == 1).float().mean()) > 0.9


def test_mirrored_cells_have_equal_means() -> None:
    torch.manual_seed(1)
    generator = ShowerGenerator(SMALL, shape=2, hidden=(16,))
    cells = drawn(generator, torch.full((4000, 1), 50.0))
    first = SMALL.split(cells)[0].double()
    for other in (first.flip(1), first.flip(2)):
        difference = first - other
        error = difference.std(0) / math.sqrt(len(first)) + 1e-9
        assert float((difference.mean(0) / error).abs().max()) < 4.5


def test_orbits_join_cells_that_reflections_exchange() -> None:
    assert cell_orbits(2, 3, mirrored=True).tolist() == [0, 1, 0, 0, 1, 0]
    assert cell_orbits(2, 2, mirrored=False).tolist() == [0, 1, 2, 3]


def test_all_weights_get_a_gradient(started) -> None:  # type: ignore[no-untyped-def]
    generator = started[0]
    z = torch.randn(64, generator.latent, generator=torch.Generator().manual_seed(3))
    generator(z, torch.full((64, 1), 5.0)).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name
    generator.zero_grad()


@pytest.mark.parametrize(
    ("z", "energy", "complaint"),
    [
        (torch.ones(2, 3), torch.ones(2, 1), r"expected z of shape \(N, "),
        (None, torch.ones(3, 1), "expected"),
        (None, -torch.ones(2, 1), "expected energy above 0, got -1"),
        (None, torch.full((2, 1), math.nan), "energy"),
    ],
)
def test_bad_arguments_of_a_call_are_named(z: torch.Tensor | None, energy: torch.Tensor, complaint: str) -> None:
    generator = ShowerGenerator(SMALL, hidden=(8,))
    with pytest.raises(ValueError, match=complaint):
        generator(torch.zeros(2, generator.latent) if z is None else z, energy)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="expected calorimeter to be a Calorimeter"):
        ShowerGenerator("iron")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        ShowerGenerator(SMALL, shape=0)
    with pytest.raises(ValueError, match="expected cells of at least 0, got -1"):
        ShowerGenerator(SMALL).start_from(-torch.ones(5, SMALL.cells), torch.ones(5, 1))
    with pytest.raises(ValueError, match="energy in every layer"):
        ShowerGenerator(SMALL).start_from(torch.zeros(5, SMALL.cells), torch.ones(5, 1))
