"""Settings of the Bayesian GAN that are out of range are refused."""

import math

import pytest

from tests.bayesian_gan_cases import (
    bayesian_settings,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "expected steps to be a whole number of 1 or more"),
        ({"steps": 14}, "expected steps for the warmup of 10 and 5 draws, got steps=14"),
        ({"draws": 2.5}, "expected draws to be a whole number of 1 or more"),
        ({"generators": 0}, "expected generators to be a whole number of 1 or more"),
        ({"discriminators": True}, "expected discriminators to be a whole number of 1 or more"),
        ({"learning_rate": 1e-3}, r"expected learning_rate to be a pair \(generators, discriminators\), got 0\.001"),
        ({"learning_rate": (1e-3, 0.0)}, "expected every learning_rate to be a finite number above 0"),
        ({"prior_sd": (math.nan, 1.0)}, "expected every prior_sd to be a finite number above 0"),
        ({"data_weight": (-1.0, 1.0)}, "expected every data_weight to be a finite number of 0 or more"),
        ({"friction": 0.0}, r"expected friction to be a number in \(0, 1\], got 0\.0"),
        ({"temperature": -1.0}, "expected temperature to be a finite number of 0 or more"),
        ({"opponents": "all"}, "expected opponents to be one of 'mean', 'sum', got 'all'"),
        ({"warmup": 0}, "expected warmup of 1 or more to estimate the preconditioner"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        bayesian_settings(**change)
