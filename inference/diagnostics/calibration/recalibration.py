"""Mending a predictive that is not calibrated, by observations kept for that.

`Recalibrator` learns from a calibration split, which neither trained the model nor judges the result:

- the *PIT map* R: the distribution function of u = F(y|x) on the calibration split. R(F(y|x)) is the recalibrated
  distribution function (Kuleshov, Fenner & Ermon 2018, arXiv:1807.00263): all quantiles move at once, the same way at
  every x. R goes through (u_(i), i/(n+1)), straight between, so that a fresh observation falls between two neighbours
  with probability 1/(n+1) each, whatever the model: central intervals hold what they promise at finite n, averaged over
  x (the split conformal predictive system of Vovk, Shen, Manokhin & Xie 2019, Mach. Learn. 108, 445-474).
- the *highest-density level*: that of the regions which hold the wanted share of the calibration split, the
  ceil((n+1) q)-th smallest (conformal prediction with the highest-density level as score: Izbicki, Shimizu & Stern
  2022, J. Mach. Learn. Res. 23(87)). These keep several peaks apart, for one target and for several.

Neither mends what depends on x: a model that is too sure here and too unsure there stays so. Look at coverage by
groups.
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

LEAST = 20  # observations of the calibration split
DENSITIES, FEWEST, MOST = 1.5e8, 99, 999  # of components, and draws behind a level, unless others are asked for


@dataclass(frozen=True, eq=False)
class Recalibrator:
    """What was learnt from a calibration split; made by `Recalibrator.fit`.

    ``pit`` (n,): its sorted PIT values; ``level`` (n,): its sorted highest-density levels, or None where the source has
    no density (draws).

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
        """Learn from a calibration split: a `Mixture` with ``y``, draws (S, N) with ``y``, or ArviZ data.

        The split is to be one of its own: of rows that trained the model the PIT is drawn towards 1/2. Of draws the PIT
        is a randomised rank; ``seed`` is that of its ties and of the ``draws`` behind the highest-density levels of a
        mixture, which cost N x ``draws`` x components: by default from 99 to 999 of them, as many as 1.5e8 densities
        allow. Few make the regions too small, by about the error of a rank among so few, 1/``draws``, and more where
        regions are wide.
        Raises ``ValueError`` for fewer than 20 observations, and as `pit`.
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
        """R(u): the recalibrated probability of u = F(y|x), of any shape."""
        u = _probabilities(probability)
        places, heights = self._map()
        return np.interp(u, places, heights)

    def icdf(self, probability: Any) -> np.ndarray:
        """R^-1(p): the level of the model's quantile that is the recalibrated p-quantile."""
        p = _probabilities(probability)
        places, heights = self._map()
        return np.interp(p, heights, places)

    def recalibrated_pit(
        self, source: object, y: Any = None, *, var_name: str | None = None, seed: int = 0
    ) -> xr.Dataset:
        """``pit`` and ``pit_sf`` of the recalibrated predictive, as `pit` returns them; or of what `pit` returned.

        They share the error of the map, so that they are not independent: a test of their uniformity compares two
        samples, and rejects too often where the calibration split is not much larger than the one judged.
        Raises ``ValueError`` for the calibration split itself: there they are uniform by construction, whatever the
        model.
        """
        values = source if isinstance(source, xr.Dataset) else pit(source, y, var_name=var_name, seed=seed)
        old = pit_array(values)
        if len(old) == len(self.pit) and np.array_equal(np.sort(old), self.pit):
            raise ValueError(
                "expected other observations than those of the calibration split, got the same: judge on a third part"
            )
        new = self.cdf(old).reshape(values["pit"].shape)
        dims = values["pit"].dims
        return xr.Dataset(
            {"pit": (dims, new), "pit_sf": (dims, 1 - new)},
            coords=values.coords,
            attrs={**values.attrs, "recalibrated": len(self.pit)},
        )

    def quantiles(self, source: object, probabilities: Any) -> np.ndarray:
        """Quantiles (Q, N) of the recalibrated predictive, in units of y: of a `Mixture`, or of draws (S, N).

        Of draws none lies beyond the outermost one: levels below 1/(S + 1) are that one, with a warning. Infinite, with
        a warning, where observations of the calibration split were so far out that their PIT is 0 or 1 in double
        precision. Raises ``ValueError`` for probabilities outside [0, 1], not (Q,), or draws that are not finite.
        """
        return self._quantiles(source, probabilities, warn=True)

    def _quantiles(self, source: object, probabilities: Any, warn: bool) -> np.ndarray:
        levels = np.atleast_1d(_probabilities(probabilities))
        if levels.ndim != 1:
            raise ValueError(f"expected probabilities of shape (Q,), got {levels.shape}")
        wanted = self.icdf(levels)
        endless = int(((wanted <= 0) | (wanted >= 1)).sum())
        data = read(source, needs_y=False)
        if endless and data.has_density and warn:
            warnings.warn(
                f"{endless} of {len(wanted)} quantiles are infinite: that share of the calibration split lies further "
                "out than the model can say; use a model of wider tails, or levels closer to 1/2",
                stacklevel=3,
            )
        if data.has_density:
            return data.quantiles(wanted)
        draws = data.draws(data.num_draws, seed=0)
        end = 1 / (len(draws) + 1)
        beyond = int(((wanted < end) | (wanted > 1 - end)).sum())
        if beyond and warn:
            warnings.warn(
                f"{beyond} of {len(wanted)} quantiles lie beyond the outermost of {len(draws)} draws, and are that "
                "one: intervals with them hold less than they say; use more draws, or levels closer to 1/2",
                stacklevel=3,
            )
        # y is as often below the i-th of S draws as i / (S + 1) says, and not (i - 1) / (S - 1).
        return np.asarray(np.quantile(draws, wanted, axis=0, method="weibull"))

    def sample(self, source: object, draws: int, *, seed: int = 0) -> np.ndarray:
        """Draws (draws, N) of the recalibrated predictive, which every diagnostic takes with y.

        They are its quantiles at random levels, one set of levels for all rows: each row's draws are right by
        themselves, and those of different rows go together.
        """
        check_integer("draws", draws, 1)
        seed = check_seed(seed)
        return self._quantiles(source, generator(seed, "recalibrated draws").random(draws), warn=False)

    def hdi_level(self, level: float) -> float:
        """The level at which the model's highest-density regions hold ``level`` of fresh observations, or more.

        1 where the calibration split is too small to say: n >= level / (1 - level) is needed. Raises ``ValueError`` for
        a level outside (0, 1), or without levels (draws).
        """
        check_number("level", level, "(0, 1)")
        if self.level is None:
            raise ValueError(
                "expected a recalibrator fitted to a mixture for highest-density regions, got one of draws"
            )
        rank = math.ceil((len(self.level) + 1) * level - 1e-9)
        return float(self.level[rank - 1]) if rank <= len(self.level) else 1.0

    def hdi(self, mixture: Any, level: float) -> Regions:
        """Recalibrated highest-density regions of a `Mixture` of one target: `Mixture.hdr` at `hdi_level`.

        Their ``level`` is the one asked for, their ``probability`` that of the mixture, which is `hdi_level`.

        Raises ``ValueError`` as `hdi_level`, and where the calibration split is too small for this level.
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
        """What it knows, to be written with ``to_netcdf``; `from_dataset` reads it."""
        found = {"pit": ("rank", self.pit)} if len(self.pit) else {}
        return xr.Dataset(found | ({} if self.level is None else {"level": ("rank", self.level)}))

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Recalibrator:
        """What `to_dataset` gave; ``ValueError`` for anything else."""
        if not isinstance(dataset, xr.Dataset) or not {"pit", "level"} & set(dataset.data_vars):
            got = list(dataset.data_vars) if isinstance(dataset, xr.Dataset) else type(dataset).__name__
            raise ValueError(f"expected a Dataset with 'pit' or 'level', as to_dataset() returns, got {got}")
        level = dataset["level"].values if "level" in dataset else None
        return cls(dataset["pit"].values if "pit" in dataset else np.array([]), level)

    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        """Points of R, both ascending, from (0, 0) to (1, 1)."""
        if not len(self.pit):
            raise ValueError("expected a recalibrator of one target for distribution functions, got one of several")
        n = len(self.pit)
        return np.concatenate([[0.0], self.pit, [1.0]]), np.arange(n + 2) / (n + 1)


def _probabilities(values: Any) -> np.ndarray:
    array = to_numbers("probabilities", values)
    if not bool(((array >= 0) & (array <= 1)).all()):
        raise ValueError(f"expected probabilities to be numbers in [0, 1], got {array.reshape(-1)[:5].tolist()}")
    return array
