"""The unit of each latent site: the spread of its prior.

Steps of an optimiser and the width of a guide are multiples of it, so that neither depends on the units in which a
model was written.
"""

from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.density import Density
from posterity.inference.program.sites import is_latent
from posterity.inference.program.trace import Model, trace
from posterity.models.positive_definite import bijection_to

PRIOR_DRAWS = 10
NORMAL = 1.4826  # standard deviation of a normal over its median absolute deviation


def prior_units(model: Model, args: tuple[Any, ...]) -> dict[str, float]:
    """The spread of every latent site's prior in unconstrained space, as the standard deviation of a normal.

    It is estimated from the median absolute deviation of ten prior draws over all elements of a site, which heavy tails
    do not inflate. It is 1 if the draws do not vary. A flat prior counts as uniform on (-2, 2).
    """
    drawn: dict[str, list[Tensor]] = {}
    for seed in range(PRIOR_DRAWS):
        with torch.no_grad():
            nodes = trace(model, args, seed=seed)
        for name, node in nodes.items():
            if is_latent(node) and not node["fn"].support.is_discrete:
                free = bijection_to(node["fn"].support).inv(node["value"]).detach()
                drawn.setdefault(name, []).append(free.reshape(-1).double().cpu())
    return {name: _spread(values) for name, values in drawn.items()}


def density_units(density: Density) -> Tensor:
    """The unit of every element of the position vector of a density, shape (dim,)."""
    units, whole = prior_units(density.model, density.args), []
    for site in density.sites:
        whole.append(torch.full((site.size,), units.get(site.name, 1.0), dtype=density.dtype, device=density.device))
    return torch.cat(whole)


def spread_of(values: Tensor, scored: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """The standard deviation over ``dims`` in float64, of the elements ``scored`` (all if None); 0 for equal ones."""
    exact = values.detach().double()
    if scored is not None:
        exact = torch.where(scored, exact, torch.nan)
    spread = (exact - exact.nanmean(dims, keepdim=True)).square().nanmean(dims).sqrt()
    varies = exact.nan_to_num(-torch.inf).amax(dims) > exact.nan_to_num(torch.inf).amin(dims)
    return torch.where(varies, spread, 0.0)


def _spread(values: list[Tensor]) -> float:
    if len({len(value) for value in values}) > 1 or not len(values[0]):
        return 1.0
    draws = torch.stack(values)
    spread = NORMAL * float((draws - draws.median(0).values).abs().median())
    return spread if 0 < spread < float("inf") else 1.0


def parameter_unit(value: Tensor) -> float:
    """The unit of a parameter: 0, for plain Adam steps, or 1.

    The initial weights of a network have the spread that they should have, so plain steps suit them; with longer steps,
    a network of maximum likelihood would overfit sooner. The value of a scalar, or of a tensor of equal elements, does
    not tell its unit: it starts at 1, and the gain adapts it.
    """
    return 0.0 if value.numel() > 1 and bool(value.std() > 0) else 1.0
