"""What one HMC transition does beside keeping its posterior: its jittered lengths, and where in a window it starts."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from posterity.inference import HMC
from posterity.inference.engine import Engine
from posterity.inference.mcmc.adaptation import halton
from posterity.inference.mcmc.hmc import HMCKernel
from posterity.inference.mcmc.kernel import State
from posterity.inference.mcmc.streams import Streams

CHAINS, DIM, STEP = 8, 3, 0.1


class Recorded(HMCKernel):
    """A kernel that keeps the sizes of its windows and the place of the start in them."""

    def _windows(self, start, forward, steps, window, offset):
        self.seen_windows = [*getattr(self, "seen_windows", []), (window, offset)]
        return super()._windows(start, forward, steps, window, offset)


def transitions(count, **settings):
    """A kernel after ``count`` transitions on a standard normal, and the statistics of each."""
    density = SimpleNamespace(dim=DIM, dtype=torch.double, device=torch.device("cpu"))
    engine = Engine(density, CHAINS, "eager", lambda q: (-0.5 * (q**2).sum(-1), -q))
    kernel = Recorded(HMC(chains=CHAINS, warmup=0, step_size=STEP, engine="eager", **settings), engine)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(CHAINS, DIM, generator=generator, dtype=torch.double)
    state, statistics = State(q, -q, -0.5 * (q**2).sum(-1)), []
    streams = Streams(0, CHAINS, DIM, torch.double)
    for iteration in range(count):
        state, found = kernel.transition(state, streams.numbers(iteration), iteration)
        statistics.append(found)
    return kernel, statistics


@pytest.mark.parametrize("window", [1, 2, 4])
def test_the_start_is_at_every_place_of_its_window_equally_often(window):
    """200 trajectories: a chi squared test of the places 0 to w - 1, which refuses a uniform one in 10,000 runs."""
    kernel, _ = transitions(200, trajectory_length=1.5, window=window)
    assert {size for size, _ in kernel.seen_windows} == {window}
    counts = torch.bincount(torch.tensor([offset for _, offset in kernel.seen_windows]), minlength=window)
    assert len(counts) == window
    assert window == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_a_window_is_at_most_half_a_trajectory():
    kernel, statistics = transitions(20, trajectory_length=0.5, jitter=0.5, window=6)
    for (window, offset), found in zip(kernel.seen_windows, statistics, strict=True):
        assert window == min(6, (int(found["n_steps"][0]) + 1) // 2)
        assert 0 <= offset < window


@pytest.mark.parametrize(("steps", "window", "offset"), [(7, 3, 0), (7, 3, 1), (7, 3, 2), (2, 1, 0), (5, 3, 2)])
def test_windows_are_the_ends_of_one_trajectory(steps, window, offset):
    """Of a trajectory of n steps that is at its start after ``offset`` of them: the first w states and the last w.

    On a standard normal a leapfrog step is a matrix: the state at any time, forwards or back, is a power of it.
    """
    kernel, _ = transitions(0, trajectory_length=1.0, window=window)
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(CHAINS, DIM, generator=generator, dtype=torch.double) for _ in range(2))
    start = (q, p, -q, -0.5 * (q**2).sum(-1))
    sizes = torch.full((CHAINS,), STEP, dtype=torch.double)
    found = kernel._windows(start, sizes, torch.full((CHAINS,), steps), window, offset)
    half = torch.tensor([[1, 0], [-STEP / 2, 1]], dtype=torch.double)
    drift = torch.tensor([[1, STEP], [0, 1]], dtype=torch.double)
    reject = [*range(-1, -offset - 1, -1), *range(window - offset)]
    accept = range(steps - offset - window + 1, steps - offset + 1)
    for place, time in enumerate([*reject, *accept]):
        (a, b), (c, d) = torch.linalg.matrix_power(half @ drift @ half, time)
        torch.testing.assert_close(found[0][place], a * q + b * p, rtol=0, atol=1e-12)
        torch.testing.assert_close(found[1][place], c * q + d * p, rtol=0, atol=1e-12)
        torch.testing.assert_close(found[2][place], -found[0][place])
    assert len(found[0]) == 2 * window


@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.5])
def test_lengths_are_spread_evenly_around_the_trajectory_length(jitter):
    """2.0 in steps of 0.1: from (1 - jitter) 20 to (1 + jitter) 20 steps, along the Halton sequence."""
    _, statistics = transitions(63, trajectory_length=2.0, jitter=jitter)
    steps = torch.stack([found["n_steps"] for found in statistics])
    assert (steps == steps[:, :1]).all()  # no chain waits for another
    steps = steps[:, 0]
    wanted = torch.tensor([20 * (1 - jitter + 2 * jitter * halton(i)) for i in range(63)])
    assert ((steps - wanted).abs() <= 0.5 + 1e-4).all()
    # The first 63 numbers of the sequence are i / 64: mean one half, ends one 64th away from 0 and 1.
    assert float(steps.double().mean()) == pytest.approx(20, abs=0.2)
    assert float(steps.max() - steps.min()) == pytest.approx(40 * jitter * 62 / 64, abs=1)


def test_a_draw_is_its_own_log_density_energy_and_acceptance():
    """Each statistic recomputed from the state and the numbers that the transition was given."""
    _, statistics = transitions(30, trajectory_length=1.5)
    for found in statistics:
        assert (found["energy"] >= -found["lp"]).all()  # a kinetic energy is not negative
        assert ((found["acceptance_rate"] >= 0) & (found["acceptance_rate"] <= 1)).all()
        assert not found["diverging"].any()
    # Kinetic energy in three dimensions is half a chi squared of 3: mean 3/2; 5 standard errors of 240 draws.
    kinetic = torch.stack([found["energy"] + found["lp"] for found in statistics])
    assert abs(float(kinetic.mean()) - 1.5) < 5 * (1.5 / kinetic.numel()) ** 0.5


def test_a_chain_of_shorter_steps_takes_more_of_them():
    """Chain 0 goes on with a fifth of the common step, chain 1 with a hundredth: 5 and at most 16 times the steps."""
    kernel, _ = transitions(0, trajectory_length=1.0)
    kernel.log_steps = kernel.log_steps.clone()
    kernel.log_steps[0] -= math.log(5)
    kernel.log_steps[1] -= math.log(100)
    assert kernel._steps(10, kernel.step_sizes()).tolist() == [50, 160, *[10] * (CHAINS - 2)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trajectory_length": 0.0}, "expected trajectory_length to be a finite number above 0, got 0.0"),
        ({"trajectory_length": torch.inf}, "expected trajectory_length to be a finite number above 0, got inf"),
        ({"jitter": 1.5}, r"expected jitter to be a number in \[0, 1\], got 1.5"),
        ({"jitter": "a"}, r"expected jitter to be a number in \[0, 1\], got 'a'"),
        ({"window": 0}, "expected window to be a whole number of 1 or more, got 0"),
        ({"max_steps": 2.5}, "expected max_steps to be a whole number of 1 or more, got 2.5"),
        ({"integrator": "euler"}, "expected integrator to be one of 'leapfrog', 'minimal_norm', got 'euler'"),
    ],
)
def test_bad_settings_of_hmc_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        HMC(**settings)
