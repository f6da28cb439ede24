"""Arguments of a model that are dictionaries of data, also nested: their leaves, in order."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def map_leaves(function: Callable[[str, Any], Any], value: Any, label: str) -> Any:
    """``value`` with ``function(label, leaf)`` in place of each leaf; ``label`` is extended by the keys.

    The leaves of a dictionary are its values, and theirs if they are dictionaries. Any other value is a leaf.
    """
    if not isinstance(value, dict):
        return function(label, value)
    changed = copy.copy(value)  # keeps a subclass
    for key, part in value.items():
        changed[key] = map_leaves(function, part, f"{label}[{key!r}]")
    return changed


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf of ``value`` with its name: ``name`` and the keys, with dots between them."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, part in value.items():
        yield from leaves(part, f"{name}.{key}" if name else str(key))


def tensors_in(args: tuple[Any, ...]) -> list[Tensor]:
    """The tensors among the arguments and in their dictionaries."""
    return [leaf for value in args for _, leaf in leaves(value) if isinstance(leaf, Tensor)]


def with_tensors(args: tuple[Any, ...], tensors: list[Tensor]) -> tuple[Any, ...]:
    """The arguments with other ``tensors`` in place of those of `tensors_in`, in this order."""
    remaining = iter(tensors)
    return tuple(
        map_leaves(lambda _, leaf: next(remaining) if isinstance(leaf, Tensor) else leaf, value, "") for value in args
    )
