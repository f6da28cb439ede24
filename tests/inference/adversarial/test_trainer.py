"""The training loop: it learns, a stopped run is resumed bit for bit, and nothing is lost."""

import copy
import math

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import Alarm, TrainingAlarm, mode_collapse, train, train_many
from posterity.inference.adversarial.losses import Loss, non_saturating
from posterity.inference.adversarial.regularisers import gradient_penalty, r1
from tests.adversarial_cases import (
    NORMAL,
    RING,
    Line,
    Reads,
    Shift,
    linear_settings,
    networks,
    pairs,
    quick,
    train_monitored,
    weights,
    weights_of,
)


def test_a_generator_learns_a_normal_distribution():
    """Mean 2, sd 0.5, within 0.1: a linear generator and a quadratic discriminator, the best one for normals."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return torch.cat([x, x**2], 1) @ self.weight

    torch.manual_seed(0)
    data = 2 + 0.5 * torch.randn(5000, 1)
    chosen = quick(
        steps=3000, batch_size=256, learning_rate=(0.01, 0.03), regularisers=(r1(0.1),), ema=0.99, monitor_every=3000
    )
    run = train(nn.Linear(1, 1), Quadratic(), data, latent=1, settings=chosen, seed=0)
    samples = run.samples(20_000, seed=1)
    assert float(samples.mean()) == pytest.approx(2, abs=0.1)
    assert float(samples.std()) == pytest.approx(0.5, abs=0.1)


def test_a_conditional_run_learns_the_distribution_of_each_condition():
    """x = 3 c + noise of sd 0.1, c = -1 or 1: samples have the mean of their condition, within 0.3."""

    class LineWithCondition(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.1, 0.0]))

        def forward(self, z, c):
            return z * self.weight[0] + c * self.weight[1]

    class Judge(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, x, c):
            return torch.cat([x, x**2, x * c], 1) @ self.weight

    random = torch.Generator().manual_seed(0)
    condition = 2.0 * torch.randint(2, (1000, 1), generator=random) - 1
    data = 3 * condition + 0.1 * torch.randn(1000, 1, generator=random)
    chosen = quick(steps=1500, batch_size=128, learning_rate=(0.01, 0.02), regularisers=(r1(0.1),), ema=0.99)
    run = train(LineWithCondition(), Judge(), data, latent=1, condition=condition, settings=chosen, seed=0)
    for side in (-1.0, 1.0):
        samples = run.samples(500, seed=1, condition=torch.full((500, 1), side))
        assert float(samples.mean()) == pytest.approx(3 * side, abs=0.3)
    assert run.samples(7, seed=1).shape == (7, 1)
    with pytest.raises(ValueError, match=r"expected condition of shape \(5, C\), got \(4, 1\)"):
        run.samples(5, seed=1, condition=torch.zeros(4, 1))


# Runs that stop


@pytest.mark.parametrize("stop", [1, 10, 17])
def test_a_stopped_run_is_resumed_bit_for_bit(stop, tmp_path):
    """With dropout, noise, averages, schedules and a lazy penalty, all of which have a state; and with monitors."""
    changes = {
        "ema": 0.9,
        "noise": 0.1,
        "regularisers": (r1(every=3),),
        "schedule": ("cosine", "linear"),
        "updates": (1, 2),
    }
    whole = train(*networks(0.2), RING, latent=3, settings=quick(**changes), seed=4)

    path, calls = tmp_path / "run.pt", []

    class Interrupt:
        def read(self, run):
            raise KeyboardInterrupt

    class Look:
        def read(self, run):
            calls.append(run.step)
            return {"spread": float(run.samples(50, seed=1).std())}

    with pytest.warns(RuntimeWarning, match=rf"interrupted: step {stop} of 30 is kept, .* resume='.*run.pt'"):
        stopped = train(
            *networks(0.2), RING, latent=3, settings=quick(**changes, monitor_every=stop, checkpoint=path), seed=4,
            monitors=(Interrupt(),),
        )  # fmt: skip
    assert stopped.interrupted
    assert stopped.step == stop
    before = torch.get_rng_state()
    other = [net.requires_grad_(True) for net in networks(0.2)]
    with torch.no_grad():
        for net in other:
            for parameter in net.parameters():
                parameter.add_(1.0)  # the weights come from the checkpoint alone
    resumed = train(
        *other, RING, latent=3, settings=quick(**changes, checkpoint=path), seed=4, resume=path,
        monitors=(Look(),),
    )  # fmt: skip
    assert resumed.step == 30
    assert torch.equal(weights(whole), weights(resumed))
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.ema_generator.parameters(), resumed.ema_generator.parameters(), strict=True)
    )
    assert resumed.history["generator_loss"] == whole.history["generator_loss"]
    assert torch.equal(before, torch.get_rng_state())
    assert calls == [step for step in (10, 20, 30) if step >= stop]  # the interrupted reading is repeated
    assert not (tmp_path / "run.pt.part").exists()


def test_a_run_with_a_failing_monitor_is_kept(tmp_path):
    path = tmp_path / "run.pt"

    class Fails:
        def read(self, run):
            if run.step == 20:
                raise ZeroDivisionError("no luck")
            return {}

    whole = train(*networks(), RING, latent=3, settings=quick(), seed=0)
    with pytest.raises(ZeroDivisionError):
        train(*networks(), RING, latent=3, settings=quick(checkpoint=path), seed=0, monitors=(Fails(),))
    resumed = train(*networks(), RING, latent=3, settings=quick(), seed=0, resume=path)
    assert torch.equal(weights(whole), weights(resumed))


def test_an_interrupt_within_a_step_restores_the_last_reading(tmp_path):
    """Only the discriminator was updated, so the run is resumed from the last reading, bit for bit."""
    path, calls = tmp_path / "run.pt", [0]

    def interrupted(real, fake):
        calls[0] += 1
        if calls[0] == 16:
            raise KeyboardInterrupt
        return non_saturating().generator(real, fake)

    loss = Loss("non_saturating", non_saturating().discriminator, interrupted)
    whole = train(*networks(), RING, latent=3, settings=quick(), seed=0)
    with pytest.warns(RuntimeWarning, match="interrupted: step 10 of 30 is kept"):
        stopped = train(*networks(), RING, latent=3, settings=quick(loss=loss, checkpoint=path), seed=0)
    assert (stopped.interrupted, stopped.step) == (True, 10)
    resumed = train(*networks(), RING, latent=3, settings=quick(), seed=0, resume=path)
    torch.testing.assert_close(weights(whole), weights(resumed))


@pytest.mark.parametrize("which", ["discriminator", "generator"])
def test_a_loss_that_is_nan_ends_the_run_and_restores_the_last_reading(which, tmp_path):
    calls = [0]

    def broken(real, fake):
        calls[0] += 1
        return non_saturating().generator(real, fake) * (math.nan if calls[0] > 15 else 1)

    parts = {"discriminator": non_saturating().discriminator, "generator": non_saturating().generator} | {which: broken}
    loss = Loss("broken", **parts)
    path = tmp_path / "run.pt"
    good = train(*networks(), RING, latent=3, settings=quick(steps=10, loss=Loss("same", **{
        "discriminator": non_saturating().generator if which == "discriminator" else non_saturating().discriminator,
        "generator": non_saturating().generator})), seed=0)  # fmt: skip
    generator, discriminator = networks()
    with pytest.raises(ValueError, match=f"expected a finite {which}_loss, got nan in step 16: step 10 is kept"):
        train(generator, discriminator, RING, latent=3, settings=quick(loss=loss, checkpoint=path), seed=0)
    assert torch.load(path, weights_only=True)["step"] == 10
    for kept, expected in zip(generator.parameters(), good.generator.parameters(), strict=True):
        assert torch.equal(kept, expected)


def test_an_alarm_rings_once_with_a_warning_and_may_end_the_run():
    alarm = Alarm("low", lambda history: len(history["read_at"]) >= 2, "something is low")
    with pytest.warns(TrainingAlarm, match="low in step 20: something is low"):
        run = train(*networks(), RING, latent=3, settings=quick(stop_on=("low",)), seed=0, alarms=(alarm,))
    assert (run.step, run.alarms) == (20, {"low": 20})


def test_an_interrupt_in_a_reading_loses_no_reading(tmp_path):
    class Look:
        def __init__(self, stop):
            self.stop = stop

        def read(self, run):
            if run.step == self.stop:
                raise KeyboardInterrupt
            return {"kernel_distance": abs(run.step - 4.0)}

    def start(stop, resume=None):
        chosen = linear_settings(steps=6, checkpoint=tmp_path / "run.pt")
        return train(Shift(), Line(), NORMAL, latent=2, settings=chosen, monitors=(Look(stop),), resume=resume)

    whole = start(None)
    with pytest.warns(RuntimeWarning, match="interrupted: step 4 of 6 is kept"):
        stopped = start(4)
    assert stopped.interrupted
    resumed = start(None, tmp_path / "run.pt")
    assert resumed.history == whole.history
    assert resumed.records[0].best_step == whole.records[0].best_step == 4


def test_a_gradient_that_is_nan_ends_the_run_and_restores_the_last_reading(tmp_path):
    """The loss is finite, the gradient in step 4 is not: the weights of step 2 are kept, in the run and in the file."""

    class Breaks(Shift):
        calls = 0

        def forward(self, z):
            samples = super().forward(z)
            if samples.requires_grad:
                self.calls += 1
                if self.calls == 4:
                    samples.register_hook(lambda gradient: gradient * float("nan"))
            return samples

    generator, path = Breaks(), tmp_path / "run.pt"
    with pytest.raises(
        ValueError, match="expected finite weights of the generator in step 4, got NaN or infinity: step 2"
    ):
        train(generator, Line(), NORMAL, latent=2, settings=linear_settings(checkpoint=path), seed=0)
    assert bool(torch.isfinite(generator.bias).all())
    assert train(Shift(), Line(), NORMAL, latent=2, settings=linear_settings(steps=2), seed=0, resume=path).step == 2


def test_a_finished_run_is_judged_by_the_alarms_it_is_resumed_with(tmp_path):
    path = tmp_path / "run.pt"
    train_monitored(monitors=(Reads(spread=0.0),), checkpoint=path)
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 25"):
        assert train_monitored(mode_collapse(), monitors=(Reads(spread=0.0),), resume=path).step == 25


def test_a_run_that_an_alarm_ended_is_not_continued(tmp_path):
    path = tmp_path / "run.pt"
    watched = {"monitors": (Reads(spread=0.0),), "stop_on": ("mode_collapse",), "checkpoint": path, "steps": 100}
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 40"):
        first = train_monitored(mode_collapse(), **watched)
    assert first.step == 40
    assert train_monitored(mode_collapse(), **watched, resume=path).step == 40
    assert train_monitored(mode_collapse(), **(watched | {"stop_on": ()}), resume=path).step == 100


# Runs side by side


@pytest.mark.parametrize("loss", ["non_saturating", "least_squares"])
def test_runs_side_by_side_equal_those_trained_alone(loss):
    """After 20 steps with two penalties, clipping, noise and averages: equal up to rounding."""
    seeds = (5, 6, 11)
    changes = {
        "steps": 20, "loss": loss, "regularisers": (gradient_penalty(0.1), r1(0.1)), "clip": 0.05, "ema": 0.8,
        "noise": 0.1, "updates": (1, 2), "schedule": ("linear", "cosine"), "learning_rate": (1e-2, 1e-2),
    }  # fmt: skip
    together = train_many(*pairs(seeds), RING, latent=3, seeds=seeds, settings=quick(**changes))
    for run, seed, generator, discriminator in zip(together, seeds, *pairs(seeds), strict=True):
        start = copy.deepcopy(generator)
        alone = train(generator, discriminator, RING, latent=3, settings=quick(**changes), seed=seed)
        torch.testing.assert_close(weights(run), weights(alone), atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(run.samples(50, seed=1), alone.samples(50, seed=1), atol=2e-5, rtol=1e-4)
        assert run.history["generator_loss"] == pytest.approx(alone.history["generator_loss"], rel=1e-4, abs=1e-5)
        assert run.history["generator_gradient"] == pytest.approx(alone.history["generator_gradient"], rel=1e-3)
        norms = zip(*(run.history[f"{name}_gradient"] for name in ("generator", "discriminator")), strict=True)
        assert run.history["gradient_ratio"] == pytest.approx(
            [generator / discriminator for generator, discriminator in norms]
        )
        assert float((weights_of(start) - weights_of(generator)).abs().max()) > 0.02  # the weights have moved


def test_stopped_runs_side_by_side_are_resumed_bit_for_bit(tmp_path):
    seeds, path = (1, 2), tmp_path / "run.pt"
    changes = {"ema": 0.9, "noise": 0.1, "monitor_every": 7}

    class Interrupt:
        def read(self, run):
            raise KeyboardInterrupt

    whole = train_many(*pairs(seeds, 0.2), RING, latent=3, seeds=seeds, settings=quick(**changes))
    chosen = quick(**changes, checkpoint=path)
    with pytest.warns(RuntimeWarning, match="interrupted: step 7 of 30 is kept"):
        stopped = train_many(
            *pairs(seeds, 0.2), RING, latent=3, seeds=seeds, settings=chosen, monitors=(Interrupt(),)
        )  # fmt: skip
    assert [run.step for run in stopped] == [7, 7]
    again = train_many(*pairs((8, 9), 0.2), RING, latent=3, seeds=seeds, settings=chosen, resume=path)
    for one, two in zip(whole, again, strict=True):
        assert torch.equal(weights(one), weights(two))
        assert one.history["discriminator_loss"] == two.history["discriminator_loss"]
    with pytest.raises(
        ValueError, match=r"expected a checkpoint of 1 run\(s\) with an averaged generator in .*, got 2 with"
    ):
        train(*networks(0.2), RING, latent=3, settings=chosen, resume=path)


def test_the_run_with_a_loss_of_nan_is_named():
    calls = [0]

    def broken(real, fake):
        calls[0] += 1
        values = non_saturating().generator(real, fake)
        return values * torch.tensor([1.0, math.nan if calls[0] == 13 else 1.0, 1.0])

    loss = Loss("broken", non_saturating().discriminator, broken)
    with pytest.raises(
        ValueError, match="expected a finite generator_loss of run 1, got nan in step 13: step 10 is kept"
    ):
        train_many(*pairs((1, 2, 3)), RING, latent=3, seeds=(1, 2, 3), settings=quick(loss=loss))
