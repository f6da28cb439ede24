r"""Natural gradients of normals and of mixtures of normals, for training by maximum likelihood.

The gradient of the log density of a mixture with weights $\pi_k$ and responsibilities $r_k$ is

$$\partial_{a_k} = r_k - \pi_k, \qquad \partial_{\mu_k} = r_k \frac{y - \mu_k}{\sigma_k^2}, \qquad
\partial_{\log\sigma_k} = r_k \Big(\frac{(y - \mu_k)^2}{\sigma_k^2} - 1\Big)$$

by logits, locations and log-scales: a narrow component has large gradients, a wide one small gradients. The natural
gradient of expectation maximisation divides the gradient of each component by the Fisher information of its normal
distribution, $1/\sigma_k^2$ of the location and 2 of the log-scale:

$$\tilde\partial_{\mu_k} = r_k \frac{y - \mu_k}{s^2}, \qquad
\tilde\partial_{\log\sigma_k} = \frac{r_k}{2} \Big(\frac{(y - \mu_k)^2}{\sigma_k^2} - 1\Big),$$

and leaves that of the logits as it is (Chen, Bayrooti & Morad 2026, "Learning mixture density via natural gradient
expectation maximization", arXiv:2602.10602; derived here for log-scales). s is the standard deviation of y, so that the
balance between locations and the rest does not depend on the unit of y. For one component the gradient of the location
is that of least squares (beta = 1 of Seitzer et al. 2022, arXiv:2203.09168).

The value of the log density does not change. If scales do not depend on x, and each parameter acts on one location, on
one scale or on logits alone, a fixed point is a stationary point of the likelihood. Otherwise, as for the hidden layers
of a mixture density network, parts of the gradient or rows have other weights than in the likelihood: the fit still
converges to the truth with the number of rows if the model contains the truth, but it is not the maximum of the
likelihood.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily, Normal

from posterity.inference.program.site_value import scored_elements
from posterity.inference.training.units import spread_of


def natural(distribution: Distribution, unit: Tensor) -> Any:
    """The same distribution, whose log density has the natural gradient by its parameters.

    ``unit`` is the standard deviation of y, of the event shape or a scalar.

    Raises:
        ValueError: a distribution other than a normal or a mixture of normals.

    >>> loc = torch.tensor(1.0, requires_grad=True)
    >>> natural(Normal(loc, 0.1), torch.tensor(1.0)).log_prob(torch.tensor(1.5)).backward()
    >>> loc.grad
    tensor(0.5000)
    """
    rebuild: Any = type(distribution)
    if isinstance(distribution, MixtureSameFamily):
        if unit.ndim and not distribution.event_shape:
            unit = unit.unsqueeze(-1)
        assemble = getattr(distribution, "with_parts", rebuild)
        return assemble(distribution.mixture_distribution, natural(distribution.component_distribution, unit))
    if isinstance(distribution, Independent):
        inside = natural(distribution.base_dist, unit)
        return rebuild(inside, distribution.reinterpreted_batch_ndims, validate_args=False)
    if hasattr(distribution, "_mask") and hasattr(distribution, "base_dist"):
        return natural(distribution.base_dist, unit).mask(distribution._mask)
    if not isinstance(distribution, Normal):
        raise ValueError(
            "expected a likelihood of normals, independent in each target, or of mixtures of them, for "
            f"gradient='natural', got {type(distribution).__name__}"
        )
    information = (unit / distribution.scale).detach() ** 2
    return rebuild(
        _scaled_gradient(distribution.loc, 1 / information),
        _scaled_gradient(distribution.scale, 0.5),
        validate_args=False,
    )


def _scaled_gradient(value: Tensor, factor: Tensor | float) -> Tensor:
    """``value``, with its gradient multiplied by ``factor``."""
    constant = value.detach()
    return constant + factor * (value - constant)


class NaturalGradient(Messenger):
    """Replaces the likelihood at the observed ``site`` by its `natural`."""

    def __init__(self, site: str, unit: Tensor) -> None:
        super().__init__()
        self.site, self.unit = site, unit

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == self.site and msg["is_observed"]:
            msg["fn"] = natural(msg["fn"], self.unit)


def with_natural_gradient(model: Callable[..., Any], site: str, node: Any) -> Callable[..., Any]:
    """``model``, whose log joint has the natural gradient of the likelihood at ``site``; ``node`` of its trace.

    Raises:
        ValueError: as `natural`.
    """
    batch = len(node["fn"].batch_shape)
    values, scored = (part.unsqueeze(0) for part in (node["value"], scored_elements(node)))
    spread = spread_of(values, scored, tuple(range(1 + batch)))
    unit = torch.where(spread > 0, spread, 1.0).to(node["value"])
    natural(node["fn"], unit)

    @wraps(model)
    def trained(*args: Any, **named: Any) -> Any:
        with NaturalGradient(site, unit):
            return model(*args, **named)

    return trained
