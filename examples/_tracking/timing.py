"""Seconds by the number of hits and of tracks, on one thread with nothing running beside."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from _tracking.networks import load
from _tracking.settings import Settings, test_seed
from _tracking.several_tracks import CLASSICAL
from posterity.data import Detector

TIMED_NOISES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
TIMED_COUNTS = (1, 2, 3, 4, 6, 8)
THRESHOLD = 0.8
LARGEST = 4  # events that the power is computed from; fixed costs dominate in smaller events


def time_finders(settings: Settings, out: Path) -> dict[str, float]:
    """Milliseconds per event of all methods, by noise in a large detector and by the number of tracks in the usual one.

    ``power`` is the slope of log seconds over log hits at the `LARGEST` numbers of hits, ``power_of_all`` over all
    numbers of hits, and ``power_of_tracks`` the slope over the log number of tracks.
    """
    torch.set_num_threads(1)
    metrics: dict[str, float] = {}
    for name, method in _methods(settings, settings.timing_size, out).items():
        detectors = [Detector(size=settings.timing_size, noise=noise) for noise in TIMED_NOISES]
        drawn = [
            detector.simulate(
                settings.timing_events, tracks=3, seed=test_seed(settings, round(100 * detector.noise))
            ).images
            for detector in detectors
        ]
        hits = [float(images.sum((1, 2, 3)).double().mean()) for images in drawn]
        seconds = _seconds(method, list(zip(detectors, drawn, strict=True)))
        metrics |= {
            f"{name}.power": _slope(hits[-LARGEST:], seconds[-LARGEST:]),
            f"{name}.power_of_all": _slope(hits, seconds),
        }
        for noise, count, event_seconds in zip(TIMED_NOISES, hits, seconds, strict=True):
            metrics |= {
                f"{name}.noise{100 * noise:g}.hits": count,
                f"{name}.noise{100 * noise:g}.milliseconds": 1000 * event_seconds,
            }
    detector = Detector(noise=0.1)
    for name, method in _methods(settings, detector.size, out).items():
        drawn = [
            detector.simulate(10 * settings.timing_events, tracks=tracks, seed=test_seed(settings, 200 + tracks)).images
            for tracks in TIMED_COUNTS
        ]
        seconds = _seconds(method, [(detector, images) for images in drawn])
        metrics |= {
            f"{name}.tracks{tracks}.milliseconds": 1000 * event_seconds
            for tracks, event_seconds in zip(TIMED_COUNTS, seconds, strict=True)
        }
        metrics[f"{name}.power_of_tracks"] = _slope([float(tracks) for tracks in TIMED_COUNTS], seconds)
    return metrics


def events_per_second(settings: Settings) -> dict[str, float]:
    """Simulated events of three tracks at noise 0.1 per second, on one thread."""
    torch.set_num_threads(1)
    detector, count = Detector(noise=0.1), 4000
    seconds = [_once(lambda: detector.simulate(count, tracks=3, seed=settings.seed)) for _ in range(7)]
    return {"generator": count / float(np.median(seconds[1:]))}


def _methods(settings: Settings, size: int, out: Path) -> dict[str, Callable[[Detector, Tensor], object]]:
    net = load("set", settings, 0, out, size=size)

    @torch.no_grad()
    def network(detector: Detector, images: Tensor) -> object:
        return net(images).detect()

    def classical(name: str) -> Callable[[Detector, Tensor], object]:
        return lambda detector, images: CLASSICAL[name](detector, images, THRESHOLD)

    return {"set": network} | {name: classical(name) for name in CLASSICAL}


def _seconds(method: Callable[[Detector, Tensor], object], runs: list[tuple[Detector, Tensor]]) -> list[float]:
    """Seconds per event of each run: the smallest of five rounds after a first one, because other load only adds."""
    rounds = [[_once(partial(method, detector, images)) for detector, images in runs] for _ in range(6)]
    return [least / len(images) for least, (_, images) in zip(np.min(rounds[1:], 0).tolist(), runs, strict=True)]


def _once(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def _slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
