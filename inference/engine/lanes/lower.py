"""From recorded aten operations to expressions, one rule for each operation.

What depends on data alone is computed here once. Operations without a rule raise `Unsupported` with their name.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Constant,
    Cumulative,
    Index,
    Input,
    Names,
    Pieces,
    Pointwise,
    Product,
    Reduction,
    Scatter,
    Shape,
    Taken,
    Unsupported,
    Value,
    View,
    broadcast_index,
    integers_at,
    literal,
    reshaped,
)

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
EXPENSIVE = 8

BY_LANE = (
    "sin", "cos", "tan", "atan", "asin", "acos", "sinh", "cosh", "erf", "erfc", "lgamma", "digamma", "log1p", "expm1",
    "floor", "ceil",
)  # fmt: skip
UNARY = {
    "neg": ("-{0}", 1), "abs": ("v_abs({0})", 1), "relu": ("v_max({0}, fill(0))", 1), "sign": ("v_sign({0})", 1),
    "reciprocal": ("(1 / {0})", EXPENSIVE), "rsqrt": ("(1 / v_sqrt({0}))", EXPENSIVE), "sgn": ("v_sign({0})", 1),
    "log2": ("v_log({0}) * (S)" + repr(1 / math.log(2)), EXPENSIVE),
    "log10": ("v_log({0}) * (S)" + repr(1 / math.log(10)), EXPENSIVE), "square": ("{0} * {0}", 1),
    "silu": ("v_silu({0})", EXPENSIVE),
    **{n: (f"v_{n}({{0}})", EXPENSIVE) for n in ("exp", "log", "tanh", "sigmoid", "sqrt")},
    **{n: (f"v_{n}({{0}})", 3 * EXPENSIVE) for n in BY_LANE},
}  # fmt: skip
TESTS = {"isnan": "{0} != {0}", "isinf": "v_abs({0}) == INF"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
SAME = ("clone", "detach", "alias", "lift_fresh_copy", "lift_fresh", "contiguous", "positive", "lift")


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def lower(graph: torch.fx.GraphModule, shape: Shape, dtype: torch.dtype) -> list[Value]:
    """The outputs of a recorded function of one vector, in terms of it."""
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
    if isinstance(meta, Tensor) and meta.is_floating_point() and meta.dtype != dtype:
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


def as_value(x: Any, dtype: torch.dtype | None = None) -> Value:
    if isinstance(x, Value):
        return x
    if isinstance(x, Tensor):
        return Constant(x.to(dtype) if x.is_floating_point() and dtype is not None else x)
    return Constant(torch.tensor(x, dtype=torch.bool if isinstance(x, bool) else torch.double))


# -- pointwise ---------------------------------------------------------------------------------------------------


def _is(value: Value, number: float) -> bool:
    return isinstance(value, Constant) and value.uniform == number and not value.mask


def floats(value: Value) -> Value:
    return Pointwise("({0} ? fill(1) : fill(0))", value, mask=False) if value.mask else value


for _name, (_form, _weight) in UNARY.items():
    RULES[_name] = lambda x, form=_form, weight=_weight, **_: Pointwise(form, floats(x), weight=weight)
for _name, _form in TESTS.items():
    RULES[_name] = lambda x, form=_form: Pointwise(form, x, mask=True)
for _name, _sign in COMPARE.items():
    RULES[_name] = lambda a, b, sign=_sign: Pointwise(
        f"({{0}} {sign} {{1}})", floats(as_value(a)), floats(as_value(b)), mask=True
    )
for _name in SAME:
    RULES[_name] = lambda x, **_: x


@rule("_to_copy", "to")
def _convert(x: Value, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Value:
    if dtype is None or (dtype.is_floating_point and not x.mask) or (dtype == torch.bool and x.mask):
        return x
    if dtype.is_floating_point:
        return floats(x)
    raise Unsupported(f"conversion to {dtype}")


def _expanded(value: Value, shape: Shape) -> Value:
    shape = tuple(torch.broadcast_shapes(value.shape, shape))
    return value if shape == value.shape else View(value, shape, lambda i: broadcast_index(value.shape, i))


@rule("add")
def _add(a: Any, b: Any, alpha: float = 1) -> Value:
    a, b = floats(as_value(a)), floats(as_value(b))
    if alpha != 1:
        b = _mul(b, alpha)
    if _is(a, 0):
        return _expanded(b, a.shape)
    if _is(b, 0):
        return _expanded(a, b.shape)
    return Pointwise("({0} + {1})", a, b)


@rule("sub")
def _sub(a: Any, b: Any, alpha: float = 1) -> Value:
    a, b = floats(as_value(a)), floats(as_value(b))
    if alpha != 1:
        b = _mul(b, alpha)
    if _is(b, 0):
        return _expanded(a, b.shape)
    if _is(a, 0):
        return _expanded(Pointwise("-{0}", b), a.shape)
    return Pointwise("({0} - {1})", a, b)


@rule("rsub")
def _rsub(a: Any, b: Any, alpha: float = 1) -> Value:
    return _sub(b, a, alpha)


@rule("mul")
def _mul(a: Any, b: Any) -> Value:
    a, b = floats(as_value(a)), floats(as_value(b))
    for one, other in ((a, b), (b, a)):
        if _is(one, 1):
            return _expanded(other, one.shape)
        if _is(one, 0):
            return Constant(torch.zeros(()).expand(torch.broadcast_shapes(a.shape, b.shape)))
        if _is(one, -1):
            return _expanded(Pointwise("-{0}", other), one.shape)
    return Pointwise("({0} * {1})", a, b)


@rule("div", "true_divide")
def _div(a: Any, b: Any, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        raise Unsupported("integer division")
    a, b = floats(as_value(a)), floats(as_value(b))
    if _is(b, 1):
        return _expanded(a, b.shape)
    if isinstance(b, Constant):
        return Pointwise("({0} * {1})", a, Constant(1 / b.tensor.double().expand(b.shape)))
    return Pointwise("({0} / {1})", a, b, weight=4)


@rule("pow")
def _pow(a: Any, b: Any) -> Value:
    a, b = as_value(a), as_value(b)
    power = b.uniform if isinstance(b, Constant) else None
    forms = {
        2.0: "({0} * {0})",
        3.0: "({0} * {0} * {0})",
        -1.0: "(1 / {0})",
        0.5: "v_sqrt({0})",
        -0.5: "(1 / v_sqrt({0}))",
        -2.0: "(1 / ({0} * {0}))",
    }
    if power == 1:
        return _expanded(a, b.shape)
    if power == 0:
        return Constant(torch.ones(()).expand(torch.broadcast_shapes(a.shape, b.shape)))
    if power in forms:
        return _expanded(Pointwise(forms[power], a, weight=1 if power > 1 else 4), b.shape)
    return Pointwise("v_pow({0}, {1})", a, b, weight=3 * EXPENSIVE)


@rule("maximum")
def _maximum(a: Value, b: Value) -> Value:
    return Pointwise("v_max({0}, {1})", a, b)


@rule("minimum")
def _minimum(a: Value, b: Value) -> Value:
    return Pointwise("v_min({0}, {1})", a, b)


@rule("clamp", "clamp_min")
def _clamp(x: Value, min: Any = None, max: Any = None) -> Value:
    x = x if min is None else _maximum(x, as_value(min))
    return x if max is None else _minimum(x, as_value(max))


RULES["clamp_max"] = lambda x, max: _minimum(x, as_value(max))
RULES["hardtanh"] = lambda x, min_val=-1.0, max_val=1.0: _clamp(x, min_val, max_val)


@rule("where")
def _where(condition: Value, a: Any, b: Any) -> Value:
    a, b = as_value(a), as_value(b)
    shape = tuple(torch.broadcast_shapes(condition.shape, a.shape, b.shape))
    if isinstance(condition, Constant) and condition.uniform is not None:
        return _expanded(a if condition.uniform else b, shape)
    if a.mask != b.mask:
        a, b = floats(a), floats(b)
    return Pointwise("({0} ? {1} : {2})", condition, a, b, mask=a.mask)


@rule("logical_and", "bitwise_and", "__and__")
def _and(a: Value, b: Value) -> Value:
    return Pointwise("({0} & {1})", _mask(a), _mask(b), mask=True)


@rule("logical_or", "bitwise_or", "__or__")
def _or(a: Value, b: Value) -> Value:
    return Pointwise("({0} | {1})", _mask(a), _mask(b), mask=True)


@rule("logical_not", "bitwise_not")
def _not(a: Value) -> Value:
    return Pointwise("~{0}", _mask(a), mask=True)


@rule("logical_xor", "bitwise_xor")
def _xor(a: Value, b: Value) -> Value:
    return Pointwise("({0} ^ {1})", _mask(a), _mask(b), mask=True)


def _mask(a: Value) -> Value:
    return a if a.mask else Pointwise("({0} != 0)", a, mask=True)


@rule("addcmul")
def _addcmul(a: Value, b: Value, c: Value, value: float = 1) -> Value:
    return _add(a, _mul(_mul(b, c), value))


@rule("full_like", "new_full")
def _full_like(x: Value, *args: Any, **_: Any) -> Value:
    shape, number = (x.shape, args[0]) if len(args) == 1 else (tuple(args[0]), args[1])
    return Constant(torch.tensor(number).expand(shape))


@rule("zeros_like", "new_zeros")
def _zeros(x: Value, *args: Any, **_: Any) -> Value:
    return Constant(torch.zeros(()).expand(tuple(args[0]) if args else x.shape))


@rule("ones_like", "new_ones")
def _ones(x: Value, *args: Any, **_: Any) -> Value:
    return Constant(torch.ones(()).expand(tuple(args[0]) if args else x.shape))


@rule("tanh_backward")
def _tanh_backward(gradient: Value, y: Value) -> Value:
    return Pointwise("({0} * (1 - {1} * {1}))", gradient, y, weight=3)


@rule("sigmoid_backward")
def _sigmoid_backward(gradient: Value, y: Value) -> Value:
    return Pointwise("({0} * (1 - {1}) * {1})", gradient, y, weight=3)


@rule("threshold_backward")
def _threshold_backward(gradient: Value, x: Value, threshold: float) -> Value:
    return Pointwise(f"({{1}} <= {literal(threshold)} ? fill(0) : {{0}})", gradient, x)


@rule("softplus")
def _softplus(x: Value, beta: float = 1, threshold: float = 20) -> Value:
    b = literal(beta)
    form = f"({{0}} * {b} > {literal(threshold)} ? {{0}} : v_log1p(v_exp({{0}} * {b})) / {b})"
    return Pointwise(form, x, weight=4 * EXPENSIVE)


@rule("softplus_backward")
def _softplus_backward(gradient: Value, x: Value, beta: float, threshold: float) -> Value:
    form = f"({{1}} * {literal(beta)} > {literal(threshold)} ? {{0}} : {{0}} * v_sigmoid({{1}} * {literal(beta)}))"
    return Pointwise(form, gradient, x, weight=EXPENSIVE)


@rule("log_sigmoid_forward")
def _log_sigmoid(x: Value) -> list[Any]:
    return [Pointwise("(v_min({0}, fill(0)) - v_log1p(v_exp(-v_abs({0}))))", x, weight=4 * EXPENSIVE), x]


# -- views -------------------------------------------------------------------------------------------------------


@rule("view", "reshape", "_reshape_alias", "view_copy")
def _view(x: Value, shape: Sequence[int], *_: Any) -> Value:
    total, sizes = math.prod(x.shape), list(shape)
    if -1 in sizes:
        sizes[sizes.index(-1)] = total // max(1, -math.prod(sizes))
    return reshaped(x, tuple(sizes))


@rule("expand")
def _expand(x: Value, sizes: Sequence[int], implicit: bool = False) -> Value:
    lead = len(sizes) - len(x.shape)
    shape = tuple(x.shape[d - lead] if s == -1 else s for d, s in enumerate(sizes))
    return _expanded(x, shape)


@rule("permute")
def _permute(x: Value, dims: Sequence[int]) -> Value:
    order = [d % len(x.shape) for d in dims]

    def index(i: Index) -> Index:
        result = [""] * len(order)
        for position, d in enumerate(order):
            result[d] = i[position]
        return tuple(result)

    return View(x, tuple(x.shape[d] for d in order), index)


@rule("transpose")
def _transpose(x: Value, a: int, b: int) -> Value:
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    return _permute(x, order)


@rule("t")
def _t(x: Value) -> Value:
    return _transpose(x, 0, 1) if len(x.shape) == 2 else x


@rule("unsqueeze")
def _unsqueeze(x: Value, dim: int) -> Value:
    dim = dim % (len(x.shape) + 1)
    return View(x, (*x.shape[:dim], 1, *x.shape[dim:]), lambda i: (*i[:dim], *i[dim + 1 :]))


@rule("squeeze")
def _squeeze(x: Value, dims: Any = None) -> Value:
    chosen = range(len(x.shape)) if dims is None else ([dims] if isinstance(dims, int) else dims)
    gone = {d % len(x.shape) for d in chosen if x.shape[d] == 1} if x.shape else set()
    return reshaped(x, tuple(s for d, s in enumerate(x.shape) if d not in gone))


@rule("select")
def _select(x: Value, dim: int, position: int) -> Value:
    dim = dim % len(x.shape)
    at = str(position % x.shape[dim])
    return View(x, (*x.shape[:dim], *x.shape[dim + 1 :]), lambda i: (*i[:dim], at, *i[dim:]))


@rule("slice")
def _slice(x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    dim = dim % len(x.shape)
    span = range(x.shape[dim])[slice(start, end, step)]
    if len(span) == x.shape[dim]:
        return x

    def index(i: Index) -> Index:
        moved = i[dim] if step == 1 else f"{step}*{i[dim]}"
        return (*i[:dim], f"({moved}+{span.start})" if span.start else moved, *i[dim + 1 :])

    return View(x, (*x.shape[:dim], len(span), *x.shape[dim + 1 :]), index)


@rule("split_with_sizes", "split_with_sizes_copy")
def _split_sizes(x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [_slice(x, dim, end - size, end) for end, size in zip(ends, sizes, strict=True)]


@rule("split")
def _split(x: Value, size: int, dim: int = 0) -> list[Value]:
    return [_slice(x, dim, s, s + size) for s in range(0, x.shape[dim], size)]


@rule("unbind")
def _unbind(x: Value, dim: int = 0) -> list[Value]:
    return [_select(x, dim, i) for i in range(x.shape[dim])]


@rule("flip")
def _flip(x: Value, dims: Sequence[int]) -> Value:
    turned = {d % len(x.shape) for d in dims}
    return View(x, x.shape, lambda i: tuple(f"({x.shape[d] - 1}-{v})" if d in turned else v for d, v in enumerate(i)))


@rule("diagonal")
def _diagonal(x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    n = len(x.shape)
    a, b = dim1 % n, dim2 % n
    rest = [d for d in range(n) if d not in (a, b)]
    size = min(x.shape[a] + min(offset, 0), x.shape[b] - max(offset, 0))

    def index(i: Index) -> Index:
        result = [""] * n
        for position, d in enumerate(rest):
            result[d] = i[position]
        result[a] = f"({i[-1]}+{max(-offset, 0)})" if offset < 0 else i[-1]
        result[b] = f"({i[-1]}+{offset})" if offset > 0 else i[-1]
        return tuple(result)

    return View(x, (*(x.shape[d] for d in rest), size), index)


# -- stored: reductions, products, pieces ----------------------------------------------------------------------------


def _reduce(x: Value, dims: Any, keepdim: bool, start: str, combine: str) -> Value:
    n = len(x.shape)
    over = sorted({d % n for d in dims}) if dims else list(range(n))
    over = [d for d in over if x.shape[d] != 1]
    kept = tuple(1 if d in over else s for d, s in enumerate(x.shape))
    value: Value = Buffer(Reduction(x, over, start, combine), kept) if over else x
    if keepdim:
        return value
    gone = set(range(n)) if not dims else {d % n for d in dims}
    return reshaped(value, tuple(s for d, s in enumerate(kept) if d not in gone))


@rule("sum")
def _sum(x: Value, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    return _reduce(floats(x), [dims] if isinstance(dims, int) else dims, keepdim, "fill(0)", "{0} + {1}")


@rule("mean")
def _mean(x: Value, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    total = _sum(x, dims, keepdim)
    return _mul(total, math.prod(total.shape) / math.prod(x.shape))


@rule("var_mean")
def _var_mean(x: Value, dims: Any = None, *, correction: float = 1, keepdim: bool = False) -> list[Value]:
    mean = _mean(x, dims, True)
    deviation = _sub(x, mean)
    degrees = max(0.0, math.prod(x.shape) / math.prod(mean.shape) - correction)
    return [_div(_sum(_mul(deviation, deviation), dims, keepdim), degrees), _mean(x, dims, keepdim)]


@rule("var")
def _var(x: Value, dims: Any = None, *, correction: float = 1, keepdim: bool = False) -> Value:
    return _var_mean(x, dims, correction=correction, keepdim=keepdim)[0]


@rule("amax")
def _amax(x: Value, dims: Any = (), keepdim: bool = False) -> Value:
    return _reduce(x, dims, keepdim, "fill(-INF)", "v_max({0}, {1})")


@rule("amin")
def _amin(x: Value, dims: Any = (), keepdim: bool = False) -> Value:
    return _reduce(x, dims, keepdim, "fill(INF)", "v_min({0}, {1})")


@rule("max")
def _max(x: Value, *args: Any) -> Value:
    if args:
        raise Unsupported("positions of a maximum")
    return _amax(x)


@rule("prod")
def _prod(x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    return _reduce(x, None if dim is None else [dim], keepdim, "fill(1)", "{0} * {1}")


@rule("any")
def _any(x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    dims = [dim] if isinstance(dim, int) else dim
    return _mask(_reduce(floats(_mask(x)), dims, keepdim, "fill(0)", "v_max({0}, {1})"))


@rule("all")
def _all(x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    dims = [dim] if isinstance(dim, int) else dim
    return _mask(_reduce(floats(_mask(x)), dims, keepdim, "fill(1)", "v_min({0}, {1})"))


@rule("bmm")
def _bmm(a: Value, b: Value) -> Value:
    return Buffer(Product(a, b), (a.shape[0], a.shape[1], b.shape[2]))


@rule("mm")
def _mm(a: Value, b: Value) -> Value:
    return _squeeze_first(_bmm(_unsqueeze(a, 0), _unsqueeze(b, 0)))


def _squeeze_first(x: Value) -> Value:
    return View(x, x.shape[1:], lambda i: ("0", *i))


@rule("mv")
def _mv(a: Value, b: Value) -> Value:
    return reshaped(_mm(a, _unsqueeze(b, 1)), (a.shape[0],))


@rule("dot", "vdot")
def _dot(a: Value, b: Value) -> Value:
    return _sum(_mul(a, b))


@rule("addmm")
def _addmm(c: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    return _add(_mul(c, beta), _mul(_mm(a, b), alpha))


@rule("baddbmm")
def _baddbmm(c: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    return _add(_mul(c, beta), _mul(_bmm(a, b), alpha))


@rule("cat")
def _cat(values: Sequence[Any], dim: int = 0) -> Value:
    parts = [v for v in (floats(as_value(v)) for v in values) if v.shape != (0,)]
    dim = dim % len(parts[0].shape)
    pieces, offset = [], 0
    for part in parts:
        pieces.append((part, offset))
        offset += part.shape[dim]
    shape = tuple(offset if d == dim else s for d, s in enumerate(parts[0].shape))
    return Buffer(Pieces(pieces, dim), shape)


@rule("stack")
def _stack(values: Sequence[Any], dim: int = 0) -> Value:
    return _cat([_unsqueeze(as_value(v), dim) for v in values], dim)


@rule("constant_pad_nd")
def _pad(x: Value, pad: Sequence[int], value: float = 0) -> Value:
    for number in range(len(pad) // 2):
        dim, before, after = len(x.shape) - 1 - number, pad[2 * number], pad[2 * number + 1]
        if before < 0 or after < 0:
            x = _slice(x, dim, max(0, -before), x.shape[dim] + min(0, after))
        around = [
            Constant(torch.tensor(float(value)).expand(*x.shape[:dim], n, *x.shape[dim + 1 :]))
            for n in (max(0, before), max(0, after))
        ]
        parts = [around[0]] * (before > 0) + [x] + [around[1]] * (after > 0)
        x = parts[0] if len(parts) == 1 else _cat(parts, dim)
    return x


@rule("copy")
def _copy(x: Any, source: Any, *_: Any) -> Value:
    return _expanded(floats(as_value(source)), as_value(x).shape)


@rule("slice_scatter")
def _slice_scatter(
    x: Value, source: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    dim = dim % len(x.shape)
    span = range(x.shape[dim])[slice(start, end, step)]
    if step != 1:
        flat = torch.arange(math.prod(x.shape)).reshape(x.shape)
        where = flat[(slice(None),) * dim + (slice(start, end, step),)].contiguous()
        return Buffer(Scatter(x, _expanded(source, tuple(where.shape)), where, False), x.shape)
    around = [(x, 0, span.start), (source, 0, len(span)), (x, span.start + len(span), x.shape[dim])]
    return _cat([_slice(v, dim, s, e) for v, s, e in around if e > s], dim)


@rule("diagonal_scatter")
def _diagonal_scatter(x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    where = torch.arange(math.prod(x.shape)).reshape(x.shape).diagonal(offset, dim1, dim2).contiguous()
    return Buffer(Scatter(x, _expanded(source, tuple(where.shape)), where, False), x.shape)


@rule("select_scatter")
def _select_scatter(x: Value, source: Value, dim: int, position: int) -> Value:
    position = position % x.shape[dim]
    return _slice_scatter(x, _unsqueeze(source, dim), dim, position, position + 1)


@rule("cumsum")
def _cumsum(x: Value, dim: int, **_: Any) -> Value:
    return Buffer(Cumulative(x, dim % len(x.shape)), x.shape) if x.shape else x


@rule("cumprod")
def _cumprod(x: Value, dim: int, **_: Any) -> Value:
    return Buffer(Cumulative(x, dim % len(x.shape), 1, "*"), x.shape) if x.shape else x


@rule("tril")
def _tril(x: Value, diagonal: int = 0) -> Value:
    return _where(Constant(torch.ones(x.shape[-2:], dtype=torch.bool).tril(diagonal)), x, 0.0)


@rule("triu")
def _triu(x: Value, diagonal: int = 0) -> Value:
    return _where(Constant(torch.ones(x.shape[-2:], dtype=torch.bool).triu(diagonal)), x, 0.0)


# -- constant positions ----------------------------------------------------------------------------------------------


def _positions(x: Any) -> Tensor:
    """Constant integers, or `Unsupported`: positions that depend on the chain."""
    if isinstance(x, Constant):
        x = x.tensor.expand(x.shape)
    if not isinstance(x, Tensor):
        raise Unsupported("positions that depend on a latent value")
    return x


@rule("index")
def _index(x: Value, indices: Sequence[Any]) -> Value:
    first, tensors, count = _leading(x, indices)
    shape = (*x.shape[:first], *tensors[0].shape, *x.shape[first + count :])
    depth = tensors[0].ndim

    def index(i: Index, names: Names) -> Index:
        own = i[first : first + depth]
        taken = tuple(integers_at(names, t, own) for t in tensors)
        return (*i[:first], *taken, *i[first + depth :])

    return Taken(x, tuple(shape), index)


def _leading(x: Value, indices: Sequence[Any]) -> tuple[int, list[Tensor], int]:
    """Adjacent integer indices: the first dimension, the broadcast positions, and how many dimensions."""
    given = [d for d, i in enumerate(indices) if i is not None]
    if given != list(range(given[0], given[0] + len(given))):
        raise Unsupported("indices that are not adjacent")
    found = [_positions(indices[d]) for d in given]
    if any(t.dtype == torch.bool for t in found):
        if len(found) > 1:
            raise Unsupported("a mask among indices")
        found = list(found[0].nonzero().unbind(-1))
        given = list(range(given[0], given[0] + len(found)))
    tensors = [t.contiguous() for t in torch.broadcast_tensors(*found)]
    return given[0], [torch.where(t < 0, t + x.shape[d], t) for t, d in zip(tensors, given, strict=True)], len(given)


@rule("index_put")
def _index_put(x: Value, indices: Sequence[Any], source: Value, accumulate: bool = False) -> Value:
    first, tensors, count = _leading(x, indices)
    flat = torch.arange(math.prod(x.shape)).reshape(x.shape)
    where = flat[(slice(None),) * first + tuple(tensors)]
    if count == 0:
        raise Unsupported("an empty index")
    return Buffer(Scatter(x, _expanded(source, tuple(where.shape)), where.contiguous(), accumulate), x.shape)


@rule("gather")
def _gather(x: Value, dim: int, index: Any, **_: Any) -> Value:
    positions, d = _positions(index).contiguous(), dim % len(x.shape)
    return Taken(x, tuple(positions.shape), lambda i, names: (*i[:d], integers_at(names, positions, i), *i[d + 1 :]))


@rule("index_select")
def _index_select(x: Value, dim: int, index: Any) -> Value:
    return _index(x, [None] * (dim % len(x.shape)) + [index])


@rule("embedding")
def _embedding(x: Value, index: Any, *_: Any) -> Value:
    return _index(x, [index])


@rule("scatter_add")
def _scatter_add(x: Value, dim: int, index: Any, source: Value) -> Value:
    return _scattered(x, dim, index, source, True)


@rule("scatter")
def _scatter(x: Value, dim: int, index: Any, source: Any) -> Value:
    return _scattered(x, dim, index, as_value(source), False)


def _scattered(x: Value, dim: int, index: Any, source: Value, accumulate: bool) -> Value:
    positions = _positions(index)
    flat = torch.arange(math.prod(x.shape)).reshape(x.shape)
    where = flat.gather(dim, positions) if all(a <= b for a, b in zip(positions.shape, x.shape, strict=True)) else None
    if where is None:
        grids = list(torch.meshgrid(*(torch.arange(s) for s in positions.shape), indexing="ij"))
        grids[dim] = positions
        where = flat[tuple(grids)]
    cut: Value = source
    for d, size in enumerate(positions.shape):
        cut = _slice(cut, d, 0, size) if cut.shape else cut
    return Buffer(Scatter(x, _expanded(cut, tuple(where.shape)), where.contiguous(), accumulate), x.shape)
