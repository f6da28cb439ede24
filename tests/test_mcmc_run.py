"""Runs of many chains: the same numbers from the same seed, whatever interrupts them, and what is kept of them."""

import contextlib
from typing import Any

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, SVI, Posterior, infer, resume
from posterity.inference.mcmc.hmc import HMCKernel
from posterity.inference.mcmc.nuts import NUTSKernel
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


@both
@pytest.mark.parametrize("iteration", [5, 17, 29, 30, 33, 41])
def test_a_resumed_run_is_the_uninterrupted_one(name, iteration, tmp_path):
    """Bit for bit: stopped on the way, in a window of warm-up, on its last iteration, before a draw, and later."""
    method = short(name, checkpoint=tmp_path / "run")
    whole = infer(network, X, Y, method=short(name), seed=2)
    stopped = pytest.raises(KeyboardInterrupt, match="before the first draw")
    expected = contextlib.nullcontext() if iteration > 30 else stopped
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
    whole = infer(network, X, Y, method=short(name), seed=2)
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
    with interrupted_at(name, 35):
        part = infer(line, X, Y, method=short(name), seed=2)
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


def test_a_checkpoint_of_other_data_is_refused(checkpoint):
    with pytest.raises(ValueError, match="expected the model and data of the checkpoint, got a log density of"):
        resume(checkpoint, line, X, Y + 1)


@pytest.mark.parametrize("changes", [{"warmup": 5}, {"chains": 4}])
def test_what_lies_behind_cannot_change(checkpoint, changes):
    with pytest.raises(ValueError, match="expected the chains and warm-up of the checkpoint"):
        resume(checkpoint, line, X, Y, **changes)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "tensors")
    (tmp_path / "text").write_text("posterity")
    for file in ("tensors", "text"):
        with pytest.raises(ValueError, match="expected a checkpoint"):
            resume(tmp_path / file, line, X, Y)
    with pytest.raises(FileNotFoundError):
        resume(tmp_path / "nothing", line, X, Y)


# Stopping, thinning, what is kept


def test_time_stops_a_run():
    posterior = infer(line, X, Y, method=short("HMC", draws=100_000, max_seconds=2.0))
    assert 1 <= posterior.draws["w"].shape[1] < 100_000
    assert posterior.attrs["seconds"] < 6.0
    assert posterior.attrs["interrupted"] == 0


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
    with interrupted_at(name, method.warmup + 5):
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
    ],
)
def test_starts_that_do_not_fit_are_refused(init, message):
    with pytest.raises(ValueError, match=message):
        infer(line, X, Y, method=short("HMC", init=init))


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
        ({"draws": 0}, "expected draws of 1 or more, got 0"),
        ({"draws": 2.5}, "expected draws of 1 or more, got 2.5"),
        ({"warmup": -1}, "expected warmup of 0 or more, got -1"),
        ({"chains": 0}, "expected chains of 1 or more, got 0"),
        ({"thin": 0}, "expected thin of 1 or more, got 0"),
        ({"target_accept": 1.0}, "expected target_accept between 0 and 1, got 1.0"),
        ({"step_size": 0.0}, "expected step_size above 0, got 0.0"),
        ({"max_seconds": -1.0}, "expected max_seconds above 0, got -1.0"),
        ({"pooling": "all"}, r"expected pooling from \['within', 'across'\], got 'all'"),
        ({"dtype": "int8"}, "expected dtype from .*, got 'int8'"),
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
        (NUTS, {"max_tree_depth": 0}, "expected max_tree_depth between 1 and 20, got 0"),
        (HMC, {"trajectory_length": 0.0}, "expected trajectory_length above 0, got 0.0"),
        (HMC, {"jitter": 1.5}, "expected jitter between 0 and 1, got 1.5"),
        (HMC, {"window": 0}, "expected a window of 1 state or more, got 0"),
        (HMC, {"integrator": "euler"}, r"expected integrator from \['leapfrog', 'minimal_norm'\], got 'euler'"),
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
