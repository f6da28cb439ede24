"""The log joint density of any Pyro model, as a function of one vector in unconstrained space.

A model's latent sites are laid one after another into a vector of length ``dim``; each is moved to its support by
Pyro's own transform, ``biject_to(site.support)``, whose log determinant is part of the density. Everything here is
written for one chain: the tiers (`tiers`) add the chains.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints
from torch.distributions.transforms import Transform, identity_transform

from posterity.inference.program import Model, trace

# Of a value, in its own precision, outside of its support: what rounding does to it.
SLACK = 16


@dataclass(frozen=True)
class Site:
    """A latent site: where it lies in the vector, and the way to its support."""

    name: str
    start: int
    size: int
    unconstrained: tuple[int, ...]
    shape: tuple[int, ...]
    support: constraints.Constraint
    transform: Transform

    def free(self, value: Tensor) -> Tensor:
        """``value`` (..., *shape) in unconstrained space."""
        return value if self.transform is identity_transform else self.transform.inv(value)


class Density:
    """The log joint of ``model(*args)``; ``dtype`` and ``device`` are those of its latent sites.

    Raises ``ValueError`` for a model without latent sites, with discrete ones, with parameters, or with sites whose
    support depends on other sites.
    """

    def __init__(self, model: Model, args: tuple[Any, ...]) -> None:
        self.model, self.args = model, args
        with torch.no_grad():
            nodes = trace(model, args, seed=0)
        latents = {n: node for n, node in nodes.items() if is_latent(node)}
        wanted = self._wanted(nodes, latents)
        sites, start = [], 0
        for name, (value, support) in wanted.items():
            if support.is_discrete:
                raise ValueError(f"expected continuous latent sites (marginalise the discrete ones), got {name!r}")
            transform = _transform(support)
            free = transform.inv(value) if transform is not identity_transform else value
            size = free.numel()
            sites.append(Site(name, start, size, tuple(free.shape), tuple(value.shape), support, transform))
            start += size
        values = [value for value, _ in wanted.values()]
        self.sites, self.dim = tuple(sites), start
        self.dtype = max((v.dtype for v in values), key=lambda d: torch.finfo(d).bits)
        self.device = values[0].device
        self.event_dims = {n: node["fn"].event_dim for n, node in latents.items()}
        if any(site.transform is not identity_transform for site in sites):
            self._check_supports()

    def _check_supports(self) -> None:
        """At another draw of the prior every site has the support it had: compared is where it puts one point."""
        with torch.no_grad():
            nodes = trace(self.model, self.args, seed=1)
        other = self._wanted(nodes, {n: node for n, node in nodes.items() if is_latent(node)})
        for site in self.sites:
            if site.name not in other:
                continue
            point = torch.full(site.unconstrained, 0.3, dtype=self.dtype, device=self.device)
            one, two = site.transform(point), _transform(other[site.name][1])(point)
            rounding = 64 * torch.finfo(one.dtype).eps
            if one.shape != two.shape or not torch.allclose(one, two, rtol=rounding, atol=rounding, equal_nan=True):
                raise ValueError(
                    f"expected sites of a fixed support, got a model where the support of {site.name!r} depends on "
                    "other sites: sample it on (0, 1) and scale it"
                )

    def _wanted(self, nodes: Mapping[str, Any], latents: Mapping[str, Any]) -> dict[str, tuple[Tensor, Any]]:
        """Value and support of what the vector holds."""
        if not latents:
            raise ValueError("expected a model with latent sites to sample, got none: fit it by SVI or Ensemble")
        return {name: (node["value"].detach(), node["fn"].support) for name, node in latents.items()}

    def __call__(self, position: Tensor) -> Tensor:
        """The log joint density at one ``position`` of shape (dim,), a scalar."""
        values, log_det = {}, position.new_zeros(())
        for site in self.sites:
            free = position[site.start : site.start + site.size].reshape(site.unconstrained)
            value = site.transform(free) if site.transform is not identity_transform else free
            if site.transform is not identity_transform:
                log_det = log_det + site.transform.log_abs_det_jacobian(free, value).sum()
            values[site.name] = value
        traced = pyro.poutine.trace(_Given(self.model, values)).get_trace(*self.args)
        return traced.log_prob_sum() + log_det

    def constrain(self, positions: Tensor) -> dict[str, Tensor]:
        """Positions (..., dim) as values of the sites (..., *shape)."""
        lead = positions.shape[:-1]
        values = {}
        for site in self.sites:
            free = positions[..., site.start : site.start + site.size].reshape((*lead, *site.unconstrained))
            values[site.name] = site.transform(free) if site.transform is not identity_transform else free
        return values

    def unconstrain(self, values: Mapping[str, Tensor]) -> Tensor:
        """Values of all sites (..., *shape) as positions (..., dim).

        Raises ``ValueError`` for a missing site, another shape, or a value outside its support by more than the
        rounding of its own precision.
        """
        parts = []
        for site in self.sites:
            if site.name not in values:
                raise ValueError(f"expected a start for every latent site, got none for {site.name!r}")
            given = torch.as_tensor(values[site.name])
            value = given.to(self.device, self.dtype)
            if tuple(value.shape[value.ndim - len(site.shape) :]) != site.shape:
                raise ValueError(
                    f"expected a start of {site.name!r} of shape (..., *{site.shape}), got {tuple(value.shape)}"
                )
            lead = value.shape[: value.ndim - len(site.shape)]
            free = site.free(value)
            if not bool(torch.isfinite(free).all()) or not _inside(site, value, free, given.dtype):
                raise ValueError(f"expected a start inside the support of {site.name!r}, got {value.tolist()}"[:300])
            parts.append(free.reshape((*lead, site.size)))
        return torch.cat(parts, -1)


class PointDensity(Density):
    """The log joint as an objective: of the latent sites, in their own space, and of the model's parameters.

    Its maximum is maximum likelihood for parameters and maximum a posteriori for latent sites, as with Pyro's
    ``AutoDelta``: no log determinant is added, so it does not depend on how a site is moved to its support.
    """

    def _wanted(self, nodes: Mapping[str, Any], latents: Mapping[str, Any]) -> dict[str, tuple[Tensor, Any]]:
        parameters = {n: node for n, node in nodes.items() if node["type"] == "param"}
        if not latents and not parameters:
            raise ValueError("expected a model with latent sites or parameters to fit, got none")
        own = {
            n: (node["value"].detach(), (node["kwargs"] or {}).get("constraint") or constraints.real)
            for n, node in parameters.items()
        }
        self.parameters = tuple(parameters)
        return own | {name: (node["value"].detach(), node["fn"].support) for name, node in latents.items()}

    def __call__(self, position: Tensor) -> Tensor:
        values = self.constrain(position)
        with _Parameters({name: values[name] for name in self.parameters}):
            latent = {name: value for name, value in values.items() if name not in self.parameters}
            return pyro.poutine.trace(_Given(self.model, latent)).get_trace(*self.args).log_prob_sum()


def _transform(support: Any) -> Transform:
    """From the real numbers to ``support``."""
    real = getattr(support, "base_constraint", support) is constraints.real
    return identity_transform if real else biject_to(support)


def _inside(site: Site, value: Tensor, free: Tensor, given: torch.dtype) -> bool:
    """Whether ``value`` is in the support, or was before it was rounded to the precision ``given``.

    The way to unconstrained space takes what lies outside to the edge, so what comes back from there is another value.
    """
    if bool(site.support.check(value).all()):
        return True
    eps = max(torch.finfo(dtype).eps for dtype in (given, value.dtype) if dtype.is_floating_point)
    back = free if site.transform is identity_transform else site.transform(free)
    return bool(((back - value).abs() <= SLACK * eps * (1 + value.abs())).all())


class _Parameters(Messenger):
    """Puts values in place of the model's parameters."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]


