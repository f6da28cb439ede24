"""Chains in blocks, one joblib task per block: in processes of this machine, or on the workers of a cluster.

Blocks share only the model: each adapts separately and has its own seed. Its draws therefore depend neither on the
worker nor on the other blocks, and a block whose worker is lost can be run again.
"""

import dataclasses
import math
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import torch

from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.engine.density import Density
from posterity.inference.engine.lanes.machine import cores
from posterity.inference.mcmc.agreement import ComparedFunctions
from posterity.inference.mcmc.run import Sampler
from posterity.inference.mcmc.starts import Init, start
from posterity.inference.mcmc.warnings import find_problems, give_warning
from posterity.inference.parallel import EXCLUSIVE, close, send
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import Model
from posterity.inference.training.interrupt import INTERRUPTED, warn_interrupted
from posterity.progress import progress_bar
from posterity.random import child_seeds
from posterity.validation import check_integer

# The result of a worker as tensors and plain values, without the model: "draws", "sample_stats", "attrs" and "warnings"
# (category and text); or the "error" of the block and its "traceback" as text; or "late" if it could not begin in time.
Outcome = dict[str, Any]
Task = tuple[Sampler, Model, tuple[Any, ...], int, str | None, float]  # method, model, arguments, seed, site, deadline

# Attributes of a run: the sum over the blocks, the largest, or all different values.
SUMMED = ("gradients", "warmup_gradients", "draws_mb")
LARGEST = ("warmup_seconds", "prepare_seconds")
NAMES = ("tier", "engine", "tier_reason")


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The chains of ``method`` in ``blocks`` of equal size, with one joblib task per block.

    ``Blocks(HMC(chains=32), blocks=4)`` runs four blocks of eight chains. Each block adapts separately, on one thread;
    use at least eight chains per block.

    By default blocks run in processes of this machine. ``joblib.parallel_config(backend="dask")`` runs them on a Dask
    cluster; with threads they run one after another. The backends "loky" (the default) and "dask" notice lost workers;
    "multiprocessing" waits for them forever. The model, also a closure over modules, is sent to the workers in memory
    by cloudpickle; no pickle file is written.

    The same seed gives the same draws for every backend and number of workers (on one kind of CPU, with the same
    packages): block i is ``method`` with ``chains // blocks`` chains, ``threads=1`` and the seed
    ``child_seeds(seed, blocks)[i]``. Settings of ``method`` apply to all blocks together: ``target_ess`` and
    ``superchains`` are divided among the blocks, and ``max_seconds`` limits their total time (on a cluster by the
    clocks of its machines). Starts given as values or as a `Posterior` are assigned as if all chains ran together. The
    checkpoint "run.pt" becomes "run-0.pt", "run-1.pt", ... on the workers' disks, each for `resume`. Blocks of
    different length (``max_seconds``, ``target_ess``) are cut to the shortest.

    Args:
        method: `HMC`, `NUTS` or `MCLMC`; ``method.chains`` is the number of chains of all blocks, and
            ``method.threads`` is ignored.
        blocks: number of blocks.
        retries: how often blocks are sent again if their worker is lost (killed, out of memory, machine lost). Finished
            blocks are kept. Blocks lost after the last retry are left out with a ``RuntimeWarning``; if no block is
            left, the worker's error is raised.
        jobs: number of simultaneous processes; None takes ``n_jobs`` of the caller's ``joblib.parallel_config`` if it
            is more than one, and all cores otherwise.

    Raises:
        ValueError: the method is another one, or the chains or superchains cannot be divided equally.
    """

    method: Sampler
    blocks: int = 2
    retries: int = 1
    jobs: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, Sampler):
            raise ValueError(f"expected method to be a many-chain sampler, HMC() or NUTS(), got {self.method!r}")
        for name, least in (("blocks", 1), ("retries", 0), ("jobs", 1)):
            if name != "jobs" or self.jobs is not None:
                check_integer(name, getattr(self, name), least)
        for name in ("chains", "superchains"):
            count = getattr(self.method, name)
            if count is not None and count % self.blocks:
                raise ValueError(f"expected {name} to be a multiple of blocks={self.blocks}, got {count}")

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """The posterior of ``model(*args)``, with the chains of block 0 first; called through `infer`.

        An interrupt returns the finished blocks, with a warning. The agreement of the chains is computed over all
        blocks, with one `ConvergenceWarning` for the run. Other warnings are given once, even if several blocks give
        them. An error in a block, such as a ``ValueError`` about the model, is raised here unchanged. Blocks that
        cannot begin within ``max_seconds`` are left out.

        In ``attrs``, ``seconds`` is wall time, ``warmup_seconds`` and ``prepare_seconds`` are the largest over the
        blocks, ``gradients`` is the sum over the blocks, and ``blocks`` is their number.

        Args:
            model: the model.
            *args: the arguments of the model.
            seed: seed of all random numbers.
            guide: ignored.
            site: name of the observed site, if there are several.

        Raises:
            ValueError: the model cannot be sampled.
            TimeoutError: ``max_seconds`` passed before any block could begin.
        """
        begun, deadline = time.perf_counter(), time.time() + (self.method.max_seconds or math.inf)
        program = inspect(model, args, site)
        tasks = {
            index: (method, model, args, block_seed, program.site, deadline)
            for index, (method, block_seed) in enumerate(
                zip(self._methods(model, args, seed), child_seeds(seed, self.blocks), strict=True)
            )
        }
        outcomes, stopped = self._gather(tasks)
        late = sorted(index for index, outcome in outcomes.items() if "late" in outcome)
        outcomes = {index: outcome for index, outcome in sorted(outcomes.items()) if index not in late}
        if late and not outcomes:
            raise TimeoutError(f"max_seconds={self.method.max_seconds:g} was over before any block could begin")
        complete = {index: outcome for index, outcome in outcomes.items() if not outcome["attrs"]["interrupted"]}
        outcomes = complete or outcomes
        draws, statistics = _join(list(outcomes.values()))
        attrs = {index: outcome["attrs"] for index, outcome in outcomes.items()}
        for category, text in sorted({one for outcome in outcomes.values() for one in outcome["warnings"]}, key=str):
            warnings.warn(text, category, stacklevel=3)
        if stopped:
            made = statistics["lp"].shape[1]
            returned = f"{made} of {self.method.draws} draws of {len(outcomes)} of {self.blocks} blocks"
            warn_interrupted(self._title, returned, self._how_to_resume(), stacklevel=3)
        interrupted = len(complete) < self.blocks - len(late)
        agreement = ComparedFunctions(model, args, program).judge(draws, statistics["lp"])
        cut = _describe_cuts(attrs, late)
        # If every block has reached its share of the target, the whole target is reached.
        missed = self.method.target_ess if any("target_ess" in a["warnings"] for a in attrs.values()) else None
        method = dataclasses.replace(self.method, target_ess=missed)
        problems = [f"block {index}: {one['starts']}" for index, one in attrs.items() if one["starts"]]
        problems += find_problems(statistics, agreement, method, draws=draws, cut=cut, interrupted=interrupted)
        return Posterior(
            model,
            program,
            draws=draws,
            sample_stats=statistics,
            attrs={
                "method": self.method.name,
                "settings": repr(self),
                "seed": seed,
                "seconds": time.perf_counter() - begun,
                **{name: max(a[name] for a in attrs.values()) for name in LARGEST},
                **{name: sum(a[name] for a in attrs.values()) for name in SUMMED},
                **{name: ", ".join(sorted({a[name] for a in attrs.values()})) for name in NAMES},
                "threads": 1,
                "blocks": len(outcomes),
                "interrupted": int(interrupted),
                "cut": cut,
                "warnings": give_warning(self._title, problems, stacklevel=3),
            },
        )

    @property
    def _title(self) -> str:
        return f"{self.method.name} in blocks"

    def _how_to_resume(self) -> str:
        if self.method.checkpoint is None:
            return "Run it again for the rest; blocks with checkpoint='run.pt' can be resumed."
        return f"Continue each block with resume, from its own file beside {str(self.method.checkpoint)!r}."

    def _methods(self, model: Model, args: tuple[Any, ...], seed: int) -> list[Sampler]:
        """The method of each block."""
        method, target = self.method, self.method.target_ess
        changes: dict[str, Any] = {"chains": method.chains // self.blocks, "threads": 1, "progress": False}
        if target is not None:
            changes["target_ess"] = target / self.blocks
        if method.superchains is not None:
            changes["superchains"] = method.superchains // self.blocks
        methods = []
        for index, init in enumerate(self._inits(model, args, seed)):
            changes["init"] = init
            if method.checkpoint is not None:
                path = Path(method.checkpoint)
                changes["checkpoint"] = str(path.with_name(f"{path.stem}-{index}{path.suffix}"))
            methods.append(dataclasses.replace(method, **changes))
        return methods

    def _inits(self, model: Model, args: tuple[Any, ...], seed: int) -> list[Init]:
        """The ``init`` of each block: the name, or the values for its chains out of those for all chains."""
        method = self.method
        if isinstance(method.init, str):
            return [method.init] * self.blocks
        density = Density(model, args)
        parts = start(density, method.init, method.superchains or method.chains, seed).chunk(self.blocks)
        return [{name: value.clone() for name, value in density.constrain(part).items()} for part in parts]

    @property
    def _jobs(self) -> int:
        # One job may be the default of joblib or configured; the two cannot be distinguished.
        configured = joblib.effective_n_jobs(None)
        return min(self.jobs or (configured if configured > 1 else cores()), self.blocks)

    def _gather(self, tasks: dict[int, Task]) -> tuple[dict[int, Outcome], bool]:
        """Outcomes by block index, and whether there was an interrupt; lost blocks have no outcome."""
        outcomes: dict[int, Outcome] = {}
        failed: Outcome | None = None
        with progress_bar(len(tasks), self._title, shown=self.method.progress) as bar:
            for attempt in range(self.retries + 1):
                missing = {index: task for index, task in tasks.items() if index not in outcomes}
                # All at once: with one job a repeated task would run in this process, and might kill it.
                results = send(_run, missing, jobs=self._jobs, pre_dispatch="all")
                try:
                    for index, outcome in results:
                        if "error" in outcome:
                            failed = outcome
                            break
                        outcomes[index] = outcome
                        bar.update()
                        # Interrupted in this process, or the worker was told to stop.
                        if "late" not in outcome and outcome["attrs"]["interrupted"]:
                            return outcomes, True
                    break
                except KeyboardInterrupt:
                    if not outcomes:
                        raise
                    return outcomes, True
                except Exception as error:  # a lost worker, since errors of blocks are returned as values
                    if attempt == self.retries:
                        if not outcomes:
                            raise
                        warnings.warn(
                            f"{len(tasks) - len(outcomes)} of {len(tasks)} blocks were lost with their workers and are "
                            f"left out ({type(error).__name__}: {str(error).strip().splitlines()[:1]})",
                            RuntimeWarning,
                            3,
                        )
                finally:
                    close(results)
        if failed is not None:
            raised: Exception = failed["error"]
            if raised.__traceback__ is None:  # an error from another process
                raised.add_note(failed["traceback"])
            raise raised
        return outcomes, False


def _join(outcomes: list[Outcome]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Draws and statistics of all blocks, cut to the shortest block."""
    length = min(value.shape[1] for outcome in outcomes for value in outcome["sample_stats"].values())
    draws, statistics = (
        {name: torch.cat([outcome[part][name][:, :length] for outcome in outcomes]) for name in outcomes[0][part]}
        for part in ("draws", "sample_stats")
    )
    return draws, statistics


