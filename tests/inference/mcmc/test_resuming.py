"""Resumed runs have the draws of the uninterrupted run, and belong to the same model, data and settings."""

import functools
import shutil
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import ConvergenceWarning, infer, resume
from tests.inference.mcmc.cases import KERNELS, X, Y, every, interrupted_at, line, same, short


@functools.cache
def uninterrupted(name: str):
    """A run of `line`; the first caller has the fixture ``fast_engine``."""
    return infer(line, X, Y, method=short(name), seed=2)


@every
@pytest.mark.parametrize("iteration", [5, 17, 29, 30, 33, 41])
def test_a_resumed_run_is_the_uninterrupted_one(name, iteration, tmp_path, fast_engine):
    """Bit for bit: stopped on the way, in a window of warm-up, on its last iteration, before a draw, and later."""
    method = short(name, checkpoint=tmp_path / "run")
    whole = uninterrupted(name)
    stopped = pytest.raises(KeyboardInterrupt, match=r"before the first draw\. Continue with resume\('.*run'")
    part_of_draws = pytest.warns(
        RuntimeWarning, match=rf"interrupted and returns {iteration - 30} of 12 draws .*resume\('.*run'"
    )
    with interrupted_at(name, iteration), part_of_draws if iteration > 30 else stopped:
        part = infer(line, X, Y, method=method, seed=2)
        assert part.attrs["interrupted"] == 1
    again = resume(tmp_path / "run", line, X, Y)
    assert same(whole, again)
    assert again.attrs["interrupted"] == 0
    assert again.attrs["gradients"] == whole.attrs["gradients"]
    assert not list(tmp_path.glob("*.part"))


def test_warnings_of_a_run_and_of_a_resumed_run_point_at_their_callers(tmp_path, fast_engine):
    method = short("HMC", chains=1, checkpoint=tmp_path / "run")
    with pytest.warns(ConvergenceWarning) as of_run:
        infer(line, X, Y, method=method, seed=2)
    with pytest.warns(ConvergenceWarning) as of_resumed:
        resume(tmp_path / "run", line, X, Y, draws=13)
    assert {warning.filename for warning in [*of_run, *of_resumed]} == {__file__}


@every
@pytest.mark.parametrize("line_of_code", ["adapt", "transition"])
def test_an_interrupt_between_two_lines_of_an_iteration_is_undone(
    name, line_of_code, tmp_path, monkeypatch, fast_engine
):
    # After warm-up has adapted to an iteration, or after its transition, but before it is over.
    whole = uninterrupted(name)
    owner = KERNELS[name]
    original, count = getattr(owner, line_of_code), iter(range(10_000))

    def stop(self, *args):
        result = original(self, *args)
        if next(count) == 17:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, line_of_code, stop)
        with pytest.raises(KeyboardInterrupt, match="before the first draw"):
            infer(line, X, Y, method=short(name, checkpoint=tmp_path / "run"), seed=2)
    assert same(whole, resume(tmp_path / "run", line, X, Y))


@every
def test_a_finished_run_goes_on_to_more_draws(name, tmp_path, fast_engine):
    five = infer(line, X, Y, method=short(name, draws=5, checkpoint=tmp_path / "run"), seed=2)
    twelve = resume(tmp_path / "run", line, X, Y, draws=12)
    assert same(twelve, uninterrupted(name))
    assert torch.equal(twelve.draws["w"][:, :5], five.draws["w"])
    assert same(twelve, resume(tmp_path / "run", line, X, Y))  # the checkpoint is of all twelve by now


@every
def test_divergences_between_kept_draws_are_not_lost(name, tmp_path, monkeypatch, fast_engine):
    """Also across a checkpoint: the first of three transitions diverges, an interrupt comes at the third."""
    kernel, original = KERNELS[name], KERNELS[name].transition
    method = short(name, draws=4, thin=3, checkpoint=str(tmp_path / "run"))

    def transition(self, state, numbers, iteration):
        state, statistics = original(self, state, numbers, iteration)
        first = torch.zeros(method.chains, dtype=torch.bool)
        first[1] = iteration == method.warmup + 3
        return state, {**statistics, "diverging": first}

    monkeypatch.setattr(kernel, "transition", transition)
    with interrupted_at(name, method.warmup + 5), pytest.warns(RuntimeWarning, match="interrupted and returns 1 of 4"):
        infer(line, X, Y, method=method, seed=1)
    posterior = resume(tmp_path / "run", line, X, Y)
    assert posterior.sample_stats["diverging"].nonzero().tolist() == [[1, 1]]


