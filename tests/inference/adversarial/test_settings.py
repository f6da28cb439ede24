"""Settings of adversarial training: schedules, the recipe that a checkpoint stores, and bad values."""

import math

import pytest

from posterity.inference.adversarial import r1
from tests.adversarial_cases import linear_settings, quick, train_linear


def test_rates_fall_as_their_schedules_say():
    """Half of the steps: half of a linear one, cos² (pi/4) = 1/2 of a cosine one; a quarter: 3/4, cos² (pi/8)."""
    chosen = linear_settings(steps=40, schedule=("linear", "cosine"), learning_rate=(0.1, 0.2))
    assert chosen.rates(20) == pytest.approx((0.05, 0.1))
    assert chosen.rates(10) == pytest.approx((0.075, 0.2 * math.cos(math.pi / 8) ** 2))
    assert linear_settings(learning_rate=(0.1, 0.2)).rates(3) == (0.1, 0.2)
    run = train_linear(schedule=("linear", "constant"), learning_rate=(0.1, 0.2))
    assert [one.param_groups[0]["lr"] for one in run.optimisers] == pytest.approx([0.1 / 4, 0.2])


def test_the_recipe_has_the_number_of_steps_only_if_something_falls_towards_the_last():
    """A run of constant rates may be resumed with more steps; one with a schedule or noise may not."""
    assert quick(steps=20).recipe == quick(steps=40).recipe
    for changes in ({"schedule": ("linear", "constant")}, {"noise": 0.1}):
        assert quick(steps=20, **changes).recipe != quick(steps=40, **changes).recipe
    assert quick(regularisers=(r1(0.1),)).recipe == quick(regularisers=(r1(0.1),)).recipe
    assert quick(regularisers=(r1(0.1),)).recipe != quick(regularisers=(r1(0.2),)).recipe
    assert quick(checkpoint_seconds=5.0, progress=True).recipe == quick().recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "expected steps to be a whole number of 1 or more"),
        ({"batch_size": 2.5}, "expected batch_size to be a whole number of 1 or more"),
        ({"learning_rate": 1e-3}, r"expected learning_rate to be a pair \(generator, discriminator\), got 0\.001"),
        ({"learning_rate": (1e-3, -1)}, "expected every learning_rate to be a finite number above 0"),
        ({"updates": (1, 0)}, "expected every number of updates to be a whole number of 1 or more"),
        ({"betas": (0.5, 1.0)}, r"expected every beta to be a number in \[0, 1\)"),
        ({"betas": ("a", 0.5)}, r"expected every beta to be a number in \[0, 1\)"),
        (
            {"schedule": ("step", "linear")},
            "expected every schedule to be one of 'constant', 'linear', 'late_linear', 'cosine'",
        ),
        ({"schedule": (["a"], "linear")}, "expected every schedule to be one of"),
        ({"ema": 1.0}, r"expected ema to be a number in \(0, 1\)"),
        ({"noise": -0.1}, "expected noise to be a finite number of 0 or more"),
        ({"loss": "gan"}, "expected loss to be one of 'minimax', .*, got 'gan'"),
        ({"loss": ["a"]}, "expected loss to be one of"),
        ({"precision": "float16"}, "expected precision to be one of 'float32', 'bfloat16', got 'float16'"),
        ({"regularisers": r1()}, "expected regularisers to be a tuple of functions"),
        ({"regularisers": (3,)}, "expected regularisers to be a tuple of functions"),
        ({"stop_on": "saturation"}, "expected stop_on to be a tuple of names of alarms, got 'saturation'"),
        ({"best_by": 3}, "expected best_by to be the name of a reading, got 3"),
        ({"checkpoint": 3}, "expected checkpoint to be a path, got 3"),
        ({"checkpoint": "/no/such/folder/run.pt"}, "expected checkpoint to be in an existing folder"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        quick(**changes)
