"""Predictives known by draws: from ArviZ data, or from arrays, such as the samples of a generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from posterity.inference.arviz import group
from posterity.inference.diagnostics.sources.labels import observations, require_same_coordinates
from posterity.inference.diagnostics.sources.source import Source
from posterity.random import generator
from posterity.validation import check_choice, check_finite, to_numbers

CHUNK = 2**23
"""Numbers in a chunk of observations: 64 MiB for each intermediate result."""

SETS = 2**22
"""Numbers in a chunk of replicated data sets: 32 MiB."""

RANKS = "ranks"
"""Purpose of the random numbers that break ties of ranks; `pit` and `loo_pit` share them."""


@dataclass(frozen=True)
class DrawsSource(Source):
    """Draws of the predictive (S, N), or (S, N, D) of several targets, and the observations.

    ``no_density`` is the error message of `log_score` if there is no ``log_likelihood``.
    """

    predictive: np.ndarray
    observed: np.ndarray
    template: xr.DataArray
    log_likelihood: np.ndarray | None = None
    kind: Literal["mixture", "draws", "arviz"] = "draws"
    no_density: str = "expected a Mixture, or ArviZ data with a group 'log_likelihood', for a log score, got draws"

    @property
    def num_draws(self) -> int:
        return len(self.predictive)

    def tails(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Randomised ranks of y among the draws, from below and from above, each (N,); the two sum to one."""
        y, count = self.observed, self.num_draws
        below, above = np.empty(len(y)), np.empty(len(y))
        for rows in self.chunks():
            below[rows] = (self.predictive[:, rows] < y[rows]).sum(0)
            above[rows] = (self.predictive[:, rows] > y[rows]).sum(0)
        slots = count - below - above + 1
        share = generator(seed, RANKS).random(len(y))
        return (below + share * slots) / (count + 1), (above + (1 - share) * slots) / (count + 1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        self.require_two_draws()
        chunks = list(self.chunks())
        mean = np.concatenate([self.predictive[:, rows].mean(0) for rows in chunks])
        return mean, np.concatenate([self.predictive[:, rows].std(0, ddof=1) for rows in chunks])

    def quantiles(self, probabilities: np.ndarray) -> np.ndarray:
        """Sample quantiles (Q, N), by linear interpolation."""
        return np.concatenate(
            [np.quantile(self.predictive[:, rows], probabilities, axis=0) for rows in self.chunks()], 1
        )

    def log_score(self) -> np.ndarray:
        """log of the likelihood averaged over the draws, (N,), in nats."""
        if self.log_likelihood is None:
            raise ValueError(self.no_density)
        chunks = column_chunks(self.log_likelihood)
        total = np.concatenate([logsumexp(self.log_likelihood[:, rows], axis=0) for rows in chunks])
        return total - np.log(len(self.log_likelihood))

    def draws(self, count: int, seed: int) -> np.ndarray:
        return self.predictive

    def draw_chunks(self, count: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
        for rows in self.chunks():
            yield rows, self.predictive[:, rows]

    def draw_count(self, wanted: int) -> int:
        return self.num_draws

    def as_draws(self, count: int, seed: int) -> DrawsSource:
        return self

    def replicates(self, count: int, seed: int) -> Iterator[np.ndarray]:
        step = max(1, SETS // self.observed.size)
        for start in range(0, self.num_draws, step):
            yield self.predictive[start : start + step]

    def is_constant(self) -> np.ndarray:
        # Rounding gives equal draws a standard deviation above zero.
        return np.concatenate([np.ptp(self.predictive[:, rows], axis=0) == 0 for rows in self.chunks()])

    def require_line(self) -> None:
        """Nothing: draws are taken as numbers on a line."""

    def require_two_draws(self) -> None:
        if self.num_draws < 2:
            raise ValueError("expected at least 2 posterior-predictive draws, got 1")

    def chunks(self) -> list[slice]:
        """Slices of observations whose draws make a chunk of numbers."""
        return column_chunks(self.predictive)


def column_chunks(draws: np.ndarray) -> list[slice]:
    """Slices of the N observations of draws (S, N, ...), each of `CHUNK` numbers."""
    step = max(1, CHUNK // (len(draws) * int(np.prod(draws.shape[2:], dtype=int))))
    return [slice(start, start + step) for start in range(0, draws.shape[1], step)]


def source_of_draws(draws: Any, y: Any, several: bool, needs_y: bool = True) -> DrawsSource:
    """The source of draws (S, N) and y (N,), or with ``several`` targets of draws (S, N, D) and y (N, D).

    If draws and y are DataArrays, their dimensions and coordinates have to agree.
    """
    if y is None and needs_y:
        raise ValueError("expected y with an array of draws, got None")
    values = to_numbers("draws", draws)
    ndim, letters = (3, "(draws, N, D)") if several else (2, "(draws, N)")
    if values.ndim != ndim or 0 in values.shape:
        raise ValueError(f"expected draws of shape {letters}, got {values.shape}")
    observed = np.full(values.shape[1:], np.nan) if y is None else to_numbers("y", y)
    if observed.shape != values.shape[1:]:
        raise ValueError(f"expected y of shape {values.shape[1:]}, got {observed.shape}")
    check_finite("draws", values)
    if y is not None:
        check_finite("y", observed)
    return DrawsSource(values, observed, observations(draws, y, len(observed)))


def source_of_arviz(data: Any, groups: list[str], var_name: str | None, target_dim: str | None) -> DrawsSource:
    """The source of one variable of ArviZ data, its draws in the order of its observations."""
    observed = group(data, "observed_data")
    names = [str(name) for name in observed.data_vars]
    if var_name is None and len(names) == 1:
        var_name = names[0]
    var_name = check_choice("var_name", var_name, names)
    variable = observed[var_name]
    label = f"observed_data[{var_name!r}]"
    if variable.size == 0:
        raise ValueError(f"expected observations, got {label} of shape {variable.shape}")
    check_finite(label, to_numbers(label, variable.values))
    template = variable
    if target_dim is not None:
        if target_dim not in variable.dims or variable.ndim < 2:
            raise ValueError(f"expected target_dim to be one of several dimensions {variable.dims}, got {target_dim!r}")
        variable = variable.transpose(..., target_dim)
        template = variable.isel({target_dim: 0}, drop=True)
    predictive = _flatten(data, "posterior_predictive", var_name, variable, template.size)
    log_likelihood, no_density = None, f"expected ArviZ data with a group 'log_likelihood', got groups {groups}"
    if "log_likelihood" in groups and var_name in group(data, "log_likelihood"):
        dims = group(data, "log_likelihood")[var_name].dims
        if target_dim is None or target_dim not in dims:
            log_likelihood = _flatten(data, "log_likelihood", var_name, template, template.size)
        else:
            no_density = (
                f"expected log_likelihood[{var_name!r}] to be joint over the targets, one value for each observation, "
                f"got one for each target: dimensions {dims}"
            )
    shape = (template.size,) if target_dim is None else (template.size, variable.sizes[target_dim])
    values = variable.values.reshape(shape).astype(float)
    return DrawsSource(predictive, values, template, log_likelihood, "arviz", no_density)


def _flatten(data: Any, group_name: str, var_name: str, template: xr.DataArray, rows: int) -> np.ndarray:
    """A variable (chain, draw, obs...) as an array (S, N) or (S, N, D), in the order of the observations."""
    dataset, label = group(data, group_name), f"{group_name}[{var_name!r}]"
    if var_name not in dataset:
        raise ValueError(f"expected {group_name} with a variable {var_name!r}, got {list(dataset.data_vars)}")
    values, wanted = dataset[var_name], ("chain", "draw", *template.dims)
    sizes = {dim: values.sizes.get(dim) for dim in template.dims}
    if set(values.dims) != set(wanted) or sizes != dict(template.sizes):
        raise ValueError(
            f"expected {label} with dimensions chain, draw and {dict(template.sizes)}, got {dict(values.sizes)}"
        )
    if not values.sizes["chain"] * values.sizes["draw"]:
        raise ValueError(f"expected draws in {label}, got {dict(values.sizes)}")
    for dim in template.dims:
        require_same_coordinates(label, values, "observed_data", template, str(dim))
    ordered = values.transpose(*wanted).values
    flat = ordered.reshape(ordered.shape[0] * ordered.shape[1], rows, *((-1,) if template.size != rows else ()))
    flat = to_numbers(label, flat)
    if group_name == "posterior_predictive":
        check_finite(label, flat)
    elif not (flat < np.inf).all():  # -inf is a y that the model calls impossible
        nans, infinities = int(np.isnan(flat).sum()), int((flat == np.inf).sum())
        raise ValueError(f"expected {label} without nan and +inf, got {nans} nan and {infinities} +inf")
    return flat
