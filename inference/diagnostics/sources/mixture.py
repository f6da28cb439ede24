"""Predictives that are mixtures: distribution functions, moments and densities are exact. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from posterity.inference.diagnostics.sources import mixture_regions, mixture_targets
from posterity.inference.diagnostics.sources.draws import RANKS, DrawsSource, source_of_draws
from posterity.inference.diagnostics.sources.labels import observations
from posterity.inference.diagnostics.sources.source import Source
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.drawing import draw_components
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.nodes import is_discrete
from posterity.models.mixtures.row_chunks import CHUNK, by_rows, row_chunks, sample, sample_chunk
from posterity.random import generator, seeded
from posterity.validation import check_finite, to_numbers

DENSITIES = 6e7
"""Component densities that a rank among densities takes by default: some 4 s on one core."""

FEWEST, MOST = 3, 999
"""Draws of which a rank among densities is taken by default."""


@dataclass(frozen=True)
class MixtureSource(Source):
    """A mixture of batch shape (N,) and the observations, (N,) or (N, D)."""

    mixture: Mixture
    observed: np.ndarray
    template: xr.DataArray
    kind: Literal["mixture", "draws", "arviz"] = "mixture"

    @property
    def y(self) -> Tensor:
        """The observations in double precision."""
        return torch.from_numpy(self.observed)

    @property
    def num_draws(self) -> int:
        return int(getattr(self.mixture, "num_draws", 1))

    @property
    def is_discrete(self) -> bool:
        """Whether the target is a count."""
        return is_discrete(self.mixture)

    def tails(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """P(Y <= y) and P(Y > y), each (N,), exact; of counts P(Y = y) is divided between them at random."""
        y, share = self.y, torch.zeros(len(self.observed)).double()
        if self.is_discrete:
            share = torch.as_tensor(generator(seed, "counts").random(len(y)))

        def evaluate(part: Mixture, rows: slice) -> Tensor:
            lower, upper = part.cdf(y[rows]), part.sf(y[rows])
            if is_discrete(part):
                own = share[rows] * part.log_prob(y[rows]).exp()
                lower, upper = lower - own, upper + own
            return torch.stack([lower, upper])

        stacked = by_rows(self.mixture, evaluate, 2)
        # Weights sum to one only up to rounding.
        lower, upper = np.clip(stacked, 0.0, 1.0)
        return lower, upper

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        mean, sd = by_rows(
            self.mixture, lambda part, rows: torch.stack([part.mean, part.variance.sqrt()]).movedim(1, -1), 2
        )
        return mean.T, sd.T

    def quantiles(self, probabilities: np.ndarray) -> np.ndarray:
        """Quantiles (Q, N), exact up to rounding."""
        levels = torch.as_tensor(probabilities, dtype=torch.double)[:, None]
        return by_rows(self.mixture, lambda part, rows: part.icdf(levels), per_row=len(probabilities))

    def mean_quantiles(self, probabilities: np.ndarray) -> np.ndarray:
        """Quantiles (Q, N) over the draws of E[y|x, draw], each draw with its weight."""
        levels = torch.as_tensor(probabilities, dtype=torch.float).double()  # as exact as cumulative weights are

        def evaluate(part: PredictiveMixture, rows: slice) -> Tensor:
            means, order = part.per_draw.mean.sort(-1)
            cumulative = part.log_draw_weights.exp().gather(-1, order).cumsum(-1)
            ends = levels.expand(len(means), len(levels)).contiguous()
            index = torch.searchsorted(cumulative, ends).clamp_max(means.shape[-1] - 1)
            return means.gather(-1, index).T

        return by_rows(self.mixture, evaluate)

    def log_score(self) -> np.ndarray:
        y = self.y
        return by_rows(self.mixture, lambda part, rows: part.log_prob(y[rows]))

    def log_density(self, grid: np.ndarray) -> np.ndarray:
        """log p(y|x) in nats at every y of the ``grid`` (G,): (G, N)."""
        column = torch.as_tensor(grid)[:, None]
        return by_rows(self.mixture, lambda part, rows: part.log_prob(column), per_row=len(grid))

    def draws(self, count: int, seed: int) -> np.ndarray:
        return sample(self.mixture, count, seed)

    def draw_chunks(self, count: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
        seeds = np.random.SeedSequence(seed)
        numbers = count * math.prod(self.mixture.event_shape)
        for rows, part in row_chunks(self.mixture, max(1, math.ceil(numbers / self.mixture.num_components))):
            child = int(seeds.spawn(1)[0].generate_state(1, np.uint64)[0]) >> 1
            with seeded(child), torch.no_grad():
                drawn = sample_chunk(part, count).numpy()
            yield rows, drawn

    def draw_count(self, wanted: int) -> int:
        return wanted

    def as_draws(self, count: int, seed: int) -> DrawsSource:
        return source_of_draws(self.draws(count, seed), self.observed, several=False)

    def replicates(self, count: int, seed: int) -> Iterator[np.ndarray]:
        return mixture_targets.replicates(self.mixture, count, seed)

    def density_draws(self, wanted: int | None) -> int:
        """Number of draws for `density_rank`: ``wanted``, or as many as `DENSITIES` allows, from 3 to 999."""
        if wanted is not None:
            return wanted
        return int(np.clip(DENSITIES / (len(self.observed) * self.mixture.num_components), FEWEST, MOST))

    def density_rank(self, draws: int, seed: int) -> np.ndarray:
        """Randomised rank of p(y) among the densities of draws, from the top, in (0, 1): (N,)."""
        y, denser, equal = self.y, [], []
        with torch.no_grad(), seeded(seed):
            per_row = max(1, math.ceil(draws / self.mixture.num_components))
            for rows, part in row_chunks(self.mixture, per_row):
                own = part.log_prob(y[rows])
                drawn = sample_chunk(part, draws)
                step = max(1, CHUNK // (len(own) * part.num_components))
                densities = torch.cat([part.log_prob(some) for some in drawn.split(step)])
                denser.append((densities > own).sum(0).numpy())
                equal.append((densities == own).sum(0).numpy())
        above, ties = np.concatenate(denser), np.concatenate(equal)
        share = generator(seed, RANKS).random(len(above))
        return (above + share * (ties + 1)) / (draws + 1)

    def highest_density(self, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the highest-density region: length, distance of y (0 inside), and number of intervals, each (N,)."""
        return mixture_regions.highest_density(self.mixture, self.y, level)

    def component_pulls(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """A component (N,) drawn for each observation from its responsibilities, and the pull (N,) from it."""
        y = self.y
        uniform = torch.as_tensor(generator(seed, "components").random(len(y)))
        chosen, values = by_rows(
            self.mixture, lambda part, rows: _draw_component(part, y[rows], uniform[rows]), per_row=3
        )
        return chosen.astype(int), values

    def component_distances(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """A component (N,) drawn for each observation from its responsibilities, and y's squared distance (N,)."""
        return mixture_targets.component_distances(self.mixture, self.y, seed)

    def is_constant(self) -> np.ndarray:
        return np.zeros(len(self.observed), dtype=bool)

    def require_line(self) -> None:
        if is_circular(self.mixture.component_distribution):
            raise ValueError("expected a target on a line, got angles, whose regions have no lower and upper end")

    def require_two_draws(self) -> None:
        """Nothing: the spread of a mixture is known."""


def source_of_mixture(source: object, y: Any, several: bool, needs_y: bool = True) -> MixtureSource:
    """The source of a mixture of batch shape (N,), of one target or with ``several`` of D targets, and its y."""
    mixture = check_mixture(source)
    if not several:
        require_scalar_event(mixture)
    elif len(mixture.event_shape) != 1:
        raise ValueError(f"expected a mixture of several targets, got event shape {tuple(mixture.event_shape)}")
    shape = tuple(mixture.batch_shape) + tuple(mixture.event_shape)
    if y is None and needs_y:
        raise ValueError(f"expected y of shape {shape} with a mixture, got None")
    if y is None:
        return MixtureSource(mixture, np.full(shape, np.nan), observations(None, None, shape[0]))
    values = to_numbers("y", y)
    if values.shape != shape:
        raise ValueError(f"expected y of shape {shape}, got {values.shape}")
    check_finite("y", values)
    template = observations(None, y, shape[0])
    observed = torch.tensor(values)
    if is_circular(mixture.component_distribution):
        observed = torch.remainder(observed + math.pi, 2 * math.pi) - math.pi  # into the interval of the distribution
    support = mixture.component_distribution.support
    outside = ~torch.as_tensor(support.check(observed.unsqueeze(1))).to("cpu").expand(len(observed), -1).all(-1)
    if outside.any():
        family = type(mixture.component_distribution).__name__
        count = int(outside.sum())
        raise ValueError(f"expected y in the support of {family} components, got {count} of {len(observed)} outside")
    return MixtureSource(mixture, observed.numpy(), template)


def check_mixture(mixture: object) -> Mixture:
    """A mixture of batch shape (N,) with N > 0; ``ValueError`` otherwise."""
    if not isinstance(mixture, Mixture):
        raise ValueError(f"expected a Mixture, got {type(mixture).__name__}")
    if len(mixture.batch_shape) != 1 or mixture.batch_shape[0] == 0:
        raise ValueError(f"expected a mixture of batch shape (N,), got {tuple(mixture.batch_shape)}")
    return mixture


def require_scalar_event(mixture: Mixture) -> None:
    """``ValueError`` for a mixture of several target dimensions."""
    if mixture.event_shape:
        raise ValueError(f"expected a mixture of one target, got event shape {tuple(mixture.event_shape)}")


def _draw_component(mixture: Mixture, y: Tensor, uniform: Tensor) -> Tensor:
    """A component drawn from the responsibilities, and the pull of y from it: (2, N)."""
    chosen = draw_components(mixture.responsibilities(y), uniform[:, None])
    components, shape = mixture.component_distribution, (len(y), mixture.num_components)
    mean, sd = (moment.expand(shape).gather(-1, chosen).squeeze(-1) for moment in (components.mean, components.stddev))
    check_finite("standard deviations of the components for kind='component'", sd.numpy())
    return torch.stack([chosen.squeeze(-1).double(), (y - mean) / sd])
