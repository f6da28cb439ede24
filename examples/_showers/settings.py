"""Settings that the numbers of ``showers.py`` depend on, and the samples of showers."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from posterity.data import Showers
from posterity.inference.showers import observables

SHOWERS = Showers()
LOW, HIGH = 1.0, 100.0  # GeV
GAP = (20.0, 40.0)  # energies that are left out of training
REGIONS = {"inside": None, "gap": GAP}
METHODS = ("surrogate", "member", "mixture", "library", "flow", "flow_library")
CELL_METHODS = ("surrogate", "member", "library", "flow", "flow_library")  # the mixture has no cells
SAMPLES = {"training": 1, "held_out": 2, "tested": 3}  # with seeds of their own


@dataclass(frozen=True)
class Settings:
    """Numbers of showers, sizes of networks, and steps of training."""

    training: int = 50_000
    tested: int = 20_000  # inside, and as many in the gap
    members: int = 8
    steps: int = 8000
    batch: int = 256
    mixture_components: int = 8
    mixture_steps: int = 6000
    layer_steps: int = 6000
    cell_steps: int = 9000
    cell_hidden: int = 128
    bins: int = 10  # of histograms, for pulls
    draws: int = 20_000  # of each member, for pulls
    timed: int = 4096
    seed: int = 0


QUICK = Settings(
    training=3000, tested=1000, members=2, steps=400, mixture_components=3, mixture_steps=200, layer_steps=200,
    cell_steps=60, cell_hidden=32, draws=1000, timed=256,
)  # fmt: skip


@cache
def showers(settings: Settings, purpose: str, region: str = "inside") -> tuple[Tensor, Tensor]:
    """Cells (N, cells) and energies (N,) of a sample; no two have a common seed."""
    n = settings.training if purpose == "training" else settings.tested
    seed = 1000 * settings.seed + 10 * SAMPLES[purpose] + list(REGIONS).index(region)
    energy = SHOWERS.draw_energies(3 * n, low=LOW, high=HIGH, seed=seed)
    if region == "gap":
        energy = SHOWERS.draw_energies(n, low=GAP[0], high=GAP[1], seed=seed)
    else:
        energy = energy[(energy < GAP[0]) | (energy > GAP[1])][:n]
    return SHOWERS.simulate(energy, seed=seed + 5).cells, energy


def features(cells: Tensor, energy: Tensor) -> Tensor:
    """The observables as columns, (N, 22)."""
    return torch.stack(list(observables(cells, energy, SHOWERS.calorimeter).values()), 1)


NAMES = tuple(observables(torch.ones(1, SHOWERS.calorimeter.cells), torch.ones(1), SHOWERS.calorimeter))
