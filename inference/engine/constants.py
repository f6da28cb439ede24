"""Values read from the data while a model is recorded, such as the index in ``offset[county[i]]`` of a loop over i.

A recording cannot read the values of tensors that it computes, and it would compute elements of the data too. They are
therefore read outside of the recording. Pyro makes the indices of a plate as a tensor, whose values a loop over the
plate reads; they are made before the recording.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, get_proxy_slot
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from posterity.inference.program.sites import is_subsample

READING = frozenset(
    getattr(Tensor, name)
    for name in (
        "__getitem__", "unbind", "item", "tolist", "__int__", "__float__", "__bool__", "__index__",
        "__eq__", "eq", "ne", "lt", "le", "gt", "ge",
    )
)  # fmt: skip


class ReadConstants(TorchFunctionMode):
    """Reads and compares elements of constant tensors, such as data, outside of a recording."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in READING and all(map(_is_constant, tree_leaves((args, kwargs)))):
            with disable_proxy_modes_tracing():
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _is_constant(value: Any) -> bool:
    """Whether ``value`` is no tensor, or one that the present recording does not compute."""
    if not isinstance(value, Tensor):
        return True
    mode = get_proxy_mode()
    if mode is None or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return False
    return get_proxy_slot(value, mode.tracer, None) is None


class KnownIndices(Messenger):
    """Gives the plates of a model indices that were made before; subsampled plates keep their random indices."""

    def __init__(self, indices: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.indices = indices

    def _pyro_sample(self, msg: Any) -> None:
        known = self.indices.get(msg["name"]) if msg["value"] is None and is_whole_plate(msg) else None
        if known is not None and len(known) == msg["fn"].size:
            msg["value"] = known


def known_indices(samples: Mapping[str, Any]) -> dict[str, Tensor]:
    """The indices of the plates among the ``samples``, sample nodes of a trace, by the name of the plate."""
    return {name: node["value"] for name, node in samples.items() if is_whole_plate(node)}


def is_whole_plate(node: Any) -> bool:
    """Whether a sample node holds the indices of a plate, all of them."""
    return is_subsample(node) and node["fn"].subsample_size in (None, node["fn"].size)
