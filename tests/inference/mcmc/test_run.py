"""Runs of many chains: the same numbers from the same seed, whatever interrupts them, and what is kept of them."""

import contextlib
import functools
from types import SimpleNamespace
from typing import Any

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, SVI, Posterior, infer, resume
from posterity.inference.engine import Density
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.hmc import HMCKernel
from posterity.inference.mcmc.nuts import NUTSKernel
from posterity.inference.mcmc.starts import start
from posterity.inference.mcmc.streams import Streams
from posterity.models import bayesian, gaussian, mlp

X = torch.linspace(-2, 2, 10)[:, None]
Y = torch.sin(2 * X[:, 0])
NET = mlp(1, 3, 1, seed=0)
KERNELS = {"HMC": HMCKernel, "NUTS": NUTSKernel}
FAMILIES = {"HMC": HMC, "NUTS": NUTS}
SHORT = {
    "HMC": {"window": 3},
    "NUTS": {"max_tree_depth": 4},
}
COMMON = {"chains": 3, "warmup": 30, "draws": 12, "engine": "eager", "threads": 1, "progress": False}


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0], sigma), obs=y)


def network(x, y=None):
    features = bayesian("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def short(name: str, **changes: Any) -> HMC | NUTS:
    return FAMILIES[name](**{**COMMON, **SHORT[name], **changes})


def same(one: Posterior, two: Posterior) -> bool:
    return all(torch.equal(one.draws[n], two.draws[n]) for n in one.draws) and all(
        torch.equal(one.sample_stats[n], two.sample_stats[n]) for n in one.sample_stats
    )


both = pytest.mark.parametrize("name", FAMILIES)


# Seeds


@both
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_one_seed_one_result(name, engine):
    one, two, other = (infer(line, X, Y, method=short(name, engine=engine), seed=s) for s in (3, 3, 4))
    assert same(one, two)
    assert not torch.equal(one.draws["w"], other.draws["w"])
    w = one.draws["w"]
    assert len(w.unique()) > w.numel() / 2  # the chains are not copies of each other


@both
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_chain_does_not_depend_on_how_many_run_beside_it(name, engine):
    fixed = {"warmup": 0, "step_size": 0.1, "engine": engine}
    few, many = (infer(network, X, Y, method=short(name, chains=c, **fixed), seed=5) for c in (2, 21))
    for site in few.draws:
        torch.testing.assert_close(few.draws[site], many.draws[site][:2], rtol=1e-4, atol=1e-5)
    assert torch.equal(few.sample_stats["n_steps"], many.sample_stats["n_steps"][:2])


@both
def test_the_callers_state_is_left_alone(name):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    infer(line, X, Y, method=short(name, draws=3, threads=None))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(pyro.get_param_store())


# Interrupts and checkpoints


@contextlib.contextmanager
def interrupted_at(name: str, iteration: int):
    """A keyboard interrupt instead of one transition."""
    kernel, count = KERNELS[name], iter(range(10_000))
    transition = kernel.transition

    def stop(self, *args):
        if next(count) == iteration:
            raise KeyboardInterrupt
        return transition(self, *args)

    kernel.transition = stop
    try:
        yield
    finally:
        kernel.transition = transition


@functools.cache
def uninterrupted(name: str):
    return infer(network, X, Y, method=short(name), seed=2)


@both
@pytest.mark.parametrize("iteration", [5, 17, 29, 30, 33, 41])
def test_a_resumed_run_is_the_uninterrupted_one(name, iteration, tmp_path):
    """Bit for bit: stopped on the way, in a window of warm-up, on its last iteration, before a draw, and later."""
    method = short(name, checkpoint=tmp_path / "run")
    whole = uninterrupted(name)
    stopped = pytest.raises(KeyboardInterrupt, match="before the first draw")
    kept = pytest.warns(
        RuntimeWarning, match=rf"interrupted and returns {iteration - 30} of 12 draws .*resume\('.*run'"
    )
    expected = kept if iteration > 30 else stopped
    with interrupted_at(name, iteration), expected:
        part = infer(network, X, Y, method=method, seed=2)
        assert part.attrs["interrupted"] == 1
    again = resume(tmp_path / "run", network, X, Y)
    assert same(whole, again)
    assert again.attrs["interrupted"] == 0
    assert again.attrs["gradients"] == whole.attrs["gradients"]
    assert not list(tmp_path.glob("*.part"))


@both
@pytest.mark.parametrize("line", ["learn", "advance"])
def test_an_interrupt_between_two_lines_of_an_iteration_is_undone(name, line, tmp_path, monkeypatch):
    # After warm-up has learnt from an iteration, or after its random numbers are used up, but before it is over.
    whole = uninterrupted(name)
    owner, method = (KERNELS[name], "learn") if line == "learn" else (Streams, "advance")
    original, count = getattr(owner, method), iter(range(10_000))

    def stop(self, *args):
        original(self, *args)
        if next(count) == 17:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, stop)
        with pytest.raises(KeyboardInterrupt, match="before the first draw"):
            infer(network, X, Y, method=short(name, checkpoint=tmp_path / "run"), seed=2)
    assert same(whole, resume(tmp_path / "run", network, X, Y))


