"""How many tracks are to be expected where: the intensity of a Poisson process over the (b1, b2) plane.

What a finder says is a mixture whose weights are expected numbers of tracks instead of probabilities:

    intensity(b) = sum_m r_m p_m(b) + sum_c r_c N(b; cell c),

M candidates that were looked at closely, each a `Mixture` p_m that exists with probability r_m, and what is left in all
cells of the plane. Any number of tracks is a `TrackSet`. Of a finder that was trained on events of one track,
`TrackIntensity.single` is the density of that track: R, what is expected in the cells, are the odds that it is none of
the candidates; otherwise it is m with a probability proportional to the odds r_m / (1 - r_m), as of candidates that
exist or not, each by itself, of which just one does.
"""

import math
from dataclasses import dataclass
from numbers import Real

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from posterity.data.tracks import check_tracks, proper_rows, track_distances
from posterity.models.mixtures import Mixture
from posterity.models.tracking.normals import log_normal
from posterity.validation import check_integer


@dataclass(frozen=True, eq=False)
class TrackIntensity:
    """Of N images. Lengths in pixels.

    Attributes:
        log_odds: (N, M), of the existence of each candidate.
        candidates: where they are: batch shape (N, M), event shape (2,), normal components.
        log_rest: (N, C), log of the expected number in each cell beside that of the candidates.
        cells: (C, 2), centres of the cells.
        width: standard deviation of a track in a cell, along both directions.
    """

    log_odds: Tensor
    candidates: Mixture
    log_rest: Tensor
    cells: Tensor
    width: float

    def __len__(self) -> int:
        return len(self.log_odds)

    @property
    def log_rates(self) -> Tensor:
        """(N, M), log of the probability of each candidate, which is its expected number of tracks."""
        return logsigmoid(self.log_odds)

    @property
    def log_total(self) -> Tensor:
        """(N,), log of the expected number of tracks."""
        return torch.cat([self.log_rates, self.log_rest], 1).logsumexp(1)

    def log_intensity(self, tracks: Tensor) -> Tensor:
        """(N, T), log of the expected number of tracks per pixel² at tracks (N, T, 2), all of them finite."""
        return self._log_sum(self.log_rates, self.log_rest, tracks)

    def single_log_prob(self, tracks: Tensor) -> Tensor:
        """(N, T), log density in 1/pixel² of `single` at tracks (N, T, 2), without making it: faster."""
        return self._log_sum(*self._single_log_weights(), tracks)

    def _log_sum(self, near: Tensor, far: Tensor, tracks: Tensor) -> Tensor:
        check_tracks(tracks, len(self), rows=False)
        if tracks.is_complex() or tracks.dtype == torch.bool:
            raise ValueError(f"expected tracks of real numbers, got {tracks.dtype}")
        normals = self.candidates.component_distribution
        each = log_normal(tracks[:, :, None, None], normals.loc[:, None], normals.scale_tril[:, None])
        each = (each + self.candidates.log_weights[:, None]).logsumexp(-1) + near[:, None]
        away = ((tracks[:, :, None] - self.cells) ** 2).sum(-1) / self.width**2
        rest = far[:, None] - 0.5 * away - math.log(2 * math.pi * self.width**2)
        return torch.cat([each, rest], -1).logsumexp(-1)

    def _single_log_weights(self) -> tuple[Tensor, Tensor]:
        """Log probabilities of candidates (N, M) and cells (N, C), one in all."""
        rest = self.log_rest.logsumexp(1, keepdim=True)
        return self.log_odds.log_softmax(1) + logsigmoid(-rest), self.log_rest - rest + logsigmoid(rest)

    @torch.no_grad()
    def found(self, *, least: float = 0.5, same: float = 1.0) -> "FoundTracks":
        """The candidates that are more likely there than ``least``, the surest first.

        Two whose means are nearer than ``same`` pixels (root mean square along the track) are one: the surer one stays,
        with the expected numbers of both. Raises ``ValueError`` for a least outside [0, 1), or a negative distance.
        """
        numbers = all(isinstance(one, Real) and not isinstance(one, bool) for one in (least, same))
        if not numbers or not 0 <= least < 1 or not 0 <= same < math.inf:
            raise ValueError(f"expected a least in [0, 1) and a distance of 0 or more, got {least!r} and {same!r}")
        order = self.log_rates.argsort(dim=1, descending=True, stable=True)
        rates = self.log_rates.exp().gather(1, order)
        event = torch.arange(len(self), device=rates.device)[:, None]
        mean, covariance = self.candidates.mean[event, order], self.candidates.covariance_matrix[event, order]
        near = track_distances(mean, mean) < same
        left = torch.ones_like(rates, dtype=torch.bool)
        for m in range(rates.shape[1]):
            other = torch.arange(rates.shape[1], device=rates.device) > m
            joined = near[:, m] & left & left[:, m, None] & other
            rates[:, m] += torch.where(joined, rates, 0.0).sum(1)
            left &= ~joined
        existence = torch.where(left, rates, 0.0).clamp_max(1.0)
        there = existence > least
        return FoundTracks(
            torch.where(there[..., None], mean, torch.nan),
            torch.where(there[..., None, None], covariance, torch.nan),
            torch.where(there, existence, torch.nan),
        )

    def single(self) -> Mixture:
        """The density of the track of an event that has one: batch shape (N,), all components of all candidates.

        For finders trained on such events, see the module.
        """
        return self._mixture(*self._single_log_weights())

    def any_one(self) -> Mixture:
        """The density of any one of the tracks of an event: the intensity over its integral."""
        return self._mixture(self.log_rates, self.log_rest)

    def _mixture(self, near: Tensor, far: Tensor) -> Mixture:
        normals = self.candidates.component_distribution
        eye = self.width * torch.eye(2, dtype=normals.loc.dtype, device=normals.loc.device)
        return Mixture.multivariate_normal(
            torch.cat([(near[..., None] + self.candidates.log_weights).flatten(1), far], 1),
            torch.cat([normals.loc.flatten(1, 2), self.cells.expand(len(self), -1, -1)], 1),
            torch.cat([normals.scale_tril.flatten(1, 2), eye.expand(*self.log_rest.shape, 2, 2)], 1),
        )


