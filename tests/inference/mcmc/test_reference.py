"""Pyro's kernels behind `infer`: against closed forms and published posteriors, and every statistic of them."""

import json
import os
from pathlib import Path

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import infer
from posterity.inference.mcmc import reference
from posterity.inference.mcmc.reference import HMC, NUTS

GENERATOR = torch.Generator().manual_seed(0)
ROWS, NOISE, PRIOR_SD = 30, 0.5, 2.0
# Correlated columns of different spread, so that warm-up has something to learn.
MIX = torch.tensor([[1.0, 0.6, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 3.0]], dtype=torch.double)
X = torch.randn(ROWS, 3, generator=GENERATOR, dtype=torch.double) @ MIX
TRUTH = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)
Y = X @ TRUTH + NOISE * torch.randn(ROWS, generator=GENERATOR, dtype=torch.double)
PRECISION = X.T @ X / NOISE**2 + torch.eye(3) / PRIOR_SD**2
COVARIANCE = torch.linalg.inv(PRECISION)
MEAN = COVARIANCE @ X.T @ Y / NOISE**2


def linear(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(3), PRIOR_SD).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


SAMPLERS = {
    "NUTS": NUTS(draws=600, warmup=250, chains=2, progress=False),
    "HMC, dense mass": HMC(draws=800, warmup=300, chains=2, trajectory_length=1.8, dense_mass=True, progress=False),
}


@pytest.fixture(scope="module", params=list(SAMPLERS))
def sampled(request):
    torch.manual_seed(0)
    return SAMPLERS[request.param], infer(linear, X, Y, method=SAMPLERS[request.param], seed=1)


def standard_errors(draws, truth, truth_error=0.0):
    """How many standard errors of the mean a marginal lies from the truth, after 400 effective draws are required."""
    draws = np.asarray(draws, dtype=float)
    assert az.ess(draws) >= 400
    assert az.rhat(draws) < 1.02
    return abs(draws.mean() - float(truth)) / np.hypot(az.mcse(draws), truth_error)


def test_the_posterior_of_linear_regression_is_the_closed_form(sampled):
    """Means within 5 Monte Carlo standard errors, sd within 10 % (3 standard errors at 400 draws); seed 1."""
    _, posterior = sampled
    w = posterior.draws["w"]
    assert w.dtype == torch.double
    for i in range(3):
        assert standard_errors(w[..., i], MEAN[i]) < 5
        np.testing.assert_allclose(w[..., i].std(), COVARIANCE[i, i].sqrt(), rtol=0.1)
    correlation = torch.corrcoef(w.flatten(0, 1).T)[0, 1]
    exact = COVARIANCE[0, 1] / (COVARIANCE[0, 0] * COVARIANCE[1, 1]).sqrt()
    assert abs(correlation - exact) < 0.1


def test_the_log_density_is_the_joint_of_model_and_data(sampled):
    _, posterior = sampled
    w = posterior.draws["w"]
    normal = torch.distributions.Normal
    prior = normal(torch.zeros(3).double(), PRIOR_SD).log_prob(w).sum(-1)
    likelihood = normal(w @ X.T, NOISE).log_prob(Y).sum(-1)
    np.testing.assert_allclose(posterior.sample_stats["lp"], prior + likelihood, rtol=1e-10)


def test_the_energy_is_the_accepted_points_and_its_momentum_is_normal(sampled):
    """Kinetic energy in three dimensions is half a chi squared of 3: mean 3/2 and variance 3/2; 5 standard errors."""
    _, posterior = sampled
    stats = posterior.sample_stats
    kinetic = np.asarray(stats["energy"] + stats["lp"], dtype=float)
    assert (kinetic >= 0).all()
    assert abs(kinetic.mean() - 1.5) < 5 * az.mcse(kinetic)
    assert abs(kinetic.var() - 1.5) < 5 * az.mcse((kinetic - 1.5) ** 2)


