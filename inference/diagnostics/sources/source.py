"""What a diagnostic is computed from: a mixture and y, draws and y, or ArviZ data. It alone asks which of them.

All answer the same questions (both tails of y, the predictive's first two moments, quantiles, the log score, draws), so
that a diagnostic is written once. `read` checks everything that a user can get wrong. No torch is needed but by
mixtures, which nobody without it has.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from posterity.inference.arviz import group_names
from posterity.inference.diagnostics.sources.draws import DrawsSource, from_arrays, from_arviz

if TYPE_CHECKING:
    from posterity.inference.diagnostics.sources.mixture import MixtureSource

    Source = MixtureSource | DrawsSource


def read(
    source: object,
    y: Any = None,
    var_name: str | None = None,
    *,
    several: bool = False,
    target_dim: str | None = None,
    needs_y: bool = True,
) -> Source:
    """Mixture and y, draws and y, or ArviZ data, checked: finite numbers of matching shapes.

    With ``several`` the targets are D: a mixture of event shape (D,), draws (S, N, D), or ArviZ data with the name of
    the ``target_dim``, by default the last one. Where it is not needed, y may be left out, and is nan: that shows
    wherever it is used. Raises ``ValueError`` that says what was expected and what came.
    """
    if is_mixture(source) or is_array(source):
        if var_name is not None or target_dim is not None:
            name, value = ("var_name", var_name) if var_name is not None else ("target_dim", target_dim)
            what = "a mixture" if is_mixture(source) else "an array of draws"
            raise ValueError(f"expected {name} only with ArviZ data, got {value!r} with {what}")
        if is_mixture(source):
            from posterity.inference.diagnostics.sources.mixture import from_mixture

            return from_mixture(source, y, several, needs_y)
        return from_arrays(source, y, several, needs_y)
    try:
        groups = group_names(source)
    except ValueError:
        hint = ": give its predictive, posterior.predictive(x)" if hasattr(source, "predictive") else ""
        raise ValueError(
            "expected a Mixture with y, an array of draws (draws, N) with y, or ArviZ data (InferenceData or "
            f"DataTree), got {type(source).__name__}{hint}"
        ) from None
    if y is not None:
        raise ValueError("expected no y beside ArviZ data, which holds its own in 'observed_data', got one")
    if several and target_dim is None:
        target_dim = _last_dim(source, var_name)
    return from_arviz(source, groups, var_name, target_dim)


def is_mixture(source: object) -> bool:
    """Whether it is a `Mixture`, without loading torch to ask: who has one has loaded it."""
    module = sys.modules.get("posterity.models.mixtures.mixture")
    return module is not None and isinstance(source, module.Mixture)


def is_array(source: object) -> bool:
    """Whether it is an array of draws: of NumPy, xarray or torch."""
    return isinstance(source, np.ndarray | xr.DataArray) or hasattr(source, "detach")


def require_mixture(data: Source, what: str) -> MixtureSource:
    """The source, if it is a mixture; ``ValueError`` saying that ``what`` needs one otherwise."""
    if isinstance(data, DrawsSource):
        raise ValueError(f"expected a mixture and y for {what}, got draws, which have no density and no components")
    return data


def _last_dim(data: Any, var_name: str | None) -> str | None:
    from posterity.inference.arviz import group

    observed = group(data, "observed_data")
    names = [str(name) for name in observed.data_vars]
    name = var_name or (names[0] if len(names) == 1 else None)
    return str(observed[name].dims[-1]) if name in names and observed[name].ndim else None
