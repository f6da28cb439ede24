"""Compiled code against torch: functions over their range, special values, chain counts, threads, a missing compiler.

Tolerance: 2e-6 of the largest result in float32, thirty times its rounding for what polynomials and the order of sums
may do, and 1e-12 in float64.
"""

import math

import pytest
import torch

from posterity.inference.engine.lanes import build
from posterity.inference.engine.lanes.build import MissingCompiler
from tests.inference.engine.lanes.cases import SIZE, TOLERANCE, compiled, together

# Functions that `vector.h` computes, on positive numbers and on any.
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
    "logsigmoid": torch.nn.functional.logsigmoid, "maximum": lambda x: torch.maximum(x, x.flip(0)),
    "minimum": lambda x: torch.minimum(x, x.roll(2)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_functions_are_those_of_torch_over_their_range(dtype):
    """Positive numbers from 0.01 to 8, and normal ones of sd 2; one compilation for all."""
    functions = POSITIVE | ANY
    positive = 10 ** torch.empty(5, len(POSITIVE), SIZE, dtype=dtype).uniform_(-2, 0.9)
    q = torch.cat([positive, 2 * torch.randn(5, len(ANY), SIZE, dtype=dtype)], 1)
    found = compiled(together(functions), SIZE * len(functions), dtype, len(q)).gradient(q.flatten(1))[1]
    for name, result, x in zip(functions, found.split(SIZE, -1), q.unbind(1), strict=True):
        with torch.no_grad():
            expected = torch.stack([functions[name](row) for row in x])
        bound = TOLERANCE[dtype] * (1 + float(expected.abs().max()))
        torch.testing.assert_close(
            result, expected, rtol=TOLERANCE[dtype], atol=bound, msg=lambda text, name=name: f"{name}: {text}"
        )


SPECIAL = ("exp", "tanh", "sigmoid", "softplus", "log", "log1p", "sqrt", "abs", "relu")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_special_values(dtype):
    """The limits at infinity, at zero and beyond the exponent's range are torch's, and nan stays nan."""
    largest = 88.5 if dtype == torch.float32 else 709.0
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, largest, -largest, 2 * largest, -2 * largest, 1e-30, 1e-8, 1.0]
    functions = {name: (ANY | POSITIVE)[name] for name in SPECIAL}
    q = torch.tensor(special, dtype=dtype).expand(3, -1).contiguous()
    call = compiled(together(functions), SIZE * len(functions), dtype, 3)
    found = call.gradient(q.repeat(1, len(functions)))[1]
    for name, result in zip(functions, found.split(SIZE, -1), strict=True):
        torch.testing.assert_close(
            result, functions[name](q), rtol=TOLERANCE[dtype], atol=1e-37, equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip


@pytest.mark.parametrize("chains", [1, 3, 8, 16, 17, 33])
def test_any_number_of_chains_and_threads_gives_the_same_bits(chains):
    def function(q):
        return torch.tanh(q.reshape(3, 4) @ q.reshape(4, 3)).sum() * q

    q = torch.randn(chains, SIZE)
    engine = compiled(function, SIZE, torch.float32, chains)
    one = engine.gradient(q)
    assert engine.use_threads(2) == min(2, -(-chains // engine.width))
    two = engine.gradient(q)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    fewer = engine.gradient(q[:1])
    assert torch.equal(fewer[1], one[1][:1])


def test_a_compiler_that_is_missing_or_fails_is_said(monkeypatch):
    with pytest.raises(MissingCompiler, match=r"the compiler failed: \['.*error"):
        build.library("no program")
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(MissingCompiler, match=r"no C\+\+ compiler \(g\+\+ or clang\+\+\) was found"):
        build.library("int one() { return 1; }")