def test_the_other_statistics_mean_what_they_say(sampled):
    method, posterior = sampled
    stats = posterior.sample_stats
    shape = (method.chains, method.draws)
    assert all(value.shape == shape for value in stats.values())
    expected = {"lp", "energy", "n_steps", "acceptance_rate", "step_size", "diverging"}
    assert set(stats) == expected | ({"tree_depth"} if isinstance(method, NUTS) else set())
    assert stats["diverging"].dtype == torch.bool
    assert not stats["diverging"].any()
    assert ((stats["acceptance_rate"] >= 0) & (stats["acceptance_rate"] <= 1)).all()
    # Dual averaging overshoots its target on a normal, as it is known to.
    assert 0.7 < stats["acceptance_rate"].mean() < 0.97
    assert (stats["step_size"] == stats["step_size"][:, :1]).all()
    assert (stats["step_size"] > 0).all()
    if isinstance(method, NUTS):
        assert (stats["n_steps"] <= 2 ** stats["tree_depth"] - 1).all()
        assert (stats["n_steps"] >= 2 ** (stats["tree_depth"] - 1)).all()
    else:
        steps = method.trajectory_length / stats["step_size"]
        assert (stats["n_steps"] - steps).abs().max() <= 1
        still = (posterior.draws["w"][:, 1:] == posterior.draws["w"][:, :-1]).all(-1)
        # A rejected trajectory stays where it was, so as many stay as are not accepted; 5 standard errors.
        rejected = 1 - stats["acceptance_rate"].mean()
        assert abs(still.double().mean() - rejected) < 5 * (rejected / still.numel()) ** 0.5


def test_energy_and_acceptance_of_a_trajectory_are_those_of_leapfrog():
    """On a normal (sd 1.5) leapfrog is a matrix, so the momentum at both ends follows from the two positions."""

    def model(y=None):
        z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.5).to_event(1))
        return pyro.sample("y", dist.Normal(0.0 * z.sum(), 1.0), obs=y)

    method = HMC(draws=100, warmup=0, chains=1, trajectory_length=2.5, progress=False)
    posterior = infer(model, torch.zeros(()).double(), method=method)
    stats = {name: value[0] for name, value in posterior.sample_stats.items()}
    step, steps = stats["step_size"][0].item(), int(stats["n_steps"][0])
    half, drift = torch.tensor([[1, 0], [-step / 2 / 1.5**2, 1]]), torch.tensor([[1, step], [0, 1]])
    (a, b), (c, d) = torch.linalg.matrix_power((half @ drift @ half).double(), steps)
    z = posterior.draws["z"][0]
    before, after = z[:-1], z[1:]
    first = (after - a * before) / b  # the momentum at the start
    last = c * before + d * first
    change = 0.5 * ((after**2 - before**2) / 1.5**2 + last**2 - first**2).sum(-1)
    moved = (before != after).any(-1)
    assert 20 < moved.sum() < 99  # the step is long enough to be refused at times
    kinetic = (stats["energy"] + stats["lp"])[1:]
    torch.testing.assert_close(kinetic[moved], 0.5 * (last**2).sum(-1)[moved], rtol=1e-6, atol=1e-6)
    accepted = (-change).exp().clamp(max=1.0)
    torch.testing.assert_close(stats["acceptance_rate"][1:][moved], accepted[moved], rtol=1e-6, atol=1e-6)


def test_a_higher_target_makes_smaller_steps():
    rates, sizes = [], []
    for target in (0.6, 0.95):
        method = NUTS(draws=100, warmup=100, chains=1, target_accept=target, progress=False)
        stats = infer(linear, X, Y, method=method).sample_stats
        rates.append(stats["acceptance_rate"].mean())
        sizes.append(stats["step_size"].mean())
    assert rates[1] > rates[0] + 0.1
    assert sizes[1] < sizes[0]


def test_trees_stop_at_the_greatest_depth():
    method = NUTS(draws=20, warmup=0, chains=1, max_tree_depth=2, progress=False)
    stats = infer(linear, X, Y, method=method).sample_stats
    assert stats["n_steps"].max() <= 3
    assert stats["tree_depth"].max() <= 2


@pytest.mark.slow
def test_divergences_are_counted_where_the_step_is_too_long():
    """Neal's funnel, whose neck no step size fits. About one chain in four never enters it: there are four."""

    def funnel(y=None):
        v = pyro.sample("v", dist.Normal(0.0, 9.0))
        pyro.sample("x", dist.Normal(torch.zeros(9), (v / 2).exp()).to_event(1))
        return pyro.sample("y", dist.Normal(v, 100.0), obs=y)

    method = NUTS(draws=150, warmup=150, chains=4, target_accept=0.5, max_tree_depth=5, progress=False)
    assert infer(funnel, torch.tensor([0.0]).squeeze(), method=method).sample_stats["diverging"].any()


SHORT = {
    "NUTS": NUTS(draws=5, warmup=5, progress=False),
    "HMC": HMC(draws=5, warmup=5, progress=False),
}


def short(name, **changes):
    return type(SHORT[name])(**{"draws": 5, "warmup": 5, "progress": False, **changes})


