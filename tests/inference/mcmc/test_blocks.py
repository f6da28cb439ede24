"""Blocks of chains: the same draws wherever they run, lost workers, interrupts, errors.

Models and methods are made inside functions: what a worker gets then is their code, as from a notebook.
"""

import os
import signal
import time
import warnings
from dataclasses import fields, replace

import joblib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, SVI, Blocks, infer
from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.mcmc import blocks as blocks_module
from posterity.inference.mcmc import climb, reference, resume
from posterity.models import bayesian, gaussian, mlp
from posterity.progress import LogBar
from posterity.random import child_seeds

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(20, 3, generator=GENERATOR)
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.5 * torch.randn(20, generator=GENERATOR)
SHORT = HMC(chains=8, warmup=8, draws=10, window=2, max_steps=4, engine="eager", progress=False)


def linear_model(noise=0.5):
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(3), 2.0).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ w, noise), obs=y)

    return model


def network_model():
    net = mlp(3, 4, 1, seed=0)

    def model(x, y=None):
        features = bayesian("net", net)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, torch.tensor(0.5)), obs=y)

    return model


def block_of(task, blocks):
    """The number of a block, by its seed."""
    return child_seeds(3, blocks).index(task[3])


@pytest.fixture(scope="module")
def in_four_blocks():
    """A run of `SHORT` in four blocks."""
    return sample(Blocks(SHORT, blocks=4))


def sample(method, model=None, **settings):
    with joblib.parallel_config(**({"backend": "sequential"} | settings)):
        return infer(model or linear_model(), X, Y, method=method, seed=3)


def assert_same(one, other):
    for part in ("draws", "sample_stats"):
        for name, value in getattr(one, part).items():
            torch.testing.assert_close(value, getattr(other, part)[name], rtol=0.0, atol=0.0)


def logged(path):
    return path.read_text().split() if path.exists() else []


# The same draws everywhere


def test_a_block_is_the_method_run_alone(in_four_blocks):
    method, posterior = Blocks(SHORT, blocks=4), in_four_blocks
    assert posterior.draws["w"].shape == (8, 10, 3)
    gradients = 0
    for index, seed in enumerate(child_seeds(3, 4)):
        alone = infer(linear_model(), X, Y, method=replace(SHORT, chains=2, threads=1), seed=seed)
        rows = slice(2 * index, 2 * index + 2)
        for name, value in alone.sample_stats.items():
            torch.testing.assert_close(posterior.sample_stats[name][rows], value, rtol=0.0, atol=0.0)
        torch.testing.assert_close(posterior.draws["w"][rows], alone.draws["w"], rtol=0.0, atol=0.0)
        gradients += alone.attrs["gradients"]
    assert posterior.attrs["gradients"] == gradients
    assert posterior.attrs["warmup_seconds"] < posterior.attrs["seconds"]
    expected = {"method": "HMC", "seed": 3, "blocks": 4, "interrupted": 0, "tier": "eager", "settings": repr(method)}
    assert expected.items() <= posterior.attrs.items()


def test_in_threads_blocks_take_turns():
    method = Blocks(replace(SHORT, chains=6, draws=5), blocks=3)
    assert_same(sample(method), sample(method, backend="threading", n_jobs=3))


@pytest.mark.slow  # processes import torch and Pyro
def test_the_same_draws_in_one_process_and_in_two():
    """In the order of the blocks, whichever is first; the model is a closure over a module."""
    method = Blocks(replace(SHORT, engine="replay", chains=6, draws=6), blocks=3, jobs=2)
    here = sample(method, network_model())
    assert len(here.draws["net.hidden1.weight"].unique(dim=0)) == 6
    assert_same(here, sample(method, network_model(), backend="loky"))


