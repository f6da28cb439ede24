r"""The log joint density of a Pyro model as a function of one vector in unconstrained space.

The vector $q$ of length ``dim`` holds the latent sites one after another. The transform of a site,
``bijection_to(site.support)``, maps its part of $q$ to the support, and its log determinant is part of the density:

$$\log p(q) = \log p(\theta(q), y) + \sum_{\text{sites}} \log |\det \partial \theta / \partial q|.$$

All functions here are written for one chain; the tiers (`tiers`) add the dimension of chains.
"""

import contextlib
import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.transforms import Transform, identity_transform

from posterity.inference.engine import flat
from posterity.inference.engine.constants import KnownIndices, known_indices
from posterity.inference.engine.enumeration import check_enumeration, enumerated_log_prob
from posterity.inference.engine.recording import quiet
from posterity.inference.program.enumeration import Enumerate, check_discrete, plate_nesting
from posterity.inference.program.functional import Functional
from posterity.inference.program.held_parameters import HeldParameters
from posterity.inference.program.in_place import NoticeWrites, without_writes
from posterity.inference.program.nested import tensors_in
from posterity.inference.program.sites import is_latent
from posterity.inference.program.trace import Model, default_dtype, trace, widest_dtype
from posterity.models.positive_definite import bijection_to
from posterity.random import seeded

ROUNDING = 16  # times the precision of a value: distance outside of its support that counts as rounding


