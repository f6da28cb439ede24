r"""`ShowerGenerator`: showers in a calorimeter from latent points, for adversarial training.

From a few latent numbers and the energy of the particle, a network predicts the share of the energy in each layer and
the share that is lost; the expected share of each cell in its layer, and beside all cells; and the number of spots in
each layer. Then, as in `posterity.data.Showers` and with one latent number for each random number,

- the energy E in each layer is smeared with the resolution $a / \sqrt{E}$ of sampling, where a is learnt;
- the cells share it in proportion to whole numbers of spots with Poisson distributions, so that cells can be empty; and
- a cell whose signal is below the threshold of the calorimeter reads 0.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from posterity.data.calorimeter import Calorimeter
from posterity.models.generators import started_he
from posterity.models.showers.poisson import poisson_numbers
from posterity.models.showers.scales import SLOPE, scaled_energy
from posterity.validation import (
    check_finite,
    check_flag,
    check_floating,
    check_integer,
    check_sizes,
    shown,
    shown_shape,
)

FASTER = 10.0  # the logarithm of the resolution learns so much faster than the weights
LARGEST = 16.0  # ln of the number of spots of a layer


class ShowerGenerator(nn.Module):
    """(z (N, latent), energy (N, 1) in GeV) -> energies of all cells (N, cells) in GeV.

    Args:
        calorimeter: layers and threshold.
        shape: number of latent numbers that the network sees: fluctuations of a whole shower.
        hidden: widths of the network.
        mirrored: whether the expected shares of the cells are equal under reflection of x and of y, as for particles
            that enter along the axis.

    Attributes:
        latent: dimension of z: ``shape``, two numbers for each layer, and one for each cell.

    Raises:
        ValueError: an object that is not a calorimeter, or sizes below 1; when called, arguments of other shapes, or
            energies that are not above 0.

    >>> import torch
    >>> generator = ShowerGenerator(Calorimeter())
    >>> generator(torch.randn(5, generator.latent), torch.full((5, 1), 20.0)).shape
    torch.Size([5, 504])
    """

    orbit: Tensor

    def __init__(
        self, calorimeter: Calorimeter, *, shape: int = 8, hidden: tuple[int, ...] = (128, 128), mirrored: bool = True
    ) -> None:
        super().__init__()
        if not isinstance(calorimeter, Calorimeter):
            raise ValueError(f"expected calorimeter to be a Calorimeter, got {shown(calorimeter)}")
        check_integer("shape", shape, 1)
        check_sizes("hidden", hidden)
        check_flag("mirrored", mirrored)
        self.calorimeter, self.shape = calorimeter, shape
        self.settings = {"shape": shape, "hidden": tuple(hidden), "mirrored": mirrored}
        self.layers = len(calorimeter.layers)
        self.parts = [shape, self.layers, self.layers, calorimeter.cells]
        self.latent = sum(self.parts)
        orbits = [cell_orbits(*sides, mirrored=mirrored) for sides in calorimeter.shapes]
        self.kinds = [int(orbit.max()) + 1 for orbit in orbits]  # of cells whose share is equal, in each layer
        starts = torch.tensor([0, *self.kinds]).cumsum(0)
        self.register_buffer("orbit", torch.cat([o + s for o, s in zip(orbits, starts[:-1], strict=True)]))
        net: list[nn.Module] = []
        width = shape + 1
        for size in hidden:
            net += [nn.Linear(width, size), nn.LeakyReLU(SLOPE)]
            width = size
        # cells, beside the cells, layers and lost, spots
        self.sizes = (sum(self.kinds), self.layers, self.layers + 1, self.layers)
        self.net = started_he(nn.Sequential(*net, nn.Linear(width, sum(self.sizes))), SLOPE)
        self.log_sampling = nn.Parameter(torch.tensor(math.log(0.1) / FASTER))

    def forward(self, z: Tensor, energy: Tensor) -> Tensor:
        self._check(z, energy)
        inner, of_layers, of_beside, of_cells = z.split(self.parts, -1)
        features = self.net(torch.cat([inner, scaled_energy(energy)], -1))
        logits, beside, layers, spots = features.split(self.sizes, -1)
        seen = self._seen(energy * layers.softmax(-1)[..., :-1], of_layers)
        numbers = (spots + energy.log()).clamp(max=LARGEST).exp()
        logits = logits[..., self.orbit]
        found = []
        parts = zip(*(self._by_layer(values) for values in (logits, of_cells)), strict=True)
        for layer, (logit, normal) in enumerate(parts):
            shares = torch.cat([logit, beside[..., layer : layer + 1]], -1).softmax(-1)
            rates = numbers[..., layer : layer + 1] * shares
            counts = _at_least_one(rates, torch.cat([normal, of_beside[..., layer : layer + 1]], -1))
            found.append(seen[..., layer : layer + 1] * counts[..., :-1] / counts.sum(-1, keepdim=True))
        cells = torch.cat(found, -1)
        # The gradient goes through the threshold: without it, an empty cell would learn nothing.
        return cells - cells.where(cells <= self.calorimeter.threshold, torch.zeros_like(cells)).detach()

    @property
    def sampling(self) -> Tensor:
        """The resolution a in sqrt(GeV)."""
        return (FASTER * self.log_sampling).exp()

    def _seen(self, energy: Tensor, z: Tensor) -> Tensor:
        """What the layers (N, layers) see: gamma variables of variance a² E, by Wilson & Hilferty 1931.

        Mean and variance are right to 2% for energies above 0.4 a².
        """
        ninth = self.sampling.square() / (9 * energy.clamp_min(1e-9))
        return energy * (1 - ninth + ninth.sqrt() * z).clamp_min(0) ** 3

    def _by_layer(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split([layer.cells for layer in self.calorimeter.layers], -1)

    @torch.no_grad()
    def start_from(self, cells: Tensor, energy: Tensor) -> "ShowerGenerator":
        """Set the biases of the last layer to the mean shower of a sample, cells (N, cells) and energy (N, 1).

        The number of spots is set to the one for which as many cells stay empty as in the sample.

        Raises:
            ValueError: the reasons of a call, negative cells, or a layer without energy.
        """
        self._check(cells, energy, size=self.calorimeter.cells, name="cells")
        if bool((cells < 0).any()):
            raise ValueError(f"expected cells of at least 0, got {float(cells.min()):g}")
        layers = [part.double() for part in self._by_layer(cells)]
        of_layers = torch.stack([(part.sum(1, keepdim=True) / energy).mean() for part in layers])
        if not bool((of_layers > 0).all()):
            raise ValueError(f"expected cells with energy in every layer, got means {of_layers.tolist()}")
        lost = (1 - of_layers.sum()).clamp_min(0.01)
        logits, spots = [], []
        for part, of_cells in zip(layers, self._by_layer(self.orbit), strict=True):
            weights = (part / part.sum(1, keepdim=True).clamp_min(1e-12)).mean(0)
            kinds = of_cells - of_cells.min()
            mean = (
                torch.zeros(int(kinds.max()) + 1).double().scatter_reduce(0, kinds, weights, "mean", include_self=False)
            )
            mean = mean.clamp_min(1e-6)
            logits.append(mean.log())
            spots.append(_spots(mean[kinds], energy.double(), (part == 0).double().mean()))
        of_beside = torch.full((self.layers,), math.log(0.02))
        bias = torch.cat([*logits, of_beside, of_layers.log(), lost.log()[None], torch.tensor(spots)])
        response = cells.double().sum(1, keepdim=True) / energy
        self.log_sampling.fill_(
            ((response - response.mean()).square() * energy).mean().clamp_min(1e-8).log() / 2 / FASTER
        )
        last = cast(nn.Linear, self.net[-1])
        last.bias.copy_(bias)
        last.weight.mul_(0.1)  # near the mean shower, with some variety
        return self

    def _check(self, first: Tensor, energy: Tensor, *, size: int | None = None, name: str = "z") -> None:
        size = self.latent if size is None else size
        for label, values, width in ((name, first, size), ("energy", energy, 1)):
            check_floating(label, values)
            if values.ndim < 2 or values.shape[-1] != width:
                raise ValueError(f"expected {label} of shape (N, {width}), got {shown_shape(values)}")
        if first.shape[:-1] != energy.shape[:-1]:
            raise ValueError(f"expected as many rows of energy as of {name}, got {len(energy)} and {len(first)}")
        check_finite("energy", energy)
        if energy.numel() and float(energy.min()) <= 0:
            raise ValueError(f"expected energy above 0, got {float(energy.min()):g}")

    def extra_repr(self) -> str:
        return f"latent={self.latent}, cells={self.calorimeter.cells}"


def cell_orbits(rows: int, columns: int, *, mirrored: bool) -> Tensor:
    """The number of the set of mirrored cells that each cell of a layer belongs to, (rows · columns,)."""
    index = torch.arange(rows * columns).reshape(rows, columns)
    if mirrored:
        index = torch.stack([index, index.flip(0), index.flip(1), index.flip(0, 1)]).amin(0)
    return index.flatten().unique(return_inverse=True)[1]


def _at_least_one(rates: Tensor, z: Tensor) -> Tensor:
    r"""Poisson numbers of spots (..., K); the first to arrive is there even if it comes late.

    With $u = \Phi(z)$, the first spot of a cell with rate r arrives at $-\ln(u) / r$: before 1 if there is any.
    """
    numbers = poisson_numbers(rates, z)
    with torch.no_grad():
        none = numbers.sum(-1) == 0
        late = torch.zeros_like(numbers)
        if bool(none.any()):
            first = (-torch.special.log_ndtr(z[none]) / rates[none]).argmin(-1, keepdim=True)
            late[none] = torch.zeros_like(late[none]).scatter(-1, first, 1.0)
    return numbers + late


def _spots(shares: Tensor, energy: Tensor, empty: Tensor) -> float:
    """ln of the number of spots for each GeV for which a share ``empty`` of the cells stays without any."""
    low, high = 0.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        found = (-math.exp(middle) * energy * shares).exp().mean()
        low, high = (middle, high) if found > empty else (low, middle)
    return middle
