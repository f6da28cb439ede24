"""Finding tracks without learning: two chains that a detector's software would use, of well-known parts.

- `hough_kalman`: every fired pixel votes for all tracks through it (Hough 1962; Duda & Hart 1972); the peaks are
  candidates, whose nearest hits are fitted by a Kalman filter.
- `combinatorial_annealed`: every pair of a hit in the first layers and one in the last is a candidate; each is followed
  through all layers, and those with enough hits are fitted by the deterministic annealing filter.

Both end alike: of candidates that are nearly the same, the one with most hits stays. ``threshold``, the least share of
layers with a hit near the track, is the one setting that decides between losing tracks and finding fakes; `tuned`
chooses it on events whose tracks are known.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from posterity.data.tracks import Detector, Events, track_distances
from posterity.inference.tracking.kalman import annealed_fit, kalman_fit
from posterity.inference.tracking.matching import match
from posterity.models.tracking.roads import hough_matrix
from posterity.validation import check_integer, check_number

ROAD = 1.0  # pixels: hits farther from a track are not its own
SAME = 1.0  # pixels: candidates nearer to each other are one track
PER_PIXEL = 2  # cells of the Hough plane
SEEDING = 2  # layers at each end that seeds begin and end in
ROUNDING = 1e-9  # a share of layers, times layers, may be a little more than the whole number it was made of
Chain = Callable[[Detector, Tensor, float], Tensor]


def hough_kalman(detector: Detector, images: Tensor, threshold: float = 0.8, *, most: int = 16) -> Tensor:
    """Tracks (N, ``most``, 2) of images (N, 1, size, layers), NaN beyond those found, most hits first; on the CPU.

    Raises ``ValueError`` for images of another detector or none, a threshold outside (0, 1], or ``most`` below 1.
    """
    _check_detector(detector)
    fired = detector.check(images).cpu()
    _check(threshold, most)
    votes = fired.flatten(1).float() @ _lines(detector.size, detector.layers)
    side = detector.size * PER_PIXEL
    # Of equal neighbours only one is a peak: the last. Votes are whole numbers: less than one orders only equal ones.
    order = 0.5 * torch.arange(side * side, dtype=torch.double).reshape(side, side) / side**2
    votes = votes.double().round().unflatten(1, (1, side, side)) + order
    peak = votes == functional.max_pool2d(votes, 2 * PER_PIXEL + 1, 1, PER_PIXEL)
    # A line through the centre of a cell misses some hits of a track beside it: a quarter fewer votes will do.
    strength = torch.where(peak & (votes >= 0.75 * threshold * detector.layers), votes, -1.0).flatten(1)
    best, which = strength.topk(min(most, side * side))
    event, rank = (best > 0).nonzero(as_tuple=True)
    cell = which[event, rank]
    candidates = (torch.stack([cell // side, cell % side], 1).double() + 0.5) / PER_PIXEL
    for _ in range(2):
        candidates, hits = _refitted(fired, event, candidates)
    kept = hits >= threshold * detector.layers - ROUNDING
    return _distinct(event[kept], candidates[kept], hits[kept], len(fired), most)


def combinatorial_annealed(detector: Detector, images: Tensor, threshold: float = 0.8, *, most: int = 16) -> Tensor:
    """As `hough_kalman`; the number of seeds grows as the square of the hits, and each is looked for among all hits."""
    _check_detector(detector)
    fired = detector.check(images).cpu()
    _check(threshold, most)
    events, tracks, counts = [], [], []
    for number, event in enumerate(fired):
        candidates, hits = _followed(event, threshold)
        chosen = _greedy(candidates, hits, most)
        events.append(torch.full((len(chosen),), number))
        tracks.append(candidates[chosen])
        counts.append(hits[chosen])
    if not sum(map(len, events)):
        return torch.full((len(images), most, 2), torch.nan, dtype=torch.double)
    event, candidates = torch.cat(events), torch.cat(tracks)
    fitted = annealed_fit(fired[event], candidates)
    return _distinct(event, fitted.tracks, torch.cat(counts), len(fired), most)


def tuned(chain: Chain, detector: Detector, events: Events, thresholds: tuple[float, ...] | None = None) -> float:
    """The threshold with the largest F1 of efficiency and purity (1 - fakes - duplicates) on these events.

    Without ``thresholds`` all numbers of hits from 0.6 of the layers on are tried.

    Raises ``ValueError`` where none of them has a track: then nothing could be found.
    """
    _check_detector(detector)
    if not callable(chain):
        raise ValueError(f"expected chain as a function, such as hough_kalman, got {chain!r}")
    if not isinstance(events, Events):
        raise ValueError(f"expected events as posterity.data.Events, got {events!r}")
    if thresholds is not None and (not isinstance(thresholds, Sequence) or not thresholds):
        raise ValueError(f"expected thresholds as a sequence of at least one number, got {thresholds!r}")
    if not bool(events.present.any()):
        raise ValueError("expected events with tracks to tune on, got none")

    if thresholds is None:
        thresholds = tuple(hits / detector.layers for hits in range(math.ceil(0.6 * detector.layers), detector.layers))

    def score(threshold: float) -> float:
        rates = match(chain(detector, events.images, threshold), events.tracks).rates()
        efficiency, purity = rates["efficiency"], 1 - rates["fake_rate"] - rates["duplicate_rate"]
        return 2 * efficiency * purity / (efficiency + purity) if efficiency > 0 and purity > 0 else 0.0

    return max(thresholds, key=score)


@lru_cache(maxsize=2)
def _lines(size: int, layers: int) -> Tensor:
    """To make it takes longer than to use it: that of the last two detectors is kept."""
    return hough_matrix(size, layers, PER_PIXEL)


def _followed(fired: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Of one event (size, layers): candidates (C, 2) that have enough hits, and how many."""
    layers = fired.shape[1]
    hits = [column.nonzero()[:, 0].double() + 0.5 for column in fired.T]
    u = torch.linspace(0, 1, layers, dtype=torch.double)
    seeds = []
    for first in range(SEEDING):
        for last in range(layers - SEEDING, layers):
            pairs = torch.cartesian_prod(hits[first], hits[last]).reshape(-1, 2)
            slope = (pairs[:, 1] - pairs[:, 0]) / (u[last] - u[first])
            start = pairs[:, 0] - slope * u[first]
            seeds.append(torch.stack([start, start + slope], 1))
    candidates = torch.cat(seeds)
    candidates = candidates[((candidates >= 0) & (candidates <= len(fired))).all(1)]
    near = torch.zeros(len(candidates), dtype=torch.double)
    for layer, own in enumerate(hits):
        if len(own):
            y = torch.lerp(candidates[:, 0], candidates[:, 1], u[layer])
            near += (y[:, None] - own).abs().amin(1) < ROAD
    kept = near >= threshold * layers - ROUNDING
    return candidates[kept], near[kept]


