"""The distribution of ``loc + scale * Y`` within the same family, so that moments and quantiles stay analytic."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Cauchy,
    Distribution,
    Gumbel,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
)


def affine(distribution: Distribution, loc: Tensor | float, scale: Tensor | float) -> Distribution:
    """The distribution of ``loc + scale * Y`` where Y follows ``distribution``; same family, same type.

    ``loc`` and ``scale`` > 0 broadcast to the batch shape, or to batch + event shape for several targets; a
    mixture takes scalars, or vectors of its event shape. A distribution with a method ``affine(loc, scale)``
    answers itself. Raises ``ValueError`` for a family that is not closed under location and scale.

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


def _rebuilt(d: Any, *parameters: Any, **named: Any) -> Distribution:
    # type(d), not torch's class, so that a distribution of Pyro's stays one. Validation stays as it was: its
    # checks branch on values, which vmap and graph capture cannot follow.
    return type(d)(*parameters, **named, validate_args=d._validate_args)


def _like(parameter: Tensor, *values: Any) -> list[Any]:
    """Tensors among the values in the dtype and on the device of `parameter`; numbers as they are."""
    return [value.to(parameter) if isinstance(value, Tensor) else value for value in values]


def _location_scale(d: Any, loc: Any, scale: Any) -> Distribution:
    loc, scale = _like(d.loc, loc, scale)
    return _rebuilt(d, loc + scale * d.loc, scale * d.scale)


def _student_t(d: StudentT, loc: Any, scale: Any) -> Distribution:
    loc, scale = _like(d.loc, loc, scale)
    return _rebuilt(d, d.df, loc + scale * d.loc, scale * d.scale)


def _uniform(d: Uniform, loc: Any, scale: Any) -> Distribution:
    loc, scale = _like(d.low, loc, scale)
    return _rebuilt(d, loc + scale * d.low, loc + scale * d.high)


def _multivariate_normal(d: MultivariateNormal, loc: Any, scale: Any) -> Distribution:
    loc, rows = _like(d.loc, loc, torch.as_tensor(scale).expand(d.event_shape))
    return _rebuilt(d, loc + rows * d.loc, scale_tril=rows[:, None] * d.scale_tril)


def _low_rank_normal(d: LowRankMultivariateNormal, loc: Any, scale: Any) -> Distribution:
    loc, rows = _like(d.loc, loc, torch.as_tensor(scale).expand(d.event_shape))
    return _rebuilt(d, loc + rows * d.loc, rows[:, None] * d.cov_factor, rows**2 * d.cov_diag)


def _independent(d: Independent, loc: Any, scale: Any) -> Distribution:
    return _rebuilt(d, affine(d.base_dist, loc, scale), d.reinterpreted_batch_ndims)


def _mixture(d: MixtureSameFamily, loc: Any, scale: Any) -> Distribution:
    return _rebuilt(d, d.mixture_distribution, affine(d.component_distribution, loc, scale))


_RULES: dict[type, Callable[[Any, Any, Any], Distribution]] = {
    Normal: _location_scale,
    Laplace: _location_scale,
    Cauchy: _location_scale,
    Gumbel: _location_scale,
    StudentT: _student_t,
    Uniform: _uniform,
    MultivariateNormal: _multivariate_normal,
    LowRankMultivariateNormal: _low_rank_normal,
    Independent: _independent,
    MixtureSameFamily: _mixture,
}
