"""Networks from a simulator: the closed form is found, interrupts lose nothing, and what cannot be is refused."""

import math

import pytest
import torch
from torch import nn

from posterity.inference.training.streaming import fit_stream


def draw(random):
    """y = 2 x - 1 + N(0, 0.5²)."""
    x = torch.randn(64, 1, generator=random)
    return x, 2 * x - 1 + 0.5 * torch.randn(64, 1, generator=random)


def squares(net):
    return lambda batch: ((net(batch[0]) - batch[1]) ** 2).mean()


def line():
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def test_the_line_behind_the_simulator_is_found():
    """The rate ends at zero; what is left is the noise of the last batches: 5 sd of a mean of 20 of them."""
    net = line()
    found = fit_stream(net, draw, squares(net), steps=600, learning_rate=0.05, seed=0, progress=False)
    error = 5 * 0.5 / math.sqrt(64 * 20)
    assert float(net.weight.detach()) == pytest.approx(2, abs=error)
    assert float(net.bias.detach()) == pytest.approx(-1, abs=error)
    assert found.steps == 600
    assert len(found.loss) == 12
    assert found.loss[-1] == pytest.approx(0.25, abs=5 * 0.25 * math.sqrt(2 / (64 * 50)))


class Interrupting:
    """Raises in the nth call of the loss, after random numbers were drawn."""

    def __init__(self, net, at):
        self.loss, self.left = squares(net), at

    def __call__(self, batch):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self.loss(batch)


@pytest.mark.parametrize("stop", [1, 50, 51, 77])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(stop, tmp_path):
    settings = {"steps": 120, "learning_rate": 0.02, "warmup": 30, "seed": 3, "progress": False}
    whole = line()
    expected = fit_stream(whole, draw, squares(whole), **settings)
    path, first = tmp_path / "run.pt", line()
    before = torch.get_rng_state()
    with pytest.warns(RuntimeWarning, match="fit_stream was interrupted .* Call it again with the checkpoint"):
        stopped = fit_stream(first, draw, Interrupting(first, stop), **settings, checkpoint=path)
    assert stopped.interrupted
    assert stopped.steps == stop - 1
    second = nn.Linear(1, 1, bias=True)
    torch.set_rng_state(before)
    found = fit_stream(second, draw, squares(second), **settings, checkpoint=path)
    assert torch.equal(second.weight, whole.weight)
    assert torch.equal(second.bias, whole.bias)
    assert found.loss == expected.loss
    assert found.steps == 120
    assert torch.equal(torch.get_rng_state(), before)
    assert not list(tmp_path.glob("*.part"))
    again = fit_stream(second, draw, squares(second), **settings, checkpoint=path)
    assert again.steps == 120


def test_a_loss_that_is_not_finite_stops_and_keeps_earlier_weights():
    net, calls = line(), []

    def loss(batch):
        calls.append(net.weight.detach().clone())
        return squares(net)(batch) * (math.nan if len(calls) == 80 else 1.0)

    with pytest.raises(ValueError, match=r"expected a finite loss and gradient, got nan .* in step 80"):
        fit_stream(net, draw, loss, steps=100, seed=0, progress=False)
    assert torch.equal(net.weight, calls[50])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "expected steps to be a whole number of 1 or more, got 0"),
        ({"seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
        ({"warmup": 0.5}, "expected warmup to be a whole number of 0 or more"),
        ({"learning_rate": 0.0}, "expected learning_rate to be a finite number above 0"),
        ({"clip": math.inf}, "expected clip to be a finite number above 0"),
        ({"checkpoint_seconds": -1.0}, "expected checkpoint_seconds to be a finite number of 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    net = line()
    with pytest.raises(ValueError, match=message):
        fit_stream(net, draw, squares(net), **({"steps": 5, "seed": 0, "progress": False} | changes))


def test_losses_that_are_no_number_with_a_gradient_are_refused():
    net = line()
    for loss, got in (
        (lambda batch: 1.0, "float"),
        (lambda batch: net(batch), r"\(\d+, 1\)"),
        (lambda b: net.weight.detach().sum(), r"\(\)"),
    ):
        with pytest.raises(ValueError, match=rf"expected a loss of shape \(\) with a gradient, got {got}"):
            fit_stream(net, lambda random: torch.randn(7, 1, generator=random), loss, steps=5, seed=0, progress=False)


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    net, path = line(), tmp_path / "run.pt"
    fit_stream(net, draw, squares(net), steps=5, seed=0, progress=False, checkpoint=path)
    with pytest.raises(ValueError, match="expected a checkpoint of the same run"):
        fit_stream(net, draw, squares(net), steps=5, seed=1, progress=False, checkpoint=path)
    with pytest.raises(ValueError, match="expected a checkpoint of the same run"):
        fit_stream(net, draw, squares(net), steps=5, seed=0, about="other", progress=False, checkpoint=path)
    other = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="expected a checkpoint of the same network"):
        fit_stream(other, draw, squares(other), steps=5, seed=0, progress=False, checkpoint=path)
    with pytest.raises(ValueError, match="expected a network with weights to train"):
        fit_stream(nn.Identity(), draw, squares(net), steps=5, seed=0, progress=False)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a checkpoint of a stream"):
        fit_stream(net, draw, squares(net), steps=5, seed=0, progress=False, checkpoint=path)