@dataclass(frozen=True)
class Site:
    """A latent site: its place in the vector, its shape in unconstrained space and in the model, and its transform."""

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

    Priors with Python floats, such as ``Normal(0., 1.)``, have torch's default dtype. If the data have higher
    precision, the model runs with the dtype of the data as the default, and density and draws have that dtype. If the
    model fails with this dtype, one ``RuntimeWarning`` says how to give data and model the same dtype.

    Discrete latent sites with finite support are enumerated and summed out exactly (`enumerated_log_prob`).

    Masked latent entries that the model does not read get the prior without the mask (see `flat`).

    Raises:
        ValueError: the model has no continuous latent sites, discrete latent sites without finite support, sites whose
            support depends on other sites, or entries without a prior along which the density is constant.
    """

    def __init__(self, model: Model, args: tuple[Any, ...]) -> None:
        self.model, self.args = model, args
        self.padded: dict[str, Tensor] = {}  # masked entries of sites that the model does not read
        self.promoted: torch.dtype | None = None  # torch's default dtype while the model runs, if changed
        self.has_writes = False  # whether the model has operations in place
        self.unwritten = False  # whether it is run without them (see `without_writes`)
        self._lay_out()
        self._promote()
        if self.discrete:
            with default_dtype(self.promoted):
                check_enumeration(partial(self._run, self.first), self.nesting, self.discrete)
        self._find_writes()
        self._find_padding()
        if any(site.transform is not identity_transform for site in self.sites):
            self._check_supports()

    def _lay_out(self) -> None:
        """Find the sites and their places in the vector, by one run of the model."""
        nodes = self._trace(seed=0)
        latents = {n: node for n, node in nodes.items() if is_latent(node)}
        self.discrete = [name for name, node in latents.items() if check_discrete(name, node)]
        self.nesting = plate_nesting(nodes.values())
        if self.discrete and len(self.discrete) == len(latents):
            raise ValueError(f"expected continuous latent sites beside the discrete ones, got only {self.discrete}")
        latents = {name: node for name, node in latents.items() if name not in self.discrete}
        variables = self._variables(nodes, latents)
        sites, start = [], 0
        for name, (value, support) in variables.items():
            transform = _transform(support)
            free = transform.inv(value) if transform is not identity_transform else value
            size = free.numel()
            sites.append(Site(name, start, size, tuple(free.shape), tuple(value.shape), support, transform))
            start += size
        self.first = {name: value for name, (value, _) in variables.items()}
        self.sites, self.dim = tuple(sites), start
        self.dtype = widest_dtype(self.first.values(), torch.float16)
        self.device = next(iter(self.first.values())).device
        self.event_dims = {n: node["fn"].event_dim for n, node in latents.items()}
        samples = {name: node for name, node in nodes.items() if node["type"] == "sample"}
        self.observed = [node["value"] for node in samples.values() if node["is_observed"]]
        self.indices = known_indices(samples)

    def _trace(self, seed: int) -> dict[str, Any]:
        with torch.no_grad(), default_dtype(self.promoted):
            return trace(self.model, self.args, seed=seed)

    def _promote(self) -> None:
        """Run the model in the dtype of the data if that has higher precision than torch's default or the sites."""
        own, default = self.dtype, torch.get_default_dtype()
        joint = self._dtype_at_first()
        wide = widest_dtype((*tensors_in(self.args), *self.observed), joint or own)
        if torch.promote_types(wide, own) == own and torch.promote_types(own, default) == default:
            return
        self.promoted = wide
        with contextlib.suppress(RuntimeError, ValueError):
            self._lay_out()
            self.dtype = wide
            if self._dtype_at_first() == wide:
                return
        self.promoted = None
        self._lay_out()
        if joint is None or joint == self.dtype:
            return
        low, high = (str(dtype).removeprefix("torch.") for dtype in (own, wide))
        warnings.warn(
            f"the log joint has dtype {high} but its latent sites have {low}, so a slower engine is used: convert the "
            f"data (y.to(torch.{low})), or build the model in {high}; with sites of {high} this model fails",
            RuntimeWarning,
            stacklevel=6,
        )

    def _dtype_at_first(self) -> torch.dtype | None:
        """The dtype of the log joint at the first draw from the prior; None if it cannot be computed there."""
        with NoticeWrites() as notice:
            value = self._tried(self)
        self.has_writes = self.has_writes or notice.found
        return None if value is None else value.dtype

    def _find_writes(self) -> None:
        """Run the model without its operations in place if it cannot be batched with them, and can run without."""
        slope = torch.func.grad(self)
        if not self.has_writes or self._tried(lambda q: torch.func.vmap(slope)(q.repeat(2, 1))) is not None:
            return
        value, gradient = self._tried(self), self._tried(slope)
        self.unwritten = True
        other_value, other_gradient = self._tried(self), self._tried(slope)
        expected = other_gradient if gradient is None else gradient  # autograd may have none of a model with writes
        self.unwritten = _same(value, other_value) and _same(expected, other_gradient)

    def _tried(self, function: Callable[[Tensor], Tensor]) -> Tensor | None:
        """``function`` at the first draw from the prior; None if it cannot be computed there."""
        try:
            with torch.no_grad(), pyro.validation_enabled(False), seeded(0), pyro.get_param_store().scope(), quiet():
                return function(self.unconstrain(self.first))
        except (RuntimeError, ValueError, TypeError):
            return None

    def _find_padding(self) -> None:
        names = {site.name for site in self.sites}

        def draw(seed: int) -> dict[str, Any]:
            return {name: node for name, node in self._trace(seed).items() if is_latent(node) and name in names}

        self.padded = flat.padded_entries(draw, self._slopes)

    def _slopes(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradient of the log joint with respect to the values of the sites (no transform); nan if undefined."""
        leaves = {name: value.detach().to(self.dtype).requires_grad_() for name, value in values.items()}
        try:
            with pyro.validation_enabled(False), default_dtype(self.promoted), seeded(0), torch.enable_grad():
                slopes = torch.autograd.grad(self._log_prob(leaves), list(leaves.values()), allow_unused=True)
        except (RuntimeError, ValueError):
            return {name: torch.full_like(leaf, torch.nan) for name, leaf in leaves.items()}
        pairs = zip(leaves.items(), slopes, strict=True)
        return {name: torch.zeros_like(leaf) if slope is None else slope for (name, leaf), slope in pairs}

    def _check_supports(self) -> None:
        """Compare the transforms of the sites with those at another draw of the prior, at one point."""
        nodes = self._trace(seed=1)
        other = self._variables(nodes, {n: node for n, node in nodes.items() if is_latent(node)})
        for site in self.sites:
            if site.name not in other:
                continue
            point = torch.full(site.unconstrained, 0.3, dtype=self.dtype, device=self.device)
            one, two = site.transform(point), _transform(other[site.name][1])(point)
            rounding = 64 * torch.finfo(one.dtype).eps
            if one.shape != two.shape or not torch.allclose(one, two, rtol=rounding, atol=rounding, equal_nan=True):
                raise ValueError(
                    f"expected sites with a fixed support, got a model where the support of {site.name!r} depends on "
                    "other sites: sample it on (0, 1) and scale it"
                )

    def _variables(self, nodes: Mapping[str, Any], latents: Mapping[str, Any]) -> dict[str, tuple[Tensor, Any]]:
        """Value and support of each variable in the vector."""
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
        with default_dtype(self.promoted):
            return self._log_prob(values) + log_det

    def _log_prob(self, values: Mapping[str, Tensor]) -> Tensor:
        joint = without_writes(self._joint) if self.unwritten else self._joint
        return joint(dict(values))

    def _joint(self, values: Mapping[str, Tensor]) -> Tensor:
        with flat.Unmask(self.padded), KnownIndices(self.indices):
            run = self._run(values, enumerate_=bool(self.discrete))
            return enumerated_log_prob(run) if self.discrete else run.log_prob_sum()

    def _run(self, values: Mapping[str, Tensor], enumerate_: bool) -> Any:
        """The trace of the model with its latent sites fixed to ``values``."""
        model: Any = _Conditioned(self.model, values)
        model = Enumerate(self.nesting)(model) if enumerate_ else model
        return pyro.poutine.trace(model).get_trace(*self.args)

    def constrain(self, positions: Tensor) -> dict[str, Tensor]:
        """Values of the sites (..., *shape) at positions (..., dim)."""
        lead = positions.shape[:-1]
        values = {}
        for site in self.sites:
            free = positions[..., site.start : site.start + site.size].reshape((*lead, *site.unconstrained))
            values[site.name] = site.transform(free) if site.transform is not identity_transform else free
        return values

    def unconstrain(self, values: Mapping[str, Tensor]) -> Tensor:
        """Positions (..., dim) of values of all sites (..., *shape).

        Raises:
            ValueError: a site is missing, a value has the wrong shape, or it lies outside its support by more than the
                rounding error of its dtype.
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
    """The log joint as an objective function of the latent sites (no log determinant) and of the model's parameters.

    Its maximum is the maximum likelihood estimate of the parameters and the maximum a posteriori estimate of the latent
    sites, as with Pyro's ``AutoDelta``. Without the log determinant it does not depend on the transform of a site.
    """

    def _find_padding(self) -> None:
        """Find none: entries that the model does not read keep their start value."""

    def _variables(self, nodes: Mapping[str, Any], latents: Mapping[str, Any]) -> dict[str, tuple[Tensor, Any]]:
        parameters = {n: node for n, node in nodes.items() if node["type"] == "param"}
        if not latents and not parameters:
            raise ValueError("expected a model with latent sites or parameters to fit, got none")
        values = {
            n: (node["value"].detach(), (node["kwargs"] or {}).get("constraint") or constraints.real)
            for n, node in parameters.items()
        }
        self.parameters = tuple(parameters)
        return values | {name: (node["value"].detach(), node["fn"].support) for name, node in latents.items()}

    def __call__(self, position: Tensor) -> Tensor:
        values = self.constrain(position)
        parameters = HeldParameters({name: values[name] for name in self.parameters})
        with parameters, default_dtype(self.promoted):
            return self._log_prob({name: value for name, value in values.items() if name not in self.parameters})


class JointDensity(PointDensity):
    """The log joint as a function of the latent sites and of the model's parameters, in the coordinates of the sites.

    The log determinants of the latent sites are part of it, those of the parameters are not: it is the first term of
    the evidence lower bound. Masked latent entries have no prior, as in Pyro.
    """

    def __call__(self, position: Tensor) -> Tensor:
        log_det = position.new_zeros(())
        for site in self.sites:
            if site.name not in self.parameters and site.transform is not identity_transform:
                free = position[site.start : site.start + site.size].reshape(site.unconstrained)
                log_det = log_det + site.transform.log_abs_det_jacobian(free, site.transform(free)).sum()
        return super().__call__(position) + log_det


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.allclose(one, other, rtol=1e-4, equal_nan=True)


def _transform(support: Any) -> Transform:
    """The transform from the real numbers to ``support``."""
    real = getattr(support, "base_constraint", support) is constraints.real
    return identity_transform if real else bijection_to(support)


def _inside(site: Site, value: Tensor, free: Tensor, given: torch.dtype) -> bool:
    """Whether ``value`` is in the support, or was before it was rounded to the dtype ``given``.

    Unconstrained space has no place for a value outside the support: the way there and back returns another value.
    """
    if bool(site.support.check(value).all()):
        return True
    eps = max(torch.finfo(dtype).eps for dtype in (given, value.dtype) if dtype.is_floating_point)
    back = free if site.transform is identity_transform else site.transform(free)
    return bool(((back - value).abs() <= ROUNDING * eps * (1 + value.abs())).all())


class _Unchecked(Messenger):
    """Turns off the checks of distributions that were made while validation was on, such as those of `PyroSample`.

    A check is control flow on values, so a model with checks could not be recorded.
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


class _Conditioned:
    """The model with its latent sites fixed to values."""

    def __init__(self, model: Model, values: Mapping[str, Tensor]) -> None:
        self.model, self.values = model, values

    def __call__(self, *args: Any) -> Any:
        with Functional(), _Unchecked(), pyro.poutine.condition(data=dict(self.values)):
            return self.model(*args)
