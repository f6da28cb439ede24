"""Pyro's NUTS and HMC, one chain after another, with all statistics of the sampler.

They are slow but well tested, and serve as a reference for faster samplers. `NUTS` needs no tuning; `HMC` needs a
trajectory length.

The statistics have ArviZ's names and the shape (chain, draw): ``lp`` (log joint density in unconstrained space),
``energy`` (Hamiltonian of the accepted state), ``n_steps`` (leapfrog steps), ``tree_depth`` (number of doublings; NUTS
only), ``acceptance_rate`` (mean over the trajectory), ``step_size`` and ``diverging``.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import torch
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor

from posterity.inference.mcmc.agreement import ComparedFunctions
from posterity.inference.mcmc.potential import capture
from posterity.inference.mcmc.warnings import find_problems, give_warning
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import Model
from posterity.inference.training.interrupt import warn_interrupted
from posterity.models.guides import initial
from posterity.progress import progress_bar
from posterity.random import child_seeds, seeded
from posterity.validation import check_integer, check_number


class _Recorder:
    """A mixin for Pyro's kernels that records the statistics of each transition."""

    # Attributes of the kernel.
    _t: int
    _warmup_steps: int
    _mean_accept_prob: float
    _divergences: list[int]
    _fetch_from_cache: Callable[[], tuple[Any, Tensor, Any]]
    sample: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    step_size: float
    # Attributes of the transition.
    initial_energy: Tensor
    leaves: list[tuple[Any, Tensor]]
    steps: int

    def transition(self, parameters: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The new parameters and the statistics of one transition."""
        self.initial_energy, self.leaves, self.steps = torch.tensor(math.nan), [], 0
        count, mean, divergences = self._count(), self._mean_accept_prob, len(self._divergences)
        parameters = self.sample(parameters)
        # The kernel stores only a running mean; its increment gives the value of this transition.
        accept = mean + (self._mean_accept_prob - mean) * (count + 1)
        position, potential, _ = self._fetch_from_cache()
        energies = [energy for leaf, energy in self.leaves if leaf is position]
        stats = {
            "lp": -float(potential),
            "energy": float(energies[0] if energies else self.initial_energy),
            "n_steps": self.steps,
            "acceptance_rate": min(max(float(accept), 0.0), 1.0),
            "step_size": float(self.step_size),
            "diverging": len(self._divergences) > divergences,
        }
        return parameters, stats

    def _count(self) -> int:
        """Number of transitions in the running mean of the acceptance, which restarts after warm-up."""
        return self._t if self._t < self._warmup_steps else self._t - self._warmup_steps


class _NUTSKernel(_Recorder, pyro.infer.NUTS):
    def _build_basetree(self, z: Any, r: Any, z_grads: Any, log_slice: Any, direction: Any, energy_current: Any) -> Any:
        tree = super()._build_basetree(z, r, z_grads, log_slice, direction, energy_current)
        self.initial_energy = energy_current
        self.steps += 1
        kinetic = self._kinetic_energy(tree.r_left_unscaled)
        self.leaves.append((tree.z_proposal, tree.z_proposal_pe + kinetic))
        return tree

    def transition(self, parameters: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        parameters, stats = super().transition(parameters)
        return parameters, {**stats, "tree_depth": max(stats["n_steps"], 1).bit_length()}


class _HMCKernel(_Recorder, pyro.infer.HMC):
    def transition(self, parameters: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        before, potential_before, _ = self._fetch_from_cache()
        self._kinetic: list[Tensor] = []
        parameters, stats = super().transition(parameters)
        position, potential, _ = self._fetch_from_cache()
        # The first two kinetic energies belong to the ends of the trajectory, later ones to the adaptation.
        moved = position is not before
        energy = self._kinetic[1 if moved else 0] + (potential if moved else potential_before)
        return parameters, {**stats, "energy": float(energy), "n_steps": self._taken}

    def _kinetic_energy(self, r_unscaled: Any) -> Tensor:
        energy = super()._kinetic_energy(r_unscaled)
        if hasattr(self, "_kinetic"):
            if not self._kinetic:
                self._taken, self.initial_energy = self.num_steps, energy
            self._kinetic.append(energy)
        return energy


@dataclass(frozen=True, kw_only=True)
class _ReferenceSampler:
    """Settings that Pyro's samplers share."""

    draws: int = 500
    warmup: int = 500
    chains: int = 2
    target_accept: float = 0.8
    dense_mass: bool = False
    init: str = "prior"
    capture: bool = True
    progress: bool = True

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for name, least in (("draws", 1), ("warmup", 0), ("chains", 1)):
            check_integer(name, getattr(self, name), least)
        check_number("target_accept", self.target_accept, "(0, 1)")
        initial(self.init)

    def _kernel(self, **settings: Any) -> Any:
        raise NotImplementedError

    def kernel(self, model: Model, args: tuple[Any, ...]) -> Any:
        """Pyro's kernel at a valid start, before its ``setup``."""
        start, potential, transforms, _ = initialize_model(model, args, init_strategy=initial(self.init))
        kernel = self._kernel(
            potential_fn=capture(potential, start) if self.capture else potential,
            transforms=transforms,
            target_accept_prob=self.target_accept,
            full_mass=self.dense_mass,
        )
        kernel.initial_params = start
        return kernel

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """The posterior of ``model(*args)``; called through `posterity.inference.infer`.

        An interrupt returns the draws made so far, with a warning. A `ConvergenceWarning` names chains that disagree,
        never move or diverge; ``attrs["warnings"]`` stores its text.

        Args:
            model: the model.
            *args: the arguments of the model.
            seed: seed of all random numbers.
            guide: ignored.
            site: name of the observed site, if there are several.

        Raises:
            ValueError: the model has no latent sites, or it has parameters, which a sampler cannot fit.
            KeyboardInterrupt: the run was interrupted before the first draw.
        """
        program = inspect(model, args, site)
        if not program.latents:
            raise ValueError("expected a model with latent sites to sample, got none: fit it by SVI")
        if program.parameters:
            raise ValueError(
                f"expected a model without parameters (a sampler cannot learn them), got {program.parameters}"
            )
        start = time.perf_counter()
        chains: list[_Chain] = []
        total = self.chains * (self.warmup + self.draws)
        with progress_bar(total, self.name, shown=self.progress) as bar:
            for index, chain_seed in enumerate(child_seeds(seed, self.chains)):
                chain = _Chain(self, model, args, chain_seed, f"chain {index + 1}/{self.chains}", bar)
                chain.sample()
                if chain.interrupted and chains:
                    break  # only complete chains are returned
                chains.append(chain)
                if chain.interrupted:
                    break
        if not chains[0].stats:
            raise KeyboardInterrupt("interrupted before the first draw")
        interrupted = chains[-1].interrupted or len(chains) < self.chains
        draws = _stack([chain.constrained() for chain in chains])
        statistics = _stack([chain.statistics() for chain in chains])
        agreement = ComparedFunctions(model, args, program).judge(draws, statistics["lp"])
        problems = find_problems(statistics, agreement, self, draws=draws, interrupted=interrupted)
        if interrupted:
            returned = f"{len(statistics['lp'][0])} of {self.draws} draws of {len(chains)} of {self.chains} chains"
            warn_interrupted(f"reference.{self.name}", returned, "Run it again for the rest.", stacklevel=3)
        return Posterior(
            model,
            program,
            draws=draws,
            sample_stats=statistics,
            attrs={
                "method": self.name,
                "settings": repr(self),
                "seed": seed,
                "seconds": time.perf_counter() - start,
                "interrupted": int(interrupted),
                "warnings": give_warning(f"reference.{self.name}", problems, stacklevel=3),
            },
        )


class _Chain:
    """One chain: its kernel, its draws in unconstrained space, and their statistics."""

    def __init__(
        self, settings: _ReferenceSampler, model: Model, args: tuple[Any, ...], seed: int, label: str, bar: Any
    ) -> None:
        self.settings, self.model, self.args, self.seed = settings, model, args, seed
        self.label, self.bar = label, bar
        self.positions: list[dict[str, Tensor]] = []
        self.stats: list[dict[str, Any]] = []
        self.interrupted = False

    def sample(self) -> None:
        """Make the draws; an interrupt ends the chain."""
        settings = self.settings
        with seeded(self.seed), pyro.get_param_store().scope():
            try:
                self.kernel = settings.kernel(self.model, self.args)
                self.kernel.setup(settings.warmup)
                parameters = self.kernel.initial_params
                for iteration in range(settings.warmup + settings.draws):
                    parameters, stats = self.kernel.transition(parameters)
                    self.bar.update()
                    if iteration % 10 == 0:
                        self.bar.set_postfix_str(self._progress(stats, iteration), refresh=False)
                    if iteration >= settings.warmup:
                        self.positions.append({name: value.detach() for name, value in parameters.items()})
                        self.stats.append(stats)
            except KeyboardInterrupt:
                self.interrupted = True

    def _progress(self, stats: dict[str, Any], iteration: int) -> str:
        phase = "warm-up" if iteration < self.settings.warmup else "draws"
        divergences = sum(s["diverging"] for s in self.stats)
        return f"{self.label} {phase}, {stats['n_steps']} steps, step {stats['step_size']:.1e}, {divergences} divergent"

    def constrained(self) -> dict[str, Tensor]:
        """The draws in the space of the model, each (draw, ...)."""
        stacked = {
            name: torch.stack([p[name] for p in self.positions[: len(self.stats)]]) for name in self.positions[0]
        }
        transforms = self.kernel.transforms
        return {name: transforms[name].inv(z).detach() if name in transforms else z for name, z in stacked.items()}

    def statistics(self) -> dict[str, Tensor]:
        """The statistics, each (draw,)."""
        columns = {name: [s[name] for s in self.stats] for name in self.stats[0]}
        # As float64: in float32 the log density of many observations has few decimals.
        return {n: torch.tensor(v, dtype=torch.double if isinstance(v[0], float) else None) for n, v in columns.items()}


def _stack(chains: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}


@dataclass(frozen=True, kw_only=True)
class NUTS(_ReferenceSampler):
    """The no-U-turn sampler with multinomial sampling along the trajectory (Hoffman & Gelman 2014; Betancourt 2017).

    Args:
        draws: number of draws of each chain.
        warmup: number of iterations of adaptation.
        chains: number of chains, one after another.
        target_accept: acceptance rate to which the step size adapts.
        dense_mass: adapt a full mass matrix instead of a diagonal.
        init: "prior", "uniform" or "median".
        capture: record the potential once and replay it (see `posterity.inference.mcmc.potential.capture`).
        progress: whether to show a progress bar.
        max_tree_depth: limit d of the tree depth; it allows 2^d - 1 leapfrog steps.

    Raises:
        ValueError: a setting is invalid.
    """

    max_tree_depth: int = 10
    name: ClassVar[str] = "NUTS"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("max_tree_depth", self.max_tree_depth, 1)

    def _kernel(self, **settings: Any) -> Any:
        return _NUTSKernel(max_tree_depth=self.max_tree_depth, **settings)


@dataclass(frozen=True, kw_only=True)
class HMC(_ReferenceSampler):
    """Hamiltonian Monte Carlo with a fixed trajectory length (Neal 2011).

    ``trajectory_length`` is in units of the adapted metric; the other settings are those of `NUTS`.

    Raises:
        ValueError: a setting is invalid.
    """

    trajectory_length: float = 2.0
    name: ClassVar[str] = "HMC"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("trajectory_length", self.trajectory_length, "(0, inf)")

    def _kernel(self, **settings: Any) -> Any:
        return _HMCKernel(trajectory_length=self.trajectory_length, **settings)
