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

from posterity.validation import check_floating, is_number, shown


def affine(distribution: Distribution, loc: Tensor | float, scale: Tensor | float) -> Distribution:
    """The distribution of ``loc + scale * Y`` where Y follows ``distribution``; same family, same type.

    ``loc`` and ``scale`` > 0 broadcast to the batch shape, or to batch + event shape for several targets; a mixture
    takes scalars, or vectors of its event shape. The result has the widest dtype of these tensors and the
    distribution. A method ``affine(loc, scale)`` of the distribution takes precedence.

    Raises:
        ValueError: a family that is not closed under location and scale, or a loc or scale that is neither a number
            nor a tensor.

    >>> affine(Normal(1.0, 2.0), loc=10.0, scale=3.0)
    Normal(loc: 13.0, scale: 6.0)
    """
    if not isinstance(distribution, Distribution):
        raise ValueError(f"expected distribution to be a distribution of torch or Pyro, got {shown(distribution)}")
    for name, value in (("loc", loc), ("scale", scale)):
        if not is_number(value) and not isinstance(value, Tensor):
            raise ValueError(f"expected {name} to be a finite number or a tensor, got {value!r}")
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
            check_floating(name, value)
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


def _wider(parameters: tuple[Tensor, ...], *values: Any) -> list[Any]:
    """Tensors converted to the widest dtype, on the device of the parameters; numbers are unchanged.

    torch's own promotion would round a float64 tensor of shape () to the float32 of a vector.
    """
    dtype = parameters[0].dtype
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            dtype = torch.promote_types(dtype, value.dtype)
    device = parameters[0].device
    return [value.to(device, dtype) if isinstance(value, Tensor) else value for value in (*parameters, *values)]


def _location_scale(d: Any, loc: Any, scale: Any) -> Distribution:
    place, spread, loc, scale = _wider((d.loc, d.scale), loc, scale)
    return _rebuilt(d, loc + scale * place, scale * spread)


def _student_t(d: StudentT, loc: Any, scale: Any) -> Distribution:
    df, place, spread, loc, scale = _wider((d.df, d.loc, d.scale), loc, scale)
    return _rebuilt(d, df, loc + scale * place, scale * spread)


def _uniform(d: Uniform, loc: Any, scale: Any) -> Distribution:
    low, high, loc, scale = _wider((d.low, d.high), loc, scale)
    return _rebuilt(d, loc + scale * low, loc + scale * high)


def _multivariate_normal(d: MultivariateNormal, loc: Any, scale: Any) -> Distribution:
    rows = scale.expand(d.event_shape) if isinstance(scale, Tensor) else d.loc.new_full(d.event_shape, scale)
    place, tril, loc, rows = _wider((d.loc, d.scale_tril), loc, rows)
    return _rebuilt(d, loc + rows * place, scale_tril=rows[:, None] * tril)


def _low_rank_normal(d: LowRankMultivariateNormal, loc: Any, scale: Any) -> Distribution:
    rows = scale.expand(d.event_shape) if isinstance(scale, Tensor) else d.loc.new_full(d.event_shape, scale)
    place, factor, diagonal, loc, rows = _wider((d.loc, d.cov_factor, d.cov_diag), loc, rows)
    return _rebuilt(d, loc + rows * place, rows[:, None] * factor, rows**2 * diagonal)


def _independent(d: Independent, loc: Any, scale: Any) -> Distribution:
    return _rebuilt(d, affine(d.base_dist, loc, scale), d.reinterpreted_batch_ndims)


def _mixture(d: MixtureSameFamily, loc: Any, scale: Any) -> Distribution:
    logits = _wider((d.mixture_distribution.logits,), loc, scale)[0]
    weights: Any = d.mixture_distribution
    if logits.dtype != weights.logits.dtype:  # weights that sum to 1 only in float32 would blur the mean
        weights = _rebuilt(weights, logits=logits)
    return _rebuilt(d, weights, affine(d.component_distribution, loc, scale))


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