def _describe_cuts(attrs: dict[int, dict[str, Any]], late: list[int]) -> str:
    """The blocks that `max_seconds` cut short, and those that could not begin, as one sentence."""
    cuts: dict[str, list[str]] = {}
    for index, one in attrs.items():
        if one["cut"]:
            cuts.setdefault(one["cut"].partition(": ")[0], []).append(str(index))
    parts = [f"{cut} in block{'s' if len(blocks) > 1 else ''} {', '.join(blocks)}" for cut, blocks in cuts.items()]
    if late:
        parts.append(f"max_seconds was over before the blocks {late} could begin, which are left out")
    return f"{', '.join(parts)}: raise max_seconds" if parts else ""


def _run(task: Task) -> Outcome:
    """Run one block in the worker; errors are returned, so that an error raised there means a lost worker."""
    method, model, args, seed, site, deadline = task
    with EXCLUSIVE:
        left = deadline - time.time()
        if left <= 0:
            return {"late": True}
        if method.max_seconds is not None:
            method = dataclasses.replace(method, max_seconds=min(left, method.max_seconds))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                posterior = method.run(model, *args, seed=seed, site=site)
        except TimeoutError:
            return {"late": True}
        except Exception as error:  # noqa: BLE001 - the caller raises it again
            return {"error": error, "traceback": traceback.format_exc()}
    return {
        "draws": dict(posterior.draws),
        "sample_stats": dict(posterior.sample_stats),
        "attrs": dict(posterior.attrs),
        "warnings": [(one.category, str(one.message)) for one in caught if not _about_whole_run(one)],
    }


def _about_whole_run(one: warnings.WarningMessage) -> bool:
    """Whether the caller gives this warning for all blocks together: convergence and interrupts."""
    return issubclass(one.category, ConvergenceWarning) or INTERRUPTED in str(one.message)
