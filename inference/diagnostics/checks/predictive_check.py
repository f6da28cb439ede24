"""Posterior predictive checks: test statistics of the observations and of replicated data.

A statistic T of a whole data set is computed for the observed data and for data sets that the model generates. If the
observed T is unlike the others, the model misses what T measures (Rubin 1984; Gelman, Meng & Stern 1996).

Two facts about the p-values. A statistic that the model fits with its own parameter (the mean, for a model with an
intercept) cannot look wrong: choose statistics that the model does not fit, such as skewness, extremes, zeros, or the
correlation with a variable that the model ignores. And on the data of the fit, the p-values of a *right* model
concentrate around 1/2, since the data are used twice: the p-values are conservative (Meng 1994; Robins, van der Vaart &
Ventura 2000), so a small one is stronger evidence than it seems, and a large one weaker. On held-out data, y and its
replicates are exchangeable, and p-values are uniform for a right model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.reading import read
from posterity.validation import check_callable, check_finite, check_integer, check_seed, to_numbers

Statistic = Callable[..., Any]


def posterior_predictive_check(
    source: object,
    y: Any = None,
    *,
    statistics: Mapping[str, Statistic] | None = None,
    draws: int = 1000,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Statistics of replicated data sets and of the observed one, with p-values, over "statistic".

    - ``replicated`` over ("statistic", "sample"), and ``observed`` over "statistic".
    - ``upper_tail``: P(T_rep >= T_obs), with ties counted half, as the middle rank of the observed statistic among the
      replicated ones: (#above + (#ties + 1) / 2) / (S + 1), which is never 0 or 1.
    - ``p_value``: twice the smaller of the two tails; the module says how to read it.

    From a `PredictiveMixture`, each data set is made from *one* draw of the posterior, so its observations are
    dependent; from a bare mixture, observations are independent.

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), each of which is a data set, or ArviZ data.
        y: observations (N,), which ArviZ data hold themselves.
        statistics: functions of data (N,) that return one number, by name. A function with the parameter ``axis``, as
            in NumPy and SciPy, is called for many data sets at once, (sets, N) with ``axis=-1``. Bind x to a function
            that
            needs it: ``lambda y: np.corrcoef(x, y)[0, 1]``. By default mean, sd, min, max, skewness, the 5 % and 95 %
            quantiles, and for counts the share of zeros.
        draws: number of data sets made from a mixture.
        var_name: the observed variable of ArviZ data, if there are several.
        seed: seed of the data sets.

    Raises:
        ValueError: if statistics are not functions by name, a statistic does not return one finite real number for a
            data set, or there are fewer than 2 draws, and as `pit`.

    >>> rng = np.random.default_rng(0)
    >>> found = posterior_predictive_check(rng.normal(size=(400, 100)), rng.exponential(size=100) - 1)
    >>> [str(name) for name in found.statistic.values[found.p_value < 0.01]]
    ['min', 'skewness', 'q05']
    """
    seed = check_seed(seed)
    check_integer("draws", draws)
    if statistics is not None:
        _check(statistics)
    data = read(source, y, var_name)
    count = data.draw_count(draws)
    if count < 2:
        raise ValueError(f"expected at least 2 draws, got {count}")
    functions, parts = dict(statistics or {}), []
    for sets in data.replicates(draws, seed):
        functions = functions or _defaults(data.observed, sets)
        parts.append([_evaluate(name, statistic, sets) for name, statistic in functions.items()])
    replicated = np.concatenate(parts, axis=1)
    observed = np.array([_evaluate(name, one, data.observed[None])[0] for name, one in functions.items()])
    above, ties = (replicated > observed[:, None]).sum(1), (replicated == observed[:, None]).sum(1)
    tail = (above + 0.5 * (ties + 1)) / (count + 1)
    attrs: dict[str, str | int] = {"n": data.observed.size, "num_draws": data.num_draws}
    if data.has_density:
        attrs["seed"] = seed
    return xr.Dataset(
        {
            "replicated": (("statistic", "sample"), replicated),
            "observed": ("statistic", observed),
            "upper_tail": ("statistic", tail),
            "p_value": ("statistic", np.minimum(2 * np.minimum(tail, 1 - tail), 1.0)),
        },
        coords={"statistic": list(functions)},
        attrs=attrs,
    )


def _check(statistics: Any) -> None:
    """``ValueError`` unless there is at least one statistic, and all are functions by name."""
    if not isinstance(statistics, Mapping):
        raise ValueError(f"expected statistics to be functions by name, got {type(statistics).__name__}")
    if not statistics:
        raise ValueError("expected at least one statistic, got none")
    for name, statistic in statistics.items():
        check_callable(f"the statistic {name!r}", statistic, "data")


def _evaluate(name: str, statistic: Statistic, sets: np.ndarray) -> np.ndarray:
    """The statistic of each data set (sets, N): (sets,)."""
    what = f"values of the statistic {name!r}"
    if "axis" in _parameters(statistic):
        values = to_numbers(what, statistic(sets, axis=-1))
    else:
        rows = [to_numbers(what, statistic(row)) for row in sets]
        shapes = sorted({row.shape for row in rows})
        if len(shapes) > 1:
            raise ValueError(f"expected the statistic {name!r} to be one number for a data set, got shapes {shapes}")
        values = np.array(rows)
    if values.shape != (len(sets),):
        got = f"shape {values.shape} for {len(sets)} data sets"
        raise ValueError(f"expected the statistic {name!r} to be one number for a data set, got {got}")
    check_finite(what, values)
    return values


def _parameters(statistic: Statistic) -> list[str]:
    try:
        return list(inspect.signature(statistic).parameters)
    except (TypeError, ValueError):  # some compiled functions have no signature
        return []


def _defaults(observed: np.ndarray, replicated: np.ndarray) -> dict[str, Statistic]:
    """The default statistics, with the share of zeros if all values are counts."""
    statistics: dict[str, Statistic] = {
        "mean": np.mean,
        "sd": np.std,
        "min": np.min,
        "max": np.max,
        "skewness": _skewness,
        "q05": lambda values, axis: np.quantile(values, 0.05, axis=axis),
        "q95": lambda values, axis: np.quantile(values, 0.95, axis=axis),
    }
    if all(bool((part >= 0).all() and (part == np.floor(part)).all()) for part in (observed, replicated)):
        statistics["zeros"] = lambda values, axis: np.mean(values == 0, axis=axis)
    return statistics


def _skewness(values: np.ndarray, axis: int) -> np.ndarray:
    """Third standardised moment; 0 if all values are equal."""
    centred = values - values.mean(axis=axis, keepdims=True)
    spread, third = np.mean(centred**2, axis=axis), np.mean(centred**3, axis=axis)
    differ = np.ptp(values, axis=axis) > 0
    return np.where(differ, third / np.where(differ, spread, 1.0) ** 1.5, 0.0)
