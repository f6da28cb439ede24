"""Predictives known by their draws: from ArviZ data, or from arrays, as a generator gives them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from posterity.inference.arviz import group
from posterity.inference.diagnostics.sources.labels import observations
from posterity.random import generator
from posterity.validation import check_finite, to_numbers

BLOCK = 2**23
"""How many numbers of a block of columns are worked on at once: 64 MiB for each intermediate result."""


RANKS = "ranks"
"""What the random part of a rank among draws is drawn for; `pit` and `loo_pit` share it."""


@dataclass(frozen=True)
class DrawsSource:
    """Predictive draws (S, N), or (S, N, D) of several targets, with the observations behind the N columns.

    ``template`` has the observations' own dimensions and coordinates; of several targets one value an observation.
    """

    predictive: np.ndarray
    observed: np.ndarray
    template: xr.DataArray
    log_likelihood: np.ndarray | None = None
    without: str = "expected a mixture, or ArviZ data with a group 'log_likelihood', for a log score, got draws alone"

    @property
    def num_draws(self) -> int:
        return len(self.predictive)

    def tails(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Randomised ranks of y among the draws, from below and from above; they sum to one."""
        y, count = self.observed, self.num_draws
        below, above = np.empty(len(y)), np.empty(len(y))
        for rows in self.blocks():
            below[rows] = (self.predictive[:, rows] < y[rows]).sum(0)
            above[rows] = (self.predictive[:, rows] > y[rows]).sum(0)
        slots = count - below - above + 1
        share = generator(seed, RANKS).random(len(y))
        return (below + share * slots) / (count + 1), (above + (1 - share) * slots) / (count + 1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the draws, each (N,)."""
        if self.num_draws < 2:
            raise ValueError("expected at least 2 posterior-predictive draws, got 1")
        columns = list(self.blocks())
        mean = np.concatenate([self.predictive[:, rows].mean(0) for rows in columns])
        return mean, np.concatenate([self.predictive[:, rows].std(0, ddof=1) for rows in columns])

    def quantiles(self, probabilities: np.ndarray) -> np.ndarray:
        """(Q, N): those of the draws, by linear interpolation."""
        return np.concatenate(
            [np.quantile(self.predictive[:, rows], probabilities, axis=0) for rows in self.blocks()], 1
        )

    def log_score(self) -> np.ndarray:
        """log of the likelihood averaged over the draws, (N,), in nats."""
        if self.log_likelihood is None:
            raise ValueError(self.without)
        parts = column_blocks(self.log_likelihood)
        found = np.concatenate([logsumexp(self.log_likelihood[:, part], axis=0) for part in parts])
        return found - np.log(len(self.log_likelihood))

    def draws(self, count: int, seed: int) -> np.ndarray:
        """All the draws there are, (S, N) or (S, N, D), whatever ``count``."""
        return self.predictive

    def draw_blocks(self, count: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Columns, and all the draws there are of them."""
        for rows in self.blocks():
            yield rows, self.predictive[:, rows]

    def blocks(self) -> list[slice]:
        """Columns that are worked on together."""
        return column_blocks(self.predictive)

    def dataset(self, variables: Mapping[str, np.ndarray], **attrs: str | int | float) -> xr.Dataset:
        """Variables over the observations' own dimensions and coordinates."""
        shaped = {
            name: (self.template.dims, np.asarray(values).reshape(self.template.shape))
            for name, values in variables.items()
        }
        return xr.Dataset(shaped, coords=self.template.coords, attrs=attrs)


def column_blocks(draws: np.ndarray) -> list[slice]:
    """Columns of draws (S, N, ...) that are worked on together."""
    step = max(1, BLOCK // (len(draws) * int(np.prod(draws.shape[2:], dtype=int))))
    return [slice(start, start + step) for start in range(0, draws.shape[1], step)]


def from_arrays(draws: Any, y: Any, several: bool, needs_y: bool = True) -> DrawsSource:
    """Draws (S, N) and y (N,), or with ``several`` targets (S, N, D) and (N, D), checked.

    Names and coordinates of a DataArray are compared, and kept.
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


def from_arviz(data: Any, groups: list[str], var_name: str | None, target_dim: str | None) -> DrawsSource:
    """The draws and the observations of one variable, checked and in one order."""
    observed = group(data, "observed_data")
    names = [str(name) for name in observed.data_vars]
    if var_name is None and len(names) == 1:
        var_name = names[0]
    if var_name not in names:
        raise ValueError(f"expected var_name, one of {names}, got {var_name!r}")
    full = observed[var_name]
    if full.size == 0:
        raise ValueError(f"expected observations, got observed_data[{var_name!r}] of shape {full.shape}")
    check_finite(f"observed_data[{var_name!r}]", to_numbers(f"observed_data[{var_name!r}]", full.values))
    template = full
    if target_dim is not None:
        if target_dim not in full.dims or full.ndim < 2:
            raise ValueError(f"expected target_dim to be one of several dimensions {full.dims}, got {target_dim!r}")
        full = full.transpose(..., target_dim)
        template = full.isel({target_dim: 0}, drop=True)
    predictive = _flatten(data, "posterior_predictive", var_name, full, template.size)
    log_likelihood, without = None, f"expected ArviZ data with a group 'log_likelihood', got groups {groups}"
    if "log_likelihood" in groups and var_name in group(data, "log_likelihood"):
        dims = group(data, "log_likelihood")[var_name].dims
        if target_dim is None or target_dim not in dims:
            log_likelihood = _flatten(data, "log_likelihood", var_name, template, template.size)
        else:
            without = (
                f"expected log_likelihood[{var_name!r}] joint over the targets, one value for each observation, got "
                f"one for each target: dimensions {dims}"
            )
    shape = (template.size,) if target_dim is None else (template.size, full.sizes[target_dim])
    return DrawsSource(predictive, full.values.reshape(shape).astype(float), template, log_likelihood, without)


def _flatten(data: Any, name: str, var_name: str, template: xr.DataArray, rows: int) -> np.ndarray:
    """A variable (chain, draw, obs...) as an array (S, N) or (S, N, D), in the order of the observations."""
    found = group(data, name)
    if var_name not in found:
        raise ValueError(f"expected {name} with a variable {var_name!r}, got {list(found.data_vars)}")
    values, wanted = found[var_name], ("chain", "draw", *template.dims)
    sizes = {dim: values.sizes.get(dim) for dim in template.dims}
    if set(values.dims) != set(wanted) or sizes != dict(template.sizes):
        raise ValueError(
            f"expected {name}[{var_name!r}] with dimensions chain, draw and {dict(template.sizes)}, "
            f"got {dict(values.sizes)}"
        )
    if not values.sizes["chain"] * values.sizes["draw"]:
        raise ValueError(f"expected draws in {name}[{var_name!r}], got {dict(values.sizes)}")
    for dim in template.dims:
        here, there = values.coords.get(dim), template.coords.get(dim)
        if here is not None and there is not None and not np.array_equal(here.values, there.values):
            raise ValueError(
                f"expected {name}[{var_name!r}] with the coordinates {dim!r} of observed_data, got others "
                f"({here.values[:3].tolist()}... against {there.values[:3].tolist()}...)"
            )
    ordered = values.transpose(*wanted).values
    flat = ordered.reshape(ordered.shape[0] * ordered.shape[1], rows, *((-1,) if template.size != rows else ()))
    flat = to_numbers(f"{name}[{var_name!r}]", flat)
    if name == "posterior_predictive":
        check_finite(f"{name}[{var_name!r}]", flat)
    elif not (flat < np.inf).all():  # -inf is a y that the model calls impossible
        count, bad = int(np.isnan(flat).sum()), int((flat == np.inf).sum())
        raise ValueError(f"expected {name}[{var_name!r}] without nan and +inf, got {count} nan and {bad} +inf")
    return flat
