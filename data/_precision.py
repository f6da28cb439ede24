"""Damage that a narrower dtype does to a column: values made equal, digits lost, numbers out of range.

float32 has 24 bits: times in seconds since 1970 that differ by less than a minute become equal. Tables choose their
dtype with `holding`, and refuse a dtype for which `damage` finds damage.
"""

import math

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DROPPED = 1e-5  # fraction of a column's spread: a larger rounding error selects float64
MERGED = 0.01  # fraction of the distinct values of a column: if more become equal, the dtype is refused
NOISY = 1e-4  # fraction of the noise of a simulated number: a larger rounding error selects float64
RUINED = 1e-3  # fraction of a column's spread: a dtype with a larger rounding error is refused


def holding(columns: Tensor, dtype: torch.dtype) -> torch.dtype:
    """``dtype``, or float64 if ``dtype`` would make values in one of the columns (N, D) equal or lose their digits.

    Integers are compared exactly, without conversion to float64.
    """
    if columns.dtype == dtype:
        return dtype
    for column in columns.unbind(1):
        distinct, narrow = _narrowed(column, dtype)
        if _beyond_range(distinct, narrow) or _merged(narrow) or _rounding(column, dtype) > DROPPED:
            return torch.float64
    return dtype


def damage(columns: Tensor, names: tuple[str, ...], dtype: torch.dtype) -> str | None:
    """The damage of ``dtype`` to the first damaged column among (N, D), as a phrase; None without damage.

    Damage is a number out of range, whole numbers that become equal, more than one in a hundred other values that
    become equal, or a rounding error above a thousandth of the column's spread. A few equal float32 values among
    100,000 measurements of 15 digits are not damage.
    """
    if columns.dtype == dtype:
        return None
    for column, name in zip(columns.unbind(1), names, strict=True):
        distinct, narrow = _narrowed(column, dtype)
        if _beyond_range(distinct, narrow):
            return f"{dtype} cannot hold {_extreme(distinct):g} in column '{name}'"
        whole = not distinct.is_floating_point() or bool((distinct == distinct.round()).all())
        left = int((narrow.diff() != 0).sum()) + 1
        merged = len(distinct) - left > (0 if whole else MERGED * len(distinct))
        if merged or _rounding(column, dtype) > RUINED:
            lost = (
                f"would leave {left} of the {len(distinct)} different values"
                if left < len(distinct)
                else "would lose the digits"
            )
            low, high = distinct[0].item(), distinct[-1].item()
            return f"{dtype} {lost} of column '{name}', which range from {low:.17g} to {high:.17g}"
    return None


def undamaged(columns: Tensor, dtype: torch.dtype, noise: Tensor | float = math.inf) -> torch.dtype:
    """``dtype``, or float64 if ``dtype`` would damage the columns (N, D), or round most values by 1e-4 of the noise."""
    rounding = (columns.to(dtype).double() - columns.double()).abs()
    lost = float((rounding / noise).median()) > NOISY
    for column in columns.unbind(1):
        lost = lost or _beyond_range(*_narrowed(column, dtype)) or _rounding(column, dtype) > RUINED
    return torch.float64 if lost else dtype


def _narrowed(column: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The distinct values of a column in ascending order, and the same values rounded to the dtype."""
    distinct = torch.unique(column.detach(), sorted=True)
    return distinct, distinct.to(dtype)


def _merged(narrow: Tensor) -> bool:
    return bool((narrow[1:] == narrow[:-1]).any())


def _beyond_range(distinct: Tensor, narrow: Tensor) -> bool:
    """Whether values are infinite, or below the smallest normal number of the dtype."""
    small = (distinct != 0) & (narrow.abs() < torch.finfo(narrow.dtype).tiny)
    return bool((small | ~torch.isfinite(narrow)).any())


def _extreme(distinct: Tensor) -> float:
    size = distinct.double().abs()
    return float(distinct[size.argmax() if float(size.max()) > 1 else torch.where(size > 0, size, torch.inf).argmin()])


def _rounding(column: Tensor, dtype: torch.dtype) -> float:
    """Upper quartile of the rounding errors, relative to the interquartile range, or to the range if that is 0.

    Quartiles are robust against a distant missing-value marker and against the larger errors of a long tail.
    """
    exact = column.detach().double()
    ordered, error = exact.sort().values, (exact.to(dtype).double() - exact).abs().sort().values
    low, high = len(ordered) // 4, min((3 * len(ordered)) // 4, len(ordered) - 1)
    error, spread = error[high], ordered[high] - ordered[low]
    spread = spread if spread > 0 else ordered[-1] - ordered[0]
    return float(error / spread) if spread > 0 else 0.0
