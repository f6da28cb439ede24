"""`ShowerCoordinates`: numbers of order one that describe a shower, on which networks and distances work well."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from posterity.data import Calorimeter
from posterity.inference.showers.observables import observables, unchecked_observables
from posterity.models.showers.scales import scaled_energy

DEGREE = 3  # of the polynomials in ln E
SMALLEST = 1e-3  # added to a deviation before its logarithm, in standard deviations
COMPRESSED = 3.0  # standard deviations from which a coordinate grows as a logarithm
SPOTS = 10.0  # signals of about one spot in the unit of the cells
SPARSE = 0.1  # smallest standard deviation of a cell, relative to the largest
LEAST = 100  # showers


class ShowerCoordinates(nn.Module):
    """cells (N, cells) and energy (N, 1) -> coordinates (N, observables + cells).

    The first coordinates are the `observables` and ln(1 + 10 energy / unit) of each layer, standardised with their mean
    and standard deviation at this energy. The mean and the logarithm of the standard deviation are cubic polynomials in
    ln E, fitted to real showers; values beyond about 3 standard deviations are compressed by asinh. The others are
    ln(1 + energy / unit) of each cell, divided by its standard deviation.

    Widths are squared, and a cell counts as E / (E + unit) instead of as active or not, so that these coordinates are
    nearly linear for small signals and have useful gradients. The unit is ten times the signal that 5% of the active
    cells are below, about that of ten spots. The energies of the layers show a critic how many layers are empty.

    Args:
        cells: of real showers, (N, cells).
        energy: of the particles, (N,).
        calorimeter: the layers.

    Attributes:
        names: of the observables.
        unit: of the cells, in the unit of ``cells``.

    Raises:
        ValueError: the reasons of `observables`, fewer than 100 showers, or no cell with energy.

    >>> from posterity.data import Showers
    >>> showers = Showers()
    >>> sample = showers.simulate(showers.draw_energies(200), seed=0)
    >>> coordinates = ShowerCoordinates(sample.cells, sample.energy, showers.calorimeter)
    >>> coordinates(sample.cells, sample.energy[:, None]).shape
    torch.Size([200, 529])
    """

    mean: Tensor
    log_sd: Tensor
    cell_sd: Tensor

    def __init__(self, cells: Tensor, energy: Tensor, calorimeter: Calorimeter) -> None:
        super().__init__()
        observed = tuple(observables(cells, energy, calorimeter))
        self.names = (*observed, *(f"log_energy_{layer}" for layer in range(len(calorimeter.layers))))
        if len(cells) < LEAST:
            raise ValueError(f"expected at least {LEAST} showers, got {len(cells)}")
        self.calorimeter = calorimeter
        active = cells[cells > 0].double()
        if not len(active):
            raise ValueError("expected at least one cell above 0, got only zeros")
        self.unit = SPOTS * float(active.kthvalue(max(1, len(active) // 20)).values)
        cells, energy = cells.detach().double(), energy.detach().double()
        values, powers = torch.stack(list(self._smooth(cells, energy).values()), 1), _powers(energy)
        mean = torch.linalg.lstsq(powers, values).solution
        rest = values - powers @ mean
        smallest = (rest.std(0) * SMALLEST).clamp_min(1e-12)
        log_sd = torch.linalg.lstsq(powers, (rest.square() + smallest.square()).log()).solution / 2
        log_sd[0] += (rest / (powers @ log_sd).exp()).std(0).clamp_min(SMALLEST).log()
        spread = (cells / self.unit).log1p().std(0)
        self.register_buffer("mean", mean)
        self.register_buffer("log_sd", log_sd)
        self.register_buffer("cell_sd", spread.clamp_min(SPARSE * float(spread.max())))

    def forward(self, cells: Tensor, energy: Tensor) -> Tensor:
        found = torch.stack(list(self._smooth(cells, energy[..., 0]).values()), -1)
        powers = _powers(energy[..., 0])
        scaled = (found - powers @ self.mean.to(powers)) / (powers @ self.log_sd.to(powers)).exp()
        of_cells = (cells / self.unit).log1p() / self.cell_sd.to(cells)
        return torch.cat([COMPRESSED * (scaled / COMPRESSED).asinh(), of_cells], -1)

    def _smooth(self, cells: Tensor, energy: Tensor) -> Mapping[str, Tensor]:
        """The observables, with smooth ones in place of widths and active cells."""
        found = unchecked_observables(cells, energy, self.calorimeter)
        smooth = {name: value.square() for name, value in found.items() if name.startswith("width")}
        for layer, part in enumerate(self.calorimeter.split(cells / (cells + self.unit))):
            smooth[f"active_{layer}"] = part.mean((-2, -1))
        for layer, part in enumerate(self.calorimeter.split(cells)):
            smooth[f"log_energy_{layer}"] = (SPOTS * part.sum((-2, -1)) / self.unit).log1p()
        return found | smooth


def _powers(energy: Tensor) -> Tensor:
    """Powers of the scaled ln E, (..., DEGREE + 1)."""
    x = scaled_energy(energy)
    return torch.stack([x**power for power in range(DEGREE + 1)], -1)