@both
def test_a_finished_run_goes_on_to_more_draws(name, tmp_path):
    method = short(name, draws=5, checkpoint=tmp_path / "run")
    five = infer(line, X, Y, method=method, seed=2)
    twelve = resume(tmp_path / "run", line, X, Y, draws=12)
    assert same(twelve, infer(line, X, Y, method=short(name), seed=2))
    assert torch.equal(twelve.draws["w"][:, :5], five.draws["w"])
    assert same(twelve, resume(tmp_path / "run", line, X, Y))  # the checkpoint is of all twelve by now


@both
def test_an_interrupt_keeps_the_draws(name):
    whole = infer(line, X, Y, method=short(name), seed=2)
    said = rf"{name} was interrupted and returns 5 of 12 draws of each chain\. Run it again .* checkpoint='run.pt'"
    with interrupted_at(name, 35), pytest.warns(RuntimeWarning, match=said) as caught:
        part = infer(line, X, Y, method=short(name), seed=2)
    told = [one for one in caught if "interrupted" in str(one.message)]
    assert [(one.category, one.filename) for one in told] == [(RuntimeWarning, __file__)]
    assert part.draws["w"].shape == (3, 5)
    assert torch.equal(part.draws["w"], whole.draws["w"][:, :5])
    assert all(value.shape == (3, 5) for value in part.sample_stats.values())
    assert part.attrs["interrupted"] == 1


@pytest.fixture
def checkpoint(tmp_path):
    infer(line, X, Y, method=short("NUTS", draws=3, checkpoint=tmp_path / "run"), seed=2)
    return tmp_path / "run"


def test_a_checkpoint_of_another_model_is_refused(checkpoint):
    with pytest.raises(ValueError, match=r"expected the model of the checkpoint, with sites .*'w': .*, got .*net"):
        resume(checkpoint, network, X, Y)


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


def wide(scale, offset=0.0):
    """Ten weights of a prior that is lost in the log density of 20,000 rows."""

    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(10), scale).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w.sum() * x[:, 0] + offset, 1.0), obs=y)

    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (wide(3.0), "expected the model and data of the checkpoint, got a log density of"),
        (wide(1.0, torch.nan), "expected the model of the checkpoint, got a log density of nan where it has -"),
    ],
)
def test_a_checkpoint_of_another_prior_is_refused_however_much_data_there_is(model, message, tmp_path):
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    y = 0.5 * x[:, 0] + torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    method = short("HMC", engine="compiled", warmup=10, draws=2, checkpoint=tmp_path / "run")
    infer(wide(1.0), x, y, method=method)
    assert resume(tmp_path / "run", wide(1.0), x, y, draws=3).num_draws == 3
    with pytest.raises(ValueError, match=message):
        resume(tmp_path / "run", model, x, y, draws=4)


