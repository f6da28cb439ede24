"""Clusters of points around known centres, with which the modes that a generator drops can be counted.

The ring and the grid of Srivastava et al. 2017 ("VEEGAN", arXiv:1705.07761) and Lin et al. 2018 ("PacGAN",
arXiv:1712.04086).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from posterity.random import as_generator
from posterity.validation import check_finite, check_floating, check_integer, check_number


@dataclass(frozen=True, eq=False)
class Clusters:
    """M normal clusters of equal weight: ``centres`` (M, D), and one standard deviation ``sd`` in all directions.

    Raises:
        ValueError: centres of another shape or dtype or not finite, an sd that is not above 0, or an sd of at least a
            third of the smallest distance between centres, with which points cannot be assigned to clusters.

    >>> ring().sample(100, seed=0).shape
    torch.Size([100, 2])
    """

    centres: Tensor
    sd: float
    name: str = "clusters"

    def __post_init__(self) -> None:
        check_floating("centres", self.centres)
        if self.centres.ndim != 2 or 0 in self.centres.shape:
            raise ValueError(f"expected centres of shape (M, D), got {tuple(self.centres.shape)}")
        check_finite("centres", self.centres)
        check_number("sd", self.sd, "(0, inf)")
        apart = (
            torch.nn.functional.pdist(self.centres.double()).min() if len(self.centres) > 1 else torch.tensor(math.inf)
        )
        if not self.sd < float(apart) / 3:
            raise ValueError(
                f"expected sd to be below a third of the smallest distance between centres, {float(apart):g}, "
                f"got {self.sd:g}"
            )

    def sample(self, n: int, *, seed: int | torch.Generator) -> Tensor:
        """n draws, shape (n, D), in the default dtype, or in float64 if that dtype would round them by 1e-3 sd.

        Raises:
            ValueError: n below 1, or a seed that is neither an int nor a generator.
        """
        check_integer("n", n, 1)
        generator = as_generator(seed)
        dtype = torch.get_default_dtype()
        if float(self.centres.abs().max()) * torch.finfo(dtype).eps > 1e-3 * self.sd:
            dtype = torch.float64
        which = torch.randint(len(self.centres), (n,), generator=generator, device=generator.device)
        noise = torch.randn(n, self.centres.shape[1], generator=generator, device=generator.device, dtype=dtype)
        return self.centres.to(noise)[which] + self.sd * noise

    @property
    def distribution(self) -> MixtureSameFamily:
        """The distribution of the points, of event shape (D,)."""
        count, targets = self.centres.shape
        spread = (self.sd * torch.eye(targets).to(self.centres)).expand(count, -1, -1)
        weights = Categorical(self.centres.new_ones(count))
        return MixtureSameFamily(weights, MultivariateNormal(self.centres, scale_tril=spread))

    def nearest(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest cluster (N,) of each of ``points`` (N, D), and the distance to its centre in units of sd (N,).

        Raises:
            ValueError: points of another shape or dtype.
        """
        check_floating("points", points)
        if points.ndim != 2 or points.shape[1] != self.centres.shape[1]:
            raise ValueError(f"expected points of shape (N, {self.centres.shape[1]}), got {tuple(points.shape)}")
        dtype = torch.promote_types(points.dtype, self.centres.dtype)
        points, centres = points.to(dtype), self.centres.to(points.device, dtype)
        nearest = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").min(-1)
        return nearest.indices, nearest.values / self.sd


def ring(modes: int = 8, *, radius: float = 1.0, sd: float = 0.01) -> Clusters:
    """``modes`` clusters at equal steps around a circle.

    Raises:
        ValueError: fewer than one mode, or a radius or sd that is not above 0 or does not fit.
    """
    check_integer("modes", modes, 1)
    check_number("radius", radius, "(0, inf)")
    angle = 2 * math.pi * torch.arange(modes) / modes
    return Clusters(radius * torch.stack([angle.cos(), angle.sin()], -1), sd, f"ring of {modes}")


def grid(side: int = 5, *, spacing: float = 2.0, sd: float = 0.05) -> Clusters:
    """``side``² clusters on a square grid around the origin, by default at -4, -2, 0, 2, 4 along both axes.

    Raises:
        ValueError: a side below 1, or a spacing or sd that is not above 0 or does not fit.
    """
    check_integer("side", side, 1)
    check_number("spacing", spacing, "(0, inf)")
    steps = spacing * (torch.arange(side) - (side - 1) / 2)
    return Clusters(torch.cartesian_prod(steps, steps), sd, f"grid of {side} x {side}")
