"""Style of the plots: settings that the user changed in ``rcParams`` are kept, matplotlib's defaults are replaced.

Figure sizes, fonts and line widths are those of the user; sizes here are factors of them. Series have the colours of
the user's ``axes.prop_cycle``, or of a palette for colour-blind readers. Colours with a meaning are the same in every
plot: the parts of the variance, and `ALARM` for values out of bounds.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.legend import Legend

from posterity.inference.plots._check import check_colors

# Okabe & Ito's palette (jfly.uni-koeln.de/color), safe for all common kinds of colour blindness.
BLUE, ORANGE, GREEN, SKY, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
NOISE, AMBIGUITY, EPISTEMIC = BLUE, GREEN, ORANGE
ALARM = VERMILION


def setting(key: str, ours: Any) -> Any:
    """``rcParams[key]`` if the user changed it, ``ours`` if it is matplotlib's default."""
    theirs = mpl.rcParams[key]
    return ours if theirs == mpl.rcParamsDefault[key] else theirs


def series(count: int, colors: Sequence[Any] | None = None) -> list[Any]:
    """``count`` colours: the given ones, those of the user's cycle, or those of the palette."""
    if colors is not None:
        return check_colors(colors, count)
    cycle = setting("axes.prop_cycle", None)
    palette = cycle.by_key().get("color", PALETTE) if cycle is not None else PALETTE
    return [palette[index % len(palette)] for index in range(count)]


def ordered(count: int, colors: Sequence[Any] | None = None) -> list[Any]:
    """``count`` colours in an order: the given ones, or those of ``image.cmap``.

    The end of ``image.cmap`` that is close to the background is left out.
    """
    if colors is not None:
        return series(count, colors)
    ends = (0.05, 0.85) if sum(to_rgb(mpl.rcParams["axes.facecolor"])) > 1.5 else (0.3, 1.0)
    return [tuple(colour) for colour in mpl.colormaps[mpl.rcParams["image.cmap"]](np.linspace(*ends, count))]


def ink() -> Any:
    """The colour of text, for reference lines and data; light in a dark style."""
    return setting("text.color", "#222222")


def tint(ax: Axes | None, colour: Any, strength: float) -> tuple[float, ...]:
    """A colour mixed with the background of the axes, or of new axes.

    Opaque, so that the legend shows the colour of overlapping areas.
    """
    paper = np.array(to_rgb(ax.get_facecolor() if isinstance(ax, Axes) else mpl.rcParams["axes.facecolor"]))
    paint = np.array(to_rgb(colour))
    return tuple(paper + strength * (paint - paper))


def line(factor: float) -> float:
    """A line width in points, as a factor of the user's."""
    return factor * float(mpl.rcParams["lines.linewidth"])


def marker(factor: float) -> float:
    """A marker size in points, as a factor of the user's."""
    return factor * float(mpl.rcParams["lines.markersize"])


def legend(ax: Axes, *args: Any, loc: str = "best", frame: bool = False, **settings: Any) -> Legend:
    """A small legend, with a ``frame`` if it may cover something, unless the user's settings differ."""
    size, box, place = (
        setting(f"legend.{key}", ours) for key, ours in (("fontsize", "small"), ("frameon", frame), ("loc", loc))
    )
    return ax.legend(*args, fontsize=size, frameon=box, loc=place, **settings)
