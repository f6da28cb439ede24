"""A surrogate draws from all its members, refuses energies outside of training, and survives a file."""

from pathlib import Path

import pytest
import torch

from posterity.data import Calorimeter, Layer, Material
from posterity.inference.showers import ShowerSurrogate
from posterity.models.showers import ShowerGenerator

SMALL = Calorimeter((Layer(0, 6, 2, 4), Layer(6, 18, 3, 3), Layer(18, 25, 2, 2)))


def member(seed: int, *, calorimeter: Calorimeter = SMALL, hidden: tuple[int, ...] = (8,)) -> ShowerGenerator:
    torch.manual_seed(seed)
    return ShowerGenerator(calorimeter, shape=3, hidden=hidden)


@pytest.fixture(scope="module")
def surrogate() -> ShowerSurrogate:
    return ShowerSurrogate([member(0), member(1)], (1.0, 100.0))


def test_it_is_the_mixture_of_its_members(surrogate: ShowerSurrogate) -> None:
    """The mean of each layer lies in the middle of those of the members, within 5 standard errors (seed 0)."""
    energy = torch.full((4000,), 20.0)
    totals = [SMALL.split(surrogate.simulate(energy, seed=0, member=index))[1].sum((1, 2)) for index in (0, 1)]
    mixed = SMALL.split(surrogate.simulate(energy, seed=5))[1].sum((1, 2))
    error = float(mixed.std()) / 4000**0.5 * 1.5
    assert abs(float(totals[0].mean() - totals[1].mean())) > 10 * error  # else this would say nothing
    assert abs(float(mixed.mean() - (totals[0].mean() + totals[1].mean()) / 2)) < 5 * error


def test_a_seed_repeats_and_another_differs(surrogate: ShowerSurrogate) -> None:
    energy = torch.linspace(1, 100, 20)
    before = torch.get_rng_state()
    first = surrogate.simulate(energy, seed=3)
    assert torch.equal(first, surrogate.simulate(energy, seed=3))
    assert not torch.equal(first, surrogate.simulate(energy, seed=4))
    assert torch.equal(before, torch.get_rng_state())


def test_energies_outside_of_training_are_refused(surrogate: ShowerSurrogate) -> None:
    assert surrogate.accepts(torch.tensor([0.9, 1.0, 50.0, 100.0, 101.0])).tolist() == [False, True, True, True, False]
    with pytest.raises(ValueError, match="within the range of training, 1 to 100 GeV, got 5 to 101 GeV"):
        surrogate.simulate(torch.tensor([5.0, 101.0]))
    with pytest.raises(ValueError, match="energy"):
        surrogate.simulate(torch.tensor([5.0, torch.nan]))
    with pytest.raises(ValueError, match=r"energy of shape \(N,\)"):
        surrogate.simulate(torch.ones(3, 1))
    with pytest.raises(ValueError, match="within the range of training"):
        surrogate.simulate(torch.tensor([-5.0]))


def test_members_that_are_equal_do_not_disagree(surrogate: ShowerSurrogate) -> None:
    """The finite number of draws is subtracted: without that, the mean square would be 1 / draws (seed 0)."""
    energy = torch.logspace(0, 2, 20)
    same = ShowerSurrogate([member(0), member(0)], (1.0, 100.0)).disagreement(energy, draws=50)
    assert float(same.square().mean()) < 0.5 / 50
    assert bool((surrogate.disagreement(energy, draws=50) > 5 * same.max()).all())


def test_members_with_constant_showers_disagree_infinitely_or_not_at_all() -> None:
    """Members that have collapsed to one shower each: the case that the number is for."""

    class Constant(ShowerGenerator):
        value = 1.0

        def forward(self, z: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
            cells = torch.zeros(len(z), self.calorimeter.cells)
            cells[:, 0] = self.value
            return cells

    members = [Constant(SMALL, shape=3, hidden=(8,)) for _ in range(2)]
    energy = torch.tensor([5.0])
    assert float(ShowerSurrogate(members, (1.0, 100.0)).disagreement(energy)) == 0
    members[1].value = 2.0
    assert float(ShowerSurrogate(members, (1.0, 100.0)).disagreement(energy)) == float("inf")


def test_the_ends_of_the_range_are_accepted_in_any_precision() -> None:
    surrogate = ShowerSurrogate([member(0)], (0.7, 100.1))
    for dtype in (torch.float32, torch.float64):
        assert len(surrogate.simulate(torch.tensor([0.7, 100.1], dtype=dtype))) == 2


@pytest.mark.parametrize("material", ["lead", Material(60.0, 10.0, 9.0, 20.0)])
def test_a_stored_surrogate_draws_the_same_showers(tmp_path: Path, material: str | Material) -> None:
    calorimeter = Calorimeter(SMALL.layers, material, threshold=0.001)
    made = ShowerSurrogate([member(0, calorimeter=calorimeter), member(1, calorimeter=calorimeter)], (2.0, 50.0))
    loaded = ShowerSurrogate.load(made.save(tmp_path / "showers.surrogate"))
    assert loaded.calorimeter == calorimeter
    assert repr(loaded) == repr(made) == "ShowerSurrogate(2 members, 2 to 50 GeV)"
    energy = torch.linspace(2, 50, 10)
    assert torch.equal(loaded.simulate(energy, seed=1), made.simulate(energy, seed=1))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    torch.save({"format": 7}, path)
    with pytest.raises(ValueError, match="expected a surrogate of showers in"):
        ShowerSurrogate.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a surrogate of showers in"):
        ShowerSurrogate.load(path)


def test_bad_arguments_are_named(surrogate: ShowerSurrogate) -> None:
    with pytest.raises(ValueError, match="at least one member"):
        ShowerSurrogate([], (1, 100))
    with pytest.raises(ValueError, match="list of ShowerGenerator"):
        ShowerSurrogate([torch.nn.Linear(1, 1)], (1, 100))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="energies"):
        ShowerSurrogate([member(0)], (100.0, 1.0))
    with pytest.raises(ValueError, match="pair"):
        ShowerSurrogate([member(0)], 5.0)  # type: ignore[arg-type]
    other = member(0, calorimeter=Calorimeter(SMALL.layers, "lead"))
    with pytest.raises(ValueError, match="one calorimeter"):
        ShowerSurrogate([member(0), other], (1, 100))
    with pytest.raises(ValueError, match="member"):
        surrogate.simulate(torch.tensor([5.0]), member=2)
    with pytest.raises(ValueError, match="two members"):
        ShowerSurrogate([member(0)], (1, 100)).disagreement(torch.tensor([5.0]))
    with pytest.raises(ValueError, match="above 0"):
        surrogate.disagreement(torch.tensor([-5.0]))
