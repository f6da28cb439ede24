"""Rules of factorisations and triangular systems, which are loops of their own (small ones are decomposed)."""

import math
from typing import Any

import numpy as np
import torch

from posterity.inference.engine.lanes.expressions import Buffer, Constant, Factored, Solved, Value, View
from posterity.inference.engine.lanes.rules.registry import expanded, rule


def _transposed(x: Value) -> Value:
    return View(x, (*x.shape[:-2], x.shape[-1], x.shape[-2]), lambda i: (*i[:-2], i[-1], i[-2]))


@rule("linalg_cholesky_ex")
def _cholesky(a: Value, *, upper: bool = False, check_errors: bool = False) -> list[Value]:
    factor: Value = Buffer(Factored(a), a.shape)
    failed = Constant(torch.zeros((), dtype=torch.int32).expand(a.shape[:-2]))
    return [_transposed(factor) if upper else factor, failed]


@rule("linalg_solve_triangular")
def _solve_triangular(a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Value:
    if not left:
        return _transposed(
            _solve_triangular(_transposed(a), _transposed(b), upper=not upper, unitriangular=unitriangular)
        )
    batch = tuple(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    matrix = Buffer(expanded(a, (*batch, *a.shape[-2:])), (*batch, *a.shape[-2:]))
    right = expanded(b, (*batch, *b.shape[-2:]))
    return Buffer(Solved(matrix, right, upper, unitriangular), right.shape)


@rule("new_empty_strided")
def _empty(x: Value, size: Any, stride: Any, **_: Any) -> Value:
    """Memory that is written before it is read."""
    return Constant(torch.zeros(()).expand(tuple(size)) if math.prod(size) else torch.zeros(tuple(size)))
