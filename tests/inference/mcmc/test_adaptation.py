"""Warm-up: dual averaging, the metric, trajectory lengths, and chains that sit in different modes."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, infer
from posterity.inference.mcmc.adaptation import Moments, StepSize, TrajectoryLength, halton, windows

VALUE = torch.zeros(())  # a log density that a test does not use


def test_halton_is_the_sequence():
    assert [halton(i) for i in range(5)] == [0.5, 0.25, 0.75, 0.125, 0.625]
    assert [halton(i, 3) for i in range(4)] == pytest.approx([1 / 3, 2 / 3, 1 / 9, 4 / 9])


@pytest.mark.parametrize("warmup", [20, 57, 100, 300, 1000])
def test_windows_grow_and_leave_a_part_for_the_step_size(warmup):
    first, ends = windows(warmup)
    sizes = [b - a for a, b in zip([first, *ends], ends, strict=False)]
    assert 0 < first <= warmup / 8
    assert ends == sorted(ends)
    assert ends[-1] < warmup
    assert all(later == 2 * size for size, later in itertools.pairwise(sizes[:-1]))


def test_dual_averaging_finds_the_step_of_the_target():
    """Acceptance exp(-step) and target 0.8: the step is -log 0.8. No noise, so the tolerance is that of convergence."""
    step = StepSize(0.8, math.log(0.4))  # a first step is known to a factor of two
    for _ in range(400):
        step.update(math.exp(-step.value))
    step.finish()
    assert step.value == pytest.approx(-math.log(0.8), rel=0.03)


def test_the_step_size_that_is_kept_is_the_average_since_the_last_restart():
    """Log step sizes of iterations 1, 2, ..., the t-th with weight t^-0.75 of what is left, in closed form."""
    generator = torch.Generator().manual_seed(0)
    step = StepSize(0.8, math.log(0.1))
    for _ in range(3):
        step.update(0.5)
    step.restart()
    visited = []
    for acceptance in torch.rand(50, generator=generator).tolist():
        step.update(acceptance)
        visited.append(step.log_step)
    step.finish()
    share = [t**-0.75 for t in range(1, 51)]
    weights = [s * math.prod(1 - later for later in share[i + 1 :]) for i, s in enumerate(share)]
    assert sum(weights) == pytest.approx(1)
    expected = sum(w * log_step for w, log_step in zip(weights, visited, strict=True))
    assert abs(expected - visited[-1]) > 0.05  # the last one is another
    assert math.log(step.value) == pytest.approx(expected)


@pytest.mark.parametrize("method", [HMC, NUTS])
def test_draws_are_made_with_the_averaged_step_size(method):
    """The step size of a draw is that of `StepSize.finish`, for every draw and chain."""

    def normal(y=None):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        return pyro.sample("y", dist.Normal(z.sum(), 1.0), obs=y)

    seen = []

    class Recorded(StepSize):
        def finish(self):
            before = self.log_step
            super().finish()
            seen.append((before, self.log_mean, self.log_step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posterity.inference.mcmc.kernel.StepSize", Recorded)
        settings = {"chains": 4, "warmup": 40, "draws": 5, "engine": "eager", "progress": False}
        posterior = infer(normal, torch.zeros(()), method=method(**settings), seed=0)
    [(last, averaged, kept)] = seen
    assert kept == averaged != last
    torch.testing.assert_close(posterior.sample_stats["step_size"], torch.full((4, 5), math.exp(averaged)).double())
    assert posterior.attrs["tier"] == "eager"


def test_the_metric_of_independent_normals_is_their_variance():
    """Positions and gradients of N(m, s²): s² for both, so the metric is s². 20,000 draws a coordinate: 4 sd of 1%."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.01, 1.0, 30.0])
    moments = Moments(torch.zeros(200, 3))
    for _ in range(100):
        z = torch.randn(200, 3, generator=generator)
        moments.update(5 + scale * z, -z / scale, VALUE)
    torch.testing.assert_close(moments.inverse_mass("within"), scale**2, rtol=0.05, atol=0.0)


