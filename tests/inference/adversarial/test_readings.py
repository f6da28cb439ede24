"""Checks of monitors and alarms, and the warnings at the end of a run, with and without a progress bar."""

import copy

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import Alarm, mode_collapse, saturation, train_many
from posterity.inference.convergence import ConvergenceWarning
from tests import adversarial_cases
from tests.adversarial_cases import NORMAL, Reads, short_settings, train_and_catch, train_monitored


@pytest.mark.parametrize("progress", [False, True])
def test_a_run_that_is_too_short_for_its_alarms_ends_with_a_warning(progress):
    monitors = (Reads(spread=0.0, accuracy_held_out=1.0, accuracy_fake=1.0),)
    run, caught = train_and_catch(mode_collapse(), saturation(), monitors=monitors, steps=5, progress=progress)
    assert run.alarms == {}
    assert sorted(run.inconclusive) == ["mode_collapse", "saturation"]
    (warning,) = caught
    assert warning.category is ConvergenceWarning
    assert warning.filename == adversarial_cases.__file__  # the caller of `train`
    assert "this run of 5 steps was not judged" in str(warning.message)
    assert "mode_collapse: it needs 2 readings after step 1 that are not NaN, and has 1" in str(warning.message)


def test_a_warm_up_that_is_longer_than_the_run_is_named():
    run, caught = train_and_catch(mode_collapse(warmup=1000), monitors=(Reads(spread=0.0),))
    assert run.inconclusive == {"mode_collapse": "it needs 2 readings after step 1000 that are not NaN, and has 0"}
    assert len(caught) == 1


def test_a_healthy_run_ends_without_a_warning():
    monitors = (Reads(spread=0.9, accuracy_held_out=0.7, accuracy_fake=0.7),)
    run, caught = train_and_catch(mode_collapse(), saturation(), monitors=monitors)
    assert (run.alarms, run.inconclusive, caught) == ({}, {}, [])
    run, caught = train_and_catch(steps=5)  # without alarms there is nothing to judge
    assert (run.inconclusive, caught) == ({}, [])


def test_each_of_several_runs_side_by_side_is_judged():
    def nets():
        return [nn.Linear(2, 2) for _ in range(2)], [nn.Linear(2, 1) for _ in range(2)]

    with pytest.warns(ConvergenceWarning, match="this run of 5 steps was not judged"):
        runs = train_many(
            *nets(), NORMAL, latent=2, seeds=(0, 1), settings=short_settings(steps=5), monitors=(Reads(spread=0.0),),
            alarms=(mode_collapse(),),
        )  # fmt: skip
    assert all("mode_collapse" in run.inconclusive for run in runs)


@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_an_interrupt_names_the_step_that_is_kept_and_the_way_to_resume(with_checkpoint, tmp_path):
    """From the checkpoint, or from the run itself: the resumed run equals an uninterrupted one."""

    def stop(step):
        if step == 10:
            raise KeyboardInterrupt
        return 0.9

    path = tmp_path / "run.pt"
    torch.manual_seed(0)
    nets = [nn.Linear(2, 2), nn.Linear(2, 1)]
    copies = copy.deepcopy(nets)
    whole = train_monitored(monitors=(Reads(spread=0.9),), generator=copies[0], discriminator=copies[1])
    changes = {"checkpoint": path} if with_checkpoint else {}
    run, caught = train_and_catch(monitors=(Reads(spread=stop),), generator=nets[0], discriminator=nets[1], **changes)
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert warning.filename == adversarial_cases.__file__  # the caller of `train`
    advice = (
        rf"call it again with resume={str(path)!r}"
        if with_checkpoint
        else r"run.save(path), then train(..., resume=path)"
    )
    expected = f"interrupted: step 10 of 25 is kept, the training is not complete; to continue, {advice}"
    assert str(warning.message) == expected
    if not with_checkpoint:
        run.save(path)
    resumed = train_monitored(monitors=(Reads(spread=0.9),), resume=path)
    for one, other in zip(resumed.generator.parameters(), whole.generator.parameters(), strict=True):
        assert torch.equal(one, other)
    assert resumed.history == whole.history


def test_alarms_are_inconclusive_after_an_interrupt_before_the_first_reading():
    class Stops(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += self.training
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().forward(x)

    run, caught = train_and_catch(mode_collapse(), monitors=(Reads(spread=0.9),), generator=Stops(2, 2))
    assert run.inconclusive == {"mode_collapse": "the run has no readings"}
    assert [warning.category for warning in caught] == [RuntimeWarning, ConvergenceWarning]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"monitors": Reads(spread=1.0)}, "expected monitors to be a sequence of objects with a method read"),
        ({"monitors": (3,)}, "expected monitors to be a sequence of objects with a method read"),
        (
            {"monitors": (Reads(generator_loss=1.0),)},
            "expected a new name from the monitor Reads, got 'generator_loss'",
        ),
        ({"monitors": (Reads(a=1), Reads(a=2))}, "expected a new name from the monitor Reads, got 'a'"),
        ({"monitors": (Reads(a="x"),)}, "expected a number for 'a' from the monitor Reads, got 'x'"),
    ],
)
def test_monitors_that_cannot_be_read_are_refused(named, message):
    with pytest.raises(ValueError, match=message):
        train_monitored(**named)


def test_alarms_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="expected alarms of different names, got"):
        train_monitored(mode_collapse(), mode_collapse(spread=0.1), monitors=(Reads(spread=0.0),))
    with pytest.raises(ValueError, match="expected alarms to be a sequence of Alarm"):
        train_monitored("saturation")
    assert Alarm("low", lambda history: False, "something is low").adapted(short_settings()).inconclusive({}) is None
    with pytest.raises(ValueError, match=r"expected 2 readings of 'spread', one for each of read_at, got 1"):
        mode_collapse().rings({"read_at": [1.0, 2.0], "spread": [0.1]})
