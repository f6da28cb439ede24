"""Chains in blocks, each a task of joblib's: processes of this machine, or workers of a cluster.

Blocks share nothing but the model: each adapts on its own and draws from a seed of its own, so what it draws depends
neither on where it runs nor on what runs beside it, and a block whose worker was lost is simply run again.
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
from tqdm.auto import tqdm

from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.engine.density import Density
from posterity.inference.engine.lanes.machine import cores
from posterity.inference.mcmc.agreement import ComparedFunctions
from posterity.inference.mcmc.run import Sampler
from posterity.inference.mcmc.starts import Init, start
from posterity.inference.mcmc.warnings import find_problems, warn_of
from posterity.inference.parallel import EXCLUSIVE, close, send
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import Model
from posterity.inference.training.interrupt import INTERRUPTED, warn_interrupted
from posterity.random import child_seeds
from posterity.validation import check_integer

# The result of a worker as tensors and plain values, without the model: either "draws", "sample_stats", "attrs" and
# "warnings" (category and text), or the "error" that the block raised and its "traceback" as text.
Outcome = dict[str, Any]
Task = tuple[Sampler, Model, tuple[Any, ...], int, str, float]  # the last entry is the deadline by the wall clock

SUMMED = ("gradients", "warmup_gradients", "draws_mb")
LARGEST = ("warmup_seconds", "prepare_seconds")


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The chains of ``method`` (an `HMC` or `NUTS`) in ``blocks`` of equal size, each block one joblib task.

    ``method.chains`` counts the chains of all blocks: ``Blocks(HMC(chains=32), blocks=4)`` runs four blocks of eight.
    Each block adapts separately on one thread (``threads`` of the method is ignored); use eight chains or more each.

    - ``retries``: how often blocks are sent again if their worker is lost (killed, out of memory, a machine gone).
      Finished blocks are kept. Blocks lost after that are left out with a ``RuntimeWarning``; if no block is left, the
      worker's error is raised.
    - ``jobs``: number of simultaneous processes; None takes ``n_jobs`` of the caller's ``joblib.parallel_config`` if
      it is more than one, and all cores otherwise.

    The caller chooses where blocks run: processes of this machine by default, a Dask cluster inside
    ``joblib.parallel_config(backend="dask")``, and so on. Threads give the same draws, one block at a time. The
    backends "loky" (the default) and "dask" notice lost workers; "multiprocessing" waits for them forever.
    The model, even one with a closure over modules, is sent to workers by cloudpickle in memory; no pickle is written.

    The same seed gives the same draws on any backend with any number of workers (on one kind of CPU, with the same
    packages): block i is ``method`` with ``chains // blocks`` chains, ``threads=1`` and seed
    ``child_seeds(seed, blocks)[i]``. ``target_ess`` and ``superchains`` of the method are divided among the blocks.
    ``max_seconds`` limits all blocks together, also if some wait for others (on a cluster by the clocks of its
    machines). ``checkpoint`` "run.pt" becomes "run-0.pt", "run-1.pt", ... on the workers' disks, each for `resume`.
    Starts given as values or as a `Posterior` are assigned as if all chains ran together. Blocks of different length
    (``max_seconds``, ``target_ess``) are cut to the shortest.

    Raises ``ValueError`` for another method, or chains (or superchains) that cannot be shared out equally.
    """

    method: Sampler
    blocks: int = 2
    retries: int = 1
    jobs: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, Sampler):
            raise ValueError(f"expected a many-chain method such as HMC() or NUTS(), got {self.method!r}")
        for name, least in (("blocks", 1), ("retries", 0), ("jobs", 1)):
            if name != "jobs" or self.jobs is not None:
                check_integer(name, getattr(self, name), least)
        for name in ("chains", "superchains"):
            count = getattr(self.method, name)
            if count is not None and count % self.blocks:
                raise ValueError(f"expected {name} that {self.blocks} blocks can share equally, got {count}")

    def run(self, model: Model, *args: Any, seed: int, guide: Any = None, site: str | None = None) -> Posterior:
        """Sample; see `posterity.inference.infer`. Draws (chain, draw, ...) with the chains of block 0 first.

        An interrupt returns the finished blocks, with a warning. Agreement of chains is judged over all blocks, with
        one `ConvergenceWarning` for the run. Other warnings are given once, even if several blocks gave them. An error
        in a block, such as a ``ValueError`` about the model, is raised here unchanged. Blocks that cannot begin within
        ``max_seconds`` are left out; if no block is left, ``TimeoutError`` is raised.
        In ``attrs``, ``seconds`` is wall time, ``warmup_seconds`` and ``prepare_seconds`` are the largest over blocks,
        ``gradients`` is the sum over blocks, and ``blocks`` is the number of blocks.
        """
        begun, deadline = time.perf_counter(), time.time() + (self.method.max_seconds or math.inf)
        program = inspect(model, args, site)
        tasks = {
            index: (method, model, args, block_seed, program.site, deadline)
            for index, (method, block_seed) in enumerate(
                zip(self._methods(model, args, seed), child_seeds(seed, self.blocks), strict=True)
            )
        }
        found, stopped = self._gather(tasks)
        late = sorted(index for index, outcome in found.items() if "late" in outcome)
        found = {index: outcome for index, outcome in found.items() if index not in late}
        if late and not found:
            raise TimeoutError(f"max_seconds={self.method.max_seconds:g} was over before any block could begin")
        whole = {index: outcome for index, outcome in found.items() if not outcome["attrs"]["interrupted"]}
        blocks, kept = zip(*sorted((whole or found).items()), strict=True)
        length = min(_length(outcome) for outcome in kept)
        draws, statistics = (
            {name: torch.cat([outcome[part][name][:, :length] for outcome in kept]) for name in kept[0][part]}
            for part in ("draws", "sample_stats")
        )
        attrs = [outcome["attrs"] for outcome in kept]
        for category, text in sorted({one for outcome in kept for one in outcome["warnings"]}, key=str):
            warnings.warn(text, category, stacklevel=3)
        if stopped:
            rest = f"{length} of {self.method.draws} draws of {len(kept)} of {self.blocks} blocks"
            warn_interrupted(self._title, rest, self._go_on(), stacklevel=3)
        interrupted = len(whole) < self.blocks - len(late)
        agree = ComparedFunctions(model, args, program).judge(draws, statistics["lp"])
        cut = _cuts(dict(zip(blocks, attrs, strict=True)), late)
        # Each block has reached its share of the target, so the whole target is reached.
        missed = self.method.target_ess if any("target_ess" in a["warnings"] for a in attrs) else None
        method = dataclasses.replace(self.method, target_ess=missed)
        starts = [f"block {index}: {one['starts']}" for index, one in zip(blocks, attrs, strict=True) if one["starts"]]
        said = starts + find_problems(statistics, agree, method, draws=draws, cut=cut, interrupted=interrupted)
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
                **{name: max(a[name] for a in attrs) for name in LARGEST},
                **{name: sum(a[name] for a in attrs) for name in SUMMED},
                **{name: ", ".join(sorted({a[name] for a in attrs})) for name in ("tier", "engine", "tier_reason")},
                "threads": 1,
                "blocks": len(kept),
                "interrupted": int(interrupted),
                "cut": cut,
                "warnings": warn_of(self._title, said, stacklevel=3),
            },
        )

    @property
    def _title(self) -> str:
        return f"{self.method.name} in blocks"

    def _go_on(self) -> str:
        if self.method.checkpoint is None:
            return "Run it again for the rest; with checkpoint='run.pt' each block could go on."
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
        """A name is every block's own; values are found for all chains, and each block gets those of its chains."""
        method = self.method
        if isinstance(method.init, str):
            return [method.init] * self.blocks
        density = Density(model, args)
        parts = start(density, method.init, method.superchains or method.chains, seed).chunk(self.blocks)
        return [{name: value.clone() for name, value in density.constrain(part).items()} for part in parts]

    @property
    def _jobs(self) -> int:
        # joblib's own default is one job, which cannot be told from a configured one.
        configured = joblib.effective_n_jobs(None)
        return min(self.jobs or (configured if configured > 1 else cores()), self.blocks)

    def _gather(self, tasks: dict[int, Task]) -> tuple[dict[int, Outcome], bool]:
        """Results by block index, fewer than tasks after an interrupt or a lost worker; and whether interrupted."""
        found: dict[int, Outcome] = {}
        failed: Outcome | None = None
        with tqdm(total=len(tasks), desc=self._title, disable=not self.method.progress, leave=False) as bar:
            for attempt in range(self.retries + 1):
                left = {index: task for index, task in tasks.items() if index not in found}
                # All at once: with one job a task that is sent again would run in this very process, and might end it.
                outcomes = send(_run, left, jobs=self._jobs, pre_dispatch="all")
                try:
                    for index, outcome in outcomes:
                        if "error" in outcome:
                            failed = outcome
                            break
                        found[index] = outcome
                        bar.update()
                        if (
                            "late" not in outcome and outcome["attrs"]["interrupted"]
                        ):  # interrupted in this process, or the worker was told to stop
                            return found, True
                    break
                except KeyboardInterrupt:
                    if not found:
                        raise
                    return found, True
                except Exception as error:  # a block's own errors come as values: this one says that a worker was lost
                    if attempt == self.retries:
                        if not found:
                            raise
                        warnings.warn(
                            f"{len(tasks) - len(found)} of {len(tasks)} blocks were lost with their workers and are "
                            f"left out ({type(error).__name__}: {str(error).strip().splitlines()[:1]})",
                            RuntimeWarning,
                            3,
                        )
                finally:
                    close(outcomes)
        if failed is not None:
            raised: Exception = failed["error"]
            if raised.__traceback__ is None:  # it came from another process
                raised.add_note(failed["traceback"])
            raise raised
        return found, False