def test_the_metric_of_correlated_normals_is_between_marginal_and_conditional():
    """The closed form sqrt(marginal variance * conditional variance) of a bivariate normal of correlation 0.95."""
    generator = torch.Generator().manual_seed(0)
    covariance = torch.tensor([[1.0, 0.95], [0.95, 1.0]])
    factor, precision = torch.linalg.cholesky(covariance), torch.linalg.inv(covariance)
    moments = Moments(torch.zeros(200, 2))
    for _ in range(100):
        q = torch.randn(200, 2, generator=generator) @ factor.T
        moments.update(q, -q @ precision, VALUE)
    expected = torch.full((2,), math.sqrt(1 - 0.95**2))
    torch.testing.assert_close(moments.inverse_mass("within"), expected, rtol=0.05, atol=0.0)


def test_moments_within_chains_do_not_see_how_far_the_modes_are_apart():
    generator = torch.Generator().manual_seed(0)
    modes = torch.tensor([-50.0, 50.0]).repeat(50)[:, None]
    moments = Moments(torch.zeros(100, 1))
    for _ in range(60):
        z = torch.randn(100, 1, generator=generator)
        moments.update(modes + z, -z, VALUE)
    assert float(moments.variance("within")) == pytest.approx(1.0, rel=0.1)
    assert float(moments.variance("across")) == pytest.approx(2501.0, rel=0.1)


