"""`MCLMC`: its bias on known posteriors, exactness of the adjusted form, tuning, statistics, and settings.

Bounds of the bias are those of the docstring. Reference posteriors are compared with the published mean and sd of
10,000 draws: at 16 x 4,000 draws, of which 15,000 or more count as effective, the Monte-Carlo error of both together is
0.013 sd of a mean and 1 % of an sd (1.5 % where tails are heavy); the largest of 45 parameters is compared.
"""

import math
from types import SimpleNamespace

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import MCLMC, Blocks, infer
from posterity.inference.engine import Engine
from posterity.inference.mcmc.kernel import State
from posterity.inference.mcmc.microcanonical import AdjustedKernel, UnadjustedKernel
from posterity.inference.mcmc.streams import BEFORE, Streams
from posterity.inference.mcmc.warnings import find_problems
from tests.inference.mcmc.cases import COMMON, X, Y, line, same
from tests.inference.mcmc.reference_models import NAMES, distances, reference
from tests.inference.mcmc.reference_panel import panel_reference
from tests.inference.mcmc.test_warnings import WELL, statistics

QUIET = {"progress": False, "threads": 1}


def normal_engine(dim, chains, scale=1.0):
    """Independent normals of standard deviations ``scale``."""
    density = SimpleNamespace(dim=dim, dtype=torch.double, device=torch.device("cpu"))
    precision = torch.full((dim,), 1.0).double() / scale**2
    return Engine(density, chains, "eager", lambda q: (-0.5 * (q**2 * precision).sum(-1), -q * precision))


