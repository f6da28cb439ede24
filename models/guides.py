"""Guides by name, and starting points of guides and samplers.

In order of flexibility: ``"map"`` (a point at the mode of the joint density), ``"mean_field"`` (independent normals),
``"low_rank"`` (a normal with covariance diagonal + rank r), ``"full_rank"`` (a normal with full covariance). All are
Pyro's autoguides in unconstrained space, over the latent sites of a model.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import autoguide
from pyro.infer.autoguide.initialization import init_to_median, init_to_sample, init_to_uniform, init_to_value
from torch import Tensor
from torch.distributions import Independent, constraints

from posterity.models.networks import INITIAL
from posterity.models.positive_definite import bijection_to
from posterity.validation import check_choice

REDRAWS = 20
GUIDES = ("map", "mean_field", "low_rank", "full_rank")


def make_guide(
    name: str,
    model: Callable[..., Any],
    *,
    init: str | Mapping[str, Tensor] = "prior",
    init_scale: float = 0.05,
    rank: int | None = None,
) -> Callable[..., Any]:
    """A new guide of ``model``, whose parameters are created at its first call.

    Args:
        name: "map", "mean_field", "low_rank" or "full_rank".
        model: a Pyro model.
        init: starting point: "prior", "network", "uniform", "median", or a mapping with a value for each site.
        init_scale: standard deviation at the start, in unconstrained space.
        rank: rank of the low-rank guide; by default the square root of the dimension.

    Raises:
        ValueError: an unknown name or init.
    """
    check_guide(name)
    start = initial(init) if isinstance(init, str) else init_to_value(values=dict(init))
    if name == "map":
        return autoguide.AutoDelta(model, init_loc_fn=start)
    if name == "mean_field":
        guide = autoguide.AutoNormal(model, init_loc_fn=start, init_scale=init_scale)
    elif name == "low_rank":
        guide = autoguide.AutoLowRankMultivariateNormal(model, init_loc_fn=start, init_scale=init_scale, rank=rank)
    else:
        guide = autoguide.AutoMultivariateNormal(model, init_loc_fn=start, init_scale=init_scale)
    # Scales are fitted by their logarithm, whose steps do not depend on the unit of the site. Pyro's inverse softplus
    # is a logarithm only for scales far below 1.
    guide.scale_constraint = constraints.positive
    return guide


def check_guide(name: str) -> None:
    """``ValueError`` for an unknown name, at the time a guide is chosen, long before it is created."""
    check_choice("guide", name, GUIDES)


def empty_guide(*args: Any, **kwargs: Any) -> None:
    """The guide of a model without latent sites, with which maximising the ELBO is maximum likelihood (or MAP)."""


def init_from_prior(site: Any = None) -> Any:
    """Start each site at a draw from its prior.

    Entries that rounding has moved to the edge of the support, such as a Gamma draw of 0, are infinite in unconstrained
    space: they are drawn again, up to 20 times.
    """
    if site is None:
        return init_from_prior
    value = init_to_sample(site)
    fn = site["fn"]
    support = fn.support
    if getattr(support, "base_constraint", support) is constraints.real:
        return value
    while isinstance(fn, Independent):
        fn = fn.base_dist
    transform = bijection_to(fn.support)
    for _ in range(REDRAWS):
        lost = ~torch.isfinite(transform.inv(value))
        if not bool(lost.any()):
            break
        entry = lost.flatten(len(fn.batch_shape)).any(-1) if fn.event_dim else lost
        value = torch.where(entry[(...,) + (None,) * fn.event_dim], init_to_sample(site), value)
    return value


def init_from_network(site: Any = None) -> Any:
    """Start the weights of a network as in its module, and all other sites at a draw from their prior.

    Each weight is drawn from a normal with the mean and standard deviation of the module's initial tensor; a tensor
    with one entry is copied. Weights with a hierarchical prior are not sites and start at a draw from the prior.
    """
    if site is None:
        return init_from_network
    first = site["infer"].get(INITIAL)
    if first is None:
        return init_from_prior(site)
    return first.clone() if first.numel() < 2 else first.mean() + first.std() * torch.randn_like(first)


INITS: dict[str, Callable[..., Any]] = {
    "prior": init_from_prior,
    "network": init_from_network,
    "uniform": init_to_uniform,
    "median": init_to_median,
}


def initial(name: str) -> Callable[..., Any]:
    """Pyro's initialisation function by name; ``ValueError`` for an unknown one."""
    check_choice("init", name, sorted(INITS))
    return INITS[name]
