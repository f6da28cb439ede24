"""Heads: from a network's last features to a mixture.

A head with K components reads, for each of them, a logit and the parameters of its family, and adds an offset to each:
where training begins. The last dimension of the features is the head's, all others are batch: a table's rows, the steps
of a sequence, the pixels of an image. With a network it is a mixture density network (Bishop 1994, "Mixture density
networks", Aston University NCRG/94/004).

Three things keep training from collapsing onto single points or from wasting components:

- ``floor``: ``scale = sqrt(floor² + exp(2 s))``, so that no component is narrower than the resolution at which y is
  known (in the units of the head's y: divide a resolution in the units of the data by the standardisation's scale; a
  rounding step of d has sd d/sqrt(12));
- components that begin apart: at the normal quantiles of a standardised y, or where the data are (``started_at``);
- a prior over what the head says: `posterity.models.mixture_priors`.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.distributions import Distribution

from posterity.models.likelihoods import floored_scale
from posterity.models.mixtures.checked import normal
from posterity.models.mixtures.mixture import Mixture
from posterity.models.mixtures.weights import Weights
from posterity.validation import check_choice, check_integer, check_number, check_seed, is_positive

METHODS = ("quantiles", "k_means")
COVARIANCES = ("diagonal", "full", "low_rank")
WEIGHTLESS = -1e4  # a logit: exp of it is 0 in any dtype
FEWEST_SHARE = 0.5  # rows that a group without any counts as, for its weight


@dataclass(frozen=True)
class Family:
    """How components are made: ``parts`` features each, ``build(parts, bounded, df)``, where ``bounded`` makes a
    scale of a log-scale.

    ``start(centre, width)`` gives the offsets at which components have these centres and widths, in the units of
    ``to_line(y)``.
    """

    parts: int
    build: Callable[[Sequence[Tensor], Callable[[Tensor], Tensor], float], Distribution]
    start: Callable[[Tensor, Tensor], list[Tensor]]
    to_line: Callable[[Tensor], Tensor] = lambda y: y


def _located(centre: Tensor, width: Tensor) -> list[Tensor]:
    return [centre, width.log()]


def _von_mises(parts: Sequence[Tensor], bounded: Callable[[Tensor], Tensor]) -> Distribution:
    sine, cosine, log_concentration = parts
    # 1/concentration is the squared scale of a narrow one: its root has the floor.
    scale = bounded(-0.5 * log_concentration)
    return dist.VonMises(torch.atan2(sine, cosine), scale**-2)


FAMILIES = {
    "normal": Family(2, lambda p, bounded, df: normal(p[0], bounded(p[1])), _located),
    "laplace": Family(2, lambda p, bounded, df: dist.Laplace(p[0], bounded(p[1])), _located),
    "student_t": Family(2, lambda p, bounded, df: dist.StudentT(df, p[0], bounded(p[1])), _located),
    "log_normal": Family(
        2, lambda p, bounded, df: dist.LogNormal(p[0], bounded(p[1])), _located, to_line=torch.log
    ),
    "poisson": Family(1, lambda p, bounded, df: dist.Poisson(p[0].exp()), lambda c, w: [c],
        to_line=lambda y: (y + 0.5).log()),
    "von_mises": Family(
        3, lambda p, bounded, df: _von_mises(p, bounded), lambda c, w: [c.sin(), c.cos(), -2 * w.log()]
    ),
}  # fmt: skip


def mixture_head(
    components: int,
    *,
    floor: float = 1e-3,
    spread: float = 1.0,
    family: str = "normal",
    df: float = 4.0,
    ceiling: float | None = None,
) -> "MixtureHead":
    """A function from a network's last features to a `Mixture` of K components of one target; see `MixtureHead`."""
    return MixtureHead(components, floor, spread, family=family, df=df, ceiling=ceiling)


