"""The distribution of ``loc + scale * Y`` within the same family, so that moments and quantiles stay analytic."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Cauchy,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
)


def affine(distribution: Distribution, loc: Tensor | float, scale: Tensor | float) -> Distribution:
    """The distribution of ``loc + scale * Y`` where Y follows ``distribution``; same family, same type.

    ``loc`` and ``scale`` > 0 broadcast to the batch shape, or to batch + event shape for several targets; a mixture
    takes scalars, or vectors of its event shape. A distribution with a method ``affine(loc, scale)`` answers itself.
    Raises ``ValueError`` for a family that is not closed under location and scale.

    >>> affine(Normal(1.0, 2.0), loc=10.0, scale=3.0)
    Normal(loc: 13.0, scale: 6.0)
    """
    own = getattr(distribution, "affine", None)
    if own is not None:
        return own(loc, scale)
    for family, rule in _RULES.items():
        if isinstance(distribution, family):
            return rule(distribution, loc, scale)
    names = ", ".join(family.__name__ for family in _RULES)
    raise ValueError(f"expected a location-scale family ({names}), got {type(distribution).__name__}")


def _location_scale(d: Any, loc: Any, scale: Any) -> Distribution:
    return type(d)(loc + scale * d.loc, scale * d.scale)


def _multivariate_normal(d: MultivariateNormal, loc: Any, scale: Any) -> Distribution:
    rows = torch.as_tensor(scale).to(d.loc).expand(d.event_shape)
    return type(d)(loc + rows * d.loc, scale_tril=rows[:, None] * d.scale_tril)


# type(d)(...) rather than torch's class, so that a distribution of Pyro's stays one.
_RULES: dict[type, Callable[[Any, Any, Any], Distribution]] = {
    Normal: _location_scale,
    Laplace: _location_scale,
    Cauchy: _location_scale,
    StudentT: lambda d, loc, scale: type(d)(d.df, loc + scale * d.loc, scale * d.scale),
    Uniform: lambda d, loc, scale: type(d)(loc + scale * d.low, loc + scale * d.high),
    MultivariateNormal: _multivariate_normal,
    Independent: lambda d, loc, scale: type(d)(affine(d.base_dist, loc, scale), d.reinterpreted_batch_ndims),
    MixtureSameFamily: lambda d, loc, scale: type(d)(
        d.mixture_distribution, affine(d.component_distribution, loc, scale)
    ),
}