def sample_normal(dim, draws, *, chains=64, warmup=100, scale=1.0, **settings):
    """A kernel after ``warmup`` iterations of adaptation, and draws (chain, draw, dim) from the stationary start."""
    engine = normal_engine(dim, chains, scale)
    kernel = MCLMC(chains=chains, warmup=warmup, **settings).kernel(engine)
    q = scale * torch.randn(chains, dim, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    value, grad = engine.gradient(q)
    state, streams = State(q, grad, value), Streams(0, chains, dim, torch.double)
    kernel.choose_step_sizes(state, streams.numbers(BEFORE).normals())
    made, found = [], []
    for iteration in range(warmup + draws):
        state, one = kernel.transition(state, streams.numbers(iteration), iteration)
        if iteration < warmup:
            state = kernel.adapt(state, one)
        else:
            made.append(engine.positions(state.q))
            found.append(one)
    return kernel, torch.stack(made, 1), {name: torch.stack([one[name] for one in found], 1) for name in found[0]}


def variance(draws):
    """The mean square over coordinates, and its standard error from independent chains."""
    of_chains = (draws**2).mean((1, 2))
    return float(of_chains.mean()), float(of_chains.std()) / len(of_chains) ** 0.5


# The bias of unadjusted draws


@pytest.mark.parametrize("dim", [10, 100])
def test_the_variance_of_a_normal_is_too_small_by_two_per_cent(dim):
    """Between 0.5 % and 3 %, beyond 5 standard errors of 64 x 150 draws; the energy errors are those asked for."""
    _, draws, found = sample_normal(dim, 150)
    mean, error = variance(draws)
    assert error < 0.004
    assert 0.97 < mean < 0.995 + 5 * error
    assert float((found["energy_error"] ** 2).mean()) / dim == pytest.approx(5e-4, rel=0.3)


def test_the_bias_falls_with_the_energy_variance():
    """As its cube root, like the square of the step size: 100 times less energy variance, 4.6 times less bias.

    The tolerance of 40 % is 3 standard errors of the smaller bias.
    """
    draws = [sample_normal(100, 100, chains=256, energy_variance=v)[1] for v in (5e-4, 5e-6)]
    biases = [1 - variance(one)[0] for one in draws]
    assert biases[0] / biases[1] == pytest.approx(100 ** (1 / 3), rel=0.4)


PANEL = (*NAMES, "garch", "gp_regr", "gauss_mix")


@pytest.mark.slow
@pytest.mark.parametrize("name", PANEL)
def test_reference_posteriors_are_biased_by_no_more_than_the_docstring_says(name):
    known = reference(name) if name in NAMES else panel_reference(name)
    method = MCLMC(chains=16, draws=4000, **QUIET)
    posterior = infer(known.model, *known.args, method=method, seed=0)
    assert posterior.attrs["engine"] == "lanes"
    found = {parameter: draws.double().numpy() for parameter, draws in known.parameters(posterior.draws).items()}
    means = [abs(found[p].mean() - one["mean"]) / one["sd"] for p, one in known.published.items()]
    assert max(means) < 0.04
    result = distances(found, known.published)
    assert result["max_sd_ratio_error"] < 0.04
    assert result["min_ess"] > 15_000
    assert not posterior.sample_stats["diverging"].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_adjusted_draws_have_the_published_moments(name):
    """Means within 5 standard errors, sds within 5 % and 5 of theirs, as for HMC and NUTS; seed 0."""
    known = reference(name)
    method = MCLMC(adjusted=True, chains=32, draws=1000, **QUIET)
    posterior = infer(known.model, *known.args, method=method, seed=0)
    found = {parameter: draws.double().numpy() for parameter, draws in known.parameters(posterior.draws).items()}
    result = distances(found, known.published)
    assert result["max_z"] < 5
    assert result["max_sd_ratio_error"] < 0.05
    assert result["max_sd_z"] < 5
    assert result["min_ess"] > 1000


# The adjusted form


@pytest.mark.parametrize("dim", [2, 3, 30])
def test_adjusted_draws_of_a_normal_have_its_variance(dim):
    """Within 5 standard errors of 64 x 200 draws; one is 0.015 at most."""
    _, draws, _ = sample_normal(dim, 200, adjusted=True, warmup=60)
    mean, error = variance(draws)
    assert error < 0.015
    assert abs(mean - 1) < 5 * error


def test_an_acceptance_is_that_of_the_energy_error():
    kernel, _, found = sample_normal(5, 100, adjusted=True, step_size=4.0, warmup=0)
    assert isinstance(kernel, AdjustedKernel)
    torch.testing.assert_close(found["acceptance_rate"], (-found["energy_error"]).clamp(max=0).exp())
    refused = found["lp"][:, 1:] == found["lp"][:, :-1]
    expected = float((1 - found["acceptance_rate"][:, 1:]).mean())
    assert expected > 0.05
    assert float(refused.double().mean()) == pytest.approx(expected, abs=5 * (expected / refused.numel()) ** 0.5)


def test_lengths_are_spread_about_the_decoherence_length_and_equal_for_all_chains():
    kernel, _, found = sample_normal(4, 63, adjusted=True, step_size=0.1, decoherence_length=3.0, warmup=0)
    steps = found["n_steps"]
    assert (steps == steps[:1]).all()
    assert (int(steps.min()), int(steps.max())) == (15, 45)
    assert float(steps.double().mean()) == pytest.approx(30, abs=0.3)
    kernel.log_steps = kernel.log_steps.clone()
    kernel.log_steps[0] -= math.log(5)
    first, second = kernel.steps_of(0)[:2].tolist()
    assert (first, second) == (150, 30)


# Tuning


@pytest.mark.parametrize("adjusted", [False, True])
def test_the_length_is_that_of_the_posterior_in_units_of_its_metric(adjusted):
    """A normal of sd 0.01 in 40 dimensions: √40 in the metric, or a quarter of an orbit; within 15 %."""
    kernel, draws, _ = sample_normal(40, 20, scale=0.01, adjusted=adjusted, warmup=150)
    assert math.exp(kernel.log_length) == pytest.approx(40**0.5 * (math.pi / 2 if adjusted else 1), rel=0.15)
    assert float(draws.std()) == pytest.approx(0.01, rel=0.1)


def test_a_given_length_stays():
    kernel, _, _ = sample_normal(5, 1, decoherence_length=1.5, warmup=80)
    assert math.exp(kernel.log_length) == pytest.approx(1.5)


def test_a_transition_is_a_path_of_the_decoherence_length():
    kernel, _, found = sample_normal(5, 2, step_size=0.1, decoherence_length=1.5, warmup=0)
    assert (found["n_steps"] == 15).all()
    assert kernel.steps == 15
    _, _, found = sample_normal(5, 2, step_size=0.1, steps=3, warmup=0)
    assert (found["n_steps"] == 3).all()


def test_chains_far_from_the_typical_set_arrive():
    """From 10,000 standard deviations away, in 100 iterations of warm-up."""

    def far(y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(8).double(), 1.0).to_event(1))
        return pyro.sample("y", dist.Normal(0.0 * w.sum(), 1.0), obs=y)

    method = MCLMC(
        chains=8, warmup=100, draws=100, init={"w": torch.full((8,), 1e4).double()}, engine="replay", **QUIET
    )
    draws = infer(far, torch.zeros(()).double(), method=method, seed=0).draws["w"]
    assert abs(float(draws.mean())) < 0.2
    assert float(draws.std()) == pytest.approx(1, abs=0.15)


