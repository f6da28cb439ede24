"""The compiler of log densities against torch: every operation, special values, shapes, threads, chain counts.

A function of one vector is recorded as the engine records a model, compiled, and called for several chains. Tolerance:
2e-6 of the largest result in float32, thirty times its rounding for what polynomials and the order of sums may do, and
1e-12 in float64.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.inference.engine.lanes import build
from posterity.inference.engine.lanes import emit as emission
from posterity.inference.engine.lanes.build import Compiled
from posterity.inference.engine.lanes.decompose import decompositions
from posterity.inference.engine.lanes.emit import emit
from posterity.inference.engine.lanes.expressions import Unsupported
from posterity.inference.engine.lanes.lower import lower
from posterity.inference.engine.lanes.machine import Machine

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
SIZE = 12


def compiled(function, size, dtype, chains):
    """``function`` of a vector (size,) to a vector (size,), for all chains; its sum stands in for the density."""

    def both(q):
        result = function(q)
        return result.sum(), result

    example = torch.linspace(0.1, 0.9, size, dtype=dtype)
    with torch.no_grad():
        graph = make_fx(torch.func.functionalize(both), decomposition_table=decompositions())(example)
    return Compiled(emit(lower(graph, (size,), dtype), ["value", "grad"]), size, dtype, chains)


INDEX = torch.tensor([3, 0, 0, 2, 1, 3, 3, 1, 0, 2, 2, 1])
MASK = torch.arange(SIZE) % 3 == 0
GRID = torch.linspace(-1, 1, 9).reshape(3, 3)


def grid(x):
    return x[:9].reshape(3, 3)


def unit_lower(x):
    return grid(x).tril(-1) + torch.eye(3, dtype=x.dtype)


def padded(x):
    return torch.nn.functional.pad(x.reshape(-1), (0, SIZE - x.numel()))


POSITIVE = {
    "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal, "log2": torch.log2,
    "log10": torch.log10, "lgamma": torch.lgamma, "digamma": torch.digamma, "log1p": torch.log1p,
    "power": lambda x: x**1.7, "root": lambda x: x**0.5, "inverse square": lambda x: x**-2.0,
    "power of powers": lambda x: x**x, "asin": lambda x: torch.asin(x / 10), "acos": lambda x: torch.acos(x / 10),
}  # fmt: skip
ANY = {
    "exp": torch.exp, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "expm1": torch.expm1, "sin": torch.sin,
    "cos": torch.cos, "tan": torch.tan, "atan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh, "erf": torch.erf,
    "erfc": torch.erfc, "abs": torch.abs, "sign": torch.sign, "floor": torch.floor, "ceil": torch.ceil,
    "relu": torch.relu, "silu": torch.nn.functional.silu, "softplus": torch.nn.functional.softplus,
    "logsigmoid": torch.nn.functional.logsigmoid, "gelu": torch.nn.functional.gelu, "elu": torch.nn.functional.elu,
    "leaky relu": torch.nn.functional.leaky_relu, "square": torch.square, "cube": lambda x: x**3,
    "clamp": lambda x: x.clamp(-0.5, 0.7), "clamp below": lambda x: x.clamp(min=0.1),
    "maximum": lambda x: torch.maximum(x, x.flip(0)), "minimum": lambda x: torch.minimum(x, x.roll(2)),
    "where": lambda x: torch.where(x > 0, x.exp(), -x), "by a mask": lambda x: torch.where(MASK, x, 2 * x),
    "logic": lambda x: torch.where((x > 0) & ~(x > 1) | (x < -1), x, -3 * x),
    "division": lambda x: (x + 3) / (x.abs() + 1), "a constant over": lambda x: 2 / (x.abs() + 1),
    "difference": lambda x: torch.sub(x, x.flip(0), alpha=2.5), "nothing": lambda x: x * 1 + 0,
}  # fmt: skip
SHAPES = {
    "sum of rows": lambda x: padded(x.reshape(3, 4).sum(0)), "mean": lambda x: x.reshape(3, 4) .mean(1).repeat(4),
    "largest": lambda x: x - x.reshape(3, 4).amax(0, keepdim=True).expand(3, 4).reshape(-1),
    "smallest": lambda x: x - x.amin(), "product": lambda x: padded(x.reshape(3, 4).prod(1)),
    "logsumexp": lambda x: padded(x.reshape(3, 4).logsumexp(-1)), "softmax": lambda x: x.softmax(0),
    "log softmax": lambda x: x.reshape(3, 4).log_softmax(-1).reshape(-1), "variance": lambda x: x / x.var(),
    "cumsum": lambda x: x.cumsum(0), "cumprod": lambda x: (1 + 0.1 * x).cumprod(0),
    "matmul": lambda x: padded(grid(x) @ grid(x)), "by data": lambda x: padded(GRID.to(x) @ grid(x)),
    "transposed": lambda x: padded(grid(x).T @ GRID.to(x)), "vector": lambda x: padded(grid(x) @ x[:3]),
    "batched": lambda x: padded(torch.bmm(x.reshape(2, 2, 3), x.reshape(2, 3, 2))),
    "outer": lambda x: padded(torch.outer(x[:3], x[3:7])),
    "addmm": lambda x: padded(torch.addmm(x[:3], grid(x), GRID.to(x))),
    "tanh of a product": lambda x: padded(torch.tanh(grid(x) @ grid(x) + x[:3])),
    "permuted": lambda x: x.reshape(2, 3, 2).permute(2, 0, 1).reshape(-1), "flip": lambda x: x.flip(0),
    "cat": lambda x: torch.cat([x[6:], -x[:6]]), "stack": lambda x: torch.stack([x[:6], x[6:].exp()], 1).reshape(-1),
    "split": lambda x: torch.cat(x.split([5, 4, 3])[::-1]), "unbind": lambda x: padded(x.reshape(3, 4).unbind(1)[2]),
    "strided": lambda x: padded(x[1::3]), "gathered": lambda x: x[:4][INDEX],
    "gather": lambda x: x.reshape(3, 4).gather(1, INDEX.reshape(3, 4)).reshape(-1),
    "selected": lambda x: x.index_select(0, INDEX),
    "scattered": lambda x: torch.zeros(SIZE, dtype=x.dtype).index_add(0, INDEX, x),
    "scatter_add": lambda x: torch.zeros(SIZE, dtype=x.dtype).scatter_add(0, INDEX, x),
    "put": lambda x: x.index_put((torch.tensor([1, 5]),), x[:2]), "diagonal": lambda x: padded(grid(x).diagonal(1)),
    "lower": lambda x: padded(grid(x).tril()), "upper": lambda x: padded(grid(x).triu(1)),
    "diagonal matrix": lambda x: padded(torch.diag_embed(x[:3])),
    "expanded": lambda x: (x[:3].exp()[:, None].expand(3, 4)).reshape(-1),
    "cholesky": lambda x: padded(torch.linalg.cholesky(grid(x) @ grid(x).T + torch.eye(3, dtype=x.dtype))),
    "solved": lambda x: padded(torch.linalg.solve_triangular(unit_lower(x), GRID.to(x), upper=False)),
}  # fmt: skip


def agree_all(functions, q):
    """Every function on a piece of its own of one vector (chain, functions, SIZE): one compilation for all."""

    def function(x):
        return torch.cat([f(piece) for f, piece in zip(functions.values(), x.split(SIZE), strict=True)])

    found = compiled(function, SIZE * len(functions), q.dtype, len(q)).gradient(q.flatten(1))[1]
    for name, f, result, x in zip(functions, functions.values(), found.split(SIZE, -1), q.unbind(1), strict=True):
        with torch.no_grad():
            expected = torch.stack([f(row) for row in x])
        bound = TOLERANCE[q.dtype] * (1 + float(expected.abs().max()))
        torch.testing.assert_close(
            result, expected, rtol=TOLERANCE[q.dtype], atol=bound, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_functions_of_positive_numbers(dtype):
    agree_all(POSITIVE, 10 ** torch.empty(5, len(POSITIVE), SIZE, dtype=dtype).uniform_(-2, 0.9))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_functions_of_any_number(dtype):
    agree_all(ANY, 2 * torch.randn(5, len(ANY), SIZE, dtype=dtype))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_reductions_products_and_views(dtype):
    agree_all(SHAPES, torch.randn(5, len(SHAPES), SIZE, dtype=dtype))


def test_gradients_of_reductions_products_and_views():
    def slope(function):
        weights = torch.linspace(0.5, 1.5, SIZE, dtype=torch.double)
        return lambda q: torch.func.grad(lambda x: (function(x) * weights).sum())(q)

    slopes = {name: slope(function) for name, function in SHAPES.items()}
    agree_all(slopes, torch.randn(5, len(slopes), SIZE, dtype=torch.double))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "softplus", "log", "log1p", "sqrt", "abs", "relu"])
def test_special_values(name, dtype):
    """The limits at infinity, at zero and beyond the exponent's range are torch's, and nan stays nan."""
    largest = 88.5 if dtype == torch.float32 else 709.0
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, largest, -largest, 2 * largest, -2 * largest, 1e-30, 1e-8, 1.0]
    q = torch.tensor(special, dtype=dtype).expand(3, -1).contiguous()
    function = (ANY | POSITIVE)[name]
    found = compiled(function, SIZE, dtype, 3).gradient(q)[1]
    torch.testing.assert_close(found, function(q), rtol=TOLERANCE[dtype], atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("chains", [1, 3, 8, 16, 17, 33])
def test_any_number_of_chains_and_threads_gives_the_same_bits(chains):
    def function(q):
        return torch.tanh(q.reshape(3, 4) @ q.reshape(4, 3)).sum() * q

    q = torch.randn(chains, SIZE)
    engine = compiled(function, SIZE, torch.float32, chains)
    one = engine.gradient(q)
    engine.use_threads(2)
    two = engine.gradient(q)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    fewer = engine.gradient(q[:1])
    assert torch.equal(fewer[1], one[1][:1])


@settings(max_examples=15, deadline=None)
@given(st.permutations([0, 1, 2]), st.integers(0, 2), st.integers(1, 3), st.booleans())
def test_chains_of_views_are_torchs(order, dim, step, keep):
    def function(q):
        x = q.reshape(2, 3, 4).permute(order)
        y = x[tuple(slice(None, None, step) if d == dim else slice(None) for d in range(3))]
        total = y.sum(dim, keepdim=True) if keep else y.amax(dim).unsqueeze(dim)
        return torch.nn.functional.pad((y - total).reshape(-1), (0, 24 - y.numel()))

    q = torch.randn(3, 24, dtype=torch.double)
    with torch.no_grad():
        expected = torch.stack([function(row) for row in q])
    found = compiled(function, 24, torch.double, 3).gradient(q)[1]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_long_sums_keep_their_accuracy():
    """100,000 terms of one sign in float32: partial sums keep the error below 20 roundings (naive: thousands)."""
    data = torch.rand(100_000, generator=torch.Generator().manual_seed(0))

    def function(q):
        return (data * q[0]).sum() * torch.ones(SIZE)

    q = torch.ones(2, SIZE)
    found = float(compiled(function, SIZE, torch.float32, 2).gradient(q)[1][0, 0])
    assert found == pytest.approx(float(data.double().sum()), rel=20 * 6e-8 * 100)


def test_an_unknown_operation_is_named():
    with pytest.raises(Unsupported, match="operation sort"):
        compiled(lambda q: q.sort().values, SIZE, torch.float32, 2)


@pytest.mark.parametrize("kind", [Machine(64, (4, 4)), Machine(32, (2, 4)), Machine(16, (4, 4))], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("chains", [1, 9, 40])
def test_vectors_and_tiles_of_other_processors_give_the_same(kind, dtype, chains, monkeypatch):
    """A product of 7 x 5 and 5 x 6, which no tile divides, with what is left of each."""
    for module in (build, emission):
        monkeypatch.setattr(module, "machine", lambda: kind)
    size = 7 * 5 + 5 * 6

    def product(x):
        found = torch.tanh(x[:35].reshape(7, 5) @ x[35:].reshape(5, 6))
        return torch.nn.functional.pad(found.reshape(-1), (0, size - 42))

    q = torch.randn(chains, size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    call = compiled(product, size, dtype, chains)
    assert 2 <= call.width <= kind.bytes // dtype.itemsize
    expected = torch.stack([product(row) for row in q])
    torch.testing.assert_close(call.gradient(q)[1], expected, rtol=0, atol=TOLERANCE[dtype])
