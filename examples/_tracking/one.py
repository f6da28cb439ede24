"""Events of one track: what is missing to the exact posterior, and what the members of an ensemble do not agree on."""

import math
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from _tracking.finders import load
from _tracking.settings import CORE, Settings, fresh, percent
from _tracking.widths import of_both
from posterity.data import Detector, Events, track_posterior
from posterity.files import write_tensors
from posterity.inference import PredictiveMixture
from posterity.inference.diagnostics import pull_summary, pulls
from posterity.models import Mixture
from posterity.models.tracking import TrackIntensity

BATCH = 100
UNLIKE = {  # name: detector and sagitta in pixels; the first three are like training
    "noise10": (Detector(noise=0.1), 0.0),
    "noise20": (Detector(noise=0.2), 0.0),
    "noise30": (Detector(noise=0.3), 0.0),
    "noise40": (Detector(noise=0.4), 0.0),
    "noise50": (Detector(noise=0.5), 0.0),
    "curved1": (Detector(noise=0.1), 1.0),
    "curved2": (Detector(noise=0.1), 2.0),
    "curved4": (Detector(noise=0.1), 4.0),
}


@torch.no_grad()
def predictive(nets: list[nn.Module], images: Tensor) -> tuple[PredictiveMixture, list[TrackIntensity]]:
    """Of one track each: the average of all members, and what each says."""
    said = [net(images) for net in nets]
    each = [one.single() for one in said]
    normals = [one.component_distribution for one in each]
    found = PredictiveMixture.from_draws(
        Mixture.multivariate_normal(
            torch.stack([one.log_weights for one in each]),
            torch.stack([one.loc for one in normals]),
            torch.stack([one.scale_tril for one in normals]),
        )
    )
    return found, said


def _log_probs(said: list[TrackIntensity], tracks: Tensor) -> Tensor:
    """(S, N, T), of each member at tracks (N, T, 2)."""
    return torch.stack([one.single_log_prob(tracks) for one in said])


def _averaged(log_probs: Tensor) -> Tensor:
    """Log of the members' mean density."""
    return log_probs.logsumexp(0) - math.log(len(log_probs))


def one_track(settings: Settings, noise: float, out: Path) -> dict[str, float]:
    """Fresh events of one track: pulls, and what is missing to the exact posterior."""
    torch.set_num_threads(1)
    nets = [load("single", settings, member, out) for member in range(settings.members)]
    detector = Detector(noise=noise)
    events = detector.simulate(settings.events, tracks=1, seed=fresh(settings, round(1000 * noise)))
    columns: dict[str, list[Tensor]] = {}
    kinds: dict[str, list[np.ndarray]] = {"gaussianised": [], "component": []}
    for number, (images, tracks) in enumerate(_batches(events)):
        found, each = predictive(nets, images)
        exact, own = track_posterior(detector, images, step=1 / 64), _log_probs(each, tracks[:, None])[..., 0]
        away = (tracks - found.mean)[..., None]
        row = {
            "nll": -_averaged(own),
            "own": -own.mean(0),
            "exact": -exact.log_prob(tracks),
            "mean": found.mean,
            "exact_mean": exact.mean,
            "sd": found.variance.sqrt(),
            "squared": (away.mT @ torch.linalg.solve(found.covariance_matrix, away))[:, 0, 0],
        }
        for name, values in row.items():
            columns.setdefault(name, []).append(values)
        for kind, parts in kinds.items():
            parts.append(_pulls(found, tracks, kind, seed=fresh(settings, 1_000 * number)))
    data = {name: torch.cat(parts).double() for name, parts in columns.items()}
    arrays = {kind: np.concatenate(parts) for kind, parts in kinds.items()}
    write_tensors(
        {"sd": data["sd"]} | {kind: torch.as_tensor(array) for kind, array in arrays.items()},
        out / f"pulls-{percent(noise)}.pt",
    )
    true, excess = events.tracks[:, 0].double(), data["nll"] - data["exact"]
    away, exact_away = data["mean"] - true, data["exact_mean"] - true
    metrics = {
        "nll": float(data["nll"].mean()),
        "nll_exact": float(data["exact"].mean()),
        "nll_excess": float(excess.mean()),
        "nll_excess_se": float(excess.std() / len(excess) ** 0.5),
        "nll_excess_one_member": float((data["own"] - data["exact"]).mean()),
        "rms": float(away.square().mean().sqrt()),
        "rms_exact": float(exact_away.square().mean().sqrt()),
        "core": float(away.abs().quantile(CORE)),
        "core_exact": float(exact_away.abs().quantile(CORE)),
        "mahalanobis_mean": float(data["squared"].mean()),
        "mahalanobis_median": float(data["squared"].median()),
    }
    metrics["resolution_ratio"] = metrics["rms"] / metrics["rms_exact"]
    metrics["core_ratio"] = metrics["core"] / metrics["core_exact"]
    for kind, prefix in (("gaussianised", ""), ("component", "component_")):
        metrics |= {f"{prefix}{key}": value for key, value in _summed_up(arrays[kind]).items()}
    sd = data["sd"].numpy()
    edges = np.quantile(sd, [1 / 3, 2 / 3])
    for third, name in enumerate(("narrow", "middle", "wide")):
        chosen = np.digitize(sd, edges) == third
        summary = pull_summary(xr.Dataset({"pull": ("obs", arrays["gaussianised"][chosen])}))
        metrics |= {f"pull_width.{name}": float(summary["width"]), f"sd.{name}": float(np.median(sd[chosen]))}
    return metrics


