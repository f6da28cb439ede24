"""Heads: functions from the last features of a network to a mixture.

A head with K components reads, for each component, a logit and the parameters of its family from the features, and
adds an offset to each, which decides where training starts. The last dimension of the features belongs to the head;
all others are the batch: rows of a table, steps of a sequence, pixels of an image. A network with a head is a mixture
density network (Bishop 1994, "Mixture density networks", Aston University NCRG/94/004).

Three measures keep components from collapsing onto single points or from being unused:

- ``floor``: ``scale = sqrt(floor² + exp(2 s))``, so that no component is narrower than the resolution of y. It is in
  units of the head's y: divide a resolution in units of the data by the scale of the standardisation. A rounding step d
  has a standard deviation of d/sqrt(12).
- Distinct starting points: the normal quantiles of a standardised y, or groups of the data (``started_at``).
- A prior over the mixture: `posterity.models.mixture_priors`.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import scipy
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.models.likelihoods import floored_scale
from posterity.models.mixtures import diagonal
from posterity.models.mixtures.arguments import checked_normal
from posterity.models.mixtures.mixture import Mixture
from posterity.models.mixtures.weights import Weights
from posterity.validation import (
    check_choice,
    check_finite,
    check_floating,
    check_integer,
    check_number,
    check_seed,
    shown_shape,
)

METHODS = ("quantiles", "k_means")
COVARIANCES = ("diagonal", "full", "low_rank")
WEIGHTLESS = -1e4  # a logit whose exponential is 0 in every dtype
EMPTY_GROUP = 0.5  # rows that an empty group counts as, for its weight


@dataclass(frozen=True)
class Family:
    """How the components of one family are built from features.

    Attributes:
        parts: the number of features of one component, beside its logit.
        build: a function of (parts, bounded, df) that returns the components; ``bounded`` maps a log-scale to a scale.
        start: a function of (centre, width), in units of ``to_line(y)``, that returns the offsets of such components.
        to_line: maps y to the line on which centres and widths are measured.
    """

    parts: int
    build: Callable[[Sequence[Tensor], Callable[[Tensor], Tensor], float], Distribution]
    start: Callable[[Tensor, Tensor], list[Tensor]]
    to_line: Callable[[Tensor], Tensor] = lambda y: y


def _located(centre: Tensor, width: Tensor) -> list[Tensor]:
    return [centre, width.log()]


def _von_mises(parts: Sequence[Tensor], bounded: Callable[[Tensor], Tensor]) -> Distribution:
    sine, cosine, log_concentration = parts
    # For narrow components 1/sqrt(concentration) is the scale, to which the floor applies.
    scale = bounded(-0.5 * log_concentration)
    return dist.VonMises(torch.atan2(sine, cosine), scale**-2)


FAMILIES = {
    "normal": Family(2, lambda p, bounded, df: checked_normal(p[0], bounded(p[1])), _located),
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
    """A function from the last features of a network to a `Mixture` of K components of one target.

    Args:
        components: K.
        floor: lower bound of every scale, in units of the head's y.
        spread: standard deviation of the starting centres.
        family: "normal", "laplace", "student_t", "log_normal", "poisson" or "von_mises"; see `MixtureHead`.
        df: degrees of freedom of Student's t.
        ceiling: upper bound of every scale, to which the floor is added in quadrature; None for no bound.

    Raises:
        ValueError: as `MixtureHead`.
    """
    return MixtureHead(components, floor, spread, family=family, df=df, ceiling=ceiling)


class MixtureHead:
    """Features (..., F) -> `Mixture` with batch shape (...), K components of one target.

    The features of each ``family``, K of each kind, are: "normal", "laplace" and "student_t": logits, locations and
    log-scales; "log_normal": the same for log y; "poisson": logits and log-rates, without a floor; "von_mises":
    logits, sine and cosine of the direction, log-concentrations, where ``floor`` bounds 1/sqrt(concentration).

    Component k starts at ``spread`` times the normal quantile of (k + 1/2)/K, so that the components are ordered and
    cover a standardised y. Directions start at equal angles, rates of counts at the exponential of these centres.
    `started_at` starts components at the data.

    Without a ``ceiling`` the posterior of a scale has draws so wide that they alone determine the predictive variance.
    A ceiling of about the spread of y, 1 to 2 if y is standardised, is recommended for a posterior of the weights.

    Args:
        components, floor, spread, family, df, ceiling: as in `mixture_head`.

    Raises:
        ValueError: fewer than one component, a floor, spread or df that is not positive, a ceiling at or below the
            floor, an unknown family; when called, features of another width or dtype.

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
        check_choice("family", family, sorted(FAMILIES))
        check_number("df", df, "(0, inf)")
        self.components, self.floor, self.spread = components, float(floor), float(spread)
        self.family, self.df, self.ceiling = family, float(df), ceiling
        positions = (torch.arange(components, dtype=torch.double) + 0.5) / components
        if family == "von_mises":
            centre = math.pi * (2 * positions - 1)
            width = torch.full_like(centre, math.pi / components)
        else:
            centre = spread * torch.special.ndtri(positions)
            # K components of this width at the centres approximate one normal of width ``spread``.
            width = torch.full_like(centre, spread / math.sqrt(components))
        self._offsets = torch.stack([torch.zeros_like(centre), *FAMILIES[family].start(centre, width)])

    @property
    def features(self) -> int:
        """The number of features that the head reads."""
        return self.components * (1 + FAMILIES[self.family].parts)

    def started_at(self, y: Tensor, *, method: str = "quantiles", seed: int = 0) -> "MixtureHead":
        """The same head with components that start at groups of ``y`` (N,), in units of the head's y.

        ``method`` is "quantiles" (K groups of equal size of the sorted y) or "k_means" (K clusters, with weights in
        proportion to their size; ``seed`` determines the first centres).

        Raises:
            ValueError: y of another shape, fewer rows than components, values that are not finite or outside the
                family's support, an unknown method, or "k_means" for angles.
        """
        line = _line(y, self.components, FAMILIES[self.family].to_line, self.family)
        if self.family == "von_mises" and method == "k_means":
            raise ValueError("expected method to be 'quantiles' for angles, got 'k_means'")
        centre, width, share = _groups(line[:, None], self.components, method, seed)
        width = width.clamp_min(self.floor)
        head = copy.copy(self)
        head._offsets = torch.stack([share.log(), *FAMILIES[self.family].start(centre[:, 0], width[:, 0])])
        return head

    def spread_first(self) -> "MixtureHead":
        """The same head with its components reordered, so that the first few, whatever their number, cover y.

        The order is that of van der Corput's sequence. It is for heads of which only the first components are used.
        """
        sequence = torch.tensor([_van_der_corput(k + 1) for k in range(self.components)])  # 1/2, 1/4, 3/4, 1/8, ...
        head = copy.copy(self)
        head._offsets = self._offsets[:, sequence.argsort().argsort()]
        return head

    def __call__(self, features: Tensor, used: Tensor | None = None) -> Mixture:
        """The mixture for ``features`` (..., F); only the first ``used``, a tensor (), components have weight."""
        _check_features(features, self.features, self.components)
        values = features.unflatten(-1, self._offsets.shape) + self._offsets.to(features)
        logits, *parts = values.unbind(-2)
        if used is not None:
            unused = torch.arange(self.components, device=features.device) >= used
            # Not -inf, whose gradient would be 0 times infinity, NaN.
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
    """A function from the last features of a network to a `Mixture` of K normals of several targets.

    Args:
        components: K.
        targets: D.
        covariance: "diagonal", "full" or "low_rank"; see `MultivariateMixtureHead`.
        rank: the number of factors of "low_rank".
        floor: lower bound of every scale, in units of the head's y.

    Raises:
        ValueError: as `MultivariateMixtureHead`.
    """
    return MultivariateMixtureHead(components, targets, covariance, rank, floor)


