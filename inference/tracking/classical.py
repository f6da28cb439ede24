"""Classical track finders, built from the standard algorithms of detector software.

- `hough_kalman`: every fired pixel votes for all tracks through it (Hough 1962; Duda & Hart 1972). The peaks of the
  votes are candidates, whose nearest hits are fitted by a Kalman filter.
- `combinatorial_annealed`: every pair of a hit in the first layers and a hit in the last layers is a candidate. Each is
  followed through all layers, and those with enough hits are fitted by the deterministic annealing filter.

Of candidates that are nearly equal, both finders keep the one with most hits. ``threshold``, the smallest share of
layers with a hit near the track, is the one setting: it trades lost tracks for fakes. `tune_threshold` chooses it on
events with known tracks.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from posterity.data.tracks import Detector, Events, track_distances
from posterity.inference.tracking.kalman import annealed_fit, kalman_fit
from posterity.inference.tracking.matching import match
from posterity.models.tracking.roads import hough_matrix
from posterity.validation import check_callable, check_integer, check_number, shown

ROAD_WIDTH = 1.0  # pixels: hits farther from a track do not belong to it
MIN_DISTANCE = 1.0  # pixels: nearer candidates are one track
CELLS_PER_PIXEL = 2  # of the Hough plane
SEEDING_LAYERS = 2  # at each end of the detector
ROUNDING = 1e-9  # a share of layers, times the layers, can exceed the whole number that it came from
HIT_VARIANCE = 1 / 12  # pixels²: a uniform distribution within the pixel
Finder = Callable[[Detector, Tensor, float], Tensor]


def hough_kalman(detector: Detector, images: Tensor, threshold: float = 0.8, *, max_tracks: int = 16) -> Tensor:
    """Tracks (N, ``max_tracks``, 2) found in images (N, 1, size, layers), most hits first; on the CPU.

    Each track is its two intercepts in pixels. Rows beyond the found tracks are NaN.

    Raises:
        ValueError: Images that do not fit the detector, ``threshold`` outside (0, 1], or ``max_tracks`` below 1.
    """
    fired = _check_arguments(detector, images, threshold, max_tracks)
    votes = fired.flatten(1).float() @ _hough_matrix(detector.size, detector.layers)
    side = detector.size * CELLS_PER_PIXEL
    # Votes are whole numbers, so an offset below one ranks equal votes alone: of equal neighbours only the last is a
    # peak.
    offset = 0.5 * torch.arange(side * side, dtype=torch.double).reshape(side, side) / side**2
    votes = votes.double().round().unflatten(1, (1, side, side)) + offset
    peak = votes == functional.max_pool2d(votes, 2 * CELLS_PER_PIXEL + 1, 1, CELLS_PER_PIXEL)
    # A line through the centre of a cell misses some hits of a track beside it, hence a quarter fewer votes.
    strength = torch.where(peak & (votes >= 0.75 * threshold * detector.layers), votes, -1.0).flatten(1)
    best, cells = strength.topk(min(max_tracks, side * side))
    event, rank = (best > 0).nonzero(as_tuple=True)
    cell = cells[event, rank]
    candidates = (torch.stack([cell // side, cell % side], 1).double() + 0.5) / CELLS_PER_PIXEL
    for _ in range(2):
        candidates, hits = _refit(fired, event, candidates)
    enough = hits >= threshold * detector.layers - ROUNDING
    return _distinct(event[enough], candidates[enough], hits[enough], len(fired), max_tracks)


def combinatorial_annealed(
    detector: Detector, images: Tensor, threshold: float = 0.8, *, max_tracks: int = 16
) -> Tensor:
    """Tracks found in images, with the arguments and the result of `hough_kalman`.

    The number of seeds grows as the square of the number of hits, and each seed is compared with all hits.
    """
    fired = _check_arguments(detector, images, threshold, max_tracks)
    events, tracks, counts = [], [], []
    for number, event in enumerate(fired):
        candidates, hits = _follow_seeds(event, threshold)
        chosen = _greedy(candidates, hits, max_tracks)
        events.append(torch.full((len(chosen),), number))
        tracks.append(candidates[chosen])
        counts.append(hits[chosen])
    if not sum(map(len, events)):
        return torch.full((len(images), max_tracks, 2), torch.nan, dtype=torch.double)
    event, candidates = torch.cat(events), torch.cat(tracks)
    fit = annealed_fit(fired[event], candidates)
    return _distinct(event, fit.tracks, torch.cat(counts), len(fired), max_tracks)


def tune_threshold(
    finder: Finder, detector: Detector, events: Events, thresholds: tuple[float, ...] | None = None
) -> float:
    """The threshold with the largest F1 score of efficiency and purity on these events.

    Purity is 1 - fake rate - duplicate rate. Without ``thresholds``, all numbers of hits from 0.6 of the layers on are
    tried.

    Raises:
        ValueError: Events without tracks, or arguments of another type.
    """
    _check_detector(detector)
    check_callable("finder", finder, "(detector, images, threshold)")
    if not isinstance(events, Events):
        raise ValueError(f"expected events to be posterity.data.Events, got {shown(events)}")
    if thresholds is not None and (not isinstance(thresholds, Sequence) or not thresholds):
        raise ValueError(f"expected thresholds to be a sequence of at least one number, got {shown(thresholds)}")
    if not bool(events.present.any()):
        raise ValueError("expected events with tracks to tune on, got none")

    if thresholds is None:
        thresholds = tuple(hits / detector.layers for hits in range(math.ceil(0.6 * detector.layers), detector.layers))

    def f1_score(threshold: float) -> float:
        rates = match(finder(detector, events.images, threshold), events.tracks).rates()
        efficiency, purity = rates["efficiency"], 1 - rates["fake_rate"] - rates["duplicate_rate"]
        return 2 * efficiency * purity / (efficiency + purity) if efficiency > 0 and purity > 0 else 0.0

    return max(thresholds, key=f1_score)


@lru_cache(maxsize=2)
def _hough_matrix(size: int, layers: int) -> Tensor:
    """The matrix of the last two detectors is cached: making it takes longer than using it."""
    return hough_matrix(size, layers, CELLS_PER_PIXEL)


def _follow_seeds(fired: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Candidates (C, 2) of one event (size, layers) with enough hits, and their numbers of hits (C,)."""
    layers = fired.shape[1]
    hits = [column.nonzero()[:, 0].double() + 0.5 for column in fired.T]
    u = torch.linspace(0, 1, layers, dtype=torch.double)
    seeds = []
    for first in range(SEEDING_LAYERS):
        for last in range(layers - SEEDING_LAYERS, layers):
            pairs = torch.cartesian_prod(hits[first], hits[last]).reshape(-1, 2)
            slope = (pairs[:, 1] - pairs[:, 0]) / (u[last] - u[first])
            start = pairs[:, 0] - slope * u[first]
            seeds.append(torch.stack([start, start + slope], 1))
    candidates = torch.cat(seeds)
    candidates = candidates[((candidates >= 0) & (candidates <= len(fired))).all(1)]
    counts = torch.zeros(len(candidates), dtype=torch.double)
    for layer, positions in enumerate(hits):
        if len(positions):
            y = torch.lerp(candidates[:, 0], candidates[:, 1], u[layer])
            counts += (y[:, None] - positions).abs().amin(1) < ROAD_WIDTH
    enough = counts >= threshold * layers - ROUNDING
    return candidates[enough], counts[enough]


