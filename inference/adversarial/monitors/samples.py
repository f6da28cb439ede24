"""What fresh samples are against held-out real ones: one monitor for each question, on features or as they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posterity.data import Clusters
from posterity.inference.adversarial import metrics
from posterity.inference.adversarial.metrics.clusters import cluster_quality
from posterity.inference.adversarial.monitors.protocol import check_held_out
from posterity.inference.adversarial.training_run import Game
from posterity.validation import check_integer, check_number

Features = Callable[[Tensor], Tensor]


def _check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise ValueError(f"expected {name} as a function of samples, got {value!r}")


def flat(samples: Tensor) -> Tensor:
    """Samples (N, ...) as they are: (N, D)."""
    return samples.flatten(1)


@dataclass(frozen=True, eq=False)
class Quality:
    """``n`` fresh samples of the generator against as many of ``held_out`` (N, ...), by ``features`` of both (n, D).

    - ``kernel_distance``: MMD², and ``kernel_p``, its p-value by ``permutations`` (Gretton et al. 2012);
    - ``precision``, ``recall``, ``density``, ``coverage`` (Kynkäänniemi et al. 2019; Naeem et al. 2020);
    - ``spread``: the mean distance of two generated samples over that of two held-out ones: near 0 after a collapse.

    Each reading has other samples. Raises ``ValueError`` for n below 12, or fewer held-out samples than n.
    """

    held_out: Tensor
    n: int = 500
    features: Features = flat
    permutations: int = 200

    def __post_init__(self) -> None:
        check_integer("n", self.n, 12)
        check_integer("permutations", self.permutations, 1)
        check_held_out(self.held_out, self.n, f"at least n = {self.n} held-out samples (N, ...)")
        _check_callable("features", self.features)

    @torch.no_grad()
    def read(self, game: Game) -> Mapping[str, float]:
        real = self.features(self.held_out[: self.n].to(game.data))
        fake = self.features(game.samples(self.n, seed=game.step))
        test = metrics.kernel_test(
            real, fake, permutations=self.permutations, seed=game.step, widths=metrics.median_widths(real)
        )  # widths of the real ones: the same in every reading
        return {
            "kernel_distance": test.distance,
            "kernel_p": test.p_value,
            **metrics.precision_recall(real, fake),
            "spread": float(torch.pdist(fake.double()).mean() / torch.pdist(real.double()).mean()),
        }


@dataclass(frozen=True, eq=False)
class Originality:
    """Whether ``n`` fresh samples are few, or copies of the training data.

    - ``support``: how many different samples there are, estimated from those that come twice (the birthday paradox:
      Arora, Risteski & Zhang 2018); infinite where none does; ``pair_ratio``: against held-out ones.
    - ``memorised``: the median distance to the nearest training sample over that of held-out samples; well below 1
      where samples are copies.
    """

    held_out: Tensor
    n: int = 1000
    features: Features = flat

    def __post_init__(self) -> None:
        check_integer("n", self.n, 12)
        check_held_out(self.held_out, 2 * self.n, f"at least 2 n = {2 * self.n} held-out samples (N, ...)")
        _check_callable("features", self.features)

    @torch.no_grad()
    def read(self, game: Game) -> Mapping[str, float]:
        fake = self.features(game.samples(self.n, seed=game.step))
        real, other = (self.features(part.to(game.data)) for part in self.held_out[: 2 * self.n].split(self.n))
        support = metrics.support_size(fake, real, other)
        nearest = metrics.nearest_training(fake, self.features(game.data), real)
        return {"support": support.size, "pair_ratio": support.pair_ratio, "memorised": nearest.ratio}


@dataclass(frozen=True, eq=False)
class Classes:
    """Which classes a classifier sees in ``n`` fresh samples: ``predict`` maps samples to probabilities (n, K).

    - ``class_kl``: KL of their shares to ``reference`` shares (K,), by default even ones, in nats;
    - ``classes``: how many there are; ``largest_class``: the share of the most frequent.

    Raises ``ValueError`` for a ``predict`` that cannot be called, a count below 2, or n below 1.
    """

    predict: Callable[[Tensor], Tensor]
    count: int = 10
    n: int = 1000
    reference: Tensor | None = None

    def __post_init__(self) -> None:
        _check_callable("predict", self.predict)
        check_integer("count", self.count, 2)
        check_integer("n", self.n, 1)

    @torch.no_grad()
    def read(self, game: Game) -> Mapping[str, float]:
        probabilities = self.predict(game.samples(self.n, seed=game.step))
        found = metrics.class_histogram(probabilities, self.count, reference=self.reference)
        return {
            "class_kl": found.kl_uniform if found.kl_reference is None else found.kl_reference,
            "classes": float(self.count - found.missing),
            "largest_class": found.largest,
        }


@dataclass(frozen=True, eq=False)
class ClusterQuality:
    """`posterity.inference.adversarial.metrics.cluster_quality` of ``n`` fresh samples, times ``scale``.

    Raises ``ValueError`` unless clusters are `posterity.data.Clusters`, n is at least 1 and the scale is positive.
    """

    clusters: Clusters
    n: int = 2500
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.clusters, Clusters):
            raise ValueError(f"expected clusters, such as posterity.data.ring(), got {type(self.clusters).__name__}")
        check_integer("n", self.n, 1)
        check_number("scale", self.scale, "(0, inf)")

    def read(self, game: Game) -> Mapping[str, float]:
        return cluster_quality(game.samples(self.n, seed=game.step) * self.scale, self.clusters)
