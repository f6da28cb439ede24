"""Guides by name, and where guides and samplers start.

From narrow to wide: ``"map"`` (a point, the mode of the joint density), ``"mean_field"`` (independent normals),
``"low_rank"`` (a normal of covariance diagonal + rank r), ``"full_rank"`` (a normal of full covariance). All live in
unconstrained space and are Pyro's own, made for the latent sites of a model.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import autoguide
from pyro.infer.autoguide.initialization import init_to_median, init_to_sample, init_to_uniform, init_to_value
from torch import Tensor
from torch.distributions import Independent, biject_to, constraints

from posterity.models.networks import INITIAL
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
    """A fresh guide of ``model`` by name; it takes shape at its first call.

    ``init`` is "prior", "network", "uniform", "median" or a value for every site; ``init_scale`` is the sd at
    the start, in unconstrained space; ``rank`` is that of the low-rank guide (default: the square root of the
    dimension).
    Raises ``ValueError`` for an unknown name or init.
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
    # Widths are fitted by their logarithm, in which a step is the same in any unit of the site. Pyro's inverse softplus
    # is that only for widths far below 1.
    guide.scale_constraint = constraints.positive
    return guide


def check_guide(name: str) -> None:
    """``ValueError`` for an unknown name, where a guide is chosen long before it is made."""
    if name not in GUIDES:
        raise ValueError(f"expected a guide from {list(GUIDES)}, got {name!r}")


def empty_guide(*args: Any, **kwargs: Any) -> None:
    """The guide of a model without latent sites: maximising the bound is then maximum likelihood (or MAP)."""


def init_from_prior(site: Any = None) -> Any:
    """Start every site at a draw of its prior.

    Entries that rounding has put on the edge of their support, as a Gamma draw of 0, have no place in unconstrained
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
    transform = biject_to(fn.support)
    for _ in range(REDRAWS):
        lost = ~torch.isfinite(transform.inv(value))
        if not bool(lost.any()):
            break
        entry = lost.flatten(len(fn.batch_shape)).any(-1) if fn.event_dim else lost
        value = torch.where(entry[(...,) + (None,) * fn.event_dim], init_to_sample(site), value)
    return value


def init_from_network(site: Any = None) -> Any:
    """Start the weights of a network as its module is initialised, and all other sites at a draw of their prior.

    Each weight is drawn from a normal of the mean and standard deviation of the module's initial tensor; a tensor of
    one number keeps it. Weights of a hierarchical prior are no sites by themselves and start from the prior.
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
