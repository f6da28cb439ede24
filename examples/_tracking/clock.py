"""Seconds against the number of hits and of tracks, one thread, nothing beside it."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from _tracking.finders import load
from _tracking.many import CHAINS
from _tracking.settings import Settings, fresh
from posterity.data import Detector

LOUDER = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
MORE = (1, 2, 3, 4, 6, 8)
THRESHOLD = 0.8
TOP = 4  # as many of the largest events say what the power is: below, costs that do not grow are most of it


def clock(settings: Settings, out: Path) -> dict[str, float]:
    """Of a detector with more pixels in a layer, so that there are many hits; and of the usual one by tracks.

    ``power`` is the slope of log seconds over log hits at the largest numbers of hits, the same for every method;
    ``power_of_all`` that over all of them; ``power_of_tracks`` over the number of tracks.
    """
    torch.set_num_threads(1)
    metrics: dict[str, float] = {}
    for name, method in _methods(settings, settings.clock_size, out).items():
        detectors = [Detector(size=settings.clock_size, noise=noise) for noise in LOUDER]
        drawn = [
            detector.simulate(settings.clock_events, tracks=3, seed=fresh(settings, round(100 * detector.noise))).images
            for detector in detectors
        ]
        hits = [float(images.sum((1, 2, 3)).double().mean()) for images in drawn]
        seconds = _seconds(method, list(zip(detectors, drawn, strict=True)))
        metrics |= {f"{name}.power": _slope(hits[-TOP:], seconds[-TOP:]), f"{name}.power_of_all": _slope(hits, seconds)}
        for noise, count, each in zip(LOUDER, hits, seconds, strict=True):
            metrics |= {
                f"{name}.noise{100 * noise:g}.hits": count,
                f"{name}.noise{100 * noise:g}.milliseconds": 1000 * each,
            }
    detector = Detector(noise=0.1)
    for name, method in _methods(settings, detector.size, out).items():
        drawn = [
            detector.simulate(10 * settings.clock_events, tracks=tracks, seed=fresh(settings, 200 + tracks)).images
            for tracks in MORE
        ]
        seconds = _seconds(method, [(detector, images) for images in drawn])
        metrics |= {
            f"{name}.tracks{tracks}.milliseconds": 1000 * each for tracks, each in zip(MORE, seconds, strict=True)
        }
        metrics[f"{name}.power_of_tracks"] = _slope([float(tracks) for tracks in MORE], seconds)
    return metrics


def generator(settings: Settings) -> dict[str, float]:
    """Events of three tracks in a second, at noise 0.1, on one thread."""
    torch.set_num_threads(1)
    detector, count = Detector(noise=0.1), 4000
    run = [_once(lambda: detector.simulate(count, tracks=3, seed=settings.seed)) for _ in range(7)]
    return {"generator": count / float(np.median(run[1:]))}


def _methods(settings: Settings, size: int, out: Path) -> dict[str, Callable[[Detector, Tensor], object]]:
    net = load("set", settings, 0, out, size=size)

    @torch.no_grad()
    def network(detector: Detector, images: Tensor) -> object:
        return net(images).detect()

    def chain(name: str) -> Callable[[Detector, Tensor], object]:
        return lambda detector, images: CHAINS[name](detector, images, THRESHOLD)

    return {"set": network} | {name: chain(name) for name in CHAINS}


def _seconds(method: Callable[[Detector, Tensor], object], runs: list[tuple[Detector, Tensor]]) -> list[float]:
    """Of one event of each run, the least of five rounds after a first: what else the machine does only adds."""
    rounds = [[_once(partial(method, detector, images)) for detector, images in runs] for _ in range(6)]
    return [least / len(images) for least, (_, images) in zip(np.min(rounds[1:], 0).tolist(), runs, strict=True)]


def _once(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def _slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
