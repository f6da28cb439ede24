"""The networks of ``super_resolution.py``: construction, training and loading."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _parts import tag
from torch import Tensor, nn

from _super.settings import SCALE, Settings, crops, training_photographs
from posterity.data import PhotographCrops
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import Adversarial, train
from posterity.inference.adversarial.terms import feature_distance, paired
from posterity.inference.training.classifier import accuracy, fit_classifier
from posterity.inference.training.streaming import fit_stream
from posterity.models.discriminators import patch_discriminator
from posterity.models.super_resolution import (
    Beside,
    SuperResolution,
    TextureClassifier,
    beside_input,
    save_super_resolution,
    super_resolution,
    texture_classifier,
)

CONTENT = 60.0  # weight of the pixels beside the adversarial loss; luminances are from 0 to 1
FEATURES = 1.0
WIDTH = 24  # channels of the discriminator
TEXTURE_CROP = 12  # input pixels; 48 whole ones
HELD_OUT_CROPS = 1000


def train_pixel(settings: Settings, out: Path) -> dict[str, float]:
    """The network with pixel loss: the mean absolute error (Lim et al. 2017)."""
    torch.set_num_threads(1)
    source, net = crops(settings), new_network(settings, components=0)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        low, high = batch
        return (net(low) - high).abs().mean()

    training = fit_stream(
        net, lambda random: source.draw(settings.batch, random), loss, steps=settings.pixel_steps,
        warmup=min(100, settings.pixel_steps // 5), seed=settings.seed, about=source.recipe,
        checkpoint=out / f"pixel-{tag(settings)}.checkpoint",
    )  # fmt: skip
    return _finished(training, net, out / "pixel-only.pt")


def train_errors(settings: Settings, out: Path) -> dict[str, float]:
    """The mixture of each pixel, by maximum likelihood, with the trained means."""
    torch.set_num_threads(1)
    source, net = crops(settings), new_network(settings, components=settings.components)
    net.load_state_dict(read_tensors(out / "pixel-only.pt", "weights of a network"), strict=False)
    net.requires_grad_(False)
    assert net.errors is not None  # noqa: S101 - it has components
    net.errors.requires_grad_(True)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        low, high = batch
        return -net.distribution(low).log_prob(high).mean()

    training = fit_stream(
        net, lambda random: source.draw(settings.batch, random), loss, steps=settings.error_steps, learning_rate=2e-3,
        warmup=min(100, settings.error_steps // 5), seed=settings.seed + 1, about=source.recipe,
        checkpoint=out / f"errors-{tag(settings)}.checkpoint",
    )  # fmt: skip
    metrics = _finished(training, net, out / "errors.pt")
    save_super_resolution(net, out / "pixel.pt")
    return metrics
