"""`nearest_training`: has the generator memorised training samples?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.inference.adversarial.metrics._pairs import check_samples, squared_distance_chunks


@dataclass(frozen=True, eq=False)
class NearestTraining:
    """Distances of generated and of held-out samples from the nearest training sample.

    Attributes:
        distances: Distances (N,) of the generated samples.
        indices: Rows (N,) of the nearest training samples.
        held_out_distances: Distances (H,) of the held-out real samples.
    """

    distances: Tensor
    indices: Tensor
    held_out_distances: Tensor

    @property
    def ratio(self) -> float:
        """Median distance of the generated samples, over that of the held-out ones.

        About 1 for a perfect generator, well below 1 for one that copies, above 1 for unrealistic samples. Infinite or
        NaN if the median of the held-out samples is zero. The median of an even count is the mean of the middle two.
        """
        generated, real = (float(torch.quantile(values, 0.5)) for values in (self.distances, self.held_out_distances))
        return generated / real if real else math.inf if generated else math.nan

    @property
    def copied_share(self) -> float:
        """Share of generated samples that are nearer to a training sample than 99 % of the held-out ones.

        About 0.01 for a perfect generator. Unlike the median, it detects a few copies among many new samples.
        """
        return float((self.distances < torch.quantile(self.held_out_distances, 0.01)).double().mean())


def nearest_training(samples: Tensor, training: Tensor, held_out: Tensor) -> NearestTraining:
    """Distances of generated ``samples`` (N, D) and ``held_out`` real ones (H, D) from ``training`` samples (T, D).

    The held-out samples, which had no part in training, set the scale: a typical distance depends on the features, D
    and T. Meehan, Chaudhuri & Dasgupta 2020 (arXiv:2004.05675) compare the same distances by a rank test.

    The nearest sample is found by a matrix product, in (N + H) T D operations; its distance is then computed from the
    difference, so that a copy has a distance of exactly zero. Memory for 2^20 pairs beside the samples in float64.

    Raises:
        ValueError: Samples of different D, of fewer than 2 rows, or with NaN or infinity.

    >>> training, held_out = torch.tensor([[0.0], [10.0]]), torch.tensor([[2.0], [6.0]])
    >>> nearest = nearest_training(torch.tensor([[9.0], [0.5]]), training, held_out)
    >>> nearest.distances.tolist(), nearest.indices.tolist(), nearest.ratio
    ([1.0, 0.5], [1, 0], 0.25)
    """
    samples, training, held_out = check_samples(samples=samples, training=training, held_out=held_out)
    (distances, indices), (held_out_distances, _) = _nearest(samples, training), _nearest(held_out, training)
    return NearestTraining(distances, indices, held_out_distances)


def _nearest(samples: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    indices = torch.cat([square.argmin(1) for _, square in squared_distance_chunks(samples, training)])
    return (samples - training[indices]).norm(dim=1), indices
