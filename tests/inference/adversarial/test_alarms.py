"""Alarms in runs of any length: what has failed rings, what was not judged is said, and no progress bar decides it."""

import copy
import math
import re
import warnings

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import (
    Adversarial,
    Alarm,
    TrainingAlarm,
    mode_collapse,
    play,
    play_many,
    saturation,
)
from posterity.inference.adversarial.losses import LOSSES, make_loss
from posterity.inference.adversarial.monitors import Answers, Quality
from posterity.inference.convergence import ConvergenceWarning

DATA = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))


class Says:
    """A monitor whose readings are made up: a number for all steps, or a function of the step."""

    def __init__(self, **curves):
        self.curves = curves

    def read(self, game):
        return {name: curve(game.step) if callable(curve) else curve for name, curve in self.curves.items()}


class Point(nn.Module):
    """A generator of one point, whatever z."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, z):
        return self.place.expand(len(z), 2)


def settings(**changes):
    return Adversarial(**({"steps": 25, "batch_size": 10, "progress": False, "monitor_every": 5} | changes))


def run(*alarms, monitors=(), generator=None, resume=None, discriminator=None, **changes):
    return play(
        generator or nn.Linear(2, 2), discriminator or nn.Linear(2, 1), DATA, latent=2, settings=settings(**changes),
        monitors=monitors, alarms=alarms, resume=resume,
    )  # fmt: skip


def first_ring(alarm, steps, every, *, losses=0.001, **curves):
    """The step in which an alarm first rings, asked after each reading as by the trainer; and why not, at the end."""
    chosen = Adversarial(steps=steps, monitor_every=every)
    alarm, read_at, history = alarm.over(chosen), [], {}
    for step in sorted({*range(every, steps + 1, every), steps}):
        read_at.append(float(step))
        history = {name: [value] * len(read_at) for name, value in curves.items()}
        history |= {"read_at": read_at, "discriminator_loss": [losses] * step}
        if alarm.rings(history):
            return step, None
    return None, alarm.unjudged(history)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (10_000, 500, 3000),  # four readings after 1,000 steps
        (2500, 500, 2500),  # after 500
        (3000, 150, 1200),
        (500, 25, 200),
        (1000, 500, 1000),  # there are two
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
    """Even one that had won before the run began, whose first ten losses are as small as all others."""
    won = {"accuracy_held_out": 1.0, "accuracy_fake": 1.0}
    assert first_ring(saturation(), steps, every, **won) == (expected, None)
    assert first_ring(saturation(), steps, every, losses=0.08, **won) == (None, None)  # 0.05 of 2 log 2 is 0.069


@pytest.mark.parametrize("alarm", [mode_collapse(), saturation()])
def test_one_reading_is_no_judgement(alarm):
    curves = {"spread": 0.0, "accuracy_held_out": 1.0, "accuracy_fake": 1.0}
    rung, why = first_ring(alarm, 500, 500, **curves)
    assert rung is None
    assert re.match("it needs 2 readings .*that are not NaN, and has 1", why)


def test_readings_that_are_nan_count_neither_way():
    chosen = Adversarial(steps=600, monitor_every=100)
    steps = [100.0 * k for k in range(1, 7)]

    def asked(spread):
        alarm, history = mode_collapse().over(chosen), {"read_at": steps, "spread": spread}
        return alarm.rings(history), alarm.unjudged(history)

    nan = math.nan
    assert asked([1.0, 0.1, 0.1, nan, 0.1, 0.1]) == (True, None)
    assert asked([1.0, 0.1, 0.1, nan, 0.9, 0.1]) == (False, None)
    assert asked([nan, nan, nan, 0.1, 0.1, 0.1]) == (
        False, "it needs 4 readings after step 120 that are not NaN, and has 3"
    )  # fmt: skip
    right = {"read_at": steps, "discriminator_loss": [0.001] * 600, "accuracy_fake": [1.0] * 6}
    alarm = saturation().over(chosen)
    assert alarm.rings(right | {"accuracy_held_out": [1, 1, nan, 1, nan, 1]})
    assert not alarm.rings(right | {"accuracy_held_out": [nan] * 6})
    assert "has 0" in alarm.unjudged(right | {"accuracy_held_out": [nan] * 6})


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_saturation_is_judged_for_every_loss_that_has_a_scale(name):
    alarm = saturation().over(Adversarial(steps=600, monitor_every=100, loss=name))
    idea = float(make_loss(name).discriminator(torch.zeros(3), torch.zeros(3)))
    history = {name: [1.0] * 6 for name in ("accuracy_held_out", "accuracy_fake")}
    history |= {"read_at": [100.0 * k for k in range(1, 7)], "discriminator_loss": [0.049 * idea] * 600}
    assert alarm.rings(history) == (name != "wasserstein")
    assert (alarm.unjudged(history) is None) == (name != "wasserstein")
    assert not alarm.rings(history | {"discriminator_loss": [0.051 * idea] * 600})


# In a game


@pytest.mark.parametrize("progress", [False, True])
def test_a_collapsed_game_rings_with_the_real_monitors(progress):
    """Proportions of 2,500 steps read every 500: the defaults once waited for readings that never came."""
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 25"):
        game = run(
            mode_collapse(), monitors=(Quality(DATA, n=50, permutations=2),), generator=Point(), progress=progress
        )
    assert game.alarms == {"mode_collapse": 25}
    assert game.history["spread"] == [0.0] * 5


def found(*args, **named):
    """A game and its warnings; those for sure that no one else makes."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        game = run(*args, **named)
    return game, [one for one in told if issubclass(one.category, RuntimeWarning | TrainingAlarm)]


