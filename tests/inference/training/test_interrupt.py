"""The warning of a run that was interrupted."""

import warnings
from pathlib import Path

import pytest

from posterity.inference.training.interrupt import INTERRUPTED, warn_interrupted


def method():
    warn_interrupted("SVI", "the guide after 3 of 9 steps", "Call infer again.")


def test_the_warning_names_the_method_the_result_and_what_to_do():
    with pytest.warns(RuntimeWarning, match=r"^SVI was interrupted and returns the guide after 3 of 9 steps\. Call"):
        method()
    assert INTERRUPTED == "was interrupted and returns"


def test_the_warning_points_at_the_callers_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method()
        line = caught[0].lineno
    source = Path(__file__).read_text().splitlines()
    assert source[line - 1].strip() == "method()"
