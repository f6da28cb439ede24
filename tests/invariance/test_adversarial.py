"""Metrics and fits do not depend on units, origin or order of the samples. Powers of two scale without rounding."""

import pytest
import torch

from posterity.data.clusters import Clusters, ring
from posterity.inference.adversarial import Adversarial, metrics, train
from posterity.inference.adversarial.monitors import SampleQuality
from posterity.inference.tracking import kalman_fit

SCALES = [2.0**-100, 2.0**-30, 2.0**-20, 2.0**20, 2.0**30]
RANDOM = torch.Generator().manual_seed(0)
REAL, FAKE, OTHER = torch.randn(3, 60, 3, generator=RANDOM)
FAKE = 0.8 * FAKE + 0.2


def all_metrics(change):
    """Metrics of samples that are all changed alike: pure numbers, lengths, and a squared length."""
    real, fake, other = (change(part) for part in (REAL, FAKE, OTHER))
    support = metrics.support_size(fake, real, other, expected_pairs=20.0)
    nearest = metrics.nearest_training(fake, real, other)
    test = metrics.kernel_test(real, fake, permutations=30, seed=0)
    numbers = {
        "kernel": metrics.kernel_distance(real, fake), "p": test.p_value, **metrics.precision_recall(real, fake, k=3),
        "size": support.size, "low": support.low, "pairs": support.pairs, "real_pairs": support.real_pairs,
        "ratio": nearest.ratio, "copies": nearest.copied_share,
    }  # fmt: skip
    lengths = {
        "radius": support.radius,
        "bandwidth": metrics.median_bandwidths(real)[2],
        "nearest": float(nearest.distances.mean()),
    }
    return numbers, lengths, metrics.frechet_distance(real, fake)


@pytest.mark.parametrize("scale", SCALES)
def test_metrics_do_not_depend_on_units(scale):
    numbers, lengths, squares = all_metrics(lambda x: x)
    scaled, longer, larger = all_metrics(lambda x: scale * x)
    assert scaled == pytest.approx(numbers, rel=1e-9)
    assert longer == pytest.approx({name: scale * value for name, value in lengths.items()}, rel=1e-9)
    assert larger == pytest.approx(scale**2 * squares, rel=1e-9)


def test_metrics_do_not_depend_on_the_origin_or_the_order():
    """A million standard deviations away, in float64: ten of 16 digits are left."""
    numbers, lengths, squares = all_metrics(lambda x: x)
    moved = all_metrics(lambda x: x.double() + 1e6)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    mixed = all_metrics(lambda x: x[order])
    for other in (moved, mixed):
        pure = {name: value for name, value in other[0].items() if name != "p"}  # permutations are of the rows
        assert pure == pytest.approx({name: numbers[name] for name in pure}, rel=1e-7)
        assert other[1] == pytest.approx(lengths, rel=1e-7)
        assert other[2] == pytest.approx(squares, rel=1e-7)


@pytest.mark.parametrize("scale", SCALES)
def test_quality_of_clusters_does_not_depend_on_units(scale):
    clusters = ring(sd=0.05)
    samples = clusters.sample(200, seed=0) * 1.02
    other = Clusters(scale * clusters.centres.double(), scale * clusters.sd)
    assert metrics.cluster_quality(scale * samples, other) == pytest.approx(
        metrics.cluster_quality(samples, clusters), rel=1e-6
    )  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
def test_the_readings_of_a_monitor_do_not_depend_on_units(scale):
    """The readings that alarms judge, of a generator, data and held-out samples in these units."""

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, z):
            return scale * (0.4 * z) + 0 * self.weight

    class Judge(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x / scale @ self.weight

    chosen = Adversarial(steps=1, batch_size=10, progress=False)
    monitors = (SampleQuality(scale * OTHER, n=50, permutations=5),)
    run = train(Scaled(), Judge(), scale * REAL, latent=3, settings=chosen, monitors=monitors)
    assert run.history["spread"][0] == pytest.approx(0.4, rel=0.2)
    assert 0 < run.history["kernel_distance"][0] < 1
    assert run.history["kernel_p"][0] == pytest.approx(1 / 6)


@pytest.mark.parametrize("scale", SCALES)
def test_the_fit_of_a_track_does_not_depend_on_units(scale):
    y = REAL[:, :3].double()
    variance = 0.1 + torch.rand(60, 3, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    one, other = kalman_fit(y, variance), kalman_fit(scale * y, scale**2 * variance)
    torch.testing.assert_close(other.tracks / scale, one.tracks, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other.covariance / scale**2, one.covariance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other.chi2, one.chi2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0])
def test_a_gradient_shorter_than_the_clip_is_left_alone(scale):
    """Whatever its length: Adam's first moment after a step is half of the gradient."""

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]) * scale)

        def forward(self, x):
            return x @ self.weight

    class Shift(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(2))

        def forward(self, z):
            return z + self.bias

    chosen = Adversarial(
        steps=1, batch_size=10, progress=False, loss="wasserstein", learning_rate=(1e-3, 1e-30), clip=10 * scale
    )
    run = train(Shift(), Line(), REAL[:, :2], latent=2, settings=chosen)
    moment = run.optimisers[0].state[run.generator.bias]["exp_avg"].norm()
    assert float(moment) == pytest.approx(0.5 * 5 * scale, rel=1e-4)
