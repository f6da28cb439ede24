"""What a narrower dtype would lose of a column: values that it merges, digits that it drops, numbers beyond its range.

float32 has 24 bits: seconds since 1970 become equal where they are less than a minute apart. Tables choose their dtype
with `holding`, and refuse a dtype that a caller chose where `damage` finds one.
"""

import math

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DROPPED = 1e-5  # of a column's spread: a rounding error that is worth float64
MERGED = 0.01  # of the different values of a column: those that become equal in a dtype that is refused
NOISY = 1e-4  # of the noise of a simulated number: a rounding error that is worth float64
RUINED = 1e-3  # of a column's spread: a rounding error that is refused


def holding(columns: Tensor, dtype: torch.dtype) -> torch.dtype:
    """``dtype``, or float64 where it would make two values of one of the columns (N, D) equal, or lose their digits.

    Integers are compared as they are, without a way through float64.
    """
    if columns.dtype == dtype:
        return dtype
    for column in columns.unbind(1):
        distinct, narrow = _narrowed(column, dtype)
        if _beyond_range(distinct, narrow) or _merged(narrow) or _rounding(column, dtype) > DROPPED:
            return torch.float64
    return dtype


def damage(columns: Tensor, names: tuple[str, ...], dtype: torch.dtype) -> str | None:
    """What ``dtype`` would do to the first of the columns (N, D) that it damages, as a phrase; None if to none.

    Damage is a number beyond the range, whole numbers that become equal, more than one in a hundred other values that
    do, or a rounding error of more than a thousandth of the column's spread. That float32 makes a few of 100,000
    measurements of 15 digits equal is none.
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
                f"would make {left} of the {len(distinct)} different values"
                if left < len(distinct)
                else "would lose the digits"
            )
            low, high = distinct[0].item(), distinct[-1].item()
            return f"{dtype} {lost} of column '{name}', which are from {low:.17g} to {high:.17g}"
    return None


def undamaged(columns: Tensor, dtype: torch.dtype, noise: Tensor | float = math.inf) -> torch.dtype:
    """``dtype``, or float64 where it would damage the columns (N, D), or mostly round them by 1e-4 of the noise."""
    rounding = (columns.to(dtype).double() - columns.double()).abs()
    lost = float((rounding / noise).median()) > NOISY
    for column in columns.unbind(1):
        lost = lost or _beyond_range(*_narrowed(column, dtype)) or _rounding(column, dtype) > RUINED
    return torch.float64 if lost else dtype


def _narrowed(column: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The different values of a column, increasing, and what the dtype makes of them."""
    distinct = torch.unique(column.detach(), sorted=True)
    return distinct, distinct.to(dtype)


def _merged(narrow: Tensor) -> bool:
    return bool((narrow[1:] == narrow[:-1]).any())


def _beyond_range(distinct: Tensor, narrow: Tensor) -> bool:
    """Infinite, or below the smallest number that has all its digits."""
    small = (distinct != 0) & (narrow.abs() < torch.finfo(narrow.dtype).tiny)
    return bool((small | ~torch.isfinite(narrow)).any())


def _extreme(distinct: Tensor) -> float:
    size = distinct.double().abs()
    return float(distinct[size.argmax() if float(size.max()) > 1 else torch.where(size > 0, size, torch.inf).argmin()])


def _rounding(column: Tensor, dtype: torch.dtype) -> float:
    """The upper quartile of rounding errors, in units of the interquartile range, or of the range where that is 0.

    Quartiles, as a marker far away has a spread of its own, and a long tail large errors of its own.
    """
    exact = column.detach().double()
    ordered, error = exact.sort().values, (exact.to(dtype).double() - exact).abs().sort().values
    low, high = len(ordered) // 4, min((3 * len(ordered)) // 4, len(ordered) - 1)
    error, spread = error[high], ordered[high] - ordered[low]
    spread = spread if spread > 0 else ordered[-1] - ordered[0]
    return float(error / spread) if spread > 0 else 0.0
