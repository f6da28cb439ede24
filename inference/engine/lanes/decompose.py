"""Operations without a rule in `lower`, written in terms of operations that have one."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, decomposition_table
from torch.utils import _pytree as pytree

aten = torch.ops.aten
# Operations that torch's "core" table keeps whole, for compilers with fast kernels for them.
KEPT_WHOLE = (
    "native_layer_norm", "native_group_norm", "gelu", "leaky_relu", "linalg_vector_norm", "repeat",
)  # fmt: skip

# Operations that torch would decompose: `unbind` with an import of a second, `select_scatter` element by element.
RULED = (aten.unbind.int, aten.select_scatter.default)

CASTS = ("type_casts", "elementwise_type_promotion_wrapper")  # of torch, around a decomposition

LARGEST = 6  # rows of the largest matrix that is factorised or solved element by element


@functools.cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """The table of decompositions for `make_fx`."""
    table = dict(core_aten_decompositions())
    for name in KEPT_WHOLE:
        packet, _, overload = name.partition(".")
        operation = getattr(getattr(aten, packet), overload or "default")
        if operation in decomposition_table:
            table[operation] = decomposition_table[operation]
    for operation in RULED:
        table.pop(operation, None)
    table = {operation: _in_one_precision(function) for operation, function in table.items()}
    return table | {getattr(aten, function.__name__).default: function for function in ADDED}


def _in_one_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decomposition that leaves out torch's casts where all its tensors are floating: a model has one precision.

    The casts import sympy or the compiler of torch, which takes between a quarter of a second and two.
    """
    inner = inspect.unwrap(function)
    if not any(name in code for name in CASTS for code in _layers(function)):
        return function

    def without_casts(*args: Any, **kwargs: Any) -> Any:
        tensors = [x for x in pytree.arg_tree_leaves(*args, **kwargs) if isinstance(x, Tensor)]
        return (inner if all(x.is_floating_point() for x in tensors) else function)(*args, **kwargs)

    return without_casts


def _layers(function: Any) -> Iterator[str]:
    """The qualified names in the code of a function and of the functions that it wraps."""
    while function is not None:
        code = getattr(function, "__code__", None)
        yield code.co_qualname if code is not None else ""
        function = getattr(function, "__wrapped__", None)


def linalg_solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """The solution of a triangular system by substitution, row by row."""
    if a.shape[-1] > LARGEST:
        return NotImplemented
    if not left:
        x = linalg_solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular)
        return x.mT
    size = a.shape[-1]
    rows: list[Tensor] = []
    for row in reversed(range(size)) if upper else range(size):
        known = slice(row + 1, size) if upper else slice(0, row)
        x = b[..., row, :].expand(*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), b.shape[-1])
        if rows:
            x = x - (a[..., row, known, None] * torch.stack(rows[::-1] if upper else rows, -2)).sum(-2)
        rows.append(x if unitriangular else x / a[..., row, row, None])
    return torch.stack(rows[::-1] if upper else rows, -2)


