"""Several models side by side: the size and the parts of their uncertainty over one input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.decomposition.variance import split_terms, uncertainty_split
from posterity.inference.diagnostics.sources.levels import check_levels
from posterity.inference.diagnostics.sources.reading import is_mixture
from posterity.inference.plots._axes import named, panels, places, vector
from posterity.inference.plots._style import legend, setting
from posterity.inference.plots.bands import plot_bands
from posterity.inference.plots.uncertainty_split import plot_uncertainty_split

if TYPE_CHECKING:
    from posterity.data import Observations
    from posterity.inference.plots._axes import Values
    from posterity.models.mixtures import Mixture

SHORT = {"within_component": "within", "between_component": "between"}


def plot_compare_uncertainty(
    models: Mapping[str, Mixture | xr.Dataset],
    x: Values,
    *,
    y: Values | Observations | None = None,
    x_data: Values | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    shares: bool = False,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
) -> np.ndarray:
    """A column for each model over the same ``x`` (N,): above its bands and the data, below the parts of its variance.

    Each row has one scale. The title of a column gives the mean over x of the share of each part. If ``models`` are
    splits, there is only the lower row, and no data.

    Args:
        models: predictives by name, each a `Mixture` of batch shape (N,); or splits by name, results of
            `uncertainty_split`, such as stored ones.
        x: the input (N,).
        y: observations, at ``x_data`` or at ``x``; or `Observations` of one input, with positions and names.
        x_data: inputs of the observations.
        levels: as for `plot_bands`.
        shares: as for `plot_uncertainty_split`, for models whose variances differ by orders of magnitude.
        ax: one axes for each panel, by default those of a new figure.
        figsize: size of the new figure, in inches.
        xlabel: label of x, by default the name of the column.
        ylabel: label of y, by default the name of the column.

    Returns:
        The axes, (2, models) or (1, models).

    Raises:
        ValueError: if there are no models, predictives and splits are mixed, or data are given with splits, and as
            `plot_bands` and `plot_uncertainty_split`.

    >>> from matplotlib.figure import Figure
    >>> one = np.ones(3)
    >>> split = xr.Dataset({"noise": ("obs", one), "ambiguity": ("obs", 0 * one), "epistemic": ("obs", one)})
    >>> split["total"] = split.noise + split.epistemic
    >>> grid = plot_compare_uncertainty({"bnn": split}, [0.0, 1.0, 2.0], ax=Figure().subplots())
    >>> grid.shape, grid[0, 0].get_title()
    ((1, 1), 'bnn\\nnoise 50%, ambiguity 0%, epistemic 50%')
    """
    if not isinstance(models, Mapping) or not models:
        got = "none" if isinstance(models, Mapping) else type(models).__name__
        raise ValueError(f"expected predictives or splits by name, at least one, got {got}")
    splits, at = _splits(models), vector("x", x)
    whole = not any(isinstance(model, xr.Dataset) for model in models.values())
    data = places(at, y, x_data)
    xlabel, ylabel = named(x, y, xlabel, ylabel)
    if len(data[0]) and not whole:
        raise ValueError("expected y only with predictives, got y with splits of the variance")
    check_levels(levels)
    for split in splits.values():
        vector("x", x, split["total"].size)
    own = ax is None
    shared = {"sharex": True, "sharey": "row"} if own else {}
    grid = panels(1 + whole, len(models), ax, figsize, **shared)
    for column, (name, model) in zip(grid.T, models.items(), strict=True):
        if not isinstance(model, xr.Dataset):
            shown: dict[str, Any] = {} if y is None else {"y": data[1], "x_data": data[0]}
            plot_bands(model, at, levels=levels, ax=column[0], xlabel=xlabel, ylabel=ylabel, **shown)
        plot_uncertainty_split(splits[name], at, shares=shares, ax=column[-1], xlabel=xlabel)
        words = _in_words(splits[name])
        column[0].set_title(name if whole else f"{name}\n{words}")
        if whole:
            column[1].set_title(words, fontsize="medium")
    _one_scale(grid)
    _legends(grid, own)
    return grid


def _splits(models: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    """The split of each model; all models are predictives, or all are splits."""
    given = [isinstance(model, xr.Dataset) for model in models.values()]
    if any(given) and not all(given):
        kinds = {name: "split" if one else "predictive" for one, name in zip(given, models, strict=True)}
        raise ValueError(f"expected predictives of all models, or splits of all, got {kinds}")
    for name, model in models.items():
        if not isinstance(model, xr.Dataset) and not is_mixture(model):
            raise ValueError(
                f"expected {name!r} to be a Mixture or a split of its variance, got {type(model).__name__}"
            )
    splits = {name: model if given[0] else uncertainty_split(model) for name, model in models.items()}
    for split in splits.values():
        split_terms(split)
        if split["total"].ndim != 1:
            raise ValueError(f"expected splits of one target, got dimensions {split['total'].dims}")
    return splits


def _in_words(split: xr.Dataset) -> str:
    """Mean share of each part over x, in percent."""
    total = split["total"].values
    if not total.min() > 0:
        return ""
    shares = {name: float((split[name].values / total).mean()) for name in split_terms(split)}
    return ", ".join(f"{SHORT.get(name, name)} {share:.0%}" for name, share in shares.items())


def _one_scale(grid: np.ndarray) -> None:
    """Set the limits of each row to the widest of its panels."""
    for row in grid:
        limits = np.array([one.get_ylim() for one in row])
        for one in row:
            one.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    for one in grid.ravel():
        one.label_outer()


def _legends(grid: np.ndarray, own: bool) -> None:
    """One legend for all panels: below a figure of our own, otherwise in the first panel of each row."""
    rows: list[dict[str, Any]] = []
    for row in grid:
        entries: dict[str, Any] = {}
        for one in row:
            entries |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
            if one.get_legend() is not None:
                one.get_legend().remove()
        rows.append(entries)
    if not own:
        for row, entries in zip(grid, rows, strict=True):
            legend(row[0], list(entries.values()), list(entries))
        return
    every = {label: handle for entries in rows for label, handle in entries.items()}
    grid[0, 0].figure.legend(
        list(every.values()),
        list(every),
        loc="outside lower center",
        ncols=min(len(every), 3 * grid.shape[1]),
        fontsize=setting("legend.fontsize", "small"),
        frameon=setting("legend.frameon", False),
    )
