"""Autoencoder and network of its latents: branches, ghosts, and errors of decoded dreams over the horizon."""

from pathlib import Path

import torch
from _report import save_arrays
from torch import Tensor

from _world.networks import codes, load, sampled_codes
from _world.positions import MIDDLE, WALL, horizon_metrics
from _world.settings import CORRIDORS, HISTORY, HORIZONS, Settings, seed_of
from posterity.models.autoencoder import Autoencoder
from posterity.models.dreaming import dream

FORK = CORRIDORS["fork"]
GHOST = 1.0  # pixels: a ball further than this from every path, five times the jitter, is in no corridor


def located(net: Autoencoder, latents: Tensor) -> Tensor:
    """Positions (..., 2) of the ball in the decoded pictures of latents (..., D)."""
    flat = latents.reshape(-1, latents.shape[-1]).split(4096)
    return torch.cat([FORK.locate(net.decode(part)) for part in flat]).reshape(*latents.shape[:-1], 2)


def is_ghost(positions: Tensor, steps: Tensor) -> Tensor:
    """Whether balls (..., T, 2) are on no path at the given steps (T,): a pixel or more off in a coordinate."""
    paths = torch.stack([steps.expand(len(FORK.rows), -1).double(), FORK.rows[:, steps]], -1)
    return ((positions[..., None, :, :] - paths).abs() > GHOST).any(-1).all(-2)


@torch.no_grad()
def reconstruction(settings: Settings, out: Path) -> dict[str, float]:
    """How far the ball is from its true position in reconstructed frames, in pixels."""
    net = load("pictures", "fork", settings, out)
    fresh = FORK.simulate(settings.horizon_episodes, seed=seed_of(settings, "frames"))
    frames, latents = FORK.frames(fresh), sampled_codes(*codes(net, FORK, fresh), seed_of(settings, "frames: codes"))
    shown = net.decode(latents[:8])
    errors = {"decoded": located(net, latents), "frames": FORK.locate(frames)}
    rms = {name: (at - fresh.positions)[:, 1:-1].square().mean((0, 1)).sqrt() for name, at in errors.items()}
    seen = net.decode(latents[:, 0])[:, 0, 0, : len(FORK.up)].argmax(-1) == fresh.cue
    save_arrays(out / "frames.npz", frames=frames[:8], shown=shown)
    return {
        "vae.row_error_px": float(rms["decoded"][1]),
        "vae.column_error_px": float(rms["decoded"][0]),
        "vae.locate_error_px": float(rms["frames"][1]),
        "vae.cue_accuracy": float(seen.double().mean()),
    }


@torch.no_grad()
def decoded_dreams(settings: Settings, out: Path) -> dict[str, float]:
    """Branches of decoded dreams against p(c), and the share of dreams in which a ghost appears after the junction.

    Dreams that end with a ghost are in no branch.
    """
    pictures, found = load("pictures", "fork", settings, out), {}
    ghosts: dict[str, list[float]] = {"shared": [], "per_dimension": [], "real": []}
    steps = torch.arange(WALL, FORK.size)
    errors = []
    for cue, truth in enumerate(FORK.up):
        fresh = FORK.simulate(settings.dreams, cue=cue, seed=seed_of(settings, "decoded", cue))
        start = sampled_codes(*codes(pictures, FORK, fresh), seed_of(settings, "decoded: codes", cue))
        ghosts["real"].append(_ghost_share(located(pictures, start[:, WALL:]), steps))
        for kind in ("shared", "per_dimension"):
            net = load("latents", kind, settings, out)
            states = dream(
                net, start[:, :1], steps=FORK.size - 1, seed=seed_of(settings, "decoded: dreams", cue)
            ).states
            at = located(pictures, states[:, WALL - 1 :])
            ghosts[kind].append(_ghost_share(at, steps))
            if kind == "shared":
                there = at[~is_ghost(at, steps)[:, -1], -1, 1]
                up = float((there < MIDDLE).double().mean())
                found[f"vae.{cue}.frequency"] = up
                errors.append(abs(up - truth))
            if cue == 1:
                ghost = is_ghost(at, steps)
                save_arrays(
                    out / f"dreams-{kind}.npz", pictures=pictures.decode(states[:24]), ghost=ghost[:24].any(1),
                    wall=pictures.decode(states[:400, WALL - 1]), wall_ghost=ghost[:400, 0],
                )  # fmt: skip
        if cue == 1:
            save_arrays(out / "real.npz", pictures=FORK.frames(fresh)[:24, 1:])
    found["vae.branch_error_max"] = max(errors)
    return found | {f"ghosts.{name}": sum(shares) / len(shares) for name, shares in ghosts.items()}


def _ghost_share(positions: Tensor, steps: Tensor) -> float:
    return float(is_ghost(positions, steps).any(-1).double().mean())


@torch.no_grad()
def horizon(settings: Settings, out: Path) -> dict[str, float]:
    """Pulls and coverage of decoded rows against the true ones, and against the decoded true frames."""
    pictures, net = load("pictures", "fork", settings, out), load("latents", "shared", settings, out)
    fresh = FORK.simulate(settings.horizon_episodes, seed=seed_of(settings, "horizon: frames"))
    latents = sampled_codes(*codes(pictures, FORK, fresh), seed_of(settings, "horizon: codes"))
    at = torch.tensor(HORIZONS) - 1
    rows = []
    for number in range(settings.horizon_dreams):
        seed = seed_of(settings, "horizon: dreams of frames", number)
        states = dream(net, latents[:, :HISTORY], steps=max(HORIZONS), seed=seed).states
        rows.append(located(pictures, states[:, at])[..., 1])
    drawn = torch.full((len(rows), len(fresh), max(HORIZONS)), torch.nan)
    drawn[..., at] = torch.stack(rows)
    found = horizon_metrics("horizon", drawn, fresh.positions[:, HISTORY:, 1], settings)
    decoded = located(pictures, latents[:, HISTORY:])[..., 1]
    save_arrays(out / "horizon.npz", drawn=torch.stack(rows)[:, :6], truth=fresh.positions[:6, :, 1])
    return found | horizon_metrics("horizon_decoded", drawn, decoded, settings)