class MixtureHead:
    """Features (..., F) -> `Mixture` with batch shape (...), K components of one target.

    ``family`` and its features, K of each kind: "normal", "laplace" and "student_t" (logits, locations, log-scales;
    ``df`` degrees of freedom), "log_normal" (the same of log y), "poisson" (logits, log-rates; no floor), "von_mises"
    (logits, sine and cosine of the direction, log-concentrations; ``floor`` is that of 1/sqrt(concentration)).

    Component k starts at the normal quantile of (k + 1/2)/K times ``spread``, so that the components begin apart, in
    the order of their index, and cover a standardised y (angles: evenly around the circle; counts: rates from
    exp of that). `started_at` starts them where the data are.

    ``ceiling`` bounds every scale from above (up to the floor): the posterior of a scale that may be anything has
    draws so wide that the predictive variance is theirs alone. About the spread of y, 1 to 2 where it is standardised.

    Raises ``ValueError`` for fewer than one component, a floor or spread that is not positive, an unknown family, or
    features of another width.

    >>> mixture_head(components=2)(torch.zeros(5, 6)).batch_shape
    torch.Size([5])
    """

    def __init__(
        self,
        components: int,
        floor: float,
        spread: float,
        *,
        family: str = "normal",
        df: float = 4.0,
        ceiling: float | None = None,
    ) -> None:
        _check(components, floor, ceiling)
        check_number("spread", spread, "(0, inf)")
        if not isinstance(family, str) or family not in FAMILIES:
            raise ValueError(f"expected a family from {sorted(FAMILIES)}, got {family!r}")
        check_number("df", df, "(0, inf)")
        self.components, self.floor, self.spread = components, float(floor), float(spread)
        self.family, self.df, self.ceiling = family, float(df), ceiling
        positions = (torch.arange(components, dtype=torch.double) + 0.5) / components
        if family == "von_mises":
            centre = math.pi * (2 * positions - 1)
            width = torch.full_like(centre, math.pi / components)
        else:
            centre = spread * torch.special.ndtri(positions)
            # K components of this width, side by side at the centres, make up about one of width ``spread``.
            width = torch.full_like(centre, spread / math.sqrt(components))
        self._offsets = torch.stack([torch.zeros_like(centre), *FAMILIES[family].start(centre, width)])

    @property
    def features(self) -> int:
        """How many features the head expects."""
        return self.components * (1 + FAMILIES[self.family].parts)

    def started_at(self, y: Tensor, *, method: str = "quantiles", seed: int = 0) -> "MixtureHead":
        """The same head, whose components start where ``y`` (N,) is, in the units of the head's y.

        ``method``: "quantiles" (K groups of equal size of the sorted y) or "k_means" (K groups of points near each
        other, with weights by their size; the seed is that of the first centres). Raises ``ValueError`` for y of
        another shape, fewer rows than components, values that are not finite or outside the family's support.
        """
        line = _line(y, self.components, FAMILIES[self.family].to_line, self.family)
        if self.family == "von_mises" and method == "k_means":
            raise ValueError("expected method='quantiles' for angles, got 'k_means'")
        centre, width, share = _groups(line[:, None], self.components, method, seed)
        width = width.clamp_min(self.floor)
        head = copy.copy(self)
        head._offsets = torch.stack([share.log(), *FAMILIES[self.family].start(centre[:, 0], width[:, 0])])
        return head

    def spread_first(self) -> "MixtureHead":
        """The same head, its components in an order of which the first few, however many, start spread over y.

        For heads of which only the first are used; the order is that of van der Corput's sequence.
        """
        sequence = torch.tensor([_van_der_corput(k + 1) for k in range(self.components)])  # 1/2, 1/4, 3/4, 1/8, ...
        head = copy.copy(self)
        head._offsets = self._offsets[:, sequence.argsort().argsort()]
        return head

    def __call__(self, features: Tensor, used: Tensor | None = None) -> Mixture:
        """``used``, a whole number as a tensor (), leaves components from that index on without weight."""
        _check_features(features, self.features, self.components)
        values = features.unflatten(-1, self._offsets.shape) + self._offsets.to(features)
        logits, *parts = values.unbind(-2)
        if used is not None:
            unused = torch.arange(self.components, device=features.device) >= used
            # Not minus infinity, whose gradient through 0 times infinity would not be a number.
            logits = torch.where(unused, WEIGHTLESS, logits)
        return Mixture(Weights(logits), FAMILIES[self.family].build(parts, self._bounded, self.df))

    def _bounded(self, log_scale: Tensor) -> Tensor:
        return floored_scale(log_scale, self.floor, self.ceiling)

    def __repr__(self) -> str:
        family = "" if self.family == "normal" else f", family={self.family!r}"
        return f"mixture_head(components={self.components}, floor={self.floor}, spread={self.spread}{family})"


