"""Which setting is best: fits for several values of it side by side, and their scores on rows none of them has seen."""

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
from posterity.inference.program.likelihood import score
from posterity.inference.program.minibatch import count_rows, take
from posterity.inference.program.trace import bare_model, trace
from posterity.random import child_seeds
from posterity.validation import check_integer, check_number


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

    ``name`` is a parameter that the model reads by ``pyro.param`` and does not train, such as "components" or "decay"
    of ``mixture_density(..., swept=("components",))``. Every value is fitted from ``repeats`` starts to the same rows,
    by ``method`` (its ``members`` are set here), and scored on the share ``holdout`` of rows kept from all of them.

    Returns over ("value", "repeat"): ``log_score``, mean nats an answer of held-out rows. Over "value", of the start
    that did best in training: ``best_score``, its standard error ``best_score_se``, the paired difference ``behind`` to
    the best value and its error ``behind_se``. ``attrs["best"]`` is the value of the best score, ``attrs["simplest"]``
    the first in the order given that is behind it by no more than one paired standard error: the one-standard-error
    rule (Breiman, Friedman, Olshen & Stone 1984, section 3.4.3), for values given from simple to complex.
    Raises ``ValueError`` for an unknown name, another method, values that are no numbers or none, repeats below one, or
    fewer than two rows held out or left.
    """
    args = read_arguments(args)
    values = _numbers(values)
    if method is not None and not isinstance(method, Ensemble):
        raise ValueError(f"expected method to be an Ensemble(), all fits at once, got {method!r}")
    if not isinstance(name, str):
        raise ValueError(f"expected name to be that of a parameter, got {name!r}")
    check_integer("repeats", repeats, 1)
    check_number("holdout", holdout, "(0, 1)")
    _check_values(model, args, name, values)
    rows = count_rows(args)
    count = round(holdout * rows)
    if not 2 <= count <= rows - 2:
        raise ValueError(f"expected at least two of {rows} rows held out and two left, got holdout={holdout}")
    split_seed, fit_seed = child_seeds(seed, 2)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(split_seed))
    held_out = take(args, order[:count])
    each = torch.tensor([float(value) for value in values]).repeat_interleave(repeats)
    settings = dataclasses.replace(
        method or Ensemble(), members=len(each), keep=None, vary={**((method and method.vary) or {}), name: each}
    )
    posterior = infer(model, *take(args, order[count:]), method=settings, seed=fit_seed, site=site)
    draws = {site_name: value.flatten(0, 1) for site_name, value in posterior.draws.items()}
    found = score(posterior.model, held_out, draws, posterior.program.site)
    # The steps of a sequence share a row: what is independent are the rows. Rows that a mask leaves out have no score.
    kept = found.kept_rows.reshape(len(found.kept_rows) if found.kept_rows.ndim else 1, -1)
    each_row = found.log_prob.double().reshape(len(each), len(kept), -1).sum(-1) / kept.sum(-1).clamp_min(1)
    scores = each_row[:, kept.any(-1)].reshape(len(values), repeats, -1).numpy()
    if scores.shape[-1] < 2:
        raise ValueError(f"expected at least two held-out rows that the model scores, got {scores.shape[-1]}")
    history = posterior.history
    # Of rows held out of training for early stopping, where there are any: never of those that decide here.
    training = history["held_out"].amax(0) if "held_out" in history else -history["loss"][-1]
    return _judged(list(values), scores, training.reshape(len(values), repeats).numpy())


def _numbers(values: Any) -> list[float]:
    try:
        found = np.asarray(values.tolist() if isinstance(values, Tensor) else values)
    except (ValueError, TypeError, RuntimeError):  # such as lists of several lengths
        found = np.asarray(None)
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        raise ValueError(f"expected values as a sequence of numbers, got {values!r}")
    if not len(found):
        raise ValueError("expected values of the setting to compare, got none")
    return [float(value) for value in found]


def _check_values(model: Any, args: tuple[Any, ...], name: str, values: Sequence[float]) -> None:
    nodes = trace(bare_model(model), args, seed=0)
    if name not in nodes or nodes[name]["type"] != "param":
        return  # `Ensemble` says which there are
    largest = float(nodes[name]["value"].detach().max())
    for value in values:
        if name == "components" and not (value == int(value) and 1 <= value <= largest):
            raise ValueError(f"expected numbers of components from 1 to {largest:g}, got {value:g}")
        if name == "decay" and not 0 <= value < math.inf:
            raise ValueError(f"expected finite decays of 0 or more, got {value:g}")


def _judged(values: list[float], score: np.ndarray, training: np.ndarray) -> xr.Dataset:
    """``score`` (value, repeat, row); how well each did in ``training`` (value, repeat), which chooses the start."""
    chosen = score[np.arange(len(values)), training.argmax(1)]
    error = np.sqrt(score.shape[-1])
    best = int(chosen.mean(-1).argmax())
    behind = chosen[best] - chosen
    se = behind.std(-1, ddof=1) / error
    near = behind.mean(-1) <= se
    return xr.Dataset(
        {
            "log_score": (("value", "repeat"), score.mean(-1)),
            "best_score": ("value", chosen.mean(-1)),
            "best_score_se": ("value", chosen.std(-1, ddof=1) / error),
            "behind": ("value", behind.mean(-1)),
            "behind_se": ("value", se),
        },
        coords={"value": values},
        attrs={"best": values[best], "simplest": values[int(near.argmax())], "rows_held_out": score.shape[-1]},
    )