def test_a_target_counts_the_draws_before_an_interrupt(tmp_path, fast_engine, ticks):
    """24 chains of 60 draws have more than 300 effective ones: a resumed run has nothing left to do."""
    infer(line, X, Y, method=short("HMC", chains=24, draws=60, max_steps=30, checkpoint=tmp_path / "run"))
    assert resume(tmp_path / "run", line, X, Y, draws=20_000, target_ess=300.0).num_draws == 60


def test_a_run_goes_on_where_its_file_was_moved_and_with_a_ready_pair(checkpoint, tmp_path, fast_engine):
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    checkpoint.rename(moved)
    pair = SimpleNamespace(model=line, guide=None)
    assert resume(moved, pair, X, Y, draws=5).num_draws == 5
    assert resume(moved, line, X, Y).num_draws == 5
    assert not checkpoint.exists()


def test_numbers_of_numpy_are_settings_and_can_be_kept(tmp_path, fast_engine):
    method = short("HMC", draws=np.int64(2), step_size=np.float64(0.1), checkpoint=tmp_path / "run")
    infer(line, X, Y, method=method, seed=np.int64(2))
    assert resume(tmp_path / "run", line, X, Y, draws=3).num_draws == 3


# Another model, other data, other settings


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The checkpoint of three draws of `line`, to copy."""
    path = tmp_path_factory.mktemp("saved") / "run"
    infer(line, X, Y, method=short("NUTS", warmup=5, draws=3, checkpoint=path), seed=2)
    return path


@pytest.fixture
def checkpoint(saved, tmp_path):
    return shutil.copy(saved, tmp_path / "run")


def test_a_checkpoint_of_another_model_is_refused(checkpoint):
    def other(x, y=None):
        return line(x + pyro.sample("shift", dist.Normal(0.0, 1.0)), y)

    with pytest.raises(ValueError, match=r"expected the model of the checkpoint, with sites .*'w': .*, got .*shift"):
        resume(checkpoint, other, X, Y)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((X, Y + torch.eye(10)[3] * 1e-6), r"expected the data of the checkpoint, got other values in .*\[1\]"),
        ((X.double(), Y), r"expected the data of the checkpoint, got other values in .*\[0\]"),
        ((X, Y, X), "expected the 2 arguments of the checkpoint, got 3"),
        ((X, Y * torch.nan), "expected finite values, got 10 that are not in argument 1"),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(checkpoint, args, message):
    with pytest.raises(ValueError, match=message):
        resume(checkpoint, lambda x, y, *rest: line(x.float(), y), *args)


WIDE = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
WIDE_Y = 0.5 * WIDE[:, 0] + torch.randn(20_000, generator=torch.Generator().manual_seed(1))


def wide(scale, offset=0.0):
    """Ten weights of a prior that is lost in the log density of 20,000 rows."""

    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(10), scale).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w.sum() * x[:, 0] + offset, 1.0), obs=y)

    return model


@pytest.fixture(scope="module")
def saved_wide(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "run"
    infer(wide(1.0), WIDE, WIDE_Y, method=short("HMC", engine="compiled", warmup=10, draws=2, checkpoint=path))
    return path


def test_the_same_model_is_taken_for_the_same_however_much_data_there_is(saved_wide, tmp_path):
    path = shutil.copy(saved_wide, tmp_path / "run")
    assert resume(path, wide(1.0), WIDE, WIDE_Y, draws=3).num_draws == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (wide(3.0), "expected the model and data of the checkpoint, got a log density of"),
        (wide(1.0, torch.nan), "expected the model of the checkpoint, got a log density of nan instead of -"),
    ],
)
def test_a_checkpoint_of_another_prior_is_refused_however_much_data_there_is(model, message, saved_wide):
    with pytest.raises(ValueError, match=message):
        resume(saved_wide, model, WIDE, WIDE_Y, draws=4)


LATE = {
    "warmup": 5, "chains": 4, "thin": 3, "engine": "replay", "step_size": 0.1, "init": "map", "dtype": "float16",
    "pooling": "across", "target_accept": 0.9, "drawz": 9,
}  # fmt: skip


@pytest.mark.parametrize("change", LATE)
def test_what_lies_behind_cannot_change(saved, change):
    with pytest.raises(ValueError, match=r"expected changes to \['draws', 'max_seconds', .*other settings are fixed"):
        resume(saved, line, X, Y, **{change: LATE[change]})


def test_draws_that_were_made_are_not_unmade(saved):
    with pytest.raises(ValueError, match="expected draws to be at least 3, the number in the checkpoint, got 2"):
        resume(saved, line, X, Y, draws=2)
