r"""Electromagnetic showers in a calorimeter, a simulation whose distribution is known.

The parametrisation GFlash of Grindhammer & Peters 1993/2000 (arXiv:hep-ex/0001020), for homogeneous media. A particle
of energy E deposits it along its way as a gamma density,

$$\frac{1}{E} \frac{dE}{dt} = \frac{(\beta t)^{\alpha - 1} \beta e^{-\beta t}}{\Gamma(\alpha)},
\quad \beta = \frac{\alpha - 1}{T},$$

for the depth t in radiation lengths. The depth T of the maximum and the shape $\alpha$ differ from shower to shower:
their logarithms are normal with a correlation of about 0.5 (`Showers.profile_distribution`). Across the shower, the
energy has a core and a tail, both with the density of `Layer.shares`. It arrives in a finite number of spots, 93 ln Z
E^0.876 for E in GeV, which makes the cells of a shower differ from its mean. A sampling calorimeter sees an energy E as
a gamma variable with mean E and standard deviation a sqrt(E).

Differences from GFlash: all spots of a layer have the same energy, the radial profile is constant within
`Showers.step` radiation lengths, the number of spots in a layer is Poisson, and $\alpha$, also that of the spots, is
at least 1.01, which matters for a few showers in a thousand below 1 GeV. Given T and $\alpha$, the energies of
the layers are then independent, and those of the cells of a layer have known means (`Showers.mean_cells`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from posterity.data.calorimeter import Calorimeter
from posterity.random import as_generator
from posterity.validation import check_finite, check_floating, check_integer, check_number, shown, shown_shape

LOWEST, HIGHEST = 0.5, 1000.0  # GeV
LOWEST_LOG_Y = math.log(20)  # below, T would vary without bound
SMALLEST_SHAPE = 1.01  # alpha above 1: the energy begins at 0 at the front face
BATCH = 256  # showers whose cells are computed at a time: the arrays stay in the cache


@dataclass(frozen=True, eq=False)
class ShowerSample:
    """N simulated showers.

    Attributes:
        energy: of the particles in GeV, (N,).
        profile: T and alpha of each shower, (N, 2).
        cells: energies that the cells read, in GeV, (N, cells); see `Calorimeter.split`.
    """

    energy: Tensor
    profile: Tensor
    cells: Tensor

    def __len__(self) -> int:
        return len(self.energy)


@dataclass(frozen=True)
class Showers:
    """Showers of electrons or photons that enter a calorimeter along its axis.

    Args:
        calorimeter: layers, material and noise.
        step: largest thickness over which the radial profile is constant, in radiation lengths.

    Raises:
        ValueError: an object that is not a calorimeter, or a step that is not above 0.

    >>> import torch
    >>> sample = Showers().simulate(torch.tensor([10.0, 50.0]), seed=0)
    >>> sample.cells.shape
    torch.Size([2, 504])
    """

    calorimeter: Calorimeter = field(default_factory=Calorimeter)
    step: float = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.calorimeter, Calorimeter):
            raise ValueError(f"expected calorimeter to be a Calorimeter, got {shown(self.calorimeter)}")
        check_number("step", self.step, "(0, inf)")

    def draw_energies(self, n: int, *, low: float = 1.0, high: float = 100.0, seed: int = 0) -> Tensor:
        """n energies in GeV, log-uniform between two limits, (n,).

        Raises:
            ValueError: n below 1, or limits that are not in order or outside of 0.5 to 1,000 GeV.
        """
        check_integer("n", n, 1)
        check_number("low", low, f"[{LOWEST}, {HIGHEST}]")
        check_number("high", high, f"[{low}, {HIGHEST}]")
        uniform = torch.rand(n, generator=as_generator(seed), dtype=torch.double)
        return low * (high / low) ** uniform

    # The distribution of the profile

    def profile_distribution(self, energy: Tensor) -> MultivariateNormal:
        """The joint normal distribution of ln T and ln alpha for energies in GeV (N,); batch shape (N,).

        Grindhammer & Peters, appendix A.1.

        Raises:
            ValueError: energies that are not finite or outside of 0.5 to 1,000 GeV, or below 20 critical energies,
                where the parametrisation does not hold.
        """
        log_y = (1000 * self._checked(energy) / self.calorimeter.medium.critical_energy).log()
        if float(log_y.min()) < LOWEST_LOG_Y:
            lowest = math.exp(LOWEST_LOG_Y) * self.calorimeter.medium.critical_energy / 1000
            raise ValueError(
                f"expected energy of at least {lowest:.3g} GeV in this material, got {float(energy.min()):g}"
            )
        mean_t = (log_y - 0.812).log()
        mean_alpha = (0.81 + (0.458 + 2.26 / self.calorimeter.medium.z) * log_y).log()
        sd_t, sd_alpha = 1 / (-1.4 + 1.26 * log_y), 1 / (-0.58 + 0.86 * log_y)
        cross = (0.705 - 0.023 * log_y) * sd_t * sd_alpha
        covariance = torch.stack([torch.stack([sd_t**2, cross], -1), torch.stack([cross, sd_alpha**2], -1)], -2)
        return MultivariateNormal(torch.stack([mean_t, mean_alpha], -1), covariance)

    def layer_shares(self, profile: Tensor) -> Tensor:
        """Share of each layer in the energy, from the front and from T and alpha (N, 2): (N, layers).

        Raises:
            ValueError: a profile of another shape, T that is not above 0, or alpha that is not above 1.
        """
        profile = checked_profile(profile)
        return torch.stack([gamma_shares(edges, profile).sum(1) for edges in self._edges()], 1)

    def spots(self, energy: Tensor) -> Tensor:
        """Mean number of spots of a shower, 93 ln Z E^0.876 for E in GeV, (N,).

        Raises:
            ValueError: energies that are not finite or outside of 0.5 to 1,000 GeV.
        """
        z = torch.tensor(self.calorimeter.medium.z, dtype=torch.double)
        return 93 * z.log() * self._checked(energy) ** 0.876

    def mean_cells(self, energy: Tensor, profile: Tensor, *, position: Tensor | None = None) -> Tensor:
        """Mean energy of each cell in GeV, given T and alpha: (N, cells), without noise and threshold.

        Args:
            energy: in GeV, (N,).
            profile: T and alpha, (N, 2).
            position: as for `simulate`.

        Raises:
            ValueError: the reasons of `simulate` and of `layer_shares`, or numbers of showers that differ.
        """
        energy, profile = self._checked(energy), checked_profile(profile)
        if len(profile) != len(energy):
            raise ValueError(f"expected profile of shape ({len(energy)}, 2), got {shown_shape(profile)}")
        parts = self._layers(energy, profile, self._position(position, energy))
        return torch.cat([((energy * share)[:, None, None] * cells).flatten(1) for _, share, cells in parts], 1)

    # Simulation

    def simulate(
        self, energy: Tensor, *, seed: int | torch.Generator = 0, position: Tensor | None = None
    ) -> ShowerSample:
        """One shower for each energy.

        Args:
            energy: in GeV, (N,).
            seed: of all random numbers.
            position: y and x where the particles enter, in Molière radii from the axis, (N, 2), inside of all layers;
                by default the axis.

        Raises:
            ValueError: energies that are not finite or outside of 0.5 to 1,000 GeV, or positions of another shape
                or outside.
        """
        energy, random = self._checked(energy), as_generator(seed)
        position = self._position(position, energy)
        normal = self.profile_distribution(energy)
        noise = torch.randn(len(energy), 2, generator=random, dtype=torch.double)
        profile = (normal.mean + (normal.scale_tril @ noise[..., None])[..., 0]).exp()
        profile[:, 1].clamp_(min=SMALLEST_SHAPE)
        parts = [
            self._cells(energy[rows], profile[rows], position[rows].float(), random)
            for rows in (slice(start, start + BATCH) for start in range(0, len(energy), BATCH))
        ]
        return ShowerSample(energy, profile, torch.cat(parts))

    def _cells(self, energy: Tensor, profile: Tensor, position: Tensor, random: torch.Generator) -> Tensor:
        """Energies of all cells (N, cells) of showers with these profiles."""
        read = []
        for spots, share, cells in self._layers(energy, profile, position):
            seen = self._sampled(energy * share, random)
            counts, total = self._counts(spots, cells.flatten(1), random)
            read.append(seen[:, None] * counts / total[:, None])
        energies = torch.cat(read, 1)
        if self.calorimeter.noise:
            energies += self.calorimeter.noise * torch.randn(energies.shape, generator=random, dtype=torch.double)
        return energies.where(energies > self.calorimeter.threshold, torch.zeros_like(energies)).float()

    def _sampled(self, energy: Tensor, random: torch.Generator) -> Tensor:
        """Energies (N,) with the fluctuations of sampling: gamma variables of variance a² E."""
        if not self.calorimeter.sampling:
            return energy
        square = self.calorimeter.sampling**2
        return square * torch._standard_gamma((energy / square).clamp_min(1e-12), generator=random)

    @staticmethod
    def _counts(spots: Tensor, shares: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Spots in each cell (N, cells), and the number of all spots (N,), which is at least one.

        The counts of a Poisson number of spots are independent; ``spots`` (N,) is its mean.
        """
        outside = (1 - shares.sum(1, keepdim=True)).clamp_min(0)
        rates = spots[:, None] * torch.cat([shares.clamp_min(0), outside], 1)
        counts = torch.poisson(rates, generator=random)
        empty = (counts.sum(1) == 0).nonzero()[:, 0]
        if len(empty):
            counts[empty, torch.multinomial(rates[empty] + 1e-300, 1, generator=random)[:, 0]] = 1
        return counts[:, :-1], counts.sum(1)

    def _layers(self, energy: Tensor, profile: Tensor, position: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each layer the mean number of spots (N,), its share of the energy (N,), and that of its cells in it.

        The shares of the cells (N, rows, columns) are means over spots: a slice counts by its spots.
        """
        z = self.calorimeter.medium.z
        spot_t, spot_alpha = (0.698 + 0.00212 * z) * profile[:, 0], (0.639 + 0.00334 * z) * profile[:, 1]
        spot_profile = torch.stack([spot_t, spot_alpha.clamp_min(SMALLEST_SHAPE)], 1)
        number, mean_alpha = self.spots(energy), self.profile_distribution(energy).mean[:, 1].exp()
        for layer, edges in zip(self.calorimeter.layers, self._edges(), strict=True):
            share, spots = gamma_shares(edges, profile), gamma_shares(edges, spot_profile)
            weight = spots / spots.sum(1, keepdim=True).clamp_min(1e-300)
            depth = (edges[1:] + edges[:-1]) / 2
            cells = torch.zeros(len(energy), layer.rows, layer.columns, dtype=position.dtype)
            for index in range(len(depth)):
                # <t> = T alpha / (alpha - 1) is that of the mean shower: GFlash's relative depth.
                tau = (
                    depth[index] * (profile[:, 1] - 1) / (profile[:, 0] * profile[:, 1]) * mean_alpha / (mean_alpha - 1)
                )
                core, tail, in_core = self._radial_profile(energy, tau)
                for radius, part in ((core, in_core), (tail, 1 - in_core)):
                    shares = layer.shares(radius.to(position), position)
                    cells += (weight[:, index] * part).to(shares)[:, None, None] * shares
            yield number * spots.sum(1), share.sum(1), cells

    def _edges(self) -> list[Tensor]:
        """The depths between which the radial profile is constant, for each layer."""
        found = []
        for layer in self.calorimeter.layers:
            count = max(1, -int(-(layer.end - layer.start) // self.step))
            found.append(torch.linspace(layer.start, layer.end, count + 1, dtype=torch.double))
        return found

    def _radial_profile(self, energy: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Radii of core and tail in Molière radii, and the share of the core, at relative depths tau = t / T.

        Grindhammer & Peters, appendix A.1; all of the shape of ``energy`` (in GeV) and ``tau``.
        """
        log_e, z = energy.log(), self.calorimeter.medium.z
        core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * z) * tau
        k3, k4 = -2.59, 0.3585 + 0.0421 * log_e
        tail = (0.659 - 0.00309 * z) * ((k3 * (tau - 0.645)).exp() + (k4 * (tau - 0.645)).exp())
        scaled = (0.401 + 0.00187 * z - tau) / (1.313 - 0.0686 * log_e)
        in_core = (2.632 - 0.00094 * z) * (scaled - scaled.exp()).exp()
        return core, tail, in_core.clamp(0, 1)

    def _position(self, position: Tensor | None, energy: Tensor) -> Tensor:
        if position is None:
            return torch.zeros(len(energy), 2, dtype=torch.double)
        check_floating("position", position)
        check_finite("position", position)
        if position.shape != (len(energy), 2):
            raise ValueError(f"expected position of shape ({len(energy)}, 2), got {shown_shape(position)}")
        largest = [min(getattr(layer, size) for layer in self.calorimeter.layers) / 2 for size in ("height", "width")]
        if bool((position.double().abs() > torch.tensor(largest, dtype=torch.double)).any()):
            raise ValueError(f"expected position inside of all layers, at most {largest[0]:g} and {largest[1]:g} aside")
        return position.double()

    @staticmethod
    def _checked(energy: Tensor) -> Tensor:
        check_floating("energy", energy)
        if energy.ndim != 1 or not len(energy):
            raise ValueError(f"expected energy of shape (N,), at least one, got {shown_shape(energy)}")
        check_finite("energy", energy)
        low, high = (float(value) for value in energy.aminmax())
        if not LOWEST <= low <= high <= HIGHEST:
            raise ValueError(f"expected energy from {LOWEST} to {HIGHEST:g} GeV, got {low:g} to {high:g}")
        return energy.detach().double()


def gamma_shares(edges: Tensor, profile: Tensor) -> Tensor:
    """Share of a gamma profile with T and alpha (N, 2) between neighbouring depths (K + 1,): (N, K)."""
    alpha = profile[:, 1:]
    return torch.special.gammainc(alpha, (alpha - 1) / profile[:, :1] * edges).diff(dim=1)


def checked_profile(profile: Tensor) -> Tensor:
    """T and alpha (N, 2) in double precision; ``ValueError`` unless T is above 0 and alpha above 1."""
    check_floating("profile", profile)
    if profile.ndim != 2 or profile.shape[1] != 2 or not len(profile):
        raise ValueError(f"expected profile of shape (N, 2), got {shown_shape(profile)}")
    check_finite("profile", profile)
    t, alpha = profile.double().amin(0).tolist()
    if not (t > 0 and alpha > 1):
        raise ValueError(f"expected profile with T above 0 and alpha above 1, got {t:g} and {alpha:g}")
    return profile.double()
