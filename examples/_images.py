"""Data, evaluation and training settings that the examples of generated images share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _parts import finished
from torch import Tensor, nn

from posterity.data import Images, digits, fashion_mnist, mnist
from posterity.inference.adversarial import Adversarial, metrics, r1, r2
from posterity.inference.training.classifier import accuracy, features, fit_classifier, predict_probabilities
from posterity.models import LeNet, load_lenet, save_lenet
from posterity.models.discriminators import dcgan_discriminator
from posterity.models.generators import dcgan_generator

SETS = {"mnist": mnist, "fashion": fashion_mnist}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EVALUATED = 5000  # samples of each kind in the reported metrics


@dataclass(frozen=True, eq=False)
class ImageData:
    """Training images (N, 1, H, W) from -1 to 1, held-out images, and a `LeNet` that was trained on the former.

    ``shares`` (10,) are the shares of the classes in the training images; ``accuracy`` is that of the LeNet on held-out
    images.
    """

    name: str
    train: Tensor
    held_out: Tensor
    shares: Tensor
    net: LeNet
    accuracy: float

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    def features(self, samples: Tensor) -> Tensor:
        return features(self.net, samples)

    def probabilities(self, samples: Tensor) -> Tensor:
        return predict_probabilities(self.net, samples)


def load_images(name: str, out: Path, *, quick: bool, seed: int = 0) -> ImageData:
    """The data set of this name with its LeNet, which is trained once and stored in ``out``.

    With ``quick``: the 1,797 digits of scikit-learn, which need no download, with every pixel doubled.
    """
    train, test = _training_and_test(name, quick)
    if train.labels is None or test.labels is None:
        raise ValueError(f"expected labels of {train.name}, got none")
    # Shuffled: the first half of MNIST's test images has other writers than the second.
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    held_out = test.scaled()[order]
    path = out / f"lenet-{train.name}-{seed}.pt"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = LeNet(shape=train.shape)
        finished(fit_classifier(net, train.scaled(), train.labels, seed=seed))
        save_lenet(net, path)
    net = load_lenet(path)
    shares = torch.bincount(train.labels, minlength=10).double() / len(train)
    right = accuracy(net, test.scaled(), test.labels)
    return ImageData(train.name, train.scaled(), held_out, shares, net, right)


def source_images(name: str, *, quick: bool) -> Images:
    """The training images of `load_images` as they are stored."""
    return _training_and_test(name, quick)[0]


def dcgan_networks(
    latent: int, shape: tuple[int, int, int], *, width: int, seed: int, batch_norm: bool = False
) -> tuple[nn.Module, nn.Module]:
    """A DCGAN with one dense layer in either network; the discriminator has no normalisation layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = dcgan_generator(latent, shape, width=width, hidden=(64 * width,), batch_norm=batch_norm, start="he")
        return generator, dcgan_discriminator(shape, width=width, hidden=(32 * width,), norm="none")


def evaluate_samples(samples: Tensor, data: ImageData, *, seed: int = 0) -> dict[str, float]:
    """Metrics of generated ``samples`` against held-out images, on the features of the LeNet.

    Keys with ``_real`` are the metrics of as many training images, which no generator is expected to exceed.
    """
    count = min(EVALUATED, len(samples), len(data.held_out))
    train, held_out = reference_images(data, count, seed=seed)
    bandwidths = metrics.median_bandwidths(held_out)
    values: dict[str, float] = {}
    for suffix, images in (("", samples[:count]), ("_real", train)):
        of_images = data.features(images)
        values[f"kernel_distance{suffix}"] = metrics.kernel_distance(of_images, held_out, bandwidths=bandwidths)
        values[f"frechet{suffix}"] = metrics.frechet_distance(of_images, held_out)
        manifold: Mapping[str, float] = metrics.precision_recall(held_out, of_images)
        values |= {f"{key}{suffix}": value for key, value in manifold.items()}
        histogram = metrics.class_histogram(data.probabilities(images), 10, reference=data.shares)
        values[f"classes{suffix}"] = 10.0 - histogram.missing
        values[f"class_kl{suffix}"] = histogram.kl_uniform
        values[f"class_kl_to_data{suffix}"] = histogram.kl_reference or 0.0
        values[f"largest_class{suffix}"] = histogram.largest
    nearest = metrics.nearest_training(
        data.features(samples[:1000]), data.features(data.train[:20_000]), held_out[:1000]
    )
    return values | {"memorised": nearest.ratio, "lenet_accuracy": data.accuracy}


def reference_images(data: ImageData, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``count`` random training images, and the features of ``count`` random held-out images."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.train), generator=random)[:count]
    held_out = torch.randperm(len(data.held_out), generator=random)[:count]
    return data.train[rows], data.features(data.held_out[held_out])


def dense_gan_settings(steps: int, **changes: Any) -> Adversarial:
    """Settings of the dense GAN: relativistic loss, both penalties, no momentum (Huang et al. 2024, section 3).

    Chosen on seed 100, where a kernel distance of 0.14 is reached after 600 steps; Adam at 2e-4 with beta1 = 0.5 and R1
    has 0.19 after 3,000 steps.
    """
    return Adversarial(
        steps=steps,
        batch_size=128,
        loss="relativistic",
        regularisers=(r1(0.1), r2(0.1)),
        learning_rate=(1e-3, 1e-3),
        betas=(0.0, 0.99),
        schedule=("linear", "linear"),
        ema=0.99 if steps < 1000 else 0.999,
        **changes,
    )


def _training_and_test(name: str, quick: bool) -> tuple[Images, Images]:
    return _small(digits()) if quick else (SETS[name]("train"), SETS[name]("test"))


def _small(images: Images) -> tuple[Images, Images]:
    pixels = images.pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    doubled = Images(pixels, images.labels, images.classes, images.name, images.source)
    return doubled.subset(slice(0, 1297)), doubled.subset(slice(1297, None))
