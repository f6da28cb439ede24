"""Evaluation of a function at every draw: in one batch if torch can, otherwise in a loop."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from posterity.inference.program.in_place import without_writes

Function = Callable[[Tensor, dict[str, Tensor]], Any]

RANDOM = (
    "expected all randomness in pyro.sample statements (dropout off: module.eval(); networks built outside of the "
    "model), got a model that draws random numbers outside its sites"
)


def for_each_draw(
    function: Function, count: int, draws: dict[str, Tensor], read: Mapping[str, Any], chunk_size: int
) -> Any:
    """Results of ``function(index, draw)`` at each of ``count`` draws, tensors stacked on the left.

    Four methods give the same result; each is tried if the one before fails. First ``vmap``. Then ``vmap`` of the
    operations recorded for a gradient, which splits operations without a batching rule, such as recurrent layers, into
    operations that have one. Then ``vmap`` of the function without its operations in place. Last a loop, for control
    flow on values. An error that the function raises in the loop is not changed.

    Args:
        function: a function of the index and values of one draw; it sets ``read["family"]``, equal at every draw.
        count: number of draws.
        draws: values by name, of shape (count, ...).
        read: the dictionary that ``function`` writes to.
        chunk_size: draws per ``vmap``.

    Raises:
        ValueError: if the function draws random numbers, or its results differ in shape or family between draws.
    """
    index = torch.arange(count)
    unwritten = without_writes(function)
    for batched in (function, _differentiated(function), unwritten):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                results = torch.func.vmap(batched, chunk_size=chunk_size, randomness="error")(index, draws)
        except (RuntimeError, TypeError) as error:
            if "randomness" in str(error):
                raise ValueError(RANDOM) from error
        else:
            if batched is not unwritten or _first_is(results, function, draws):
                return results
    with torch.random.fork_rng(devices=[]):
        return _loop(function, count, draws, read)


def _differentiated(function: Function) -> Function:
    """The function with its operations recorded for a gradient, with respect to a number that it does not use."""

    def recorded(index: Tensor, draws: dict[str, Tensor]) -> Any:
        return torch.func.grad(lambda zero: (zero, function(index, draws)), has_aux=True)(torch.zeros(()))[1]

    return recorded


def _first_is(results: Any, function: Function, draws: Mapping[str, Tensor]) -> bool:
    """Whether the first of ``results`` is that of the function alone."""
    alone = function(torch.tensor(0), {name: value[0] for name, value in draws.items()})
    return _close(alone, tree_map(lambda value: value[0] if isinstance(value, Tensor) else value, results))


def _loop(function: Function, count: int, draws: Mapping[str, Tensor], read: Mapping[str, Any]) -> Any:
    results, families = [], []
    for number in (0, *range(count)):  # the first draw twice, to test for random numbers
        draw = {name: value[number] for name, value in draws.items()}
        results.append(tree_map(_copied, function(torch.tensor(number), draw)))
        families.append(read.get("family"))
        if len(results) == 2 and not _close(*results):
            raise ValueError(RANDOM)
    results, families = results[1:], families[1:]
    leaves, structure = zip(*(tree_flatten(result) for result in results), strict=True)
    shapes = [tuple(tuple(leaf.shape) for leaf in one) for one in leaves]
    for part in (families, structure, shapes):
        if any(other != part[0] for other in part):
            raise ValueError(
                "expected a likelihood of one family and shape, with the same deterministic sites, at every draw, got "
                "a model in which they depend on the values of the draws"
            )
    stacked = [torch.stack(parts) for parts in zip(*leaves, strict=True)]
    return tree_unflatten(stacked, structure[0])


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _close(one: Any, two: Any) -> bool:
    """Whether two results have equal tensors, up to rounding; tensors of different shapes are compared elsewhere."""
    pairs = list(zip(tree_flatten(one)[0], tree_flatten(two)[0], strict=False))
    return all(a.shape != b.shape or bool(torch.isclose(a, b, equal_nan=True).all()) for a, b in pairs)
