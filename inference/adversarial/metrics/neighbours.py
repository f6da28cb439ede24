"""Has a generator learnt its training samples by heart? Then its own are nearer to them than other real ones are."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import checked, square_blocks


@dataclass(frozen=True, eq=False)
class Nearest:
    """``distances`` (N,) of generated samples from the nearest training sample, whose ``indices`` (N,) to look at, and
    those of held-out real samples, ``held_out`` (H,)."""

    distances: Tensor
    indices: Tensor
    held_out: Tensor

    @property
    def ratio(self) -> float:
        """The median of the generated samples' distances over that of the held-out ones.

        About 1 for a perfect generator, well below for one that has memorised, above for samples off the real ones. The
        median of an even count is the mean of the middle two. Infinite, or nan, where the held-out one is zero.
        """
        generated, real = (float(torch.quantile(values, 0.5)) for values in (self.distances, self.held_out))
        return generated / real if real else math.inf if generated else math.nan

    @property
    def copies(self) -> float:
        """The share of generated samples nearer to a training sample than 99 of 100 held-out ones are.

        About 0.01 for a perfect generator. It sees what the median does not: a few copies among much that is new.
        """
        return float((self.distances < torch.quantile(self.held_out, 0.01)).double().mean())


def nearest_training(samples: Tensor, training: Tensor, held_out: Tensor) -> Nearest:
    """Distances of generated ``samples`` (N, D) and of ``held_out`` real ones (H, D) from ``training`` (T, D).

    Held-out samples are the measure because how near is near depends on the features, D and T; they must have had no
    part in training. Meehan, Chaudhuri & Dasgupta 2020 (arXiv:2004.05675) compare the same distances by a rank test.

    The nearest is found by a matrix product, (N + H) T D operations, and its distance is then that of the difference:
    a copy is at exactly zero. Memory for `BLOCK` pairs beside the samples in float64.
    Raises ``ValueError`` for samples of different D, of fewer than 2 rows, or with values that are not finite.

    >>> training, held_out = torch.tensor([[0.0], [10.0]]), torch.tensor([[2.0], [6.0]])
    >>> found = nearest_training(torch.tensor([[9.0], [0.5]]), training, held_out)
    >>> found.distances.tolist(), found.indices.tolist(), found.ratio
    ([1.0, 0.5], [1, 0], 0.25)
    """
    samples, training, held_out = checked(samples=samples, training=training, held_out=held_out)
    (distances, indices), (real, _) = _nearest(samples, training), _nearest(held_out, training)
    return Nearest(distances, indices, real)


def _nearest(samples: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    indices = torch.cat([square.argmin(1) for _, square in square_blocks(samples, training)])
    return (samples - training[indices]).norm(dim=1), indices
