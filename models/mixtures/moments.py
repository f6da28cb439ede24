"""First and second moments of a mixture from those of its components.

Of angles (von Mises components) they are circular: with the mean resultant R exp(i mu) of a distribution on the
circle, mu is its mean and 1 - R its variance (Mardia & Jupp 2000, "Directional Statistics", section 3.4). The
resultant of a mixture is the average of the components', so the variance splits as others do: 1 minus the average of
the components' lengths, and what cancels between their directions.
"""

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    VonMises,
)


def is_circular(components: Distribution) -> bool:
    """Whether the components are distributions of an angle."""
    return isinstance(components, VonMises)


def average(weights: Tensor, values: Tensor, event_ndim: int) -> Tensor:
    """Weighted sum over the component dimension, which stands just before the event dimensions."""
    return (weights[(...,) + (None,) * event_ndim] * values).sum(-1 - event_ndim)


def mean(weights: Tensor, components: Distribution) -> Tensor:
    """E[Y], shape (...) + event; of angles the circular mean, in (-pi, pi]."""
    if is_circular(components):
        return torch.atan2(*_resultant(weights, components))
    return average(weights, _moment(components, "mean"), len(components.event_shape))


def within(weights: Tensor, components: Distribution) -> Tensor:
    """E_k[Var(Y|k)], shape (...) + event; of angles the average circular variance."""
    return average(weights, _moment(components, "variance"), len(components.event_shape))


def between(weights: Tensor, components: Distribution) -> Tensor:
    """Var_k(E[Y|k]), shape (...) + event."""
    if is_circular(components):
        sine, cosine = _resultant(weights, components)
        # The components' lengths less that of their sum, which rounding must not make the larger.
        return (average(weights, 1 - components.variance, 0) - torch.hypot(sine, cosine)).clamp_min(0)
    event_ndim = len(components.event_shape)
    centred = components.mean - mean(weights, components).unsqueeze(-1 - event_ndim)
    return average(weights, centred**2, event_ndim)


def covariance(weights: Tensor, components: Distribution) -> Tensor:
    """Cov(Y), shape (..., D, D), for events of shape (D,)."""
    centred = components.mean - mean(weights, components).unsqueeze(-2)
    outer = centred[..., :, None] * centred[..., None, :]
    return average(weights, component_covariance(components) + outer, 2)


def component_covariance(components: Distribution) -> Tensor:
    """The covariance of every component, shape (..., K, D, D)."""
    if isinstance(components, MultivariateNormal | LowRankMultivariateNormal):
        return components.covariance_matrix
    if isinstance(components, Independent):
        return torch.diag_embed(components.variance)
    raise ValueError(f"expected components with a known covariance matrix, got {type(components).__name__}")


def _moment(components: Distribution, name: str) -> Tensor:
    """The mean or variance of every component; ``ValueError`` where there is none."""
    base = components
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Categorical):  # torch gives nan
        raise ValueError(
            f"expected components with a {name}, got Categorical, whose classes have no order: use the log_prob of "
            "each class"
        )
    try:
        return getattr(components, name)
    except NotImplementedError as error:
        raise ValueError(
            f"expected components whose {name} is known in closed form, got {type(base).__name__}: use samples"
        ) from error


def _resultant(weights: Tensor, components: Distribution) -> tuple[Tensor, Tensor]:
    """Sine and cosine part of the mean of exp(i Y)."""
    loc, length = components.mean, 1 - components.variance
    return average(weights, length * loc.sin(), 0), average(weights, length * loc.cos(), 0)
