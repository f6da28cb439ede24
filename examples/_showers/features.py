"""Two rivals on the high-level features: a mixture density network, and real showers chosen by its draws."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from _showers.library import Library
from _showers.settings import NAMES, SHOWERS, Settings, features, showers
from posterity.data import Observations, Standardization
from posterity.inference import Ensemble, Posterior, infer
from posterity.models.mixtures import multivariate_mixture_head
from posterity.models.pairs import mixture_density

FLOOR = 0.02
ROWS = 2000


def inputs(energy: Tensor) -> Tensor:
    return energy.float().log()[:, None]


def make_model(settings: Settings):
    cells, energy = showers(settings, "training")
    x, y = inputs(energy), features(cells, energy).float()
    scale = Standardization.fit(Observations(x, y))
    head = multivariate_mixture_head(settings.mixture_components, len(NAMES), covariance="full", floor=FLOOR)
    pair = mixture_density(scale, head=head.started_at(scale.y(y)), hidden=(64, 64), seed=settings.seed)
    return pair, x, y


def train_mixture(settings: Settings, work: Path) -> dict[str, float]:
    pair, x, y = make_model(settings)
    method = Ensemble(members=1, steps=settings.mixture_steps, batch_size=512, learning_rate=3e-3)
    posterior = infer(pair, x, y, method=method, seed=settings.seed)
    if posterior.attrs["interrupted"]:
        raise KeyboardInterrupt
    posterior.save(work / "mixture.posterior")
    return {"warnings": float(len(posterior.attrs["warnings"]))}


@cache
def load_mixture(settings: Settings, work: Path) -> Posterior:
    pair, x, y = make_model(settings)
    return Posterior.load(work / "mixture.posterior", pair, x, y)


def draw_features(settings: Settings, work: Path, energy: Tensor, seed: int) -> Tensor:
    """Features (N, 22) in single precision, which is what the network was trained in."""
    posterior, drawn = load_mixture(settings, work), []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for rows in inputs(energy).split(ROWS):
            drawn.append(posterior.predictive(rows, draws=1).sample())
    return possible(torch.cat(drawn).double())


def possible(drawn: Tensor) -> Tensor:
    """The nearest possible features: no negative ones, whole numbers of active cells, zeros for layers without any."""
    found = {name: drawn[:, column].clone() for column, name in enumerate(NAMES)}
    for layer, cells in enumerate(SHOWERS.calorimeter.layers):
        active = (found[f"active_{layer}"] * cells.cells).round().clamp(0, cells.cells)
        found[f"active_{layer}"] = active / cells.cells
        of_layer = [name for name in NAMES if name.endswith(f"_{layer}")]
        for name in of_layer:
            lowest = -torch.inf if name.startswith("centre") else 0.0
            found[name] = torch.where(active > 0, found[name].clamp_min(lowest), 0.0)
    found["response"] = found["response"].clamp_min(0)
    return torch.stack([found[name] for name in NAMES], 1)


@cache
def library(settings: Settings) -> Library:
    cells, energy = showers(settings, "training")
    return Library(cells, features(cells, energy), energy)


def draw_library(settings: Settings, work: Path, energy: Tensor, seed: int) -> Tensor:
    """The real showers whose features and energy are nearest to those drawn, with scaled energy: (N, cells)."""
    drawn = draw_features(settings, work, energy, seed)
    chosen = library(settings).nearest(drawn, energy)
    total = (drawn[:, NAMES.index("response")] * energy).clamp_min(0)
    return chosen * (total / chosen.double().sum(1).clamp_min(1e-9)).float()[:, None]
