"""The unit of each latent site: how far its prior spreads.

Steps of an optimiser and the width of a guide are measured in it, so that neither depends on the units in which a
model was written.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to

from posterity.inference.engine.density import Density
from posterity.inference.program.sites import is_latent
from posterity.inference.program.trace import Model, trace

PRIOR_DRAWS = 10
NORMAL = 1.4826  # standard deviation of a normal over its median absolute deviation


def prior_units(model: Model, args: tuple[Any, ...]) -> dict[str, float]:
    """The spread of every latent site's prior in unconstrained space, as the standard deviation of a normal.

    From the median absolute deviation of a few prior draws, over all numbers of a site, so that one heavy tail does not
    decide. It is 1 where the draws do not vary. A flat prior is taken as uniform on (-2, 2), as where chains start.
    """
    drawn: dict[str, list[Tensor]] = {}
    for seed in range(PRIOR_DRAWS):
        with torch.no_grad():
            nodes = trace(model, args, seed=seed)
        for name, node in nodes.items():
            if is_latent(node) and not node["fn"].support.is_discrete:
                free = biject_to(node["fn"].support).inv(node["value"]).detach()
                drawn.setdefault(name, []).append(free.reshape(-1).double().cpu())
    return {name: _spread(values) for name, values in drawn.items()}


def density_units(density: Density) -> Tensor:
    """The unit of every number of a density's vector (dim,)."""
    units, whole = prior_units(density.model, density.args), []
    for site in density.sites:
        whole.append(torch.full((site.size,), units.get(site.name, 1.0), dtype=density.dtype, device=density.device))
    return torch.cat(whole)


def _spread(values: list[Tensor]) -> float:
    if len({len(value) for value in values}) > 1 or not len(values[0]):
        return 1.0
    draws = torch.stack(values)
    spread = NORMAL * float((draws - draws.median(0).values).abs().median())
    return spread if 0 < spread < float("inf") else 1.0


def parameter_unit(value: Tensor) -> float:
    """The unit of a parameter, 0 where plain steps suit it.

    The initial weights of a network are spread over the size that they should have, so plain steps suit them; and a
    network of maximum likelihood that took longer ones would only follow its noise sooner. A number by itself, or a
    tensor of equal ones, says nothing of its unit: 1, from which the gain finds it.
    """
    return 0.0 if value.numel() > 1 and bool(value.std() > 0) else 1.0
