"""Reading the input of a diagnostic: which kind of source it is, and whether it is right.

Torch is imported only if the source is a mixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from posterity.inference.arviz import group, group_names
from posterity.inference.diagnostics.sources.draws import source_of_arviz, source_of_draws
from posterity.inference.diagnostics.sources.source import Source

if TYPE_CHECKING:
    from posterity.inference.diagnostics.sources.mixture import MixtureSource

MIXTURE = ("num_components", "log_weights", "responsibilities")
"""Attributes by which a mixture differs from every other argument of a diagnostic."""


def read(
    source: object,
    y: Any = None,
    var_name: str | None = None,
    *,
    several: bool = False,
    target_dim: str | None = None,
    needs_y: bool = True,
) -> Source:
    """The source of a mixture and y, of draws and y, or of ArviZ data; a `Source` is returned as it is.

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), ArviZ data, or a source that was read before.
        y: observations (N,), which ArviZ data hold themselves.
        var_name: the observed variable of ArviZ data, if there are several.
        several: whether there are D targets: a mixture of event shape (D,), draws (S, N, D), ArviZ data with the
            dimension ``target_dim``; y is (N, D).
        target_dim: dimension of the targets in ArviZ data, by default the last one.
        needs_y: whether y has to be given. If it is neither needed nor given, it is nan.

    Raises:
        ValueError: if the source is of another type, shapes do not match, or values are not finite.
    """
    if isinstance(source, Source):
        if y is not None or var_name is not None:
            raise ValueError("expected neither y nor var_name with a source that was read before, got one of them")
        return source
    if is_mixture(source) or is_array(source):
        if var_name is not None or target_dim is not None:
            name, value = ("var_name", var_name) if var_name is not None else ("target_dim", target_dim)
            what = "a mixture" if is_mixture(source) else "an array of draws"
            raise ValueError(f"expected {name} only with ArviZ data, got {value!r} with {what}")
        if is_mixture(source):
            from posterity.inference.diagnostics.sources.mixture import source_of_mixture

            return source_of_mixture(source, y, several, needs_y)
        return source_of_draws(source, y, several, needs_y)
    try:
        groups = group_names(source)
    except ValueError:
        hint = ": give its predictive, posterior.predictive(x)" if hasattr(source, "predictive") else ""
        with_y = " with y" if needs_y else ""
        raise ValueError(
            f"expected a Mixture{with_y}, an array of draws (draws, N){with_y}, or ArviZ data (InferenceData or "
            f"DataTree), got {type(source).__name__}{hint}"
        ) from None
    if y is not None:
        raise ValueError("expected no y with ArviZ data, which hold y in 'observed_data', got y")
    if several and target_dim is None:
        target_dim = _last_dim(source, var_name)
    return source_of_arviz(source, groups, var_name, target_dim)


def is_mixture(source: object) -> bool:
    """Whether the source has the interface of a `Mixture`; asked of its class, since weights are computed on access."""
    return all(hasattr(type(source), name) for name in MIXTURE)


def require_mixture(data: Source, what: str) -> MixtureSource:
    """The source of a mixture; ``ValueError`` saying that ``what`` needs a mixture otherwise."""
    if not data.has_density:
        raise ValueError(f"expected a Mixture for {what}, got draws, which have no density and no components")
    return cast("MixtureSource", data)


def is_array(source: object) -> bool:
    """Whether the source is an array of NumPy, xarray or torch."""
    return isinstance(source, np.ndarray | xr.DataArray) or hasattr(source, "detach")


def has_several_targets(source: Any) -> bool:
    """Whether a mixture has an event dimension, or an array of draws is (S, N, D)."""
    if is_mixture(source):
        return bool(source.event_shape)
    return is_array(source) and source.ndim == 3


def _last_dim(data: Any, var_name: str | None) -> str | None:
    observed = group(data, "observed_data")
    names = [str(name) for name in observed.data_vars]
    name = var_name or (names[0] if len(names) == 1 else None)
    return str(observed[name].dims[-1]) if name in names and observed[name].ndim else None