@pytest.mark.parametrize(
    ("value", "slope", "message"),
    [
        (-28_000.0, 1.0, None),
        (-28_000.1, 1.001, None),  # rounding, and another order of sums
        (-28_000.5, 1.0, "got a log density of -28000.5 where it has -28000"),
        (-28_000.0, 1.1, "got a gradient of the log density that is 0.1 from the one it has"),
        (torch.nan, 1.0, "got a log density of nan where it has -28000"),
        (-28_000.0, torch.nan, "got a gradient of the log density that is nan from"),
    ],
)
def test_a_log_density_and_its_gradient_may_differ_by_rounding(value, slope, message):
    saved = {"value": torch.full((2,), -28_000.0), "grad": torch.eye(2)}
    found = torch.tensor([-28_000.0, value]), torch.diag(torch.tensor([1.0, slope]))
    with contextlib.nullcontext() if message is None else pytest.raises(ValueError, match=message):
        checkpoints.check_density(*found, saved, 2e-3)


LATE = {
    "warmup": 5, "chains": 4, "thin": 3, "engine": "replay", "step_size": 0.1, "init": "map", "dtype": "float16",
    "pooling": "across", "target_accept": 0.9, "drawz": 9,
}  # fmt: skip


@pytest.mark.parametrize("change", LATE)
def test_what_lies_behind_cannot_change(checkpoint, change):
    with pytest.raises(ValueError, match=r"expected changes to \['draws', 'max_seconds', .*other settings are fixed"):
        resume(checkpoint, line, X, Y, **{change: LATE[change]})


def test_draws_that_were_made_are_not_unmade(checkpoint):
    with pytest.raises(ValueError, match="expected draws of at least 3, the number in the checkpoint, got 2"):
        resume(checkpoint, line, X, Y, draws=2)


def test_a_run_goes_on_where_its_file_was_moved_and_with_a_ready_pair(checkpoint, tmp_path):
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    checkpoint.rename(moved)
    pair = SimpleNamespace(model=line, guide=None)
    assert resume(moved, pair, X, Y, draws=5).num_draws == 5
    assert resume(moved, line, X, Y).num_draws == 5
    assert not checkpoint.exists()


def test_a_target_counts_the_draws_before_an_interrupt(tmp_path):
    """24 chains of 400 draws have far more than 300 effective ones: a resumed run has nothing left to do."""
    method = short("HMC", chains=24, warmup=100, draws=400, engine="compiled", checkpoint=tmp_path / "run")
    infer(line, X, Y, method=method)
    assert resume(tmp_path / "run", line, X, Y, draws=20_000, target_ess=300.0).num_draws < 450


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": torch.ones(3)}, "expected a checkpoint of format 2 .*, got something else"),
        (torch.ones(3), "expected a checkpoint of format 2 .*, got something else"),
        (
            {"format": 1, "kernel": 0},
            "expected a checkpoint of format 2 .*, got format 1 of another version: run again",
        ),
        ({"format": 2, "kernel": 0}, r"expected a checkpoint of \['HMC', 'NUTS'\] .*, got one without \['arguments'"),
        ("hello", "expected a checkpoint .*, got a file that cannot be read as one"),
        ("", "expected a checkpoint .*, got a file that cannot be read as one"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, message, tmp_path):
    if isinstance(content, str):
        (tmp_path / "file").write_text(content)
    else:
        torch.save(content, tmp_path / "file")
    with pytest.raises(ValueError, match=message):
        resume(tmp_path / "file", line, X, Y)


def test_half_a_checkpoint_is_refused(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"expected a checkpoint .*, got a file that cannot be read as one"):
        resume(checkpoint, line, X, Y)


def test_a_checkpoint_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        resume(tmp_path / "nothing", line, X, Y)


