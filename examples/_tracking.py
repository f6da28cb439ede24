"""Training and judging of the track finders: what `tracking.py` puts together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from _parts import tag
from torch import Tensor, nn

from posterity.data import Detector, Events, track_posterior
from posterity.data.kept import read_tensors, write_tensors
from posterity.inference import PredictiveMixture
from posterity.inference.diagnostics import pull_summary, pulls
from posterity.inference.streaming import fit_stream
from posterity.inference.tracking import Matches, combinatorial_annealed, hough_kalman, match, tuned
from posterity.models import Mixture
from posterity.models.tracking import IndependentFinder, TrackFinder, TrackSet

NOISES = (0.1, 0.2, 0.3)
TRAINED = (0.05, 0.35)  # noise in training: uniform
CHAINS = {"hough_kalman": hough_kalman, "combinatorial_daf": combinatorial_annealed}
FRESH = 1_000_000  # seeds of events that are judged; those of training and tuning are below


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on."""

    members: int = 3
    single_steps: int = 1500
    single_components: int = 800
    set_steps: int = 1200
    set_components: int = 200
    independent_steps: int = 8000
    batch_size: int = 128
    events: int = 10_000
    counted: int = 2000
    counts: tuple[int, ...] = (2, 3, 4, 5)
    seed: int = 0


QUICK = Settings(
    members=1, single_steps=60, single_components=100, set_steps=60, set_components=60, independent_steps=60,
    batch_size=32, events=200, counted=60, counts=(2, 3),
)  # fmt: skip


def new_single(settings: Settings) -> TrackFinder:
    return TrackFinder(candidates=3, components=settings.single_components, hidden=32)


def new_set(settings: Settings) -> TrackFinder:
    return TrackFinder(candidates=10, components=settings.set_components, hidden=32)


def new_independent(settings: Settings) -> IndependentFinder:
    return IndependentFinder(components=10)


MAKERS: dict[str, Callable[[Settings], nn.Module]] = {
    "single": new_single,
    "set": new_set,
    "independent": new_independent,
}


def train(kind: str, settings: Settings, member: int, out: Path) -> dict[str, float]:
    """Train a finder on events that are drawn on the fly, and keep its weights."""
    torch.set_num_threads(1)
    steps = {"single": settings.single_steps, "set": settings.set_steps, "independent": settings.independent_steps}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * settings.seed + member)
        net = MAKERS[kind](settings)
    low, high = TRAINED

    def draw(random: torch.Generator) -> Events:
        detector = Detector(noise=low + (high - low) * float(torch.rand((), generator=random)))
        if kind == "single":
            return detector.simulate(settings.batch_size, tracks=1, seed=random)
        return detector.simulate(settings.batch_size, mean_tracks=3.0, seed=random)

    def loss(events: Events) -> Tensor:
        if isinstance(net, IndependentFinder):
            return -net.log_prob(events.images, events.tracks).mean()
        said = net(events.images)
        if kind == "single":
            return (said.log_total - said.log_intensity(events.tracks)[:, 0]).mean()
        return -TrackSet(said).log_prob(events.tracks).mean()

    found = fit_stream(
        net, draw, loss, steps=steps[kind], learning_rate=1e-3 if kind == "independent" else 5e-3,
        seed=1000 * settings.seed + member, checkpoint=out / f"{kind}-{member}-{tag(settings)}.checkpoint",
    )  # fmt: skip
    if found.interrupted:
        raise KeyboardInterrupt
    write_tensors(net.state_dict(), out / f"{kind}-{member}.pt")
    return {"loss": found.loss[-1], "fit_seconds": found.seconds}


def load(kind: str, settings: Settings, member: int, out: Path) -> nn.Module:
    net = MAKERS[kind](settings)
    net.load_state_dict(read_tensors(out / f"{kind}-{member}.pt", "weights of a finder"))
    return net.eval()


@torch.no_grad()
def predictive(nets: list[nn.Module], images: Tensor) -> PredictiveMixture:
    """Of one track each: the average of all members."""
    each = [net(images).single() for net in nets]
    normals = [one.component_distribution for one in each]
    return PredictiveMixture.from_draws(
        Mixture.multivariate_normal(
            torch.stack([one.log_weights for one in each]),
            torch.stack([one.loc for one in normals]),
            torch.stack([one.scale_tril for one in normals]),
        )
    )


