"""The installed ArviZ: its generation, and the module itself, imported at the first call.

Importing ArviZ takes half a second, and 0.23 announces its refactoring with a ``FutureWarning``. Neither reaches
somebody who imports `posterity`.
"""

import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

HAS_INFERENCE_DATA = int(version("arviz").split(".")[0]) < 1
"""Whether ArviZ data are an ``InferenceData`` (ArviZ 0.23) or an ``xarray.DataTree`` (1.x)."""


@cache
def arviz() -> Any:
    """The module ``arviz``. The caller's warning filters are as before; only that one warning is ignored."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
        return import_module("arviz")
