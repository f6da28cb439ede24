"""Importing the package is quiet and quick, and ArviZ is imported at the first call that needs it."""

import subprocess
import sys
import warnings

from posterity.inference.arviz import installed

SLOW = ("arviz", "matplotlib", "scipy.stats", "scipy.optimize", "sklearn", "distributed", "h5netcdf", "torch._dynamo")


def errors_of(code: str) -> str:
    """What Python prints of a program in a new process."""
    command = [sys.executable, "-c", "import numpy as np, sys, xarray as xr\n" + code]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_inference_waits_with_slow_imports_and_smoothing_finds_arviz_by_itself():
    assert not errors_of(
        "from posterity.inference import arviz, infer\n"
        f"slow = [name for name in {SLOW} if name in sys.modules]\n"
        "if slow: sys.exit(f'imported: {slow}')\n"
        "arviz.psislw(np.maximum(np.arange(100.0), 90)[None])"  # draws tied where the tail begins go to ArviZ
    )


def test_importing_everything_and_making_arviz_data_prints_nothing():
    assert not errors_of(
        "import posterity, posterity.inference.diagnostics, posterity.inference.plots\n"
        "from posterity.inference import arviz\n"
        "arviz.elpd_data(xr.DataArray([1.0, 2.0]), n_samples=3)"
    )


def test_the_caller_s_warning_filters_stay_as_they_are():
    installed.arviz.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        module = installed.arviz()
        assert list(warnings.filters) == before
    assert module.__name__ == "arviz"
    assert ("InferenceData" in vars(module)) == installed.HAS_INFERENCE_DATA
