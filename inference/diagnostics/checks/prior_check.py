"""Prior predictive checks: functions and data that a network predicts before it has seen data.

A prior over weights cannot be judged by itself; the functions that it implies can. These functions are drawn together
with y, and three properties are reported: their distance from zero (``sd``), the distance along x over which they stay
the same (``length_scale``), and the share of y outside a plausible range (``beyond``). Gabry et al. 2019,
"Visualization in Bayesian workflow"; for networks Flam-Shepherd, Requeima & Duvenaud 2017, and Tran et al. 2022
(arXiv:2011.12829).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from posterity.validation import check_finite, check_integer, check_pair, check_seed, to_array

WIDE = 0.5
"""Share of y outside the plausible range, above which a prior is far too wide."""

NARROW = 0.02
"""Standard deviation of y over the plausible range, below which a prior is too narrow."""


def prior_predictive_check(
    model: Callable[..., Any],
    *inputs: Any,
    count: int = 500,
    seed: int = 0,
    plausible: tuple[float, float] | None = None,
    site: str | None = None,
) -> xr.Dataset:
    """Functions and data drawn from the prior of a Pyro model, and a summary in words.

    For one target over ("sample", "obs"); for D targets, or C classes, with a further dimension "target":

    - ``f``: the mean of y given the weights of a draw; for classes their probabilities;
    - ``y``: one value drawn around it, or a class;
    - ``mean`` and ``sd`` over "obs": of f over the draws, in units of y;
    - ``beyond`` over "obs": share of y outside ``plausible``; ``f_beyond``: share of curves that leave it anywhere.
      Only with ``plausible``.
    - ``crossings`` over "sample" and ``length_scale``, in units of x; only for one input and one target. A crossing is
      a crossing of the mean of the curves; (range of x) / (pi mean crossings) is the length scale of the Gaussian
      process with a squared-exponential kernel whose curves cross as often (Rice 1944), infinite without a crossing.
      Use a grid of x: crossings between two x are not seen.

    ``attrs["finding"]`` is the summary in words.

    Args:
        model: a plain Pyro model ``model(*inputs, y=None)``, or a ready pair. It is called with the inputs alone.
        inputs: arguments of the model without y; the first tensor is x.
        count: draws of all sites, made one after another, which takes ``count`` times the model's own time.
        seed: seed of the draws.
        plausible: a range (low, high), in units of y, that most of y should not leave.
        site: name of the site of y; by default the last one.

    Raises:
        ValueError: if the prior is improper, the model fails at a draw, the likelihood has no mean, ``count`` is less
            than 2, or the range is not finite and ascending.

    >>> import pyro, torch
    >>> from posterity.models import bayesian, mlp
    >>> net = mlp(1, 50, 1, seed=0)
    >>> def model(x, y=None):
    ...     features = bayesian("net", net)(x)
    ...     with pyro.plate("obs", len(x)):
    ...         return pyro.sample("y", pyro.distributions.Normal(features[:, 0], 0.1), obs=y)
    >>> check = prior_predictive_check(model, torch.linspace(-3, 3, 50)[:, None], count=100, plausible=(-2.0, 2.0))
    >>> check.f.shape, bool(check.beyond.max() < 0.5)
    ((100, 50), True)
    """
    from posterity.inference.program.arguments import read_arguments

    seed = check_seed(seed)
    if not callable(model) and not hasattr(model, "model"):
        raise ValueError(f"expected model to be a Pyro model or a ready pair, got {type(model).__name__}")
    check_integer("count", count, 2)
    if site is not None and not isinstance(site, str):
        raise ValueError(f"expected site to be the name of a site, got {type(site).__name__}")
    low, high = (-math.inf, math.inf) if plausible is None else check_pair("plausible", plausible)
    inputs = read_arguments(inputs)
    first = _first(inputs)
    curves, y, name = _draw(model, inputs, count, seed, site)
    x = to_array(first).astype(float)
    dims = ("sample", "obs", "target")[: curves.ndim]
    columns = {"f": (dims, curves), "y": (("sample", "obs", "target")[: y.ndim], y)}
    mean, sd = curves.mean(0), curves.std(0, ddof=1)
    columns |= {"mean": (dims[1:], mean), "sd": (dims[1:], sd)}
    if plausible is not None:
        outside = (y < low) | (y > high)
        left = ((curves < low) | (curves > high)).reshape(count, -1).any(1)
        columns |= {
            "beyond": (("obs", "target")[: y.ndim - 1], outside.mean(0)),
            "f_beyond": ((), np.asarray(left.mean())),
        }
    coords = {}
    if x.size == len(x) == curves.shape[1] and curves.ndim == 2:
        order = np.argsort(x.reshape(-1), kind="stable")
        above = (curves - mean)[:, order] > 0
        crossings = (above[:, 1:] != above[:, :-1]).sum(1)
        span = float(np.ptp(x))
        length = span / (math.pi * crossings.mean()) if crossings.any() else math.inf
        columns |= {"crossings": (("sample",), crossings), "length_scale": ((), np.asarray(length))}
        coords = {"x": ("obs", x.reshape(-1))}
    dataset = xr.Dataset(columns, coords=coords, attrs={"site": name, "count": count, "seed": seed})
    if plausible is not None:
        dataset.attrs |= {"plausible_low": float(low), "plausible_high": float(high)}
    return dataset.assign_attrs(finding=_finding(dataset))


def _draw(
    model: Callable[..., Any], inputs: tuple[Any, ...], count: int, seed: int, site: str | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Means and values of the site of y, (count, N, ...), and the name of the site."""
    import pyro
    import torch

    from posterity.inference.program.trace import MODEL_ERRORS, model_failure, unwrap_pair
    from posterity.random import seeded

    bare, curves, values, name = unwrap_pair(model), [], [], site
    with seeded(seed), torch.no_grad():
        for number in range(count):
            try:
                with pyro.get_param_store().scope():
                    nodes = pyro.poutine.trace(bare).get_trace(*inputs).nodes
            except (ValueError, NotImplementedError, torch.linalg.LinAlgError) as error:
                raise ValueError(f"expected a proper prior, got an error at draw {number}: {error}") from error
            except MODEL_ERRORS as error:
                raise model_failure(error, inputs) from error
            sites = [drawn for drawn, node in nodes.items() if _is_random(node)]
            name = sites[-1] if name is None and sites else name
            if name not in sites:
                raise ValueError(f"expected site to be one of {sites}, got {name!r}")
            if nodes[name]["is_observed"]:
                raise ValueError(f"expected inputs without y, got y for the site {name!r}")
            likelihood = nodes[name]["fn"]
            of_classes = isinstance(likelihood, torch.distributions.Categorical)
            curves.append(to_array(likelihood.probs if of_classes else likelihood.mean))
            values.append(to_array(nodes[name]["value"]))
    f, y = np.stack(curves).astype(float), np.stack(values).astype(float)
    rows = len(_first(inputs))
    if f.ndim not in (2, 3) or f.shape[1] != rows:
        raise ValueError(f"expected y of shape ({rows},) or ({rows}, targets) at site {name!r}, got {f.shape[1:]}")
    check_finite(f"means of the likelihood at site {name!r}", f)
    return f, y, str(name)


