"""Standardisation of inputs and targets to mean 0 and standard deviation 1, and its inverse for predictions.

Fit a `Standardization` on the training rows alone, train on `s.x(x)` and `s.y(y)`, and transform the predictive
distribution to the units of y with `s.undo(distribution)`. A log score in standardised units is not comparable between
splits or with the literature, since it lacks log y_scale. `undo` returns a distribution of the same family in the units
of y, whose `log_prob`, `mean` and `cdf` stay analytic.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.data.affine import affine
from posterity.data.observations import Observations, exact_tensor
from posterity.validation import check_finite, check_floating, check_integer, check_real, shown

ROUNDED = 1e-4  # standard deviations: largest shift of the mean by rounding to the dtype of a table


@dataclass(frozen=True, eq=False)
class Standardization:
    """The map x -> (x - x_loc) / x_scale, y -> (y - y_loc) / y_scale, and its inverse.

    Results have the wider dtype of the map and the mapped values, so that a column far from zero keeps its digits:
    standardise first, convert to a narrower dtype afterwards. Integers are mapped in float64 and returned in the dtype
    of the map. The device is that of the mapped values.

    Args:
        x_loc, x_scale: shape (D,), in units of x; or () for x of any shape, such as images and sequences.
        y_loc, y_scale: shape () for one target, (T,) for several, in units of y.

    Raises:
        ValueError: a tensor that is not floating, shapes that do not fit, values that are not finite, or a scale that
            is not positive.
    """

    x_loc: Tensor
    x_scale: Tensor
    y_loc: Tensor
    y_scale: Tensor

    def __post_init__(self) -> None:
        for label, loc, scale, dims in (
            ("x", self.x_loc, self.x_scale, (0, 1)),
            ("y", self.y_loc, self.y_scale, (0, 1)),
        ):
            for part, values in (("loc", loc), ("scale", scale)):
                check_floating(f"{label}_{part}", values)
            if loc.ndim not in dims or loc.shape != scale.shape:
                shape = "() or (features,)" if label == "x" else "() or (targets,)"
                raise ValueError(
                    f"expected {label}_loc and {label}_scale of one shape {shape}, "
                    f"got {tuple(loc.shape)} and {tuple(scale.shape)}"
                )
            if not (torch.isfinite(loc).all() and torch.isfinite(scale).all() and (scale > 0).all()):
                raise ValueError(
                    f"expected a finite {label}_loc and a finite positive {label}_scale, "
                    f"got {loc.tolist()} and {scale.tolist()}"
                )

    @classmethod
    def fit(cls, observations: Observations) -> "Standardization":
        """Means and standard deviations (divisor N) of the columns of `observations`.

        They have the dtype of the table, or float64 if that dtype would round the mean by more than 1e-4 standard
        deviations, as for a float32 table far from zero. Models of such a table then compute in float64.

        Raises:
            ValueError: a column is constant; the message names it.

        >>> data = Observations([[1.0], [3.0]], [10.0, 30.0])
        >>> s = Standardization.fit(data)
        >>> s.x(data.x)[:, 0], s.y(data.y)
        (tensor([-1.,  1.]), tensor([-1.,  1.]))
        """
        if not isinstance(observations, Observations):
            raise ValueError(f"expected observations to be Observations, got {type(observations).__name__}")
        x_loc, x_scale = _moments(observations.x, observations.x_names)
        y_loc, y_scale = _moments(observations.y, observations.y_names)
        return cls(x_loc, x_scale, y_loc, y_scale)

    @classmethod
    def whole(cls, x: Tensor, y: Tensor) -> "Standardization":
        """One mean and standard deviation for all values of ``x``, and one for all values of ``y``, of any shape.

        For images (N, C, H, W), and sequences (N, T, D) or (N, T).

        Raises:
            ValueError: one of them is constant, empty or not finite.

        >>> Standardization.whole(torch.tensor([[[0.0, 2.0]]]), torch.tensor([1.0, 5.0])).y_scale
        tensor(2.)
        """
        for name, values in (("x", x), ("y", y)):
            check_real(name, values)
            if not values.numel():
                raise ValueError(f"expected {name} with at least one value, got shape {tuple(values.shape)}")
            check_finite(name, values)
        x_loc, x_scale = _moments(x.reshape(-1), ("x",))
        y_loc, y_scale = _moments(y.reshape(-1), ("y",))
        return cls(x_loc, x_scale, y_loc, y_scale)

    @classmethod
    def identity(cls, features: int, targets: int = 1) -> "Standardization":
        """The identity map, for `features` inputs and `targets` targets.

        Raises:
            ValueError: `features` or `targets` below 1.
        """
        check_integer("features", features, 1)
        check_integer("targets", targets, 1)
        y_shape = () if targets == 1 else (targets,)
        return cls(torch.zeros(features), torch.ones(features), torch.zeros(y_shape), torch.ones(y_shape))

    def x(self, x: Tensor) -> Tensor:
        """Standardised inputs, from inputs (..., D) in their own units, or of any shape if `x_loc` has shape ()."""
        x, loc, scale, dtype = _together("x", x, self.x_loc, self.x_scale)
        return ((x - loc) / scale).to(dtype)

    def y(self, y: Tensor) -> Tensor:
        """Standardised targets, from targets of any shape (one target) or (..., T) in their own units."""
        y, loc, scale, dtype = _together("y", y, self.y_loc, self.y_scale)
        return ((y - loc) / scale).to(dtype)

    def inverse_x(self, x: Tensor) -> Tensor:
        """Inputs in their own units, from standardised inputs (..., D)."""
        x, loc, scale, dtype = _together("x", x, self.x_loc, self.x_scale)
        return (loc + scale * x).to(dtype)

    def inverse_y(self, y: Tensor) -> Tensor:
        """Targets in their own units, from standardised targets of any shape (one target) or (..., T)."""
        y, loc, scale, dtype = _together("y", y, self.y_loc, self.y_scale)
        return (loc + scale * y).to(dtype)

    def undo(self, distribution: Distribution) -> Distribution:
        """The distribution of y, from the distribution of (y - y_loc) / y_scale.

        The family and the class are kept (Pyro's stay Pyro's), in the wider dtype of both. Nothing branches on values,
        so `undo` can be called under `torch.func.vmap` and while a graph is captured, with validation off.

        Args:
            distribution: of one target, any batch and event shape; of T targets, event shape (..., T).

        Raises:
            ValueError: the family is not closed under a change of location and scale, or is not known to be; or
                the event shape does not end with the number of targets.

        >>> s = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(100.0), torch.tensor(15.0))
        >>> s.undo(torch.distributions.Normal(torch.tensor(2.0), torch.tensor(0.5)))
        Normal(loc: 130.0, scale: 7.5)
        """
        if not isinstance(distribution, Distribution):
            raise ValueError(f"expected distribution to be a distribution of torch or Pyro, got {shown(distribution)}")
        if self.y_loc.ndim == 1 and distribution.event_shape[-1:] != self.y_loc.shape:
            raise ValueError(
                f"expected a distribution of event shape ({len(self.y_loc)},), one for each target, "
                f"got {tuple(distribution.event_shape)}"
            )
        return affine(distribution, self.y_loc, self.y_scale)


def _together(label: str, values: Any, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:
    """Values, loc and scale in the dtype of the computation, on the device of the values, and the result's dtype."""
    if not isinstance(values, Tensor):
        values = exact_tensor(label, values)
    check_real(label, values)
    if loc.ndim == 1 and values.shape[-1:] != loc.shape:
        raise ValueError(f"expected {label} of shape (..., {len(loc)}), got {tuple(values.shape)}")
    if values.is_floating_point():
        inside = result = torch.promote_types(values.dtype, loc.dtype)
    else:
        inside, result = torch.float64, loc.dtype
    return values.to(inside), loc.to(values.device, inside), scale.to(values.device, inside), result


def _moments(values: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    exact = values.double()  # float32 would lose the digits of a narrow column far from zero
    low, high = exact.amin(0), exact.amax(0)
    size = torch.maximum(low.abs(), high.abs())
    unit = torch.where(size > 0, size, 1.0)  # squares of 1e-200 and 1e200 are 0 and infinite
    loc, scale = exact.mean(0), (exact / unit).std(0, correction=0) * unit
    loc = torch.where(torch.isfinite(loc), loc, (exact / unit).mean(0) * unit)  # the sum may overflow, too
    constant = ((low == high) | ~(scale > 0)).reshape(-1)
    if constant.any():
        column = int(constant.int().argmax())
        value = values.reshape(len(values), -1)[0, column].item()
        raise ValueError(f"expected columns that vary, got {value:g} in all {len(values)} rows of '{names[column]}'")
    limits = torch.finfo(dtype)
    rounded = (loc.abs() * limits.eps / 2 > ROUNDED * scale) | (scale < limits.tiny) | (scale > limits.max)
    if rounded.any():
        dtype = torch.float64
    return loc.to(dtype), scale.to(dtype)