@dataclass(frozen=True, eq=False)
class FoundTracks:
    """``tracks`` (N, M, 2) in pixels, ``covariance`` (N, M, 2, 2), ``existence`` (N, M); NaN where none was found."""

    tracks: Tensor
    covariance: Tensor
    existence: Tensor


class _Sets(constraints.Constraint):
    """Tables (T, 2) whose rows are numbers, or NaN where there is no track."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        return proper_rows(value).all(-1)


class TrackSet(dist.TorchDistribution):
    """Any number of tracks, in no order: a Poisson process with a `TrackIntensity`.

    A value is a table (N, T, 2) of intercepts in pixels, with rows of NaN where there is none; T is free. Its log
    density is sum_t log intensity(b_t) - the expected number, whatever the order of rows (Daley & Vere-Jones 2003,
    "An introduction to the theory of point processes", section 7.1). Draws (*sample_shape, N, T, 2) have one each,
    (*sample_shape, N). `sample` makes as many rows as the event with most tracks needs, ``most`` at the most.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    support = _Sets()

    def __init__(self, intensity: TrackIntensity, *, most: int = 32, validate_args: bool | None = None) -> None:
        if not isinstance(intensity, TrackIntensity):
            raise ValueError(f"expected the TrackIntensity that a finder returns, got {type(intensity).__name__}")
        check_integer("most", most, 0)
        self.intensity = intensity
        super().__init__(torch.Size([len(intensity)]), torch.Size([most, 2]), validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: dist.Distribution | None = None) -> dist.Distribution:
        """Itself in a plate of its events: Pyro expands every site, and draws have as many rows as they need."""
        same = torch.Size(batch_shape) == self.batch_shape
        return self if same else super().expand(batch_shape, _instance)

    def log_prob(self, value: Tensor) -> Tensor:
        check_tracks(value, len(self.intensity), rows=self._validate_args, draws=True)
        present = ~value.isnan().any(-1)
        draws = value.nan_to_num().movedim(-3, 0)  # (N, ..., T, 2)
        found = self.intensity.log_intensity(draws.flatten(1, -2)).unflatten(1, draws.shape[1:-1]).movedim(0, -2)
        return torch.where(present, found, 0.0).sum(-1) - self.intensity.log_total.exp()

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, N, T, 2), with torch's global random numbers, as in all distributions."""
        with torch.no_grad():
            each = self.intensity.any_one()
            count = torch.poisson(self.intensity.log_total.exp().expand(*sample_shape, len(self.intensity)))
            rows = int(count.max()) if count.numel() else 0
            if rows > self.event_shape[0]:
                raise ValueError(f"expected at most {self.event_shape[0]} tracks, drew {rows}: give more as most")
            tracks = each.sample(torch.Size([rows, *sample_shape])).movedim(0, -2)
            absent = torch.arange(rows, device=count.device) >= count[..., None]
            return torch.where(absent[..., None], torch.nan, tracks)
