"""`max_seconds` bounds everything, on a clock of its own: a transition takes one second, and nothing else any."""

import warnings
from types import SimpleNamespace

import joblib
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, Blocks, infer, resume
from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.mcmc import blocks, clock, run
from posterity.inference.mcmc.hmc import HMCKernel
from posterity.inference.mcmc.nuts import NUTSKernel

X = torch.linspace(-2, 2, 10)[:, None]
Y = torch.sin(2 * X[:, 0])
KERNELS = {HMC: HMCKernel, NUTS: NUTSKernel}
SHORT = {"chains": 3, "engine": "eager", "threads": 1, "progress": False, "step_size": 0.3}
OWN = {HMC: {"trajectory_length": 0.6}, NUTS: {"max_tree_depth": 2}}


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0], 0.5), obs=y)


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    """The clock, which tests may put forward."""
    now = SimpleNamespace(value=0.0)
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now.value))
    for kernel in KERNELS.values():
        monkeypatch.setattr(kernel, "transition", taking(1.0, kernel.transition, now))
    return now


def taking(duration, function, now):
    def slow(*args, **keywords):
        found = function(*args, **keywords)
        now.value += duration
        return found

    return slow


def sample(family=HMC, **settings):
    return infer(
        line, X, Y, method=family(**{**SHORT, **OWN[family], "warmup": 1000, "draws": 1000, **settings}), seed=2
    )


@pytest.mark.parametrize("family", KERNELS)
def test_warmup_ends_after_three_quarters_and_draws_when_time_is_over(family, seconds):
    """31 iterations are the first to take more than 30 s, and 41 the first to take more than 40."""
    said = "max_seconds=40 ended warm-up after 31 of 1000 iterations and the run after 10 of 1000 draws: raise max_sec"
    with pytest.warns(ConvergenceWarning, match=said) as caught:
        posterior = sample(family, max_seconds=40.0)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert seconds.value == posterior.attrs["seconds"] == 41
    assert posterior.num_draws == 10
    assert posterior.attrs["cut"] in posterior.attrs["warnings"]
    assert posterior.attrs["warmup_seconds"] == 31
    assert 0 < posterior.attrs["warmup_gradients"] < posterior.attrs["gradients"]
    assert (posterior.draws["w"].diff(dim=1) != 0).any(1).all()  # they move


def test_draws_that_were_cut_are_said_and_those_that_were_not_are_not():
    with pytest.warns(ConvergenceWarning, match="max_seconds=40 ended the run after 21 of 1000 draws: raise max_secon"):
        assert sample(warmup=20, max_seconds=40.0).num_draws == 21
    assert sample(warmup=20, draws=12, max_seconds=40.0).attrs["cut"] == ""
    assert sample(warmup=20, draws=12).attrs["cut"] == ""
    reached = sample(warmup=20, target_ess=5.0, max_seconds=40.0)
    assert reached.num_draws < 21
    assert reached.attrs["cut"] == ""


def test_the_step_size_of_a_warmup_that_was_cut_is_kept():
    with pytest.warns(ConvergenceWarning, match="ended warm-up after 31"):
        posterior = sample(step_size=None, max_seconds=40.0)
    steps = posterior.sample_stats["step_size"]
    assert (steps == steps[:, :1]).all()
    assert (posterior.sample_stats["acceptance_rate"].mean(1) > 0.5).all()


@pytest.mark.parametrize(("stage", "name"), [("finding starts", "start"), ("preparing the engine", "prepare")])
def test_time_that_is_over_before_the_first_iteration_is_a_named_error(stage, name, seconds, monkeypatch):
    monkeypatch.setattr(run, name, taking(50.0, getattr(run, name), seconds))
    with pytest.raises(TimeoutError, match=rf"max_seconds=40 was over before the first iteration: {stage} .* 50 s"):
        sample(max_seconds=40.0)


