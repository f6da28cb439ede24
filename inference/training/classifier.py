"""Classifiers of images: their training, accuracy, class probabilities and features.

`fit_classifier` trains any network from images (N, C, H, W) to logits (N, classes), such as `posterity.models.lenet`.
`accuracy`, `predict_probabilities` and `features` evaluate it in batches, in evaluation mode and without gradients. All
leave the network in the mode in which it was.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.modes import evaluation_mode, training_mode
from posterity.inference.training.record import FitRecord
from posterity.inference.training.recovery import LastGood
from posterity.inference.training.schedule import cosine
from posterity.progress import progress_bar
from posterity.random import child_seeds, seeded
from posterity.validation import check_finite, check_integer, check_number, check_seed


def fit_classifier(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 8,
    batch_size: int = 128,
    learning_rate: float = 0.004,
    weight_decay: float = 0.01,
    shift: int = 2,
    seed: int,
    progress: bool = True,
) -> FitRecord:
    """Train ``net`` in place on images (N, C, H, W) and their labels (N,), and return the losses of the epochs.

    The cross entropy is minimised by AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), at a learning rate that falls
    to zero along a cosine. Images are in a new order in every epoch; the rest of an epoch after its last whole batch is
    skipped. Batches are converted to the device and dtype of the weights. An interrupt keeps the weights of the last
    step.

    Args:
        net: a network from images to logits (N, classes); its initial weights do not depend on ``seed``.
        images: floats of shape (N, C, H, W).
        labels: int64 from 0, of shape (N,).
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: learning rate of the first step.
        weight_decay: decoupled weight decay of AdamW.
        shift: largest random shift of an image in each direction, in pixels; the border is filled with black, the
            smallest value of all images.
        seed: seed of order, shifts and dropout.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if images or labels have another shape or type, an image contains NaN or infinity, a label is
            outside of the classes, there are fewer images than in a batch, a setting is out of range, or no weight
            requires a gradient. If the loss is not finite, the weights before that epoch are restored.
    """
    settings = _Settings(epochs, batch_size, learning_rate, weight_decay, shift, seed)
    _check_images(images)
    if len(images) < batch_size:
        raise ValueError(f"expected at least the {batch_size} images of a batch, got {len(images)}")
    _check_labels(net, images, labels)
    record, begun = FitRecord(), time.perf_counter()
    run = _Run(net, images, labels, settings, record)
    try:
        run.train(progress)
    except KeyboardInterrupt:
        record.interrupted = True
    finally:
        run.optimiser.zero_grad(set_to_none=True)
    record.seconds = time.perf_counter() - begun
    if record.interrupted:
        kept = f"the weights after {record.steps} of {run.steps} steps"
        warn_interrupted("fit_classifier", kept, "To train in full, start again from a new network.")
    return record


@dataclass(frozen=True)
class _Settings:
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    shift: int
    seed: int

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1)
        check_integer("batch_size", self.batch_size, 1)
        check_integer("shift", self.shift, 0)
        check_seed(self.seed)
        check_number("learning_rate", self.learning_rate, "(0, inf)")
        check_number("weight_decay", self.weight_decay, "[0, inf)")


class _Run:
    """One training: the network, its optimiser and its random numbers."""

    def __init__(self, net: nn.Module, images: Tensor, labels: Tensor, settings: _Settings, record: FitRecord) -> None:
        self.net, self.images, self.labels, self.settings, self.record = net, images, labels, settings, record
        weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
        if not weights:
            raise ValueError("expected a network with weights to train, got none that requires a gradient")
        self.like = weights[0]
        self.optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        order_seed, self.net_seed = child_seeds(settings.seed, 2)
        self.random = torch.Generator().manual_seed(order_seed)
        self.per_epoch, self.black = len(images) // settings.batch_size, float(images.min())
        self.steps = settings.epochs * self.per_epoch
        self.good = LastGood(net.state_dict, net.load_state_dict)

    def train(self, progress: bool) -> None:
        bar = progress_bar(self.steps, "classifier", shown=progress)
        with bar, training_mode(self.net), seeded(self.net_seed), torch.enable_grad():
            for epoch in range(self.settings.epochs):
                self.record.loss.append(self._epoch(epoch, bar))
                bar.set_postfix(loss=f"{self.record.loss[-1]:.3g}", refresh=False)

    def _epoch(self, epoch: int, bar: Any) -> float:
        """Take the steps of one epoch; returns their mean loss."""
        self.good.keep()
        total, size = 0.0, self.settings.batch_size
        order = torch.randperm(len(self.images), generator=self.random)[: self.per_epoch * size]
        for rows in order.to(self.images.device).split(size):
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.learning_rate * cosine(self.record.steps, self.steps, 0.0)
            batch = _shifted(self.images[rows], self.settings.shift, self.black, self.random).to(self.like)
            targets = self.labels[rows.to(self.labels.device)].to(self.like.device)
            loss = functional.cross_entropy(self.net(batch), targets)
            value = float(loss.detach())
            if math.isnan(value) or value == math.inf:
                self.good.restore()
                raise ValueError(
                    f"expected a finite loss, got {value} in epoch {epoch + 1}: the weights before it are "
                    "kept; try a lower learning_rate"
                )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            total += value
            self.record.steps += 1
            bar.update()
        return total / self.per_epoch


def accuracy(net: nn.Module, images: Tensor, labels: Tensor, *, batch: int = 1000) -> float:
    """Fraction of the images whose largest logit is that of their label.

    Raises ``ValueError`` for images, labels or a network that `fit_classifier` would refuse.
    """
    _check_images(images)
    _check_labels(net, images, labels)
    chosen = _evaluate(net, net, images, batch).argmax(1)
    return float((chosen == labels.to(chosen.device)).double().mean())


def predict_probabilities(net: nn.Module, images: Tensor, *, batch: int = 1000) -> Tensor:
    """Class probabilities (N, classes). Raises ``ValueError`` if an image contains NaN or infinity."""
    _check_images(images)
    return _evaluate(net, net, images, batch).softmax(1)


def features(net: nn.Module, images: Tensor, *, batch: int = 1000) -> Tensor:
    """The result (N, D) of ``net.features``: for a `LeNet`, its last hidden layer.

    Raises ``ValueError`` if the network has no ``features``, or an image contains NaN or infinity.
    """
    _check_images(images)
    function = getattr(net, "features", None)
    if not callable(function):
        raise ValueError(f"expected a network with features(x), such as LeNet, got {type(net).__name__}")
    return _evaluate(net, function, images, batch)


@torch.no_grad()
def _evaluate(net: nn.Module, function: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    """``function`` of all images, ``batch`` of them at a time."""
    check_integer("batch", batch, 1)
    like = next(net.parameters(), images)
    with evaluation_mode(net):
        return torch.cat([function(part.to(like)) for part in images.split(batch)])


def _shifted(images: Tensor, shift: int, black: float, random: torch.Generator) -> Tensor:
    """Each image shifted by a random number of pixels from -shift to shift in both directions."""
    if not shift:
        return images
    count, _, height, width = images.shape
    windows = functional.pad(images, (shift,) * 4, value=black).unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * shift + 1, (2, count), generator=random).to(images.device)
    return windows[torch.arange(count, device=images.device), :, down, right]


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"expected images of shape (N, C, H, W), none of them 0, got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"expected images as floats, such as Images.scaled() gives, got {images.dtype}")
    check_finite("images", images)


def _check_labels(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    logits = _evaluate(net, net, images[:1], 1)
    if logits.ndim != 2:
        raise ValueError(f"expected a network with logits of shape (N, classes), got {tuple(logits.shape)} of 1 image")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"expected int64 labels of shape ({len(images)},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"expected labels from 0 to {logits.shape[1] - 1}, one for each logit, got {low} to {high}")