def _cuts(attrs: dict[int, dict[str, Any]], late: list[int]) -> str:
    """Which blocks `max_seconds` cut short, and which blocks could not begin, as one sentence."""
    cuts: dict[str, list[str]] = {}
    for index, one in attrs.items():
        if one["cut"]:
            cuts.setdefault(one["cut"].partition(": ")[0], []).append(str(index))
    said = [f"{cut} in block{'s' if len(those) > 1 else ''} {', '.join(those)}" for cut, those in cuts.items()]
    if late:
        said.append(f"max_seconds was over before the blocks {late} could begin, which are left out")
    return f"{', '.join(said)}: raise max_seconds" if said else ""


def _length(outcome: Outcome) -> int:
    return min(value.shape[1] for value in outcome["sample_stats"].values())


def _run(task: Task) -> Outcome:
    """One block, in the worker. Errors are returned: one that is raised then means that the worker was lost."""
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
        except Exception as error:  # noqa: BLE001 - raised again by the caller, as it is
            return {"error": error, "traceback": traceback.format_exc()}
    return {
        "draws": dict(posterior.draws),
        "sample_stats": dict(posterior.sample_stats),
        "attrs": dict(posterior.attrs),
        # The caller warns about convergence and interrupts, for the whole run.
        "warnings": [(one.category, str(one.message)) for one in caught if not _of_the_whole(one)],
    }


def _of_the_whole(one: warnings.WarningMessage) -> bool:
    return issubclass(one.category, ConvergenceWarning) or INTERRUPTED in str(one.message)