def test_a_checkpoint_that_could_not_be_written_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(HMCKernel, "transition", lambda *_: pytest.fail("the run began"))
    for path in (tmp_path / "missing" / "run", tmp_path):
        with pytest.raises(ValueError, match="expected checkpoint as a file in a folder that exists, got"):
            infer(line, X, Y, method=short("HMC", checkpoint=path))


def test_numbers_of_numpy_are_settings_and_can_be_kept(tmp_path):
    method = short("HMC", draws=np.int64(2), step_size=np.float64(0.1), checkpoint=tmp_path / "run")
    infer(line, X, Y, method=method, seed=np.int64(2))
    assert resume(tmp_path / "run", line, X, Y, draws=3).num_draws == 3


# Stopping, thinning, what is kept


def test_effective_draws_stop_a_run():
    method = short("HMC", chains=8, warmup=100, draws=20_000, target_ess=400.0, engine="compiled")
    posterior = infer(line, X, Y, method=method)
    lp = posterior.sample_stats["lp"].numpy()
    assert lp.shape[1] < 10_000
    assert az.ess(lp) > 300  # of the same draws, by ArviZ


@both
def test_thin_keeps_one_draw_in_three(name):
    every = infer(line, X, Y, method=short(name, draws=12), seed=1)
    third = infer(line, X, Y, method=short(name, draws=4, thin=3), seed=1)
    assert torch.equal(third.draws["w"], every.draws["w"][:, 2::3])
    assert torch.equal(third.sample_stats["lp"], every.sample_stats["lp"][:, 2::3])


@both
def test_divergences_between_kept_draws_are_not_lost(name, tmp_path, monkeypatch):
    """Also across a checkpoint: the first of three transitions diverges, an interrupt comes at the third."""
    kernel, original = KERNELS[name], KERNELS[name].transition
    method = short(name, draws=4, thin=3, checkpoint=str(tmp_path / "run"))

    def transition(self, state, normals, uniforms, iteration):
        state, statistics = original(self, state, normals, uniforms, iteration)
        first = torch.zeros(method.chains, dtype=torch.bool)
        first[1] = iteration == method.warmup + 3
        return state, {**statistics, "diverging": first}

    monkeypatch.setattr(kernel, "transition", transition)
    with interrupted_at(name, method.warmup + 5), pytest.warns(RuntimeWarning, match="interrupted and returns 1 of 4"):
        infer(line, X, Y, method=method, seed=1)
    posterior = resume(tmp_path / "run", line, X, Y)
    assert posterior.sample_stats["diverging"].nonzero().tolist() == [[1, 1]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_draws_are_kept_in_the_wanted_precision(dtype):
    plain = infer(line, X, Y, method=short("HMC"), seed=1)
    posterior = infer(line, X, Y, method=short("HMC", dtype=dtype), seed=1)
    assert all(v.dtype == getattr(torch, dtype) for v in posterior.draws.values())
    tolerance = 2e-3 if dtype == "float16" else 1e-6
    torch.testing.assert_close(posterior.draws["w"].float(), plain.draws["w"], rtol=tolerance, atol=tolerance)
    assert posterior.predictive(X).mean.isfinite().all()


# Starts


def test_starts_from_the_prior_are_spread_and_modes_are_not():
    frozen = {"warmup": 0, "draws": 1, "step_size": 1e-7, "trajectory_length": 1e-7, "chains": 6}
    prior = infer(line, X, Y, method=short("HMC", **frozen)).draws["w"][:, 0]
    mode = infer(line, X, Y, method=short("HMC", init="map", **frozen)).draws["w"][:, 0]
    assert prior.std() > 0.3
    assert mode.std() < 0.01


def test_starts_from_values_and_posteriors():
    frozen = {"warmup": 0, "draws": 1, "step_size": 1e-7, "trajectory_length": 1e-7}
    values = {"w": torch.tensor([0.1, 0.2, 0.3]), "sigma": torch.tensor([1.0, 2.0, 3.0])}
    found = infer(line, X, Y, method=short("HMC", init=values, **frozen)).draws
    torch.testing.assert_close(found["w"][:, 0], values["w"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["sigma"][:, 0], values["sigma"], rtol=1e-4, atol=1e-4)
    one = {"w": torch.tensor(0.4), "sigma": torch.tensor(2.0)}  # for every chain
    found = infer(line, X, Y, method=short("HMC", init=one, **frozen)).draws
    torch.testing.assert_close(found["w"][:, 0], torch.full((3,), 0.4), rtol=1e-4, atol=1e-4)
    fitted = infer(line, X, Y, method=SVI(steps=200, draws=50, progress=False), seed=0)
    found = infer(line, X, Y, method=short("HMC", init=fitted, **frozen)).draws["w"][:, 0]
    known = fitted.draws["w"].flatten()
    assert all((known - w).abs().min() < 1e-3 for w in found)
    assert len(found.unique()) == 3


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"w": torch.zeros(3)}, "expected a start for every latent site, got none for 'sigma'"),
        ({"w": torch.zeros(3), "sigma": -torch.ones(3)}, "expected a start inside the support of 'sigma'"),
        (
            {"w": torch.zeros(3), "sigma": torch.ones(2)},
            "expected init with as many starts of every site, got {.*3.*2}",
        ),
        ({"w": torch.zeros(2, 3), "sigma": torch.ones(2, 3)}, r"expected init of 'w' of shape \(starts\), .*\(2, 3\)"),
        ({"w": torch.zeros(0), "sigma": torch.ones(0)}, r"expected init of 'w' of shape \(starts\), one or more, got"),
        ({"w": 0.0, "sigma": 1.0, "wt": 1.0}, r"expected init with values of the sites \['w', .*\['wt'\]"),
        ({"w": "zero", "sigma": 1.0}, "expected init with numbers for 'w', got str"),
    ],
)
def test_starts_that_do_not_fit_are_refused(init, message):
    with pytest.raises(ValueError, match=message):
        infer(line, X, Y, method=short("HMC", init=init))


