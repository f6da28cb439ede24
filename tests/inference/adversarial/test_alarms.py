"""Alarms in runs of any length: failed training rings, healthy training does not, and NaN counts neither way."""

import math
import re

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import Adversarial, TrainingAlarm, mode_collapse, saturation, train
from posterity.inference.adversarial.losses import LOSSES, make_loss
from posterity.inference.adversarial.monitors import DiscriminatorAccuracy, SampleQuality
from tests.adversarial_cases import (
    HELD_OUT,
    NORMAL,
    TRAINING,
    Fixed,
    Judge,
    perfect,
    single,
    train_and_catch,
    train_monitored,
)


def first_ring(alarm, steps, every, *, losses=0.001, **curves):
    """The step in which an alarm first rings, applied after each reading as by the trainer; or why it could not."""
    chosen = Adversarial(steps=steps, monitor_every=every)
    alarm, read_at, history = alarm.adapted(chosen), [], {}
    for step in sorted({*range(every, steps + 1, every), steps}):
        read_at.append(float(step))
        history = {name: [value] * len(read_at) for name, value in curves.items()}
        history |= {"read_at": read_at, "discriminator_loss": [losses] * step}
        if alarm.rings(history):
            return step, None
    return None, alarm.inconclusive(history)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (10_000, 500, 3000),  # four readings after 1,000 steps
        (2500, 500, 2500),  # after 500
        (3000, 150, 1200),
        (500, 25, 200),
        (1000, 500, 1000),  # only two readings
        (600, 500, 600),
        (80, 10, 50),
    ],
)
def test_a_generator_of_one_point_rings_in_a_run_of_any_length(steps, every, expected):
    assert first_ring(mode_collapse(), steps, every, spread=0.0) == (expected, None)
    assert first_ring(mode_collapse(), steps, every, largest_class=1.0) == (expected, None)
    assert first_ring(mode_collapse(), steps, every, spread=0.9, largest_class=0.1) == (None, None)


@pytest.mark.parametrize(("steps", "every", "expected"), [(10_000, 500, 1500), (1000, 500, 1000), (60, 20, 60)])
def test_a_discriminator_that_has_won_rings_in_a_run_of_any_length(steps, every, expected):
    """Also if it had won before the run began, so that its first ten losses are as small as all others."""
    won = {"accuracy_held_out": 1.0, "accuracy_fake": 1.0}
    assert first_ring(saturation(), steps, every, **won) == (expected, None)
    assert first_ring(saturation(), steps, every, losses=0.08, **won) == (None, None)  # 0.05 of 2 log 2 is 0.069


@pytest.mark.parametrize("alarm", [mode_collapse(), saturation()])
def test_one_reading_is_inconclusive(alarm):
    curves = {"spread": 0.0, "accuracy_held_out": 1.0, "accuracy_fake": 1.0}
    step, reason = first_ring(alarm, 500, 500, **curves)
    assert step is None
    assert re.match("it needs 2 readings .*that are not NaN, and has 1", reason)


def test_readings_that_are_nan_count_neither_way():
    chosen = Adversarial(steps=600, monitor_every=100)
    steps = [100.0 * k for k in range(1, 7)]

    def judge(spread):
        alarm, history = mode_collapse().adapted(chosen), {"read_at": steps, "spread": spread}
        return alarm.rings(history), alarm.inconclusive(history)

    nan = math.nan
    assert judge([1.0, 0.1, 0.1, nan, 0.1, 0.1]) == (True, None)
    assert judge([1.0, 0.1, 0.1, nan, 0.9, 0.1]) == (False, None)
    assert judge([nan, nan, nan, 0.1, 0.1, 0.1]) == (
        False, "it needs 4 readings after step 120 that are not NaN, and has 3"
    )  # fmt: skip
    won = {"read_at": steps, "discriminator_loss": [0.001] * 600, "accuracy_fake": [1.0] * 6}
    alarm = saturation().adapted(chosen)
    assert alarm.rings(won | {"accuracy_held_out": [1, 1, nan, 1, nan, 1]})
    assert not alarm.rings(won | {"accuracy_held_out": [nan] * 6})
    assert "has 0" in alarm.inconclusive(won | {"accuracy_held_out": [nan] * 6})


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_saturation_is_judged_for_every_loss_with_a_scale(name):
    alarm = saturation().adapted(Adversarial(steps=600, monitor_every=100, loss=name))
    logits = torch.full((3,), make_loss(name).threshold)
    uninformed = float(make_loss(name).discriminator(logits, logits))
    history = {name: [1.0] * 6 for name in ("accuracy_held_out", "accuracy_fake")}
    history |= {"read_at": [100.0 * k for k in range(1, 7)], "discriminator_loss": [0.049 * uninformed] * 600}
    assert alarm.rings(history) == (name != "wasserstein")
    assert (alarm.inconclusive(history) is None) == (name != "wasserstein")
    assert not alarm.rings(history | {"discriminator_loss": [0.051 * uninformed] * 600})


def test_saturation_uses_the_losses_since_the_last_reading():
    """It rings if losses were high early and are low late, and not the other way round."""
    readings = [100.0 * k for k in range(1, 7)]
    right = {"accuracy_held_out": [1.0] * 6, "accuracy_fake": [1.0] * 6, "read_at": readings}
    late = {"discriminator_loss": [1.4] * 300 + [0.001] * 300}
    early = {"discriminator_loss": [1.4] * 10 + [0.001] * 390 + [1.4] * 200}
    assert saturation().rings(right | late)
    assert not saturation().rings(right | early)


