"""Every operation that `lanes` has a rule for, in the ways that models call it: functions of 12 numbers.

Shapes with broadcasting, negative and several dimensions, `keepdim`, scalars, masks. The truth is what torch computes.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from posterity.inference.engine.lanes.build import Compiled
from posterity.inference.engine.lanes.emit import emit
from posterity.inference.engine.lanes.expressions import Unsupported
from posterity.inference.engine.lanes.rules import RULES
from tests.inference.engine.cases import without_optimisation
from tests.inference.engine.lanes.cases import SIZE, TOLERANCE, lowered, padded

Function = Callable[[Tensor], Tensor]
CHAINS = 5

DATA = torch.linspace(-1.3, 1.7, 12).reshape(3, 4)
MASK = torch.arange(12).reshape(3, 4) % 3 == 0
INDEX = torch.tensor([3, 0, 0, 2, 1, 3, 3, 1, 0, 2, 2, 1])


def table(x: Tensor) -> Tensor:
    return x.reshape(3, 4)


def cube(x: Tensor) -> Tensor:
    return x.reshape(2, 3, 2)


def above(x: Tensor) -> Tensor:
    """Numbers from 0.3 on."""
    return x.abs() + 0.3


def inside(x: Tensor) -> Tensor:
    """Numbers between -0.9 and 0.9."""
    return 0.9 * torch.tanh(x)


def chosen(mask: Callable[[Tensor], Tensor]) -> Function:
    """A mask in numbers that have a gradient."""
    return lambda x: torch.where(mask(x), table(x).exp(), -2 * table(x))


DOMAINS = {
    **dict.fromkeys(("log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "lgamma"), above),
    **dict.fromkeys(("asin", "acos", "tan"), inside),
    "log1p": lambda x: x.abs() - 0.2,
}
UNARY = (
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor", "lgamma", "log",
    "log10", "log1p", "log2", "neg", "reciprocal", "relu", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square",
    "tan", "tanh",
)  # fmt: skip


def unary(name: str) -> Function:
    return lambda x: getattr(torch, name)(DOMAINS.get(name, table)(x)) * 1.5


FUNCTIONS: dict[str, Function] = {
    **{name: unary(name) for name in UNARY},
    "digamma": lambda x: torch.digamma(above(x).detach()),  # its gradient has no rule
    **{
        f"{activation.__name__}": (lambda x, activation=activation: activation(table(x)))
        for activation in (
            functional.silu,
            functional.softplus,
            functional.logsigmoid,
            functional.gelu,
            functional.elu,
            functional.leaky_relu,
            functional.hardtanh,
            functional.relu6,
            functional.selu,
            functional.mish,
            functional.softsign,
            functional.tanhshrink,
            functional.hardswish,
        )
    },
}

POINTWISE: dict[str, Function] = {
    "add, rows": lambda x: table(x) + x[:4],
    "add, outer": lambda x: x[:3, None] + x[4:8],
    "add, alpha": lambda x: torch.add(table(x), x[:4], alpha=-1.5),
    "add, zeros": lambda x: torch.zeros(3, 4).to(x) + x[:4],
    "add, a mask": lambda x: torch.add(table(x), table(x) > 0),
    "add, a scalar": lambda x: 2.5 + x[3],
    "sub, columns": lambda x: table(x) - x[:3, None],
    "sub, alpha": lambda x: torch.sub(table(x), x[:4], alpha=2.5),
    "sub, from zeros": lambda x: torch.zeros(3, 4).to(x) - x[:4],
    "sub, zeros": lambda x: x[:4] - torch.zeros(3, 4).to(x),
    "rsub": lambda x: 1 - table(x),
    "mul, rows": lambda x: table(x) * x[:4],
    "mul, data": lambda x: x[:4] * DATA.to(x),
    "mul, ones": lambda x: x[:4] * torch.ones(3, 4).to(x),
    "mul, minus ones": lambda x: -torch.ones(3, 4).to(x) * x[:4],
    "mul, a mask": lambda x: table(x) * (table(x) > x[0]),
    "mul, zeros and a mask": lambda x: torch.zeros(3, 4).to(x) * (table(x) > 0) + x[:4],
    "div, rows": lambda x: table(x) / above(x[:4]),
    "div, by data": lambda x: x[:4] / (DATA.to(x) + 3),
    "div, by a scalar": lambda x: table(x) / x[0].exp(),
    "div, a number": lambda x: 2 / above(table(x)),
    "div, by ones": lambda x: x[:4] / torch.ones(3, 4).to(x),
    **{f"pow {p}": (lambda x, p=p: table(x) ** p) for p in (0, 1, 2, 3)},
    **{f"pow {p}": (lambda x, p=p: above(table(x)) ** p) for p in (-2.0, -1.0, -0.5, 0.5, 1.7)},
    "pow, of powers": lambda x: above(table(x)) ** x[:4],
    "pow, of a number": lambda x: 1.3 ** table(x),
    "pow, by data": lambda x: above(x[:4]) ** DATA.to(x),
    "maximum": lambda x: torch.maximum(table(x), x[:4]),
    "minimum": lambda x: torch.minimum(table(x), x[:3, None]),
    "clamp, both": lambda x: table(x).clamp(-0.5, 0.7),
    "clamp, below": lambda x: table(x).clamp(min=0.1),
    "clamp, above": lambda x: table(x).clamp(max=0.1),
    "clamp, tensors": lambda x: table(x).clamp(x[:4] - 0.5, x[:4] + 0.5),
    "where, rows": lambda x: torch.where(x[:3, None] > 0, table(x), -x[:4]),
    "where, data": lambda x: torch.where(MASK, table(x), 2 * x[:4]),
    "where, all": lambda x: torch.where(torch.ones(3, 4, dtype=torch.bool), x[:4], 2 * table(x)),
    "where, of masks": chosen(lambda x: torch.where(table(x) > 0, table(x) > 1, x[:4] < 0)),
    "where, a mask and numbers": lambda x: torch.where(table(x) > 0, table(x), (x[:4] < 0).to(x.dtype)),
    "where, numbers": lambda x: torch.where(table(x) > 0, x.new_tensor(1.5), -0.5) * table(x),
    "_to_copy": lambda x: (table(x) > 0).to(x.dtype) * table(x),
    "full_like": lambda x: torch.full_like(table(x), 2.5) * x[:4],
    "ones_like": lambda x: torch.ones_like(table(x)) + x[:4],
    "new_zeros": lambda x: x.new_zeros(3, 4) + x[:4],
    "addcmul": lambda x: torch.addcmul(table(x), x[:4], x[:3, None], value=0.7),
    "clone": lambda x: table(x).clone() * 2,
    "alias": lambda x: torch.positive(table(x)).contiguous() * 2,
    "detach": lambda x: table(x).detach() * table(x),
}

LOGIC: dict[str, Function] = {
    "isfinite, infinite": lambda x: torch.where(x.masked_fill(x > 0, torch.inf).isfinite(), x, 2 * x),
    "eq": chosen(lambda x: table(x).floor() == 0),
    "ne": chosen(lambda x: table(x).floor() != x[:4].floor()),
    "lt": chosen(lambda x: table(x) < x[:4]),
    "le": chosen(lambda x: table(x) <= x[:4]),
    "gt": chosen(lambda x: table(x) > 0.2),
    "ge": chosen(lambda x: table(x) >= x[:3, None]),
    "isnan": chosen(lambda x: torch.isnan(torch.where(table(x) > 0, math.nan, table(x)))),
    "isinf": chosen(lambda x: torch.isinf(torch.where(table(x) > 0, -math.inf, table(x)))),
    "logical_and": chosen(lambda x: (table(x) > 0).logical_and(x[:4] < 1)),
    "logical_or": chosen(lambda x: (table(x) > 0.5).logical_or(MASK)),
    "logical_not": chosen(lambda x: (table(x) > 0.5).logical_not()),
    "logical_xor": chosen(lambda x: (table(x) > 0.5).logical_xor(x[:4] < 0.2)),
    "logical_not of numbers": chosen(lambda x: torch.logical_not(table(x).floor())),
    "bitwise_and": chosen(lambda x: (table(x) > 0) & MASK),
    "bitwise_or": chosen(lambda x: (table(x) > 0) | (x[:4] < -1)),
    "bitwise_not": chosen(lambda x: ~(table(x) > 0)),
    "bitwise_xor": chosen(lambda x: (table(x) > 0) ^ MASK),
}

REDUCTIONS: dict[str, Function] = {
    "of a number": lambda x: x[0].exp().sum(-1) + x[1].logsumexp(0) + x[2].softmax(-1),
    "sum": lambda x: table(x).sum(),
    "sum, last": lambda x: table(x).sum(-1),
    "sum, kept": lambda x: cube(x).sum((0, -1), keepdim=True),
    "sum, two": lambda x: cube(x).sum((-3, 1)),
    "sum, of a mask": lambda x: (table(x) > 0).sum(0) * x[:4],
    "sum, of a scalar": lambda x: x[3].sum(),
    "sum, long": lambda x: torch.outer(x[:2], torch.cat([x, x[:9]])).sum(-1),
    "sum, long, all": lambda x: (torch.outer(x, x[:5]) ** 2).sum(),
    "mean": lambda x: table(x).mean(),
    "mean, first": lambda x: table(x).mean(0),
    "mean, kept": lambda x: cube(x).mean((1, -1), keepdim=True),
    "var": lambda x: table(x).var(),
    "var, population": lambda x: table(x).var(-1, correction=0),
    "var, kept": lambda x: cube(x).var((0, 2), correction=2, keepdim=True),
    "std": lambda x: table(x).std(0, correction=0),
    "var_mean": lambda x: torch.cat(torch.var_mean(table(x), -1, correction=0)),
    "var_mean, kept": lambda x: torch.cat(torch.var_mean(table(x), 0, keepdim=True)),
    "layer_norm": lambda x: functional.layer_norm(table(x), (4,), x[:4], x[4:8]),
    "amax": lambda x: cube(x).amax((0, -1)),
    "amax, kept": lambda x: table(x).amax(-1, keepdim=True),
    "amax, all": lambda x: table(x).amax(),
    "amin": lambda x: cube(x).amin((0, 1), keepdim=True),
    "amin, last": lambda x: table(x).amin(-1),
    "max": lambda x: table(x).max() * x[:2],
    "min": lambda x: table(x).min() * x[:2],
    "prod": lambda x: above(x)[:5].prod(),
    "prod, last": lambda x: table(x).prod(-1),
    "prod, kept": lambda x: table(x).prod(0, keepdim=True),
    "any": chosen(lambda x: (table(x) > 0.8).any(-1, keepdim=True)),
    "any, all": chosen(lambda x: (table(x) > 2.5).any()),
    "all": chosen(lambda x: (table(x) > -0.5).all(0)),
    "all, all": chosen(lambda x: (table(x) > -3).all()),
    "logsumexp": lambda x: table(x).logsumexp((0, 1)),
    "logsumexp, kept": lambda x: table(x).logsumexp(-2, keepdim=True),
    "softmax": lambda x: table(x).softmax(-1),
    "log_softmax": lambda x: cube(x).log_softmax(1),
    "norm": lambda x: torch.linalg.vector_norm(table(x), dim=-1),
    "cumsum": lambda x: table(x).cumsum(-1),
    "cumsum, first": lambda x: cube(x).cumsum(0),
    "cumprod": lambda x: (1 + 0.1 * table(x)).cumprod(0),
    "cumprod, last": lambda x: above(table(x)).cumprod(-1),
    "logcumsumexp": lambda x: table(x).exp().cumsum(-1).log(),
}

PRODUCTS: dict[str, Function] = {
    "mm": lambda x: table(x) @ table(x).T,
    "mm, data": lambda x: DATA.to(x).T @ table(x),
    "mm, column": lambda x: table(x) @ x[:4, None],
    "mm, then more": lambda x: torch.tanh(table(x) @ table(x).T + x[:3]) * x[:3, None],
    "mv": lambda x: table(x) @ x[4:8],
    "dot": lambda x: torch.dot(x[:6], x[6:]),
    "bmm": lambda x: torch.bmm(cube(x), cube(x).mT),
    "bmm, data": lambda x: cube(x) @ DATA.to(x)[:2, :3],
    "addmm": lambda x: torch.addmm(x[:3], table(x), DATA.to(x).T, beta=0.5, alpha=-2.0),
    "addmm, plain": lambda x: functional.linear(table(x), DATA.to(x), x[:3]),
    "baddbmm": lambda x: torch.baddbmm(x[:3], cube(x), cube(x).mT, beta=2.0, alpha=0.5),
    "einsum": lambda x: torch.einsum("ijk,ilk,j->il", cube(x), cube(x), x[:3]),
    "triangular": lambda x: torch.linalg.solve_triangular(
        table(x)[:, :3].tril(-1) + torch.eye(3).to(x), x[:6].reshape(3, 2), upper=False, unitriangular=True
    ),
    "triangular, right": lambda x: torch.linalg.solve_triangular(
        table(x)[:, :3].triu(1) + 2 * torch.eye(3).to(x), x[:6].reshape(2, 3), upper=True, left=False
    ),
    "cholesky": lambda x: torch.linalg.cholesky(table(x) @ table(x).T + 2 * torch.eye(3).to(x)),
    "conv1d": lambda x: functional.conv1d(x.reshape(1, 2, 6), x[:6].reshape(1, 2, 3), x[:1], padding=1),
    "avg_pool2d": lambda x: functional.avg_pool2d(x.reshape(1, 1, 3, 4), 2, 1),
}

VIEWS: dict[str, Function] = {
    "view": lambda x: x.reshape(4, 3).reshape(2, -1, 3).exp(),
    "view, rows cut": lambda x: table(x).T.reshape(2, 6) * x[:6],
    "expand": lambda x: x[:3, None].expand(2, 3, 4) * table(x),
    "expand, kept": lambda x: x[:4].expand(3, -1) * table(x),
    "permute": lambda x: cube(x).permute(-1, 0, 1).exp(),
    "transpose": lambda x: cube(x).transpose(-1, 0).exp(),
    "t": lambda x: table(x).t().exp(),
    "unsqueeze": lambda x: table(x).unsqueeze(-1).exp(),
    "unsqueeze, middle": lambda x: table(x).unsqueeze(1).exp(),
    "squeeze": lambda x: x.reshape(1, 3, 1, 4).squeeze().exp(),
    "squeeze, one": lambda x: x.reshape(1, 3, 1, 4).squeeze(-2).exp(),
    "squeeze, two": lambda x: x.reshape(1, 3, 1, 4).squeeze((0, 2)).exp(),
    "select": lambda x: cube(x).select(-2, -1).exp(),
    "slice": lambda x: table(x)[1:, ::2].exp(),
    "slice, from behind": lambda x: cube(x)[:, -2:].exp(),
    "split": lambda x: torch.cat(table(x).split(3, -1)[::-1], -1),
    "split_with_sizes": lambda x: torch.cat(table(x).split([1, 3], -1)[::-1], -1),
    "chunk": lambda x: table(x).chunk(2, 1)[1].exp(),
    "unbind": lambda x: torch.stack(cube(x).unbind(-2)[::-1]),
    "flip": lambda x: cube(x).flip((0, -1)) * cube(x),
    "roll": lambda x: table(x).roll(1, -1) * table(x),
    "diagonal": lambda x: table(x).diagonal().exp(),
    "diagonal, above": lambda x: table(x).diagonal(1).exp(),
    "diagonal, below": lambda x: table(x).diagonal(-1).exp(),
    "diagonal, of three": lambda x: cube(x).diagonal(-1, 1, 2).exp(),
}


def recursion(x: Tensor) -> Tensor:
    """A tensor to which every step writes a row, from the row before."""
    result = torch.zeros_like(x)
    for t in range(len(x)):
        result = result.select_scatter(x[t] + 0.5 * result[t - 1] ** 2, 0, t)
    return result


PIECES: dict[str, Function] = {
    "tril": lambda x: table(x).tril(1).exp(),
    "triu": lambda x: table(x).triu(-1).exp(),
    "cat": lambda x: torch.cat([table(x), -x[:3, None], table(x)[:, 1:]], -1),
    "cat, first": lambda x: torch.cat([table(x), x[None, :4]]),
    "stack": lambda x: torch.stack([x[:6], x[6:].exp()], -1),
    "constant_pad_nd": lambda x: functional.pad(table(x), (1, 0, 0, 2), value=0.5) * 2,
    "constant_pad_nd, cut": lambda x: functional.pad(table(x), (-1, 2, 1, -1)).exp(),
    "diag_embed": lambda x: torch.diag_embed(x[:6].reshape(2, 3), -1),
    "copy": lambda x: torch.empty_like(table(x)).copy_(x[:4]) * 2,
    "slice_scatter": lambda x: torch.slice_scatter(table(x), -x[:6].reshape(3, 2), -1, 1, 3),
    "slice_scatter, strided": lambda x: torch.slice_scatter(table(x), -x[:6].reshape(3, 2), 1, 0, 4, 2),
    "select_scatter": lambda x: torch.select_scatter(table(x), x[:3].exp(), -1, -2),
    "diagonal_scatter": lambda x: torch.diagonal_scatter(table(x), x[:3].exp(), 1),
    "written twice": lambda x: torch.slice_scatter(torch.slice_scatter(x, x[:4].exp(), 0, 2, 6), -x[:3], 0, 5, 8),
    "written at every step": recursion,
    "written row by row": lambda x: recursion(table(x)),
    "a whole": lambda x: torch.slice_scatter(table(x), table(x).exp()) * 2,
    "read from a concatenation": lambda x: torch.cat([x[:3].exp(), -x[3:]])[2] * x,
    "read across a concatenation": lambda x: torch.cat([x[:5].exp(), -x[5:7], x[7:].sin()])[2:9] ** 2,
    "read inside of a piece": lambda x: torch.cat([x[:5].exp(), -x[5:]])[6:9] ** 2,
    "read from a stack": lambda x: torch.stack([x[:4], x[4:8].exp()], -1).select(-1, 1) * x[8:],
    "read in another dimension": lambda x: torch.stack([x[:4], x[4:8].exp()])[:, 2] * x[8:10],
    "slices of slices": lambda x: x[2:][1:8][2:][-3:].exp(),
    "neighbours": lambda x: (x[1:] - x[:-1]) ** 2 * x[1:],  # whose gradient is a sum of overlapping concatenations
    "neighbours of three": lambda x: (x[2:] - 2 * x[1:-1] + x[:-2]).exp(),
}

POSITIONS: dict[str, Function] = {
    "index": lambda x: x[:4][INDEX].exp(),
    "index, of rows": lambda x: table(x)[torch.tensor([2, -1, 0])].exp(),
    "index, of columns": lambda x: table(x)[:, torch.tensor([[3, -4], [1, 1]])].exp(),
    "index, two": lambda x: cube(x)[:, torch.tensor([[2], [-1]]), torch.tensor([0, 1, 1])].exp(),
    "index, by a mask": lambda x: table(x)[MASK].exp(),
    "index_put": lambda x: table(x).index_put((torch.tensor([2, -3]),), x[:4]),
    "index_put, added": lambda x: table(x).index_put((INDEX[:4] % 3, INDEX[:4]), x[:4], accumulate=True),
    "index_put, by a mask": lambda x: table(x).index_put((MASK,), x[:4]),
    "gather": lambda x: table(x).gather(-1, INDEX.reshape(3, 4)).exp(),
    "gather, first": lambda x: table(x).gather(0, INDEX[:4][None] % 3).exp(),
    "index_select": lambda x: table(x).index_select(-1, INDEX[:5]).exp(),
    "index_add": lambda x: table(x).index_add(-1, INDEX[:4], table(x), alpha=0.5),
    "embedding": lambda x: functional.embedding(INDEX[:4].reshape(2, 2) % 3, table(x)).exp(),
    "scatter_add": lambda x: x.new_zeros(3, 4).scatter_add(-1, INDEX.reshape(3, 4), table(x)),
    "scatter_add, smaller": lambda x: table(x).scatter_add(0, INDEX[:4].reshape(2, 2) % 3, x[:4].reshape(2, 2)),
    "scatter": lambda x: table(x).scatter(-1, torch.tensor([[1, 0], [3, 2], [0, 3]]), -x[:6].reshape(3, 2)),
    "scatter, a number": lambda x: table(x).scatter(0, torch.tensor([[1, 0, 2, 2]]), 2.5).exp(),
}


def definite(x: Tensor) -> Tensor:
    """A positive definite matrix of eight rows, too large to be factorised element by element."""
    return torch.outer(x[:8], x[:8]) + torch.diag(2 + x[4:12] ** 2)


def triangular(x: Tensor) -> Tensor:
    return definite(x).tril()


MATRICES: dict[str, Function] = {
    "cholesky": lambda x: torch.linalg.cholesky(definite(x)),
    "cholesky, upper": lambda x: torch.linalg.cholesky(definite(x), upper=True),
    "cholesky, batch": lambda x: torch.linalg.cholesky(torch.stack([definite(x), definite(-2 * x)])),
    "solve_triangular": lambda x: torch.linalg.solve_triangular(triangular(x), definite(x)[:, :3], upper=False),
    "solve_triangular, upper": lambda x: torch.linalg.solve_triangular(triangular(x).mT, x[:8, None], upper=True),
    "solve_triangular, right": lambda x: torch.linalg.solve_triangular(
        triangular(x), definite(x)[:2], upper=False, left=False
    ),
    "solve_triangular, unit": lambda x: torch.linalg.solve_triangular(
        triangular(0.1 * x), x[:8, None], upper=False, unitriangular=True
    ),
    "solve_triangular, batch": lambda x: torch.linalg.solve_triangular(
        triangular(x), torch.stack([x[:8, None], x[4:, None]]), upper=False
    ),
    "cholesky_solve": lambda x: torch.cholesky_solve(x[:8, None], torch.linalg.cholesky(definite(x))),
    "cholesky_solve, upper": lambda x: torch.cholesky_solve(
        x[:8, None], torch.linalg.cholesky(definite(x)).mT, upper=True
    ),
    "cholesky_inverse": lambda x: torch.cholesky_inverse(torch.linalg.cholesky(definite(x))),
    "new_empty_strided": lambda x: x[:3] * torch.ops.aten.new_empty_strided(x, [3], [1]).fill_(2.0),
}

GROUPS = {
    "functions": FUNCTIONS,
    "pointwise": POINTWISE,
    "logic": LOGIC,
    "reductions": REDUCTIONS,
    "products": PRODUCTS,
    "views": VIEWS,
    "pieces": PIECES,
    "positions": POSITIONS,
    "matrices": MATRICES,
}

# The rules that each group tests: its cases call all of them.
OWN_RULES = {
    "functions": {*UNARY, "digamma", "hardtanh"} - {"square"},
    "pointwise": {
        "add", "sub", "mul", "div", "pow", "maximum", "minimum", "clamp", "where", "_to_copy", "full_like", "clone",
        "alias",
    },
    "logic": {
        "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "logical_and", "logical_or", "logical_not", "logical_xor",
        "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor",
    },
    "reductions": {
        "sum", "mean", "var", "var_mean", "amax", "amin", "max", "min", "prod", "any", "cumsum", "cumprod",
    },
    "products": {"mm", "bmm", "addmm"},
    "views": {
        "view", "expand", "permute", "unsqueeze", "squeeze", "select", "slice", "split_with_sizes", "flip", "diagonal",
        "unbind",
    },
    "pieces": {"cat", "constant_pad_nd", "copy", "slice_scatter", "select_scatter", "diagonal_scatter"},
    "matrices": {"linalg_cholesky_ex", "linalg_solve_triangular", "new_empty_strided"},
    "positions": {"index", "index_put", "gather", "index_select", "embedding", "scatter_add", "scatter"},
}  # fmt: skip


class Together:
    """All cases of a group as one function of a vector, each of 12 numbers of its own: values, then all gradients."""

    def __init__(self, cases, dtype):
        self.functions, self.dtype = list(cases), dtype
        x = torch.linspace(0.1, 0.9, SIZE, dtype=dtype)
        self.sizes = [f(x).numel() for f in self.functions]
        self.inputs = SIZE * len(self.functions)
        self.size = sum(self.sizes) + self.inputs

    def __call__(self, q):
        def weighed(x):
            values = torch.cat([f(part).reshape(-1) for f, part in zip(self.functions, x.split(SIZE), strict=True)])
            return (values * torch.linspace(0.5, 1.5, values.numel(), dtype=x.dtype)).sum(), values

        gradient, values = torch.func.grad(weighed, has_aux=True)(q[: self.inputs])
        return torch.cat([values, gradient])

    def lowered(self):
        """The density, which is the sum, and all numbers in the place of its gradient."""
        return lowered(lambda q: padded(self(q), self.size), self.size, self.dtype)

    def parts(self, found):
        """Values and gradient (chain, ...) of each case."""
        values, gradients = found.split([sum(self.sizes), self.inputs], -1)
        return list(zip(values.split(self.sizes, -1), gradients.split(SIZE, -1), strict=True))


def check(group: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of all cases of a group are torch's, and every rule of the group is called.

    All cases become one function and one compilation. Tolerance, relative to the largest number of a case: 2e-6 in
    float32 for values and 2e-5 for gradients, 1e-12 and 1e-11 in float64.
    """
    called: set[str] = set()

    def spy(name, rule):
        return lambda *args, **kwargs: (called.add(name), rule(*args, **kwargs))[1]

    for name, rule in list(RULES.items()):
        monkeypatch.setitem(RULES, name, spy(name, rule))
    together = Together(GROUPS[group].values(), dtype)
    outputs = together.lowered()
    assert OWN_RULES[group] - called == set()  # a case of this group calls each of them
    without_optimisation(monkeypatch)
    call = Compiled(emit(outputs, ["value", "grad"]), together.size, dtype, CHAINS)
    q = torch.randn(CHAINS, together.size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    results = together.parts(call.gradient(q)[1])
    expected = together.parts(torch.stack([together(row) for row in q]))
    limit = TOLERANCE[dtype]
    for name, found, wanted in zip(GROUPS[group], results, expected, strict=True):
        for part, x, y, bound in zip(("values", "gradient"), found, wanted, (limit, 10 * limit), strict=True):
            torch.testing.assert_close(
                x, y, rtol=bound, atol=bound * (1 + float(y.abs().max())),
                msg=lambda text, part=part, name=name: f"{part} of {name}: {text}",
            )  # fmt: skip


both = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def refused(function: Function, message: str) -> None:
    """An operation that no rule covers, as a function of 12 numbers to as many, is named in the error."""
    with pytest.raises(Unsupported, match=message):
        lowered(function, SIZE, torch.float64)
