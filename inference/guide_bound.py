"""The evidence lower bound of a guide by name, with the log joint of all samples from one call of the engine.

The engine (`posterity.inference.engine`) returns the log joint and its gradient for positions in unconstrained space.
Autograd runs through the guide alone, from its parameters to the positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions.transforms import identity_transform

from posterity.inference.engine.chains import Engine
from posterity.inference.engine.density import JointDensity, PointDensity
from posterity.inference.engine.evaluation import ModelGradient, value_and_gradient
from posterity.inference.engine.recording import RECORDING_ERRORS, RELATIVE_TOLERANCE, describe_error, quiet
from posterity.inference.engine.threads import torch_threads
from posterity.inference.engine.tiers import REPLAY_FROM, prepare, tier_for_steps
from posterity.inference.program.trace import Model
from posterity.inference.training.guide_draws import draw_positions, flat_guide
from posterity.inference.training.guide_widths import is_point
from posterity.random import seeded

LARGEST = 10_000_000  # rows times dimension, above which the operations themselves take the time of a step
TRIES = 10  # draws of the guide, until the bound of one is finite
ENGINE_ERRORS = (*RECORDING_ERRORS, LookupError, AttributeError)


class _LogJoint(torch.autograd.Function):
    """The log joints (draw,) of positions (draw, dim), with the gradient of the engine."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, engine: Engine) -> Tensor:
        """Evaluate as many positions at once as the engine has chains."""
        parts = [engine.gradient(part) for part in q.split(engine.chains)]
        value, grad = parts[0] if len(parts) == 1 else (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(grad)
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        """The gradient of each position times that of its log joint."""
        (grad,) = ctx.saved_tensors
        return outer[0][:, None] * grad, None


class GuideBound:
    """The negative bounds of independent samples of a guide by name, or of a model without latent sites.

    Values and gradients are those of Pyro's ``Trace_ELBO``; random numbers differ.

    Args:
        model: a Pyro model.
        guide: a guide by name, or `empty_guide` for a model without latent sites; it has run at least once.
        args: the arguments of the model.
        rows: number of rows of the data.
        particles: number of samples in a step.
        calls: expected number of steps.

    Raises:
        ValueError: a large model, no finite bound, or a bound or dtype that differs from Pyro's.
        RuntimeError: the model cannot be recorded.
    """

    def __init__(
        self, model: Model, guide: Callable[..., Any], args: tuple[Any, ...], rows: int, particles: int, calls: int
    ) -> None:
        self.guide, self.is_point = guide, is_point(guide)
        self.density = PointDensity(model, args) if self.is_point else JointDensity(model, args)
        if rows * self.density.dim > LARGEST:
            raise ValueError(f"expected rows times dimension up to {LARGEST}, got {rows} times {self.density.dim}")
        own = self.density.parameters
        self.parameters = [site for site in self.density.sites if site.name in own]
        self.latents = [site for site in self.density.sites if site.name not in own]
        self.leaves = [pyro.get_param_store()[site.name].unconstrained() for site in self.parameters]
        sample = self._one_by_pyro(model, args)
        q = sample.q
        if q.dtype != self.density.dtype:
            raise ValueError(f"expected a guide of {self.density.dtype}, got {q.dtype}")
        vmapped = ModelGradient(self.density)
        value_and_gradient(self.density, q, vmapped)
        if vmapped.reason:  # operations in place may change the state of a module, which a recording would not do
            raise RuntimeError(vmapped.reason)
        chains = 1 if self.is_point else particles
        tier = tier_for_steps("auto", chains, calls)
        # One thread: the result of a seed then does not depend on the load of the machine.
        self.engine = prepare(self.density, q.expand(chains, -1).contiguous(), tier=tier, calls=calls, threads=1)
        if self.engine.tier == "eager":
            raise RuntimeError(self.engine.reason)
        self._compare(sample)

    def __call__(self, count: int) -> Tensor:
        """Negative bounds (count,), one for each of ``count`` draws of the guide; all are equal for a point."""
        draws = 1 if self.is_point else count
        if not self.latents:
            return -self._log_joint(self._held()[None]).expand(count)
        with pyro.validation_enabled(False):
            q, log_q = draw_positions(self.guide, self.latents, draws)
        if self.parameters:
            q = torch.cat([self._held().expand(draws, -1), q], -1)
        return (log_q - self._log_joint(q)).expand(count)

    def _log_joint(self, q: Tensor) -> Tensor:
        return _LogJoint.apply(q, self.engine)  # type: ignore[no-untyped-call, no-any-return]

    def _held(self) -> Tensor:
        """The position of the model's parameters, with a gradient."""
        store, parts = pyro.get_param_store(), []
        for site, leaf in zip(self.parameters, self.leaves, strict=True):
            # Parameters on the real line are their own coordinates.
            value = leaf if site.transform is identity_transform else site.free(store[site.name])
            parts.append(value.reshape(-1))
        return torch.cat(parts)

    def _one_by_pyro(self, model: Model, args: tuple[Any, ...]) -> "_Sample":
        """One sample by Pyro, with a finite bound."""
        for seed in range(TRIES):
            with seeded(seed), quiet():
                with torch.no_grad():
                    guided = pyro.poutine.trace(self.guide).get_trace(*args)
                    log_q = float(guided.log_prob_sum())
                with torch.enable_grad():
                    traced = pyro.poutine.trace(pyro.poutine.replay(model, trace=guided)).get_trace(*args)
                    log_joint = traced.log_prob_sum()
            joint = float(log_joint.detach())
            if abs(joint - log_q) < float("inf"):
                values = {site.name: traced.nodes[site.name]["value"].detach() for site in self.density.sites}
                scale = 1 + abs(joint) + abs(log_q)
                slopes = _slopes(log_joint, self.leaves)
                position = self.density.unconstrain(values)[None]
                return _Sample(position, joint - log_q, scale, slopes)
        raise ValueError(f"expected a finite bound, got {joint - log_q}")

    def _compare(self, sample: "_Sample") -> None:
        """``ValueError`` unless the bound, and its gradient by the model's parameters, are those by Pyro."""
        flat = flat_guide(self.guide, self.latents) if self.latents else None
        start = self.latents[0].start if self.latents else 0
        value, grad = self.engine.gradient(sample.q)
        with torch.no_grad():
            log_q = 0.0 if flat is None or isinstance(flat, Tensor) else float(flat.log_prob(sample.q[0, start:]))
        bound, rounding = float(value) - log_q, torch.finfo(sample.q.dtype).eps ** 0.5 * sample.scale
        if not abs(bound - sample.bound) <= rounding:
            raise ValueError(f"expected a bound of {sample.bound} as by Pyro, got {bound}")
        if not self.parameters:
            return
        with torch.enable_grad():
            own = torch.cat([grad[0, site.start : site.start + site.size] for site in self.parameters])
            slopes = _slopes(self._held() @ own, self.leaves)
        for site, exact, found in zip(self.parameters, sample.slopes, slopes, strict=True):
            error, norm = float((exact - found).norm()), float(exact.norm())
            if not error <= RELATIVE_TOLERANCE.get(found.dtype, 1e-6) * norm + rounding:
                raise ValueError(f"expected a gradient of {site.name!r} of norm {norm} as by Pyro, off by {error}")


@dataclass(frozen=True)
class _Sample:
    """A sample by Pyro: its position ``q`` (1, dim), its bound with the scale of rounding errors, and the gradients
    ``slopes`` of the log joint by the model's parameters.
    """

    q: Tensor
    bound: float
    scale: float
    slopes: list[Tensor]


def _slopes(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The gradient of ``value`` by each of the ``leaves``, 0 for those on which it does not depend."""
    if not value.requires_grad or not leaves:
        return [torch.zeros_like(leaf) for leaf in leaves]
    slopes = torch.autograd.grad(value, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(leaves, slopes, strict=True)]


def prepare_bound(fit: Any, calls: int) -> tuple[GuideBound | None, str]:
    """The bound of a `GuideFit` by the engine, or None, and the reason why a faster engine or none is used.

    Pyro evaluates guides of the caller, batches of rows, short fits, large models and models that cannot be recorded.
    """
    settings = fit.settings
    if not fit.by_name:
        return None, "a guide that is not by name"
    if settings.batch_size not in (None, fit.rows):
        return None, "batches of rows"
    if calls < REPLAY_FROM:
        return None, f"fewer than {REPLAY_FROM} steps"
    try:
        with quiet(), torch_threads(1), pyro.validation_enabled(False):
            bound = GuideBound(fit.model, fit.guide, fit.args, fit.rows, settings.particles, calls)
            with torch.enable_grad(), seeded(0):
                bound(settings.particles).mean().backward()
    except ENGINE_ERRORS as error:
        return None, describe_error(error)
    if any(value.grad is None for value in fit.parameters):
        return None, "parameters that the bound of the engine does not reach"
    return bound, bound.engine.reason
