"""What the discriminator says of samples it learns from, of unseen real ones, and of fresh generated ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.inference.adversarial.losses import make_loss
from posterity.inference.adversarial.monitors.protocol import check_held_out
from posterity.inference.adversarial.training_run import Game, draw_samples
from posterity.inference.training.modes import evaluation_mode
from posterity.validation import check_integer


@dataclass(frozen=True, eq=False)
class Answers:
    """How well the discriminator knows real from generated, in evaluation, with an answer above 0 for "real".

    - ``accuracy_train``, ``accuracy_held_out``, ``accuracy_fake``: shares of right answers to ``n`` samples of the
      training data, of ``held_out`` (N, ...) and of the generator as it is trained now (not of its average).
    - ``sign_real``: E sign(D(x)) of training samples: from 0, where it has no idea, to 1 (Karras et al. 2020, r_t).
    - ``overfitting``: (E D(train) - E D(held out)) / (E D(train) - E D(fake)): near 0 while held-out samples are as
      real to it as training ones, 1 where they look generated (ibid., r_v).

    For losses of differences (relativistic, Wasserstein) the zero of the answers means nothing: all are compared with
    the middle of the mean answers to training and generated samples.
    A conditional game needs ``held_out_condition`` (N, C). A share of answers that are NaN is NaN, and ``overfitting``
    is NaN if training and generated samples have the same mean answer.

    Raises ``ValueError`` for fewer than 2 held-out samples or samples that are not finite, n below 2, or missing
    conditions.
    """

    held_out: Tensor
    n: int = 500
    held_out_condition: Tensor | None = None

    def __post_init__(self) -> None:
        check_integer("n", self.n, 2)
        check_held_out(self.held_out, 2, "held-out samples (N, ...), at least 2")

    @torch.no_grad()
    def read(self, game: Game) -> Mapping[str, float]:
        random = torch.Generator().manual_seed(game.step)
        rows = torch.randint(len(game.data), (self.n,), generator=random)
        own = game.condition[rows] if game.condition is not None else None
        made = draw_samples(game.generator, self.n, game.latent, seed=game.step, like=game.data, condition=own)
        unseen = self.held_out[: self.n].to(game.data)
        theirs = None if own is None or self.held_out_condition is None else self.held_out_condition[: self.n].to(own)
        if own is not None and theirs is None:
            raise ValueError("expected held_out_condition for a conditional game, got None")
        with evaluation_mode(game.discriminator):
            train = _answers(game, game.data[rows], own)
            held_out = _answers(game, unseen, theirs)
            fake = _answers(game, made, own)
        middle = float(train.mean() + fake.mean()) / 2 if make_loss(game.settings.loss).relative else 0.0
        span = float(train.mean() - fake.mean())
        return {
            "accuracy_train": _share(train, train > middle),
            "accuracy_held_out": _share(held_out, held_out > middle),
            "accuracy_fake": _share(fake, fake <= middle),
            "sign_real": float((train - middle).sign().mean()),
            "overfitting": float(train.mean() - held_out.mean()) / span if span else math.nan,
        }


def _share(answers: Tensor, right: Tensor) -> float:
    return math.nan if bool(answers.isnan().any()) else float(right.double().mean())


def _answers(game: Game, samples: Tensor, condition: Tensor | None) -> Tensor:
    """In batches as in training: a packed discriminator has one answer for several samples."""
    batch, parts = game.settings.batch_size, []
    rows = len(samples) - len(samples) % batch if len(samples) > batch else len(samples)
    for start in range(0, rows, batch):
        part = slice(start, start + batch)
        inputs = (samples[part],) if condition is None else (samples[part], condition[part])
        parts.append(game.discriminator(*inputs).flatten())
    return torch.cat(parts)
