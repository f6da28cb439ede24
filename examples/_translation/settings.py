"""Settings that the numbers of ``translation.py`` depend on, and the two domains of each task."""

from dataclasses import dataclass
from functools import cache

import torch

from posterity.data import Images, UnpairedImages, digits, edges, fashion_mnist, mnist, usps

TASKS = ("digits", "clothes")
SIDE = 28


@dataclass(frozen=True)
class Settings:
    """Sizes of networks, steps of training, and numbers of images."""

    width: int = 12
    blocks: int = 3
    batch: int = 16
    digit_steps: int = 2500
    clothes_steps: int = 3000
    paired_steps: int = 2000
    readings: int = 10
    held_out: int = 500
    distorted: int = 60_000  # digits and distorted copies that a judge is trained on
    judge_epochs: int = 8
    adapted_epochs: int = 8
    tested: int = 10_000
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    small: bool = False  # the digits of scikit-learn in place of the public sets, which may be absent
    seed: int = 0


QUICK = Settings(
    width=8, blocks=1, digit_steps=120, clothes_steps=150, paired_steps=60, readings=4, held_out=50, distorted=1300,
    judge_epochs=12, adapted_epochs=1, tested=200, seeds=(0,), small=True,
)  # fmt: skip


@cache
def domains(task: str, part: str, settings: Settings) -> tuple[Images, Images]:
    """The images of both domains.

    The training images of clothes and outlines are of different clothes, so that no image has its pair among them.
    For clothes, image i of both test domains is a pair; digits have no pairs.
    """
    if settings.small:
        return _small(task, part)
    if task == "digits":
        return mnist(part), usps(part).resized(SIDE, SIDE)
    clothes = fashion_mnist(part)
    if part == "test":
        return clothes, edges(clothes)
    half = len(clothes) // 2
    return clothes.subset(slice(half)), edges(clothes.subset(slice(half, None)))


def _small(task: str, part: str) -> tuple[Images, Images]:
    small, large = digits().resized(20, 20).padded(SIDE, SIDE), digits().resized(SIDE, SIDE)
    if part == "test":
        small, large = (images.subset(slice(1297, None)) for images in (small, large))
        return (small, large) if task == "digits" else (large, edges(large))
    first, second = slice(650), slice(650, 1297)
    if task == "digits":
        return small.subset(first), large.subset(second)
    return large.subset(first), edges(large.subset(second))


def source(task: str, settings: Settings) -> tuple[UnpairedImages, torch.Tensor]:
    """Training images as a source, and held-out pairs (N, 2, 1, H, W) that monitors read."""
    first, second = domains(task, "train", settings)
    kept = UnpairedImages(*(images.subset(slice(settings.held_out, None)) for images in (first, second)))
    held_out = torch.stack([images.subset(slice(settings.held_out)).scaled() for images in (first, second)], 1)
    return kept, held_out