def unlike(settings: Settings, name: str, out: Path) -> dict[str, float]:
    """What the members do not agree on, and whether the errors hold: of one kind of events in `UNLIKE`."""
    torch.set_num_threads(1)
    nets = [load("single", settings, member, out) for member in range(settings.members)]
    detector, sagitta = UNLIKE[name]
    seed = fresh(settings, 50_000 + list(UNLIKE).index(name))
    events = detector.simulate(settings.unlike, tracks=1, sagitta=sagitta, seed=seed)
    random = torch.Generator().manual_seed(seed + 100)
    columns: dict[str, list[Tensor]] = {}
    found_pulls = []
    for number, (images, tracks) in enumerate(_batches(events)):
        found, each = predictive(nets, images)
        row = {
            "information": _information(found, each, random),
            "share": found.epistemic.sum(1) / found.variance.sum(1),
            "epistemic": found.epistemic.mean(1).sqrt(),
            "sd": found.variance.mean(1).sqrt(),
            "away": (found.mean - tracks).square().mean(1).sqrt(),
            "nll": -_averaged(_log_probs(each, tracks[:, None]))[:, 0],
        }
        for key, values in row.items():
            columns.setdefault(key, []).append(values.double())
        found_pulls.append(_pulls(found, tracks, "gaussianised", seed=seed + number))
    data = {key: torch.cat(parts) for key, parts in columns.items()}
    metrics = {
        "epistemic_nats": float(data["information"].mean()),
        "epistemic_nats_se": float(data["information"].std() / len(events) ** 0.5),
        "epistemic_share": float(data["share"].mean()),
        "epistemic_px": float(data["epistemic"].mean()),
        "sd_median_px": float(data["sd"].median()),
        "rms_px": float(data["away"].square().mean().sqrt()),
        "error_median_px": float(data["away"].median()),
        "nll": float(data["nll"].mean()),
    }
    return metrics | _summed_up(np.concatenate(found_pulls))


def _batches(events: Events) -> list[tuple[Tensor, Tensor]]:
    return list(zip(events.images.split(BATCH), events.tracks[:, 0].split(BATCH), strict=True))


def _pulls(found: Mixture, tracks: Tensor, kind: str, *, seed: int) -> np.ndarray:
    """(N, 2), of both intercepts."""
    return np.stack(
        [
            pulls(found.marginal(which), tracks[:, which], kind=kind, seed=2 * seed + which).pull.values
            for which in (0, 1)
        ],
        1,
    )


def _summed_up(values: np.ndarray) -> dict[str, float]:
    """Of pulls (N, 2): each intercept, and the mean of both."""
    return {f"pull_{key}": value for key, value in of_both(*values.T).items()}


@torch.no_grad()
def _information(found: PredictiveMixture, said: list[TrackIntensity], random: torch.Generator) -> Tensor:
    """(N,): what a track says of which member is right, in nats: mean of log p_s - log p over one draw of each p_s."""
    each = found.per_draw
    members = each.batch_shape[1]
    drawn = torch.rand((*each.batch_shape, 1), generator=random)
    component = (each.log_weights.exp().cumsum(-1) < drawn).sum(-1).clamp_max(each.log_weights.shape[-1] - 1)
    normals = each.component_distribution
    event, member = torch.meshgrid(torch.arange(len(drawn)), torch.arange(members), indexing="ij")
    loc, tril = normals.loc[event, member, component], normals.scale_tril[event, member, component]
    tracks = loc + (tril @ torch.randn(*loc.shape, 1, generator=random))[..., 0]  # (N, S, 2)
    log_probs = _log_probs(said, tracks)  # (S, N, S): of which member, of whose draw
    own = log_probs.diagonal(dim1=0, dim2=2)
    return (own - _averaged(log_probs)).mean(1)
