"""The category of warnings about convergence."""

import warnings

import pytest

from posterity.inference.convergence import ConvergenceWarning


def test_convergence_warnings_are_silenced_without_the_other_runtime_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        warnings.warn("R-hat is 1.3", ConvergenceWarning, stacklevel=1)
        with pytest.raises(RuntimeWarning, match="overflow"):
            warnings.warn("overflow", RuntimeWarning, stacklevel=1)