def multivariate_mixture_head(
    components: int, targets: int, *, covariance: str = "full", rank: int = 1, floor: float = 1e-3
) -> "MultivariateMixtureHead":
    """From a network's last features to a `Mixture` of K normals of several targets; see `MultivariateMixtureHead`."""
    return MultivariateMixtureHead(components, targets, covariance, rank, floor)


class MultivariateMixtureHead:
    """Features (..., F) -> `Mixture` with batch shape (...) and event shape (D,), K normal components.

    ``covariance`` and its features of each component beside a logit and D locations:

    - "diagonal": D log-scales; targets are independent within a component;
    - "full": D log-scales and D (D - 1)/2 couplings. The Cholesky factor has the scales on its diagonal, and row i
      below it is coupling times scale i, so that a coupling has no units (Williams 1996 for the factor);
    - "low_rank": D log-scales and D x ``rank`` factors (in units of the scale).

    Every scale has the ``floor`` of `MixtureHead`: the spread of a target given those before it ("full"), or given the
    common factors ("low_rank"). Components start at random normal places, the same in every head; see `started_at`.
    Raises ``ValueError`` for fewer than one component or target, an unknown covariance, a rank outside 1 to D, a floor
    that is not positive, or features of another width.

    >>> head = multivariate_mixture_head(components=3, targets=2)
    >>> head(torch.zeros(5, head.features)).covariance_matrix.shape
    torch.Size([5, 2, 2])
    """

    def __init__(self, components: int, targets: int, covariance: str, rank: int, floor: float) -> None:
        _check(components, floor)
        check_integer("targets", targets, 1)
        check_choice("covariance", covariance, COVARIANCES)
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= targets:
            raise ValueError(f"expected a rank from 1 to {targets}, got {rank}")
        self.components, self.targets, self.covariance = components, targets, covariance
        self.rank, self.floor = rank, float(floor)
        couplings = {"diagonal": 0, "full": targets * (targets - 1) // 2, "low_rank": targets * rank}[covariance]
        self._sizes = [1, targets, targets, couplings]
        generator = torch.Generator().manual_seed(0)
        centre = torch.randn(components, targets, generator=generator, dtype=torch.double)
        width = torch.full_like(centre, components ** (-1 / (2 * targets)))
        self._offsets = self._start(centre, width, torch.ones(components, dtype=torch.double))

    @property
    def features(self) -> int:
        """How many features the head expects."""
        return self.components * sum(self._sizes)

    def started_at(self, y: Tensor, *, seed: int = 0) -> "MultivariateMixtureHead":
        """The same head, whose components start at the groups that k-means finds in ``y`` (N, D).

        Raises ``ValueError`` for y of another shape, fewer rows than components, or values that are not finite.
        """
        if not isinstance(y, Tensor) or y.ndim != 2 or y.shape[1] != self.targets:
            found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"expected y of shape (N, {self.targets}), got {found}")
        _check_rows(y, self.components)
        centre, width, share = _groups(y.detach().double(), self.components, "k_means", seed)
        head = copy.copy(self)
        head._offsets = self._start(centre, width.clamp_min(self.floor), share)
        return head

    def _start(self, centre: Tensor, width: Tensor, share: Tensor) -> Tensor:
        none = centre.new_zeros(self.components, self._sizes[3])
        if self.covariance == "low_rank":
            # A factor of zero would have no gradient.
            none = none + 0.1 * torch.linspace(-1, 1, max(1, self._sizes[3]), dtype=torch.double)[: self._sizes[3]]
        return torch.cat([share.log()[:, None], centre, width.log(), none], -1)

    def __call__(self, features: Tensor) -> Mixture:
        _check_features(features, self.features, self.components)
        values = features.unflatten(-1, (self.components, -1)) + self._offsets.to(features)
        logits, loc, log_scale, couplings = values.split(self._sizes, -1)
        scale = floored_scale(log_scale, self.floor)
        mixing = Weights(logits.squeeze(-1))
        if self.covariance == "diagonal":
            return Mixture(mixing, dist.Normal(loc, scale).to_event(1))
        if self.covariance == "low_rank":
            factor = couplings.unflatten(-1, (self.targets, self.rank)) * scale.unsqueeze(-1)
            return Mixture(mixing, dist.LowRankMultivariateNormal(loc, factor, scale**2))
        row, column = torch.tril_indices(self.targets, self.targets, -1)
        unit = torch.diag_embed(torch.ones_like(scale))
        # By a product with constants: an assignment by index could not be recorded for all chains at once.
        place = scale.new_zeros(len(row), self.targets, self.targets)
        place[torch.arange(len(row)), row, column] = 1.0
        lower = unit + (couplings[..., None, None] * place).sum(-3)
        return Mixture(mixing, dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * lower))

    def __repr__(self) -> str:
        return (
            f"multivariate_mixture_head(components={self.components}, targets={self.targets}, "
            f"covariance={self.covariance!r}, floor={self.floor})"
        )


