"""`DiscriminatorAccuracy`: does the discriminator tell real from generated samples, and does it overfit?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.inference.adversarial.losses import make_loss
from posterity.inference.adversarial.monitors.protocol import check_held_out
from posterity.inference.adversarial.training_run import TrainingRun
from posterity.inference.training.modes import evaluation_mode
from posterity.validation import check_integer


@dataclass(frozen=True, eq=False)
class DiscriminatorAccuracy:
    r"""Accuracy and overfitting of the discriminator in evaluation mode.

    Reads:

    - ``accuracy_train``, ``accuracy_held_out``, ``accuracy_fake``: share of right answers to ``n`` training samples,
      ``n`` held-out samples, and ``n`` samples of the generator (of its last weights, not of their average).
    - ``sign_real``: $E\,\mathrm{sign}(D(x) - t)$ over training samples, for the threshold t; from 0 for guesses to 1
      (Karras et al. 2020, r_t).
    - ``overfitting``: (E D(train) - E D(held out)) / (E D(train) - E D(fake)), which is near 0 while held-out samples
      get the logits of training samples, and 1 if they get those of generated ones (ibid., r_v). NaN if training and
      generated samples have the same mean logit.

    Logits above the threshold of the loss mean "real": 0 for cross entropies and the hinge, halfway between the targets
    for least squares. For losses of differences (relativistic, Wasserstein), which have none, it is halfway between the
    mean logits of training and generated samples. An accuracy is NaN if a logit is NaN.

    Args:
        held_out: Real samples (N, ...) that the run does not train on.
        n: Number of samples of each kind.
        held_out_condition: Conditions (N, C) of the held-out samples, for a conditional run.

    Raises:
        ValueError: Fewer than 2 held-out samples, samples that are not finite, n below 2, or missing conditions.
    """

    held_out: Tensor
    n: int = 500
    held_out_condition: Tensor | None = None

    def __post_init__(self) -> None:
        check_integer("n", self.n, 2)
        check_held_out(self.held_out, 2, "held-out samples (N, ...), at least 2")

    @torch.no_grad()
    def read(self, run: TrainingRun) -> Mapping[str, float]:
        real, condition = run.draw_real(self.n, seed=run.step)
        generated = run.samples(self.n, seed=run.step, condition=condition, averaged=False)
        held_out, held_out_condition = self.held_out[: self.n].to(run.like), None
        if condition is not None:
            if self.held_out_condition is None:
                raise ValueError("expected held_out_condition for a conditional run, got None")
            held_out_condition = self.held_out_condition[: self.n].to(condition)
        with evaluation_mode(run.discriminator):
            train_logits = _logits(run, real, condition)
            held_out_logits = _logits(run, held_out, held_out_condition)
            fake_logits = _logits(run, generated, condition)
        loss = make_loss(run.settings.loss)
        threshold = float(train_logits.mean() + fake_logits.mean()) / 2 if loss.relative else loss.threshold
        difference = float(train_logits.mean() - fake_logits.mean())
        gap = float(train_logits.mean() - held_out_logits.mean())
        return {
            "accuracy_train": _share(train_logits, train_logits > threshold),
            "accuracy_held_out": _share(held_out_logits, held_out_logits > threshold),
            "accuracy_fake": _share(fake_logits, fake_logits <= threshold),
            "sign_real": float((train_logits - threshold).sign().mean()),
            "overfitting": gap / difference if difference else math.nan,
        }


def _share(logits: Tensor, right: Tensor) -> float:
    return math.nan if bool(logits.isnan().any()) else float(right.double().mean())


def _logits(run: TrainingRun, samples: Tensor, condition: Tensor | None) -> Tensor:
    """Logits in batches of the training size, because a packed discriminator has one logit for several samples."""
    batch, parts = run.settings.batch_size, []
    rows = len(samples) - len(samples) % batch if len(samples) > batch else len(samples)
    for start in range(0, rows, batch):
        part = slice(start, start + batch)
        inputs = (samples[part],) if condition is None else (samples[part], condition[part])
        parts.append(run.discriminator(*inputs).flatten())
    return torch.cat(parts)
