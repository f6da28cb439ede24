r"""First and second moments of a mixture from those of its components.

The moments of angles (von Mises components) are circular: a distribution on the circle with mean resultant vector
$R e^{i\mu}$ has mean $\mu$ and variance $1 - R$ (Mardia & Jupp 2000, "Directional Statistics", section 3.4). The
resultant vector of a mixture is the weighted average of those of its components, so its variance is the sum of two
parts, as on the line: within components, 1 minus the average length of their vectors; between components, the average
length minus the length of the average.
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
    """The weighted sum over the component dimension, which precedes the event dimensions."""
    return (weights[(...,) + (None,) * event_ndim] * values).sum(-1 - event_ndim)


def mean(weights: Tensor, components: Distribution) -> Tensor:
    """E[Y], shape (...) + event; for angles the circular mean, in (-pi, pi]."""
    if is_circular(components):
        return torch.atan2(*_resultant(weights, components))
    return average(weights, _moment(components, "mean"), len(components.event_shape))


def within(weights: Tensor, components: Distribution) -> Tensor:
    """E_k[Var(Y|k)], shape (...) + event; for angles the average circular variance."""
    return average(weights, _moment(components, "variance"), len(components.event_shape))


def between(weights: Tensor, components: Distribution) -> Tensor:
    """Var_k(E[Y|k]), shape (...) + event."""
    if is_circular(components):
        sine, cosine = _resultant(weights, components)
        # Never negative but by rounding.
        return (average(weights, 1 - components.variance, 0) - torch.hypot(sine, cosine)).clamp_min(0)
    event_ndim = len(components.event_shape)
    centred = components.mean - mean(weights, components).unsqueeze(-1 - event_ndim)
    return average(weights, centred**2, event_ndim)


def covariance(weights: Tensor, components: Distribution) -> Tensor:
    """Cov(Y), shape (..., D, D), for event shape (D,)."""
    centred = components.mean - mean(weights, components).unsqueeze(-2)
    outer = centred[..., :, None] * centred[..., None, :]
    return average(weights, component_covariance(components) + outer, 2)


def component_covariance(components: Distribution) -> Tensor:
    """The covariance matrix of each component, shape (..., K, D, D); ``ValueError`` for a family without one."""
    if isinstance(components, MultivariateNormal | LowRankMultivariateNormal):
        return components.covariance_matrix
    if isinstance(components, Independent):
        return torch.diag_embed(components.variance)
    raise ValueError(f"expected components with a known covariance matrix, got {type(components).__name__}")


def _moment(components: Distribution, name: str) -> Tensor:
    """The mean or variance of each component; ``ValueError`` for a family without one."""
    base = components
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Categorical):  # whose moments in torch are NaN
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
    """Imaginary and real part of E[exp(i Y)]."""
    loc, length = components.mean, 1 - components.variance
    return average(weights, length * loc.sin(), 0), average(weights, length * loc.cos(), 0)
