"""The distribution of one of Pyro's guides over one vector in unconstrained space, without a run of the guide."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.infer import autoguide
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from posterity.inference.engine.density import Site
from posterity.inference.training.guide_widths import JOINT, nested_part


def flat_guide(guide: Callable[..., Any], sites: Sequence[Site]) -> Distribution | Tensor:
    """The normal distribution of ``guide`` over the positions (dim,) of the latent ``sites``, or its point (dim,).

    The distribution depends on the parameters of the guide, with gradients. The guide is one of those by name (see
    `posterity.models.guides`) and has run at least once.

    Raises:
        ValueError: another guide, or another order of the sites.
    """
    if isinstance(guide, autoguide.AutoDelta):
        return torch.cat([site.free(nested_part(guide, site.name)).reshape(-1) for site in sites])
    if isinstance(guide, autoguide.AutoNormal):
        loc, scale = (
            torch.cat([nested_part(part, site.name).reshape(-1) for site in sites])
            for part in (guide.locs, guide.scales)
        )
        return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)
    if not isinstance(guide, JOINT):
        raise ValueError(f"expected a guide by name, got {type(guide).__name__}")
    order = list(guide._unconstrained_shapes)
    if order != [site.name for site in sites]:
        raise ValueError(f"expected sites in the order of the guide, {order}, got {[site.name for site in sites]}")
    return guide.get_posterior()


def draw_positions(guide: Callable[..., Any], sites: Sequence[Site], count: int) -> tuple[Tensor, Tensor]:
    """``count`` positions (count, dim) drawn from `flat_guide`, and their log densities (count,): 0 for a point.

    Both depend on the parameters of the guide, with gradients.
    """
    flat = flat_guide(guide, sites)
    if isinstance(flat, Tensor):
        return flat.expand(count, -1), flat.new_zeros(count)
    q = flat.rsample((count,))
    return q, flat.log_prob(q)
