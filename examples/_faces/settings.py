"""Settings that the numbers of ``faces.py`` depend on, and the pictures."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from posterity.data import Images, by_person, digits, hidden_pixels, orl_faces

PARTS = ("lower", "eyes", "centre")
LATENT = 16


@dataclass(frozen=True)
class Settings:
    """Sizes of pictures and networks, and steps of training; they were chosen on the held-out people."""

    height: int = 56
    breadth: int = 48
    tested: int = 10  # people
    held_out: int = 6  # of the others: for the spread, and for choices
    width: int = 16
    critic_width: int = 24
    members: int = 3
    steps: int = 1200
    batch: int = 24
    score_weight: float = 10.0
    draws: int = 200
    toy: bool = False  # digits of scikit-learn in place of faces, which may be absent
    seed: int = 0


QUICK = Settings(
    height=16, breadth=16, tested=3, held_out=2, width=8, critic_width=8, members=1, steps=400, batch=16, draws=20,
    toy=True,
)  # fmt: skip


@cache
def people(settings: Settings) -> dict[str, Images]:
    """Pictures of "fitted" and "held_out" people, together "training", and of "tested" ones."""
    if settings.toy:  # ten digits are ten "people"
        images = digits().resized(settings.height, settings.breadth).subset(slice(600))
    else:
        images = orl_faces().resized(settings.height, settings.breadth)
    training, tested = by_person(images, tested=settings.tested, seed=settings.seed)
    fitted, held_out = by_person(training, tested=settings.held_out, seed=settings.seed + 1)
    return {"training": training, "tested": tested, "fitted": fitted, "held_out": held_out}


@cache
def masks(settings: Settings) -> Tensor:
    """Boolean (3, H, W)."""
    return torch.stack([hidden_pixels(part, settings.height, settings.breadth) for part in PARTS])