@pytest.mark.parametrize("name", SHORT)
def test_a_chain_does_not_depend_on_how_many_there_are(name):
    one = infer(linear, X, Y, method=short(name, chains=1), seed=4)
    three = infer(linear, X, Y, method=short(name, chains=3), seed=4)
    assert torch.equal(one.draws["w"][0], three.draws["w"][0])
    assert torch.equal(one.sample_stats["energy"][0], three.sample_stats["energy"][0])
    assert not torch.equal(three.draws["w"][0], three.draws["w"][1])


def test_recorded_and_plain_potential_give_the_same_chain():
    recorded, plain = (infer(linear, X, Y, method=short("NUTS", chains=1, capture=c), seed=2) for c in (True, False))
    torch.testing.assert_close(recorded.draws["w"], plain.draws["w"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("init", ["prior", "uniform", "median"])
def test_starts_by_name(init):
    assert infer(linear, X, Y, method=short("NUTS", chains=1, init=init)).draws["w"].isfinite().all()


def test_constrained_sites_are_in_the_space_of_the_model():
    """s ~ Gamma(3, 2) alone (the datum says nothing): mean 3/2, sd sqrt(3)/2; and lp has the Jacobian, log s."""

    def model(y=None):
        s = pyro.sample("s", dist.Gamma(torch.tensor(3.0).double(), torch.tensor(2.0).double()))
        return pyro.sample("y", dist.Normal(0.0 * s, 1.0), obs=y)

    posterior = infer(model, torch.zeros(()).double(), method=NUTS(draws=1500, warmup=200, progress=False))
    s = posterior.draws["s"]
    assert (s > 0).all()
    assert standard_errors(s, 1.5) < 5
    np.testing.assert_allclose(s.std(), 3**0.5 / 2, rtol=0.15)
    gamma = torch.distributions.Gamma(3.0, 2.0)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(0.0))
    np.testing.assert_allclose(posterior.sample_stats["lp"], gamma.log_prob(s) + s.log() + normal, rtol=1e-4)


# Interrupts


def interrupt_at(monkeypatch, calls):
    """A keyboard interrupt instead of transition number ``calls``."""
    transition, count = reference._NUTSKernel.transition, iter(range(10_000))

    def stop(self, parameters):
        if next(count) == calls:
            raise KeyboardInterrupt
        return transition(self, parameters)

    monkeypatch.setattr(reference._NUTSKernel, "transition", stop)


@pytest.mark.parametrize(
    ("calls", "shape"), [(8, (1, 3)), (10, (1, 5)), (12, (1, 5)), (27, (2, 5))], ids=["1st", "warm-up", "w2", "3rd"]
)
def test_an_interrupt_keeps_what_is_made(monkeypatch, calls, shape):
    """In the first chain its draws so far; later, the chains that are whole."""
    whole = infer(linear, X, Y, method=short("NUTS", chains=3), seed=4)
    interrupt_at(monkeypatch, calls)
    said = rf"reference.NUTS was interrupted and returns {shape[1]} of 5 draws of {shape[0]} of 3 chains\. Run it again"
    with pytest.warns(RuntimeWarning, match=said) as caught:
        posterior = infer(linear, X, Y, method=short("NUTS", chains=3), seed=4)
    assert [one.filename for one in caught if "interrupted" in str(one.message)] == [__file__]
    assert posterior.draws["w"].shape[:2] == shape
    assert torch.equal(posterior.draws["w"], whole.draws["w"][: shape[0], : shape[1]])
    assert posterior.sample_stats["lp"].shape == shape
    assert posterior.attrs["interrupted"] == 1


def test_an_interrupt_before_the_first_draw_goes_on(monkeypatch):
    interrupt_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt, match="before the first draw"):
        infer(linear, X, Y, method=short("NUTS", chains=3))


def test_an_interrupt_while_a_later_chain_is_set_up_keeps_the_first(monkeypatch):
    kernel, count = NUTS.kernel, iter(range(10))

    def stop(self, model, args):
        if next(count) == 1:
            raise KeyboardInterrupt
        return kernel(self, model, args)

    monkeypatch.setattr(reference._ReferenceSampler, "kernel", stop)
    with pytest.warns(RuntimeWarning, match="was interrupted and returns 5 of 5 draws of 1 of 3 chains"):
        posterior = infer(linear, X, Y, method=short("NUTS", chains=3))
    assert posterior.draws["w"].shape[:2] == (1, 5)
    assert posterior.attrs["interrupted"] == 1


def test_global_state_is_given_back_after_an_interrupt(monkeypatch):
    interrupt_at(monkeypatch, 8)
    state = torch.get_rng_state()
    with pytest.warns(RuntimeWarning, match="was interrupted and returns"):
        infer(linear, X, Y, method=short("NUTS"))
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(pyro.get_param_store())


