"""One wording for a result of another function."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.diagnostics.sources.results import check_result, contents

RESULT = xr.Dataset({"pit": ("obs", np.zeros(3)), "name": ("obs", ["a", "b", "c"])}, {"level": 0.5})


def test_a_result_with_the_variables_is_returned():
    assert check_result("pit", RESULT, "pit", "level") is RESULT


@pytest.mark.parametrize(
    ("result", "names", "message"),
    [
        (RESULT, ("pull",), r"expected a result of f\(\), with pull, got \['pit', 'name', 'level'\]"),
        (RESULT["pit"], ("pit",), r"expected a result of f\(\), with pit, got DataArray"),
        (None, ("a", "b"), r"expected a result of f\(\), with a, b, got NoneType"),
        (RESULT, ("name",), r"expected a result of f\(\) with name as real numbers, got <U1"),
    ],
)
def test_another_result_is_named(result, names, message):
    with pytest.raises(ValueError, match=message):
        check_result("f", result, *names)


def test_contents_are_the_variables_or_the_type():
    assert contents(RESULT) == ["pit", "name", "level"]
    assert contents(3.0) == "float"