def _first(inputs: tuple[Any, ...]) -> Any:
    from posterity.inference.program.nested import tensors_in

    tensors = tensors_in(inputs)
    if not tensors:
        raise ValueError(f"expected the model's arguments as tensors, x first, got {len(inputs)} and no tensor")
    return tensors[0]


def _is_random(node: dict[str, Any]) -> bool:
    """Whether a node of a trace is drawn: not the indices of a plate, a factor, or a deterministic site."""
    from pyro.distributions import Delta, Unit

    from posterity.inference.program.sites import is_deterministic, is_subsample

    if node["type"] != "sample" or is_deterministic(node) or is_subsample(node):
        return False
    return not isinstance(node["fn"], Unit | Delta)


def _finding(check: xr.Dataset) -> str:
    """The summary in words."""
    sd = check["sd"]
    words = [f"sd of the curves {float(sd.min()):.3g} to {float(sd.max()):.3g}, on average {float(sd.mean()):.3g}"]
    if "length_scale" in check:
        crossings, length = float(check["crossings"].mean()), float(check["length_scale"])
        words.append(f"a curve crosses the mean of all curves {crossings:.1f} times, length scale {length:.3g}")
    if "beyond" in check:
        low, high = check.attrs["plausible_low"], check.attrs["plausible_high"]
        share, curves = float(check["beyond"].mean()), float(check["f_beyond"])
        words.append(f"{100 * share:.0f} % of y and {100 * curves:.0f} % of the curves leave [{low:g}, {high:g}]")
        if share > WIDE:
            words.append("far too wide: make the weights' prior narrower, the last layer's first")
        elif float(check["y"].std()) < NARROW * (high - low):
            words.append("too narrow to reach most of it: make the weights' prior wider")
    return "; ".join(words)
