"""Networks like inputs and targets of mean 0 and standard deviation 1; people like their own units.

Fit a `Standardization` on the training rows alone, train on `s.x(x)` and `s.y(y)`, and bring the predictive
distribution back with `s.undo(distribution)`. A log score in standardised units is not comparable between splits
or with the literature: it lacks log y_scale. `undo` returns a distribution in the units of y, of the same family,
so its `log_prob`, `mean`, `cdf` and the rest are right and stay analytic.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.data.affine import affine
from posterity.data.observations import Observations


@dataclass(frozen=True, eq=False)
class Standardization:
    """The map x -> (x - x_loc) / x_scale, y -> (y - y_loc) / y_scale, and its inverse.

    Args:
        x_loc, x_scale: shape (D,), in the units of x; or () for images and sequences, x of any shape.
        y_loc, y_scale: shape () for one target, (T,) for several, in the units of y.

    Results have the dtype and device of what is mapped; integers become the dtype of the map.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or a scale that is not positive.
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

        Raises:
            ValueError: a column is constant; the message names it.

        >>> data = Observations([[1.0], [3.0]], [10.0, 30.0])
        >>> s = Standardization.fit(data)
        >>> s.x(data.x)[:, 0], s.y(data.y)
        (tensor([-1.,  1.]), tensor([-1.,  1.]))
        """
        x_loc, x_scale = _moments(observations.x, observations.x_names)
        y_loc, y_scale = _moments(observations.y, observations.y_names)
        return cls(x_loc, x_scale, y_loc, y_scale)

    @classmethod
    def whole(cls, x: Tensor, y: Tensor) -> "Standardization":
        """One mean and standard deviation for all of ``x``, and one for all of ``y``, whatever their shapes.

        For images (N, C, H, W), whose pixels are of one kind, and sequences (N, T, D) or (N, T).

        Raises:
            ValueError: one of them is constant, empty or not finite.

        >>> Standardization.whole(torch.tensor([[[0.0, 2.0]]]), torch.tensor([1.0, 5.0])).y_scale
        tensor(2.)
        """
        for name, values in (("x", x), ("y", y)):
            if not values.numel() or not bool(torch.isfinite(values).all()):
                raise ValueError(f"expected finite values of {name}, at least one, got shape {tuple(values.shape)}")
        x_loc, x_scale = _moments(x.reshape(-1), ("x",))
        y_loc, y_scale = _moments(y.reshape(-1), ("y",))
        return cls(x_loc, x_scale, y_loc, y_scale)

    @classmethod
    def identity(cls, features: int, targets: int = 1) -> "Standardization":
        """The map that changes nothing, for `features` inputs and `targets` targets."""
        y_shape = () if targets == 1 else (targets,)
        return cls(torch.zeros(features), torch.ones(features), torch.zeros(y_shape), torch.ones(y_shape))

    def x(self, x: Tensor) -> Tensor:
        """Inputs of shape (..., D), or any where it is for all of x, in units of their spread, from their own units."""
        self._check("x", x, self.x_loc)
        x = _floating(x, self.x_loc)
        return (x - self.x_loc.to(x)) / self.x_scale.to(x)

    def y(self, y: Tensor) -> Tensor:
        """Targets of any shape (one target) or of shape (..., T), in units of their spread."""
        self._check("y", y, self.y_loc)
        y = _floating(y, self.y_loc)
        return (y - self.y_loc.to(y)) / self.y_scale.to(y)

    def inverse_x(self, x: Tensor) -> Tensor:
        """Standardised inputs of shape (..., D), back in their own units."""
        self._check("x", x, self.x_loc)
        x = _floating(x, self.x_loc)
        return self.x_loc.to(x) + self.x_scale.to(x) * x

    def inverse_y(self, y: Tensor) -> Tensor:
        """Standardised targets of any shape (one target) or of shape (..., T), back in their own units."""
        self._check("y", y, self.y_loc)
        y = _floating(y, self.y_loc)
        return self.y_loc.to(y) + self.y_scale.to(y) * y

    def undo(self, distribution: Distribution) -> Distribution:
        """The distribution of y, from the distribution of (y - y_loc) / y_scale.

        The family and the class are kept (Pyro's stay Pyro's), and nothing branches on values, so `undo` can be
        called under `torch.func.vmap` and while a graph is captured, with validation off.

        Args:
            distribution: of one target, any batch and event shape; of T targets, event shape (..., T).

        Raises:
            ValueError: the family is not closed under a change of location and scale, or is not known to be; or
                the event shape does not end with the number of targets.

        >>> s = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(100.0), torch.tensor(15.0))
        >>> s.undo(torch.distributions.Normal(torch.tensor(2.0), torch.tensor(0.5)))
        Normal(loc: 130.0, scale: 7.5)
        """
        if self.y_loc.ndim == 1 and distribution.event_shape[-1:] != self.y_loc.shape:
            raise ValueError(
                f"expected a distribution of event shape ({len(self.y_loc)},), one for each target, "
                f"got {tuple(distribution.event_shape)}"
            )
        return affine(distribution, self.y_loc, self.y_scale)

    def _check(self, label: str, values: Tensor, loc: Tensor) -> None:
        if loc.ndim == 1 and values.shape[-1:] != loc.shape:
            raise ValueError(f"expected {label} of shape (..., {len(loc)}), got {tuple(values.shape)}")


def _floating(values: Tensor, like: Tensor) -> Tensor:
    return values if values.is_floating_point() else values.to(like.dtype)


def _moments(values: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    values = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    exact = values.double()  # float32 would lose the spread of a narrow column far from zero
    loc, scale = exact.mean(0), exact.std(0, correction=0)
    constant = ((values.amax(0) == values.amin(0)) | ~(scale.to(values) > 0)).reshape(-1)
    if constant.any():
        column = int(constant.int().argmax())
        value = values.reshape(len(values), -1)[0, column].item()
        raise ValueError(f"expected columns that vary, got {value:g} in all {len(values)} rows of '{names[column]}'")
    return loc.to(values), scale.to(values)