def test_one_value_of_a_site_is_that_of_every_start():
    frozen = {"warmup": 0, "draws": 1, "step_size": 1e-7, "trajectory_length": 1e-7}
    found = infer(line, X, Y, method=short("HMC", init={"w": [0.1, 0.2, 0.3], "sigma": 2.0}, **frozen)).draws
    torch.testing.assert_close(found["w"][:, 0], torch.tensor([0.1, 0.2, 0.3]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["sigma"][:, 0], torch.full((3,), 2.0), rtol=1e-4, atol=1e-4)


def bounded(x, y=None):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    w = pyro.sample("w", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(p * w[0] * x[:, 0], 1.0), obs=y)


@pytest.mark.parametrize(
    ("site", "value"),
    [("p", 1.5), ("p", -3.0), ("p", 1.001), ("w", [2.0, 3.0, 4.0]), ("w", [0.9, 0.9, -0.8]), ("w", [0.3, 0.3, 0.3])],
)
def test_a_start_outside_its_support_is_not_taken_to_the_edge(site, value):
    init = {"p": 0.5, "w": [0.2, 0.3, 0.5], site: value}
    with pytest.raises(ValueError, match=f"expected a start inside the support of '{site}', got"):
        infer(bounded, X, Y, method=short("HMC", init=init))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_draws_of_low_precision_are_starts(dtype):
    """Their simplices add up to one but for rounding."""
    draws = infer(bounded, X, Y, method=short("HMC", dtype=dtype, draws=50))
    assert infer(bounded, X, Y, method=short("HMC", draws=1, init=draws)).num_draws == 1


def test_the_first_momentum_is_not_the_start():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        return pyro.sample("y", dist.Normal(w[0] * x[:, 0], 1.0).to_event(1), obs=y)

    density = Density(model, (X, Y))
    momentum, _ = Streams(3, 4, density.dim, 3, density.dtype).next()
    assert not torch.isin(start(density, "prior", 4, seed=3), momentum).any()


def sometimes(x, y=None):
    """A scale that is negative in one draw of the prior out of eight."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0], w + 1.2), obs=y)


def test_a_start_at_which_the_model_is_not_defined_is_drawn_again():
    posterior = infer(sometimes, X, Y, method=short("NUTS", chains=16, warmup=0, step_size=0.01, draws=1), seed=1)
    assert (posterior.draws["w"] > -1.2).all()


def hardly_ever(x, y=None):
    """Defined at no draw of the prior that anyone will see."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x[:, 0], w - 9.0), obs=y)


def test_a_prior_without_a_start_names_init_and_a_start_that_is_given_is_enough():
    with pytest.raises(
        ValueError, match=r"expected init with .*, got none in 100 draws of 'prior' .*Expected parameter"
    ):
        infer(hardly_ever, X, Y, method=short("HMC"))
    with pytest.raises(ValueError, match=r"expected starts inside the support, .*choose another init .*Expected param"):
        infer(hardly_ever, X, Y, method=short("HMC", init={"w": 8.0}))
    posterior = infer(hardly_ever, X, Y, method=short("HMC", warmup=0, draws=1, step_size=1e-3, init={"w": 10.0}))
    assert (posterior.draws["w"] > 9.0).all()


# Statistics


NAMES = {"lp", "energy", "n_steps", "acceptance_rate", "step_size", "diverging"}


@pytest.fixture(scope="module", params=FAMILIES)
def sampled(request):
    torch.manual_seed(0)
    method = short(request.param, chains=4, warmup=100, draws=60, max_seconds=60.0)
    return request.param, infer(line, X, Y, method=method, seed=0)


def test_statistics_have_their_names_and_shapes(sampled):
    name, posterior = sampled
    stats = posterior.sample_stats
    assert set(stats) == NAMES | ({"tree_depth"} if name == "NUTS" else set())
    assert all(value.shape == (4, 60) for value in stats.values())
    assert stats["diverging"].dtype == torch.bool
    assert stats["n_steps"].dtype == torch.long
    assert ((stats["acceptance_rate"] >= 0) & (stats["acceptance_rate"] <= 1)).all()
    if name == "NUTS":
        assert (stats["n_steps"] < 2 ** stats["tree_depth"]).all()
        assert (stats["n_steps"] >= 2 ** (stats["tree_depth"] - 1)).all()
    attrs = posterior.attrs
    assert attrs["method"] == name
    assert attrs["tier"] == "eager"
    assert 0 < attrs["warmup_gradients"] < attrs["gradients"]
    assert 0 < attrs["warmup_seconds"] < attrs["seconds"]


def test_the_log_density_is_the_joint_of_the_draws(sampled):
    _, posterior = sampled
    w, sigma = posterior.draws["w"], posterior.draws["sigma"]
    expected = dist.Normal(0.0, 1.0).log_prob(w) + dist.LogNormal(-1.0, 0.5).log_prob(sigma) + sigma.log()
    expected = expected + dist.Normal(w[..., None] * X[:, 0], sigma[..., None]).log_prob(Y).sum(-1)
    torch.testing.assert_close(posterior.sample_stats["lp"].float(), expected, rtol=1e-4, atol=1e-3)


def test_the_energy_is_kinetic_and_potential(sampled):
    """The momentum is as new at every draw: half a chi squared of 2, mean 1 and never negative; 5 standard errors."""
    _, posterior = sampled
    kinetic = (posterior.sample_stats["energy"] + posterior.sample_stats["lp"]).double().numpy()
    assert (kinetic > 0).all()
    assert abs(kinetic.mean() - 1.0) < 5 * az.mcse(kinetic)


# ArviZ 0.23 calls a function of matplotlib 3.11 in its old way.
@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")
def test_arviz_reads_everything(sampled):
    _, posterior = sampled
    data = posterior.to_arviz(X, Y)
    assert np.isfinite(az.summary(data)["r_hat"].astype(float)).all()
    assert (az.bfmi(data) > 0.3).all()
    az.plot_energy(data)
    plt.close("all")


# A density that ends


def cliff(x, y=None):
    """nan beyond w = 1.5, as a model may be whose numbers leave their range."""
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.factor("cliff", torch.where(w.sum() > 1.5, torch.nan, 0.0) * w.sum())
    return pyro.sample("y", dist.Normal(0.0 * w.sum(), 1.0).expand(y.shape).to_event(1), obs=y)


@both
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_density_that_is_nan_somewhere_diverges_there_and_is_never_drawn(name, engine):
    init = {"w": torch.zeros(2)}
    method = short(name, chains=8, warmup=0, step_size=0.4, draws=60, init=init, engine=engine)
    posterior = infer(cliff, X, Y, method=method, seed=0)
    assert posterior.draws["w"].isfinite().all()
    assert (posterior.draws["w"].sum(-1) <= 1.5).all()
    assert posterior.sample_stats["lp"].isfinite().all()
    assert posterior.sample_stats["diverging"].any()
    assert not posterior.sample_stats["diverging"].all()
    # And the chains move on after it.
    assert (posterior.draws["w"].diff(dim=1).abs().sum(-1) > 0).double().mean() > 0.3


# A known covariance

COVARIANCE = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 4.0]], dtype=torch.double)
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)


