"""The refits that one worker makes: one, or several in one batch.

Errors are returned as values, and no returned value holds the model.
"""

import dataclasses
import math
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.diagnostics.simulation._quantities import Quantities, TooFewDraws, judge
from posterity.inference.engine.threads import torch_threads
from posterity.inference.infer import infer
from posterity.inference.mcmc.batched import one_of, sample_batched
from posterity.inference.parallel import EXCLUSIVE
from posterity.inference.program.trace import unwrap_pair
from posterity.inference.training.interrupt import INTERRUPTED
from posterity.random import child_seeds

RETRIED = 3  # the purpose of the seeds of repeated attempts
LONGER = 10.0  # limit of the factor by which a refit with autocorrelated draws is lengthened
SPARE = 1.3  # a longer run has some draws more than needed, since the effective sample size is an estimate

# Outcome of one refit: the result of `judge` with "seconds" and "warnings"; or the texts "error" and "traceback", and
# the message "refused" if no other seed could help; or "interrupted".
Outcome = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Fits:
    """Data sets and the settings of their fits. ``data`` has (index, latent sites, y, seed) of each."""

    model: Any
    inputs: tuple[Any, ...]
    site: str
    method: Any
    quantities: Quantities
    draws: int
    retries: int
    batched: bool
    data: tuple[tuple[int, dict[str, Tensor], Tensor, int], ...]


def fit(task: Fits) -> dict[int, Outcome]:
    """The outcome of every data set of the task, by index."""
    with EXCLUSIVE, torch_threads(1):
        if task.batched:
            return _together(task)
        return {index: _alone(task, truth, y, seed) for index, truth, y, seed in task.data}


def judged(
    task: Fits, truth: Mapping[str, Tensor], y: Tensor, draws: Mapping[str, Tensor], *, correlated: bool
) -> Outcome:
    """The test quantities of draws (chain, draw, ...)."""
    return judge(
        task.quantities, unwrap_pair(task.model), task.inputs, y, task.site, truth, draws,
        count=task.draws, correlated=correlated,
    )  # fmt: skip


def _alone(task: Fits, truth: Mapping[str, Tensor], y: Tensor, seed: int) -> Outcome:
    outcome: Outcome = {}
    for attempt in (seed, *child_seeds(seed, task.retries, RETRIED)):
        begun = time.perf_counter()
        try:
            outcome, factor = _fitted(task, truth, y, attempt, task.method), 1.0
            while not outcome.get("interrupted") and factor < LONGER and (ess := outcome["ess"].min()) < task.draws:
                factor = min(LONGER, factor * SPARE * task.draws / float(ess))
                method = longer(task.method, factor)
                if method is None:
                    break
                outcome = _fitted(task, truth, y, attempt, method)
            return outcome | {"seconds": time.perf_counter() - begun}
        except Exception as error:  # noqa: BLE001 - any failure of a fit is tried again, counted and reported
            outcome = _failed(error)
            if "refused" in outcome:
                break
    return outcome


def _fitted(task: Fits, truth: Mapping[str, Tensor], y: Tensor, seed: int, method: Any) -> Outcome:
    with warnings.catch_warnings():  # the caller warns once for all refits
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", f".*{INTERRUPTED}", RuntimeWarning)
        posterior = infer(task.model, *task.inputs, y, method=method, seed=seed, site=task.site)
    if posterior.attrs.get("interrupted"):
        return {"interrupted": True}
    # Samplers have statistics of their transitions; a guide's draws and the members of an ensemble are independent.
    found = judged(task, truth, y, posterior.draws, correlated=bool(posterior.sample_stats))
    return found | {"warnings": str(posterior.attrs.get("warnings", ""))}


def _together(task: Fits) -> dict[int, Outcome]:
    """All data sets of the task in one batch of chains."""
    begun = time.perf_counter()
    try:
        bare = unwrap_pair(task.model)
        draws, diverged = sample_batched(
            bare, task.inputs, [y for _, _, y, _ in task.data], task.method, task.data[0][3]
        )
    except Exception as error:  # noqa: BLE001 - reported by the caller
        return {index: _failed(error) for index, *_ in task.data}
    seconds, outcomes = (time.perf_counter() - begun) / len(task.data), {}
    for place, (index, truth, y, _) in enumerate(task.data):
        try:
            found = judged(task, truth, y, one_of(draws, place), correlated=True)
            count = int(diverged[place])
            problem = f"{count} divergent transitions" if count else ""
            outcomes[index] = found | {"seconds": seconds, "warnings": problem}
        except Exception as error:  # noqa: BLE001 - concerns this data set alone
            outcomes[index] = _failed(error)
    return outcomes


def _failed(error: Exception) -> Outcome:
    failed = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return failed | ({"refused": str(error)} if isinstance(error, TooFewDraws) else {})


def prepared(method: Any) -> Any:
    """The method on one thread, without progress bar and checkpoint: it gives the same numbers in every process."""
    fields = set(getattr(method, "__dataclass_fields__", ()))
    changes: dict[str, Any] = {"progress": False} if "progress" in fields else {}
    changes |= {"threads": 1} if "threads" in fields else {}
    changes |= {"checkpoint": None} if "checkpoint" in fields else {}
    changes |= {"method": prepared(method.method)} if "method" in fields else {}
    return dataclasses.replace(method, **changes) if changes else method


def longer(method: Any, factor: float) -> Any:
    """The sampler with ``factor`` times the draws; None if the method does not sample chains."""
    fields = set(getattr(method, "__dataclass_fields__", ()))
    if {"chains", "draws"} <= fields:
        return dataclasses.replace(method, draws=math.ceil(factor * method.draws))
    inner = longer(method.method, factor) if "method" in fields else None
    return None if inner is None else dataclasses.replace(method, method=inner)
