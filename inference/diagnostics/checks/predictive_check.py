"""Does the model make data like those that were seen? Posterior predictive checks with test statistics.

A statistic T, of a whole data set, is computed for what was observed and for data sets that the model makes. Where the
observed one is unlike the others, the model misses what T measures: Rubin 1984; Gelman, Meng & Stern 1996.

Two things to know of the p-values. A statistic that the model fits by its own parameters (the mean of a model with an
intercept) cannot look wrong: choose what the model is not made to fit, as skewness, extremes, zeros, or correlation
with a variable it does not have. And on the data of the fit the p-values of a *right* model heap around 1/2, since the
data have been used twice: they are conservative (Meng 1994; Robins, van der Vaart & Ventura 2000), so that a small one
says more than it seems to and a large one less. On held-out data y and its replicates are exchangeable, and p-values
are uniform for a right model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.sources.reading import read
from posterity.validation import check_integer, check_seed, to_numbers

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

    ``source`` is ArviZ data with ``posterior_predictive`` and ``observed_data``, draws (S, N) with ``y`` (N,), each row
    of which is one data set, or a `Mixture` of batch shape (N,) with ``y``. Of a `PredictiveMixture` ``draws`` data
    sets are made, each from *one* draw of the posterior, so that its rows go together; of a bare mixture rows are
    independent.

    ``statistics`` are functions of data (N,) to a number, by name. One with a parameter ``axis``, as those of NumPy and
    SciPy, is called with many data sets at once, (sets, N) and ``axis=-1``. What a statistic needs of x, let it hold:
    ``lambda y: np.corrcoef(x, y)[0, 1]``. The observations are in the order of y, or of the observed variable's values.
    By default mean, sd, min, max, skewness, the 5 % and 95 % quantiles, and for counts the share of zeros.

    - ``replicated`` over ("statistic", "sample") and ``observed`` over "statistic";
    - ``upper_tail``: P(T_rep >= T_obs), ties counted half, as the middle rank of the observed one among the replicated:
      (#above + (#ties + 1) / 2) / (S + 1), so that it is never 0 or 1;
    - ``p_value``: twice the smaller of the two tails. For what it is worth, see the module.

    Raises ``ValueError`` without a statistic, for anything but functions by name, for one that does not give one finite
    real number for a data set, fewer than 2 draws, and as `pit`.

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
    chosen, parts = dict(statistics or {}), []
    for some in data.replicates(draws, seed):
        chosen = chosen or _defaults(data.observed, some)
        parts.append([_evaluate(name, one, some) for name, one in chosen.items()])
    replicated = np.concatenate(parts, axis=1)
    observed = np.array([_evaluate(name, one, data.observed[None])[0] for name, one in chosen.items()])
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
        coords={"statistic": list(chosen)},
        attrs=attrs,
    )


def _check(statistics: Any) -> None:
    """``ValueError`` unless these are functions by name, one at least."""
    if not isinstance(statistics, Mapping):
        raise ValueError(f"expected statistics as functions by name, got {type(statistics).__name__}")
    if not statistics:
        raise ValueError("expected at least one statistic, got none")
    for name, one in statistics.items():
        if not callable(one):
            raise ValueError(f"expected the statistic {name!r} to be a function, got {one!r}")


def _evaluate(name: str, statistic: Statistic, sets: np.ndarray) -> np.ndarray:
    """One number for each data set (sets, N): (sets,)."""
    what = f"values of the statistic {name!r}"
    if "axis" in _parameters(statistic):
        values = to_numbers(what, statistic(sets, axis=-1))
    else:
        rows = [to_numbers(what, statistic(row)) for row in sets]
        shapes = sorted({row.shape for row in rows})
        if len(shapes) > 1:
            raise ValueError(f"expected the statistic {name!r} to give one number for a data set, got shapes {shapes}")
        values = np.array(rows)
    if values.shape != (len(sets),):
        got = f"shape {values.shape} for {len(sets)} of them"
        raise ValueError(f"expected the statistic {name!r} to give one number for a data set, got {got}")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(
            f"expected finite values of the statistic {name!r}, got {bad} of {values.size} that are nan or infinite"
        )
    return values


def _parameters(statistic: Statistic) -> list[str]:
    try:
        return list(inspect.signature(statistic).parameters)
    except (TypeError, ValueError):  # some compiled functions do not say
        return []


def _defaults(observed: np.ndarray, made: np.ndarray) -> dict[str, Statistic]:
    chosen: dict[str, Statistic] = {
        "mean": np.mean,
        "sd": np.std,
        "min": np.min,
        "max": np.max,
        "skewness": _skewness,
        "q05": lambda values, axis: np.quantile(values, 0.05, axis=axis),
        "q95": lambda values, axis: np.quantile(values, 0.95, axis=axis),
    }
    if all(bool((part >= 0).all() and (part == np.floor(part)).all()) for part in (observed, made)):
        chosen["zeros"] = lambda values, axis: np.mean(values == 0, axis=axis)
    return chosen


def _skewness(values: np.ndarray, axis: int) -> np.ndarray:
    """Third standardised moment; 0 of values that are all the same, which have no side."""
    centred = values - values.mean(axis=axis, keepdims=True)
    spread, third = np.mean(centred**2, axis=axis), np.mean(centred**3, axis=axis)
    differ = np.ptp(values, axis=axis) > 0
    return np.where(differ, third / np.where(differ, spread, 1.0) ** 1.5, 0.0)
