"""`DiscriminatorAccuracy` on discriminators that are known functions."""

import pytest
import torch

from posterity.inference.adversarial import Adversarial, TrainingAlarm, saturation, train
from posterity.inference.adversarial.losses import LOSSES, least_squares, make_loss
from posterity.inference.adversarial.monitors import DiscriminatorAccuracy
from tests.adversarial_cases import HELD_OUT, TRAINING, Fixed, Judge, perfect, read_monitors, single


def test_right_answers_are_counted_on_each_side():
    """Samples with x > 0 are called real: half of the ring, and all generated samples at 1 + noise."""
    history = read_monitors(single, DiscriminatorAccuracy(HELD_OUT, n=2000), logits=lambda x: x[:, 0])
    right = float((HELD_OUT[:2000, 0] > 0).double().mean())
    assert history["accuracy_held_out"][0] == pytest.approx(right)
    assert history["accuracy_train"][0] == pytest.approx(0.5, abs=0.06)  # 4.5 standard errors
    assert history["accuracy_fake"][0] == 0
    assert history["sign_real"][0] == pytest.approx(2 * history["accuracy_train"][0] - 1, abs=1e-6)
    assert abs(history["overfitting"][0]) < 0.15


def test_a_discriminator_that_has_memorised_its_training_data_overfits():
    """Logits are 1 for training samples and -1 for all others: no held-out sample is recognised, overfitting is 1."""

    def memorised(x):
        return (
            2.0 * (torch.cdist(x, TRAINING, compute_mode="donot_use_mm_for_euclid_dist").min(1).values == 0)
            - 1
            + 0 * x[:, 0]
        )

    history = read_monitors(perfect, DiscriminatorAccuracy(HELD_OUT), logits=memorised)
    assert history["accuracy_train"] == [1]
    assert history["accuracy_held_out"] == [0]
    assert history["overfitting"][0] == pytest.approx(1)


def test_logits_of_relative_losses_have_no_zero():
    """A number added to all logits changes no accuracy of a relativistic run."""
    one, two = (
        read_monitors(single, DiscriminatorAccuracy(HELD_OUT), logits=lambda x, a=a: a - x[:, 0], loss="relativistic")
        for a in (0.0, 7.0)
    )
    for name in ("accuracy_train", "accuracy_held_out", "accuracy_fake", "sign_real"):
        assert one[name] == pytest.approx(two[name])
    assert one["accuracy_fake"] == [1]


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_discriminator_that_has_won_is_right_with_every_loss(loss):
    """Samples near the middle of the ring, and logits 0.15 above and below the threshold."""
    threshold = make_loss(loss).threshold
    history = read_monitors(
        lambda z: 0.01 * z[:, :2],
        DiscriminatorAccuracy(HELD_OUT),
        logits=lambda x: threshold + 0.3 * (x.norm(dim=1) > 0.5) - 0.15 + 0 * x[:, 0],
        loss=loss,
    )
    for name in ("accuracy_train", "accuracy_held_out", "accuracy_fake", "sign_real"):
        assert history[name] == [1], name


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"wasserstein"}))
def test_the_alarm_hears_such_a_discriminator(loss):
    """Logits of the losses' own targets: 1 and 0 for least squares, far apart for the others."""
    low, high = (0.0, 1.0) if loss == "least_squares" else (-20.0, 20.0)
    settings = Adversarial(
        steps=6, batch_size=50, progress=False, loss=loss, learning_rate=(1e-30, 1e-30), monitor_every=1
    )
    judge = Judge(lambda x: torch.where(x.norm(dim=1) > 0.5, high, low) + 0 * x[:, 0])
    with pytest.warns(TrainingAlarm, match="saturation"):
        run = train(
            Fixed(lambda z: 0.01 * z[:, :2]), judge, TRAINING, latent=3, settings=settings,
            monitors=[DiscriminatorAccuracy(HELD_OUT)], alarms=[saturation()],
        )  # fmt: skip
    assert "saturation" in run.alarms


def test_the_threshold_of_least_squares_is_halfway_between_its_targets():
    assert make_loss("least_squares").threshold == 0.5
    assert least_squares(0.2).threshold == 0.4
    assert {make_loss(name).threshold for name in LOSSES if name != "least_squares"} == {0.0}
