"""Step sizes from energy errors, autocorrelation times, and the decoherence length."""

import math

import arviz
import pytest
import torch

from posterity.inference.mcmc.energy_variance import EnergyVariance, autocorrelation_times, decoherence

GENERATOR = torch.Generator().manual_seed(0)


def none(count):
    zeros = torch.zeros(count, dtype=torch.double) if count else torch.zeros((), dtype=torch.double)
    return EnergyVariance(zeros, zeros)


def test_the_step_size_has_the_desired_energy_variance():
    """Errors of variance (step / best)^6: the estimate is within 2 % of ``best`` after 100 updates, and stays."""
    best = torch.tensor([0.3, 1.0, 2.5]).double()
    estimate, sizes = none(3), torch.ones(3).double()
    for _ in range(100):
        normals = torch.randn(3, 200, dtype=torch.double, generator=GENERATOR)
        ratio = (sizes / best) ** 6 * (normals**2).mean(1)
        estimate = estimate.updated(ratio, sizes, 1)
        sizes = estimate.log_step().exp()
    torch.testing.assert_close(sizes, best, rtol=0.02, atol=0)


def test_one_estimate_takes_the_mean_over_chains():
    found = none(0).updated(torch.tensor([1.0, 3.0]).double(), torch.tensor([1.0, 1.0]).double(), 5)
    assert float(found.log_step()) == pytest.approx(-math.log(2) / 6)


def test_one_update_changes_a_step_size_by_a_bounded_factor():
    for ratio in (0.0, math.inf, math.nan):
        found = none(1).updated(torch.tensor([ratio]).double(), torch.ones(1).double(), 1)
        limit = 1000 ** (1 / 6)
        assert float(found.log_step().exp()) == pytest.approx(limit if ratio == 0 else 1 / limit)


def test_an_estimate_remembers_150_steps_however_they_are_counted():
    """After 75 steps the first ratio has the weight exp(-1), as (149 / 151)^75."""
    size = torch.ones(1).double()
    for steps in (1, 5, 75):
        estimate = none(1).updated(torch.full((1,), 100.0).double(), size, steps)
        for _ in range(75 // steps):
            estimate = estimate.updated(torch.full((1,), 0.01).double(), size, steps)
        assert float(estimate.total) == pytest.approx(100 * math.exp(-1), rel=0.02)


def test_a_long_memory_has_twenty_updates():
    """An update of 1,000 steps forgets all but the last, or keeps 95 % of those before."""
    size = torch.ones(1).double()
    for long, kept in ((False, 0.0), (True, 0.95)):
        estimate = none(1).updated(torch.full((1,), 4.0).double(), size, 1000, long=long)
        estimate = estimate.updated(torch.full((1,), 1.0).double(), size, 1000, long=long)
        assert float(estimate.total) == pytest.approx(1 + 4 * kept, abs=1e-3)


def autoregressive(rho, chains=16, draws=4000):
    x = [torch.randn(chains, 2, dtype=torch.double, generator=GENERATOR)]
    for _ in range(draws - 1):
        noise = torch.randn(chains, 2, dtype=torch.double, generator=GENERATOR)
        x.append(rho * x[-1] + (1 - rho**2) ** 0.5 * noise)
    return torch.stack(x, 1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("pooling", ["within", "across"])
def test_autocorrelation_times_of_an_autoregressive_process(rho, pooling):
    """(1 + rho) / (1 - rho), within 7 % of 64,000 draws (five times the spread of ten seeds); and ArviZ's."""
    draws = autoregressive(rho)
    known = (1 + rho) / (1 - rho)
    times = autocorrelation_times(draws, pooling)
    torch.testing.assert_close(times, torch.full((2,), known).double(), rtol=0.07, atol=0.03)
    ess = arviz.ess(draws[..., 0].numpy(), method="mean")
    assert float(times[0]) == pytest.approx(16 * 4000 / ess, rel=0.05)


def test_the_decoherence_length_is_a_share_of_the_path_for_one_independent_draw():
    """0.4 * path * time if the draws are autocorrelated, else the size; and never more than twice the size."""
    slow, fast = autoregressive(0.8), autoregressive(0.2)
    time = float(autocorrelation_times(slow).median())
    assert decoherence(slow, 2.0, 0.5, "within") == pytest.approx(0.4 * 0.5 * time)
    assert decoherence(fast, 3.0, 0.5, "within") == 3.0
    assert decoherence(slow, 3.0, 100.0, "within") == 6.0
