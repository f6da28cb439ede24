"""Points in the plane around known centres: what a generator that drops modes is caught with.

The ring and the grid of Srivastava et al. 2017 ("VEEGAN", arXiv:1705.07761) and Lin et al. 2018 ("PacGAN",
arXiv:1712.04086).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from posterity.random import as_generator
from posterity.validation import check_floating, check_integer, check_number, is_number


@dataclass(frozen=True, eq=False)
class Clusters:
    """M normal clusters of equal weight: ``centres`` (M, D), one standard deviation ``sd`` along every direction.

    Raises ``ValueError`` for centres of another shape or dtype or not finite, an sd that is not positive, or one beyond
    a third of the smallest distance of two centres: then it is not clear which cluster a point is of.

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
        if not bool(self.centres.isfinite().all()):
            bad = int((~self.centres.isfinite()).sum())
            raise ValueError(f"expected finite centres, got {bad} values that are nan or infinite")
        if not is_number(self.sd):
            raise ValueError(f"expected an sd above 0, got {self.sd!r}")
        apart = (
            torch.nn.functional.pdist(self.centres.double()).min() if len(self.centres) > 1 else torch.tensor(math.inf)
        )
        if not 0 < self.sd < float(apart) / 3:
            raise ValueError(
                f"expected an sd above 0 and below a third of the least distance of centres, {float(apart):g}, "
                f"got {self.sd:g}"
            )

    def sample(self, n: int, *, seed: int | torch.Generator) -> Tensor:
        """n draws, shape (n, D), in the default dtype, or in float64 where that would round them by 1e-3 sd."""
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
        """The exact density, over D targets."""
        count, targets = self.centres.shape
        spread = (self.sd * torch.eye(targets).to(self.centres)).expand(count, -1, -1)
        weights = Categorical(self.centres.new_ones(count))
        return MixtureSameFamily(weights, MultivariateNormal(self.centres, scale_tril=spread))

    def nearest(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Of points (N, D): the nearest cluster (N,), and the distance to its centre in units of the sd (N,)."""
        check_floating("points", points)
        if points.ndim != 2 or points.shape[1] != self.centres.shape[1]:
            raise ValueError(f"expected points of shape (N, {self.centres.shape[1]}), got {tuple(points.shape)}")
        dtype = torch.promote_types(points.dtype, self.centres.dtype)
        points, centres = points.to(dtype), self.centres.to(points.device, dtype)
        found = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").min(-1)
        return found.indices, found.values / self.sd


def ring(modes: int = 8, *, radius: float = 1.0, sd: float = 0.01) -> Clusters:
    """``modes`` clusters at even steps around a circle."""
    check_integer("modes", modes, 1)
    check_number("radius", radius, "(0, inf)")
    angle = 2 * math.pi * torch.arange(modes) / modes
    return Clusters(radius * torch.stack([angle.cos(), angle.sin()], -1), sd, f"ring of {modes}")


def grid(side: int = 5, *, spacing: float = 2.0, sd: float = 0.05) -> Clusters:
    """``side``² clusters on a square grid around the origin: at -4, -2, 0, 2, 4 along both axes."""
    check_integer("side", side, 1)
    check_number("spacing", spacing, "(0, inf)")
    steps = spacing * (torch.arange(side) - (side - 1) / 2)
    return Clusters(torch.cartesian_prod(steps, steps), sd, f"grid of {side} x {side}")
