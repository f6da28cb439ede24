r"""Noise regularisation: normal noise, drawn anew in every training step, on the inputs and targets of a table.

Maximum likelihood of a flexible conditional density puts narrow peaks on the training rows. Noise of standard deviation
$h_x$ on x and $h_y$ on y smooths the density: up to second order in h, the expected log density becomes

$$\log p(y|x) + \tfrac{h_y^2}{2}\, \partial_y^2 \log p(y|x) + \tfrac{h_x^2}{2}\, \nabla_x^2 \log p(y|x),$$

(Rothfuss et al. 2019, "Noise regularization for conditional density estimation", arXiv:1907.08982). The fit converges
to the truth if h falls with the number of rows, such as by `rule_of_thumb`. Scales are in units of the standard
deviation of each column, so that a change of units changes nothing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from posterity.inference.training.units import spread_of
from posterity.validation import check_integer, check_number, shown

RULE = "rule_of_thumb"
NoiseScale = float | tuple[float, float] | str


def rule_of_thumb(rows: int, dimensions: int, factor: float = 1.0) -> float:
    r"""The scale $c\, n^{-1/(4+d)}$ of the noise, in standard deviations: the rate of a kernel density estimate.

    ``rows`` is n, ``dimensions`` is d, the number of columns of x and y together, and ``factor`` is c. Rothfuss et al.
    2019 compare factors of 0.5, 0.7 and 1 by cross-validation.

    Raises:
        ValueError: ``rows`` or ``dimensions`` below 1, or a negative ``factor``.

    >>> round(rule_of_thumb(1000, 2), 3)
    0.316
    """
    check_integer("rows", rows, 1)
    check_integer("dimensions", dimensions, 1)
    return check_number("factor", factor, "[0, inf)") * rows ** (-1 / (4 + dimensions))


def check_noise(noise: Any) -> None:
    """``ValueError`` unless ``noise`` is None, a number, a pair of numbers (x, y) or "rule_of_thumb"."""
    if noise is None or (isinstance(noise, str) and noise == RULE):
        return
    pair = noise if isinstance(noise, tuple | list) else (noise, noise)
    if len(pair) != 2 or isinstance(noise, str):
        raise ValueError(f"expected noise to be a number, a pair (x, y), {RULE!r} or None, got {shown(noise)}")
    for value in pair:
        check_number("noise", value, "[0, inf)")


class DataNoise:
    """Noise on the arguments ``args`` of a model, y last, that are floating tensors with one row per observation.

    The standard deviation is ``noise`` times that of each column of a table (N,) or (N, D), and of all values of other
    tensors. ``support`` is that of the likelihood of y. ``scored`` is False for elements of y that the model masks, and
    whose values do not count; rows of which all are masked do not count for other arguments either.

    Raises:
        ValueError: noise on y that is not on the real line, or the rule of thumb for arguments that are not tables.
    """

    def __init__(
        self,
        noise: NoiseScale,
        args: tuple[Any, ...],
        rows: int,
        support: constraints.Constraint,
        scored: Tensor | None = None,
    ) -> None:
        noisy = [value if _is_noisy(value, rows) else None for value in args]
        if noise == RULE:
            if any(value is not None and value.ndim > 2 for value in noisy):
                raise ValueError(f"expected numbers for noise of arguments that are not tables, got {RULE!r}")
            noise = rule_of_thumb(rows, sum(value[0].numel() for value in noisy if value is not None))
        on_x, on_y = noise if isinstance(noise, tuple | list) else (noise, noise)
        if on_y and not (noisy[-1] is not None and _is_real(support)):
            raise ValueError(
                f"expected noise of 0 on y, whose likelihood is not a density on the real line, got {on_y}: set "
                f"noise=({on_x}, 0)"
            )
        shares = [float(on_x)] * (len(args) - 1) + [float(on_y)]
        by_row = None if scored is None or not scored.ndim else scored.reshape(len(scored), -1).any(1)
        counted = [by_row] * (len(args) - 1) + [scored]
        self.scales = [
            None if value is None or not share else share * _spread(value, there)
            for value, share, there in zip(noisy, shares, counted, strict=True)
        ]

    def __call__(self, values: list[Any], lead: tuple[int, ...], generator: torch.Generator) -> list[Any]:
        """``values``, one for each argument, of shape (*lead, ...), with new noise."""
        return [
            value if scale is None else value + scale * _normal(value, lead, generator)
            for value, scale in zip(values, self.scales, strict=True)
        ]


def _is_noisy(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0 and len(value) == rows


def _is_real(support: constraints.Constraint) -> bool:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support is constraints.real or support is constraints.real_vector


def _spread(value: Tensor, scored: Tensor | None) -> Tensor:
    fits = scored is not None and scored.shape == value.shape[: scored.ndim]
    there = scored[(...,) + (None,) * (value.ndim - scored.ndim)] if fits and scored is not None else None
    return spread_of(value, there, (0,) if value.ndim <= 2 else tuple(range(value.ndim))).to(value)


def _normal(value: Tensor, lead: tuple[int, ...], generator: torch.Generator) -> Tensor:
    shape = (*lead, *value.shape[len(lead) :])
    return torch.randn(shape, generator=generator, dtype=value.dtype).to(value.device)
