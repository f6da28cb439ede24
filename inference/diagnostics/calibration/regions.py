"""Coverage: does the region that should hold 90 % of the y hold 90 %?

Two families of regions. The *central* one lies between two quantiles, with as much left out on either side. The
*highest-density* one is the smallest of its probability; where the predictive has two peaks it is two intervals,
and the gap between them, which the central region includes, is left out.

`region_level` gives for every observation the level of the smallest region that holds it, uniform on [0, 1] for a
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
    """Observed share of y in the region of each level, with Clopper-Pearson limits.

    Returns ``coverage``, ``lower`` and ``upper`` over "level", and the number ``n`` behind them. The limits (Clopper &
    Pearson 1934) hold for each level by itself with probability ``confidence`` at least; the levels share the
    observations, so neighbours go astray together. ``source``, ``kind``, ``draws`` and ``seed`` are those of
    `region_level`; or ``source`` is what it returned, of several folds put together for instance.

    ``by`` (an array (N,), or a coordinate's name in ArviZ data) gives all of this over ("group", "level"): for each of
    its values, or in ``bins`` bins of as many observations each where there are more different ones. A model can cover
    90 % of all and 99 % here, 80 % there.
    Raises ``ValueError`` for levels or a confidence outside (0, 1), and as `region_level`.

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
        needed = _level_dataset(source, y)
    else:
        needed = region_level(source, y, kind=kind, draws=draws, var_name=var_name, seed=seed)
    values = needed["level"].values.reshape(-1)
    attrs = {**needed.attrs, "confidence": confidence}

    def counted(some: np.ndarray) -> xr.Dataset:
        count, n = (some[:, None] <= wanted).sum(0), some.size
        lower, upper = _clopper_pearson(count, n, confidence)
        limits = {"coverage": ("level", count / n), "lower": ("level", lower), "upper": ("level", upper)}
        return xr.Dataset({**limits, "n": n}, coords={"level": wanted}, attrs=attrs)

    if by is None:
        return counted(values)
    groups = grouped(by, needed, values.size, bins, least=1)
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
    """``level`` in [0, 1] of the smallest region of the predictive that holds y; 0 at its heart, 1 far outside.

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), draws (S, N) with ``y``, or ArviZ data (draws and
    ArviZ data ``"central"`` only); for ``"hdi"`` also a mixture of D targets with ``y`` (N, D).

    - ``"central"``: |2 F(y) - 1|, exact for a mixture; randomised from ranks for ArviZ data (see `pit`).
    - ``"hdi"``, the highest-density interval or intervals: P(p(Y) > p(y)) with Y from the predictive (Hyndman 1996), as
      the rank of p(y) among those of ``draws`` draws, ties broken at random. By exchangeability this is exactly uniform
      for a correct model, however few the draws; more draws only place each single y better. The cost is N x ``draws``
      x components: by default as many are drawn, from 3 to 999, as 6e7 densities of components allow. It needs the
      density, so ArviZ data are refused: a kernel estimate from draws would smooth the very peaks it is asked for.

    Returns a Dataset over "obs", or over the dimensions of the observed variable.
    Raises ``ValueError`` for an unknown kind, fewer than one draw, and as `pit`.
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
    if "level" not in levels or y is not None:
        raise ValueError("expected a Dataset with 'level', as region_level() returns, and no y, got others")
    values = levels["level"].values
    if values.size == 0 or not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(f"expected at least one level, all in [0, 1], got {values.reshape(-1)[:5].tolist()}")
    return levels[["level"]]


def _clopper_pearson(count: np.ndarray, n: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    alpha = 1 - confidence
    # A shape parameter of 0 has no quantile; the limit there is 0 or 1 by definition.
    lower = stats.beta.ppf(0.5 * alpha, np.maximum(count, 1), n - count + 1)
    upper = stats.beta.isf(0.5 * alpha, count + 1, np.maximum(n - count, 1))
    return np.where(count == 0, 0.0, lower), np.where(count == n, 1.0, upper)