def correlated(y=None):
    w = pyro.sample("w", dist.MultivariateNormal(MEAN, COVARIANCE))
    return pyro.sample("y", dist.Normal(0.0 * w.sum(), 1.0), obs=y)


@both
def test_a_correlated_gaussian_has_its_moments(name):
    """Mean, sd and correlation of 32 x 150 draws, each within 5 standard errors (ArviZ) of at least 1,000; seed 0."""
    length = {"chains": 32, "warmup": 150, "draws": 150, "engine": "compiled", "max_tree_depth": 8}
    method = short(name, **{k: v for k, v in length.items() if name == "NUTS" or k != "max_tree_depth"})
    posterior = infer(correlated, torch.zeros((), dtype=torch.double), method=method, seed=0)
    w = posterior.draws["w"].numpy()
    assert w.dtype == np.float64
    assert not posterior.sample_stats["diverging"].any()
    z = (w - MEAN.numpy()) / COVARIANCE.diagonal().sqrt().numpy()
    for i in range(3):
        assert az.ess(z[..., i]) > 1000
        assert abs(z[..., i].mean()) < 5 * az.mcse(z[..., i])
        assert abs(z[..., i].std() - 1) < 5 * az.mcse(z[..., i], method="sd")
        for j in range(i):
            known = float(COVARIANCE[i, j] / (COVARIANCE[i, i] * COVARIANCE[j, j]).sqrt())
            product = z[..., i] * z[..., j]
            assert abs(product.mean() - known) < 5 * az.mcse(product)


