"""Statistics of draws by ArviZ, over the dimensions chain and draw; a Dataset gives a Dataset, a DataArray a DataArray.

Every default that differs between the versions is set here: the probability of an interval (0.94 in ArviZ 0.23, 0.89 in
1.x) must be given, and the tail ESS is that of the 5 % and the 95 % quantile.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from posterity.inference.arviz.containers import SAMPLE_DIMS
from posterity.inference.arviz.installed import HAS_INFERENCE_DATA, arviz
from posterity.validation import check_choice, check_number

TAIL = (0.05, 0.95)
RHAT = ("rank", "split", "folded", "z_scale", "identity")
ESS = ("bulk", "tail", "mean", "sd", "median", "quantile", "mad", "z_scale", "folded", "identity", "local")
MCSE = ("mean", "sd", "median", "quantile")
PROBABILITIES = {"quantile": (1,), "local": (2,), "tail": (0, 1, 2)}
"""Possible numbers of values of ``prob``; 0 for other methods."""

Values = TypeVar("Values", xr.Dataset, xr.DataArray)


def rhat(values: Values, *, method: str = "rank") -> Values:
    """R-hat, by default rank-normalised and split, the larger of bulk and folded; below 1.01 is good.

    nan for a single chain (Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, arXiv:1903.08008).

    Raises:
        ValueError: if draws lack the dimensions chain and draw or are not real numbers, or ``method`` is unknown.
    """
    _check_method(method, RHAT)
    return _each(arviz().rhat, values, method=method)


def ess(values: Values, *, method: str = "bulk", prob: Any = None) -> Values:
    """Effective number of draws: "bulk", "tail", "mean", "sd", "median", or "quantile" at ``prob`` (source as `rhat`).

    Raises:
        ValueError: as `rhat`, and if ``prob`` is not in [0, 1], or given or missing against the method. (ArviZ's
            methods "mad", "z_scale", "folded", "identity" and "local" are accepted too.)
    """
    prob = _check_method(method, ESS, prob)
    return _each(arviz().ess, values, method=method, prob=TAIL if method == "tail" and prob is None else prob)


def mcse(values: Values, *, method: str = "mean", prob: float | None = None) -> Values:
    """Monte Carlo standard error of the "mean", "sd", "median", or "quantile" at ``prob``, in the unit of the values.

    Raises:
        ValueError: as `ess`.
    """
    prob = _check_method(method, MCSE, prob)
    return _each(arviz().mcse, values, method=method, prob=prob)


def hdi(values: Values, prob: float) -> Values:
    """The shortest interval of probability ``prob``: a last dimension "ci_bound" of "lower" and "upper".

    Raises:
        ValueError: if ``prob`` is not in (0, 1), and as `rhat`.

    >>> draws = xr.DataArray(np.random.default_rng(0).normal(size=(4, 50_000)), dims=("chain", "draw"))
    >>> hdi(draws, 0.8).values.round(1)
    array([-1.3,  1.3])
    """
    check_number("prob", prob, "(0, 1)")
    if HAS_INFERENCE_DATA:
        interval = _each(arviz().hdi, values, hdi_prob=prob).rename(hdi="ci_bound")
        return interval.assign_coords(ci_bound=["lower", "upper"]).transpose(..., "ci_bound")
    return _each(arviz().hdi, values, prob=prob).transpose(..., "ci_bound")


def bfmi(energy: xr.DataArray) -> xr.DataArray:
    """Estimated Bayesian fraction of missing information of each chain, from its energies (chain, draw).

    Below 0.3 the momenta change the energy too little for the chain to reach the tails (Betancourt 2016,
    arXiv:1604.00695). nan for a chain of constant energy.

    Raises:
        ValueError: if dimensions differ, there is a single draw, or energies are not real numbers.
    """
    got = energy.dims if isinstance(energy, xr.DataArray) else type(energy).__name__
    if not isinstance(energy, xr.DataArray) or set(energy.dims) != set(SAMPLE_DIMS):
        raise ValueError(f"expected energy with the dimensions chain and draw, got {got}")
    _require_real(energy)
    if energy.sizes["draw"] < 2:
        raise ValueError(f"expected energy of at least 2 draws, got {energy.sizes['draw']}")
    energy = energy.transpose(*SAMPLE_DIMS).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.asarray(arviz().bfmi(energy.values))
    moves = (energy.values != energy.values[:, :1]).any(1)  # rounding may give a constant a variance
    return energy.isel(draw=0, drop=True).copy(data=np.where(moves, fraction, np.nan))


def _check_method(method: str, methods: tuple[str, ...], prob: Any = None) -> Any:
    """``prob`` as ArviZ takes it: None, a number or a pair; ``ValueError`` if the method needs other numbers."""
    check_choice("method", method, methods)
    given = np.atleast_1d([] if prob is None else prob)
    real = given.dtype.kind in "iuf" and bool(((given >= 0) & (given <= 1)).all())
    counts = PROBABILITIES.get(method, (0,))
    if not real or given.ndim != 1 or len(given) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        raise ValueError(f"expected prob of length {wanted} with numbers in [0, 1] for method={method!r}, got {prob!r}")
    return None if len(given) == 0 else float(given[0]) if len(given) == 1 else tuple(given.tolist())


def _require_real(values: xr.Dataset | xr.DataArray) -> None:
    variables = values.data_vars.values() if isinstance(values, xr.Dataset) else [values]
    for variable in variables:
        if variable.dtype.kind not in "biuf":
            raise ValueError(f"expected real numbers as {variable.name or 'values'}, got {variable.dtype}")


def _each(function: Callable[..., xr.Dataset], values: Values, **settings: Any) -> Values:
    """``function`` of every variable; also of a DataArray, which ArviZ 0.23 would return as a Dataset."""
    if not isinstance(values, xr.Dataset | xr.DataArray) or not set(SAMPLE_DIMS) <= set(values.dims):
        got = values.dims if isinstance(values, xr.Dataset | xr.DataArray) else type(values).__name__
        raise ValueError(f"expected a Dataset or DataArray with the dimensions chain and draw, got {got}")
    _require_real(values)
    if isinstance(values, xr.DataArray):
        return function(values.to_dataset(name="values"), **settings)["values"].rename(values.name)
    return function(values, **settings)