def _van_der_corput(number: int) -> float:
    """The binary digits of ``number`` mirrored at the point."""
    digits = f"{number:b}"[::-1]
    return int(digits, 2) / 2 ** len(digits)


def _check(components: int, floor: float, ceiling: float | None = None) -> None:
    check_integer("components", components, 1)
    check_number("floor", floor, "(0, inf)")
    if ceiling is not None and not (is_positive(ceiling) and floor < ceiling):
        raise ValueError(f"expected a finite ceiling above the floor of {floor}, got {ceiling!r}")


def _check_features(features: Tensor, wanted: int, components: int) -> None:
    if not isinstance(features, Tensor) or features.ndim == 0 or features.shape[-1] != wanted:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"expected features of shape (..., {wanted}) for {components} components, got {found}")
    if not features.is_floating_point():
        raise ValueError(f"expected features of floating point, got {features.dtype}")


def _check_rows(y: Tensor, components: int) -> None:
    if len(y) < components:
        raise ValueError(f"expected at least {components} rows of y for {components} components, got {len(y)}")
    if not bool(torch.isfinite(y).all()):
        raise ValueError("expected finite values of y, got nan or infinity")


def _line(y: Tensor, components: int, to_line: Callable[[Tensor], Tensor], family: str) -> Tensor:
    """y where its components have centres and widths: of positive numbers and counts the logarithm."""
    if not isinstance(y, Tensor) or y.ndim != 1:
        found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"expected y of shape (N,), got {found}")
    _check_rows(y, components)
    line = to_line(y.detach().double())
    if not bool(torch.isfinite(line).all()):
        raise ValueError(f"expected y inside the support of {family}, got {float(y.min())}")
    return line


def _groups(y: Tensor, count: int, method: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centres and standard deviations (K, D) of groups of the rows of ``y`` (N, D), and their shares (K,)."""
    check_choice("method", method, METHODS)
    check_seed(seed)
    if method == "quantiles":
        order = y[:, 0].argsort()
        label = torch.empty(len(y), dtype=torch.long)
        label[order] = torch.arange(len(y)) * count // len(y)
    else:
        _, found = kmeans2(y.numpy(), count, minit="++", rng=np.random.default_rng(seed))
        label = torch.as_tensor(found, dtype=torch.long)
    whole = y.std(0, correction=0)
    whole = torch.where(whole > 0, whole, 1.0)  # of a constant y nothing says how wide: the unit of the head
    rows = [y[label == k] for k in range(count)]
    # A group of one row has no width of its own; an empty one is as wide as all, at their mean.
    centre = torch.stack([r.mean(0) if len(r) else y.mean(0) for r in rows])
    width = torch.stack([r.std(0, correction=0) if len(r) > 1 else whole for r in rows])
    share = torch.tensor([max(len(r), FEWEST_SHARE) for r in rows], dtype=torch.double)
    order = centre[:, 0].argsort()
    return centre[order], torch.maximum(width, 1e-3 * whole)[order], (share / share.sum())[order]
