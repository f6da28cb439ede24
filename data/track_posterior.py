"""The exact posterior of one track given an image: what no network can do better than.

The likelihood is constant where the track crosses the same pixels, so the posterior of (b1, b2), uniform over the
detector before, is constant on polygons. They are found by halving squares of the plane: in a square the pixels that
its tracks can cross bound its likelihood from above, and only squares that may matter are halved. The last ones are
integrated by their centres. Nothing is drawn at random.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.data.tracks import Detector
from posterity.validation import check_floating, check_integer, check_number, is_number

LEAST_STEP = 2.0**-16  # of smaller ones there would be too many for any memory
LEAST_NOISE = 1e-30  # a detector without noise is the limit of little


@dataclass(frozen=True, eq=False)
class TrackPosterior:
    """Weighted centres of small squares of side ``step``, C in all, those of event n in a row.

    Attributes:
        event: (C,), whose posterior each is of, sorted.
        centres: (C, 2), intercepts in pixels.
        weights: (C,), summing to 1 for each event.
        step: side of a square, in pixels.
        log_evidence: (N,), log p(image | one track) - log p(image | none), the track uniform over the detector.
        detector, images: what it is the posterior of.
    """

    event: Tensor
    centres: Tensor
    weights: Tensor
    step: float
    log_evidence: Tensor
    detector: Detector
    images: Tensor

    @property
    def mean(self) -> Tensor:
        """(N, 2)."""
        return self._sum(self.weights[:, None] * self.centres)

    @property
    def covariance(self) -> Tensor:
        """(N, 2, 2), with that within a square."""
        away = self.centres - self.mean[self.event]
        spread = self._sum(self.weights[:, None, None] * away[:, :, None] * away[:, None, :])
        return spread + self.step**2 / 12 * torch.eye(2, dtype=spread.dtype, device=spread.device)

    def log_prob(self, tracks: Tensor) -> Tensor:
        """Log density of one track (N, 2) for each event, in 1/pixel²: exact but for the evidence; -inf outside."""
        check_floating("tracks", tracks)
        if tuple(tracks.shape) != (len(self.images), 2):
            raise ValueError(f"expected tracks of shape ({len(self.images)}, 2), got {tuple(tracks.shape)}")
        found = _gathered(_log_ratio(self.detector, self.images), self.detector.crossed(tracks.double())[:, None])[:, 0]
        inside = ((tracks >= 0) & (tracks <= self.detector.size)).all(-1)
        density = found - self.log_evidence - 2 * math.log(self.detector.size)
        return torch.where(inside, density, -torch.inf)

    def cdf(self, values: Tensor) -> Tensor:
        """(N, 2): probability that an intercept is below ``values`` (N, 2), each by itself."""
        check_floating("values", values)
        if tuple(values.shape) != (len(self.images), 2):
            raise ValueError(f"expected values of shape ({len(self.images)}, 2), got {tuple(values.shape)}")
        share = ((values[self.event] - self.centres) / self.step + 0.5).clamp(0, 1)
        return self._sum(self.weights[:, None] * share)

    def _sum(self, values: Tensor) -> Tensor:
        total = values.new_zeros(len(self.images), *values.shape[1:])
        return total.index_add_(0, self.event, values)


def track_posterior(
    detector: Detector, images: Tensor, *, step: float = 1 / 16, loss: float = 1e-6, batch: int = 200
) -> TrackPosterior:
    """The exact posterior of one straight track for each of ``images`` (N, 1, size, layers).

    Args:
        detector: of which images are. That each has one track is taken for granted: of two it is not the posterior.
        step: side of the last squares, in pixels: what is integrated by its centre.
        loss: squares whose density is surely below this share of the largest one found are left out.
        batch: events at a time: memory.

    Raises:
        ValueError: images of another detector or none, a step or loss outside (0, 1), a step that does not halve 1
            evenly or is below 2^-16, or an image that no track makes at the centre of any square: where no hit can be
            missed, it takes small steps to find one that does.
    """
    if not isinstance(detector, Detector):
        raise ValueError(f"expected detector to be a Detector, got {type(detector).__name__}")
    fired = detector.check(images)
    check_integer("batch", batch, 1)
    check_number("loss", loss, "(0, 1)")
    halvings = -math.log2(step) if is_number(step) and LEAST_STEP <= step <= 1 else math.nan
    if not halvings.is_integer():
        raise ValueError(f"expected a step that is 1, 1/2, 1/4, ..., got {step!r}")
    found = [_search(_log_ratio(detector, part[:, None]), detector, int(halvings), loss) for part in fired.split(batch)]
    starts = range(0, len(fired), batch)
    return TrackPosterior(
        event=torch.cat([event + start for start, (event, _, _, _) in zip(starts, found, strict=True)]),
        centres=torch.cat([centres for _, centres, _, _ in found]),
        weights=torch.cat([weights for _, _, weights, _ in found]),
        step=step,
        log_evidence=torch.cat([evidence for _, _, _, evidence in found]),
        detector=detector,
        images=images,
    )


def _log_ratio(detector: Detector, images: Tensor) -> Tensor:
    """(N, size, layers): how much more likely each pixel is with a track through it, in nats."""
    fired = images[:, 0] == 1
    noise, miss = max(detector.noise, LEAST_NOISE), 1 - detector.efficiency
    seen = torch.tensor((1 - miss * (1 - noise)) / noise, dtype=torch.float64, device=images.device).log()
    missed = torch.tensor(miss, dtype=torch.float64, device=images.device).log()
    return torch.where(fired, seen, missed)


def _gathered(ratio: Tensor, rows: Tensor) -> Tensor:
    """Sums over the layers of ``ratio`` (N, size, layers) at rows (N, P, layers): (N, P)."""
    return ratio.gather(1, rows.clamp(0, ratio.shape[1] - 1)).sum(-1)


def _search(ratio: Tensor, detector: Detector, halvings: int, loss: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Events, centres and weights of the squares that matter, and the evidence of each event."""
    events, size, layers = ratio.shape
    flat = ratio.transpose(1, 2).reshape(-1)  # one event's layer after the other: rows are neighbours
    margin = math.log(loss)
    layer = torch.arange(layers, device=ratio.device) * size
    u = torch.linspace(0, 1, layers, dtype=ratio.dtype, device=ratio.device)
    corners = torch.cartesian_prod(*2 * [torch.arange(size, dtype=ratio.dtype, device=ratio.device)])
    event = torch.arange(events, device=ratio.device).repeat_interleave(len(corners))
    corners, side = corners.repeat(events, 1), 1.0
    quarters = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=ratio.dtype, device=ratio.device)
    for halving in range(halvings + 1):
        lowest = torch.lerp(corners[:, :1], corners[:, 1:], u)
        base = (event * layers * size)[:, None] + layer
        centre = flat[base + (lowest + side / 2).floor().long()].sum(-1)
        best = centre.new_full((events,), -torch.inf).scatter_reduce_(0, event, centre, "amax")
        if halving == halvings:
            kept = centre > best[event] + margin
            event, corners, centre = event[kept], corners[kept], centre[kept]
            break
        rows = lowest.floor().long()
        above = (lowest + side).ceil().long().sub(1).clamp(max=size - 1)
        bound = torch.maximum(flat[base + rows], flat[base + above]).sum(-1)
        kept = bound > best[event] + margin
        side /= 2
        event = event[kept].repeat_interleave(4)
        corners = (corners[kept][:, None] + side * quarters).reshape(-1, 2)
    if bool((impossible := best == -torch.inf).any()):
        raise ValueError(
            f"expected images that a track makes, got {int(impossible.sum())} of {events} that none makes at steps of "
            f"{side:g}: try a smaller step, or an efficiency below 1"
        )
    total = centre.new_zeros(events).index_add_(0, event, (centre - best[event]).exp())
    evidence = best + total.log() + 2 * math.log(side / size)
    weights = (centre - best[event]).exp() / total[event]
    return event, corners + side / 2, weights, evidence
