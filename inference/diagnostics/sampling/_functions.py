"""The functions of the posterior that a convergence report judges, and the facts about the run that made the draws."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.arviz import group, group_names
from posterity.inference.convergence import advice
from posterity.inference.convergence.elements import site_columns
from posterity.validation import to_array

LOG_DENSITY = "log density"
SHOWN = 4
"""Largest number of features of an input whose values are part of a label."""


@dataclass(frozen=True)
class Functions:
    """Draws of functions ``values`` (chain, draw, point), with a label for each point, and the facts about the run.

    ``stats`` (chain, draw) have ArviZ's names; ``named`` says whether the user chose the functions. The last ``sites``
    points are elements of named sites, on which chains may disagree even if their predictions agree.
    """

    values: np.ndarray
    labels: list[str]
    stats: Mapping[str, np.ndarray]
    attrs: Mapping[str, Any]
    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray]] = field(default_factory=dict)
    losses: np.ndarray | None = None
    named: bool = True
    sites: int = 0

    @property
    def chains(self) -> int:
        return self.values.shape[0]

    @property
    def draws(self) -> int:
        """Number of draws of each chain."""
        return self.values.shape[1]

    @property
    def method(self) -> str:
        return str(self.attrs.get("method", ""))

    def setting(self, name: str) -> float | None:
        """A numeric setting of the run, read from ``attrs["settings"]``; None if it is not there."""
        match = re.search(rf"\b{name}=([0-9.eE+-]+)\b", str(self.attrs.get("settings", "")))
        return float(match.group(1)) if match else None

    def word(self, name: str) -> str | None:
        """A setting that is a string, such as the name of the starts; None if it is not there."""
        match = re.search(rf"\b{name}='(\w+)'", str(self.attrs.get("settings", "")))
        return match.group(1) if match else None

    @property
    def of_pyro(self) -> bool:
        """Whether one of Pyro's own samplers made the draws; their starts have other names."""
        return "dense_mass=" in str(self.attrs.get("settings", ""))

    @property
    def reparam(self) -> bool | None:
        """Whether the setting ``reparam`` was in use; None for a sampler without it."""
        match = re.search(r"\breparam=(\w+)?", str(self.attrs.get("settings", "")))
        return None if match is None else match.group(1) != "None"

    @property
    def longer_warmup(self) -> str:
        """Advice to run a longer warmup than the run had."""
        return advice.longer_warmup(self.setting("warmup"))

    @property
    def another_init(self) -> str:
        """Advice to use other starts than the run had."""
        return advice.another_init(self.word("init"), advice.PYRO_INITS if self.of_pyro else advice.INITS)


def read_functions(source: Any, inputs: tuple[Any, ...], var_names: Sequence[str] | None) -> Functions:
    """The functions of a `Posterior` at ``inputs``, or the variables of ArviZ data."""
    if hasattr(source, "function_draws"):
        program = getattr(source, "program", None)
        several = program is not None and program.site is None  # or no observed site at all
        if not inputs and not several and (program is None or program.dims):
            raise ValueError("expected inputs x, at which functions of the posterior are judged, got none")
        if var_names is not None:
            raise ValueError(f"expected var_names only with ArviZ data, got {var_names!r} with a Posterior")
        return _of_posterior(source, None if several else inputs)
    try:
        names = group_names(source)
    except ValueError:
        raise ValueError(
            "expected a Posterior with x, or ArviZ data (InferenceData or DataTree), got " + type(source).__name__
        ) from None
    if inputs:
        raise ValueError("expected no x with ArviZ data, which hold draws of functions and no model, got x")
    return _of_arviz(source, names, var_names)


def _of_posterior(posterior: Any, inputs: tuple[Any, ...] | None) -> Functions:
    """Functions at ``inputs``, the log density and named sites; without functions if ``inputs`` is None."""
    if inputs is None:
        values, parts, inputs = np.empty((posterior.num_chains, posterior.num_draws, 0, 1)), [""], ()
    else:
        values, parts = _predicted(posterior, inputs)
    rows = values.shape[2]
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    x = next(
        (to_array(value) for value in (posterior.inputs(*inputs) if inputs else ()) if getattr(value, "ndim", 0)),
        np.empty(0),
    )
    inputs_named = [f"x[{i}]" for i in range(rows)]
    if 0 < rows == len(x) and x.size <= SHOWN * rows and x.dtype.kind in "iuf":
        table = x.reshape(rows, -1)
        names = posterior.x_names if len(posterior.x_names) == table.shape[1] else ()
        inputs_named = [f"x[{i}]{_short(row, names)}" for i, row in enumerate(table)]
        repeated = np.repeat(table, len(parts), axis=0).astype(float)
        coords["x"] = (("point", "feature"), repeated)
        if names:
            coords["feature"] = (("feature",), np.asarray(names, dtype=str))
    labels = [f"{place}{part}" for place in inputs_named for part in parts]
    stats = {name: to_array(value) for name, value in posterior.sample_stats.items()}
    losses = posterior.history.get("loss")
    functions = _with_density(
        Functions(
            values.reshape(*values.shape[:2], len(labels)),
            labels,
            stats,
            dict(posterior.attrs),
            coords,
            None if losses is None else to_array(losses).astype(float),
        )
    )
    return _with_sites(functions, posterior) if stats else functions


