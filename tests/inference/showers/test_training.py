"""Training of generators of showers: it gets closer, resumes bit for bit, and refuses bad samples."""

from pathlib import Path

import pytest
import torch

from posterity.data import Calorimeter, Layer, Showers
from posterity.inference.adversarial import metrics
from posterity.inference.showers import ShowerSurrogate, observables, shower_settings, train_showers
from posterity.models.showers import ShowerGenerator

SMALL = Calorimeter((Layer(0, 6, 2, 8), Layer(6, 18, 4, 4), Layer(18, 25, 3, 3)))
SHOWERS = Showers(SMALL)


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    found = SHOWERS.simulate(SHOWERS.draw_energies(4000, seed=1), seed=2)
    return found.cells, found.energy


def separation(generator: ShowerGenerator) -> float:
    """Mean separation power of all observables from fresh showers."""
    fresh = SHOWERS.simulate(SHOWERS.draw_energies(4000, seed=3), seed=4)
    made = ShowerSurrogate([generator], (1.0, 100.0)).simulate(fresh.energy, seed=5)
    pairs = zip(
        observables(made, fresh.energy, SMALL).values(),
        observables(fresh.cells, fresh.energy, SMALL).values(),
        strict=True,
    )
    return sum(metrics.separation_power(*pair, bins=20).power for pair in pairs) / 20


def test_a_short_training_gets_close_to_the_simulation(sample) -> None:  # type: ignore[no-untyped-def]
    """From a separation above 0.08 at the start to below 0.02 after 800 steps (floor 0.002; seed 0)."""
    torch.manual_seed(0)
    generator = ShowerGenerator(SMALL, shape=4, hidden=(32, 32))
    start = separation(generator.start_from(sample[0], sample[1].float()[:, None]))
    settings = shower_settings(steps=800, batch_size=128, ema=0.99, monitor_every=800, progress=False)
    run = train_showers(*sample, SMALL, generator=generator, settings=settings, seed=0)
    assert start > 0.08
    assert separation(run.sampling_generator.generator) < 0.02


def test_an_interrupted_training_resumes_bit_for_bit(sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "showers.checkpoint"
    settings = {"batch_size": 32, "schedule": ("constant", "constant"), "monitor_every": 4, "progress": False}
    whole = train_showers(*sample, SMALL, settings=shower_settings(steps=8, **settings), seed=1, bootstrap=True)
    train_showers(
        *sample, SMALL, settings=shower_settings(steps=4, checkpoint=path, **settings), seed=1, bootstrap=True
    )
    resumed = train_showers(
        *sample, SMALL, settings=shower_settings(steps=8, **settings), seed=1, bootstrap=True, resume=path
    )
    for one, other in zip(whole.generator.parameters(), resumed.generator.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_bootstrap_sample_is_another_one(sample) -> None:  # type: ignore[no-untyped-def]
    settings = shower_settings(steps=1, batch_size=32, progress=False)
    plain, again = (
        train_showers(*sample, SMALL, settings=settings, bootstrap=bootstrap, seed=2) for bootstrap in (False, True)
    )
    assert len(plain.data.unique(dim=0)) == len(sample[0])
    assert len(again.data) == len(sample[0])
    assert 0.6 < len(again.data.unique(dim=0)) / len(sample[0]) < 0.66  # 1 - 1/e


def test_bad_arguments_are_named(sample) -> None:  # type: ignore[no-untyped-def]
    cells, energy = sample
    with pytest.raises(ValueError, match=r"expected cells of shape \(N, 41\)"):
        train_showers(cells[:, :5], energy, SMALL)
    with pytest.raises(ValueError, match="expected energy above 0, got -1"):
        train_showers(cells, -torch.ones_like(energy), SMALL)
    with pytest.raises(ValueError, match="cells"):
        train_showers(cells.clone().fill_(torch.nan), energy, SMALL)
    with pytest.raises(ValueError, match=r"at most the energy on average, got .* are both in GeV"):
        train_showers(1000 * cells, energy, SMALL)
    with pytest.raises(ValueError, match=r"above the threshold of the calorimeter, 0.0005 GeV, got 5e-06"):
        train_showers(
            cells.clone().index_put((torch.tensor([0]), torch.tensor([0])), torch.tensor(5e-6)), energy, SMALL
        )
    with pytest.raises(ValueError, match=r"calorimeter without noise, got 0.01 GeV"):
        train_showers(cells, energy, Calorimeter(SMALL.layers, noise=0.01))
    with pytest.raises(ValueError, match="expected generator for"):
        train_showers(cells, energy, SMALL, generator=ShowerGenerator(Calorimeter(SMALL.layers, "lead")))
    with pytest.raises(ValueError, match="bootstrap"):
        train_showers(cells, energy, SMALL, bootstrap=1)  # type: ignore[arg-type]