def test_modes_are_climbed_within_the_time(seconds, monkeypatch):
    monkeypatch.setattr(run, "starts_at_modes", taking(50.0, run.starts_at_modes, seconds))
    with pytest.raises(TimeoutError, match="starting from init='map' ended after 50 s"):
        sample(init="map", max_seconds=40.0)


def test_warmup_has_its_share_of_what_preparation_leaves(seconds, monkeypatch):
    """Ten seconds are left: seven and a half are over after the eighth iteration."""
    monkeypatch.setattr(run, "prepare", taking(30.0, run.prepare, seconds))
    with pytest.warns(ConvergenceWarning, match=r"warm-up after 8 of 1000 .* after 3 of 1000 draws.*not judged"):
        assert sample(max_seconds=40.0).num_draws == 3


def test_a_warmup_that_was_cut_can_be_gone_on_with(tmp_path):
    """The checkpoint is of the warm-up, which a longer run completes bit for bit."""
    whole = sample(warmup=50, draws=12)
    path = tmp_path / "run"
    with pytest.warns(ConvergenceWarning, match=r"after 31 of 50 .* continue with resume\('.*run', ..., max_seconds="):
        part = sample(warmup=50, draws=12, max_seconds=40.0, checkpoint=path)
    assert part.num_draws == 10
    again = resume(path, line, X, Y, max_seconds=1000.0)
    assert again.attrs["cut"] == ""
    assert torch.equal(again.draws["w"], whole.draws["w"])


def test_seconds_before_a_checkpoint_count(tmp_path):
    path = tmp_path / "run"
    with pytest.warns(ConvergenceWarning, match="after 11 of 1000 draws"):
        sample(warmup=10, max_seconds=20.0, checkpoint=path)
    with pytest.warns(ConvergenceWarning, match="max_seconds=30 ended the run after 21 of 1000 draws"):
        assert resume(path, line, X, Y, max_seconds=30.0).num_draws == 21
    with pytest.warns(ConvergenceWarning, match="max_seconds=20 ended the run after 21 of 1000 draws"):
        assert resume(path, line, X, Y, max_seconds=20.0).num_draws == 21


def in_blocks(**settings):
    method = HMC(**{**SHORT, **OWN[HMC], "chains": 8, "warmup": 5, "draws": 5, **settings})
    with joblib.parallel_config(backend="sequential"):
        return infer(line, X, Y, method=Blocks(method, blocks=4), seed=2)


def test_blocks_whose_turn_comes_too_late_are_left_out(monkeypatch):
    """Each takes 1,000 s by the wall clock, and the fourth would begin after 3,000."""
    now = SimpleNamespace(value=0.0)
    monkeypatch.setattr(blocks, "time", SimpleNamespace(perf_counter=lambda: 0.0, time=lambda: now.value))
    monkeypatch.setattr(HMC, "run", taking(1000.0, HMC.run, now))
    with pytest.warns(ConvergenceWarning, match=r"max_seconds was over before the blocks \[3\] could begin") as caught:
        posterior = in_blocks(max_seconds=2500.0)
    assert len(caught) == 1
    assert (posterior.num_chains, posterior.attrs["blocks"], posterior.attrs["interrupted"]) == (6, 3, 0)
    now.value = 0.0
    monkeypatch.setattr(blocks, "_run", taking(0.0, blocks._run, now))
    monkeypatch.setattr(HMC, "run", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("no time")))
    with pytest.raises(TimeoutError, match="max_seconds=2500 was over before any block could begin"):
        in_blocks(max_seconds=2500.0)


def test_what_blocks_lost_is_said_once(monkeypatch):
    monkeypatch.setattr(blocks, "time", SimpleNamespace(perf_counter=lambda: 0.0, time=lambda: 0.0))
    with pytest.warns(ConvergenceWarning, match="max_seconds=7 ended the run after 3 of 5 draws in blocks 0") as caught:
        posterior = in_blocks(max_seconds=7.0)
    assert len(caught) == 1
    assert posterior.num_draws == 3


def test_a_run_that_is_told_nothing_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(chains=8, warmup=60, draws=150, step_size=None, trajectory_length=1.5)
