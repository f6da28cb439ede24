"""Events of one track: excess over the exact posterior, pulls, and disagreement between members of an ensemble."""

import math
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from _tracking.networks import load
from _tracking.pull_widths import pull_summaries
from _tracking.settings import CORE, Settings, noise_name, test_seed
from posterity.data import Detector, Events, track_posterior
from posterity.files import write_tensors
from posterity.inference import PredictiveMixture
from posterity.inference.diagnostics import pull_summary, pulls
from posterity.models import Mixture
from posterity.models.tracking import TrackIntensity

BATCH = 100
SHIFTED = {  # name: detector and sagitta in pixels; the first three are as in training
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
    """The average of the predictive distributions of all members, and the intensity of each member."""
    intensities = [net(images) for net in nets]
    singles = [intensity.single() for intensity in intensities]
    normals = [single.component_distribution for single in singles]
    average = PredictiveMixture.from_draws(
        Mixture.multivariate_normal(
            torch.stack([single.log_weights for single in singles]),
            torch.stack([normal.loc for normal in normals]),
            torch.stack([normal.scale_tril for normal in normals]),
        )
    )
    return average, intensities


def _log_probs(intensities: list[TrackIntensity], tracks: Tensor) -> Tensor:
    """Log densities (S, N, T) of each member at tracks (N, T, 2)."""
    return torch.stack([intensity.single_log_prob(tracks) for intensity in intensities])


def _averaged(log_probs: Tensor) -> Tensor:
    """Log of the mean density over members."""
    return log_probs.logsumexp(0) - math.log(len(log_probs))


def one_track(settings: Settings, noise: float, out: Path) -> dict[str, float]:
    """Test events of one track: pulls, and the excess of the NLL over that of the exact posterior."""
    torch.set_num_threads(1)
    nets = [load("single", settings, member, out) for member in range(settings.members)]
    detector = Detector(noise=noise)
    events = detector.simulate(settings.single_events, tracks=1, seed=test_seed(settings, round(1000 * noise)))
    columns: dict[str, list[Tensor]] = {}
    kinds: dict[str, list[np.ndarray]] = {"gaussianised": [], "component": []}
    for number, (images, tracks) in enumerate(_batches(events)):
        average, intensities = predictive(nets, images)
        exact = track_posterior(detector, images, step=1 / 64)
        own = _log_probs(intensities, tracks[:, None])[..., 0]
        error = (tracks - average.mean)[..., None]
        row = {
            "nll": -_averaged(own),
            "own": -own.mean(0),
            "exact": -exact.log_prob(tracks),
            "mean": average.mean,
            "exact_mean": exact.mean,
            "sd": average.variance.sqrt(),
            "squared": (error.mT @ torch.linalg.solve(average.covariance_matrix, error))[:, 0, 0],
        }
        for name, values in row.items():
            columns.setdefault(name, []).append(values)
        for kind, parts in kinds.items():
            parts.append(_pulls(average, tracks, kind, seed=test_seed(settings, 1_000 * number)))
    data = {name: torch.cat(parts).double() for name, parts in columns.items()}
    arrays = {kind: np.concatenate(parts) for kind, parts in kinds.items()}
    write_tensors(
        {"sd": data["sd"]} | {kind: torch.as_tensor(array) for kind, array in arrays.items()},
        out / f"pulls-{noise_name(noise)}.pt",
    )
    true, excess = events.tracks[:, 0].double(), data["nll"] - data["exact"]
    error, exact_error = data["mean"] - true, data["exact_mean"] - true
    metrics = {
        "nll": float(data["nll"].mean()),
        "nll_exact": float(data["exact"].mean()),
        "nll_excess": float(excess.mean()),
        "nll_excess_se": float(excess.std() / len(excess) ** 0.5),
        "nll_excess_one_member": float((data["own"] - data["exact"]).mean()),
        "rms": float(error.square().mean().sqrt()),
        "rms_exact": float(exact_error.square().mean().sqrt()),
        "core": float(error.abs().quantile(CORE)),
        "core_exact": float(exact_error.abs().quantile(CORE)),
        "mahalanobis_mean": float(data["squared"].mean()),
        "mahalanobis_median": float(data["squared"].median()),
    }
    metrics["resolution_ratio"] = metrics["rms"] / metrics["rms_exact"]
    metrics["core_ratio"] = metrics["core"] / metrics["core_exact"]
    for kind, prefix in (("gaussianised", ""), ("component", "component_")):
        metrics |= {f"{prefix}{key}": value for key, value in _pull_metrics(arrays[kind]).items()}
    sd = data["sd"].numpy()
    edges = np.quantile(sd, [1 / 3, 2 / 3])
    for third, name in enumerate(("narrow", "middle", "wide")):
        chosen = np.digitize(sd, edges) == third
        summary = pull_summary(xr.Dataset({"pull": ("obs", arrays["gaussianised"][chosen])}))
        metrics |= {f"pull_width.{name}": float(summary["width"]), f"sd.{name}": float(np.median(sd[chosen]))}
    return metrics


def shifted(settings: Settings, name: str, out: Path) -> dict[str, float]:
    """Disagreement between members, and pulls, for one kind of events in `SHIFTED`."""
    torch.set_num_threads(1)
    nets = [load("single", settings, member, out) for member in range(settings.members)]
    detector, sagitta = SHIFTED[name]
    seed = test_seed(settings, 50_000 + list(SHIFTED).index(name))
    events = detector.simulate(settings.shifted_events, tracks=1, sagitta=sagitta, seed=seed)
    random = torch.Generator().manual_seed(seed + 100)
    columns: dict[str, list[Tensor]] = {}
    all_pulls = []
    for number, (images, tracks) in enumerate(_batches(events)):
        average, intensities = predictive(nets, images)
        row = {
            "information": _information(average, intensities, random),
            "share": average.epistemic.sum(1) / average.variance.sum(1),
            "epistemic": average.epistemic.mean(1).sqrt(),
            "sd": average.variance.mean(1).sqrt(),
            "error": (average.mean - tracks).square().mean(1).sqrt(),
            "nll": -_averaged(_log_probs(intensities, tracks[:, None]))[:, 0],
        }
        for key, values in row.items():
            columns.setdefault(key, []).append(values.double())
        all_pulls.append(_pulls(average, tracks, "gaussianised", seed=seed + number))
    data = {key: torch.cat(parts) for key, parts in columns.items()}
    metrics = {
        "epistemic_nats": float(data["information"].mean()),
        "epistemic_nats_se": float(data["information"].std() / len(events) ** 0.5),
        "epistemic_share": float(data["share"].mean()),
        "epistemic_px": float(data["epistemic"].mean()),
        "sd_median_px": float(data["sd"].median()),
        "rms_px": float(data["error"].square().mean().sqrt()),
        "error_median_px": float(data["error"].median()),
        "nll": float(data["nll"].mean()),
    }
    return metrics | _pull_metrics(np.concatenate(all_pulls))


def _batches(events: Events) -> list[tuple[Tensor, Tensor]]:
    return list(zip(events.images.split(BATCH), events.tracks[:, 0].split(BATCH), strict=True))


def _pulls(mixture: Mixture, tracks: Tensor, kind: str, *, seed: int) -> np.ndarray:
    """Pulls (N, 2) of both intercepts."""
    return np.stack(
        [
            pulls(mixture.marginal(which), tracks[:, which], kind=kind, seed=2 * seed + which).pull.values
            for which in (0, 1)
        ],
        1,
    )


def _pull_metrics(values: np.ndarray) -> dict[str, float]:
    """Summaries of pulls (N, 2), of each intercept and averaged over both."""
    return {f"pull_{key}": value for key, value in pull_summaries(*values.T).items()}


@torch.no_grad()
def _information(average: PredictiveMixture, intensities: list[TrackIntensity], random: torch.Generator) -> Tensor:
    """Mutual information (N,) of track and member in nats: mean of log p_s - log p over one draw of each p_s."""
    each = average.per_draw
    members = each.batch_shape[1]
    drawn = torch.rand((*each.batch_shape, 1), generator=random)
    component = (each.log_weights.exp().cumsum(-1) < drawn).sum(-1).clamp_max(each.log_weights.shape[-1] - 1)
    normals = each.component_distribution
    event, member = torch.meshgrid(torch.arange(len(drawn)), torch.arange(members), indexing="ij")
    loc, tril = normals.loc[event, member, component], normals.scale_tril[event, member, component]
    tracks = loc + (tril @ torch.randn(*loc.shape, 1, generator=random))[..., 0]  # (N, S, 2)
    log_probs = _log_probs(intensities, tracks)  # (S, N, S): density of a member at the draw of a member
    own = log_probs.diagonal(dim1=0, dim2=2)
    return (own - _averaged(log_probs)).mean(1)