# Divergences


def test_a_step_to_a_state_that_is_not_finite_is_undone():
    """A slab of width 2 in 3 dimensions, nan outside: all states are inside, with their own density, and move on."""
    density = SimpleNamespace(dim=3, dtype=torch.double, device=torch.device("cpu"))

    def inside(q):
        nan = torch.where(q.abs().amax(-1) < 1, 0.0, torch.nan)
        return nan, torch.zeros_like(q) + nan[:, None]

    kernel = MCLMC(chains=9, warmup=0, step_size=0.4, steps=5, decoherence_length=2.0).kernel(
        Engine(density, 9, "eager", inside)
    )
    q = torch.zeros(9, 3).double()
    state, streams, seen = State(q, torch.zeros_like(q), torch.zeros(9).double()), Streams(0, 9, 3, torch.double), []
    for iteration in range(300):
        before = state.q
        state, found = kernel.transition(state, streams.numbers(iteration), iteration)
        assert bool((state.q.abs() < 1).all())
        assert bool(torch.isfinite(state.grad).all())
        assert bool((kernel.direction.norm(dim=-1) - 1).abs().max() < 1e-12)
        seen.append((found["diverging"], (state.q != before).any(-1)))
    diverging, moved = (torch.stack(parts).double().mean() for parts in zip(*seen, strict=True))
    assert 0.2 < float(diverging) < 0.95
    assert float(moved) > 0.9


def test_an_energy_error_above_the_limit_is_a_divergence_and_undone():
    kernel, _, found = sample_normal(5, 50, step_size=30.0, max_energy_error=1.0, warmup=0)
    assert isinstance(kernel, UnadjustedKernel)
    assert float(found["diverging"].double().mean()) > 0.5
    assert float(found["energy_error"].max()) <= math.inf
    assert bool(torch.isfinite(found["lp"]).all())


# Statistics, warnings, blocks


@pytest.mark.parametrize("adjusted", [False, True])
def test_statistics_have_their_names(adjusted):
    method = MCLMC(**{**COMMON, "draws": 30, "warmup": 40}, adjusted=adjusted)
    posterior = infer(line, X, Y, method=method, seed=0)
    names = {"lp", "energy_error", "n_steps", "step_size", "diverging"} | ({"acceptance_rate"} if adjusted else set())
    assert set(posterior.sample_stats) == names
    assert all(value.shape == (3, 30) for value in posterior.sample_stats.values())
    data = posterior.to_arviz(X, Y)
    assert set(data.sample_stats.data_vars) == names
    assert posterior.attrs["method"] == "MCLMC"
    assert f"adjusted={adjusted}" in posterior.attrs["settings"]
    assert "acceptance" not in posterior.attrs["warnings"]
    assert posterior.attrs["gradients"] - posterior.attrs["warmup_gradients"] == 2 * int(
        posterior.sample_stats["n_steps"].sum()
    )