def curves(readings, every=100, **values):
    steps = readings * every
    losses = values.pop("discriminator_loss", 1.0)
    return {
        "discriminator_loss": [1.4] * 10 + [losses] * (steps - 10),
        "read_at": [float(every * (k + 1)) for k in range(readings)],
        **values,
    }


def test_saturation_needs_both_conditions_for_long_enough():
    alarm, won = saturation(), {"accuracy_held_out": [1.0] * 4, "accuracy_fake": [1.0] * 4}
    assert alarm.rings(curves(4, discriminator_loss=0.01, **won))
    assert not alarm.rings(curves(4, discriminator_loss=0.08, **won))  # 0.05 of 1.4 is 0.07
    assert not alarm.rings(curves(4, discriminator_loss=0.01, **(won | {"accuracy_fake": [1, 1, 0.98, 1]})))
    assert not alarm.rings(curves(4, discriminator_loss=0.01, **(won | {"accuracy_held_out": [1, 1, 1, 0.9]})))
    two = {name: values[:2] for name, values in won.items()}
    assert not alarm.rings(curves(2, discriminator_loss=0.01, **two))
    assert saturation(readings=2).rings(curves(2, discriminator_loss=0.01, **two))


def test_mode_collapse_rings_by_spread_or_by_classes():
    alarm = mode_collapse(warmup=200)
    assert alarm.rings(curves(6, spread=[0.9, 0.9, 0.4, 0.4, 0.4, 0.4]))
    assert not alarm.rings(curves(6, spread=[0.9, 0.4, 0.4, 0.4, 0.6, 0.4]))
    assert not alarm.rings(curves(5, spread=[0.1] * 5))  # three readings after the warm-up
    assert alarm.rings(curves(6, spread=[1.0] * 6, largest_class=[0.1, 0.1, 0.9, 0.8, 1.0, 0.95]))
    assert not alarm.rings(curves(6, largest_class=[0.7] * 6))


def test_alarms_name_the_reading_they_need():
    with pytest.raises(ValueError, match="expected a monitor that reads 'accuracy_held_out', for this alarm"):
        saturation().rings(curves(3))
    with pytest.raises(ValueError, match="expected a monitor that reads 'spread', for this alarm"):
        mode_collapse().rings(curves(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: saturation(accuracy=1.2), r"expected accuracy to be a number in \(0, 1\), got 1\.2"),
        (lambda: saturation(readings=0), "expected readings to be a whole number of 1 or more"),
        (lambda: mode_collapse(spread=0.0), r"expected spread to be a number in \(0, 1\), got 0\.0"),
        (lambda: mode_collapse(warmup=-1), "expected warmup to be a whole number of 0 or more"),
    ],
)
def test_bad_arguments_of_alarms_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# In a run


class Point(nn.Module):
    """A generator of the same point for every z."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, z):
        return self.place.expand(len(z), 2)


@pytest.mark.parametrize("progress", [False, True])
def test_a_collapsed_run_rings_with_the_real_monitors(progress):
    """25 steps read every 5, the proportions of 2,500 steps and the defaults."""
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 25"):
        run = train_monitored(
            mode_collapse(),
            monitors=(SampleQuality(NORMAL, n=50, permutations=2),),
            generator=Point(),
            progress=progress,
        )
    assert run.alarms == {"mode_collapse": 25}
    assert run.history["spread"] == [0.0] * 5


def test_logits_of_nan_make_saturation_inconclusive():
    class Broken(nn.Linear):
        def forward(self, x):
            logits = super().forward(x)
            return logits if self.training else logits * math.nan

    run, caught = train_and_catch(
        saturation(), monitors=(DiscriminatorAccuracy(NORMAL, n=50),), discriminator=Broken(2, 1)
    )
    assert all(math.isnan(value) for value in run.history["accuracy_held_out"])
    assert "saturation" in run.inconclusive
    assert len(caught) == 1


def test_a_collapsed_and_a_saturated_run_ring_and_a_healthy_one_does_not():
    """With the real monitors: a generator of one cluster, and one whose samples are all recognised."""
    alarms = (saturation(readings=2), mode_collapse(readings=2, warmup=0))
    monitors = (DiscriminatorAccuracy(HELD_OUT), SampleQuality(HELD_OUT, n=200, permutations=5))

    def rung(make, logits):
        settings = Adversarial(
            steps=45, batch_size=50, progress=False, monitor_every=15, learning_rate=(1e-30, 1e-30)
        )  # fmt: skip
        judge = Judge(logits)
        calls = [0]

        def learning(x):  # zero in the first ten steps, of three calls each
            calls[0] += 1
            return logits(x) if calls[0] > 31 else 0 * x[:, 0]

        judge.logits = learning
        run = train(
            Fixed(make), judge, TRAINING, latent=3, settings=settings, monitors=monitors, alarms=alarms
        )  # fmt: skip
        return run.alarms

    def radius(x):  # real samples have a radius of 1
        return 40 * (0.5 - (x.norm(dim=1) - 1).abs())

    assert rung(perfect, radius) == {}
    with pytest.warns(UserWarning, match="mode_collapse in step 30: generated samples are nearly identical"):
        assert rung(single, radius) == {"mode_collapse": 30}
    with pytest.warns(UserWarning, match="saturation in step 45"):
        assert rung(lambda z: 3 * perfect(z), radius) == {"saturation": 45}
