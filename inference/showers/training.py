"""`train_showers`: the adversarial training of a `ShowerGenerator`, with settings that were found to work.

Three things matter; with the usual choices the training drifts away from a good generator:

- The critic sees `ShowerCoordinates`, numbers of order one. With energies in GeV, the penalties R1 and R2 on its slope
  would be 10,000 times stronger for some cells than for others.
- The coordinates of cells are nearly linear between zero and one spot: the gradient of the generator's whole numbers of
  spots is exact for linear functions (`posterity.models.showers.poisson_numbers`). With logarithms that bend at the
  threshold, widths, and counts of active cells, the number of spots is pushed in the wrong direction.
- The critic learns three times as fast as the generator (Heusel et al. 2017, arXiv:1706.08500).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posterity.data import Calorimeter
from posterity.inference.adversarial.alarms import Alarm
from posterity.inference.adversarial.monitors.protocol import Monitor
from posterity.inference.adversarial.regularisers import r1, r2
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.trainer import train
from posterity.inference.adversarial.training_run import TrainingRun
from posterity.inference.showers.coordinates import ShowerCoordinates
from posterity.models.showers import ShowerCritic, ShowerGenerator
from posterity.random import seeded
from posterity.validation import check_flag, check_seed

PENALTY, EVERY = 0.02, 4
ROWS = 1000  # whose coordinates are computed at a time


class DescribedGenerator(nn.Module):
    """A generator of cells whose samples are `ShowerCoordinates`: what its critic sees."""

    def __init__(self, generator: ShowerGenerator, coordinates: ShowerCoordinates) -> None:
        super().__init__()
        self.generator, self.coordinates = generator, coordinates

    def forward(self, z: Tensor, energy: Tensor) -> Tensor:
        found: Tensor = self.coordinates(self.generator(z, energy), energy)
        return found


def shower_settings(**changes: Any) -> Adversarial:
    """The `posterity.inference.adversarial.Adversarial` settings of `train_showers`, with changes.

    The relativistic loss with R1 and R2 (Huang et al. 2024, arXiv:2501.05441), rates that fall to zero, and an average
    of the generator's weights.
    """
    settings = Adversarial(
        steps=8000, batch_size=256, loss="relativistic",
        regularisers=(r1(PENALTY, every=EVERY), r2(PENALTY, every=EVERY)),
        learning_rate=(3e-4, 1e-3), betas=(0.0, 0.99), schedule=("linear", "linear"), ema=0.999, monitor_every=1000,
    )  # fmt: skip
    return replace(settings, **changes)


def train_showers(
    cells: Tensor,
    energy: Tensor,
    calorimeter: Calorimeter,
    *,
    generator: ShowerGenerator | None = None,
    settings: Adversarial | None = None,
    seed: int = 0,
    bootstrap: bool = False,
    monitors: Sequence[Monitor] = (),
    alarms: Sequence[Alarm] = (),
    resume: str | Path | None = None,
) -> TrainingRun:
    """Train a generator on showers; ``run.sampling_generator.generator`` is the `ShowerGenerator`.

    The samples of the run are `ShowerCoordinates`, which its monitors compare. No warning tells whether the generator
    is good after these steps: compare its showers with held-out ones (`observables`, `separation_power`).

    Args:
        cells: energies of the cells in GeV, (N, cells).
        energy: of the particles in GeV, (N,).
        calorimeter: the layers.
        generator: an untrained generator, for example of another size; its biases are set to the mean shower
            (`ShowerGenerator.start_from`).
        settings: `shower_settings` if None.
        seed: of the initial weights and of the training.
        bootstrap: whether to train on N showers drawn with replacement: for the members of a `ShowerSurrogate`, whose
            spread then includes that of the finite sample.
        monitors, alarms, resume: as for `posterity.inference.adversarial.train`.

    Raises:
        ValueError: cells whose mean sum is above the energy (are both in GeV?), or with signals below the threshold of
            the calorimeter; a calorimeter with noise, which the generator does not have; a generator for another
            calorimeter; and the reasons of `observables` and of `posterity.inference.adversarial.train`.
    """
    check_seed(seed)
    check_flag("bootstrap", bootstrap)
    coordinates = ShowerCoordinates(cells, energy, calorimeter)
    _check_fit(cells, energy, calorimeter, generator)
    with seeded(seed):
        generator = ShowerGenerator(calorimeter) if generator is None else generator
        critic = ShowerCritic(len(coordinates.names), calorimeter.cells)
    cells, energy = cells.float(), energy.float()[:, None]
    if bootstrap:
        rows = torch.randint(len(cells), (len(cells),), generator=torch.Generator().manual_seed(seed))
        cells, energy = cells[rows], energy[rows]
    generator.start_from(cells, energy)
    with torch.no_grad():
        real = torch.cat([coordinates(*rows) for rows in zip(cells.split(ROWS), energy.split(ROWS), strict=True)])
    return train(
        DescribedGenerator(generator, coordinates), critic, real, latent=generator.latent, condition=energy,
        settings=shower_settings() if settings is None else settings, seed=seed, monitors=monitors, alarms=alarms,
        resume=resume,
    )  # fmt: skip


def _check_fit(cells: Tensor, energy: Tensor, calorimeter: Calorimeter, generator: ShowerGenerator | None) -> None:
    """``ValueError`` for what a `ShowerGenerator` cannot describe."""
    if generator is not None and generator.calorimeter != calorimeter:
        raise ValueError(f"expected generator for {calorimeter}, got one for {generator.calorimeter}")
    if calorimeter.noise:
        raise ValueError(f"expected calorimeter without noise, got {calorimeter.noise:g} GeV: the generator has none")
    response = float((cells.double().sum(1) / energy.double()).mean())
    if response > 1:
        raise ValueError(
            f"expected cells whose sum is at most the energy on average, got {response:.3g} times it: are both in GeV?"
        )
    least = float(cells[cells > 0].min())
    if least < calorimeter.threshold:
        raise ValueError(
            f"expected cells of 0 or above the threshold of the calorimeter, {calorimeter.threshold:g} GeV, "
            f"got {least:.3g}: are they in GeV?"
        )