class _Unchecked(Messenger):
    """Distributions made before validation was turned off go on checking what they score; here their copies do not.

    Those of a module's `PyroSample` are, and a check is control flow on values: the model could not be recorded.
    """

    def _pyro_sample(self, msg: Any) -> None:
        if not Distribution._validate_args:
            msg["fn"] = _unchecked(msg["fn"])


def _unchecked(fn: Any) -> Any:
    if not isinstance(fn, Distribution):
        return fn
    parts = {name: part for name, part in vars(fn).items() if isinstance(part, Distribution)}
    changed = {name: other for name, part in parts.items() if (other := _unchecked(part)) is not part}
    if not changed and not vars(fn).get("_validate_args"):
        return fn
    fn = copy.copy(fn)
    vars(fn).update(changed, _validate_args=False)
    return fn


class _Given:
    """The model with its latent sites at given values."""

    def __init__(self, model: Model, values: Mapping[str, Tensor]) -> None:
        self.model, self.values = model, values

    def __call__(self, *args: Any) -> Any:
        with _Unchecked(), pyro.poutine.condition(data=dict(self.values)):
            return self.model(*args)


def is_latent(node: Any) -> bool:
    return node["type"] == "sample" and not node["is_observed"] and type(node["fn"]).__name__ != "_Subsample"
