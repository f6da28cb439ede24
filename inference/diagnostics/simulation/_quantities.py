"""Test quantities: the scalars by which a truth is compared with the draws of its posterior."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from posterity.inference import arviz
from posterity.inference.program.arguments import read_arguments
from posterity.inference.program.likelihood import likelihood_over_draws, score_draws
from posterity.inference.program.trace import Model

MOST = 100
"""Largest number of test quantities by default: more are the weights of a network or the rows of a table."""

Function = Callable[[dict[str, Tensor], Tensor], Any]


@dataclass(frozen=True, eq=False)
class Quantities:
    """The scalars of (latent sites, y) that are compared; see `posterity.inference.diagnostics.refit`."""

    functions: Mapping[str, Function]
    sites: tuple[str, ...] | None
    at: tuple[Any, ...] | None
    log_likelihood: bool

    def evaluate(
        self, model: Model, inputs: tuple[Any, ...], y: Tensor, site: str, draws: Mapping[str, Tensor]
    ) -> dict[str, np.ndarray]:
        """Each quantity (S,) by name, in double precision, from draws (S, ...) of the latent sites."""
        found: dict[str, np.ndarray] = {}
        values, total = dict(draws), None
        if self.log_likelihood or self.sites is not None:
            read = score_draws(model, (*inputs, y), draws, site)
            values |= read.deterministics
            total = read.log_prob.double().flatten(1).sum(1) if self.log_likelihood else None
        for name in self._names(draws, values):
            found |= _elements(name, values[name])
        if self.at is not None:
            functions, _ = likelihood_over_draws(model, self.at, draws, site)
            found |= _elements("f", functions.mean.flatten(1))
        count = len(next(iter(draws.values())))
        for name, function in self.functions.items():
            found[name] = np.array(
                [_scalar(name, function({n: v[s] for n, v in draws.items()}, y)) for s in range(count)]
            )
        if total is not None:
            found["log_likelihood"] = total.cpu().numpy()
        if not found:
            raise ValueError("expected at least one test quantity, got none")
        for name, array in found.items():
            bad = int((~np.isfinite(array)).sum())
            if bad:
                raise ValueError(f"expected finite values of {name!r}, got {bad} of {count} that are nan or infinite")
        return found

    def _names(self, draws: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Sequence[str]:
        """The sites whose elements are compared."""
        if self.sites is not None:
            missing = [name for name in self.sites if name not in values]
            if missing:
                raise ValueError(f"expected sites of the model {sorted(values)}, got {missing}")
            return self.sites
        if self.at is None and not self.functions:
            size = sum(value[0].numel() for value in draws.values())
            if size > MOST:
                raise ValueError(
                    f"expected at most {MOST} test quantities, got {size} elements of latent sites: give at=x for the "
                    "values of a network's function, whose weights are exchangeable, or name the sites"
                )
            return list(draws)
        return [] if self.functions else [name for name, value in draws.items() if value.ndim == 1]


def read_quantities(test_quantities: Any, sites: Sequence[str] | None, at: Any, log_likelihood: bool) -> Quantities:
    """The arguments of `refit`, checked."""
    functions = test_quantities or {}
    if callable(functions):
        functions = {getattr(functions, "__name__", "quantity").strip("<>"): functions}
    if not isinstance(functions, Mapping) or not all(callable(f) for f in functions.values()):
        raise ValueError(
            f"expected test_quantities to be a function or a mapping of names to functions, got {test_quantities!r}"
        )
    if isinstance(sites, str):
        raise ValueError(f"expected sites to be a list of names, got {sites!r}")
    points = at if at is None or isinstance(at, tuple) else (at,)
    if points is not None:
        points = read_arguments(points)
    return Quantities(dict(functions), None if sites is None else tuple(sites), points, bool(log_likelihood))


def judge(
    quantities: Quantities,
    model: Model,
    inputs: tuple[Any, ...],
    y: Tensor,
    site: str,
    truth: Mapping[str, Tensor],
    draws: Mapping[str, Tensor],
    *,
    count: int,
    correlated: bool,
) -> dict[str, Any]:
    """Truth and ``count`` draws in the test quantities: "truth" (Q,), "draws" (count, Q), "ess" (Q,), "names".

    ``draws[name]`` has shape (chain, draw, ...). Where they are ``correlated``, "ess" is the bulk effective sample
    size; the draws that are kept are spread evenly over each chain.
    """  # fmt: skip
    chains, length = next(iter(draws.values())).shape[:2]
    if chains * length < count:
        raise TooFewDraws(f"expected at least {count} draws of each posterior (draws=...), got {chains * length}")
    both = {name: torch.cat([truth[name][None].to(value), value.flatten(0, 1)]) for name, value in draws.items()}
    found = quantities.evaluate(model, inputs, y, site, both)
    values = np.stack(list(found.values()), -1)
    own, others = values[0], values[1:]
    worth = np.full(len(found), float(len(others)))
    if correlated:
        worth = _ess(others.reshape(chains, length, -1), own)
    kept = ((np.arange(count) + 0.5) * len(others) / count).astype(int)
    return {"names": list(found), "truth": own, "draws": others[kept], "ess": worth}


class TooFewDraws(ValueError):
    """With these settings no refit can have the requested number of draws."""


def _ess(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Bulk ESS (Q,) of (chain, draw, Q). A single chain is halved; chains too short for an ESS count as one draw."""
    chains, length, count = values.shape
    if chains == 1:
        half = length // 2
        values = values[:, : 2 * half].reshape(2, half, count)
    if values.shape[1] < 4:
        return np.full(count, float(chains))
    moving = np.ptp(values, axis=(0, 1)) > 0
    # A quantity without variation is a constant of the model if it equals the truth; otherwise the chains are stuck.
    ess = np.where(values[0, 0] == truth, float(chains * length), 1.0)
    if moving.any():
        dims = ("chain", "draw", "quantity")
        with np.errstate(divide="ignore", invalid="ignore"):  # the R-hat of chains without variation is infinite
            ess[moving] = arviz.ess(xr.DataArray(values[..., moving], dims=dims), method="bulk").values
    return np.minimum(np.nan_to_num(ess, nan=1.0), chains * length)


def _elements(name: str, values: Tensor) -> dict[str, np.ndarray]:
    """The scalars of values (S, ...) as "name", "name[0]", "name[0,1]"."""
    arrays = values.detach().cpu().double().numpy()
    shape = arrays.shape[1:]
    if math.prod(shape) == 1:
        return {name: arrays.reshape(-1)}
    return {f"{name}[{','.join(map(str, i))}]": arrays[(slice(None), *i)] for i in np.ndindex(shape)}


def _scalar(name: str, value: Any) -> float:
    size = value.numel() if isinstance(value, Tensor) else np.size(value)
    if size != 1:
        raise ValueError(f"expected the test quantity {name!r} to be one number, got {size}")
    return float(value)
