"""The units of a guide's numbers, and its width at the start: both relative to the prior of each site."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import autoguide
from torch import Tensor


def set_widths(guide: Callable[..., Any], args: tuple[Any, ...], units: Mapping[str, float], width: float) -> None:
    """Start one of Pyro's normal guides at ``width`` times the ``units`` of its sites, in unconstrained space."""
    if isinstance(guide, autoguide.AutoNormal):
        with torch.no_grad():
            guide(*args)
            for name, unit in units.items():
                scale = _nested(guide.scales, name)
                _set_nested(guide.scales, name, torch.full_like(scale, width * unit))
    elif isinstance(guide, autoguide.AutoMultivariateNormal | autoguide.AutoLowRankMultivariateNormal):
        with torch.no_grad():
            guide(*args)
            # A low-rank guide has the other half of its variance in its factors.
            share = 0.5**0.5 if isinstance(guide, autoguide.AutoLowRankMultivariateNormal) else 1.0
            guide.scale = width * share * _flat_units(guide, units).to(guide.loc)


def with_spread(guide: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """The fitted guide to draw from: of Pyro's Laplace guide, a point while it is fitted, the normal at the mode.

    Raises ``ValueError`` where the Hessian there is not positive definite.
    """
    if not isinstance(guide, autoguide.AutoLaplaceApproximation):
        return guide
    try:
        return guide.laplace_approximation(*args)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            f"expected a log joint with a maximum for {type(guide).__name__}, got a Hessian that is not positive "
            f"definite where the fit ended ({error}): raise steps, or take another guide"
        ) from error


def guide_unit(
    guide: Callable[..., Any], name: str, value: Tensor, units: Mapping[str, float]
) -> Tensor | float | None:
    """The unit of the unconstrained parameter ``value`` called ``name``, or None where nothing is known of it.

    A location moves in units of its site. A scale s is fitted as the inverse softplus of s, of which the unit is a
    change of s by its own size: s / (1 - exp(-s)).
    """
    if not isinstance(guide, autoguide.AutoGuide):
        return None
    _, _, own = name.partition(".")
    if own.startswith("locs.") and own[5:] in units:
        return units[own[5:]]
    if isinstance(guide, autoguide.AutoDelta):
        return units.get(own)
    if own == "loc" and isinstance(guide, autoguide.AutoContinuous):
        return _flat_units(guide, units).to(value)
    if own.startswith("scales.") or own == "scale":
        scale = torch.nn.functional.softplus(value.detach())
        return scale / -torch.expm1(-scale)
    return 1.0 if isinstance(guide, autoguide.AutoContinuous) else None


def _flat_units(guide: Any, units: Mapping[str, float]) -> Tensor:
    """One unit for each number of a guide over the whole vector of sites, in its order."""
    sites = guide._unconstrained_shapes
    return torch.cat([torch.full((shape.numel(),), units.get(name, 1.0)) for name, shape in sites.items()])


def _nested(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def _set_nested(module: Any, name: str, value: Tensor) -> None:
    *path, last = name.split(".")
    for part in path:
        module = getattr(module, part)
    setattr(module, last, value)
