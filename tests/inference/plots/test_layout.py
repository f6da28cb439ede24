"""Titles, labels and legends of every plot, and of pages made of them, cover nothing: at 10 and 16 points."""

import itertools
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from posterity.inference import plots
from tests.diagnostic_cases import cases
from tests.examples_run import script

SLACK = 1.0  # pixels: letters have room around them


@pytest.fixture(params=[10.0, 16.0], autouse=True)
def letters(request: pytest.FixtureRequest) -> Iterator[float]:
    with mpl.rc_context({"font.size": request.param}):
        yield request.param
    plt.close("all")


def _words(figure: Figure) -> list[tuple[str, Bbox]]:
    """Everything that is written, but for the numbers along the axes, with where it stands in pixels."""
    found: list[tuple[str, Any]] = [("legend of the figure", legend) for legend in figure.legends]
    found += [("title of the figure", figure._suptitle)] if figure._suptitle is not None else []
    for number, ax in enumerate(figure.axes):
        written: dict[str, Any] = {"title": ax.title, "x label": ax.xaxis.label, "y label": ax.yaxis.label}
        found += [(f"{name} of panel {number}", text) for name, text in written.items() if text.get_text().strip()]
        if ax.get_legend() is not None:
            found.append((f"legend of panel {number}", ax.get_legend()))
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            shown = [tick for tick in axis.get_major_ticks() if min(limits) <= tick.get_loc() <= max(limits)]
            labels = [tick.label1 for tick in shown if tick.label1.get_text().strip()]
            found += [(f"number {label.get_text()} of panel {number}", label) for label in labels]
    return [(name, artist.get_window_extent()) for name, artist in found if artist.get_visible()]


def faults(figure: Figure) -> list[str]:
    """Pairs of words that meet, words outside of the figure, and points that a legend covers."""
    figure.canvas.draw()
    words = _words(figure)
    page = figure.bbox.padded(SLACK)
    wrong = [f"{name} leaves the page" for name, box in words if not _within(box, page)]
    for (one, a), (other, b) in itertools.combinations(words, 2):
        numbers = one.startswith("number") and other.startswith("number")  # matplotlib places these
        if not numbers and _shrunk(a).overlaps(_shrunk(b)):
            wrong.append(f"{one} meets {other}")
    for number, ax in enumerate(figure.axes):
        legend = ax.get_legend()
        if legend is None:
            continue
        box = legend.get_window_extent()
        for points in _points(ax):
            covered = sum(box.contains(*point) for point in points)
            if covered:
                wrong.append(f"legend of panel {number} covers {covered} of {len(points)} points")
    return wrong


def _points(ax: Any) -> Iterator[np.ndarray]:
    for line in ax.lines:
        if line.get_transform().contains_branch(ax.transData) and len(line.get_xdata()) > 2:
            yield line.get_transform().transform(np.asarray(line.get_xydata(), float))
    for scattered in ax.collections:
        if len(scattered.get_offsets()) > 1:
            yield ax.transData.transform(np.asarray(scattered.get_offsets(), float))


def _shrunk(box: Bbox) -> Bbox:
    return Bbox.from_extents(box.x0 + SLACK, box.y0 + SLACK, max(box.x1 - SLACK, box.x0), max(box.y1 - SLACK, box.y0))


def _within(box: Bbox, page: Bbox) -> bool:
    return bool(page.x0 <= box.x0 and page.y0 <= box.y0 and box.x1 <= page.x1 and box.y1 <= page.y1)


@pytest.mark.parametrize("name", sorted(plots.__all__))
def test_words_of_a_plot_stand_by_themselves(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = getattr(plots, name)(**cases()[name].arguments)
    figure = np.ravel(np.asarray(drawn, dtype=object))[0].figure
    assert not faults(figure)


@pytest.mark.parametrize("model", ["sigma08", "unimodal"])
def test_words_of_a_page_of_calibration_stand_by_themselves(model: str) -> None:
    """Its title stood in a label, and "5%" on the words below."""
    with script("calibration") as calibration:
        x, y = calibration._data(np.random.default_rng([0, 99]), 300)
        figure = calibration.draw_page(calibration.MODELS[model], partial(calibration._model, model), x, y)
    assert not faults(figure)
