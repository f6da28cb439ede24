"""Classifiers of images: training one, and what it says.

`fit_classifier` trains any network from images (N, C, H, W) to logits (N, classes), such as `posterity.models.lenet`;
`accuracy`, `predict_probabilities` and `features` ask it in batches, in evaluation and without gradients, and leave it
in the mode in which it was.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from posterity.inference.training.evaluation import mode
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.record import Training
from posterity.inference.training.recovery import LastGood
from posterity.inference.training.schedule import cosine
from posterity.random import child_seeds, seeded
from posterity.validation import check_integer, check_number, check_seed


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
) -> Training:
    """Train ``net`` in place on images (N, C, H, W), floats, and their labels (N,), int64 from 0.

    Cross entropy by AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), the rate falling from ``learning_rate`` to
    zero along a cosine. In every epoch the images are in a new order, each moved by up to ``shift`` pixels up or down
    and left or right; what comes in at the edge is the least value of all images, which is black. What is left of an
    epoch after its whole batches is not used in it. Batches go to the device and dtype of the weights.

    All randomness is of ``seed``; the network's own start is not. An interrupt keeps the weights of the last step.

    Raises:
        ValueError: images or labels of another shape or type, that are not finite or beyond the classes, fewer images
            than a batch, a setting that cannot be, a network without weights to train, or a loss that is not finite:
            then the weights after the last whole epoch are kept.
    """
    for name, count in (("epochs", epochs), ("batch_size", batch_size)):
        check_integer(name, count, 1)
    check_integer("shift", shift, 0)
    check_seed(seed)
    check_number("learning_rate", learning_rate, "(0, inf)")
    check_number("weight_decay", weight_decay, "[0, inf)")
    _check_images(images)
    if len(images) < batch_size:
        raise ValueError(f"expected at least the {batch_size} images of a batch, got {len(images)}")
    _check_labels(net, images, labels)
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not weights:
        raise ValueError("expected a network with weights to train, got none that requires a gradient")
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay)
    found, begun = Training(), time.perf_counter()
    seeds = child_seeds(seed, 2)
    random = torch.Generator().manual_seed(seeds[0])
    per_epoch, black = len(images) // batch_size, float(images.min())
    steps = epochs * per_epoch
    good = LastGood(net.state_dict, net.load_state_dict)
    bar = tqdm(total=steps, desc="classifier", disable=not progress, leave=False)
    try:
        with bar, mode(net, training=True), seeded(seeds[1]), torch.enable_grad():
            for epoch in range(epochs):
                good.keep()
                total = 0.0
                order = torch.randperm(len(images), generator=random)[: per_epoch * batch_size].to(images.device)
                for rows in order.split(batch_size):
                    for group in optimiser.param_groups:
                        group["lr"] = learning_rate * cosine(found.steps, steps, 0.0)
                    batch = _moved(images[rows], shift, black, random).to(weights[0])
                    loss = functional.cross_entropy(net(batch), labels[rows.to(labels.device)].to(weights[0].device))
                    value = float(loss.detach())
                    if value != value or value == float("inf"):
                        good.restore()
                        raise ValueError(
                            f"expected a finite loss, got {value} in epoch {epoch + 1}: the weights before it are "
                            "kept; try a lower learning_rate"
                        )
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    optimiser.step()
                    total += value
                    found.steps += 1
                    bar.update()
                found.loss.append(total / per_epoch)
                bar.set_postfix(loss=f"{found.loss[-1]:.3g}", refresh=False)
    except KeyboardInterrupt:
        found.interrupted = True
    finally:
        optimiser.zero_grad(set_to_none=True)
    found.seconds = time.perf_counter() - begun
    if found.interrupted:
        kept = f"the weights after {found.steps} of {steps} steps"
        warn_interrupted("fit_classifier", kept, "To train in full, start again from a new network.")
    return found


def accuracy(net: nn.Module, images: Tensor, labels: Tensor, *, batch: int = 1000) -> float:
    """Share of the images whose largest logit is that of their label. Raises ``ValueError`` as `fit_classifier`."""
    _check_images(images)
    _check_labels(net, images, labels)
    chosen = _ask(net, net, images, batch).argmax(1)
    return float((chosen == labels.to(chosen.device)).double().mean())


def predict_probabilities(net: nn.Module, images: Tensor, *, batch: int = 1000) -> Tensor:
    """Probabilities (N, classes); every row sums to one. Raises ``ValueError`` if an image has NaN or infinity."""
    _check_images(images)
    return _ask(net, net, images, batch).softmax(1)


def features(net: nn.Module, images: Tensor, *, batch: int = 1000) -> Tensor:
    """What ``net.features`` makes of all images, (N, D): of a `LeNet` its last hidden layer.

    Raises ``ValueError`` for a network without, or what are no finite images.
    """
    _check_images(images)
    found = getattr(net, "features", None)
    if not callable(found):
        raise ValueError(f"expected a network with features(x), such as LeNet, got {type(net).__name__}")
    return _ask(net, found, images, batch)


@torch.no_grad()
def _ask(net: nn.Module, function: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    check_integer("batch", batch, 1)
    like = next(net.parameters(), images)
    with mode(net, training=False):
        return torch.cat([function(part.to(like)) for part in images.split(batch)])


def _moved(images: Tensor, shift: int, black: float, random: torch.Generator) -> Tensor:
    """Each image moved by its own -shift to shift pixels in both directions."""
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
    if not bool(torch.isfinite(images).all()):
        raise ValueError("expected finite images, got some with nan or infinity")


def _check_labels(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    logits = _ask(net, net, images[:1], 1)
    if logits.ndim != 2:
        raise ValueError(f"expected a network with logits of shape (N, classes), got {tuple(logits.shape)} of 1 image")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"expected int64 labels of shape ({len(images)},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"expected labels from 0 to {logits.shape[1] - 1}, one for each logit, got {low} to {high}")
