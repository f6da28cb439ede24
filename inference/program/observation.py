"""The observation at a site of a Pyro model: its value, its mask, and the dtype in which it is scored."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from posterity.inference.program.arguments import describe_none_arguments
from posterity.inference.program.site_value import check_site_value, dtype_to_score, scored_elements
from posterity.inference.program.sites import other_prior_draws, vectorized_plates
from posterity.inference.program.trace import Model, trace


@dataclass(frozen=True, eq=False)
class Observation:
    """The observation at a site.

    - ``value``: the observed value.
    - ``scored``: True for the elements that no mask removes, in the shape of the value.
    - ``dtype``: the dtype to convert the value to before it is scored; None if it is scored as it is.
    - ``plates``: the plate of each batch dimension from the left, None for a dimension without a plate.
    """

    value: Tensor
    scored: Tensor
    dtype: torch.dtype | None
    plates: tuple[str | None, ...]


def read_observation(model: Model, args: tuple[Any, ...], site: str) -> Observation:
    """The observation at ``site``: y, or the model's transform of y, as in ``obs=y.log()``.

    Raises ``ValueError`` if nothing was observed there, and as `check_site_value` does.
    """
    return read_observations(model, args, [site])[site]


def read_observations(model: Model, args: tuple[Any, ...], sites: Collection[str]) -> dict[str, Observation]:
    """`read_observation` of several ``sites``, by name, from one run of the model."""
    with torch.no_grad():
        nodes = trace(model, args, seed=0) if sites else {}
        return {site: _observation(model, args, nodes.get(site), site) for site in sites}


def _observation(model: Model, args: tuple[Any, ...], node: Any, site: str) -> Observation:
    if node is None or not node["is_observed"]:
        raise ValueError(
            f"expected y, which the model observes at {site!r}, among the arguments, got {len(args)} "
            f"argument{'s' if len(args) != 1 else ''}{describe_none_arguments(model, args)}"
        )
    check_site_value(site, node, lambda: other_prior_draws(model, args, site))
    plates = {frame.dim: frame.name for frame in vectorized_plates(node)}
    batch = range(-len(node["fn"].batch_shape), 0)
    return Observation(
        node["value"], scored_elements(node), dtype_to_score(node), tuple(plates.get(dim) for dim in batch)
    )


def observed_value(model: Model, args: tuple[Any, ...], site: str) -> Tensor:
    """The value of `read_observation`."""
    return read_observation(model, args, site).value


def observe_as_numbers(model: Model, args: tuple[Any, ...]) -> Model:
    """The model with observed integers and booleans converted to floats for distributions that need floats."""
    with torch.no_grad():
        nodes = trace(model, args, seed=0)
        observed = {n: node for n, node in nodes.items() if node["type"] == "sample" and node["is_observed"]}
        dtypes = {n: dtype_to_score(node) for n, node in observed.items() if isinstance(node["value"], Tensor)}
    needed = {name: dtype for name, dtype in dtypes.items() if dtype is not None}
    if not needed:
        return model
    return functools.update_wrapper(CastObserved(needed)(model), model, updated=())


class CastObserved(Messenger):
    """Converts observed integers and booleans to the given dtype of each site."""

    def __init__(self, dtypes: Mapping[str, torch.dtype]) -> None:
        super().__init__()
        self.dtypes = dict(dtypes)

    def _pyro_sample(self, msg: Any) -> None:
        dtype = self.dtypes.get(msg["name"])
        if dtype is not None and msg["is_observed"] and not msg["value"].is_floating_point():
            msg["value"] = msg["value"].to(dtype)
