"""`ShowerCritic`: a discriminator of showers that are described by few observables and many cells."""

import torch
from torch import Tensor, nn

from posterity.models.generators import started_he
from posterity.models.showers.scales import SLOPE, scaled_energy
from posterity.validation import check_floating, check_integer, check_sizes, shown_shape


class ShowerCritic(nn.Module):
    """(coordinates (N, observables + cells), energy (N, 1) in GeV) -> logits (N,).

    Observables and cells first go through separate layers, so that few observables count as much as many cells.

    Args:
        observables: number of the first coordinates.
        cells: number of the others.
        hidden: two widths, the second for the first layer of the cells, the first for all others.

    Raises:
        ValueError: sizes below 1; when called, coordinates or energies of another shape.
    """

    def __init__(self, observables: int, cells: int, *, hidden: tuple[int, int] = (128, 256)) -> None:
        super().__init__()
        check_integer("observables", observables, 1)
        check_integer("cells", cells, 1)
        check_sizes("hidden", hidden)
        if len(hidden) != 2:
            raise ValueError(f"expected hidden to be two widths, got {hidden}")
        width, wide = hidden
        self.sizes = [observables, cells]
        self.observables = _layers(observables + 1, width, width)
        self.cells = _layers(cells + 1, wide, width)
        self.joint = nn.Sequential(nn.Linear(2 * width + 1, width), nn.LeakyReLU(SLOPE), nn.Linear(width, 1))
        started_he(self, SLOPE)

    def forward(self, coordinates: Tensor, energy: Tensor) -> Tensor:
        for name, values, size in (("coordinates", coordinates, sum(self.sizes)), ("energy", energy, 1)):
            check_floating(name, values)
            if values.shape != (*coordinates.shape[:-1], size):
                raise ValueError(f"expected {name} of shape (N, {size}), got {shown_shape(values)}")
        x = scaled_energy(energy)
        observed, cells = coordinates.split(self.sizes, -1)
        parts = [self.observables(torch.cat([observed, x], -1)), self.cells(torch.cat([cells, x], -1)), x]
        logits: Tensor = self.joint(torch.cat(parts, -1))
        return logits[..., 0]


def _layers(inputs: int, first: int, second: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, first), nn.LeakyReLU(SLOPE), nn.Linear(first, second), nn.LeakyReLU(SLOPE))
