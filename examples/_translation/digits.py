"""Translated digits, judged by frozen classifiers of real digits."""

import math
from pathlib import Path

import torch
from _parts import finished
from _report import save_arrays
from torch import Tensor

from _translation.networks import judge, load, new_classifier, translated, translator
from _translation.settings import Settings, domains
from posterity.inference.training.classifier import accuracy, fit_classifier, predict_probabilities
from posterity.models.translation import Translator

DIRECTIONS = {"mnist_to_usps": (0, 1), "usps_to_mnist": (1, 0)}
NAMES = ("mnist", "usps")
BITS = 255  # levels of an 8-bit image
NOISE = 1.0  # levels of normal noise beside rounding
ADAPTED = 20_000  # translated images with labels that a new classifier is trained on


@torch.no_grad()
def evaluate(seed: int, settings: Settings, out: Path) -> dict[str, float]:
    """Accuracy of the judges on translated test digits, confusion, and what the cycle loses."""
    torch.set_num_threads(1)
    net, found = load("digits", seed, settings, out), {}
    images, labels = test_digits(settings)
    for name, (source, target) in DIRECTIONS.items():
        there, back = _generators(net, source)
        moved = translated(there, images[source])
        predicted = predict_probabilities(judge(NAMES[target], out), moved).argmax(1)
        by_plain = predict_probabilities(judge(f"{NAMES[target]}-plain", out), moved).argmax(1)
        confusion = torch.zeros(10, 10, dtype=torch.long)
        confusion.index_put_((labels[source], predicted), torch.ones_like(predicted), accumulate=True)
        share = confusion / confusion.sum(1, keepdim=True)
        found |= {
            f"{name}.accuracy": float((predicted == labels[source]).double().mean()),
            f"{name}.permuted_classes": float((share.argmax(1) != torch.arange(10)).sum()),
            f"{name}.plain_judge_accuracy": float((by_plain == labels[source]).double().mean()),
            f"{name}.plain_judge_ones_as_fours": float((by_plain[labels[source] == 1] == 4).double().mean()),
        }
        found |= {
            f"{name}.confusion.{row}.{column}": float(share[row, column]) for row in range(10) for column in range(10)
        }
        found |= cycle_errors(name, images[source], moved, back, seed)
        if seed == settings.seeds[0]:
            save_arrays(
                out / f"digits-{name}.npz", inputs=images[source][:200], moved=moved[:200],
                back=translated(back, moved[:200]), labels=labels[source][:200],
            )  # fmt: skip
    for key in ("error", "error_quantised"):
        found[f"cycle.{key}"] = sum(found[f"{name}.cycle.{key}"] for name in DIRECTIONS) / 2
    return found


def cycle_errors(name: str, images: Tensor, moved: Tensor, back: torch.nn.Module, seed: int) -> dict[str, float]:
    """Mean absolute error (0 to 2) after there and back, exactly and from 8 bits with noise.

    A hidden code of the input in the low bits of the translation (Chu, Zhmoginov & Sandler 2017, arXiv:1712.02950) does
    not survive rounding and noise.
    """
    random = torch.Generator().manual_seed(seed)
    levels = ((moved + 1) * BITS / 2).round()
    noisy = (levels + NOISE * torch.randn(levels.shape, generator=random)).round().clamp(0, BITS) * 2 / BITS - 1
    return {
        f"{name}.cycle.error": float((translated(back, moved) - images).abs().mean()),
        f"{name}.cycle.error_quantised": float((translated(back, noisy) - images).abs().mean()),
    }


def adapt(seed: int, settings: Settings, out: Path) -> dict[str, float]:
    """Accuracy on real digits of a classifier that is trained on translated digits of the other domain.

    This is the protocol of published numbers (Hoffman et al. 2018, CyCADA, table 1, pixel level alone).
    """
    torch.set_num_threads(1)
    net, start = load("digits", seed, settings, out), translator("digits", settings, seed)
    test_images, test_labels = test_digits(settings)
    training = domains("digits", "train", settings)
    found = {}
    for name, (source, target) in DIRECTIONS.items():
        images, labels = training[source].scaled()[:ADAPTED], training[source].labels
        assert labels is not None
        epochs = math.ceil(settings.adapted_epochs * min(ADAPTED, len(training[0])) / len(images))  # equal steps
        kinds = {"adapted": translated(_generators(net, source)[0], images)}
        if seed == settings.seeds[0]:
            kinds |= {"source_only": images, "placed_only": _generators(start, source)[0].moved(images)}
        for kind, inputs in kinds.items():
            judged = new_classifier(seed)
            finished(fit_classifier(judged, inputs.detach(), labels[:ADAPTED], epochs=epochs, seed=seed))
            found[f"{name}.{kind}"] = accuracy(judged, test_images[target], test_labels[target])
    return found


@torch.no_grad()
def baselines(settings: Settings, out: Path) -> dict[str, float]:
    """Accuracy of the judges on real digits, on those of the other domain, and after the affine start alone."""
    torch.set_num_threads(1)
    images, labels = test_digits(settings)
    start, found = translator("digits", settings, settings.seed), {}
    for name, (source, target) in DIRECTIONS.items():
        placed = _generators(start, source)[0].moved(images[source])
        for suffix in ("", "-plain"):
            net, group = judge(NAMES[target] + suffix, out), f"{name}.judge{suffix.replace('-', '_')}"
            found[f"{group}.own"] = accuracy(net, images[target], labels[target])
            found[f"{group}.untranslated"] = accuracy(net, images[source], labels[source])
            found[f"{group}.placed_only"] = accuracy(net, placed, labels[source])
    return found


def test_digits(settings: Settings) -> tuple[list[Tensor], list[Tensor]]:
    """Images and labels of both domains that nothing was trained on."""
    parts = [images.subset(slice(settings.tested)) for images in domains("digits", "test", settings)]
    return [part.scaled() for part in parts], [part.labels for part in parts if part.labels is not None]


def _generators(net: Translator, source: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """From this domain to the other one, and back."""
    return (net.to_second, net.to_first) if source == 0 else (net.to_first, net.to_second)