def test_the_energy_error_is_the_root_of_the_mean_square_over_steps():
    """Of two transitions with one step each and one with two, from the same random numbers of the first step."""
    _, _, one = sample_normal(5, 1, steps=1, step_size=1.0, decoherence_length=1e9, warmup=0)
    _, _, two = sample_normal(5, 1, steps=2, step_size=1.0, decoherence_length=1e9, warmup=0)
    first = one["energy_error"][:, 0]
    assert bool((two["energy_error"][:, 0] > first / 2**0.5 - 1e-6).all())


def test_divergences_of_unadjusted_draws_get_their_own_advice():
    found = statistics(diverging=torch.ones(4, 100, dtype=torch.bool))
    found.pop("acceptance_rate")
    (said,) = find_problems(found, WELL, MCLMC())
    assert "lower energy_variance from 0.0005 to 5e-05, or set adjusted=True" in said
    assert "target_accept" not in said
    (said,) = find_problems(found, WELL, MCLMC(adjusted=True))
    assert "target_accept" in said


def test_blocks_run_it():
    method = Blocks(MCLMC(**{**COMMON, "chains": 4}), blocks=2, jobs=1)
    one, two = (infer(line, X, Y, method=method, seed=0) for _ in range(2))
    assert one.draws["w"].shape == (4, 12)
    assert same(one, two)


@pytest.mark.parametrize("adjusted", [False, True])
def test_other_data_begin_with_the_adaptation(adjusted):
    method = MCLMC(**{**COMMON, "warmup": 60}, adjusted=adjusted)
    first = infer(line, X, Y, method=method, seed=0)
    second = first.update(X, Y + 0.1, warmup=0, draws=4)
    ends = [one.continuation.content["kernel"] for one in (first, second)]
    assert ends[0]["log_length"] == ends[1]["log_length"]
    assert torch.equal(*(one.sample_stats["step_size"][:, 0] for one in (first, second)))


# Settings


def single(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0], 1.0), obs=y)


def test_one_dimension_has_no_directions():
    with pytest.raises(ValueError, match="expected a model with at least 2 latent dimensions for MCLMC, got 1"):
        infer(single, X, Y, method=MCLMC(**COMMON))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adjusted": 1}, "expected adjusted to be True or False, got 1"),
        ({"energy_variance": 0.0}, "expected energy_variance to be a finite number above 0, got 0.0"),
        ({"decoherence_length": -1.0}, "expected decoherence_length to be a finite number above 0, got -1.0"),
        ({"steps": 0}, "expected steps to be a whole number of 1 or more, got 0"),
        ({"integrator": "euler"}, "expected integrator to be one of 'leapfrog', 'minimal_norm', got 'euler'"),
        ({"adjusted": True, "steps": 5}, "expected steps to be None with adjusted=True, .* got 5"),
        ({"target_accept": 0.9}, "expected target_accept to be None unless adjusted=True, .* got 0.9"),
    ],
)
def test_bad_settings_of_mclmc_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MCLMC(**settings)


# Correlation


@pytest.mark.parametrize("metric", ["diagonal", "dense"])
def test_correlated_normals_in_either_metric(metric):
    """Correlation 0.95: mean within 5 standard errors, sds within 4 % and 5 standard errors."""
    covariance = torch.tensor([[1.0, 0.95], [0.95, 1.0]]).double()

    def model(y=None):
        w = pyro.sample("w", dist.MultivariateNormal(torch.zeros(2).double(), covariance))
        return pyro.sample("y", dist.Normal(0.0 * w.sum(), 1.0), obs=y)

    method = MCLMC(chains=32, warmup=200, draws=300, metric=metric, **QUIET)
    w = infer(model, torch.zeros(()).double(), method=method, seed=0).draws["w"].numpy()
    for i in range(2):
        assert arviz.ess(w[..., i]) > 1000
        assert abs(w[..., i].mean()) < 5 * arviz.mcse(w[..., i])
        assert abs(w[..., i].std() - 1) < 0.04 + 5 * arviz.mcse(w[..., i], method="sd")
    assert np.corrcoef(w.reshape(-1, 2).T)[0, 1] == pytest.approx(0.95, abs=0.01)