# What is refused


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "expected draws to be a whole number of 1 or more, got 0"),
        ({"draws": 2.5}, r"expected draws to be a whole number of 1 or more, got 2.5"),
        ({"chains": True}, r"expected chains to be a whole number of 1 or more, got True"),
        ({"warmup": None}, r"expected warmup to be a whole number of 0 or more, got None"),
        ({"superchains": 1.5}, r"expected superchains to be a whole number of 1 or more, got 1.5"),
        ({"threads": 1.5}, r"expected threads to be a whole number of 1 or more, got 1.5"),
        ({"step_size": torch.inf}, r"expected step_size to be a finite number above 0, got inf"),
        ({"step_size": "0.1"}, r"expected step_size to be a finite number above 0, got '0.1'"),
        ({"target_accept": "0.8"}, r"expected target_accept to be a number in \(0, 1\), got '0.8'"),
        ({"max_seconds": "3"}, r"expected max_seconds to be a finite number above 0, got '3'"),
        ({"target_ess": torch.nan}, r"expected target_ess to be a finite number above 0, got nan"),
        (
            {"max_energy_error": None},
            r"expected max_energy_error to be a finite number above 0, got None",
        ),
        ({"checkpoint_seconds": -1}, "expected checkpoint_seconds to be a finite number of 0 or more, got -1"),
        ({"checkpoint": 5}, "expected checkpoint as the path of a file, got 5"),
        ({"checkpoint": ""}, "expected checkpoint as the path of a file, got ''"),
        ({"warmup": -1}, "expected warmup to be a whole number of 0 or more, got -1"),
        ({"chains": 0}, "expected chains to be a whole number of 1 or more, got 0"),
        ({"thin": 0}, "expected thin to be a whole number of 1 or more, got 0"),
        ({"target_accept": 1.0}, r"expected target_accept to be a number in \(0, 1\), got 1.0"),
        ({"step_size": 0.0}, "expected step_size to be a finite number above 0, got 0.0"),
        ({"max_seconds": -1.0}, "expected max_seconds to be a finite number above 0, got -1.0"),
        ({"pooling": "all"}, r"expected pooling to be one of 'within', 'across', got 'all'"),
        ({"dtype": "int8"}, "expected dtype to be one of .*, got 'int8'"),
        ({"target_ess": 1e9}, "expected chains . draws of at least target_ess = 1e.09"),
        ({"init": "zero"}, "expected init from .*, got 'zero'"),
        ({"init": 3}, "expected init as a name, values of the sites, or a Posterior, got int"),
    ],
)
def test_bad_settings_raise(name, settings, message):
    with pytest.raises(ValueError, match=message):
        FAMILIES[name](**settings)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (NUTS, {"max_tree_depth": 0}, "expected max_tree_depth to be a whole number from 1 to 20, got 0"),
        (HMC, {"trajectory_length": 0.0}, "expected trajectory_length to be a finite number above 0, got 0.0"),
        (HMC, {"jitter": 1.5}, r"expected jitter to be a number in \[0, 1\], got 1.5"),
        (HMC, {"window": 0}, "expected window to be a whole number of 1 or more, got 0"),
        (HMC, {"max_steps": 2.5}, "expected max_steps to be a whole number of 1 or more, got 2.5"),
        (HMC, {"jitter": "a"}, r"expected jitter to be a number in \[0, 1\], got 'a'"),
        (HMC, {"trajectory_length": torch.inf}, "expected trajectory_length to be a finite number above 0, got inf"),
        (NUTS, {"max_tree_depth": 2.5}, "expected max_tree_depth to be a whole number from 1 to 20, got 2.5"),
        (NUTS, {"max_tree_depth": "3"}, "expected max_tree_depth to be a whole number from 1 to 20, got '3'"),
        (HMC, {"integrator": "euler"}, r"expected integrator to be one of 'leapfrog', 'minimal_norm', got 'euler'"),
    ],
)
def test_bad_settings_of_one_sampler_raise(family, settings, message):
    with pytest.raises(ValueError, match=message):
        family(**settings)


@both
def test_models_with_parameters_or_nothing_to_sample_are_refused(name):
    def parameter(x, y=None):
        w = pyro.sample("w", dist.Normal(pyro.param("p", torch.tensor(0.0)), 1.0))
        return pyro.sample("y", dist.Normal(w * x[:, 0], 1.0).to_event(1), obs=y)

    def nothing(x, y=None):
        return pyro.sample("y", dist.Normal(x[:, 0], 1.0).to_event(1), obs=y)

    with pytest.raises(ValueError, match=r"expected a model without parameters .*, got \('p',\)"):
        infer(parameter, X, Y, method=short(name))
    with pytest.raises(ValueError, match="expected a model with latent sites to sample, got none: fit it by SVI"):
        infer(nothing, X, Y, method=short(name))
