"""The order of the rows, the precision and a mask: what may change with them, and what may not."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from posterity.inference import diagnostics
from posterity.models import Mixture
from tests.diagnostic_cases import cases

ORDER = np.random.default_rng(5).permutation(12)
# Of a mixture these draw no random numbers.
DETERMINISTIC = (
    *("calibration_error", "coverage", "crps_normal_mixture", "interval_score", "pit", "pulls"),
    *("region_level", "scores", "sharpness", "uncertainty_split"),
)


def without_draws(name: str) -> dict:
    """The case of a diagnostic, with regions that need no draws of the mixture."""
    arguments = dict(cases()[name].arguments)
    return arguments | {"kind": "central"} if name in ("coverage", "region_level") else arguments


def rows(arguments: dict, order: np.ndarray) -> dict:
    """The arguments with the rows of source, y and covariates in another order."""
    index = torch.as_tensor(order)
    size = len(order)

    def turned(value: object) -> object:
        if isinstance(value, Mixture):
            return value[index]
        if isinstance(value, torch.Tensor | np.ndarray) and value.shape[:1] == (size,):
            return value[index] if isinstance(value, torch.Tensor) else value[order]
        return value

    return {name: turned(value) for name, value in arguments.items()}


def found(name: str, arguments: dict) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = getattr(diagnostics, name)(**arguments)
    return result if isinstance(result, xr.Dataset) else xr.Dataset({"value": ("obs", np.asarray(result))})


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_rows_in_another_order_give_the_same_in_that_order(name: str) -> None:
    """To 1e-9 of the values (float64 inside): values of rows move with them, those of all rows stay."""
    arguments = without_draws(name)
    before, after = found(name, arguments), found(name, rows(arguments, ORDER))
    for variable in before.data_vars:
        expected = before[variable]
        for dim, size in expected.sizes.items():
            if size == len(ORDER):
                expected = expected.isel({dim: ORDER})
        np.testing.assert_allclose(after[variable].values, expected.values, rtol=1e-9, atol=1e-9, err_msg=str(variable))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_single_and_double_precision_agree(name: str) -> None:
    """The same numbers given in float64: to 1e-6, for all is computed in float64 and only the result is rounded."""
    arguments = without_draws(name)
    wide = {
        key: value.to(torch.double) if isinstance(value, torch.Tensor | Mixture) else value
        for key, value in arguments.items()
    }
    single, double = found(name, arguments), found(name, wide)
    for variable in single.data_vars:
        np.testing.assert_allclose(
            single[variable].values, double[variable].values, rtol=2e-5, atol=2e-6, err_msg=str(variable)
        )


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_mask_is_refused_and_not_scored(name: str) -> None:
    arguments = without_draws(name)
    if "y" not in arguments:
        pytest.skip("takes no observations")
    masked = np.ma.masked_array(np.asarray(arguments["y"], float), mask=np.arange(12) == 3)
    with pytest.raises(ValueError, match=r"expected .* without a mask, got a masked array"):
        found(name, {**arguments, "y": masked})


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_y_that_was_left_out_is_not_invented(name: str) -> None:
    arguments = without_draws(name)
    if arguments.pop("y", None) is None or name == "sharpness":
        pytest.skip("takes no observations, or needs none")
    with pytest.raises((ValueError, TypeError), match="y"):
        found(name, arguments)
