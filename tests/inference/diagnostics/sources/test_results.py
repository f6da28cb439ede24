"""A result of another diagnostic is checked by the names and types of its variables."""

import numpy as np
import pytest
import xarray as xr

from posterity.inference.diagnostics.sources.results import check_result, contents

RESULT = xr.Dataset({"pit": ("obs", [0.1, 0.2])}, coords={"obs": ["a", "b"]})


def test_a_result_with_the_variables_is_returned_as_it_is():
    assert check_result("pit", RESULT, "pit", "obs") is RESULT  # coordinates may be text


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (RESULT.rename(pit="pull"), r"expected a result of pit\(\), with pit, got \['pull', 'obs'\]"),
        (np.zeros(3), r"expected a result of pit\(\), with pit, got ndarray"),
        (RESULT.assign(pit=("obs", ["x", "y"])), r"expected a result of pit\(\) with pit as real numbers, got <U1"),
        (RESULT.astype(complex), r"with pit as real numbers, got complex128"),
    ],
)
def test_other_results_are_refused(result, message):
    with pytest.raises(ValueError, match=message):
        check_result("pit", result, "pit")


def test_contents_are_the_names_of_the_variables_or_the_type():
    assert contents(RESULT) == ["pit", "obs"]
    assert contents(3) == "int"
