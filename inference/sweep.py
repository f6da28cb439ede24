"""Comparison of the values of a setting: one fit for each value, and their scores on rows held out of all fits."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from posterity.inference.ensemble import Ensemble
from posterity.inference.infer import infer
from posterity.inference.program.arguments import read_arguments
from posterity.inference.program.likelihood import ScoredDraws, score_draws
from posterity.inference.program.minibatch import count_rows, take_rows
from posterity.inference.program.trace import trace, unwrap_pair
from posterity.random import child_seeds
from posterity.validation import check_integer, check_number, shown


def sweep(
    model: Any,
    *args: Any,
    name: str,
    values: Sequence[float],
    method: Ensemble | None = None,
    repeats: int = 3,
    holdout: float = 0.2,
    seed: int = 0,
    site: str | None = None,
) -> xr.Dataset:
    """Held-out log scores for several ``values`` of one setting, all fits in one batched computation.

    Every value is fitted from ``repeats`` starts to the same rows and scored on the same held-out rows. The setting is
    chosen by the one-standard-error rule (Breiman, Friedman, Olshen & Stone 1984, section 3.4.3).

    Args:
        model: a Pyro model, or a ready pair.
        args: its arguments, y last.
        name: a parameter that the model reads by ``pyro.param`` and does not train, such as "components" or "decay" of
            ``mixture_density(..., swept=("components",))``.
        values: the values to compare, from simple to complex.
        method: settings of the fits; ``members`` and ``keep`` are set by this function.
        repeats: starts per value.
        holdout: share of the rows held out of all fits.
        seed: seed of all random numbers.
        site: the observed site, if there are several.

    Returns:
        A dataset with ``log_score`` over ("value", "repeat"), the mean log score of the held-out rows in nats. Over
        "value", for the start with the best training score: ``best_score``, its standard error ``best_score_se``, the
        paired difference ``behind`` to the best value, and its standard error ``behind_se``. ``attrs["best"]`` is the
        value with the best score, ``attrs["simplest"]`` the first value that is behind by at most one standard error.

    Raises:
        ValueError: if ``name`` is not a parameter, ``method`` not an `Ensemble`, or ``values`` not numbers, or if fewer
            than two rows are held out or left for training.
    """
    args = read_arguments(args)
    values = _numbers(values)
    if method is not None and not isinstance(method, Ensemble):
        raise ValueError(f"expected method to be an Ensemble(), all fits at once, got {method!r}")
    if not isinstance(name, str):
        raise ValueError(f"expected name to be the name of a parameter, got {name!r}")
    check_integer("repeats", repeats, 1)
    check_number("holdout", holdout, "(0, 1)")
    _check_values(model, args, name, values)
    rows = count_rows(args)
    count = round(holdout * rows)
    if not 2 <= count <= rows - 2:
        raise ValueError(f"expected at least two of {rows} rows held out and two left, got holdout={holdout}")
    split_seed, fit_seed = child_seeds(seed, 2)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(split_seed))
    held_out = take_rows(args, order[:count])
    each = torch.tensor([float(value) for value in values]).repeat_interleave(repeats)
    settings = dataclasses.replace(
        method or Ensemble(), members=len(each), keep=None, vary={**((method and method.vary) or {}), name: each}
    )
    posterior = infer(model, *take_rows(args, order[count:]), method=settings, seed=fit_seed, site=site)
    draws = {site_name: value.flatten(0, 1) for site_name, value in posterior.draws.items()}
    scores = _row_scores(score_draws(posterior.model, held_out, draws, posterior.program.one_site()))
    if scores.shape[-1] < 2:
        raise ValueError(f"expected at least two held-out rows that the model scores, got {scores.shape[-1]}")
    history = posterior.history
    # Training scores are those of the rows held out for early stopping, or of the trained rows: never of `held_out`.
    training = history["held_out"].amax(0) if "held_out" in history else -history["loss"][-1]
    shape = (len(values), repeats)
    return _compare_values(list(values), scores.reshape(*shape, -1).numpy(), training.reshape(shape).numpy())


def _row_scores(scored: ScoredDraws) -> Tensor:
    """Mean log score of each row (member, row), over its unmasked steps, which are not independent.

    Masked rows are left out.
    """
    elements = scored.scored_rows.reshape(len(scored.scored_rows) if scored.scored_rows.ndim else 1, -1)
    log_prob = scored.log_prob.double()
    each_row = log_prob.reshape(len(log_prob), len(elements), -1).sum(-1) / elements.sum(-1).clamp_min(1)
    return each_row[:, elements.any(-1)]


def _numbers(values: Any) -> list[float]:
    try:
        array = np.asarray(values.tolist() if isinstance(values, Tensor) else values)
    except (ValueError, TypeError, RuntimeError):  # such as lists of several lengths
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"expected values to be a sequence of numbers, got {shown(values)}")
    if not len(array):
        raise ValueError("expected values of the setting to compare, got none")
    return [float(value) for value in array]


def _check_values(model: Any, args: tuple[Any, ...], name: str, values: Sequence[float]) -> None:
    nodes = trace(unwrap_pair(model), args, seed=0)
    if name not in nodes or nodes[name]["type"] != "param":
        return  # `Ensemble` raises, and lists the parameters
    largest = float(nodes[name]["value"].detach().max())
    for value in values:
        if name == "components" and not (value == int(value) and 1 <= value <= largest):
            raise ValueError(f"expected numbers of components from 1 to {largest:g}, got {value:g}")
        if name == "decay" and not 0 <= value < math.inf:
            raise ValueError(f"expected finite decays of 0 or more, got {value:g}")


def _compare_values(values: list[float], score: np.ndarray, training: np.ndarray) -> xr.Dataset:
    """The result of `sweep` from each ``score`` (value, repeat, row).

    The start of each value is the one with the best score in ``training`` (value, repeat).
    """
    chosen = score[np.arange(len(values)), training.argmax(1)]
    root = np.sqrt(score.shape[-1])
    best = int(chosen.mean(-1).argmax())
    behind = chosen[best] - chosen
    se = behind.std(-1, ddof=1) / root
    near = behind.mean(-1) <= se
    return xr.Dataset(
        {
            "log_score": (("value", "repeat"), score.mean(-1)),
            "best_score": ("value", chosen.mean(-1)),
            "best_score_se": ("value", chosen.std(-1, ddof=1) / root),
            "behind": ("value", behind.mean(-1)),
            "behind_se": ("value", se),
        },
        coords={"value": values},
        attrs={"best": values[best], "simplest": values[int(near.argmax())], "rows_held_out": score.shape[-1]},
    )
