"""From recorded aten operations to expressions, by one rule for each operation.

Operations on data alone are evaluated here, once. An operation without a rule raises `Unsupported` with its name.
"""

import operator
from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.lanes.expressions import Input, Shape, Unsupported, Value
from posterity.inference.engine.lanes.rules import RULES, as_value


def lower(graph: torch.fx.GraphModule, shape: Shape, dtype: torch.dtype) -> list[Value]:
    """The outputs of ``graph``, a recorded function of one vector, as expressions of that vector.

    ``shape`` is the shape of the vector, and ``dtype`` the precision of the computation.
    """
    known: dict[torch.fx.Node, Any] = {}

    def read(x: Any) -> Any:
        return known[x] if isinstance(x, torch.fx.Node) else x

    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = Input("q", shape)
        elif node.op == "get_attr":
            known[node] = getattr(graph, node.target)
        elif node.op == "output":
            outputs = torch.fx.map_arg(node.args[0], read)
            flat = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            return [as_value(out, dtype) for out in flat]
        else:
            args, kwargs = torch.fx.map_arg(node.args, read), torch.fx.map_arg(node.kwargs, read)
            known[node] = _apply(node, args, dict(kwargs), dtype)
    raise Unsupported("a graph without output")


def _apply(node: torch.fx.Node, args: Any, kwargs: dict[str, Any], dtype: torch.dtype) -> Any:
    if node.target is operator.getitem:
        return args[0][args[1]]
    if not _symbolic((args, kwargs)):
        return node.target(*args, **kwargs)  # type: ignore[operator]
    name = node.target._schema.name.removeprefix("aten::").removeprefix("_unsafe_")  # type: ignore[union-attr]
    if name not in RULES:
        raise Unsupported(f"operation {name}")
    meta = node.meta.get("val")
    # The compiled code has one precision; parts of the model in lower precision are computed in it as well.
    if isinstance(meta, Tensor) and meta.is_floating_point() and torch.promote_types(meta.dtype, dtype) != dtype:
        raise Unsupported(f"numbers of {meta.dtype} among {dtype}")
    ready = [as_value(a, dtype) if isinstance(a, Tensor) else a for a in args]
    value = RULES[name](*ready, **kwargs)
    if isinstance(meta, Tensor) and isinstance(value, Value) and value.shape != tuple(meta.shape):
        raise Unsupported(f"operation {name} of shape {tuple(meta.shape)}")
    return value


def _symbolic(tree: Any) -> bool:
    if isinstance(tree, dict):
        return any(_symbolic(x) for x in tree.values())
    if isinstance(tree, (list, tuple)):
        return any(_symbolic(x) for x in tree)
    return isinstance(tree, Value)