def _refitted(fired: Tensor, event: Tensor, tracks: Tensor) -> tuple[Tensor, Tensor]:
    """Fitted to the nearest hit of each layer on the road; and how many there are."""
    size, layers = fired.shape[1:]
    u = torch.linspace(0, 1, layers, dtype=torch.double)
    y = torch.lerp(tracks[:, :1], tracks[:, 1:], u)  # (B, layers)
    rows = y.floor().long()[..., None] + torch.arange(-1, 2)
    inside = (rows >= 0) & (rows < size)
    there = fired[event].mT.gather(2, rows.clamp(0, size - 1)) & inside
    away = torch.where(there, (rows + 0.5 - y[..., None]).abs(), torch.inf)
    nearest, which = away.min(2)
    position = rows.gather(2, which[..., None])[..., 0] + 0.5
    seen = nearest < ROAD
    enough = seen.sum(1) >= 2
    variance = torch.where(seen | ~enough[:, None], 1 / 12, torch.inf)
    fitted = kalman_fit(torch.where(seen, position, y).double(), variance.double())
    return torch.where(enough[:, None], fitted.tracks, tracks), seen.sum(1).double()


def _distinct(event: Tensor, tracks: Tensor, hits: Tensor, events: int, most: int) -> Tensor:
    """Tracks of each event in a table (events, most, 2), without those that are nearly another with more hits."""
    table = torch.full((events, most, 2), torch.nan, dtype=torch.double)
    for number in event.unique().tolist():
        own = event == number
        chosen = tracks[own][_greedy(tracks[own], hits[own], most)]
        table[number, : len(chosen)] = chosen
    return table


def _greedy(tracks: Tensor, hits: Tensor, most: int) -> Tensor:
    """Numbers of the tracks that stay: most hits first, none within `SAME` of one before it."""
    left = hits.argsort(descending=True, stable=True)
    chosen: list[int] = []
    while len(left) and len(chosen) < most:
        chosen.append(int(left[0]))
        away = track_distances(tracks[left], tracks[left[:1]])[:, 0]
        left = left[away >= SAME]
    return torch.tensor(chosen, dtype=torch.long)


def _check(threshold: float, most: int) -> None:
    check_integer("most", most, 1)
    check_number("threshold", threshold, "(0, 1]")


def _check_detector(detector: Detector) -> None:
    if not isinstance(detector, Detector):
        raise ValueError(f"expected detector as a posterity.data.Detector, got {detector!r}")