@pytest.mark.parametrize("progress", [False, True])
def test_a_run_that_was_too_short_says_so(progress):
    looking = (Says(spread=0.0, accuracy_held_out=1.0, accuracy_fake=1.0),)
    game, told = found(mode_collapse(), saturation(), monitors=looking, steps=5, progress=progress)
    assert game.alarms == {}
    assert sorted(game.unjudged) == ["mode_collapse", "saturation"]
    (one,) = told
    assert one.category is ConvergenceWarning
    assert one.filename == __file__
    assert "this run of 5 steps was not judged" in str(one.message)
    assert "mode_collapse: it needs 2 readings after step 1 that are not NaN, and has 1" in str(one.message)


def test_limits_that_a_run_cannot_reach_are_said():
    game, told = found(mode_collapse(warmup=1000), monitors=(Says(spread=0.0),))
    assert game.unjudged == {"mode_collapse": "it needs 2 readings after step 1000 that are not NaN, and has 0"}
    assert len(told) == 1


def test_a_healthy_run_is_judged_and_nothing_is_said():
    looking = (Says(spread=0.9, accuracy_held_out=0.7, accuracy_fake=0.7),)
    game, told = found(mode_collapse(), saturation(), monitors=looking)
    assert (game.alarms, game.unjudged, told) == ({}, {}, [])
    game, told = found(steps=5)  # without alarms there is nothing to judge
    assert (game.unjudged, told) == ({}, [])


def test_each_of_many_games_is_judged():
    def nets():
        return [nn.Linear(2, 2) for _ in range(2)], [nn.Linear(2, 1) for _ in range(2)]

    with pytest.warns(ConvergenceWarning, match="this run of 5 steps was not judged"):
        games = play_many(
            *nets(), DATA, latent=2, seeds=(0, 1), settings=settings(steps=5), monitors=(Says(spread=0.0),),
            alarms=(mode_collapse(),),
        )  # fmt: skip
    assert all("mode_collapse" in game.unjudged for game in games)


def test_answers_that_are_nan_are_no_verdict():
    class Lost(nn.Linear):
        def forward(self, x):
            logits = super().forward(x)
            return logits if self.training else logits * math.nan

    game, told = found(saturation(), monitors=(Answers(DATA, n=50),), discriminator=Lost(2, 1))
    assert all(math.isnan(value) for value in game.history["accuracy_held_out"])
    assert "saturation" in game.unjudged
    assert len(told) == 1


# Runs that go on


def test_monitors_that_come_and_go_keep_all_readings_in_their_steps(tmp_path):
    path = tmp_path / "run.pt"
    run(steps=10, checkpoint=path)
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 20"):
        game = run(mode_collapse(readings=2), monitors=(Says(spread=0.1),), resume=path, checkpoint=path)
    assert game.history["read_at"] == [5.0, 10.0, 15.0, 20.0, 25.0]
    assert [math.isnan(value) for value in game.history["spread"]] == [True, True, False, False, False]
    last = run(steps=30, resume=path)
    assert math.isnan(last.history["spread"][-1])
    assert {len(curve) for name, curve in last.history.items() if not name.endswith("_loss")} == {6}


