"""Figure sizes and colours are checked before matplotlib sees them."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from posterity.inference.plots._check import check_colors, check_figsize


@pytest.mark.parametrize("size", [None, (5, 3), [0.1, 20.0], np.array([6.4, 4.8])])
def test_two_lengths_are_a_figure_size(size):
    check_figsize(size)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (5, "expected figsize to be two numbers, got an array of shape"),
        ((5, 3, 1), r"expected figsize to be two numbers, got an array of shape \(3,\)"),
        ((5, 0), "expected figsize to be two lengths above 0 inches, got"),
        ((-5, 3), "expected figsize to be two lengths above 0 inches, got"),
        ((5, np.inf), "expected finite figsize"),
    ],
)
def test_other_figure_sizes_are_refused(size, message):
    with pytest.raises(ValueError, match=message):
        check_figsize(size)


def test_colours_are_names_letters_codes_and_numbers():
    given = ["red", "k", "#0072B2", "C1", (0.1, 0.2, 0.3), 0.5 * np.ones(3)]
    colours = check_colors(given, 6)
    assert [to_rgb(one) for one in colours] == [to_rgb(one) for one in given]


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        ("red", "expected 1 colors in a list, got str"),
        ({"a": "red"}, "expected 1 colors in a list, got dict"),
        (3, "expected 1 colors in a list, got int"),
        (["red", "lime"], "expected 1 colors, got 2"),
        (["reddish"], "expected colors that matplotlib knows, got others"),
        ([{}], "expected colors that matplotlib knows, got others"),
    ],
)
def test_other_colours_are_refused(colours, message):
    with pytest.raises(ValueError, match=message):
        check_colors(colours, 1)
