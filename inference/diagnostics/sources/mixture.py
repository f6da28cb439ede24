"""Predictives known as mixtures: everything exact. The one module of the sources that needs torch."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from posterity.inference.diagnostics.sources.labels import observations
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.nodes import is_discrete
from posterity.models.mixtures.row_chunks import CHUNK, by_rows, row_chunks, sample, sample_chunk
from posterity.random import generator, seeded
from posterity.validation import check_finite, to_numbers

DENSITIES = 6e7
"""Densities of components that a rank among densities takes, where nothing else is asked for: some 4 s on one core."""


@dataclass(frozen=True)
class MixtureSource:
    """A predictive mixture of batch shape (N,) and the observations (N,), or (N, D), it is judged by."""

    mixture: Mixture
    y: Tensor
    template: xr.DataArray

    @property
    def num_draws(self) -> int:
        """Draws of the posterior behind the predictive; 1 for a bare mixture."""
        return int(getattr(self.mixture, "num_draws", 1))

    @property
    def observed(self) -> np.ndarray:
        """y as an array."""
        return self.y.numpy()

    def tails(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """P(Y <= y) and P(Y > y), each (N,), exact; of counts with a random share of P(Y = y) on either side."""
        share = torch.zeros(len(self.y)).double()
        if is_discrete(self.mixture):
            share = torch.as_tensor(generator(seed, "counts").random(len(self.y)))

        def evaluate(part: Mixture, rows: slice) -> Tensor:
            y = self.y[rows]
            lower, upper = part.cdf(y), part.sf(y)
            if is_discrete(part):
                own = share[rows] * part.log_prob(y).exp()
                lower, upper = lower - own, upper + own
            return torch.stack([lower, upper])

        stacked = by_rows(self.mixture, evaluate, 2)
        # Weights sum to one only up to rounding.
        lower, upper = np.clip(stacked, 0.0, 1.0)
        return lower, upper

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the predictive, each (N,), or (N, D) of several targets."""
        mean, sd = by_rows(
            self.mixture, lambda part, rows: torch.stack([part.mean, part.variance.sqrt()]).movedim(1, -1), 2
        )
        return mean.T, sd.T

    def quantiles(self, probabilities: np.ndarray) -> np.ndarray:
        """(Q, N), exact up to rounding."""
        levels = torch.as_tensor(probabilities, dtype=torch.double)[:, None]
        return by_rows(self.mixture, lambda part, rows: part.icdf(levels), per_row=len(probabilities))

    def log_score(self) -> np.ndarray:
        """log p(y), (N,), in nats."""
        return by_rows(self.mixture, lambda part, rows: part.log_prob(self.y[rows]))

    def draws(self, count: int, seed: int) -> np.ndarray:
        """Draws of the predictive, (count, N) or (count, N, D)."""
        return sample(self.mixture, count, seed)

    def draw_blocks(self, count: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows, and draws of their predictive (count, rows) or (count, rows, D): never all of them at once."""
        seeds = np.random.SeedSequence(seed)
        numbers = count * math.prod(self.mixture.event_shape)
        for rows, part in row_chunks(self.mixture, max(1, math.ceil(numbers / self.mixture.num_components))):
            child = int(seeds.spawn(1)[0].generate_state(1, np.uint64)[0] >> 1)
            with seeded(child), torch.no_grad():
                made = sample_chunk(part, count).numpy()
            yield rows, made

    def density_draws(self, wanted: int | None) -> int:
        """How many draws a density rank takes: ``wanted``, or as many as there are `DENSITIES` for, from 3 to 999."""
        if wanted is not None:
            return wanted
        return int(np.clip(DENSITIES / (len(self.y) * self.mixture.num_components), 3, 999))

    def density_rank(self, draws: int, seed: int) -> np.ndarray:
        """Randomised rank of p(y) among the densities of draws, from the top, in (0, 1): (N,)."""
        denser, equal = [], []
        with torch.no_grad(), seeded(seed):
            per_row = max(1, math.ceil(draws / self.mixture.num_components))
            for rows, part in row_chunks(self.mixture, per_row):
                own = part.log_prob(self.y[rows])
                others = sample_chunk(part, draws)
                step = max(1, CHUNK // (len(own) * part.num_components))
                scores = torch.cat([part.log_prob(some) for some in others.split(step)])
                denser.append((scores > own).sum(0).numpy())
                equal.append((scores == own).sum(0).numpy())
        above, ties = np.concatenate(denser), np.concatenate(equal)
        share = generator(seed, "ranks").random(len(above))
        return (above + share * (ties + 1)) / (draws + 1)

    def component_pulls(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """A component (N,) drawn for each row from its responsibilities, and the pull (N,) from it."""
        uniform = torch.as_tensor(generator(seed, "components").random(len(self.y)))
        chosen, values = by_rows(
            self.mixture, lambda part, rows: _draw_component(part, self.y[rows], uniform[rows]), per_row=3
        )
        return chosen.astype(int), values

    def dataset(self, variables: Mapping[str, np.ndarray], **attrs: str | int | float) -> xr.Dataset:
        """Variables (N,) over the dimension "obs", or what y calls it, with its coordinates."""
        dims = self.template.dims
        found = {name: (dims, np.asarray(values)) for name, values in variables.items()}
        return xr.Dataset(found, coords=self.template.coords, attrs=attrs)


def from_mixture(source: object, y: Any, several: bool, needs_y: bool = True) -> MixtureSource:
    """A mixture of batch shape (N,) of one target, or with ``several`` of D, and its y, checked."""
    mixture = check_mixture(source)
    if not several:
        require_scalar_event(mixture)
    elif len(mixture.event_shape) != 1:
        raise ValueError(f"expected a mixture of several targets, got event shape {tuple(mixture.event_shape)}")
    shape = tuple(mixture.batch_shape) + tuple(mixture.event_shape)
    if y is None and needs_y:
        raise ValueError(f"expected y of shape {shape} with a mixture, got None")
    if y is None:
        return MixtureSource(
            mixture, torch.full(shape, math.nan, dtype=torch.double), observations(None, None, shape[0])
        )
    values = to_numbers("y", y)
    if values.shape != shape:
        raise ValueError(f"expected y of shape {shape}, got {values.shape}")
    check_finite("y", values)
    template = observations(None, y, shape[0])
    y = torch.tensor(values)
    if is_circular(mixture.component_distribution):
        y = torch.remainder(y + math.pi, 2 * math.pi) - math.pi  # the same angle, where its distribution begins
    support = mixture.component_distribution.support
    outside = ~torch.as_tensor(support.check(y.unsqueeze(1))).to("cpu").expand(len(y), -1).all(-1)
    if outside.any():
        family = type(mixture.component_distribution).__name__
        raise ValueError(f"expected y that {family} components can be, got {int(outside.sum())} of {len(y)} outside")
    return MixtureSource(mixture, y, template)


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
    """A component drawn from its responsibilities, and the pull from it: (2, N)."""
    steps = mixture.responsibilities(y).cumsum(-1)
    reached = steps <= (uniform * steps[:, -1]).unsqueeze(-1)
    chosen = reached.sum(-1, keepdim=True).clamp_max(mixture.num_components - 1)
    components = mixture.component_distribution
    mean, sd = (
        moment.expand(steps.shape).gather(-1, chosen).squeeze(-1) for moment in (components.mean, components.stddev)
    )
    check_finite("standard deviations of the components for kind='component'", sd.numpy())
    return torch.stack([chosen.squeeze(-1).double(), (y - mean) / sd])
