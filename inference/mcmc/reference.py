"""Pyro's own NUTS and HMC, one chain after another, with every statistic of the sampler kept.

They are the reference that faster samplers are held against: slow, and trusted. `NUTS` needs no tuning; `HMC` takes
a trajectory length.

Statistics are named as ArviZ names them, each of shape (chain, draw): ``lp`` (log density of the joint in
unconstrained space), ``energy`` (Hamiltonian of the accepted point with its momentum), ``n_steps`` (leapfrog steps),
``tree_depth`` (doublings begun; NUTS), ``acceptance_rate`` (mean over the trajectory), ``step_size``, ``diverging``.
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
from tqdm.auto import tqdm

from posterity.inference.mcmc.agreement import ComparedFunctions
from posterity.inference.mcmc.potential import capture
from posterity.inference.mcmc.warnings import find_problems, warn_of
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import Model
from posterity.inference.training.interrupt import warn_interrupted
from posterity.models.guides import initial
from posterity.random import child_seeds, seeded
from posterity.validation import check_integer, check_number


class _Recorder:
    """Mixed into Pyro's kernels: what happened in one transition."""

    # Of the kernel.
    _t: int
    _warmup_steps: int
    _mean_accept_prob: float
    _divergences: list[int]
    _fetch_from_cache: Callable[[], tuple[Any, Tensor, Any]]
    sample: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    step_size: float
    # Of the transition.
    initial_energy: Tensor
    leaves: list[tuple[Any, Tensor]]
    steps: int

    def transition(self, parameters: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """One call of the kernel's ``sample`` and its statistics."""
        self.initial_energy, self.leaves, self.steps = torch.tensor(math.nan), [], 0
        count, mean, divergences = self._count(), self._mean_accept_prob, len(self._divergences)
        parameters = self.sample(parameters)
        # The kernel keeps a running mean alone; the transition's own value is the step of that mean.
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
        """How many transitions the running mean of the acceptance is over; it restarts after warm-up."""
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
        before, old_potential, _ = self._fetch_from_cache()
        self._kinetic: list[Tensor] = []
        parameters, stats = super().transition(parameters)
        position, potential, _ = self._fetch_from_cache()
        # The first two kinetic energies are the trajectory's ends; later ones belong to step size adaptation.
        moved = position is not before
        energy = self._kinetic[1 if moved else 0] + (potential if moved else old_potential)
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
    """Settings shared by Pyro's samplers."""

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
        raise TypeError("a sampler's settings come from NUTS or HMC")

    def kernel(self, model: Model, args: tuple[Any, ...]) -> Any:
        """Pyro's kernel at a valid start, ready for ``setup``."""
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
        """Sample; see `posterity.inference.infer`. An interrupt returns the draws made so far, with a warning.

        A `ConvergenceWarning` names chains that do not agree, do not move or diverge; ``attrs["warnings"]`` stores its
        text. Raises ``ValueError`` for a model without latent sites (nothing to sample), or with parameters (a sampler
        does not learn them).
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
        with tqdm(total=total, desc=self.name, disable=not self.progress, leave=False) as bar:
            for index, chain_seed in enumerate(child_seeds(seed, self.chains)):
                chain = _Chain(self, model, args, chain_seed, f"chain {index + 1}/{self.chains}", bar)
                chain.sample()
                if chain.interrupted and chains:
                    break  # the chains that are whole
                chains.append(chain)
                if chain.interrupted:
                    break
        if not chains[0].stats:
            raise KeyboardInterrupt("interrupted before the first draw")
        interrupted = chains[-1].interrupted or len(chains) < self.chains
        draws = _stack([chain.constrained() for chain in chains])
        statistics = _stack([chain.statistics() for chain in chains])
        found = ComparedFunctions(model, args, program).judge(draws, statistics["lp"])
        said = find_problems(statistics, found, self, draws=draws, interrupted=interrupted)
        if interrupted:
            kept = f"{len(statistics['lp'][0])} of {self.draws} draws of {len(chains)} of {self.chains} chains"
            warn_interrupted(f"reference.{self.name}", kept, "Run it again for the rest.", stacklevel=3)
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
                "warnings": warn_of(f"reference.{self.name}", said, stacklevel=3),
            },
        )


class _Chain:
    """One chain: its kernel, its draws in unconstrained space, its statistics."""

    def __init__(
        self, settings: _ReferenceSampler, model: Model, args: tuple[Any, ...], seed: int, label: str, bar: tqdm
    ) -> None:
        self.settings, self.model, self.args, self.seed = settings, model, args, seed
        self.label, self.bar = label, bar
        self.positions: list[dict[str, Tensor]] = []
        self.stats: list[dict[str, Any]] = []
        self.interrupted = False

    def sample(self) -> None:
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
        stacked = {
            name: torch.stack([p[name] for p in self.positions[: len(self.stats)]]) for name in self.positions[0]
        }
        transforms = self.kernel.transforms
        return {name: transforms[name].inv(z).detach() if name in transforms else z for name, z in stacked.items()}

    def statistics(self) -> dict[str, Tensor]:
        columns = {name: [s[name] for s in self.stats] for name in self.stats[0]}
        # Floats as they were computed: a float32 log density of a large table is known to its first decimal alone.
        return {n: torch.tensor(v, dtype=torch.double if isinstance(v[0], float) else None) for n, v in columns.items()}


def _stack(chains: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}


@dataclass(frozen=True, kw_only=True)
class NUTS(_ReferenceSampler):
    """The no-U-turn sampler with multinomial sampling along the trajectory (Hoffman & Gelman 2014; Betancourt 2017).

    ``draws`` per chain after ``warmup`` iterations of adapting step size and mass matrix; ``chains`` one after
    another; ``max_tree_depth`` d allows 2^d - 1 leapfrog steps; ``dense_mass`` adapts a full mass matrix; ``init``
    is "prior", "uniform" or "median"; ``capture`` records the potential once and replays it (see `capture`).
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
    """Hamiltonian Monte Carlo of a fixed trajectory length (Neal 2011), in the adapted metric's units."""

    trajectory_length: float = 2.0
    name: ClassVar[str] = "HMC"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("trajectory_length", self.trajectory_length, "(0, inf)")

    def _kernel(self, **settings: Any) -> Any:
        return _HMCKernel(trajectory_length=self.trajectory_length, **settings)
