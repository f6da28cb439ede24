r"""The distribution of one of Pyro's guides over one vector in unconstrained space, without a run of the guide.

A low-rank guide is $q = m + s\,(F a + b)$ with standard normal a (rank,) and b (dim,). The log density of q, with
$x = F a + b$, follows from the Woodbury identity and the determinant lemma with $K = 1 + F^T F$:

$$\log p(q) = -\tfrac12 (|x|^2 - x^T F K^{-1} F^T x + \log\det K) - \sum \log s - \tfrac{\dim}{2} \log 2\pi.$$
"""

import math
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
    if isinstance(guide, autoguide.AutoLowRankMultivariateNormal):
        return _low_rank_draws(guide.loc, guide.scale, guide.cov_factor, count)
    flat = flat_guide(guide, sites)
    if isinstance(flat, Tensor):
        return flat.expand(count, -1), flat.new_zeros(count)
    q = flat.rsample((count,))
    return q, flat.log_prob(q)


def _low_rank_draws(loc: Tensor, scale: Tensor, factor: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As `draw_positions`; half the time of torch's distribution, which scales the factor to and fro."""
    dim, rank = factor.shape
    a, b = loc.new_empty(count, rank).normal_(), loc.new_empty(count, dim).normal_()
    x = a @ factor.T + b
    root, _ = torch.linalg.cholesky_ex(factor.T @ factor + torch.eye(rank, dtype=loc.dtype, device=loc.device))
    inside = torch.linalg.solve_triangular(root, (x @ factor).T, upper=False).square().sum(0)
    log_volume = root.diagonal().log().sum() + scale.log().sum() + 0.5 * dim * math.log(2 * math.pi)
    return loc + scale * x, -0.5 * (x.square().sum(-1) - inside) - log_volume
