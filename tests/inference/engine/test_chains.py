"""Trajectories of all chains at once, on every engine, against one chain and one step at a time."""

import pytest
import torch

from posterity.inference.engine import INTEGRATORS, TIERS, Engine
from posterity.inference.engine.chains import LEAPFROG, MINIMAL_NORM
from tests.inference.engine.cases import CHAINS, prepared


@pytest.mark.parametrize("tier", TIERS)
def test_the_chains_of_an_engine_move_as_one_by_one(tier):
    """Leapfrog of every engine, by 0 to 7 steps, against one gradient at a time."""
    density, positions, engine, _ = prepared("float64 network", tier)
    step = torch.linspace(0.01, 0.03, CHAINS, dtype=torch.double)
    steps, mass = torch.tensor([3, 0, 7, 1, 2]), torch.linspace(0.5, 2, density.dim, dtype=torch.double)
    p = torch.randn(positions.shape, dtype=torch.double)
    value, gradient = engine.gradient(positions)
    moved = engine.integrate((positions, p, gradient, value), step, steps, mass)
    one = torch.func.grad_and_value(density)
    for chain in range(CHAINS):
        q, r = positions[chain], p[chain]
        g, v = one(q)
        for _ in range(int(steps[chain])):
            r = r + 0.5 * step[chain] * g
            q = q + step[chain] * mass * r
            g, v = one(q)
            r = r + 0.5 * step[chain] * g
        for found, expected in zip((part[chain] for part in moved), (q, r, g, v), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    path = engine.path((positions, p, gradient, value), step, 3, mass)
    torch.testing.assert_close(path[0][-1][0], moved[0][0], rtol=1e-10, atol=1e-10)
    assert torch.equal(path[0][0], positions)
    assert path[3].shape == (4, CHAINS)


def oscillator():
    """Three chains of a standard normal of two dimensions."""
    return Engine(None, 3, "eager", lambda q: (-0.5 * (q**2).sum(-1), -q))


def begin():
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(3, 2, generator=generator, dtype=torch.double) for _ in range(2))
    return q, p, -q, -0.5 * (q**2).sum(-1)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_step_is_the_product_of_its_kicks_and_drifts(name):
    """On a standard normal each of them is a matrix."""
    integrator, h = INTEGRATORS[name], 0.3
    matrix = torch.eye(2, dtype=torch.double)
    for kick, drift in zip(integrator.kicks, (*integrator.drifts, 0.0), strict=True):
        matrix = torch.tensor([[1, 0], [-kick * h, 1]], dtype=torch.double) @ matrix
        matrix = torch.tensor([[1, drift * h], [0, 1]], dtype=torch.double) @ matrix
    q, p, grad, value = begin()
    step, mass = torch.full((3,), h), torch.ones(2)
    end = oscillator().integrate((q, p, grad, value), step.double(), torch.ones(3).long(), mass, integrator)
    torch.testing.assert_close(end[0], matrix[0, 0] * q + matrix[0, 1] * p)
    torch.testing.assert_close(end[1], matrix[1, 0] * q + matrix[1, 1] * p)
    torch.testing.assert_close(end[2], -end[0])


@pytest.mark.parametrize("integrator", [LEAPFROG, MINIMAL_NORM], ids=lambda i: i.name)
def test_integrators_are_reversible_and_of_second_order(integrator):
    """Backwards from the end is the start; half the step has a quarter of the error of the energy."""
    start, mass = begin(), torch.ones(2)

    def end(h, time=2.4):
        steps = torch.full((3,), round(time / h))
        return oscillator().integrate(start, torch.full((3,), h, dtype=torch.double), steps, mass, integrator)

    q, p, grad, value = end(0.3)
    back = oscillator().integrate((q, -p, grad, value), torch.full((3,), 0.3), torch.full((3,), 8), mass, integrator)
    torch.testing.assert_close(back[0], start[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(back[1], -start[1], rtol=0, atol=1e-6)

    def error(h):
        _, p, _, value = end(h)
        return (0.5 * (p**2).sum(-1) - value - (0.5 * (start[1] ** 2).sum(-1) - start[3])).abs()

    torch.testing.assert_close(error(0.05) / error(0.1), torch.full((3,), 0.25, dtype=torch.double), rtol=0.1, atol=0)


def test_two_gradients_a_step_are_worth_a_step_twice_as_long():
    """The minimal norm is stable at more than twice the step at which leapfrog is not."""
    assert MINIMAL_NORM.kicks == MINIMAL_NORM.kicks[::-1]
    for integrator, limit in ((LEAPFROG, 2.0), (MINIMAL_NORM, 4.0)):
        for h, stable in ((0.95 * limit, True), (1.6 * limit, False)):
            step, steps = torch.full((3,), h, dtype=torch.double), torch.full((3,), 400)
            q, _, _, _ = oscillator().integrate(begin(), step, steps, torch.ones(2), integrator)
            assert bool((q.abs() < 1e3).all()) == stable, (integrator.name, h)


def test_gradients_of_all_chains_are_counted():
    engine = oscillator()
    engine.gradient(begin()[0])
    assert engine.gradients == 3
    engine.integrate(begin(), torch.ones(3), torch.tensor([2, 0, 5]), torch.ones(2), MINIMAL_NORM)
    assert engine.gradients == 3 + 2 * 7
    engine.path(begin(), torch.ones(3), 4, torch.ones(2))
    assert engine.gradients == 3 + 2 * 7 + 3 * 4


def test_chains_that_move_alone_have_their_own_data():
    data = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.double)
    engine = Engine(None, 3, "eager", lambda q, mean: (-0.5 * ((q - mean) ** 2).sum(-1), mean - q), data)
    q, p, _, _ = begin()
    value, grad = engine.gradient(q)
    torch.testing.assert_close(grad, data - q)
    some, step, steps = torch.tensor([2, 0]), torch.full((2,), 0.3), torch.tensor([1, 2])
    state = tuple(part[some] for part in (q, p, grad, value))
    moved = engine.integrate(state, step, steps, torch.ones(2), chains=some)
    torch.testing.assert_close(moved[2], data[some] - moved[0])