def test_nuts_and_settings_of_the_whole_are_shared_out(tmp_path):
    """Superchains, a target for the ESS, and a checkpoint for each block, which `resume` goes on with."""
    nuts = NUTS(
        chains=8, warmup=8, draws=10, superchains=4, max_tree_depth=3, target_ess=70.0,
        checkpoint=tmp_path / "run.pt", engine="eager", progress=False,
    )  # fmt: skip
    method = Blocks(nuts, blocks=2)
    of_blocks = method._methods(linear_model(), (X, Y), 3)
    assert [(m.chains, m.superchains, m.target_ess, m.threads) for m in of_blocks] == [(4, 2, 35.0, 1)] * 2
    posterior = sample(replace(method, method=replace(nuts, target_ess=None)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0.pt", "run-1.pt"]
    longer = resume(tmp_path / "run-1.pt", linear_model(), X, Y, draws=12)
    torch.testing.assert_close(longer.draws["w"][:, :10], posterior.draws["w"][4:], rtol=0.0, atol=0.0)


def test_starts_that_are_given_are_shared_out_as_if_chains_ran_together():
    """Nothing moves by more than a hundredth in one draw of a tiny step."""
    still = replace(SHORT, warmup=0, draws=1, step_size=1e-4, trajectory_length=1e-3)
    starts = {"w": torch.arange(24.0).view(8, 3)}
    for init in (starts, sample(replace(still, init=starts))):
        found = sample(Blocks(replace(still, init=init), blocks=4)).draws["w"][:, 0]
        torch.testing.assert_close(found, starts["w"], rtol=0.0, atol=0.05)
    grouped = sample(Blocks(replace(still, init=starts, superchains=2), blocks=2)).draws["w"][:, 0]
    torch.testing.assert_close(grouped, starts["w"][[0, 7]].repeat_interleave(4, 0), rtol=0.0, atol=0.05)


def test_blocks_find_the_posterior_in_closed_form():
    """Means within 5 standard errors of 400 draws' worth (they are 3200); seed 3."""
    precision = X.T @ X / 0.25 + torch.eye(3) / 4
    covariance = torch.linalg.inv(precision)
    mean = covariance @ X.T @ Y / 0.25
    long = HMC(chains=32, warmup=100, draws=100, engine="replay", progress=False)
    method = Blocks(long, blocks=2)
    w = sample(method).draws["w"].flatten(0, 1)
    error = covariance.diagonal().sqrt() / 400**0.5
    assert ((w.mean(0) - mean).abs() / error).max() < 5
    np.testing.assert_allclose(w.std(0), covariance.diagonal().sqrt(), rtol=0.15)


# What can go wrong


@pytest.fixture
def received(tmp_path, monkeypatch):
    """A file with one line for every result that has reached this process."""
    path = tmp_path / "received"

    class Logged(LogBar):
        def update(self, n=1):
            with path.open("a") as file:
                file.write("result\n")
            return super().update(n)

    monkeypatch.setattr(blocks_module, "progress_bar", lambda total, name, shown: Logged(total, name, disable=True))
    return path


def deadly_method(folder, victim, *, always=False, waits=True):
    """HMC that logs the seed of every block that it runs, and kills its process at seed ``victim``, at first.

    Before that it waits for the results of the three other blocks, so that something is there to keep (``received``).
    """
    parent = os.getpid()

    class Deadly(HMC):
        def run(self, model, *args, seed, guide=None, site=None):
            if seed == victim and os.getpid() != parent and (always or not (folder / "died").exists()):
                while waits and len(logged(folder / "received")) < 3:
                    time.sleep(0.02)
                (folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            posterior = super().run(model, *args, seed=seed, guide=guide, site=site)
            with (folder / "done").open("a") as file:
                file.write(f"{seed}\n")
            return posterior

    return Deadly(**{f.name: getattr(SHORT, f.name) for f in fields(SHORT)} | {"warmup": 5, "draws": 3})


@pytest.mark.slow
def test_the_block_of_a_killed_worker_is_run_again_and_it_alone(tmp_path, received):
    seeds = child_seeds(3, 4)
    method = Blocks(deadly_method(tmp_path, seeds[1]), blocks=4, jobs=2)
    posterior = sample(method, backend="loky")
    assert (tmp_path / "died").exists()
    assert sorted(logged(tmp_path / "done")) == sorted(map(str, seeds))
    assert posterior.attrs["interrupted"] == 0
    assert_same(posterior, sample(method))


@pytest.mark.slow
def test_a_block_that_is_lost_again_is_left_out_with_a_warning(tmp_path, received):
    seeds = child_seeds(3, 4)
    method = Blocks(deadly_method(tmp_path, seeds[0], always=True), blocks=4, retries=0, jobs=2)
    with pytest.warns(RuntimeWarning, match=r"1 of 4 blocks were lost with their workers .*TerminatedWorkerError"):
        posterior = sample(method, backend="loky")
    assert posterior.attrs["interrupted"] == 1
    assert posterior.attrs["blocks"] == 3
    whole = sample(method)
    torch.testing.assert_close(posterior.draws["w"], whole.draws["w"][2:], rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_where_all_blocks_are_lost_the_worker_s_error_is_raised(tmp_path):
    """The other block is still warming up whenever the worker beside it dies."""
    deadly = deadly_method(tmp_path, child_seeds(3, 2)[0], always=True, waits=False)
    slow = Blocks(replace(deadly, warmup=100_000), blocks=2, retries=1, jobs=2)
    with pytest.raises(joblib.externals.loky.process_executor.TerminatedWorkerError):
        sample(slow, backend="loky")


def raising_model(path, error):
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(3), 2.0).to_event(1))
        if path.exists():  # not yet where the program is inspected
            raise error
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    return model


@pytest.mark.parametrize("backend", ["sequential", pytest.param("loky", marks=pytest.mark.slow)])
def test_what_a_block_raises_is_raised_as_it_is_and_not_run_again(tmp_path, backend):
    class Raising(HMC):
        def run(self, model, *args, **keywords):
            with (tmp_path / "runs").open("a") as file:
                file.write("run\n")
            raise ValueError("expected another model, got this one")

    method = Blocks(Raising(chains=4, progress=False), blocks=2, retries=3, jobs=2)
    with pytest.raises(ValueError, match="expected another model, got this one") as caught:
        sample(method, backend=backend)
    assert len(logged(tmp_path / "runs")) <= 2
    # The worker's own traceback comes along.
    notes = "".join(getattr(caught.value, "__notes__", []))
    assert ("in run" in notes) == (backend == "loky")


def test_an_interrupt_returns_the_blocks_that_have_finished(monkeypatch, in_four_blocks):
    complete, run = in_four_blocks, blocks_module._run

    def interrupted(task):
        if block_of(task, 4) == 2:
            raise KeyboardInterrupt
        return run(task)

    monkeypatch.setattr(blocks_module, "_run", interrupted)
    message = r"HMC in blocks was interrupted and returns 10 of 10 draws of 2 of 4 blocks\. Run it again for the rest"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        posterior = sample(Blocks(SHORT, blocks=4))
    assert len([one for one in caught if "interrupted" in str(one.message)]) == 1
    assert (posterior.attrs["blocks"], posterior.attrs["interrupted"]) == (2, 1)
    torch.testing.assert_close(posterior.draws["w"], complete.draws["w"][:4], rtol=0.0, atol=0.0)


def test_an_interrupt_before_the_first_block_is_an_interrupt(monkeypatch):
    def interrupted(task):
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks_module, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample(Blocks(SHORT, blocks=4))


@pytest.mark.parametrize(("first", "kept"), [(0, 10), (1, 10)])
def test_a_block_that_was_interrupted_counts_where_there_is_no_whole_one(monkeypatch, first, kept):
    """A sampler in this process takes the interrupt itself and returns the draws it has, 4 here."""
    run = blocks_module._run

    def interrupted(task):
        outcome = run(task)
        if block_of(task, 4) == first:
            outcome["draws"] = {name: value[:, :4] for name, value in outcome["draws"].items()}
            outcome["sample_stats"] = {name: value[:, :4] for name, value in outcome["sample_stats"].items()}
            outcome["attrs"]["interrupted"] = 1
        return outcome

    monkeypatch.setattr(blocks_module, "_run", interrupted)
    with pytest.warns(RuntimeWarning, match="HMC in blocks was interrupted and returns"):
        posterior = sample(Blocks(SHORT, blocks=4))
    assert posterior.draws["w"].shape == ((2, 4, 3) if first == 0 else (2, kept, 3))
    assert (posterior.attrs["blocks"], posterior.attrs["interrupted"]) == (1, 1)


def test_what_blocks_say_is_said_once_and_their_chains_are_compared_with_each_other():
    """Each block is of one mode, and agrees with itself; all of them warn of something else."""

    def apart(x, y=None):
        m = pyro.sample("m", dist.Normal(0.0, 100.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal((m.abs() - 50.0).square() + x[:, 0], 1.0), obs=y)

    class Warning(HMC):
        def run(self, model, *args, **keywords):
            warnings.warn("the model runs on the tier 'eager'", RuntimeWarning, stacklevel=2)
            return super().run(model, *args, **keywords)

    settings = {f.name: getattr(SHORT, f.name) for f in fields(SHORT)}
    settings |= {"chains": 4, "warmup": 0, "step_size": 0.01, "trajectory_length": 0.02}
    method = Blocks(Warning(**settings | {"init": {"m": torch.tensor([-50.0, -50.0, 50.0, 50.0])}}), blocks=2)
    with pytest.warns(RuntimeWarning) as caught:
        posterior = sample(method, apart)
    assert [one.category for one in caught] == [RuntimeWarning, ConvergenceWarning]
    assert [one.filename for one in caught] == [__file__] * 2
    assert "site 'm' (R-hat" in posterior.attrs["warnings"]
    assert str(caught[1].message) == "HMC in blocks: " + posterior.attrs["warnings"]


def test_blocks_of_different_length_are_cut_to_the_shortest(monkeypatch, in_four_blocks):
    complete, run = in_four_blocks, blocks_module._run

    def shorter(task):
        return run((replace(task[0], draws=10 - block_of(task, 4)), *task[1:]))

    monkeypatch.setattr(blocks_module, "_run", shorter)
    posterior = sample(Blocks(SHORT, blocks=4))
    torch.testing.assert_close(posterior.draws["w"], complete.draws["w"][:, :7], rtol=0.0, atol=0.0)
    assert {value.shape for value in posterior.sample_stats.values()} == {(8, 7)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": SVI()}, r"expected method to be a many-chain sampler, HMC\(\) or NUTS\(\), got SVI"),
        ({"method": HMC}, "expected method to be a many-chain sampler"),
        ({"method": reference.NUTS(chains=4)}, "expected method to be a many-chain sampler"),
        ({"method": HMC(chains=8), "blocks": 3}, "expected chains to be a multiple of blocks=3, got 8"),
        (
            {"method": HMC(chains=8, superchains=2), "blocks": 4},
            "expected superchains to be a multiple of blocks=4, got 2",
        ),
        ({"method": SHORT, "blocks": 0}, "expected blocks to be a whole number of 1 or more, got 0"),
        ({"method": SHORT, "blocks": None}, r"expected blocks to be a whole number of 1 or more, got None"),
        ({"method": SHORT, "retries": -1}, "expected retries to be a whole number of 0 or more, got -1"),
        ({"method": SHORT, "jobs": 0}, "expected jobs to be a whole number of 1 or more, got 0"),
    ],
)
def test_bad_input_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Blocks(**settings)


def test_starts_that_do_not_fit_are_refused_before_anything_is_sent():
    with pytest.raises(ValueError, match="expected a start for every latent site, got none for 'w'"):
        sample(Blocks(replace(SHORT, init={"v": torch.zeros(3)})))


# A cluster


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_draws_and_survives_the_loss_of_a_worker(tmp_path, received):
    """Two workers, each a process. Dask itself gives up at the first death here, so that `retries` are what helps."""
    distributed = pytest.importorskip("distributed")
    import dask

    seeds = child_seeds(3, 4)
    deadly = Blocks(deadly_method(tmp_path, seeds[1]), blocks=4)
    raising = Blocks(SHORT, blocks=2)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        method = Blocks(SHORT, blocks=4)
        assert_same(sample(method, network_model(), backend="dask"), sample(method, network_model()))
        received.unlink()  # of the run before
        posterior = sample(deadly, backend="dask")
        flag = tmp_path / "flag"
        raising_in_a_block = raising_model(flag, ValueError("expected no flag, got one"))
        inspect = blocks_module.inspect

        def inspect_first(*args):
            found = inspect(*args)
            flag.touch()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks_module, "inspect", inspect_first)
            with pytest.raises(ValueError, match="expected no flag, got one"):
                sample(raising, raising_in_a_block, backend="dask")
    assert (tmp_path / "died").exists()
    assert sorted(logged(tmp_path / "done")) == sorted(map(str, seeds))
    assert_same(posterior, sample(deadly))


def test_warnings_about_starts_at_modes_are_given_for_blocks(monkeypatch):
    """Convergence is judged over all blocks, and the other warnings of a run must not be lost with that of a block."""
    monkeypatch.setattr(climb, "MAX_STEPS", climb.WINDOW)  # one window cannot show that the density is level
    with pytest.warns(ConvergenceWarning, match=r"block 0: init='map': .* block 1: init='map': the log density was"):
        posterior = sample(Blocks(replace(SHORT, init="map", chains=4, warmup=2, draws=4)))
    assert "block 1: init='map'" in posterior.attrs["warnings"]


def test_warnings_about_starts_outlive_a_checkpoint(monkeypatch, tmp_path):
    monkeypatch.setattr(climb, "MAX_STEPS", climb.WINDOW)
    path = tmp_path / "run.pt"
    first = sample(replace(SHORT, init="map", warmup=2, draws=4, checkpoint=path))
    again = resume(path, linear_model(), X, Y, draws=6)
    assert "still rising" in first.attrs["warnings"]
    assert "still rising" in again.attrs["warnings"]