def linalg_cholesky_ex(a: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """The Cholesky factor, column by column; nan instead of an error if a matrix is not positive definite."""
    size = a.shape[-1]
    if size > LARGEST:
        return NotImplemented
    columns: list[Tensor] = []
    for column in range(size):
        rest = a[..., column:, column]
        if columns:
            left = torch.stack(columns, -1)
            rest = rest - (left[..., column:, :] * left[..., column, None, :]).sum(-1)
        rest = rest / rest[..., :1].sqrt()
        columns.append(torch.nn.functional.pad(rest, (column, 0)))
    factor = torch.stack(columns, -1)
    return factor.mT if upper else factor, a.new_zeros(a.shape[:-2], dtype=torch.int32)


def cholesky_solve(b: Tensor, factor: Tensor, upper: bool = False) -> Tensor:
    """The solution of a system with a matrix given by its Cholesky factor."""
    lower = factor.mT if upper else factor
    half = torch.linalg.solve_triangular(lower, b, upper=False)
    return torch.linalg.solve_triangular(lower.mT, half, upper=True)


def cholesky_inverse(factor: Tensor, upper: bool = False) -> Tensor:
    """The inverse of a matrix given by its Cholesky factor."""
    unit = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return cholesky_solve(unit.expand(factor.shape), factor, upper)


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """The softmax along one dimension."""
    exponentials = torch.exp(x - x.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim, keepdim=True)


def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """The logarithm of the softmax along one dimension."""
    shifted = x - x.amax(dim, keepdim=True)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


def elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    """The exponential linear unit."""
    return torch.where(x > 0, scale * x, alpha * scale * torch.expm1(input_scale * x))


def empty_like(x: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    """A tensor to be written to, which depends on no chain."""
    return torch.zeros(x.shape, dtype=dtype or x.dtype, device=x.device)


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> Any:  # fmt: skip
    """The convolution as a matrix product of the weight with patches of the image."""
    if transposed:
        return NotImplemented
    places, size = _places(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    patches = _patches(_padded(x, padding), places).reshape(len(x), groups, -1, places.shape[1])
    result = (weight.reshape(groups, len(weight) // groups, -1) @ patches).reshape(len(x), len(weight), *size)
    return result if bias is None else result + bias.reshape(-1, *[1] * len(size))


def convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias_sizes: Sequence[int] | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
    output_mask: Sequence[bool],
) -> Any:  # fmt: skip
    """The gradients of a convolution with respect to image, weight and bias; None for those not in ``output_mask``."""
    if transposed:
        return NotImplemented
    count = len(x)
    places, _ = _places(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    out = gradient.reshape(count, groups, len(weight) // groups, -1)
    flat = weight.reshape(groups, len(weight) // groups, -1)
    of_x = of_weight = of_bias = None
    if output_mask[0]:
        columns = (flat.mT @ out).reshape(count, x.shape[1], -1)
        of_x = _unpatched(columns, x.shape, places, padding)
    if output_mask[1]:
        patches = _patches(_padded(x, padding), places).reshape(count, groups, -1, places.shape[1])
        left = out.permute(1, 2, 0, 3).reshape(groups, len(weight) // groups, -1)
        of_weight = (left @ patches.permute(1, 0, 3, 2).reshape(groups, left.shape[2], -1)).reshape(weight.shape)
    if output_mask[2]:
        of_bias = gradient.sum([0, *range(2, gradient.ndim)])
    return of_x, of_weight, of_bias


def avg_pool2d(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """Average pooling without padding, as means of patches."""
    if any(padding) or ceil_mode or divisor_override is not None or x.ndim != 4:
        return NotImplemented
    places, size = _pool(x, kernel_size, stride)
    return _patches(x, places).mean(2).reshape(*x.shape[:2], *size)


def avg_pool2d_backward(
    gradient: Tensor, x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> Any:  # fmt: skip
    """The gradient of average pooling without padding."""
    if any(padding) or ceil_mode or divisor_override is not None or x.ndim != 4:
        return NotImplemented
    places, _ = _pool(x, kernel_size, stride)
    each = gradient.reshape(*x.shape[:2], 1, -1).expand(*x.shape[:2], *places.shape) / places.shape[0]
    return _unpatched(each.reshape(*x.shape[:2], -1), x.shape, places, (0, 0))


def _pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Positions as in `_places`; a single size holds for both dimensions, and the default stride is the kernel size."""
    kernel = list(kernel) * (2 // len(kernel))
    stride = list(stride) * (2 // len(stride)) if stride else kernel
    return _places(x.shape[2:], kernel, stride, (0, 0), (1, 1))


def _places(
    image: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[Tensor, tuple[int, ...]]:
    """Flat positions (kernel element, output element) in the padded image, and the size of the output."""
    sizes: list[int] = []
    total = torch.zeros((), dtype=torch.long)
    for side, k, s, p, d in zip(image, kernel, stride, padding, dilation, strict=True):
        out = (side + 2 * p - d * (k - 1) - 1) // s + 1
        along = d * torch.arange(k)[:, None] + s * torch.arange(out)
        # (kernel so far, new kernel, output so far, new output)
        before = total.reshape(-1, 1, max(1, math.prod(sizes)), 1) * (side + 2 * p)
        total = (before + along[None, :, None, :]).reshape(-1, math.prod(sizes) * out)
        sizes.append(out)
    return total, tuple(sizes)


def _padded(x: Tensor, padding: Sequence[int]) -> Tensor:
    return torch.nn.functional.pad(x, [p for side in reversed(padding) for p in (side, side)]) if any(padding) else x


def _patches(x: Tensor, places: Tensor) -> Tensor:
    """The patches of ``x`` at ``places``, (image, channel, kernel element, output element)."""
    return x.flatten(2)[:, :, places]


def _unpatched(columns: Tensor, shape: Sequence[int], places: Tensor, padding: Sequence[int]) -> Tensor:
    """The transpose of padding and `_patches`: adds ``columns`` (image, channel, kernel * output) to an empty image."""
    padded_size = [side + 2 * p for side, p in zip(shape[2:], padding, strict=True)]
    image = columns.new_zeros(*shape[:2], math.prod(padded_size))
    image = aten.index_put(image, [None, None, places.flatten()], columns, True).reshape(*shape[:2], *padded_size)
    for dim, (side, p) in enumerate(zip(shape[2:], padding, strict=True)):
        image = image.narrow(dim + 2, p, side)
    return image


ADDED = (
    linalg_solve_triangular, linalg_cholesky_ex, cholesky_solve, cholesky_inverse, _softmax, _log_softmax, elu,
    empty_like, convolution, convolution_backward, avg_pool2d, avg_pool2d_backward,
)  # fmt: skip
