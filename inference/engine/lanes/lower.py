"""From the operations of a function to expressions, by one rule for each operation, while the function runs once.

The function runs with numbers, below torch's transformations (`torch.func.grad`, `functionalize`), where a dispatch
mode sees every aten operation. An operation on data alone is simply computed; its result is a constant. An operation on
the vector is computed too, and its rule gives the expression. An operation without a rule raises `Unsupported` with its
name. Nothing else is recorded, so a function of ten thousand operations takes about a second.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from posterity.inference.engine.lanes.decompose import decompositions
from posterity.inference.engine.lanes.expressions import Input, Unsupported, Value
from posterity.inference.engine.lanes.rules import RULES, as_value
from posterity.inference.program.trace import default_dtype

CHECKS = ("_linalg_check_errors",)  # operations without a result, which fail for a matrix that is not positive definite


def lower(function: Callable[[Tensor], Sequence[Tensor]], example: Tensor) -> list[Value]:
    """The outputs of ``function``, of one vector like ``example``, as expressions of that vector.

    In-place operations have no rules: `torch.func.functionalize` removes them from a function.
    """
    listener = _Listener(example.dtype)
    with torch.no_grad():
        vector = example.detach().clone()
        listener.name(vector, Input("q", tuple(vector.shape)))
        with listener:
            outputs = function(vector)
    return [listener.value_of(output) for output in outputs]


class _Listener(TorchDispatchMode):
    """Keeps the expression of every tensor that depends on the vector."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.table = dtype, decompositions()
        # The tensors are kept, so that no other tensor gets the identity of one that is gone.
        self.known: dict[int, tuple[Tensor, Value]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No protection against `torch.compile`, whose import takes a second and which is not used here."""
        return False

    def name(self, tensor: Tensor, value: Value) -> None:
        self.known[id(tensor)] = tensor, value

    def value_of(self, tensor: Tensor) -> Value:
        known = self.known.get(id(tensor))
        return as_value(tensor, self.dtype) if known is None else known[1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Unsupported(f"random numbers of operation {_name(func)}, which would be the same in every call")
        if (not self._symbolic(args) and not self._symbolic(kwargs)) or _name(func) in CHECKS:
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            return self._written(func, args, kwargs)
        # Operations that torch itself writes in terms of others are decomposed too, unless there is a rule.
        decomposition = self.table.get(func) or (None if _name(func) in RULES else func.decompose)
        if decomposition is not None:
            with self:
                result = decomposition(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self._keep(result, self._rule(func, result, args, kwargs), func)
        return result

    def _written(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operation in place, as in a gradient of torch: its result is from now on the expression of its tensor."""
        name, target = _name(func), args[0] if args else None
        functional = getattr(getattr(torch.ops.aten, name.removesuffix("_"), None), func._overloadname, None)
        if not name.endswith("_") or functional is None or not isinstance(target, Tensor):
            raise Unsupported(f"operation {name}")
        memory = target.untyped_storage()._cdata
        shared = any(t is not target and t.untyped_storage()._cdata == memory for t, _ in self.known.values())
        if target._is_view() or shared:
            raise Unsupported(f"operation {name} on a part of a tensor")
        # A constant would share the memory that is about to be written.
        first = target if id(target) in self.known else target.clone()
        with self:
            value = self.value_of(functional(first, *args[1:], **kwargs))
        result = func(*args, **kwargs)
        self.name(target, value)
        return result

    def _symbolic(self, tree: Any) -> bool:
        if isinstance(tree, Tensor):
            return id(tree) in self.known
        if isinstance(tree, dict):
            return any(map(self._symbolic, tree.values()))
        return isinstance(tree, (list, tuple)) and any(map(self._symbolic, tree))

    def _expressed(self, tree: Any) -> Any:
        """Arguments with expressions in place of tensors that depend on the vector."""
        if isinstance(tree, Tensor):
            known = self.known.get(id(tree))
            return tree if known is None else known[1]
        if isinstance(tree, (list, tuple)):
            return type(tree)(self._expressed(x) for x in tree)
        return tree

    def _rule(self, func: Any, result: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = _name(func)
        if name not in RULES:
            raise Unsupported(f"operation {name}")
        tensor = isinstance(result, Tensor)
        # The compiled code has one precision; parts of the model in lower precision are computed in it as well.
        if tensor and result.is_floating_point() and torch.promote_types(result.dtype, self.dtype) != self.dtype:
            raise Unsupported(f"numbers of {result.dtype} among {self.dtype}")
        ready = [as_value(a, self.dtype) if isinstance(a, Tensor) else a for a in map(self._expressed, args)]
        named = {key: self._expressed(x) for key, x in kwargs.items()}
        with default_dtype(self.dtype):  # the precision of Python floats in a rule
            value = RULES[name](*ready, **named)
        if tensor and isinstance(value, Value) and value.shape != tuple(result.shape):
            raise Unsupported(f"operation {name} of shape {tuple(result.shape)}")
        return value

    def _keep(self, result: Any, value: Any, func: Any) -> None:
        if isinstance(result, Tensor) and isinstance(value, Value):
            self.name(result, value)
        elif isinstance(result, (list, tuple)) and isinstance(value, (list, tuple)) and len(result) == len(value):
            for one, expression in zip(result, value, strict=True):
                self._keep(one, expression, func)
        else:
            raise Unsupported(f"results of operation {_name(func)}")


def _name(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::").removeprefix("_unsafe_")
