"""Sixteen posteriors of posteriordb by name: those of `reference_models.py`, and the two files beside it.

Fourteen have published means and standard deviations. For ``irt_2pl`` and ``radon`` there are only data, and their
`Reference.published` is empty.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.inference.mcmc import reference_models, reference_regressions, reference_series
from tests.inference.mcmc.reference_models import Reference

# Name: builder, file and entry in it.
SECOND = "posterior_references_2.json"
PANEL: dict[str, tuple[Callable[..., Any], str, str]] = {
    **{
        name: (builder, "posterior_references.json", reference_models.NAMES[name])
        for name, builder in reference_models.BUILDERS.items()
    },
    "eight_schools_centred": (
        reference_regressions.eight_schools_centred,
        "posterior_references.json",
        "eight_schools-eight_schools_noncentered",
    ),
    "garch": (reference_series.garch, SECOND, "garch-garch11"),
    "gp_regr": (reference_regressions.gp_regr, SECOND, "gp_pois_regr-gp_regr"),
    "hmm": (reference_series.hidden_markov, SECOND, "hmm_example-hmm_example"),
    "gauss_mix": (reference_regressions.gauss_mix, SECOND, "low_dim_gauss_mix-low_dim_gauss_mix"),
    "arma11": (reference_series.arma, SECOND, "arma-arma11"),
    "diamonds": (reference_regressions.diamonds, SECOND, "diamonds-diamonds"),
    "lotka_volterra": (reference_series.lotka_volterra, SECOND, "hudson_lynx_hare-lotka_volterra"),
    "irt_2pl": (reference_regressions.irt_2pl, SECOND, "irt_2pl"),
    "radon": (reference_regressions.radon, SECOND, "radon_all"),
}


@functools.cache
def entries(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def entry(name: str) -> dict[str, Any]:
    """Data and reference of one of `PANEL`; the test is skipped where the data are not at hand."""
    _, file, key = PANEL[name]
    folder = os.environ.get("POSTERITY_DATA")
    path = Path(folder, file) if folder else None
    if path is None or not path.exists():
        pytest.skip(f"POSTERITY_DATA names no folder with {file}")
    return entries(path)[key]


def panel_reference(name: str) -> Reference:
    """One of `PANEL`."""
    found = entry(name)
    model, plain, args, parameters = PANEL[name][0](found["data"])
    return Reference(model, plain, args, parameters, found.get("reference") or {})
