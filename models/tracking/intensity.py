r"""The intensity of a Poisson process of tracks over the (b1, b2) plane.

A finder returns a mixture whose weights are expected numbers of tracks instead of probabilities,

$$\lambda(b) = \sum_m r_m p_m(b) + \sum_c r_c N(b; \text{cell } c),$$

with M candidates, each a `Mixture` $p_m$ that exists with probability $r_m$, and the rate $r_c$ that remains in each
cell of the plane. `TrackSet` is the distribution of any number of tracks. For a finder that was trained on events of
one track, `TrackIntensity.single` is the density of that track: the sum of the $r_c$ is the odds that it is none of the
candidates; given that it is one, it is candidate m with probability proportional to the odds $r_m / (1 - r_m)$, the
posterior of independent candidates given that exactly one exists.
"""

import math
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from posterity.data.tracks import check_tracks, proper_rows, track_distances
from posterity.models.mixtures import Mixture
from posterity.models.tracking.normals import log_normal
from posterity.validation import check_integer, check_number


@dataclass(frozen=True, eq=False)
class TrackIntensity:
    """The intensities of N images; lengths are in pixels.

    Attributes:
        log_odds: (N, M), log-odds of the existence of each candidate.
        candidates: densities of the candidates' tracks: batch shape (N, M), event shape (2,), normal components.
        log_cell_rates: (N, C), log of the expected number of further tracks in each cell.
        cells: (C, 2), centres of the cells.
        width: standard deviation of a track in a cell, in both directions.
    """

    log_odds: Tensor
    candidates: Mixture
    log_cell_rates: Tensor
    cells: Tensor
    width: float

    def __len__(self) -> int:
        return len(self.log_odds)

    @property
    def log_rates(self) -> Tensor:
        """Log probability of existence of each candidate, (N, M): the log of its expected number of tracks."""
        return logsigmoid(self.log_odds)

    @property
    def log_total(self) -> Tensor:
        """Log of the expected number of tracks, (N,)."""
        return torch.cat([self.log_rates, self.log_cell_rates], 1).logsumexp(1)

    def log_intensity(self, tracks: Tensor) -> Tensor:
        """Log of the expected number of tracks per pixel², (N, T), at finite tracks (N, T, 2)."""
        return self._log_sum(self.log_rates, self.log_cell_rates, tracks)

    def single_log_prob(self, tracks: Tensor) -> Tensor:
        """Log density of `single` in 1/pixel², (N, T), at tracks (N, T, 2); faster than by the mixture."""
        return self._log_sum(*self._single_log_weights(), tracks)

    def _log_sum(self, near: Tensor, far: Tensor, tracks: Tensor) -> Tensor:
        check_tracks(tracks, len(self), rows=False)
        if tracks.is_complex() or tracks.dtype == torch.bool:
            raise ValueError(f"expected tracks to be real numbers, got {tracks.dtype}")
        normals = self.candidates.component_distribution
        each = log_normal(tracks[:, :, None, None], normals.loc[:, None], normals.scale_tril[:, None])
        each = (each + self.candidates.log_weights[:, None]).logsumexp(-1) + near[:, None]
        away = ((tracks[:, :, None] - self.cells) ** 2).sum(-1) / self.width**2
        rest = far[:, None] - 0.5 * away - math.log(2 * math.pi * self.width**2)
        return torch.cat([each, rest], -1).logsumexp(-1)

    def _single_log_weights(self) -> tuple[Tensor, Tensor]:
        """Log probabilities of candidates (N, M) and cells (N, C), which together sum to 1."""
        rest = self.log_cell_rates.logsumexp(1, keepdim=True)
        return self.log_odds.log_softmax(1) + logsigmoid(-rest), self.log_cell_rates - rest + logsigmoid(rest)

    @torch.no_grad()
    def detect(self, *, min_existence: float = 0.5, merge_distance: float = 1.0) -> "FoundTracks":
        """The candidates whose probability of existence exceeds ``min_existence``, the most probable first.

        Candidates whose means are closer than ``merge_distance`` pixels (root mean square along the track) are merged:
        the more probable one stays, with the sum of the expected numbers, at most 1.

        Raises:
            ValueError: ``min_existence`` outside [0, 1), or a negative or infinite ``merge_distance``.
        """
        check_number("min_existence", min_existence, "[0, 1)")
        check_number("merge_distance", merge_distance, "[0, inf)")
        order = self.log_rates.argsort(dim=1, descending=True, stable=True)
        rates = self.log_rates.exp().gather(1, order)
        event = torch.arange(len(self), device=rates.device)[:, None]
        mean, covariance = self.candidates.mean[event, order], self.candidates.covariance_matrix[event, order]
        near = track_distances(mean, mean) < merge_distance
        left = torch.ones_like(rates, dtype=torch.bool)
        for m in range(rates.shape[1]):
            other = torch.arange(rates.shape[1], device=rates.device) > m
            joined = near[:, m] & left & left[:, m, None] & other
            rates[:, m] += torch.where(joined, rates, 0.0).sum(1)
            left &= ~joined
        existence = torch.where(left, rates, 0.0).clamp_max(1.0)
        there = existence > min_existence
        return FoundTracks(
            torch.where(there[..., None], mean, torch.nan),
            torch.where(there[..., None, None], covariance, torch.nan),
            torch.where(there, existence, torch.nan),
        )

    def single(self) -> Mixture:
        """The density of the track of an event with exactly one: batch shape (N,).

        For finders that were trained on such events; see the module.
        """
        return self._mixture(*self._single_log_weights())

    def normalized(self) -> Mixture:
        """The normalised intensity, which is the density of a randomly chosen track: batch shape (N,)."""
        return self._mixture(self.log_rates, self.log_cell_rates)

    def _mixture(self, near: Tensor, far: Tensor) -> Mixture:
        normals = self.candidates.component_distribution
        eye = self.width * torch.eye(2, dtype=normals.loc.dtype, device=normals.loc.device)
        return Mixture.multivariate_normal(
            torch.cat([(near[..., None] + self.candidates.log_weights).flatten(1), far], 1),
            torch.cat([normals.loc.flatten(1, 2), self.cells.expand(len(self), -1, -1)], 1),
            torch.cat([normals.scale_tril.flatten(1, 2), eye.expand(*self.log_cell_rates.shape, 2, 2)], 1),
        )


