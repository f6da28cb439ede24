"""Rivals with a density: a normalizing flow of the energies of the layers, with cells of real showers or of a flow.

As CaloFlow (Krause & Shih 2021, arXiv:2106.05285): a spline flow draws response and shares of the layers, and a second
flow the shares of the cells of each layer, whose zeros are filled with noise below the threshold. With 504 cells and
a CPU, the second flow has affine couplings (Dinh et al. 2017, arXiv:1605.08803) instead of splines.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from _showers.library import Library
from _showers.settings import SHOWERS, Settings, showers
from posterity.files import read_tensors, write_tensors
from posterity.progress import progress_bar

SMALLEST = 1e-5  # share of a layer
ROWS = 2000
RATE = 1e-3
CLIP = 5.0


def layer_numbers(cells: Tensor, energy: Tensor) -> Tensor:
    """Response and logarithms of the shares of the later layers over that of the first, (N, layers)."""
    layers = torch.stack([part.double().sum((1, 2)) for part in SHOWERS.calorimeter.split(cells)], 1)
    shares = (layers / energy[:, None]).clamp_min(SMALLEST)
    return torch.cat([(layers.sum(1) / energy)[:, None], (shares[:, 1:] / shares[:, :1]).log()], 1)


def layer_energies(numbers: Tensor, energy: Tensor) -> Tensor:
    """The energies (N, layers) that `layer_numbers` belong to."""
    shares = torch.cat([torch.zeros(len(numbers), 1).to(numbers), numbers[:, 1:]], 1).softmax(1)
    return shares * (numbers[:, :1].clamp_min(0) * energy[:, None])


def cell_numbers(cells: Tensor, random: torch.Generator) -> Tensor:
    """ln(E + threshold) of all cells, those without energy filled with noise below the threshold."""
    threshold = SHOWERS.calorimeter.threshold
    noise = threshold * torch.rand(cells.shape, generator=random)
    return (torch.where(cells > 0, cells, noise) + threshold).log()


def cell_energies(numbers: Tensor, layers: Tensor) -> Tensor:
    """Energies of the cells (N, cells), scaled to these energies of the layers."""
    threshold = SHOWERS.calorimeter.threshold
    cells = numbers.exp() - threshold
    cells = cells.where(cells > threshold, torch.zeros_like(cells))
    return scaled_to(cells, layers)


def scaled_to(cells: Tensor, layers: Tensor) -> Tensor:
    """Cells (N, cells) whose sums over each layer are ``layers`` (N, layers), where a layer has any."""
    threshold = SHOWERS.calorimeter.threshold
    parts = zip(SHOWERS.calorimeter.split(cells), layers.float().T, strict=True)
    scaled = [
        part.flatten(1) * (energy / part.sum((1, 2)).clamp_min(1e-9))[:, None] * (energy > 0)[:, None]
        for part, energy in parts
    ]
    found = torch.cat(scaled, 1)
    return found.where(found > threshold, torch.zeros_like(found))


def zuko_flows() -> Any:
    """The flows of zuko, whose import switches the checks of all distributions off: they are left as they were."""
    checked = Distribution._validate_args
    import zuko

    Distribution.set_default_validate_args(checked)
    return zuko.flows


class Flow(torch.nn.Module):
    """A flow of standardised values, given standardised conditions."""

    def __init__(self, flow: torch.nn.Module, values: Tensor, given: Tensor) -> None:
        super().__init__()
        self.flow = flow
        for name, rows in (("values", values), ("given", given)):
            self.register_buffer(f"{name}_mean", rows.float().mean(0))
            self.register_buffer(f"{name}_sd", rows.float().std(0).clamp_min(1e-6))

    def context(self, given: Tensor) -> Any:
        return self.flow((given.float() - self.given_mean) / self.given_sd)

    def loss(self, values: Tensor, given: Tensor) -> Tensor:
        scaled: Tensor = (values.float() - self.values_mean) / self.values_sd
        return -self.context(given).log_prob(scaled).mean()

    @torch.no_grad()
    def draw(self, given: Tensor) -> Tensor:
        return torch.cat(
            [self.context(rows).sample() * self.values_sd + self.values_mean for rows in given.split(ROWS)]
        )


def make_flows(settings: Settings) -> tuple[Flow, Flow, Tensor, Tensor]:
    cells, energy = showers(settings, "training")
    numbers = layer_numbers(cells, energy)
    given = torch.cat([energy.log()[:, None], numbers], 1)
    size, flows = settings.cell_hidden, zuko_flows()
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        of_layers = flows.NSF(numbers.shape[1], 1, transforms=4, hidden_features=(64, 64))
        of_cells = flows.MAF(
            cells.shape[1], given.shape[1], transforms=8, randperm=True, passes=2, hidden_features=(size, size)
        )
    filled = cell_numbers(cells, torch.Generator().manual_seed(settings.seed))
    return Flow(of_layers, numbers, energy.log()[:, None]), Flow(of_cells, filled, given), numbers, given


def train_flow(settings: Settings, work: Path) -> dict[str, float]:
    of_layers, of_cells, numbers, given = make_flows(settings)
    cells, energy = showers(settings, "training")
    random = torch.Generator().manual_seed(settings.seed)
    losses = {}
    for name, flow, steps in (("layers", of_layers, settings.layer_steps), ("cells", of_cells, settings.cell_steps)):
        optimiser = torch.optim.Adam(flow.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        total = 0.0
        with progress_bar(steps, f"flow of {name}") as bar:
            for step in range(steps):
                rows = torch.randint(len(cells), (settings.batch,), generator=random)
                if name == "layers":
                    loss = flow.loss(numbers[rows], energy[rows].log()[:, None])
                else:
                    loss = flow.loss(cell_numbers(cells[rows], random), given[rows])
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(flow.parameters(), CLIP)
                optimiser.step()
                schedule.step()
                bar.update()
                if step >= 0.9 * steps:
                    total += loss.item()
        losses[f"loss_{name}"] = total / (steps - int(0.9 * steps))
    write_tensors({"layers": of_layers.state_dict(), "cells": of_cells.state_dict()}, work / "flow.tensors")
    return losses


@cache
def load_flows(settings: Settings, work: Path) -> tuple[Flow, Flow]:
    flows = make_flows(settings)[:2]
    stored = read_tensors(work / "flow.tensors", "flows")
    for flow, name in zip(flows, ("layers", "cells"), strict=True):
        flow.load_state_dict(stored[name])
    return flows


def draw_flow(settings: Settings, work: Path, energy: Tensor, seed: int) -> Tensor:
    of_layers, of_cells = load_flows(settings, work)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        log_e = energy.log()[:, None]
        numbers = of_layers.draw(log_e).double()
        return cell_energies(of_cells.draw(torch.cat([log_e, numbers], 1)), layer_energies(numbers, energy))


@cache
def layer_library(settings: Settings) -> Library:
    cells, energy = showers(settings, "training")
    return Library(cells, layer_numbers(cells, energy), energy)


def draw_flow_library(settings: Settings, work: Path, energy: Tensor, seed: int) -> Tensor:
    """Energies of the layers from the flow, and cells of the nearest real shower, scaled layer by layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        numbers = load_flows(settings, work)[0].draw(energy.log()[:, None]).double()
    return scaled_to(layer_library(settings).nearest(numbers, energy), layer_energies(numbers, energy))
