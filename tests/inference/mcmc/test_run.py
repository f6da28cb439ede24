"""Runs of many chains: seeds, interrupts, stopping, thinning, the stored draws, and models that are refused."""

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import infer
from posterity.models import bayesian, gaussian, mlp
from tests.inference.mcmc.cases import X, Y, every, interrupted_at, line, line_gradient, same, short

NET = mlp(1, 3, 1, seed=0)


def network(x, y=None):
    features = bayesian("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def test_the_closed_form_of_these_tests_is_the_model():
    q = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    value, slope = line_gradient(q)
    for position, v, g in zip(q, value, slope, strict=True):
        leaf = position.clone().requires_grad_()
        sites = {"w": leaf[0], "sigma": leaf[1].exp()}
        joint = pyro.poutine.trace(pyro.condition(line, data=sites)).get_trace(X, Y).log_prob_sum() + leaf[1]
        torch.testing.assert_close(v, joint.detach())
        torch.testing.assert_close(g, torch.autograd.grad(joint, leaf)[0], rtol=1e-4, atol=1e-4)


# Seeds


@every
def test_one_seed_one_result(name, fast_engine):
    one, two, other = (infer(line, X, Y, method=short(name), seed=s) for s in (3, 3, 4))
    assert same(one, two)
    assert not torch.equal(one.draws["w"], other.draws["w"])
    w = one.draws["w"]
    assert len(w.unique()) > w.numel() / 2  # the chains are not copies of each other


@every
def test_one_seed_one_result_on_the_compiled_engine(name):
    assert same(*(infer(line, X, Y, method=short(name, engine="compiled"), seed=3) for _ in range(2)))


@every
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_chain_does_not_depend_on_how_many_run_beside_it(name, engine):
    fixed = {"warmup": 0, "draws": 6, "step_size": 0.1, "engine": engine}
    few, many = (infer(network, X, Y, method=short(name, chains=c, **fixed), seed=5) for c in (2, 21))
    for site in few.draws:
        torch.testing.assert_close(few.draws[site], many.draws[site][:2], rtol=1e-4, atol=1e-5)
    assert torch.equal(few.sample_stats["n_steps"], many.sample_stats["n_steps"][:2])


@every
def test_the_callers_state_is_left_alone(name):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    infer(line, X, Y, method=short(name, warmup=5, draws=3, threads=None))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(pyro.get_param_store())


# Interrupts, stopping, thinning


@every
def test_an_interrupt_keeps_the_draws(name, fast_engine):
    whole = infer(line, X, Y, method=short(name), seed=2)
    method = short(name).name
    message = rf"{method} was interrupted and returns 5 of 12 draws of each chain\. Run it again .* checkpoint='run.pt'"
    with interrupted_at(name, 35), pytest.warns(RuntimeWarning, match=message) as caught:
        part = infer(line, X, Y, method=short(name), seed=2)
    interrupts = [one for one in caught if "interrupted" in str(one.message)]
    assert [(one.category, one.filename) for one in interrupts] == [(RuntimeWarning, __file__)]
    assert part.draws["w"].shape == (3, 5)
    assert torch.equal(part.draws["w"], whole.draws["w"][:, :5])
    assert all(value.shape == (3, 5) for value in part.sample_stats.values())
    assert part.attrs["interrupted"] == 1


def test_effective_draws_stop_a_run(fast_engine, ticks):
    """The ESS of the log density, by ArviZ, is that of the target; a tenth is left for draws since it was reached."""
    method = short("HMC", chains=8, warmup=100, draws=20_000, target_ess=400.0, max_steps=50)
    posterior = infer(line, X, Y, method=method)
    lp = posterior.sample_stats["lp"].numpy()
    assert lp.shape[1] < 2000
    assert az.ess(lp) > 360


@every
def test_thin_keeps_one_draw_in_three(name, fast_engine):
    every = infer(line, X, Y, method=short(name, draws=12), seed=1)
    third = infer(line, X, Y, method=short(name, draws=4, thin=3), seed=1)
    assert torch.equal(third.draws["w"], every.draws["w"][:, 2::3])
    assert torch.equal(third.sample_stats["lp"], every.sample_stats["lp"][:, 2::3])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_draws_are_kept_in_the_wanted_precision(dtype, fast_engine):
    plain = infer(line, X, Y, method=short("HMC"), seed=1)
    posterior = infer(line, X, Y, method=short("HMC", dtype=dtype), seed=1)
    assert all(v.dtype == getattr(torch, dtype) for v in posterior.draws.values())
    tolerance = 2e-3 if dtype == "float16" else 1e-6
    torch.testing.assert_close(posterior.draws["w"].float(), plain.draws["w"], rtol=tolerance, atol=tolerance)
    assert posterior.predictive(X).mean.isfinite().all()


# Models that are refused


def test_models_with_parameters_or_nothing_to_sample_are_refused():
    def parameter(x, y=None):
        w = pyro.sample("w", dist.Normal(pyro.param("p", torch.tensor(0.0)), 1.0))
        return pyro.sample("y", dist.Normal(w * x[:, 0], 1.0).to_event(1), obs=y)

    def nothing(x, y=None):
        return pyro.sample("y", dist.Normal(x[:, 0], 1.0).to_event(1), obs=y)

    with pytest.raises(ValueError, match=r"expected a model without parameters .*, got \('p',\)"):
        infer(parameter, X, Y, method=short("HMC"))
    with pytest.raises(ValueError, match="expected a model with latent sites to sample, got none: fit it by SVI"):
        infer(nothing, X, Y, method=short("HMC"))