def _refit(fired: Tensor, event: Tensor, tracks: Tensor) -> tuple[Tensor, Tensor]:
    """Tracks fitted to the nearest hit of each layer within the road, and their numbers of hits."""
    size, layers = fired.shape[1:]
    u = torch.linspace(0, 1, layers, dtype=torch.double)
    y = torch.lerp(tracks[:, :1], tracks[:, 1:], u)  # (B, layers)
    pixels = y.floor().long()[..., None] + torch.arange(-1, 2)
    inside = (pixels >= 0) & (pixels < size)
    present = fired[event].mT.gather(2, pixels.clamp(0, size - 1)) & inside
    distance = torch.where(present, (pixels + 0.5 - y[..., None]).abs(), torch.inf)
    nearest, which = distance.min(2)
    position = pixels.gather(2, which[..., None])[..., 0] + 0.5
    seen = nearest < ROAD_WIDTH
    enough = seen.sum(1) >= 2
    variance = torch.where(seen | ~enough[:, None], HIT_VARIANCE, torch.inf)
    fit = kalman_fit(torch.where(seen, position, y).double(), variance.double())
    return torch.where(enough[:, None], fit.tracks, tracks), seen.sum(1).double()


def _distinct(event: Tensor, tracks: Tensor, hits: Tensor, events: int, max_tracks: int) -> Tensor:
    """Tracks of each event as a table (events, max_tracks, 2), without near-equal ones that have fewer hits."""
    table = torch.full((events, max_tracks, 2), torch.nan, dtype=torch.double)
    for number in event.unique().tolist():
        own = event == number
        chosen = tracks[own][_greedy(tracks[own], hits[own], max_tracks)]
        table[number, : len(chosen)] = chosen
    return table


def _greedy(tracks: Tensor, hits: Tensor, max_tracks: int) -> Tensor:
    """Indices of the tracks that are kept: most hits first, each at least `MIN_DISTANCE` from those before it."""
    left = hits.argsort(descending=True, stable=True)
    chosen: list[int] = []
    while len(left) and len(chosen) < max_tracks:
        chosen.append(int(left[0]))
        distance = track_distances(tracks[left], tracks[left[:1]])[:, 0]
        left = left[distance >= MIN_DISTANCE]
    return torch.tensor(chosen, dtype=torch.long)


def _check_arguments(detector: Any, images: Any, threshold: Any, max_tracks: Any) -> Tensor:
    """The fired pixels (N, size, layers) of the images, booleans on the CPU."""
    _check_detector(detector)
    fired: Tensor = detector.check(images).cpu()
    check_integer("max_tracks", max_tracks, 1)
    check_number("threshold", threshold, "(0, 1]")
    return fired


def _check_detector(detector: Any) -> None:
    if not isinstance(detector, Detector):
        raise ValueError(f"expected detector to be a posterity.data.Detector, got {shown(detector)}")
