"""Sensitivity to the power of the prior or the likelihood, by ArviZ: ``psens`` in 0.23, ``psense`` in 1.x."""

import numpy as np
import xarray as xr

from posterity.inference.arviz.containers import SAMPLE_DIMS, from_groups
from posterity.inference.arviz.installed import HAS_INFERENCE_DATA, arviz
from posterity.validation import check_choice, check_finite, check_number

COMPONENTS = {"prior": "log_prior", "likelihood": "log_likelihood"}
"""The group of ArviZ data that is read for each component."""

FEWEST = 25
"""Fewest draws with a tail for Pareto smoothing."""


def psense(
    draws: xr.Dataset, log_density: xr.DataArray, *, component: str = "prior", delta: float = 0.01
) -> xr.Dataset:
    r"""Sensitivity of every variable of ``draws`` (chain, draw, ...) to the power of one component.

    ``log_density`` (chain, draw) is the log density of the component, summed over all its terms. Draws are reweighted
    to the posteriors with the component raised to the powers 1 + delta and 1 / (1 + delta), by Pareto-smoothed
    importance sampling. The result is the average distance of both from the draws, in units of $\log_2(1 + \delta)$;
    the distance is the cumulative Jensen-Shannon distance of each number (Kallioinen, Paananen, Bürkner & Vehtari 2024,
    arXiv:2107.14054). A number that is constant over the draws has the sensitivity 0.

    The versions of ArviZ differ in the smoothing of the largest weights.

    Raises:
        ValueError: if the component is unknown, ``delta`` is not in (0, 1], draws or densities are not finite, or there
            are fewer than 25 draws.
    """
    group = COMPONENTS[check_choice("component", component, tuple(COMPONENTS))]
    check_number("delta", delta, "(0, 1]")
    check_finite("log_density", log_density.values)
    if log_density.size < FEWEST:
        raise ValueError(f"expected at least {FEWEST} draws for importance sampling, got {log_density.size}")
    for name in draws.data_vars:
        check_finite(f"draws of {name!r}", draws[name].values)
    draws = draws.drop_attrs()
    varying = {str(name): draws[name].max(SAMPLE_DIMS) > draws[name].min(SAMPLE_DIMS) for name in draws.data_vars}
    if float(log_density.max()) == float(log_density.min()):
        return xr.Dataset({name: xr.zeros_like(values, dtype=float) for name, values in varying.items()})
    data = from_groups({"posterior": draws, group: xr.Dataset({"total": log_density.transpose(*SAMPLE_DIMS)})})
    with np.errstate(invalid="ignore"):  # the distance of a constant is 0 / 0
        if HAS_INFERENCE_DATA:
            found = arviz().psens(data, component=component, delta=delta)
        else:
            found = arviz().psense(data, group=component, alphas=(1 / (1 + delta), 1 + delta))
    return xr.Dataset({name: found[name].where(values, 0.0) for name, values in varying.items()}).drop_attrs()
