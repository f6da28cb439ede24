"""The observation at a site of a Pyro model: its value, its mask, and the dtype in which it is scored."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posterity.inference.program.observed import AsNumbers, cast_to, check_observed, scored
from posterity.inference.program.sites import again, frames_of, without
from posterity.inference.program.trace import Model, trace


@dataclass(frozen=True, eq=False)
class Observation:
    """What was observed at a site: its ``value``, the type to score it in where that is another, and its dimensions.

    ``kept``, of the shape of the value, says which elements are scored. ``plates`` names the dimensions of the batch
    from the left; None where there is no plate.
    """

    value: Tensor
    kept: Tensor
    dtype: torch.dtype | None
    plates: tuple[str | None, ...]


def observe(model: Model, args: tuple[Any, ...], site: str) -> Observation:
    """What the model says was observed at ``site``: y itself, or what it makes of it, as ``obs=y.log()``.

    Raises ``ValueError`` where nothing was, or for what `check_observed` refuses.
    """
    with torch.no_grad():
        nodes = trace(model, args, seed=0)
        node = nodes.get(site)
        if node is None or not node["is_observed"]:
            raise ValueError(
                f"expected y, which the model observes at {site!r}, among the arguments, got {len(args)} "
                f"argument{'s' if len(args) != 1 else ''}{without(model, args)}"
            )
        check_observed(site, node, lambda: again(model, args, site))
        frames = {frame.dim: frame.name for frame in frames_of(node)}
        batch = range(-len(node["fn"].batch_shape), 0)
        return Observation(node["value"], scored(node), cast_to(node), tuple(frames.get(dim) for dim in batch))


def observed_value(model: Model, args: tuple[Any, ...], site: str) -> Tensor:
    """The value of `observe`."""
    return observe(model, args, site).value


def in_numbers(model: Model, args: tuple[Any, ...]) -> Model:
    """The model with observed whole numbers and truth values as numbers where its distributions compute with them."""
    with torch.no_grad():
        nodes = trace(model, args, seed=0)
        observed = {n: node for n, node in nodes.items() if node["type"] == "sample" and node["is_observed"]}
        dtypes = {n: cast_to(node) for n, node in observed.items() if isinstance(node["value"], Tensor)}
    needed = {name: dtype for name, dtype in dtypes.items() if dtype is not None}
    if not needed:
        return model
    return functools.update_wrapper(AsNumbers(needed)(model), model, updated=())