def _predicted(posterior: Any, inputs: tuple[Any, ...]) -> tuple[np.ndarray, list[str]]:
    """E[y|x, w], or the probabilities of classes, (chain, draw, rows, parts), and the names of the parts."""
    import torch

    likelihood = posterior.likelihood(*inputs)
    shape = (posterior.num_chains, posterior.num_draws)
    if isinstance(likelihood, torch.distributions.Categorical):  # classes have no mean
        predicted, name = to_array(likelihood.probs), "class"
        names = range(predicted.shape[-1])
        if len(names) == 2:  # the other probability follows
            predicted, names = predicted[..., 1:], range(1, 2)
    else:
        predicted, name = to_array(_mean(likelihood)), "target"
        if predicted.ndim < 2:
            raise ValueError("expected a likelihood of each row of x, got one of batch shape ()")
        names = range(int(np.prod(predicted.shape[2:], dtype=int)))
    values = predicted.reshape(*shape, predicted.shape[1], -1)
    several = len(names) > 1 or name == "class"
    return values, [f", {name} {i}" for i in names] if several else [""]


def _mean(likelihood: Any) -> Any:
    try:
        return likelihood.mean
    except NotImplementedError:
        raise ValueError(
            f"expected a likelihood with a mean, or of classes, got {type(likelihood).__name__}: compute functions "
            "yourself, and give them as ArviZ data with var_names"
        ) from None


def _of_arviz(data: Any, groups: list[str], var_names: Sequence[str] | None) -> Functions:
    posterior = group(data, "posterior")
    variables = [str(name) for name in posterior.data_vars]
    names = [var_names] if isinstance(var_names, str) else variables if var_names is None else list(var_names)
    missing = [name for name in names if name not in variables]
    if missing or not names:
        raise ValueError(f"expected var_names from the variables of the posterior {variables}, got {missing or names}")
    columns, labels = [], []
    for name in names:
        variable = posterior[name]
        if not {"chain", "draw"} <= set(variable.dims) or variable.dtype.kind not in "biuf":
            raise ValueError(
                f"expected numbers with the dimensions chain and draw in {name!r}, got {variable.dtype} over "
                f"{variable.dims}"
            )
        variable = variable.transpose("chain", "draw", ...)
        values = variable.values if variable.dtype.kind == "f" else variable.values.astype(float)
        columns.append(values.reshape(*variable.shape[:2], -1))
        labels += _labels(name, variable)
    stats = {}
    if "sample_stats" in groups:
        sample_stats = group(data, "sample_stats")
        plain = [str(name) for name, value in sample_stats.data_vars.items() if set(value.dims) == {"chain", "draw"}]
        stats = {name: sample_stats[name].transpose("chain", "draw").values for name in plain}
    values = np.concatenate(columns, -1)
    return _with_density(Functions(values, labels, stats, dict(data.attrs), named=var_names is not None))


def _labels(name: str, variable: xr.DataArray) -> list[str]:
    """Labels such as ``mu[3]``, with the coordinates of a variable if it has any."""
    rest = variable.dims[2:]
    axes = [variable[dim].values.tolist() for dim in rest]  # indices, without coordinates
    if not rest:
        return [name]
    places = [", ".join(str(value) for value in place) for place in product(*axes)]
    return [f"{name}[{place}]" for place in places]


def _with_density(functions: Functions) -> Functions:
    """Append the log density as one more function, if the sampler stored it."""
    density = functions.stats.get("lp")
    if density is None or density.shape != functions.values.shape[:2]:
        return functions
    column = density.astype(float)
    column = column - column.mean()  # the density of many observations has no decimals in single precision
    dtype = functions.values.dtype  # the single precision of a network is not changed
    if dtype.kind != "f" or dtype.itemsize < 4:
        dtype = np.dtype(float)
    values = np.concatenate([functions.values.astype(dtype, copy=False), column[..., None].astype(dtype)], -1)
    coords = _lengthened(functions.coords, 1)
    return replace(functions, values=values, labels=[*functions.labels, LOG_DENSITY], coords=coords)


def _lengthened(coords: Mapping[str, tuple[tuple[str, ...], np.ndarray]], count: int) -> dict[str, Any]:
    """The coordinates with nan for ``count`` more points."""
    return {
        name: (dims, np.concatenate([x, np.full((count, *x.shape[1:]), np.nan)]) if dims[0] == "point" else x)
        for name, (dims, x) in coords.items()
    }


def _with_sites(functions: Functions, posterior: Any) -> Functions:
    """Append the elements of the named sites, except elements that are equal in all draws."""
    weights = set(posterior.program.weights)
    sites, labels = site_columns(posterior.draws, [name for name in posterior.program.latents if name not in weights])
    moves = (sites != sites[:1, :1]).any((0, 1))
    sites = sites[..., moves]
    coords = _lengthened(functions.coords, sites.shape[-1])
    return replace(
        functions,
        values=np.concatenate([functions.values, sites.astype(np.result_type(functions.values, np.float32))], -1),
        labels=[*functions.labels, *(label for label, there in zip(labels, moves, strict=True) if there)],
        coords=coords,
        sites=sites.shape[-1],
    )


def _short(row: np.ndarray, names: Sequence[str] = ()) -> str:
    """The inputs of one row: ``= 1``, ``= (1, 2)`` or, with names, ``(dose = 1, age = 2)``."""
    numbers = [f"{value:.3g}" for value in row]
    if names:
        return f" ({', '.join(f'{name} = {number}' for name, number in zip(names, numbers, strict=True))})"
    return f" = {numbers[0]}" if len(numbers) == 1 else f" = ({', '.join(numbers)})"
