"""Training of the networks of ``faces.py``, each stored in a file."""

from pathlib import Path

import numpy as np
import torch
from _parts import finished
from torch import Tensor

from _faces.settings import LATENT, Settings, masks, people
from posterity.data import MaskedImages
from posterity.inference.adversarial import Adversarial, r1, r2, train
from posterity.inference.adversarial.terms import energy_loss
from posterity.inference.completion import Completer
from posterity.models import ProbabilisticPCA
from posterity.models.completion import CompletionCritic, CompletionGenerator, other_latents

KNOWN_DIRECTIONS = 30  # of the model that tells faces from other pictures
MARGIN = 2.0  # on the largest distance of a held-out face


def train_network(group: str, member: int, settings: Settings, work: Path) -> dict[str, float]:
    """Train a member on the "fitted" people, or on all of "training"; an interrupted training is resumed."""
    images, seed = people(settings)[group], 100 * settings.seed + member
    torch.manual_seed(seed)
    generator = CompletionGenerator(images.scaled().mean((0, 1)), latent=LATENT, width=settings.width)
    critic = CompletionCritic(settings.height, settings.breadth, width=settings.critic_width)
    path = work / f"{group}-{member}.checkpoint"
    run = train(
        generator, critic, MaskedImages(images, masks(settings), latent=LATENT),
        settings=Adversarial(
            steps=settings.steps, batch_size=settings.batch, loss="relativistic",
            regularisers=(r1(0.05, every=4), r2(0.05, every=4)),
            terms=(energy_loss(other_latents, settings.score_weight),), learning_rate=(1e-3, 1e-3), betas=(0.5, 0.99),
            schedule=("linear", "linear"), ema=0.99, monitor_every=max(1, settings.steps // 5), checkpoint=path,
        ),
        seed=seed, resume=path if path.exists() else None,
    )  # fmt: skip
    finished(run)
    known = ProbabilisticPCA.fit(images.scaled().flatten(1), min(KNOWN_DIRECTIONS, len(images) // 4))
    Completer([run.sampling_generator], known=known, limit=1e9).save(work / f"{group}-{member}.completer")
    return {"energy_loss": float(np.mean(run.history["energy_loss"][-100:]))}


def ensemble(group: str, settings: Settings, work: Path) -> Completer:
    members = [Completer.load(work / f"{group}-{member}.completer") for member in range(settings.members)]
    generators = [one.generators[0] for one in members]
    return Completer(generators, known=members[0].known, limit=members[0].limit)


def calibrated(settings: Settings, work: Path) -> Completer:
    """The networks of all training people, with spread and limit from those that have not seen the held-out people."""
    early, final = (ensemble(group, settings, work) for group in ("fitted", "training"))
    held_out = people(settings)["held_out"].scaled()
    found = [completions(early, held_out, mask, settings, seed=10) for mask in masks(settings)]
    low, high = 0.2, 5.0
    for _ in range(25):
        spread = (low + high) / 2
        inside = [_coverage(draws, held_out, mask, spread) for draws, mask in zip(found, masks(settings), strict=True)]
        low, high = (spread, high) if np.mean(inside) < 0.9 else (low, spread)
    distance = max(float(early.unlikeness(held_out, mask).max()) for mask in masks(settings))
    return Completer(final.generators, spread=spread, known=final.known, limit=MARGIN * distance)


def completions(completer: Completer, images: Tensor, mask: Tensor, settings: Settings, *, seed: int) -> Tensor:
    """(draws, N, 1, H, W)."""
    return completer.complete(images, mask, draws=settings.draws, seed=100 * settings.seed + seed, check=False)


def _coverage(draws: Tensor, images: Tensor, mask: Tensor, spread: float) -> float:
    hidden, truth = draws[..., mask], images[..., mask]
    scaled = hidden.mean(0) + spread * (hidden - hidden.mean(0))
    low, high = scaled.quantile(torch.tensor([0.05, 0.95]), 0)
    return float(((truth >= low) & (truth <= high)).double().mean())


def store_completer(settings: Settings, work: Path) -> dict[str, float]:
    completer = calibrated(settings, work)
    completer.save(work / "faces.completer")
    return {"spread": completer.spread, "limit": completer.limit}
