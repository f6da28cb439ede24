"""Coverage: do regions with a probability of 90 % contain 90 % of the observations?

There are two families of regions. The *central* region lies between two quantiles, with equal probabilities outside on
either side. The *highest-density* region is the smallest region of its probability. If the predictive has two peaks,
it consists of two intervals and leaves out the gap between them, which the central region includes.

`region_level` gives for every observation the level of the smallest region that contains it, uniform on [0, 1] for a
correct model, and `coverage` counts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.sources.groups import grouped, over_groups
from posterity.inference.diagnostics.sources.levels import check_levels
from posterity.inference.diagnostics.sources.reading import has_several_targets, read, require_mixture
from posterity.inference.diagnostics.sources.results import check_result
from posterity.validation import check_choice, check_integer, check_number, check_seed

KINDS = ("central", "hdi")
LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))


def coverage(
    source: object,
    y: Any = None,
    *,
    levels: Sequence[float] = LEVELS,
    kind: str = "central",
    confidence: float = 0.95,
    draws: int | None = None,
    by: Any = None,
    bins: int = 4,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Share of observations in the region of each level, with Clopper-Pearson limits.

    Returns ``coverage``, ``lower`` and ``upper`` over "level", and the number ``n`` of observations; with ``by`` over
    ("group", "level"). A model can cover 90 % of all observations, but 99 % in one group and 80 % in another. The
    limits (Clopper & Pearson 1934) hold for each level by itself with probability ``confidence`` at least; the levels
    share the observations, so neighbouring limits are dependent.

    Args:
        source: what `region_level` takes, or a result of it, such as the joined results of several folds.
        y: observations, as for `region_level`.
        levels: probabilities of the regions.
        kind: "central" or "hdi", as for `region_level`.
        confidence: probability of the limits.
        draws: as for `region_level`.
        by: a covariate (N,), or the name of a coordinate of ArviZ data.
        bins: number of groups of a numeric covariate with more different values than this, each with equally many
            observations; otherwise each value is a group.
        var_name: the observed variable of ArviZ data, if there are several.
        seed: as for `region_level`.

    Raises:
        ValueError: if ``levels`` or ``confidence`` are not in (0, 1), and as `region_level`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.normal(torch.zeros(100, 1), torch.zeros(100, 1), torch.ones(100, 1))
    >>> y = mixture.icdf((torch.arange(100) + 0.5) / 100)
    >>> coverage(mixture, y, levels=[0.5, 0.9]).coverage.values
    array([0.5, 0.9])
    """
    wanted = check_levels(levels)
    check_number("confidence", confidence, "(0, 1)")
    if isinstance(source, xr.Dataset):
        of_y = _level_dataset(source, y)
    else:
        of_y = region_level(source, y, kind=kind, draws=draws, var_name=var_name, seed=seed)
    values = of_y["level"].values.reshape(-1)
    attrs = {**of_y.attrs, "confidence": confidence}

    def counted(some: np.ndarray) -> xr.Dataset:
        count, n = (some[:, None] <= wanted).sum(0), some.size
        lower, upper = _clopper_pearson(count, n, confidence)
        limits = {"coverage": ("level", count / n), "lower": ("level", lower), "upper": ("level", upper)}
        return xr.Dataset({**limits, "n": n}, coords={"level": wanted}, attrs=attrs)

    if by is None:
        return counted(values)
    groups = grouped(by, of_y, values.size, bins, least=1)
    return over_groups([counted(values[places]) for places, _ in groups], groups)


def region_level(
    source: object,
    y: Any = None,
    *,
    kind: str = "central",
    draws: int | None = None,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``level`` in [0, 1] of the smallest region of the predictive that contains y; 1 means far outside.

    - ``"central"``: |2 F(y) - 1|, exact for a mixture, from randomised ranks for draws (see `pit`).
    - ``"hdi"``: P(p(Y) > p(y)) with Y from the predictive (Hyndman 1996), as the rank of p(y) among the densities of
      ``draws`` draws, ties broken at random. By exchangeability the rank is exactly uniform for a correct model,
      however few the draws; more draws only make each level more precise. It needs a density, so draws and ArviZ data
      are refused: a kernel estimate from draws would smooth the peaks in question.

    Args:
        source: a `Mixture` of batch shape (N,), draws (S, N), or ArviZ data. For "hdi" only a mixture, of D targets
            too.
        y: observations (N,), or (N, D).
        kind: "central" or "hdi".
        draws: draws for "hdi"; the cost is N x ``draws`` x components. By default 3 to 999, as many as 6e7 component
            densities allow.
        var_name: the observed variable of ArviZ data, if there are several.
        seed: seed of draws and ties.

    Returns:
        A Dataset over "obs", or over the dimensions of the observed variable.

    Raises:
        ValueError: if ``kind`` is unknown, or ``draws`` is less than 1, and as `pit`.
    """
    check_choice("kind", kind, KINDS)
    if draws is not None:
        check_integer("draws", draws, 1)
    seed = check_seed(seed)
    data = read(source, y, var_name, several=kind == "hdi" and has_several_targets(source))
    attrs: dict[str, str | int] = {"kind": kind, "seed": seed}
    if kind == "hdi":
        mixture = require_mixture(data, "kind='hdi'")
        draws = mixture.density_draws(draws)
        return data.dataset({"level": mixture.density_rank(draws, seed)}, **attrs, draws=draws)
    lower, upper = data.tails(seed)
    return data.dataset({"level": np.clip(1 - 2 * np.minimum(lower, upper), 0.0, 1.0)}, **attrs)


def _level_dataset(levels: xr.Dataset, y: Any) -> xr.Dataset:
    if y is not None:
        raise ValueError("expected no y with a result of region_level(), got y")
    values = check_result("region_level", levels, "level")["level"].values
    if values.size == 0 or not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(f"expected at least one level, all in [0, 1], got {values.reshape(-1)[:5].tolist()}")
    return levels[["level"]]


def _clopper_pearson(count: np.ndarray, n: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    alpha = 1 - confidence
    # A beta distribution with a shape parameter of 0 has no quantiles; the limit is then 0 or 1 by definition.
    lower = stats.beta.ppf(0.5 * alpha, np.maximum(count, 1), n - count + 1)
    upper = stats.beta.isf(0.5 * alpha, count + 1, np.maximum(n - count, 1))
    return np.where(count == 0, 0.0, lower), np.where(count == n, 1.0, upper)