def test_moments_within_chains_are_those_of_torch():
    """The median over the chains of each chain's own unbiased variance, and of all draws about their common mean."""
    q = torch.randn(50, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    moments = Moments(q[0])
    for draw in q:
        moments.update(draw, -draw, VALUE)
    torch.testing.assert_close(moments.variance("within"), q.var(0).median(0).values)
    torch.testing.assert_close(moments.variance("across"), q.flatten(0, 1).var(0))


def correlated(dim, seed=0):
    """A covariance with scales from 0.1 to 10 and strong correlations, and its inverse."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(dim, dim, generator=generator, dtype=torch.double) * torch.logspace(-1, 1, dim).double()[:, None]
    covariance = root @ root.T + 1e-3 * torch.eye(dim, dtype=torch.double)
    return covariance, torch.linalg.inv(covariance)


@pytest.mark.parametrize("chains", [1, 8])
def test_a_normal_density_has_its_covariance_after_few_draws(chains):
    """Exact up to the shrinkage of few draws, even from draws that are not those of the density.

    Positions of a walk of tiny steps: gradients deviate in proportion to them, which is all that counts. With n draws
    the log of the matrix is n / (n + 5 dim) of the exact one, in units of its diagonal estimate.
    """
    dim, count = 4, 4000
    covariance, precision = correlated(dim)
    moments = Moments(torch.zeros(chains, dim, dtype=torch.double), dense=True)
    q = torch.randn(chains, dim, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    for i in range(count):
        q = q + 1e-3 * torch.randn(chains, dim, generator=torch.Generator().manual_seed(i), dtype=torch.double)
        moments.update(q, -q @ precision, VALUE)
    found = moments.covariance("within")
    scale = covariance.diagonal().sqrt()
    torch.testing.assert_close(found / scale / scale[:, None], covariance / scale / scale[:, None], rtol=0, atol=0.05)


def test_a_chain_far_away_does_not_disturb_the_covariance():
    covariance, _ = correlated(3)
    moments = Moments(torch.zeros(6, 3, dtype=torch.double), dense=True)
    root = torch.linalg.cholesky(covariance)
    for i in range(500):
        z = torch.randn(6, 3, generator=torch.Generator().manual_seed(i), dtype=torch.double)
        q, grad = z @ root.T, -z @ root.inverse()
        q[0], grad[0] = 1e6 * q[0] + 1e9, 1e6 * grad[0]
        moments.update(q, grad, VALUE)
    scale = covariance.diagonal().sqrt()
    found = moments.covariance("within") / scale / scale[:, None]
    torch.testing.assert_close(found, covariance / scale / scale[:, None], rtol=0, atol=0.05)


def test_too_few_draws_have_no_covariance():
    moments = Moments(torch.zeros(2, 30, dtype=torch.double), dense=True)
    for i in range(20):
        q = torch.randn(2, 30, generator=torch.Generator().manual_seed(i), dtype=torch.double)
        moments.update(q, -q, VALUE)
    assert moments.covariance("within") is None
    assert Moments(torch.zeros(2, 3)).covariance("within") is None


def test_pooling_across_chains_measures_the_distance_of_their_modes():
    moments = Moments(torch.zeros(4, 2, dtype=torch.double), dense=True)
    modes = torch.tensor([[-20.0, 0.0], [20.0, 0.0], [-20.0, 0.0], [20.0, 0.0]], dtype=torch.double)
    for i in range(400):
        z = torch.randn(4, 2, generator=torch.Generator().manual_seed(i), dtype=torch.double)
        moments.update(modes + z, -z, VALUE)
    within, across = (moments.covariance(pooling) for pooling in ("within", "across"))
    assert float(within[0, 0]) == pytest.approx(1.0, rel=0.1)
    assert float(across[0, 0]) == pytest.approx(math.sqrt(401.0), rel=0.1)
    assert float(across[1, 1]) == pytest.approx(1.0, rel=0.1)


def test_the_mass_around_a_chain_is_that_of_a_normal():
    """Two modes of one density: log mass differs by that of their weights, in any units; 5 standard errors of it."""
    moments = Moments(torch.zeros(2, 3, dtype=torch.double))
    scales = torch.tensor([[1.0], [7.0]], dtype=torch.double)
    weights = torch.tensor([0.2, 0.8], dtype=torch.double)
    count = 2000
    for i in range(count):
        z = torch.randn(2, 3, generator=torch.Generator().manual_seed(i), dtype=torch.double)
        value = weights.log() - 3 * scales[:, 0].log() - 0.5 * (z**2).sum(-1)
        moments.update(scales * z, -z / scales, value)
    found = moments.log_mass()
    error = (2 * (1.5 + 3 * 0.5) / count) ** 0.5
    assert abs(float(found[1] - found[0]) - math.log(4)) < 5 * error


def two_modes(x, y=None):
    """Two narrow modes, 40 standard deviations apart: no chain crosses, as between permutations of a network."""
    with pyro.plate("coordinates", 10):
        side = dist.Categorical(logits=x.new_zeros(10, 2))
        parts = dist.Normal(x.new_tensor([-20.0, 20.0]).expand(10, 2), 1.0)
        w = pyro.sample("w", dist.MixtureSameFamily(side, parts))
    pyro.sample("y", dist.Normal(w.sum(), 1e3), obs=y)


@pytest.mark.parametrize("method", [HMC, NUTS])
def test_adaptation_within_chains_survives_separate_modes(method):
    """The difference that pooling makes: across chains, the metric measures the separation, 20², instead of 1.

    Every coordinate of every chain is stuck in one of two modes, so deviations from a chain's own mean have variance
    1 (metric 1), those from the mean of all 401, and the metric is sqrt(401 * 1). Within 15 %: 16 x 37 draws or more.
    """
    data = torch.zeros(()), torch.zeros(())
    start = {
        "w": 20.0 * torch.randint(0, 2, (16, 10), generator=torch.Generator().manual_seed(1)).mul(2).sub(1).float()
    }
    steps = {}
    for pooling, metric in (("within", 1.0), ("across", math.sqrt(401.0))):
        settings = {"chains": 16, "warmup": 100, "draws": 40, "init": start, "pooling": pooling, "engine": "replay"}
        settings["metric"] = "diagonal"
        posterior = infer(two_modes, *data, method=method(**settings, progress=False), seed=0)
        assert posterior.attrs["tier"] == "replay"
        step = float(posterior.sample_stats["step_size"][0, -1])
        # The same stable step in both: the step size is in units of the metric.
        steps[pooling] = step * math.sqrt(metric)
        own = posterior.draws["w"] - posterior.draws["w"].sign() * 20
        assert float(own.std()) == pytest.approx(1.0, rel=0.1)
    assert steps["within"] == pytest.approx(steps["across"], rel=0.35)


def test_chees_takes_longer_trajectories_where_a_direction_is_longer():
    """A normal with one long coordinate, in a metric that does not know: the length adapts to its scale.

    From 1 the length has to come to the scale's order: between a quarter and two of pi / 2 * 10, where a quarter turn
    of the long direction decorrelates it.
    """
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([10.0, 1.0, 1.0])
    length, mass = TrajectoryLength(1.0), torch.ones(3)
    for i in range(300):
        q, p = scale * torch.randn(64, 3, generator=generator), torch.randn(64, 3, generator=generator)
        fraction = 2 * halton(i)
        t = fraction * length.value
        c, s = torch.cos(t / scale), torch.sin(t / scale)
        after, momentum = q * c + p * scale * s, p * c - q / scale * s  # the exact flow
        length.update(q, after, momentum, torch.zeros(3), mass, torch.ones(64), fraction)
    assert 0.25 < length.value / (math.pi / 2 * 10) < 2


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_chees_finds_the_best_length_of_a_normal(scale):
    """On N(0, s²) the exact flow for a time T has E[change²] / 4 = s⁴ sin²(T / s); the best of that over T solves
    tan(T / s) = 2 T / s: T = 1.1656 s. (Without the division by T it would be pi / 2 s.) Average of the last 300
    lengths of 500, within 3 %: Adam's steps are 5 %.
    """
    generator = torch.Generator().manual_seed(0)
    length, mass, visited = TrajectoryLength(scale), torch.ones(1), []
    for _ in range(500):
        q, p = scale * torch.randn(256, 1, generator=generator), torch.randn(256, 1, generator=generator)
        t = torch.tensor(length.value / scale)
        after, momentum = q * t.cos() + p * scale * t.sin(), p * t.cos() - q / scale * t.sin()
        length.update(q, after, momentum, torch.zeros(1), mass, torch.ones(256), 1.0)
        visited.append(length.log_length)
    best = 1.1655612
    assert math.tan(best) == pytest.approx(2 * best, rel=1e-5)
    assert math.exp(sum(visited[-300:]) / 300) == pytest.approx(best * scale, rel=0.03)


def test_chees_measures_positions_in_units_of_the_mass_and_weighs_chains_by_acceptance():
    """Two units of a normal and the mass that knows them: 1.1656 in both. Chains that are refused do not count."""
    generator = torch.Generator().manual_seed(0)
    length, scale, visited = TrajectoryLength(1.0), torch.tensor([0.1, 10.0]), []
    for _ in range(500):
        q, p = torch.randn(256, 2, generator=generator), torch.randn(256, 2, generator=generator)
        t = torch.tensor(length.value)
        after, momentum = q * t.cos() + p * t.sin(), p * t.cos() - q * t.sin()
        refused = torch.arange(256) % 2 == 0
        momentum = torch.where(refused[:, None], 100 * after, momentum)  # would lengthen trajectories
        length.update(q * scale, after * scale, momentum / scale, torch.zeros(2), scale**2, (~refused).float(), 1.0)
        visited.append(length.log_length)
    assert math.exp(sum(visited[-300:]) / 300) == pytest.approx(1.1655612, rel=0.03)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("method", [HMC, NUTS])
def test_the_same_call_runs_on_a_gpu(method):
    """y ~ N(m, 1), m ~ N(0, 1), one observation of 2: the posterior is N(1, 1/2). 5 standard errors, seed 0."""

    def model(x, y=None):
        m = pyro.sample("m", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(m + x, 1.0), obs=y)

    x, y = torch.zeros(1, device="cuda"), torch.full((1,), 2.0, device="cuda")
    draws = infer(model, x, y, method=method(chains=32, warmup=100, draws=100, progress=False), seed=0).draws["m"]
    assert draws.device.type == "cpu"
    assert abs(float(draws.mean()) - 1) < 5 * math.sqrt(0.5 / 1000)
