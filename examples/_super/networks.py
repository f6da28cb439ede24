"""The networks of ``super_resolution.py``: construction, training and loading."""

from pathlib import Path

import torch
from _parts import finished, tag
from torch import Tensor, nn

from _super.settings import SCALE, Settings, crops, training_photographs
from posterity.data import PhotographCrops
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import Adversarial, train
from posterity.inference.adversarial.terms import feature_distance, paired
from posterity.inference.training.classifier import accuracy, fit_classifier
from posterity.inference.training.record import FitRecord
from posterity.inference.training.streaming import fit_stream
from posterity.models.discriminators import patch_discriminator
from posterity.models.super_resolution import (
    SuperResolution,
    TextureClassifier,
    load_super_resolution,
    save_super_resolution,
    super_resolution,
    texture_classifier,
)

CONTENT = 30.0  # weight of the pixels beside the adversarial loss; luminances are between 0 and 1
FEATURES = 1.0
WIDTH = 24  # channels of the discriminator
TEXTURE_CROP = 12  # pixels of a reduced crop, 48 at full resolution
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
    assert net.errors is not None
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


def texture_network(settings: Settings) -> TextureClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 2)
        return texture_classifier(len(training_photographs(settings)))


def train_textures(settings: Settings, out: Path) -> dict[str, float]:
    """The network of the feature loss, which recognises the photograph a crop comes from."""
    torch.set_num_threads(1)
    source = PhotographCrops(training_photographs(settings), size=TEXTURE_CROP, scale=SCALE)
    random = torch.Generator().manual_seed(settings.seed + 2)
    _, images, numbers = source.draw_labelled(settings.texture_crops, random)
    _, fresh, fresh_numbers = source.draw_labelled(min(HELD_OUT_CROPS, settings.texture_crops), random)
    net = texture_network(settings)
    training = fit_classifier(
        net, images, numbers, epochs=settings.texture_epochs, batch_size=64, learning_rate=2e-3, shift=0,
        seed=settings.seed,
    )  # fmt: skip
    return _finished(training, net, out / "textures.pt") | {"accuracy": accuracy(net, fresh, fresh_numbers)}


def train_adversarial(settings: Settings, out: Path) -> dict[str, float]:
    """The network with pixel loss, trained further with an adversarial loss and a loss of texture features."""
    torch.set_num_threads(1)
    source, textures, net = crops(settings), texture_network(settings), new_network(settings, components=0)
    textures.load_state_dict(read_tensors(out / "textures.pt", "weights of a network"))
    textures.requires_grad_(False).eval()
    net.load_state_dict(read_tensors(out / "pixel-only.pt", "weights of a network"))
    with torch.no_grad():
        scale = float(textures.features(source.draw(16, torch.Generator().manual_seed(settings.seed))[1]).std())
    side = SCALE * settings.crop
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 3)
        discriminator = patch_discriminator((1, side, side), width=WIDTH)
    checkpoint = out / f"adversarial-{tag(settings)}.checkpoint"
    chosen = Adversarial(
        steps=settings.adversarial_steps, batch_size=settings.adversarial_batch, loss="relativistic_average",
        terms=(paired(CONTENT), feature_distance(lambda images: textures.features(images) / scale, FEATURES)),
        learning_rate=(1e-4, 2e-4), betas=(0.5, 0.99), schedule=("late_linear", "late_linear"), ema=0.99,
        monitor_every=max(1, settings.adversarial_steps // 10), checkpoint=checkpoint,
    )  # fmt: skip
    run = train(
        net, discriminator, source, settings=chosen, seed=settings.seed,
        resume=checkpoint if checkpoint.exists() else None,
    )  # fmt: skip
    finished(run)
    save_super_resolution(run.sampling_generator, out / "adversarial.pt")
    last = {name: run.history[name][-1] for name in run.records[0].losses}
    return last


def load(name: str, out: Path) -> SuperResolution:
    """The network "pixel", with its mixture of each pixel, or "adversarial"."""
    return load_super_resolution(out / f"{name}.pt").requires_grad_(False)


def new_network(settings: Settings, components: int) -> SuperResolution:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return super_resolution(settings.size, scale=SCALE, components=components)


def _finished(training: FitRecord, net: nn.Module, path: Path) -> dict[str, float]:
    finished(training)
    write_tensors(net.state_dict(), path)
    return {"loss": training.loss[-1] if training.loss else float("nan"), "fit_seconds": training.seconds}
