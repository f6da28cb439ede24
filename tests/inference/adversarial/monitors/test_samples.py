"""Monitors of samples against generators whose faults are known."""

import math

import pytest
import torch

from posterity.inference.adversarial.monitors import ClassCoverage, ClusterQuality, SampleOriginality, SampleQuality
from tests.adversarial_cases import CLUSTERS, HELD_OUT, TRAINING, half, perfect, read_monitors, single


def test_a_perfect_generator_passes_and_faulty_ones_fail_the_right_metric():
    """n = 1000 of each: p above 0.01 or at its smallest value of 1/201; expected coverage 0.968 within 0.02."""
    quality = SampleQuality(HELD_OUT, n=1000)
    good, partial, collapsed = (read_monitors(make, quality) for make in (perfect, half, single))
    assert good["kernel_p"][0] > 0.01
    assert good["coverage"][0] == pytest.approx(0.968, abs=0.02)
    assert good["spread"][0] == pytest.approx(1.0, abs=0.05)
    assert partial["kernel_p"][0] == pytest.approx(1 / 201)
    assert partial["precision"][0] > 0.9
    assert partial["recall"][0] < 0.6
    assert collapsed["kernel_distance"][0] > partial["kernel_distance"][0] > 10 * abs(good["kernel_distance"][0])
    # Two samples of one cluster of sd s in the plane are s sqrt(pi) apart on average.
    expected = CLUSTERS.sd * math.sqrt(math.pi) / float(torch.pdist(HELD_OUT[:1000]).mean())
    assert collapsed["spread"][0] == pytest.approx(expected, rel=0.05)
    clusters = [read_monitors(make, ClusterQuality(CLUSTERS))["modes"][0] for make in (perfect, half, single)]
    assert clusters == [8, 4, 1]
    scaled = read_monitors(lambda z: perfect(z) / 3, ClusterQuality(CLUSTERS, scale=3.0), data=TRAINING / 3)
    assert scaled["high_quality"][0] == pytest.approx(0.989, abs=0.01)


def test_copies_and_repeated_samples_are_detected():
    """A generator of 100 training samples: the estimated support is about 100, the distance to the training set 0."""

    def copies(z):
        return TRAINING[(torch.special.ndtr(z[:, 0]) * 100).floor().long().clamp(max=99)]

    monitor = SampleOriginality(HELD_OUT, n=500)
    copied, good = read_monitors(copies, monitor), read_monitors(perfect, monitor)
    assert copied["memorised"][0] == 0
    # 1,248 pairs are expected of 100 values; the estimate is within 4 standard errors, 1/sqrt(1248) of it each.
    assert copied["support"][0] == pytest.approx(100, abs=4 * 100 / math.sqrt(1248) + 3)
    assert copied["pair_ratio"][0] > 20
    assert good["memorised"][0] == pytest.approx(1.0, abs=0.25)
    assert good["support"][0] > 10 * copied["support"][0]


def test_classes_are_those_of_the_classifier():
    def predict(samples):
        return torch.nn.functional.one_hot(CLUSTERS.nearest(samples)[0], 8).double()

    history = read_monitors(half, ClassCoverage(predict, count=8, n=2000))
    assert history["classes"] == [4]
    assert history["class_kl"][0] == pytest.approx(math.log(2), abs=0.01)
    assert history["largest_class"][0] == pytest.approx(0.25, abs=0.04)
    shares = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]) / 4
    assert read_monitors(half, ClassCoverage(predict, count=8, n=2000, reference=shares))["class_kl"][0] < 0.01
