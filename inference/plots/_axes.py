"""What the plots share: axes, colours that a colour-blind reader can tell apart, and checks of their input."""

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor

# Okabe & Ito's palette (jfly.uni-koeln.de/color), safe for all common kinds of colour blindness.
BLUE, ORANGE, GREEN, SKY, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7"
INK = "#222222"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)

Values = Tensor | np.ndarray


def axes(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def vector(name: str, values: Values, length: int | None = None) -> np.ndarray:
    """Finite values (N,) as float64; ``ValueError`` for another shape or length."""
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=float)
    if array.ndim != 1 or (length is not None and len(array) != length):
        wanted = "(N,)" if length is None else f"({length},)"
        raise ValueError(f"expected {name} of shape {wanted}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite {name}, got {int((~np.isfinite(array)).sum())} nan or infinite values")
    return array


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """A colour thinned with white. Opaque, so that a legend shows the shade that is seen where areas overlap."""
    red, green, blue = to_rgb(colour)
    return 1 - strength * (1 - red), 1 - strength * (1 - green), 1 - strength * (1 - blue)


def points(ax: Axes, x: np.ndarray, y: Values | None, x_data: Values | None, colour: str = INK) -> None:
    """Data over a band or an image: at ``x_data``, or at the x of the prediction."""
    if y is None:
        if x_data is not None:
            raise ValueError("expected y beside x_data, got None")
        return
    at = x if x_data is None else vector("x_data", x_data)
    up = vector("y", y, len(at))
    size = float(np.clip(2500 / len(at), 5, 24))
    edge = 0.4 if size > 12 else 0.0
    ax.scatter(at, up, s=size, color=colour, edgecolors="white", linewidths=edge, zorder=4, label="data")