@dataclass(frozen=True, eq=False)
class FoundTracks:
    """Detected tracks of N events, at most M in each, in descending order of existence; NaN beyond the last one.

    Attributes:
        tracks: (N, M, 2), means of both intercepts in pixels.
        covariance: (N, M, 2, 2), in pixels².
        existence: (N, M), probability of existence.
    """

    tracks: Tensor
    covariance: Tensor
    existence: Tensor


class _Sets(constraints.Constraint):
    """Tables (T, 2) with rows of two finite numbers, or of two NaN where there is no track."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        return proper_rows(value).all(-1)


class TrackSet(dist.TorchDistribution):
    """The distribution of unordered sets of tracks: a Poisson process with a `TrackIntensity`.

    A value is a table (N, T, 2) of intercepts in pixels, with rows of NaN where there is no track, and any T. Its log
    density is the sum of log intensities at the tracks minus the expected number of tracks, independent of the order
    of rows (Daley & Vere-Jones 2003, "An introduction to the theory of point processes", section 7.1). The log density
    of draws (*sample_shape, N, T, 2) has shape (*sample_shape, N). A sample has as many rows as its largest event, at
    most ``max_tracks``.

    Raises:
        ValueError: an ``intensity`` of another type, or a negative ``max_tracks``; in `sample`, more tracks than
            ``max_tracks``.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    support = _Sets()

    def __init__(self, intensity: TrackIntensity, *, max_tracks: int = 32, validate_args: bool | None = None) -> None:
        if not isinstance(intensity, TrackIntensity):
            raise ValueError(f"expected intensity to be a TrackIntensity, got {type(intensity).__name__}")
        check_integer("max_tracks", max_tracks, 0)
        self.intensity = intensity
        super().__init__(torch.Size([len(intensity)]), torch.Size([max_tracks, 2]), validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: dist.Distribution | None = None) -> dist.Distribution:
        """The same distribution for its own batch shape, so that Pyro's plates leave the number of rows free."""
        same = torch.Size(batch_shape) == self.batch_shape
        return self if same else super().expand(batch_shape, _instance)

    def log_prob(self, value: Tensor) -> Tensor:
        check_tracks(value, len(self.intensity), rows=self._validate_args, draws=True)
        present = ~value.isnan().any(-1)
        draws = value.nan_to_num().movedim(-3, 0)  # (N, ..., T, 2)
        each = self.intensity.log_intensity(draws.flatten(1, -2)).unflatten(1, draws.shape[1:-1]).movedim(0, -2)
        return torch.where(present, each, 0.0).sum(-1) - self.intensity.log_total.exp()

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draws (*sample_shape, N, T, 2) from torch's global generator, as in all distributions."""
        with torch.no_grad():
            each = self.intensity.normalized()
            count = torch.poisson(self.intensity.log_total.exp().expand(*sample_shape, len(self.intensity)))
            rows = int(count.max()) if count.numel() else 0
            if rows > self.event_shape[0]:
                raise ValueError(f"expected at most {self.event_shape[0]} tracks, drew {rows}: increase max_tracks")
            tracks = each.sample(torch.Size([rows, *sample_shape])).movedim(0, -2)
            absent = torch.arange(rows, device=count.device) >= count[..., None]
            return torch.where(absent[..., None], torch.nan, tracks)