def test_a_run_that_was_done_is_judged_when_it_is_asked_again(tmp_path):
    path = tmp_path / "run.pt"
    run(monitors=(Says(spread=0.0),), checkpoint=path)
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 25"):
        assert run(mode_collapse(), monitors=(Says(spread=0.0),), resume=path).step == 25


def test_a_run_that_an_alarm_has_ended_stays_so(tmp_path):
    path = tmp_path / "run.pt"
    watched = {"monitors": (Says(spread=0.0),), "stop_on": ("mode_collapse",), "checkpoint": path, "steps": 100}
    with pytest.warns(TrainingAlarm, match="mode_collapse in step 40"):
        first = run(mode_collapse(), **watched)
    assert first.step == 40
    assert run(mode_collapse(), **watched, resume=path).step == 40
    assert run(mode_collapse(), **(watched | {"stop_on": ()}), resume=path).step == 100


@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupt_says_what_is_kept_and_how_to_go_on(keep, tmp_path):
    """With a checkpoint, or from the game itself: it goes on as if nothing had been."""

    def stop(step):
        if step == 10:
            raise KeyboardInterrupt
        return 0.9

    path = tmp_path / "run.pt"
    torch.manual_seed(0)
    nets = [nn.Linear(2, 2), nn.Linear(2, 1)]
    others = copy.deepcopy(nets)
    whole = run(monitors=(Says(spread=0.9),), generator=others[0], discriminator=others[1])
    changes = {"checkpoint": path} if keep else {}
    game, told = found(monitors=(Says(spread=stop),), generator=nets[0], discriminator=nets[1], **changes)
    (one,) = told
    assert one.category is RuntimeWarning
    assert one.filename == __file__
    how = rf"call it again with resume={str(path)!r}" if keep else r"game.save(path), then play(..., resume=path)"
    expected = f"interrupted: step 10 of 25 is kept, the training is not complete; to continue, {how}"
    assert str(one.message) == expected
    if not keep:
        game.save(path)
    went_on = run(monitors=(Says(spread=0.9),), resume=path)
    for one, other in zip(went_on.generator.parameters(), whole.generator.parameters(), strict=True):
        assert torch.equal(one, other)
    assert went_on.history == whole.history


def test_an_interrupt_before_a_reading_leaves_alarms_unjudged():
    class Stops(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += self.training
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().forward(x)

    game, told = found(mode_collapse(), monitors=(Says(spread=0.9),), generator=Stops(2, 2))
    assert game.unjudged == {"mode_collapse": "the run has no readings"}
    assert [one.category for one in told] == [RuntimeWarning, ConvergenceWarning]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"monitors": Says(spread=1.0)}, "expected monitors as a sequence of objects with a method read"),
        ({"monitors": (3,)}, "expected monitors as a sequence of objects with a method read"),
        (
            {"monitors": (Says(generator_loss=1.0),)},
            "expected a new name from the monitor Says, got 'generator_loss'",
        ),
        ({"monitors": (Says(a=1), Says(a=2))}, "expected a new name from the monitor Says, got 'a'"),
        ({"monitors": (Says(a="x"),)}, "expected a number for 'a' from the monitor Says, got 'x'"),
    ],
)
def test_monitors_that_cannot_be_read_are_refused(named, message):
    with pytest.raises(ValueError, match=message):
        run(**named)


def test_alarms_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="expected alarms of different names, got"):
        run(mode_collapse(), mode_collapse(spread=0.1), monitors=(Says(spread=0.0),))
    with pytest.raises(ValueError, match="expected alarms as a sequence of Alarm"):
        run("saturation")
    assert Alarm("low", lambda history: False, "something is low").over(settings()).unjudged({}) is None
    with pytest.raises(ValueError, match=r"expected 2 readings of 'spread', one for each of read_at, got 1"):
        mode_collapse().rings({"read_at": [1.0, 2.0], "spread": [0.1]})
