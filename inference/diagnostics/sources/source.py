"""The interface of predictives: what a diagnostic asks, whether the predictive is a mixture or known by draws.

A diagnostic is written once, against `Source`. `posterity.inference.diagnostics.sources.reading.read` makes a source
and checks the input; a diagnostic that calls others passes the source on, so that the input is read once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import xarray as xr


class Source(ABC):
    """A predictive distribution for each of N observations, and the observations.

    ``kind`` is "mixture", "draws" (an array) or "arviz". ``observed`` is (N,), or (N, D) of several targets;
    ``template`` has the dimensions and coordinates of the observations.
    """

    kind: Literal["mixture", "draws", "arviz"]
    observed: np.ndarray
    template: xr.DataArray

    @property
    def has_density(self) -> bool:
        """Whether density and components are known: of a mixture they are, of draws they are not."""
        return self.kind == "mixture"

    @property
    def default_pit_kind(self) -> Literal["cdf", "rank"]:
        """The PIT in `tails`: the distribution function of a mixture, the randomised rank among draws."""
        return "cdf" if self.has_density else "rank"

    @property
    @abstractmethod
    def num_draws(self) -> int:
        """Number of draws behind the predictive; 1 for a bare mixture."""

    @abstractmethod
    def tails(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """P(Y <= y) and P(Y > y), each (N,)."""

    @abstractmethod
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the predictive, each (N,), or (N, D) of several targets."""

    @abstractmethod
    def quantiles(self, probabilities: np.ndarray) -> np.ndarray:
        """Quantiles (Q, N) of the predictive."""

    @abstractmethod
    def log_score(self) -> np.ndarray:
        """log p(y), (N,), in nats; ``ValueError`` if the source has no density and no log likelihood."""

    @abstractmethod
    def draws(self, count: int, seed: int) -> np.ndarray:
        """Draws (S, N) or (S, N, D): ``count`` new ones of a mixture, otherwise all that there are."""

    @abstractmethod
    def draw_chunks(self, count: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Slices of observations, each with its draws as in `draws`, so that memory is bounded."""

    @abstractmethod
    def draw_count(self, wanted: int) -> int:
        """Number of draws that `draws` returns for ``wanted``."""

    @abstractmethod
    def as_draws(self, count: int, seed: int) -> Source:
        """The same observations with draws of the predictive."""

    @abstractmethod
    def replicates(self, count: int, seed: int) -> Iterator[np.ndarray]:
        """Chunks (sets, N) of replicated data sets, ``count`` of a mixture in all, otherwise all draws."""

    @abstractmethod
    def is_constant(self) -> np.ndarray:
        """Whether all draws of an observation's predictive are equal, (N,)."""

    @abstractmethod
    def require_line(self) -> None:
        """``ValueError`` for angles, whose regions have no lower and upper end."""

    @abstractmethod
    def require_two_draws(self) -> None:
        """``ValueError`` for a single draw, which has no spread."""

    def dataset(self, variables: Mapping[str, np.ndarray], **attrs: str | int | float) -> xr.Dataset:
        """Variables (N,) over the dimensions and coordinates of the observations."""
        shape, dims = self.template.shape, self.template.dims
        shaped = {name: (dims, np.asarray(values).reshape(shape)) for name, values in variables.items()}
        return xr.Dataset(shaped, coords=self.template.coords, attrs=attrs)
