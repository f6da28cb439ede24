"""Events of several tracks: efficiency, fakes and duplicates of each finder, and calibration of existence."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from _tracking.networks import load
from _tracking.pull_widths import pull_summaries
from _tracking.settings import CORE, MEAN_TRACKS, Settings, noise_name, test_seed
from posterity.data import Detector
from posterity.files import write_tensors
from posterity.inference.tracking import (
    Matches,
    combinatorial_annealed,
    hough_kalman,
    match,
    set_pulls,
    tune_threshold,
)

CLASSICAL = {"hough_kalman": hough_kalman, "combinatorial_daf": combinatorial_annealed}
HEADS = ("set", "independent")
BATCH = 250
BINS = 10  # of the probability of existence
USED = 0.05  # smallest weight of a component that counts as used
MIN_EXISTENCE = 0.02  # candidates that are less likely to exist are left out of the calibration


def count_tracks(settings: Settings, tracks: int, noise: float, heads: tuple[str, ...], out: Path) -> dict[str, float]:
    """Rates and errors of all finders with this number of tracks; classical finders are tuned on other events."""
    torch.set_num_threads(1)
    detector = Detector(noise=noise)
    purpose = 60_000 + 1000 * tracks + round(100 * noise)
    events = detector.simulate(settings.count_events, tracks=tracks, seed=test_seed(settings, purpose))
    tuning = detector.simulate(
        min(500, settings.count_events), tracks=tracks, seed=1000 * settings.seed + 200_000 + purpose
    )
    found: dict[str, Tensor] = {}
    for head in heads:
        net = load(head, settings, 0, out)
        found[head] = (found_tracks if head == "set" else paired_intercepts)(net, events.images)
    metrics: dict[str, float] = {}
    for name, finder in CLASSICAL.items():
        threshold = tune_threshold(finder, detector, tuning)
        metrics[f"{name}.threshold"] = threshold
        found[name] = finder(detector, events.images, threshold)
    for name, table in found.items():
        matches = match(table, events.tracks)
        metrics |= {f"{name}.{key}": value for key, value in matches.rates().items()}
        errors = _errors(matches, table, events.tracks)
        if len(errors):
            metrics[f"{name}.rms"] = float(errors.square().mean().sqrt())
            metrics[f"{name}.core"] = float(errors.abs().double().quantile(CORE))
        metrics[f"{name}.mispaired"] = _mispaired(table, events.tracks)
    return {name: value for name, value in metrics.items() if np.isfinite(value)}  # rates without tracks are NaN


@torch.no_grad()
def existence_calibration(settings: Settings, noise: float, out: Path) -> dict[str, float]:
    """Calibration of the probability of existence, and pulls by the predicted number of tracks, for Poisson numbers."""
    torch.set_num_threads(1)
    net = load("set", settings, 0, out)
    events = Detector(noise=noise).simulate(
        settings.existence_events, mean_tracks=MEAN_TRACKS, seed=test_seed(settings, 80_000 + round(100 * noise))
    )
    random = torch.Generator().manual_seed(test_seed(settings, 90_000))
    existence, matched, pulls, spreads, counts = [], [], [], [], []
    for images, tracks in zip(events.images.split(BATCH), events.tracks.split(BATCH), strict=True):
        intensity = net(images)
        found = intensity.detect(min_existence=MIN_EXISTENCE)
        there = ~found.existence.isnan()
        existence.append(found.existence[there])
        matched.append((match(found.tracks, tracks).true_index >= 0)[there])
        of_tracks = set_pulls(intensity, tracks, seed=random)
        present = ~tracks.isnan().any(-1)
        pulls.append(of_tracks.pull[present])
        spreads.append(of_tracks.sd[present])
        # Pulls are calibrated given the image, so they are grouped by the number of tracks predicted from it.
        expected = intensity.log_total.exp().round()[:, None]
        counts.append(expected.expand_as(present)[present])
    probability, true = torch.cat(existence).double(), torch.cat(matched).double()
    pull, sd, count = torch.cat(pulls), torch.cat(spreads), torch.cat(counts)
    which = (probability * BINS).long().clamp_max(BINS - 1)
    number = torch.zeros(BINS, dtype=torch.double).index_add_(0, which, torch.ones_like(true))
    sure = torch.zeros(BINS, dtype=torch.double).index_add_(0, which, probability) / number
    right = torch.zeros(BINS, dtype=torch.double).index_add_(0, which, true) / number
    write_tensors(
        {"sure": sure, "right": right, "number": number, "pull": pull, "sd": sd, "count": count},
        out / f"said-{noise_name(noise)}.pt",
    )
    metrics = {
        "existence.calibration_error": float(((sure - right).abs() * number).nansum() / number.sum()),
        "existence.brier": float((probability - true).square().mean()),
        "existence.candidates": float(len(true)),
    }
    middle = float(sd.median())
    groups = {"pull": torch.ones_like(count, dtype=torch.bool)[:, None].expand_as(pull)}
    groups |= {f"pull.said{tracks}": (count == tracks)[:, None].expand_as(pull) for tracks in (1, 2, 3, 4, 5)}
    groups |= {"pull.narrow": sd < middle, "pull.wide": sd >= middle}
    for name, chosen in groups.items():
        if int(chosen.sum(0).min()) < 20:
            continue
        both = pull_summaries(*(pull[chosen[:, which], which].numpy() for which in (0, 1)))
        metrics |= {f"{name}.{key}": both[key] for key in ("mean", "width", "width_se", "robust_width")}
    return metrics


@torch.no_grad()
def used_components(settings: Settings, out: Path) -> dict[str, float]:
    """Mean number of components of the independent mixtures that are used, by the number of tracks."""
    torch.set_num_threads(1)
    net = load("independent", settings, 0, out)
    metrics = {}
    for tracks in (1, 2, 3, 4, 5):
        events = Detector(noise=0.1).simulate(
            settings.existence_events, tracks=tracks, seed=test_seed(settings, 85_000 + tracks)
        )
        weights = torch.cat([net(images).log_weights.exp() for images in events.images.split(BATCH)])
        metrics[f"tracks{tracks}.used"] = float((weights > USED).sum(-1).double().mean())
    return metrics | {"of": float(weights.shape[-1])}


@torch.no_grad()
def found_tracks(net: nn.Module, images: Tensor) -> Tensor:
    """Tracks that the network of a set finds."""
    return torch.cat([net(part).detect().tracks for part in images.split(BATCH)])


@torch.no_grad()
def paired_intercepts(net: nn.Module, images: Tensor, *, least: float = 0.1) -> Tensor:
    """Modes of both intercepts with a probability of ``least`` or more, paired in the order of their probability."""
    tables = []
    for part in images.split(BATCH):
        modes = net(part).modes(min_probability=least)
        order = modes.probability.nan_to_num(-1).argsort(dim=-1, descending=True)
        table = modes.location.gather(-1, order)
        there = modes.probability.gather(-1, order).isfinite().all(1, keepdim=True)
        tables.append(torch.where(there, table, torch.nan).mT)
    rows = max(table.shape[1] for table in tables)
    padded = [nn.functional.pad(table, (0, 0, 0, rows - table.shape[1]), value=float("nan")) for table in tables]
    return torch.cat(padded)


def _errors(matches: Matches, found: Tensor, true: Tensor) -> Tensor:
    """Errors (matched, 2) of both intercepts, in pixels."""
    event, row = (matches.true_index >= 0).nonzero(as_tuple=True)
    return found[event, row] - true[event, matches.true_index[event, row]]


def _mispaired(found: Tensor, true: Tensor, *, near: float = 1.0) -> float:
    """Share of found tracks whose two ends belong to different true tracks."""
    ends = (found[:, :, None] - true[:, None]).abs() < near  # (N, F, T, 2); NaN is never near
    whole = ends.all(-1).any(-1)
    both = ends.any(2).all(-1)
    there = ~found.isnan().any(-1)
    return float((both & ~whole & there).sum() / there.sum().clamp_min(1))
