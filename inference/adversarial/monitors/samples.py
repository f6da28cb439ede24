"""Monitors that compare fresh samples of the generator with held-out real ones, one monitor for each question."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.data import Clusters
from posterity.inference.adversarial import metrics
from posterity.inference.adversarial.metrics.clusters import check_clusters, cluster_quality
from posterity.inference.adversarial.monitors.protocol import check_held_out
from posterity.inference.adversarial.training_run import TrainingRun
from posterity.validation import check_callable, check_integer, check_number

Features = Callable[[Tensor], Tensor]


def flatten(samples: Tensor) -> Tensor:
    """Samples (N, ...) as rows of numbers (N, D)."""
    return samples.flatten(1)


@dataclass(frozen=True, eq=False)
class SampleQuality:
    """Fresh samples of the generator against as many held-out ones; other samples at each reading.

    Reads:

    - ``kernel_distance``: squared maximum mean discrepancy; ``kernel_p``: its p-value (Gretton et al. 2012).
    - ``precision``, ``recall``, ``density``, ``coverage`` (Kynkäänniemi et al. 2019; Naeem et al. 2020).
    - ``spread``: mean distance between two generated samples over that between two held-out ones; near 0 after mode
      collapse.

    Args:
        held_out: Real samples (N, ...) that the run does not train on, at least n.
        n: Number of samples of each kind.
        features: Function of samples (n, ...) to features (n, D) on which samples are compared.
        permutations: Permutations of the kernel test.

    Raises:
        ValueError: n below 12, or fewer held-out samples than n.
    """

    held_out: Tensor
    n: int = 500
    features: Features = flatten
    permutations: int = 200

    def __post_init__(self) -> None:
        check_integer("n", self.n, 12)
        check_integer("permutations", self.permutations, 1)
        check_held_out(self.held_out, self.n, f"at least n = {self.n} held-out samples (N, ...)")
        check_callable("features", self.features, "samples")

    @torch.no_grad()
    def read(self, run: TrainingRun) -> Mapping[str, float]:
        real = self.features(self.held_out[: self.n].to(run.like))
        fake = self.features(run.samples(self.n, seed=run.step))
        bandwidths = metrics.median_bandwidths(real)  # of the real samples: the same at each reading
        test = metrics.kernel_test(
            real, fake, permutations=self.permutations, seed=run.step, bandwidths=bandwidths
        )  # fmt: skip
        return {
            "kernel_distance": test.distance,
            "kernel_p": test.p_value,
            **metrics.precision_recall(real, fake),
            "spread": float(torch.pdist(fake.double()).mean() / torch.pdist(real.double()).mean()),
        }


@dataclass(frozen=True, eq=False)
class SampleOriginality:
    """Whether the generator has only a few distinct samples, or copies the training data.

    Reads:

    - ``support``: estimated number of distinct samples, from pairs of near-equal ones (birthday paradox: Arora,
      Risteski & Zhang 2018); infinite if there are none. ``pair_ratio``: frequency of such pairs over that in held-out
      samples.
    - ``memorised``: median distance to the nearest training sample, over that of held-out samples; well below 1 if
      samples are copies.

    Args:
        held_out: Real samples (N, ...) that the run does not train on, at least 2 n.
        n: Number of generated samples.
        features: Function of samples (n, ...) to features (n, D) on which samples are compared.

    Raises:
        ValueError: n below 12, or fewer held-out samples than 2 n.
    """

    held_out: Tensor
    n: int = 1000
    features: Features = flatten

    def __post_init__(self) -> None:
        check_integer("n", self.n, 12)
        check_held_out(self.held_out, 2 * self.n, f"at least 2 n = {2 * self.n} held-out samples (N, ...)")
        check_callable("features", self.features, "samples")

    @torch.no_grad()
    def read(self, run: TrainingRun) -> Mapping[str, float]:
        fake = self.features(run.samples(self.n, seed=run.step))
        real, other = (self.features(part.to(run.like)) for part in self.held_out[: 2 * self.n].split(self.n))
        support = metrics.support_size(fake, real, other)
        nearest = metrics.nearest_training(fake, self.features(run.data), real)
        return {"support": support.size, "pair_ratio": support.pair_ratio, "memorised": nearest.ratio}


@dataclass(frozen=True, eq=False)
class ClassCoverage:
    """Classes that a classifier finds among ``n`` fresh samples.

    Reads:

    - ``class_kl``: Kullback-Leibler divergence of the shares of the classes from the ``reference``, in nats.
    - ``classes``: number of classes with a sample. ``largest_class``: share of the most frequent class.

    Args:
        predict: Function of samples (n, ...) to class probabilities (n, K).
        count: Number of classes K.
        n: Number of generated samples.
        reference: Expected shares (K,); equal ones if None.

    Raises:
        ValueError: A ``predict`` that cannot be called, ``count`` below 2, or n below 1.
    """

    predict: Callable[[Tensor], Tensor]
    count: int = 10
    n: int = 1000
    reference: Tensor | None = None

    def __post_init__(self) -> None:
        check_callable("predict", self.predict, "samples")
        check_integer("count", self.count, 2)
        check_integer("n", self.n, 1)

    @torch.no_grad()
    def read(self, run: TrainingRun) -> Mapping[str, float]:
        probabilities = self.predict(run.samples(self.n, seed=run.step))
        histogram = metrics.class_histogram(probabilities, self.count, reference=self.reference)
        return {
            "class_kl": histogram.kl_uniform if histogram.kl_reference is None else histogram.kl_reference,
            "classes": float(self.count - histogram.missing),
            "largest_class": histogram.largest,
        }


@dataclass(frozen=True, eq=False)
class ClusterQuality:
    """The readings of `posterity.inference.adversarial.metrics.cluster_quality` for ``n`` fresh samples.

    Samples are multiplied by ``scale`` before they are compared with the ``clusters``.

    Raises:
        ValueError: ``clusters`` is not a `posterity.data.Clusters`, n is below 1, or a scale is not above 0.
    """

    clusters: Clusters
    n: int = 2500
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_clusters(self.clusters)
        check_integer("n", self.n, 1)
        check_number("scale", self.scale, "(0, inf)")

    def read(self, run: TrainingRun) -> Mapping[str, float]:
        return cluster_quality(run.samples(self.n, seed=run.step) * self.scale, self.clusters)