class MultivariateMixtureHead:
    """Features (..., F) -> `Mixture` with batch shape (...) and event shape (D,), K normal components.

    Beside a logit and D locations, the features of one component for each ``covariance`` are:

    - "diagonal": D log-scales; targets are independent within a component;
    - "full": D log-scales and D (D - 1)/2 couplings. The Cholesky factor has the scales on its diagonal; below it, row
      i is coupling times scale i, so that couplings have no units (Williams 1996 for the factor);
    - "low_rank": D log-scales and D x ``rank`` factors, in units of the scale.

    Every scale has the ``floor`` of `MixtureHead`. With "full" it is the standard deviation of a target given the
    targets before it, with "low_rank" the one given the common factors. Components start at random normal locations,
    the same in every head; see `started_at`.

    Args:
        components, targets, covariance, rank, floor: as in `multivariate_mixture_head`.

    Raises:
        ValueError: fewer than one component or target, an unknown covariance, a rank outside 1 to D, a floor that is
            not positive; when called, features of another width or dtype.

    >>> head = multivariate_mixture_head(components=3, targets=2)
    >>> head(torch.zeros(5, head.features)).covariance_matrix.shape
    torch.Size([5, 2, 2])
    """

    def __init__(self, components: int, targets: int, covariance: str, rank: int, floor: float) -> None:
        _check(components, floor)
        check_integer("targets", targets, 1)
        check_choice("covariance", covariance, COVARIANCES)
        check_integer("rank", rank, 1, targets)
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
        """The number of features that the head reads."""
        return self.components * sum(self._sizes)

    def started_at(self, y: Tensor, *, seed: int = 0) -> "MultivariateMixtureHead":
        """The same head with components that start at the k-means clusters of ``y`` (N, D).

        Raises:
            ValueError: y of another shape, fewer rows than components, or values that are not finite.
        """
        if not isinstance(y, Tensor) or y.ndim != 2 or y.shape[1] != self.targets:
            raise ValueError(f"expected y of shape (N, {self.targets}), got {shown_shape(y)}")
        _check_rows(y, self.components)
        centre, width, share = _groups(y.detach().double(), self.components, "k_means", seed)
        head = copy.copy(self)
        head._offsets = self._start(centre, width.clamp_min(self.floor), share)
        return head

    def _start(self, centre: Tensor, width: Tensor, share: Tensor) -> Tensor:
        none = centre.new_zeros(self.components, self._sizes[3])
        if self.covariance == "low_rank":
            # A factor of zero has no gradient.
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
        # A product with constants, since an assignment by index cannot be recorded for all chains at once.
        place = scale.new_zeros(len(row), self.targets, self.targets)
        place[torch.arange(len(row)), row, column] = 1.0
        lower = unit + (couplings @ place.flatten(1)).unflatten(-1, (self.targets, self.targets))
        return Mixture(mixing, dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * lower))

    def logits(self, features: Tensor) -> Tensor:
        """The logits (..., K) of the components, which need not be normalised."""
        values = features.unflatten(-1, self._offsets.shape)
        return values[..., 0] + self._offsets[:, 0].to(features)

    def component(self, features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations (N, D) of the components ``index`` (N,) of N mixtures, for "diagonal".

        Only these components are computed, from features (N, F).
        """
        rows = features.reshape(-1, self._offsets.shape[1])
        places = index + torch.arange(0, len(rows), self.components, device=features.device)
        values = rows.index_select(0, places) + self._offsets.to(features).index_select(0, index)
        loc, log_scale = values[:, 1 : 1 + self.targets], values[:, 1 + self.targets :]
        return loc, floored_scale(log_scale, self.floor)

    def in_units(self, features: Tensor, loc: Tensor, scale: Tensor) -> Mixture:
        """The mixture of ``loc + scale * Y`` for Y of this head, as ``affine``; ``loc`` and ``scale`` > 0 are (D,).

        Independent targets take one pass over the features, which is faster than the mixture of Y and its ``affine``.
        Features (..., F or more) that follow those of the head are ignored.

        Raises:
            ValueError: features of another width or dtype, or a loc or scale of another shape.
        """
        own = features[..., : self.features]
        _check_features(own, self.features, self.components)
        for name, value in (("loc", loc), ("scale", scale)):
            if not isinstance(value, Tensor) or value.shape != (self.targets,):
                raise ValueError(f"expected {name} of shape ({self.targets},), got {shown_shape(value)}")
        if self.covariance != "diagonal" or not diagonal.has_parts(features, loc, scale):
            return self(own).affine(loc, scale)
        least = max(self.floor**2, torch.finfo(features.dtype).tiny)
        logits, mean, spread = diagonal.parts(features, self._offsets.to(features), least, loc, scale)
        # If the sum is finite, all features are, and logits, means and scales are valid without checks.
        checked = False if bool(features.detach().sum().isfinite()) else None
        return Mixture(Weights(logits, checked), dist.Normal(mean, spread, validate_args=checked).to_event(1))

    def __repr__(self) -> str:
        return (
            f"multivariate_mixture_head(components={self.components}, targets={self.targets}, "
            f"covariance={self.covariance!r}, floor={self.floor})"
        )


def _van_der_corput(number: int) -> float:
    """The binary digits of ``number`` mirrored at the binary point."""
    digits = f"{number:b}"[::-1]
    return int(digits, 2) / 2 ** len(digits)


def _check(components: int, floor: float, ceiling: float | None = None) -> None:
    check_integer("components", components, 1)
    check_number("floor", floor, "(0, inf)")
    if ceiling is not None:
        check_number("ceiling", ceiling, f"({floor}, inf)")


def _check_features(features: Tensor, wanted: int, components: int) -> None:
    if not isinstance(features, Tensor) or features.ndim == 0 or features.shape[-1] != wanted:
        raise ValueError(
            f"expected features of shape (..., {wanted}) for {components} components, got {shown_shape(features)}"
        )
    check_floating("features", features)


def _check_rows(y: Tensor, components: int) -> None:
    if len(y) < components:
        raise ValueError(f"expected at least {components} rows of y for {components} components, got {len(y)}")
    check_finite("y", y)


def _line(y: Tensor, components: int, to_line: Callable[[Tensor], Tensor], family: str) -> Tensor:
    """y on the line on which centres and widths are measured: for positive numbers and counts its logarithm."""
    if not isinstance(y, Tensor) or y.ndim != 1:
        raise ValueError(f"expected y of shape (N,), got {shown_shape(y)}")
    _check_rows(y, components)
    line = to_line(y.detach().double())
    if not bool(torch.isfinite(line).all()):
        raise ValueError(f"expected y in the support of {family}, got {float(y.min())}")
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
        _, clusters = scipy.cluster.vq.kmeans2(y.numpy(), count, minit="++", rng=np.random.default_rng(seed))
        label = torch.as_tensor(clusters, dtype=torch.long)
    whole = y.std(0, correction=0)
    whole = torch.where(whole > 0, whole, 1.0)  # a constant y has no width: use the head's unit
    rows = [y[label == k] for k in range(count)]
    # A group of fewer than two rows gets the width of all rows; an empty one their mean.
    centre = torch.stack([r.mean(0) if len(r) else y.mean(0) for r in rows])
    width = torch.stack([r.std(0, correction=0) if len(r) > 1 else whole for r in rows])
    share = torch.tensor([max(len(r), EMPTY_GROUP) for r in rows], dtype=torch.double)
    order = centre[:, 0].argsort()
    return centre[order], torch.maximum(width, 1e-3 * whole)[order], (share / share.sum())[order]
