"""The part of warm-up that both kernels share: step sizes, also of single chains, phases, mass, and the saved state."""

import math
from types import SimpleNamespace

import pytest
import torch

from posterity.inference import HMC
from posterity.inference.engine import Engine
from posterity.inference.mcmc.kernel import GAIN, RATIO, Kernel, State, energy

CHAINS, DIM = 6, 3


def kernel(scale=1.0, **settings):
    """A kernel on independent normals of the given scale."""
    density = SimpleNamespace(dim=DIM, dtype=torch.double, device=torch.device("cpu"))
    engine = Engine(density, CHAINS, "eager", lambda q: (-0.5 * (q**2).sum(-1) / scale**2, -q / scale**2))
    return Kernel(HMC(chains=CHAINS, **{"warmup": 100, "target_accept": 0.8, **settings}), engine)


def state_of(q, scale=1.0):
    return State(q, -q / scale**2, -0.5 * (q**2).sum(-1) / scale**2)


def draws(seed=0):
    return torch.randn(CHAINS, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def accepting(rate):
    """Statistics of a transition in which every chain accepts with this probability, or each with its own."""
    return {"acceptance_rate": torch.as_tensor(rate, dtype=torch.double).expand(CHAINS)}


def test_the_energy_is_kinetic_minus_log_density_in_double_precision():
    p, mass = torch.tensor([[3.0, 1.0]]), torch.tensor([2.0, 0.5])
    found = energy(torch.tensor([-1e4]), p, 1 / mass)
    assert found.dtype == torch.double
    assert float(found) == pytest.approx(0.5 * (9 / 2 + 1 / 0.5) + 1e4, rel=1e-12)


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_a_first_step_is_accepted_with_about_the_target_probability(scale):
    """The acceptance of one leapfrog step, in closed form, crosses the target within a factor of two of the step."""
    made, p = kernel(scale), draws(1)
    q = scale * draws()
    made.choose_step_sizes(state_of(q, scale), p)

    def acceptance(step):
        half = p - 0.5 * step[:, None] * q / scale**2
        end = q + step[:, None] * half
        last = half - 0.5 * step[:, None] * end / scale**2
        change = 0.5 * (p**2 - last**2 + (q**2 - end**2) / scale**2).sum(-1)
        return change.clamp(max=0).exp()

    step = made.log_steps.exp()
    below, above = acceptance(step / 2) > 0.8, acceptance(2 * step) <= 0.8
    assert ((acceptance(step) > 0.8) & above | (acceptance(step) <= 0.8) & below).all()
    assert made.step.log_step == float(made.log_steps.median())


@pytest.mark.parametrize("settings", [{"step_size": 0.3}, {"warmup": 0}, {"warmup": 0, "step_size": 0.3}])
def test_a_step_size_that_is_given_is_the_first(settings):
    made = kernel(**settings)
    made.choose_step_sizes(state_of(draws()), draws(1))
    assert made.step.value == pytest.approx(settings.get("step_size", 0.1))


def test_phases_follow_each_other():
    made, seen = kernel(), []
    for _ in range(100):
        seen.append(made.phase)
        made.adapt(state_of(draws(len(seen))), accepting(0.8))
    assert made.phase == "draws"
    assert sorted(set(seen), key=seen.index) == ["approach", "windows", "settle"]
    assert (seen.count("approach"), seen.count("settle")) == (12, 12)  # an eighth of warm-up each


def test_only_chains_for_which_the_common_step_is_far_too_long_have_their_own():
    made = kernel()
    made.seen = 50
    made.step.log_step = math.log(0.6)
    made.log_steps = torch.tensor([0.6, 0.21, 0.19, 0.05, 0.6, 2.0], dtype=torch.double).log()
    expected = torch.tensor([0.6, 0.6, 0.19, 0.05, 0.6, 0.6], dtype=torch.double)  # 0.6 / RATIO = 0.2
    assert RATIO == 3
    torch.testing.assert_close(made.step_sizes(), expected)
    made.seen = 0  # on the way to the typical set, every chain has its own
    torch.testing.assert_close(made.step_sizes(), made.log_steps.exp())


def test_the_step_size_of_a_chain_rises_and_falls_as_fast():
    """By the gain, for an acceptance of 1 and of 0; never above the common step size."""
    made = kernel(target_accept=0.95)
    made.seen = 50
    made.log_steps = torch.full((CHAINS,), -5.0, dtype=torch.double)
    rate = torch.tensor([1.0, 0.0, 0.95, 0.95, 0.95, 0.95])
    made.adapt(state_of(draws()), accepting(rate))
    torch.testing.assert_close(made.log_steps[:3], torch.tensor([-5 + GAIN, -5 - GAIN, -5.0], dtype=torch.double))
    made.log_steps[:] = 10.0
    made.adapt(state_of(draws()), accepting(1.0))
    assert (made.log_steps == made.step.log_step).all()


def test_the_mass_is_that_of_the_windows_and_step_sizes_follow_its_units():
    """Positions of scale 5: the inverse mass of a window is 25, and a step in its units 5 times as short."""
    made = kernel(scale=5.0, metric="diagonal")
    step = made.log_steps[0].clone()
    made.seen = made.first_window
    while made.seen < made.ends[0]:
        q = 5 * draws(made.seen)
        made.adapt(state_of(q, 5.0), accepting(0.8))
    torch.testing.assert_close(made.inverse_mass, torch.full((DIM,), 25.0, dtype=torch.double), rtol=0.6, atol=0.0)
    ratio = float(made.inverse_mass.log().mean()) / 2
    assert float(made.log_steps[0] - step) == pytest.approx(-ratio, abs=0.05)


def test_a_dense_metric_is_a_basis_in_which_the_density_is_round():
    """After one window on a correlated normal: the state is the same point, its gradient that of a standard normal."""
    made = kernel()
    covariance = torch.tensor([[4.0, 1.9, 0.0], [1.9, 1.0, 0.0], [0.0, 0.0, 25.0]], dtype=torch.double)
    root, precision = torch.linalg.cholesky(covariance), torch.linalg.inv(covariance)
    made.engine._function = lambda q: (-0.5 * ((q @ precision) * q).sum(-1), -q @ precision)
    made.seen = made.first_window
    while made.seen < made.ends[0]:
        q = draws(made.seen) @ root.T
        value, grad = made.engine.gradient(q)
        state = made.adapt(State(q, grad, value), accepting(0.8))
    torch.testing.assert_close(made.engine.positions(state.q), q)
    value, grad = made.engine.gradient(state.q)
    torch.testing.assert_close(grad, state.grad)
    torch.testing.assert_close(value, state.value)
    assert (made.inverse_mass == 1.0).all()
    # Shrunk for few draws: nearly -z, where the density was 20 times as long as wide.
    slope = torch.linalg.lstsq(state.q, -grad).solution
    sizes = torch.linalg.svdvals(slope)
    assert float(sizes[0] / sizes[-1]) < 3


def test_chains_of_negligible_probability_go_on_from_others():
    """Chain 2 is 60 nats behind in a region of the same volume, chain 4 in one of e^60 times the volume."""
    made = kernel(metric="diagonal")
    made.seen = made.first_window
    behind = torch.tensor([0.0, 0.0, -60.0, 0.0, -60.0, 0.0], dtype=torch.double)
    scale = torch.tensor([1.0, 1.0, 1.0, 1.0, math.exp(20.0), 1.0], dtype=torch.double)[:, None]
    while made.seen < made.ends[0]:
        q = scale * draws(made.seen)
        before = State(q, -q / scale**2, behind - 0.5 * (q**2 / scale**2).sum(-1))
        state = made.adapt(before, accepting(0.8))
    assert made.moved == 1
    assert torch.equal(state.q[2], before.q[0])
    assert torch.equal(state.value[2], before.value[0])
    for chain in (0, 1, 3, 4, 5):
        assert torch.equal(state.q[chain], before.q[chain])


def test_hopeless_chains_leave_after_the_approach():
    made = kernel()
    made.seen = made.first_window - 1
    state = state_of(draws())
    state.value = state.value.clone()
    state.value[3] = -1e9
    moved = made.adapt(state, accepting(0.8))
    assert torch.equal(moved.q[3], state.q[0])
    assert made.moved == 1


def hopeless(made):
    """A state in which chain 3 is far behind and chain 5 has no finite density, before and after the approach ends."""
    made.seen = made.first_window - 1
    state = state_of(draws())
    state.value = state.value.clone()
    state.value[3], state.value[5] = -1e9, torch.inf
    return state, made.adapt(state, accepting(0.8))


def test_a_density_that_is_infinite_is_not_the_best():
    made = kernel()
    state, moved = hopeless(made)
    assert made.moved == 2
    assert torch.equal(moved.q[[3, 5]], state.q[:2])
    assert torch.equal(moved.q[[0, 1, 2, 4]], state.q[[0, 1, 2, 4]])


@pytest.mark.parametrize("kind", ["own data", "superchains"])
def test_chains_that_must_stay_apart_never_move(kind):
    """A chain of another data set has another density; superchains are compared with each other."""
    made = kernel(superchains=3) if kind == "superchains" else kernel()
    made.engine.data = torch.zeros(CHAINS, 2) if kind == "own data" else None
    state, moved = hopeless(made)
    assert torch.equal(moved.q, state.q)
    assert made.moved == 0


def test_gradients_that_overflow_leave_the_mass_as_it_was():
    made = kernel()
    made.seen = made.first_window
    while made.seen < made.ends[0]:
        state = state_of(draws(made.seen))
        state.grad = state.grad.clone()
        state.grad[:, 1] = torch.inf
        made.adapt(state, accepting(0.8))
    assert made.moments is None  # the window is complete
    assert (made.inverse_mass == 1.0).all()


def test_warmup_that_ends_early_has_the_averaged_step_size():
    made = kernel()
    for i in range(60):
        made.adapt(state_of(draws(i)), accepting(0.6 + 0.3 * (i % 2)))
    averaged, current = made.step.log_mean, made.step.log_step
    made.end_warmup()
    assert made.phase == "draws"
    assert made.step.log_step == averaged != current
    assert (made.step_sizes() == made.step.value).all()


def test_a_restored_kernel_adapts_as_the_one_that_was_saved():
    """Saved in a window, whose moments are on the way."""
    one, other = kernel(), kernel()
    for i in range(25):
        one.adapt(state_of(draws(i)), accepting(0.7))
    assert one.moments is not None
    other.restore(one.state())
    for i in range(25, 100):
        for made in (one, other):
            made.adapt(state_of(draws(i)), accepting(0.9))
    assert torch.equal(one.inverse_mass, other.inverse_mass)
    assert torch.equal(one.step_sizes(), other.step_sizes())
