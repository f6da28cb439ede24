"""What the examples of generated images share: data, a LeNet that looks at samples, numbers of them, good settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posterity.data import Images, digits, fashion_mnist, mnist
from posterity.inference.adversarial import Adversarial, metrics, r1, r2
from posterity.inference.training.classifier import accuracy, features, fit_classifier, predict_probabilities
from posterity.models import LeNet, load_lenet, save_lenet

SETS = {"mnist": mnist, "fashion": fashion_mnist}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
JUDGED = 5000  # samples of each kind in the numbers that are reported


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images to learn from, (N, 1, H, W) from -1 to 1, others that are held out, and a `LeNet` that knows the first."""

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


def pictures(name: str, out: Path, *, quick: bool, seed: int = 0) -> Pictures:
    """The data set of that name and its LeNet, trained once and kept in ``out``.

    With ``quick`` the 1,797 digits of scikit-learn, always at hand, every pixel doubled.
    """
    train, test = _small(digits()) if quick else (SETS[name]("train"), SETS[name]("test"))
    if train.labels is None or test.labels is None:
        raise ValueError(f"expected labels of {train.name}, got none")
    # In any order: the first half of MNIST's test images was written by other people than the second.
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    held_out = test.scaled()[order]
    path = out / f"lenet-{train.name}-{seed}.pt"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = LeNet(shape=train.shape)
        fit_classifier(net, train.scaled(), train.labels, seed=seed)
        save_lenet(net, path)
    net = load_lenet(path)
    shares = torch.bincount(train.labels, minlength=10).double() / len(train)
    right = accuracy(net, test.scaled(), test.labels)
    return Pictures(train.name, train.scaled(), held_out, shares, net, right)


def judge(samples: Tensor, data: Pictures, *, seed: int = 0) -> dict[str, float]:
    """Generated ``samples`` against held-out images on the LeNet's features, and training images in their place.

    Keys with ``_real`` are what as many training images have: no generator is expected to be better.
    """
    count = min(JUDGED, len(samples), len(data.held_out))
    train, held_out = judges(data, count, seed=seed)
    widths = metrics.median_widths(held_out)
    found: dict[str, float] = {}
    for suffix, images in (("", samples[:count]), ("_real", train)):
        seen = data.features(images)
        found[f"kernel_distance{suffix}"] = metrics.kernel_distance(seen, held_out, widths=widths)
        found[f"frechet{suffix}"] = metrics.frechet_distance(seen, held_out)
        manifold: Mapping[str, float] = metrics.precision_recall(held_out, seen)
        found |= {f"{key}{suffix}": value for key, value in manifold.items()}
        histogram = metrics.class_histogram(data.probabilities(images), 10, reference=data.shares)
        found[f"classes{suffix}"] = 10.0 - histogram.missing
        found[f"class_kl{suffix}"] = histogram.kl_uniform
        found[f"class_kl_to_data{suffix}"] = histogram.kl_reference or 0.0
        found[f"largest_class{suffix}"] = histogram.largest
    nearest = metrics.nearest_training(
        data.features(samples[:1000]), data.features(data.train[:20_000]), held_out[:1000]
    )
    return found | {"memorised": nearest.ratio, "lenet_accuracy": data.accuracy}


def judges(data: Pictures, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Training images, and features of held-out ones, ``count`` of each: what samples are compared with."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.train), generator=random)[:count]
    held_out = torch.randperm(len(data.held_out), generator=random)[:count]
    return data.train[rows], data.features(data.held_out[held_out])


def steady(steps: int, **more: Any) -> Adversarial:
    """How the dense GAN is trained: relativistic, with both penalties, no momentum (Huang et al. 2024, section 3).

    Chosen on seed 100 against Adam at 2e-4 with beta1 = 0.5 and R1, which after 3,000 steps is not as near as
    this after 600 (kernel distance 0.19 and 0.14).
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
        **more,
    )


def _small(images: Images) -> tuple[Images, Images]:
    pixels = images.pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    doubled = Images(pixels, images.labels, images.classes, images.name, images.source)
    return doubled.subset(slice(0, 1297)), doubled.subset(slice(1297, None))
