"""The units of a guide's parameters, and its initial widths: both relative to the prior of each site."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro.infer import autoguide
from torch import Tensor
from torch.distributions import constraints

from posterity.inference.engine.density import Density
from posterity.inference.program.trace import Model
from posterity.models.guides import empty_guide

JOINT = (autoguide.AutoMultivariateNormal, autoguide.AutoLowRankMultivariateNormal)
NORMAL = (autoguide.AutoNormal, *JOINT)
PRODUCTS = 8  # Hessian-vector products with random signs


def set_widths(guide: Callable[..., Any], args: tuple[Any, ...], units: Mapping[str, float], width: float) -> None:
    """Set the widths of one of Pyro's normal guides to ``width`` times the ``units`` of its sites, unconstrained."""
    if isinstance(guide, autoguide.AutoNormal):
        with torch.no_grad(), pyro.validation_enabled(False):  # the start may be outside of the support
            guide(*args)
            for name, unit in units.items():
                scale = nested_part(guide.scales, name)
                _set_nested(guide.scales, name, torch.full_like(scale, width * unit))
    elif isinstance(guide, JOINT):
        with torch.no_grad(), pyro.validation_enabled(False):
            guide(*args)
            # The factors of a low-rank guide hold the other half of its variance.
            share = 0.5**0.5 if isinstance(guide, autoguide.AutoLowRankMultivariateNormal) else 1.0
            guide.scale = width * share * _flat_units(guide, units).to(guide.loc)


def limit_widths(guide: Callable[..., Any], model: Model, args: tuple[Any, ...]) -> None:
    """Narrow one of Pyro's normal guides to the curvature of the log joint at its location.

    The gradients of a guide much wider than the posterior are dominated by noise, so it shrinks slowly; a narrow guide
    grows fast. The curvature of an element is the norm of its row of the Hessian, which is at least its diagonal
    element, estimated from products with random signs (Hutchinson 1990). If the model has no second derivatives, the
    guide does not change.
    """
    if not isinstance(guide, NORMAL):
        return
    try:
        density = Density(model, args)
        with torch.no_grad():
            position = density.unconstrain({k: v.detach() for k, v in guide.median(*args).items()})
        squares = _hessian_rows(density, position)
    except (ValueError, RuntimeError):
        return
    widths = squares.pow(-0.25)
    with torch.no_grad():
        if isinstance(guide, autoguide.AutoNormal):
            for site in density.sites:
                scale = nested_part(guide.scales, site.name)
                limit = widths[site.start : site.start + site.size].reshape(scale.shape).to(scale)
                _set_nested(guide.scales, site.name, torch.minimum(scale, limit))
        else:
            limits = {site.name: widths[site.start : site.start + site.size] for site in density.sites}
            limit = torch.cat([limits[name] for name in guide._unconstrained_shapes]).to(guide.scale)
            guide.scale = torch.minimum(guide.scale, limit)


def _hessian_rows(density: Density, position: Tensor) -> Tensor:
    """Mean squares (dim,) of products of the Hessian of the log joint with random signs."""
    generator = torch.Generator().manual_seed(0)
    leaf = position.clone().requires_grad_()
    with pyro.validation_enabled(False):
        (gradient,) = torch.autograd.grad(density(leaf), leaf, create_graph=True)
    total = torch.zeros_like(position, dtype=torch.double)  # squares of small units leave the range of float32
    for _ in range(PRODUCTS):
        signs = (torch.randint(0, 2, position.shape, generator=generator) * 2 - 1).to(position)
        (product,) = torch.autograd.grad(gradient, leaf, signs, retain_graph=True)
        total += product.double().square()
    squares = total / PRODUCTS
    return torch.where(torch.isfinite(squares), squares, 0.0)


def widths_as_units(guide: Callable[..., Any], units: Mapping[str, Tensor | float]) -> dict[str, Tensor | float]:
    """The units of the locations of one of Pyro's normal guides that starts at the mode: its widths."""
    if isinstance(guide, autoguide.AutoNormal):
        return {name: nested_part(guide.scales, name).detach() for name in units}
    if isinstance(guide, JOINT):
        sizes = {name: shape.numel() for name, shape in guide._unconstrained_shapes.items()}
        return dict(zip(sizes, guide.scale.detach().split(list(sizes.values())), strict=True))
    return dict(units)


def is_point(guide: Callable[..., Any]) -> bool:
    """Whether a guide is a point while it is fitted, so that its gradients are exact."""
    return guide is empty_guide or isinstance(guide, autoguide.AutoDelta | autoguide.AutoLaplaceApproximation)


def with_spread(guide: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """The guide to draw from: for Pyro's Laplace guide the normal at the mode, else the fitted ``guide``.

    Raises ``ValueError`` if the Hessian at the mode is not positive definite.
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
    guide: Callable[..., Any], name: str, value: Tensor, units: Mapping[str, Tensor | float]
) -> Tensor | float | None:
    """The unit of the unconstrained parameter ``value`` called ``name``; None if it is unknown.

    The unit of a location is that of its site. A scale s is fitted as log(s), of unit 1. Pyro's own guides fit the
    inverse softplus of s, of unit s / (1 - exp(-s)), which changes s by its own size to first order.
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
        if guide.scale_constraint is constraints.positive:
            return 1.0
        scale = torch.nn.functional.softplus(value.detach())
        return scale / -torch.expm1(-scale)
    return 1.0 if isinstance(guide, autoguide.AutoContinuous) else None


def _flat_units(guide: Any, units: Mapping[str, Tensor | float]) -> Tensor:
    """One unit for each element of the vector of all sites, in the order of the guide."""
    sites = guide._unconstrained_shapes
    parts = {name: torch.as_tensor(units.get(name, 1.0)).reshape(-1) for name in sites}
    return torch.cat([parts[name].expand(shape.numel()) for name, shape in sites.items()])


def nested_part(module: Any, name: str) -> Any:
    """The attribute of ``module`` with the dotted ``name``."""
    for part in name.split("."):
        module = getattr(module, part)
    return module


def _set_nested(module: Any, name: str, value: Tensor) -> None:
    *path, last = name.split(".")
    for part in path:
        module = getattr(module, part)
    setattr(module, last, value)
