"""Leave-one-out cross-validation without refitting: how well do all other observations predict each one?

Draws from the posterior of all data, weighted by 1/p(y_n|w), are draws from the posterior without observation n. If
observation n is influential, a few draws have all the weight. Pareto smoothing stabilises the weights (PSIS; Vehtari,
Gelman & Gabry 2017, arXiv:1507.04544; Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25(72)), and the shape k-hat of
their tail shows where it does not: above 0.7 (less for few draws) the value is unreliable. `loo` returns k-hat with
every value, and `leave_one_out` fits the model again for observations with a bad k-hat.

The weights assume draws from the posterior itself. Draws of a guide or an ensemble are treated as such, and k-hat
cannot detect that they are not: rely on held-out scores there.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import xarray as xr

from posterity.inference.arviz import SAMPLE_DIMS, group
from posterity.inference.diagnostics.scoring._psis import check_draws, choose_reff, good_k, smoothed, warn_of_bad
from posterity.validation import check_callable, check_choice, check_finite, check_number, to_numbers


def loo(
    data: Any,
    *,
    var_name: str | None = None,
    reff: float | None = None,
    threshold: float | None = None,
    moment_match: Callable[[np.ndarray, np.ndarray, float, float], xr.Dataset] | None = None,
    refit: Callable[[int], float] | None = None,
) -> xr.Dataset:
    """PSIS-LOO: ``elpd``, log p(y_n | all other y) in nats, of every observation, with its diagnostic ``pareto_k``.

    - Over the observations also ``p``, the log density in the fit less ``elpd``, and ``refitted``, whether the model
      was fitted again without the observation.
    - Scalars: ``elpd_loo``, the sum over the observations; ``se`` = sqrt(N Var), nan for one observation; ``p_loo``,
      the effective number of parameters; ``n_bad``, the number of k above ``threshold`` without a refit.

    Equal to ``az.loo`` of the installed ArviZ, and with refits to its ``reloo``, except ``se`` in ArviZ 0.23, whose
    variance is over N; in 1.x and here it is over N - 1. With fewer than 25 draws there is no tail to judge, and every
    k is infinite. Warns if a bad k remains.

    With ``moment_match`` also ``matched``, whether the draws were moved for the observation, and ``pareto_k_before``;
    ``pareto_k`` is that after the move.

    Args:
        data: ArviZ data with ``log_likelihood``.
        var_name: the variable of ``log_likelihood``, if there are several.
        reff: effective over actual number of draws, which sets the size of the tail; by default that of ArviZ, from the
            ESS of the group ``posterior`` (1 for a single chain). The weights of a network wander between equivalent
            modes while its functions do not: give the reff of the functions there.
        threshold: the largest k that is good; by default min(1 - 1/log10(S), 0.7) for S draws.
        moment_match: `moment_matching` of the posterior, for observations with a bad k, before any refit. ArviZ 1.x.
        refit: function of n, the index of an observation in the order of memory, that returns log p(y_n | all other y);
            called for observations with a bad k. `leave_one_out` makes one. Refits run one after another, or several at
            a time under ``joblib.parallel_config(n_jobs=...)``.

    Raises:
        ValueError: if there is no ``log_likelihood``, it is not finite, there are fewer than 2 draws, or a refit is not
            finite.

    >>> from posterity.inference.arviz import from_arrays
    >>> rng = np.random.default_rng(0)
    >>> y, mean = rng.normal(size=40), rng.normal(scale=40**-0.5, size=(1, 1000, 1))
    >>> log_likelihood = -0.5 * (y - y.mean() - mean) ** 2 - 0.5 * np.log(2 * np.pi)
    >>> found = loo(from_arrays(posterior={"mean": mean}, log_likelihood={"y": log_likelihood}))
    >>> found.elpd.dims, round(float(found.p_loo), 1), int(found.n_bad)
    (('y_dim_0',), 0.6, 0)
    """
    values = log_likelihood_of(data, var_name)
    draws, template = values.sizes["chain"] * values.sizes["draw"], values.isel(chain=0, draw=0, drop=True)
    reff = choose_reff(data, reff)
    if refit is not None and not callable(refit):
        raise ValueError(f"expected refit to be a function of the index of a row, got {type(refit).__name__}")
    threshold = good_k(draws) if threshold is None else check_number("threshold", threshold, "(-inf, inf]")
    elpd, fit, k = np.empty((3, template.size))
    for rows, log_likelihood, log_weights, shape in smoothed(values.values.reshape(draws, -1), reff):
        k[rows] = shape
        fit[rows] = _log_sum(log_likelihood) - math.log(draws)
        elpd[rows] = _log_sum(log_likelihood + log_weights)
    moved = {}
    if moment_match is not None:
        moved = _matched(moment_match, values, elpd, k, reff, threshold)
    bad = k > threshold
    if refit is None:
        warn_of_bad(k, threshold, draws)
    else:
        elpd[bad] = _refits(refit, np.flatnonzero(bad))
    refitted = bad & (refit is not None)
    if elpd.size == 1:
        warnings.warn("the error of a single observation is nan: use several observations", UserWarning, stacklevel=2)
    pointwise = {"elpd": elpd, "p": fit - elpd, "pareto_k": k, "refitted": refitted, **moved}
    totals = {
        "elpd_loo": elpd.sum(),
        "se": math.sqrt(elpd.size) * elpd.std(ddof=1) if elpd.size > 1 else math.nan,
        "p_loo": (fit - elpd).sum(),
        "n_bad": int((bad & ~refitted).sum()),
    }
    return xr.Dataset(
        {**{name: (template.dims, value.reshape(template.shape)) for name, value in pointwise.items()}, **totals},
        coords=template.coords,
        attrs={"method": "PSIS-LOO", "num_draws": draws, "reff": reff, "threshold": threshold},
    )


def leave_one_out(
    model: Any, *args: Any, method: Any, seed: int = 0, site: str | None = None
) -> Callable[[int], float]:
    """A function n -> log p(y_n | all other y) in nats that fits the model without row n: the ``refit`` of `loo`.

    ``model``, ``args``, ``method``, ``seed`` and ``site`` are those of `posterity.inference.infer`; row n is dropped
    from every argument. Rows that the model masks are not counted. The density is the likelihood of row n, averaged
    over the draws.

    Raises:
        ValueError: when called, if n is not a row, or the model has several densities for each row.
    """
    import torch

    from posterity.inference.infer import infer
    from posterity.inference.program.arguments import read_arguments
    from posterity.inference.program.minibatch import check_rows, count_rows, take_rows
    from posterity.inference.program.observation import read_observation
    from posterity.inference.program.sites import inspect
    from posterity.inference.program.trace import unwrap_pair

    args = read_arguments(args)

    def refit(n: int) -> float:
        bare = unwrap_pair(model)
        mask = read_observation(bare, args, inspect(bare, args, site).one_site()).scored
        check_rows(args, len(mask) if mask.ndim else 1)
        scored = mask.reshape(len(mask), -1).any(1).nonzero()[:, 0] if mask.ndim else torch.zeros(1, dtype=torch.long)
        if not 0 <= n < len(scored):
            raise ValueError(f"expected a row from 0 to {len(scored) - 1}, got {n}")
        every, n = torch.arange(count_rows(args)), int(scored[n])
        posterior = infer(model, *take_rows(args, every[every != n]), method=method, seed=seed, site=site)
        density = posterior.log_likelihood(*take_rows(args, every[n : n + 1])).double()
        if density.shape[2:].numel() != 1:
            raise ValueError(f"expected one log density for each row, got shape {tuple(density.shape[2:])}")
        return float(density.flatten().logsumexp(0)) - math.log(density.numel())

    return refit


def log_likelihood_of(data: Any, var_name: str | None) -> xr.DataArray:
    """The log likelihood (chain, draw, ...) of one variable, checked."""
    dataset = group(data, "log_likelihood")
    names = [str(name) for name in dataset.data_vars]
    if var_name is None and len(names) == 1:
        var_name = names[0]
    var_name = check_choice("var_name", var_name, names)
    values = dataset[var_name]
    if not set(SAMPLE_DIMS) <= set(values.dims) or values.size == 0:
        raise ValueError(f"expected log_likelihood[{var_name!r}] of shape (chain, draw, ...), got {dict(values.sizes)}")
    check_draws(values.sizes["chain"] * values.sizes["draw"])
    check_finite(f"log_likelihood[{var_name!r}]", to_numbers(f"log_likelihood[{var_name!r}]", values.values))
    return values.transpose(*SAMPLE_DIMS, ...)


def _log_sum(values: np.ndarray) -> np.ndarray:
    """log sum exp over the last dimension, in half the time of SciPy."""
    top = values.max(1)
    return np.log(np.exp(values - top[:, None]).sum(1)) + top


def _matched(
    match: Any, values: xr.DataArray, elpd: np.ndarray, k: np.ndarray, reff: float, threshold: float
) -> dict[str, np.ndarray]:
    """Improve ``elpd`` and ``k`` of the bad observations in place, and return what has changed."""
    check_callable("moment_match", match, "rows, as moment_matching returns it")
    before, bad = k.copy(), np.flatnonzero(k > threshold)
    if bad.size:
        log_likelihood = values.values.reshape(*values.shape[:2], -1)[..., bad].astype(float)
        found = match(bad, log_likelihood, reff, threshold)
        better = found["pareto_k"].values < k[bad]
        elpd[bad[better]], k[bad[better]] = found["elpd"].values[better], found["pareto_k"].values[better]
    return {"matched": k < before, "pareto_k_before": before}


def _refits(refit: Callable[[int], float], rows: np.ndarray) -> np.ndarray:
    """The log densities of the rows, one joblib task for each."""
    densities = np.array(joblib.Parallel()(joblib.delayed(refit)(int(n)) for n in rows), float)
    for n, density in zip(rows, densities, strict=True):
        if not math.isfinite(density):
            raise ValueError(f"expected a finite log density from refit({n}), got {density}")
    return densities