def one_track(settings: Settings, noise: float, out: Path, *, batch: int = 250) -> dict[str, float]:
    """Fresh events of one track: pulls, and what is missing to the exact posterior."""
    torch.set_num_threads(1)
    nets = [load("single", settings, member, out) for member in range(settings.members)]
    detector = Detector(noise=noise)
    events = detector.simulate(settings.events, tracks=1, seed=FRESH + 1000 * settings.seed + round(100 * noise))
    rows: dict[str, list[Tensor]] = {name: [] for name in ("nll", "exact", "mean", "exact_mean", "squared", "own")}
    kinds: dict[str, list[np.ndarray]] = {"gaussianised": [], "component": []}
    rows_of = zip(events.images.split(batch), events.tracks[:, 0].split(batch), strict=True)
    for number, (images, tracks) in enumerate(rows_of):
        found, exact = predictive(nets, images), track_posterior(detector, images, step=1 / 64)
        rows["nll"].append(-found.log_prob(tracks))
        rows["own"].append(-found.per_draw.log_prob(tracks[:, None]).mean(1))
        rows["exact"].append(-exact.log_prob(tracks))
        rows["mean"].append(found.mean)
        rows["exact_mean"].append(exact.mean)
        away = (tracks - found.mean)[..., None]
        rows["squared"].append((away.mT @ torch.linalg.solve(found.covariance_matrix, away))[:, 0, 0])
        for kind, values in kinds.items():
            both = [
                pulls(found.marginal(which), tracks[:, which], kind=kind, seed=FRESH + 2 * number + which).pull.values
                for which in range(2)
            ]
            values.append(np.stack(both, 1))
    data = {name: torch.cat(parts).double() for name, parts in rows.items()}
    true = events.tracks[:, 0].double()
    write_tensors(
        {kind: torch.as_tensor(np.concatenate(values)) for kind, values in kinds.items()}, out / f"pulls-{noise}.pt"
    )
    metrics = {
        "nll": float(data["nll"].mean()),
        "nll_exact": float(data["exact"].mean()),
        "nll_excess": float((data["nll"] - data["exact"]).mean()),
        "nll_excess_se": float((data["nll"] - data["exact"]).std() / len(true) ** 0.5),
        "nll_excess_one": float((data["own"] - data["exact"]).mean()),
        "rms": float((data["mean"] - true).square().mean().sqrt()),
        "rms_exact": float((data["exact_mean"] - true).square().mean().sqrt()),
        "mahalanobis_mean": float(data["squared"].mean()),
    }
    metrics["resolution_ratio"] = metrics["rms"] / metrics["rms_exact"]
    for kind, parts in kinds.items():
        both_pulls = np.concatenate(parts)
        for which in range(2):
            summary = pull_summary(xr.Dataset({"pull": ("obs", both_pulls[:, which])}))
            prefix = "" if kind == "gaussianised" else "component_"
            for name in ("mean", "mean_se", "width", "width_se"):
                metrics[f"{prefix}pull_{name}.b{which + 1}"] = float(summary[name])
    for prefix in ("", "component_"):
        for name in ("mean", "mean_se", "width", "width_se"):
            both = [metrics[f"{prefix}pull_{name}.b{which}"] for which in (1, 2)]
            metrics[f"{prefix}pull_{name}"] = sum(both) / 2
    return metrics


def counted(settings: Settings, tracks: int, noise: float, out: Path) -> dict[str, float]:
    """Several tracks: what each finder finds, makes up and finds twice."""
    torch.set_num_threads(1)
    detector = Detector(noise=noise)
    seed = FRESH + 1000 * settings.seed + 100 * tracks + round(100 * noise)
    events = detector.simulate(settings.counted, tracks=tracks, seed=seed + 500_000)
    tuning = detector.simulate(min(500, settings.counted), tracks=tracks, seed=seed - FRESH // 2)
    found = {"set": of_set(load("set", settings, 0, out), events.images)}
    found["independent"] = of_independent(load("independent", settings, 0, out), events.images)
    metrics: dict[str, float] = {}
    for name, chain in CHAINS.items():
        threshold = tuned(chain, detector, tuning)
        metrics[f"{name}.threshold"] = threshold
        found[name] = chain(detector, events.images, threshold)
    for name, tracks_found in found.items():
        matches = match(tracks_found, events.tracks)
        metrics |= {f"{name}.{key}": value for key, value in matches.rates().items()}
        metrics[f"{name}.rms"] = residual(matches, tracks_found, events.tracks)
        metrics[f"{name}.mispaired"] = mispaired(tracks_found, events.tracks)
    return {name: value for name, value in metrics.items() if np.isfinite(value)}  # of nothing there is no rate


@torch.no_grad()
def of_set(net: nn.Module, images: Tensor, *, batch: int = 250) -> Tensor:
    return torch.cat([net(part).found().tracks for part in images.split(batch)])


@torch.no_grad()
def of_independent(net: nn.Module, images: Tensor, *, least: float = 0.1, batch: int = 250) -> Tensor:
    """The modes of both mixtures that have some weight; of as many as there are in both, the surest with the surest."""
    tables = []
    for part in images.split(batch):
        modes = net(part).modes(least=least)
        order = modes.probability.nan_to_num(-1).argsort(dim=-1, descending=True)
        table = modes.location.gather(-1, order)
        there = modes.probability.gather(-1, order).isfinite().all(1, keepdim=True)
        tables.append(torch.where(there, table, torch.nan).mT)
    rows = max(table.shape[1] for table in tables)
    padded = [nn.functional.pad(table, (0, 0, 0, rows - table.shape[1]), value=float("nan")) for table in tables]
    return torch.cat(padded)


def residual(matches: Matches, found: Tensor, true: Tensor) -> float:
    """Root mean square error of an intercept of matched tracks, in pixels."""
    event, row = (matches.true_of >= 0).nonzero(as_tuple=True)
    return float((found[event, row] - true[event, matches.true_of[event, row]]).square().mean().sqrt())


def mispaired(found: Tensor, true: Tensor, *, near: float = 1.0) -> float:
    """Share of found tracks both of whose ends are those of true tracks, but of different ones."""
    ends = (found[:, :, None] - true[:, None]).abs() < near  # (N, F, T, 2); NaN is nowhere near
    whole = ends.all(-1).any(-1)
    both = ends.any(2).all(-1)
    there = ~found.isnan().any(-1)
    return float((both & ~whole & there).sum() / there.sum().clamp_min(1))