# What is refused


@pytest.mark.parametrize("family", [NUTS, HMC])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "expected draws to be a whole number of 1 or more, got 0"),
        ({"warmup": -1}, "expected warmup to be a whole number of 0 or more, got -1"),
        ({"chains": 0}, "expected chains to be a whole number of 1 or more, got 0"),
        ({"target_accept": 1.0}, r"expected target_accept to be a number in \(0, 1\), got 1.0"),
        ({"init": "zero"}, "expected init to be one of .*, got 'zero'"),
    ],
)
def test_bad_settings_raise(family, settings, message):
    with pytest.raises(ValueError, match=message):
        family(**settings)


def test_a_tree_or_trajectory_of_no_length_raises():
    with pytest.raises(ValueError, match="expected max_tree_depth to be a whole number of 1 or more, got 0"):
        NUTS(max_tree_depth=0)
    with pytest.raises(ValueError, match=r"expected trajectory_length to be a finite number above 0, got 0.0"):
        HMC(trajectory_length=0.0)


def test_a_model_with_nothing_to_sample_raises():
    def model(y=None):
        return pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    with pytest.raises(ValueError, match="expected a model with latent sites to sample, got none: fit it by SVI"):
        infer(model, torch.tensor(0.0), method=SHORT["NUTS"])


def test_a_model_with_parameters_raises():
    def model(y=None):
        w = pyro.sample("w", dist.Normal(pyro.param("p", torch.tensor(0.0)), 1.0))
        return pyro.sample("y", dist.Normal(w, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected a model without parameters .*, got \('p',\)"):
        infer(model, torch.tensor(0.0), method=SHORT["NUTS"])


# Reference posteriors (posteriordb): mean and sd of 10,000 near-independent draws


def reference_posterior(name):
    folder = os.environ.get("POSTERITY_DATA")
    path = Path(folder, "posterior_references.json") if folder else None
    if path is None or not path.exists():
        pytest.skip("POSTERITY_DATA names no folder with posterior_references.json")
    entry = json.loads(path.read_text())[name]
    return entry["data"], entry["reference"]


@pytest.mark.slow
def test_eight_schools_is_the_reference():
    data, published = reference_posterior("eight_schools-eight_schools_noncentered")

    def model(sigma, y=None):
        mu = pyro.sample("mu", dist.Normal(sigma.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(sigma.new_tensor(5.0)))
        with pyro.plate("school", len(sigma)):
            raw = pyro.sample("raw", dist.Normal(sigma.new_zeros(()), 1.0))
            theta = pyro.deterministic("theta", mu + tau * raw)
            return pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    sigma, y = (torch.tensor(data[name], dtype=torch.double) for name in ("sigma", "y"))
    method = NUTS(draws=1000, warmup=500, chains=2, target_accept=0.9, progress=False)
    posterior = infer(model, sigma, y, method=method, seed=0)
    theta = posterior.draws["mu"][..., None] + posterior.draws["tau"][..., None] * posterior.draws["raw"]
    found = {"mu": posterior.draws["mu"], "tau": posterior.draws["tau"]}
    found |= {f"theta[{j + 1}]": theta[..., j] for j in range(8)}
    for name, values in found.items():
        truth = published[name]
        assert standard_errors(values, truth["mean"], truth["sd"] / 100) < 5, name
        np.testing.assert_allclose(values.std(), truth["sd"], rtol=0.15)


@pytest.mark.slow
def test_kidiq_is_the_reference():
    data, published = reference_posterior("kidiq-kidscore_momiq")

    def model(iq, y=None):
        beta = pyro.sample("beta", dist.Normal(iq.new_zeros(2), 1e4).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfCauchy(iq.new_tensor(2.5)))
        with pyro.plate("child", len(iq)):
            return pyro.sample("y", dist.Normal(beta[0] + beta[1] * iq, sigma), obs=y)

    iq, y = (torch.tensor(data[name], dtype=torch.double) for name in ("mom_iq", "kid_score"))
    method = NUTS(draws=500, warmup=700, chains=2, dense_mass=True, init="uniform", progress=False)
    posterior = infer(model, iq, y, method=method, seed=0)
    beta = posterior.draws["beta"]
    found = {"beta[1]": beta[..., 0], "beta[2]": beta[..., 1], "sigma": posterior.draws["sigma"]}
    for name, values in found.items():
        truth = published[name]
        assert standard_errors(values, truth["mean"], truth["sd"] / 100) < 5, name
        np.testing.assert_allclose(values.std(), truth["sd"], rtol=0.1)
