"""What holds for every monitor: training is the same with and without it, and bad arguments are refused."""

import math

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import Adversarial, train
from posterity.inference.adversarial.monitors import (
    ClassCoverage,
    ClusterQuality,
    DiscriminatorAccuracy,
    SampleGrid,
    SampleOriginality,
    SampleQuality,
)
from posterity.inference.adversarial.monitors.protocol import check_held_out
from tests.adversarial_cases import CLUSTERS, HELD_OUT, TRAINING


def test_monitors_do_not_disturb_training():
    """With all of them at every second step: the same weights, bit for bit."""

    def predict(samples):
        return torch.nn.functional.one_hot(CLUSTERS.nearest(samples.flatten(1))[0], 8).double()

    def train_with(*monitors):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
            discriminator = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        settings = Adversarial(steps=6, batch_size=20, progress=False, monitor_every=2, ema=0.9)
        run = train(generator, discriminator, TRAINING, latent=3, settings=settings, monitors=monitors)
        return [value for net in (generator, discriminator, run.ema_generator) for value in net.state_dict().values()]

    monitors = (
        DiscriminatorAccuracy(HELD_OUT),
        SampleQuality(HELD_OUT, n=50, permutations=5),
        SampleOriginality(HELD_OUT, n=50),
        ClassCoverage(predict, count=8, n=50),
        ClusterQuality(CLUSTERS, n=50),
    )
    assert all(torch.equal(one, two) for one, two in zip(train_with(), train_with(*monitors), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiscriminatorAccuracy(HELD_OUT, n=1), "expected n to be a whole number of 2 or more"),
        (
            lambda: DiscriminatorAccuracy(HELD_OUT[:1]),
            r"expected held-out samples \(N, ...\), at least 2, got shape \(1, 2\)",
        ),
        (lambda: SampleQuality(HELD_OUT[:100]), "expected at least n = 500 held-out samples"),
        (lambda: SampleQuality(HELD_OUT, n=5), "expected n to be a whole number of 12 or more"),
        (lambda: SampleQuality(HELD_OUT, features=3), "expected features to be a function of samples, got 3"),
        (lambda: SampleOriginality(HELD_OUT[:100], n=80), "expected at least 2 n = 160 held-out samples"),
        (lambda: ClassCoverage(None), "expected predict to be a function of samples, got None"),
        (lambda: ClusterQuality(3), r"expected clusters such as posterity.data.ring\(\), got 3"),
        (lambda: SampleGrid("x", n=0), "expected n to be a whole number of 1 or more"),
        (lambda: SampleGrid(3), "expected folder to be a path, got 3"),
    ],
)
def test_bad_arguments_of_monitors_are_refused(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make()


def test_held_out_samples_are_finite_floating_and_enough():
    check_held_out(HELD_OUT[:3], 3, "3 samples")
    for given in (HELD_OUT[:2], HELD_OUT[:, 0], HELD_OUT[:, :0], "x"):
        with pytest.raises(ValueError, match="expected 3 samples, got"):
            check_held_out(given, 3, "3 samples")
    for given in (HELD_OUT.long(), HELD_OUT * math.nan, HELD_OUT + math.inf):
        with pytest.raises(ValueError, match="expected held-out samples that are finite and floating, got NaN, infin"):
            check_held_out(given, 3, "3 samples")
