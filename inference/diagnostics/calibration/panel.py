"""All tests of calibration on one page, and what they see together.

No single test sees everything. Of two components three widths apart and 300 observations: widths that are 20 % too
small are seen by the tests of widths, and hardly by those of the whole distribution; weights that are wrong by .1 by
the test of weights alone; a shifted component by that of places; and a single normal of right mean and variance by the
tests of the shape, while its pulls have width 1 and its components, being one, are where they should be. So the panel
runs them all, says which sees what, and names the fault.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.calibration.mixture_tests import FAMILIES, FAULTS, mixture_tests
from posterity.inference.diagnostics.calibration.residuals import pulls
from posterity.inference.diagnostics.calibration.transform import pit
from posterity.inference.diagnostics.calibration.uniformity import (
    LEAST_BERKOWITZ,
    TESTS,
    cauchy_combination,
    uniformity_test,
)
from posterity.inference.diagnostics.sources.checks import require_seed
from posterity.inference.diagnostics.sources.source import is_mixture

SEES = {
    "pull_mean": "predictions that are all too high or too low",
    "pull_width": "predicted errors that are all too small or too large",
    "ks": "a shift of the whole distribution",
    "ad": "a shift, and tails that are too light or too heavy",
    "chi2": "a heap or a gap anywhere: another shape",
    "berkowitz": "width or place of the whole, correlated neighbours",
    "pot_c": "single values that are too far out, or too close",
    "hdi": "values between the peaks, or where the density is low",
    "component_width": "components that are too narrow or too wide",
    "component_shift": "components at the wrong place",
    "component_weight": "components that come up too often or too rarely",
}
SHAPE = ("ks", "ad", "chi2")
WORDS = {
    "component_width": "the widths of components are wrong",
    "component_shift": "the places of components are wrong",
    "component_weight": "the weights of components are wrong",
    "pull_mean": "the predictions are off",
    "pull_width": "the predicted errors are wrong",
    "shape": "the shape is wrong, such as one peak for two",
}


def calibration_tests(
    source: object, y: Any = None, *, level: float = 0.05, var_name: str | None = None, seed: int = 0
) -> xr.Dataset:
    """``statistic`` and ``p_value`` of every test that the source can serve, over "test", and the fault they name.

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), draws (S, N) with ``y``, or ArviZ data. Of draws
    there are pull_mean and pull_width (gaussianised pulls against normal ones: z and chi2 of n - 1, exact) and the
    five of `uniformity_test`; of mixtures also hdi (Kolmogorov-Smirnov of the highest-density levels), and
    component_width, component_shift and component_weight (`mixture_tests`, jointly for all components).

    The coordinate ``sees`` says what each is for. In ``attrs``: ``p_value`` of all of them together, by Cauchy's
    distribution whatever their dependence (Liu & Xie 2020, JASA 115, 393-402); ``fault``, the name of the test that
    saw it, "shape" where only those of the whole distribution did, or "none", which of a right model it is with
    probability 1 - ``level``; and ``verdict``, the same in words. A fault is named where all tests together reject: of
    the component tests that reject the one with the smallest p-value, before the others, since a fault of components is
    one of the whole too; of pulls and shape, pulls if they explain it.
    Raises ``ValueError`` for a level outside (0, 1), fewer than 10 observations, and as `pit`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> model = Mixture.normal(torch.zeros(2), torch.tensor([-2.0, 2.0]), torch.tensor(1.0)).expand([500])
    >>> y = model.icdf(torch.rand(500, generator=torch.Generator().manual_seed(1)))
    >>> calibration_tests(model, y).attrs["fault"], calibration_tests(model, y + 0.5).attrs["fault"]
    ('none', 'component_shift')
    """
    if not 0 < level < 1:
        raise ValueError(f"expected level in (0, 1), got {level}")
    seed = require_seed(seed)
    values = pit(source, y, var_name=var_name, seed=seed)
    z = pulls(source, y, var_name=var_name, seed=seed)["pull"].values.reshape(-1)
    tests = [name for name in TESTS if name != "berkowitz" or len(z) >= LEAST_BERKOWITZ]
    whole = uniformity_test(values, tests)
    found = _of_pulls(z) | {
        name: (float(whole["statistic"].sel(test=name)), float(whole["p_value"].sel(test=name))) for name in tests
    }
    if is_mixture(source):
        found |= _of_mixture(source, y, seed)
    names = [name for name in SEES if name in found]
    statistic, p_value = np.array([found[name] for name in names]).T
    together = cauchy_combination(p_value)[1]
    fault = _fault(dict(zip(names, p_value, strict=True)), level) if together < level else "none"
    verdict = WORDS[fault] if fault != "none" else f"nothing wrong is seen at the {level:.0%} level"
    return xr.Dataset(
        {"statistic": ("test", statistic), "p_value": ("test", p_value)},
        coords={"test": names, "sees": ("test", [SEES[name] for name in names])},
        attrs={"n": len(z), "level": level, "p_value": together, "fault": fault, "verdict": verdict, "seed": seed},
    )


def _of_pulls(z: np.ndarray) -> dict[str, tuple[float, float]]:
    """Mean and width against those of N(0, 1), which are known, so that both tests are exact."""
    n = len(z)
    mean = float(z.mean() * np.sqrt(n))
    squares = float(((z - z.mean()) ** 2).sum())
    width = 2 * min(stats.chi2.cdf(squares, n - 1), stats.chi2.sf(squares, n - 1))
    return {
        "pull_mean": (mean, float(2 * stats.norm.sf(abs(mean)))),
        "pull_width": (float(np.sqrt(squares / (n - 1))), float(min(width, 1.0))),
    }


def _of_mixture(mixture: Any, y: Any, seed: int) -> dict[str, tuple[float, float]]:
    level = uniformity_test(pit(mixture, y, kind="hdi", seed=seed), "ks")
    found = {"hdi": (float(level["statistic"]), float(level["p_value"]))}
    if type(mixture.component_distribution).__name__ not in FAMILIES:
        return found
    components = mixture_tests(mixture, y, seed=seed)
    for name in FAULTS:
        one = components.sel(fault=name)
        if np.isfinite(one["joint"]):
            found[f"component_{name}"] = (float(one["joint"]), float(one["joint_p_value"]))
    return found


def _fault(p_value: dict[str, float], level: float) -> str:
    components, whole = [f"component_{name}" for name in FAULTS], ["pull_mean", "pull_width"]
    shape = min(p_value[name] for name in SHAPE)
    if "component_weight" not in p_value and shape < 0.1 * level:
        # Where a single component is the whole, what moves it is seen by its own tests first; the rest is its shape.
        first = [name for name in (*components, *whole) if p_value.get(name, 1.0) < shape]
        return min(first, key=lambda name: p_value[name], default="shape")
    for candidates in (components, whole):
        there = [name for name in candidates if p_value.get(name, 1.0) < level]
        if there:
            return min(there, key=lambda name: p_value[name])
    return "shape"
