"""Sensitivity of a posterior to its prior and its likelihood, without another fit.

Raise the prior to a power near 1, $p(\\theta)^\\alpha$, and reweight the draws: a number whose distribution moves is
sensitive to the prior, and likewise for the likelihood (Kallioinen, Paananen, Bürkner & Vehtari 2024, Statistics and
Computing 34, arXiv:2107.14054).

The weights of a network are many and exchangeable, so their own sensitivity says little. The sensitivity of the
functions that they predict can be judged: f(x) = E[y|x, w] at chosen x.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import xarray as xr

from posterity.inference.arviz import SAMPLE_DIMS, group, psense
from posterity.validation import check_names, check_number

THRESHOLD = 0.05
"""Sensitivity above which a component matters (Kallioinen et al. 2024, section 4.3)."""


def power_sensitivity(
    source: Any, *args: Any, at: Any = None, var_names: Any = None, delta: float = 0.01, **named: Any
) -> xr.Dataset:
    r"""How much each number of the posterior changes if the prior, or the likelihood, gets another power.

    Over "component" ("prior", "likelihood"), each variable is the average of two cumulative Jensen-Shannon distances
    from the posterior, to those with the powers 1 + delta and 1 / (1 + delta), in units of $\log_2(1 + \delta)$.
    0.05 means that doubling the power moves a normal posterior by about a quarter of its standard deviation.

    - Prior above 0.05 and likelihood below: the prior dominates, or the data say little about this number.
    - Both above 0.05: prior and likelihood may be in conflict, or the prior is meant to be informative.
    - Prior below 0.05: the choice of the prior hardly matters here.

    ``attrs["finding"]`` says so in words. The importance weights assume draws from the posterior itself; draws of a
    guide or an ensemble are treated as such.

    Args:
        source: a `Posterior`; or ArviZ data with the groups ``posterior``, ``log_prior`` and ``log_likelihood``, such
            as those of ``posterior.to_arviz(*args, log_prior=True)``.
        args: with a `Posterior`, the arguments of its model, y last. The likelihood is that of all observed sites;
            factors (``pyro.factor``) count for neither component.
        at: with a `Posterior`, inputs x* (one, or a tuple) at which the functions E[y|x*, w] are judged; for classes
            their probabilities. Adds the variable ``f`` over "obs" (and "target").
        var_names: latent and deterministic sites, or variables of the group ``posterior``. By default all latent sites
            that are not weights of a network, or all variables.
        delta: relative change of the power.
        named: arguments of the model by name.

    Raises:
        ValueError: if there are fewer than 25 draws, a group or a site is missing, values are not finite, or nothing is
            left to judge: a model whose sites are all weights of a network, without ``at``.

    >>> import numpy as np
    >>> from posterity.inference.arviz import from_arrays
    >>> w = np.random.default_rng(0).normal(0.8, 0.4**0.5, size=(4, 1000))  # y ~ N(w, 1), w ~ N(0, 2/3), y = 2
    >>> data = from_arrays(
    ...     posterior={"w": w}, log_prior={"w": -0.75 * w**2}, log_likelihood={"y": -0.5 * (2 - w[..., None]) ** 2}
    ... )
    >>> found = power_sensitivity(data)
    >>> found["w"].sel(component="prior").round(1).item()
    0.1
    """
    check_number("delta", delta, "(0, 1]")
    wanted = None if var_names is None else check_names("var_names", var_names)
    if hasattr(source, "function_draws"):
        draws, components = _of_posterior(source, args, named, at, wanted)
    else:
        for name in named:
            raise TypeError(f"power_sensitivity() got an unexpected keyword argument {name!r} with ArviZ data")
        if args or at is not None:
            raise ValueError("expected args and at only with a Posterior, got them with ArviZ data")
        draws, components = _of_data(source, wanted)
    parts = [psense(draws, total, component=name, delta=delta) for name, total in components.items()]
    found = xr.concat(parts, xr.Variable("component", list(components)))
    return found.assign_attrs(delta=float(delta), threshold=THRESHOLD, finding=_finding(found))


def _of_data(data: Any, wanted: list[str] | None) -> tuple[xr.Dataset, dict[str, xr.DataArray]]:
    """The variables of the group ``posterior``, and the log density of each component (chain, draw)."""
    draws = group(data, "posterior")
    names = [str(name) for name in draws.data_vars]
    _check_known(wanted, names)
    return draws[wanted or names], {name: _total(name, group(data, f"log_{name}")) for name in ("prior", "likelihood")}


def _total(component: str, terms: xr.Dataset) -> xr.DataArray:
    """The sum of all terms of a component (chain, draw)."""
    arrays = list(terms.data_vars.values())
    if not arrays or any(not set(SAMPLE_DIMS) <= set(one.dims) for one in arrays):
        raise ValueError(f"expected log_{component} of shape (chain, draw, ...), got {dict(terms.sizes)}")
    summed = [one.sum([dim for dim in one.dims if dim not in SAMPLE_DIMS]) for one in arrays]
    return functools.reduce(operator.add, summed)


def _of_posterior(
    posterior: Any, args: tuple[Any, ...], named: dict[str, Any], at: Any, wanted: list[str] | None
) -> tuple[xr.Dataset, dict[str, xr.DataArray]]:
    """The draws of the sites and of the functions at ``at``, and the log density of each component (chain, draw)."""
    import torch

    from posterity.inference.export import ArvizNames
    from posterity.inference.program.arguments import read_as_fitted
    from posterity.inference.program.likelihood import score_draws

    program, shape = posterior.program, (posterior.num_chains, posterior.num_draws)
    args = read_as_fitted(posterior.model, args, named, posterior.attrs)[0]
    flat = {name: value.flatten(0, 1) for name, value in posterior.draws.items()}
    site = program.site or next(iter(program.observed), None) or program.one_site()  # the terms have the other sites
    scores = score_draws(posterior.model, args, flat, site, others=program.observed, terms=True)
    prior = [scores.terms[name] for name in program.latents if name in scores.terms]
    terms = {"prior": prior, "likelihood": [scores.log_prob]}
    terms["likelihood"] += [value for name, value in scores.terms.items() if name in program.observed]
    if not prior:
        raise ValueError("expected a posterior with latent sites, got one of trained parameters alone, without a prior")
    sites = {**{name: flat[name] for name in program.latents}, **scores.deterministics}
    _check_known(wanted, list(sites))
    chosen = [name for name in program.latents if name not in program.weights] if wanted is None else wanted
    if not chosen and at is None:
        raise ValueError(
            "expected at=x, the inputs where the functions of a network are judged, got None for a model whose latent "
            "sites are all weights of a network"
        )
    names = ArvizNames(sites)
    variables: dict[str, tuple[tuple[str, ...], torch.Tensor]] = {
        names.variables[name]: (names.site_dims(name, sites[name].ndim - 1), sites[name]) for name in chosen
    }
    if at is not None:
        functions = _functions(posterior.likelihood(*(at if isinstance(at, tuple) else (at,))))
        dims = ("obs", "target", *(f"target_{i}" for i in range(1, functions.ndim)))[: functions.ndim - 1]
        variables["f_at" if "f" in variables else "f"] = (dims, functions)

    def array(dims: tuple[str, ...], values: torch.Tensor) -> xr.DataArray:
        return xr.DataArray(values.detach().double().unflatten(0, shape).cpu().numpy(), dims=(*SAMPLE_DIMS, *dims))

    totals = {
        name: array((), torch.cat([part.double().reshape(len(part), -1) for part in parts], 1).sum(1))
        for name, parts in terms.items()
    }
    return xr.Dataset({name: array(*variable) for name, variable in variables.items()}), totals


def _functions(likelihood: Any) -> Any:
    """E[y|x, w] of each draw; the probabilities of classes."""
    from torch.distributions import Categorical

    return likelihood.probs if isinstance(likelihood, Categorical) else likelihood.mean


def _check_known(wanted: list[str] | None, names: list[str]) -> None:
    if wanted is not None and (not wanted or not set(wanted) <= set(names)):
        raise ValueError(f"expected var_names from {names}, got {wanted}")


def _finding(found: xr.Dataset) -> str:
    """The summary in words."""
    kinds: dict[str, list[str]] = {"prior and likelihood both matter": [], "the prior dominates": []}
    for name, values in found.data_vars.items():
        prior, likelihood = (values.sel(component=part).values for part in ("prior", "likelihood"))
        above = prior >= THRESHOLD
        for kind, which in zip(
            kinds, (above & (likelihood >= THRESHOLD), above & (likelihood < THRESHOLD)), strict=True
        ):
            if which.any():
                kinds[kind].append(str(name) if which.ndim == 0 else f"{name} ({int(which.sum())} of {which.size})")
    words = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    return "; ".join(words) or "the prior hardly matters for any of these"
