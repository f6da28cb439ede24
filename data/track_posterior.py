"""The exact posterior of one track given an image, the best that any network can reach.

The likelihood is constant for tracks that cross the same pixels, so that under a uniform prior over the detector the
posterior of (b1, b2) is constant on polygons. They are found by repeated division of squares of the plane: the pixels
that the tracks of a square can cross bound its likelihood from above, and only squares that may contribute are divided.
The smallest squares are integrated by the midpoint rule. The result is deterministic.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.data.tracks import Detector
from posterity.validation import check_floating, check_integer, check_number, is_number, shown

SMALLEST_STEP = 2.0**-16  # a smaller one would need more memory than machines have
SMALLEST_NOISE = 1e-30  # replaces a noise of 0


@dataclass(frozen=True, eq=False)
class TrackPosterior:
    """Posteriors of N events as C weighted squares of the (b1, b2) plane.

    Attributes:
        event: (C,), index of the event of each square, sorted.
        centres: (C, 2), intercepts at the centre of each square, in pixels.
        weights: (C,), posterior probability of each square; they sum to 1 for each event.
        step: side of a square, in pixels.
        log_evidence: (N,), log p(image | one track) - log p(image | no track), for a uniform prior over the detector.
        detector, images: the arguments of `track_posterior`.
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
        """Posterior means of both intercepts, (N, 2), in pixels."""
        return self._sum(self.weights[:, None] * self.centres)

    @property
    def covariance(self) -> Tensor:
        """Posterior covariances, (N, 2, 2), in pixels², including the variance within a square."""
        away = self.centres - self.mean[self.event]
        spread = self._sum(self.weights[:, None, None] * away[:, :, None] * away[:, None, :])
        return spread + self.step**2 / 12 * torch.eye(2, dtype=spread.dtype, device=spread.device)

    def log_prob(self, tracks: Tensor) -> Tensor:
        """Log density of one track (N, 2) for each event, in 1/pixel²; -inf outside the detector.

        The error is that of the evidence.

        Raises:
            ValueError: tracks of another shape or dtype.
        """
        check_floating("tracks", tracks)
        if tuple(tracks.shape) != (len(self.images), 2):
            raise ValueError(f"expected tracks of shape ({len(self.images)}, 2), got {tuple(tracks.shape)}")
        ratio, rows = _log_ratio(self.detector, self.images), self.detector.crossed(tracks.double())
        log_likelihood = _gathered(ratio, rows[:, None])[:, 0]
        inside = ((tracks >= 0) & (tracks <= self.detector.size)).all(-1)
        density = log_likelihood - self.log_evidence - 2 * math.log(self.detector.size)
        return torch.where(inside, density, -torch.inf)

    def cdf(self, values: Tensor) -> Tensor:
        """Marginal probability (N, 2) that each intercept is below ``values`` (N, 2).

        Raises:
            ValueError: values of another shape or dtype.
        """
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
        detector: the detector of the images.
        images: images with one track each; the posterior is wrong for any other number.
        step: side of the smallest squares, in pixels: 1, 1/2, 1/4, ... down to 2^-16.
        loss: squares whose density is certainly below this fraction of the largest one are ignored.
        batch: the number of events that are processed at once, which bounds the memory.

    Raises:
        ValueError: images of another detector, no images, a step other than those above, a loss outside (0, 1), or an
            image with zero likelihood at the centres of all squares. At an efficiency of 1 small steps are needed to
            find a track with a hit in each layer.
    """
    if not isinstance(detector, Detector):
        raise ValueError(f"expected detector to be a Detector, got {type(detector).__name__}")
    fired = detector.check(images)
    check_integer("batch", batch, 1)
    check_number("loss", loss, "(0, 1)")
    halvings = -math.log2(step) if is_number(step) and SMALLEST_STEP <= step <= 1 else math.nan
    if not halvings.is_integer():
        raise ValueError(f"expected step to be 1, 1/2, 1/4, ... down to 2**-16, got {shown(step)}")
    parts = [_search(_log_ratio(detector, part[:, None]), detector, int(halvings), loss) for part in fired.split(batch)]
    starts = range(0, len(fired), batch)
    return TrackPosterior(
        event=torch.cat([event + start for start, (event, _, _, _) in zip(starts, parts, strict=True)]),
        centres=torch.cat([centres for _, centres, _, _ in parts]),
        weights=torch.cat([weights for _, _, weights, _ in parts]),
        step=step,
        log_evidence=torch.cat([evidence for _, _, _, evidence in parts]),
        detector=detector,
        images=images,
    )


def _log_ratio(detector: Detector, images: Tensor) -> Tensor:
    """The log likelihood ratio (N, size, layers) of each pixel, with a track through it against without, in nats."""
    fired = images[:, 0] == 1
    noise, miss = max(detector.noise, SMALLEST_NOISE), 1 - detector.efficiency
    seen = torch.tensor((1 - miss * (1 - noise)) / noise, dtype=torch.float64, device=images.device).log()
    missed = torch.tensor(miss, dtype=torch.float64, device=images.device).log()
    return torch.where(fired, seen, missed)


def _gathered(ratio: Tensor, rows: Tensor) -> Tensor:
    """Sums over the layers of ``ratio`` (N, size, layers) at rows (N, P, layers): (N, P)."""
    return ratio.gather(1, rows.clamp(0, ratio.shape[1] - 1)).sum(-1)


def _search(ratio: Tensor, detector: Detector, halvings: int, loss: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Events, centres and weights of the squares that contribute, and the evidence of each event."""
    events, size, layers = ratio.shape
    flat = ratio.transpose(1, 2).reshape(-1)  # layers of one event after another; pixels of a layer are adjacent
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
            likely = centre > best[event] + margin
            event, corners, centre = event[likely], corners[likely], centre[likely]
            break
        rows = lowest.floor().long()
        above = (lowest + side).ceil().long().sub(1).clamp(max=size - 1)
        bound = torch.maximum(flat[base + rows], flat[base + above]).sum(-1)
        likely = bound > best[event] + margin
        side /= 2
        event = event[likely].repeat_interleave(4)
        corners = (corners[likely][:, None] + side * quarters).reshape(-1, 2)
    if bool((impossible := best == -torch.inf).any()):
        raise ValueError(
            f"expected images that one track can cause, got {int(impossible.sum())} of {events} with likelihood 0 at "
            f"all centres of squares of side {side:g}: use a smaller step, or an efficiency below 1"
        )
    total = centre.new_zeros(events).index_add_(0, event, (centre - best[event]).exp())
    evidence = best + total.log() + 2 * math.log(side / size)
    weights = (centre - best[event]).exp() / total[event]
    return event, corners + side / 2, weights, evidence
