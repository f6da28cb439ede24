"""How the plots look: what the reader has set in ``rcParams`` is kept, and only matplotlib's own defaults are replaced.

Figure sizes, fonts and line widths are the reader's; sizes here are factors of them. Series take the colours of his
``axes.prop_cycle``, or of a palette that a colour-blind reader can tell apart. Colours that mean something are the same
in every plot: where the variance comes from, and `ALARM` for what is out of bounds.
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
    """``rcParams[key]`` where the reader has changed it, ``ours`` where it is matplotlib's default."""
    theirs = mpl.rcParams[key]
    return ours if theirs == mpl.rcParamsDefault[key] else theirs


def series(count: int, colors: Sequence[Any] | None = None) -> list[Any]:
    """``count`` colours: of ``colors``, which must be as many, of the reader's cycle, or of the palette."""
    if colors is not None:
        return check_colors(colors, count)
    cycle = setting("axes.prop_cycle", None)
    found = cycle.by_key().get("color", PALETTE) if cycle is not None else PALETTE
    return [found[index % len(found)] for index in range(count)]


def ordered(count: int, colors: Sequence[Any] | None = None) -> list[Any]:
    """``count`` colours in an order: of ``colors``, or of ``image.cmap`` without the end that the background hides."""
    if colors is not None:
        return series(count, colors)
    ends = (0.05, 0.85) if sum(to_rgb(mpl.rcParams["axes.facecolor"])) > 1.5 else (0.3, 1.0)
    return [tuple(colour) for colour in mpl.colormaps[mpl.rcParams["image.cmap"]](np.linspace(*ends, count))]


def ink() -> Any:
    """The colour of text, for reference lines and data: light where the reader's style is dark."""
    return setting("text.color", "#222222")


def tint(ax: Axes | None, colour: Any, strength: float) -> tuple[float, ...]:
    """A colour thinned with the background of the axes, or of new ones.

    Opaque, so that a legend shows what is seen where areas overlap.
    """
    paper = np.array(to_rgb(ax.get_facecolor() if isinstance(ax, Axes) else mpl.rcParams["axes.facecolor"]))
    paint = np.array(to_rgb(colour))
    return tuple(paper + strength * (paint - paper))


def line(factor: float) -> float:
    """A line width in points, as a factor of the reader's."""
    return factor * float(mpl.rcParams["lines.linewidth"])


def marker(factor: float) -> float:
    """A marker size in points, as a factor of the reader's."""
    return factor * float(mpl.rcParams["lines.markersize"])


def legend(ax: Axes, *args: Any, loc: str = "best", frame: bool = False, **settings: Any) -> Legend:
    """A small legend, with a ``frame`` where it may lie on something, unless the reader wants another."""
    size, box, place = (
        setting(f"legend.{key}", ours) for key, ours in (("fontsize", "small"), ("frameon", frame), ("loc", loc))
    )
    return ax.legend(*args, fontsize=size, frameon=box, loc=place, **settings)
