r"""Recalibration of a predictive, learned from a calibration split.

`Recalibrator` learns from observations that neither train the model nor judge the result:

- The *PIT map* R is the distribution function of $u = F(y|x)$ on the calibration split; $R(F(y|x))$ is the recalibrated
  distribution function (Kuleshov, Fenner & Ermon 2018, arXiv:1807.00263). All quantiles move together, the same way at
  every x. R interpolates linearly between the points $(u_{(i)}, i/(n+1))$, so that a new observation falls between two
  neighbours with probability 1/(n+1), whatever the model: central intervals have their stated coverage at finite n,
  averaged over x (the split conformal predictive system of Vovk, Shen, Manokhin & Xie 2019, Mach. Learn. 108, 445-474).
- The *highest-density level* is the level of the regions that contain the wanted share of the calibration split, the
  $\lceil (n+1) q \rceil$-th smallest (conformal prediction with the highest-density level as score: Izbicki, Shimizu &
  Stern 2022, J. Mach. Learn. Res. 23(87)). These regions keep several peaks apart, for one target and for several.

Neither repairs a fault that depends on x: a model that is overconfident at some x and underconfident at others stays
so. See coverage by groups.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from posterity.inference.diagnostics.calibration.regions import region_level
from posterity.inference.diagnostics.calibration.transform import pit, pit_array
from posterity.inference.diagnostics.sources.reading import has_several_targets, is_mixture, read, require_mixture
from posterity.random import generator
from posterity.validation import check_finite, check_integer, check_number, check_seed, to_numbers

if TYPE_CHECKING:
    from posterity.models.mixtures import Regions

LEAST = 20
"""Fewest observations of a calibration split."""

DENSITIES = 1.5e8
"""Component densities for the highest-density levels of a split, by default."""

FEWEST, MOST = 99, 999
"""Draws behind each highest-density level, by default."""


@dataclass(frozen=True, eq=False)
class Recalibrator:
    """The sorted values of a calibration split; made by `Recalibrator.fit`.

    ``pit`` (n,) are its PIT values, empty for several targets; ``level`` (n,) its highest-density levels, or None if
    the source has no density (draws).

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> narrow = Mixture.normal(torch.zeros(999, 1), torch.zeros(999, 1), torch.full((999, 1), 0.5))
    >>> y = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(999) + 1) / 1000)
    >>> Recalibrator.fit(narrow, y).quantiles(narrow[:1], [0.16, 0.84]).round(2)
    array([[-0.99],
           [ 0.99]])
    """

    pit: np.ndarray
    level: np.ndarray | None = None

    @classmethod
    def fit(
        cls, source: object, y: Any = None, *, draws: int | None = None, var_name: str | None = None, seed: int = 0
    ) -> Recalibrator:
        """The recalibrator of a calibration split.

        The split must be separate: the PIT of observations that trained the model is drawn towards 1/2.

        Args:
            source: a `Mixture`, draws (S, N), or ArviZ data.
            y: observations (N,), or (N, D) of a mixture of several targets.
            draws: draws behind the highest-density level of each observation of a mixture. The cost is N x ``draws`` x
                components; by default 99 to 999 draws, as many as 1.5e8 component densities allow. With few draws the
                regions are too small, by about the error of a rank, 1/``draws``, and more where regions are wide.
            var_name: the observed variable of ArviZ data, if there are several.
            seed: seed of these draws, and of the ties of ranks among draws.

        Raises:
            ValueError: if there are fewer than 20 observations, and as `pit`.
        """
        seed = check_seed(seed)
        data = read(source, y, var_name, several=has_several_targets(source))
        level = None
        if data.has_density:
            if draws is None:
                mixture = require_mixture(data, "highest-density levels").mixture
                draws = int(np.clip(DENSITIES / (len(data.observed) * mixture.num_components), FEWEST, MOST))
            level = np.sort(region_level(data, kind="hdi", draws=draws, seed=seed)["level"].values)
        if data.observed.ndim == 2:  # several targets have no distribution function to map
            require_mixture(data, "several targets")
            return cls(np.array([]), level)
        return cls(np.sort(pit_array(pit(data, seed=seed))), level)

    def __repr__(self) -> str:
        n = len(self.pit) if len(self.pit) or self.level is None else len(self.level)
        return f"Recalibrator(n={n}, {'with' if self.level is not None else 'without'} highest-density levels)"

    def __post_init__(self) -> None:
        for name, values in (("pit", self.pit), ("level", self.level)):
            if values is not None and (not isinstance(values, np.ndarray) or values.dtype.kind != "f"):
                raise ValueError(f"expected {name} as an array of floats, got {type(values).__name__}")
            if values is None or (name == "pit" and len(values) == 0 and self.level is not None):
                continue
            if values.ndim != 1 or len(values) < LEAST:
                raise ValueError(f"expected a calibration split of at least {LEAST} observations, got {values.shape}")
            check_finite(name, values)
            if (np.diff(values) < 0).any() or values[0] < 0 or values[-1] > 1:
                raise ValueError(f"expected sorted values of {name} in [0, 1], got {values[:3].tolist()}...")

    def cdf(self, probability: Any) -> np.ndarray:
        """R(u): the recalibrated probabilities of u = F(y|x), of any shape."""
        u = _probabilities(probability)
        places, heights = self._map()
        return np.interp(u, places, heights)

    def icdf(self, probability: Any) -> np.ndarray:
        """R^-1(p): the levels of the model's quantiles that are the recalibrated p-quantiles, of any shape."""
        p = _probabilities(probability)
        places, heights = self._map()
        return np.interp(p, heights, places)

    def recalibrated_pit(
        self, source: object, y: Any = None, *, var_name: str | None = None, seed: int = 0
    ) -> xr.Dataset:
        """``pit`` and ``pit_sf`` of the recalibrated predictive, as `pit` returns them.

        ``source`` is what `pit` takes, or a result of `pit`. The values share the error of the map, so they are not
        independent: a test of their uniformity compares two samples, and rejects too often unless the calibration split
        is much larger than the observations that are judged.

        Raises:
            ValueError: if the observations are those of the calibration split, whose recalibrated values are uniform by
                construction, whatever the model.
        """
        values = source if isinstance(source, xr.Dataset) else pit(source, y, var_name=var_name, seed=seed)
        old = pit_array(values)
        if len(old) == len(self.pit) and np.array_equal(np.sort(old), self.pit):
            raise ValueError(
                "expected observations outside the calibration split, got the same: judge on a third split"
            )
        new = self.cdf(old).reshape(values["pit"].shape)
        dims = values["pit"].dims
        return xr.Dataset(
            {"pit": (dims, new), "pit_sf": (dims, 1 - new)},
            coords=values.coords,
            attrs={**values.attrs, "recalibrated": len(self.pit)},
        )

    def quantiles(self, source: object, probabilities: Any) -> np.ndarray:
        """Quantiles (Q, N) of the recalibrated predictive, in units of y, of a `Mixture`, draws (S, N) or ArviZ data.

        No quantile lies beyond the outermost draw: levels below 1/(S + 1) give that draw, with a warning. A quantile is
        infinite, with a warning, if so many observations of the calibration split have a PIT that is 0 or 1 in double
        precision.

        Raises:
            ValueError: if probabilities are not (Q,) in [0, 1], or draws are not finite.
        """
        return self._quantiles(source, probabilities, warn=True)

    def _quantiles(self, source: object, probabilities: Any, warn: bool) -> np.ndarray:
        levels = np.atleast_1d(_probabilities(probabilities))
        if levels.ndim != 1:
            raise ValueError(f"expected probabilities of shape (Q,), got {levels.shape}")
        wanted = self.icdf(levels)
        infinite = int(((wanted <= 0) | (wanted >= 1)).sum())
        data = read(source, needs_y=False)
        if infinite and data.has_density and warn:
            warnings.warn(
                f"{infinite} of {len(wanted)} quantiles are infinite: so many observations of the calibration split "
                "have a PIT of 0 or 1; use a model with wider tails, or levels closer to 1/2",
                stacklevel=3,
            )
        if data.has_density:
            return data.quantiles(wanted)
        draws = data.draws(data.num_draws, seed=0)
        end = 1 / (len(draws) + 1)
        beyond = int(((wanted < end) | (wanted > 1 - end)).sum())
        if beyond and warn:
            warnings.warn(
                f"{beyond} of {len(wanted)} quantiles lie beyond the outermost of {len(draws)} draws, which is used "
                "instead, so intervals cover less than stated; use more draws, or levels closer to 1/2",
                stacklevel=3,
            )
        # y is below the i-th of S draws with probability i / (S + 1), not (i - 1) / (S - 1).
        return np.asarray(np.quantile(draws, wanted, axis=0, method="weibull"))

    def sample(self, source: object, draws: int, *, seed: int = 0) -> np.ndarray:
        """Draws (draws, N) of the recalibrated predictive, which every diagnostic takes together with y.

        They are its quantiles at random levels, the same levels for all N observations: the draws of each observation
        are right by themselves, and those of different observations are dependent.
        """
        check_integer("draws", draws, 1)
        seed = check_seed(seed)
        return self._quantiles(source, generator(seed, "recalibrated draws").random(draws), warn=False)

    def hdi_level(self, level: float) -> float:
        """The level at which the model's highest-density regions contain a share ``level`` of new observations.

        They contain that share or more. 1 if the calibration split is too small: n >= level / (1 - level) is needed.

        Raises:
            ValueError: if ``level`` is not in (0, 1), or the recalibrator has no levels (draws).
        """
        check_number("level", level, "(0, 1)")
        if self.level is None:
            raise ValueError(
                "expected a recalibrator fitted to a mixture for highest-density regions, got one fitted to draws"
            )
        rank = math.ceil((len(self.level) + 1) * level - 1e-9)
        return float(self.level[rank - 1]) if rank <= len(self.level) else 1.0

    def hdi(self, mixture: Any, level: float) -> Regions:
        """Recalibrated highest-density regions of a `Mixture` of one target: `Mixture.hdr` at `hdi_level`.

        Their ``level`` is the requested one; their ``probability`` is that of the mixture, which is `hdi_level`.

        Raises:
            ValueError: as `hdi_level`, and if the calibration split is too small for the level.
        """
        if not is_mixture(mixture):
            raise ValueError(f"expected a Mixture, got {type(mixture).__name__}")
        wanted = self.hdi_level(level)
        if wanted >= 1:
            raise ValueError(
                f"expected a calibration split of {math.ceil(level / (1 - level))} observations or more for "
                f"regions of {level:.0%}, got {0 if self.level is None else len(self.level)}"
            )
        regions: Regions = mixture.hdr(max(wanted, 1e-9))
        return replace(regions, level=float(level))

    def to_dataset(self) -> xr.Dataset:
        """``pit`` and ``level`` over "rank", for ``to_netcdf``; `from_dataset` reads them."""
        columns = {"pit": ("rank", self.pit)} if len(self.pit) else {}
        return xr.Dataset(columns | ({} if self.level is None else {"level": ("rank", self.level)}))

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Recalibrator:
        """The recalibrator of a result of `to_dataset`; ``ValueError`` for any other Dataset."""
        if not isinstance(dataset, xr.Dataset) or not {"pit", "level"} & set(dataset.data_vars):
            got = list(dataset.data_vars) if isinstance(dataset, xr.Dataset) else type(dataset).__name__
            raise ValueError(f"expected a Dataset with 'pit' or 'level', as to_dataset() returns, got {got}")
        level = dataset["level"].values if "level" in dataset else None
        return cls(dataset["pit"].values if "pit" in dataset else np.array([]), level)

    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        """Points of R in ascending order, from (0, 0) to (1, 1)."""
        if not len(self.pit):
            raise ValueError("expected a recalibrator of one target for distribution functions, got one of several")
        n = len(self.pit)
        return np.concatenate([[0.0], self.pit, [1.0]]), np.arange(n + 2) / (n + 1)


def _probabilities(values: Any) -> np.ndarray:
    array = to_numbers("probabilities", values)
    if not bool(((array >= 0) & (array <= 1)).all()):
        raise ValueError(f"expected probabilities to be numbers in [0, 1], got {array.reshape(-1)[:5].tolist()}")
    return array
