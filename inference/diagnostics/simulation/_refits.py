"""The refits of one call: those on disk, those that workers make, and the Dataset of all."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from posterity.files import checksum
from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.diagnostics.simulation._fits import Fits, Outcome, fit, judged, prepared
from posterity.inference.diagnostics.simulation._folder import Folder
from posterity.inference.diagnostics.simulation._simulations import Simulations
from posterity.inference.mcmc.batched import CHAINS, check_method
from posterity.inference.parallel import send_all
from posterity.inference.training.interrupt import warn_interrupted
from posterity.progress import progress_bar
from posterity.random import child_seeds, seeded

FITTED, AMORTISED = 2, 4  # purposes of seeds; 1 and 3 are simulations and second attempts
CERTAIN = 2e-3  # a run of failures less likely than this ends the call


class Refits:
    """The refits of one call: read from the folder, made by `fitted` or `amortised`, returned by `dataset`."""

    def __init__(
        self, model: Any, inputs: tuple[Any, ...], simulations: Simulations, folder: Folder | None,
        max_failures: float, progress: bool,
    ) -> None:  # fmt: skip
        self.model, self.inputs, self.simulations = model, inputs, simulations
        self.folder, self.max_failures, self.progress = folder, max_failures, progress
        self.found: dict[int, Outcome] = {}
        self.failed: dict[int, str] = {}
        self.interrupted = False
        self.sums: dict[int, str] = {}
        if folder is not None:
            for index in range(len(simulations)):
                latents = (self.latents(index)[name] for name in sorted(simulations.latents))
                self.sums[index] = checksum(*latents, simulations.y[index])
                kept = folder.read(index, self.sums[index])
                if kept is not None:
                    self.found[index] = kept

    def latents(self, index: int) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.simulations.latents.items()}

    def missing(self) -> list[int]:
        return [index for index in range(len(self.simulations)) if index not in self.found]

    def task(self, indices: Sequence[int], seeds: Sequence[int], **settings: Any) -> Fits:
        # Rows are cloned: with a slice, all simulations would be sent to the worker.
        data = tuple(
            (i, {n: v.clone() for n, v in self.latents(i).items()}, self.simulations.y[i].clone(), seed)
            for i, seed in zip(indices, seeds, strict=True)
        )
        return Fits(self.model, self.inputs, self.simulations.site, data=data, **settings)

    def fitted(
        self, method: Any, quantities: Any, draws: int, seed: int, *, batched: bool, n_jobs: int | None, retries: int
    ) -> None:
        """Make the missing refits with ``method``. Batches hold the same data sets, whatever is missing."""
        for owner in (method, self.model):
            if isinstance(getattr(owner, "guide", None), torch.nn.Module):
                raise ValueError(
                    "expected guide to be a name or a function, got a module, which would keep its "
                    "parameters from one data set to the next and cannot be sent to a worker"
                )
        size = 1
        if batched:
            check_method(method)
            size = max(1, CHAINS // method.chains)
        seeds = child_seeds(seed, len(self.simulations), FITTED)
        settings = {
            "method": prepared(method), "quantities": quantities, "draws": draws, "retries": retries, "batched": batched
        }  # fmt: skip
        missing, tasks = set(self.missing()), {}
        for begin in range(0, len(seeds), size):
            indices = range(begin, min(begin + size, len(seeds)))
            if missing & set(indices):
                tasks[begin] = self.task(indices, [seeds[i] for i in indices], **settings)
        lost: dict[int, str] = {}
        self._gather(send_all(fit, tasks, lost, jobs=n_jobs, retries=retries), len(missing))
        for begin, error in lost.items():
            for index, *_ in tasks[begin].data:
                if index not in self.found:
                    self._fail(index, {"error": f"lost with its worker ({error})", "traceback": ""})

    def amortised(self, posterior_draws: Callable[[Tensor], Any], quantities: Any, draws: int, seed: int) -> None:
        """Make the missing refits with one call of ``posterior_draws`` for all data sets."""
        simulations = self.simulations
        with seeded(child_seeds(seed, 1, AMORTISED)[0]):
            given = posterior_draws(simulations.y)
        found = _by_site(given, simulations)
        task = self.task([], [], method=None, quantities=quantities, draws=draws, retries=0, batched=False)

        def results() -> Iterator[tuple[int, dict[int, Outcome]]]:
            for i in self.missing():
                one = {name: value[i][None] for name, value in found.items()}
                outcome = judged(task, self.latents(i), simulations.y[i], one, correlated=False)
                yield i, {i: outcome | {"seconds": 0.0, "warnings": ""}}

        self._gather(results(), len(self.missing()))

    def _gather(self, results: Iterator[tuple[Any, dict[int, Outcome]]], total: int) -> None:
        with progress_bar(total, "refits", shown=self.progress) as bar:
            try:
                for _, outcomes in results:
                    for index, outcome in outcomes.items():
                        if outcome.get("interrupted"):  # here, or in the worker
                            raise KeyboardInterrupt
                        if index in self.found:  # on disk, but others of its batch were missing
                            continue
                        if "error" in outcome:
                            self._fail(index, outcome)
                        else:
                            self._add(index, outcome)
                            bar.update()
            except KeyboardInterrupt:
                self.interrupted = True
                if not self.found:
                    raise
            finally:
                if hasattr(results, "close"):
                    results.close()

    def _add(self, index: int, outcome: Outcome) -> None:
        if self.folder is not None:
            self.folder.write(index, outcome, self.sums[index])
        self.found[index] = outcome

    def _fail(self, index: int, outcome: Outcome) -> None:
        self.failed[index] = outcome["error"]
        failed, total = len(self.failed), len(self.simulations)
        # Without a single success, so many failures mean that the final share will be too large.
        hopeless = not self.found and self.max_failures < 1 and self.max_failures**failed < CERTAIN
        if "refused" in outcome:
            raise ValueError(outcome["refused"])
        if failed > self.max_failures * total or hopeless:
            raised = ValueError(
                f"expected refits that succeed, got {failed} of {failed + len(self.found)} that failed, the last by "
                f"{outcome['error']}"
            )
            raised.add_note(outcome["traceback"])
            raise raised

    def dataset(self, names: list[str], settings: Mapping[str, Any]) -> xr.Dataset:
        """The finished refits, in the order of the simulations."""
        index = sorted(self.found)
        outcomes = [self.found[i] for i in index]
        draws = int(settings["draws"])
        ess = np.stack([outcome["ess"] for outcome in outcomes])
        few = int((ess.min(1) < draws).sum())
        total, failed = len(self.simulations), len(self.failed)
        if failed:
            warnings.warn(
                f"{failed} of {total} refits failed and are left out ({next(iter(self.failed.values()))}): the "
                "results hold only for data on which the method does not fail",
                RuntimeWarning,
                4,
            )
        if few:
            warnings.warn(
                f"in {few} of {len(index)} refits the effective sample size is below {draws}: even with a "
                "correct sampler, too many ranks then lie at both ends. Give the method more draws, or keep fewer "
                "(draws=...)",
                RuntimeWarning,
                4,
            )
        y = self.simulations.y[index].detach().cpu().numpy()
        self._warn([str(outcome["warnings"]) for outcome in outcomes])
        return xr.Dataset(
            {
                "truth": (("simulation", "quantity"), np.stack([outcome["truth"] for outcome in outcomes])),
                "draws": (("simulation", "draw", "quantity"), np.stack([outcome["draws"] for outcome in outcomes])),
                "ess": (("simulation", "quantity"), ess),
                "y": (("simulation", *(f"y_dim_{i}" for i in range(y.ndim - 1))), y),
                "seconds": ("simulation", np.array([float(outcome["seconds"]) for outcome in outcomes])),
                "warnings": ("simulation", np.array([str(outcome["warnings"]) for outcome in outcomes])),
            },
            coords={"simulation": index, "quantity": names},
            attrs={
                "method": settings["method"],
                "seed": settings["seed"],
                "batched": settings["batched"],
                "count": total,
                "failed": failed,
                "too_few": few,
                "interrupted": int(self.interrupted),
            },
        )

    def _warn(self, texts: list[str]) -> None:
        """One warning for all refits of each kind."""
        worried = [text for text in texts if text]
        if worried:
            warnings.warn(
                f"the method warned in {len(worried)} of {len(texts)} refits (see the variable warnings), first: "
                f"{worried[0]}",
                ConvergenceWarning,
                5,
            )
        if self.interrupted:
            kept = f"{len(texts)} of {len(self.simulations)} refits"
            go_on = (
                "The same call continues from them" if self.folder is not None else "With folder=... it could continue"
            )
            warn_interrupted("refits", kept, f"{go_on}; slow refits are missing more often than fast ones.",
                             stacklevel=5)  # fmt: skip


def _by_site(given: Any, simulations: Simulations) -> dict[str, Tensor]:
    """Draws (count, S, ...) of every latent site; ``ValueError`` for other sites or shapes."""
    latents = simulations.latents
    if not isinstance(given, Mapping):
        if len(latents) > 1:
            raise ValueError(
                "expected posterior_draws to return a mapping with the sites "
                f"{list(latents)}, got {type(given).__name__}"
            )
        given = dict.fromkeys(latents, given)
    if set(given) != set(latents):
        raise ValueError(f"expected posterior_draws to return the sites {sorted(latents)}, got {sorted(given)}")
    sizes = set()
    for name, truth in latents.items():
        value = given[name]
        if (
            not hasattr(value, "detach")
            or value.ndim < 2
            or value.shape[0] != len(truth)
            or value.shape[2:] != truth.shape[1:]
        ):
            shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            wanted = ", ".join(map(str, (len(truth), "draws", *truth.shape[1:])))
            raise ValueError(f"expected posterior_draws to return {name!r} with shape ({wanted}), got {shape}")
        sizes.add(value.shape[1])
    if len(sizes) > 1:
        raise ValueError(f"expected posterior_draws to return equally many draws of every site, got {sorted(sizes)}")
    return {name: given[name].detach() for name in latents}
