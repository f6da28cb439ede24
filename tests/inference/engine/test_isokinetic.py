"""Isokinetic dynamics against a numerical solution of their equations, and what their steps keep."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from posterity.inference.engine import Engine
from posterity.inference.engine.chains import INTEGRATORS
from posterity.inference.engine.isokinetic import isokinetic_step, refresh, refresh_amount, turn

CHAINS, DIM = 6, 4
GENERATOR = torch.Generator().manual_seed(0)
PRECISION = torch.tensor(
    [[2.0, 0.5, 0.0, 0.1], [0.5, 1.0, 0.2, 0.0], [0.0, 0.2, 0.5, 0.0], [0.1, 0.0, 0.0, 3.0]]
).double()
SCALE = torch.tensor([1.0, 0.5, 2.0, 0.8]).double()  # roots of the inverse mass


def normal(*shape):
    return torch.randn(*shape, dtype=torch.double, generator=GENERATOR)


def unit(*shape):
    u = normal(*shape)
    return u / u.norm(dim=-1, keepdim=True)


def quadratic(q):
    return -0.5 * (q @ PRECISION * q).sum(-1), -q @ PRECISION


def engine():
    shape = SimpleNamespace(dim=DIM, dtype=torch.double, device=torch.device("cpu"))
    return Engine(shape, CHAINS, "eager", quadratic)


def start():
    q = normal(CHAINS, DIM)
    value, grad = quadratic(q)
    return q, unit(CHAINS, DIM), grad, value


def path(state, step, count, integrator):
    total = torch.zeros(CHAINS, dtype=torch.double)
    for _ in range(count):
        state, error = isokinetic_step(engine(), state, torch.full((CHAINS,), step).double(), SCALE, integrator)
        total = total + error
    return state, total


@pytest.mark.parametrize("size", [0.0, 1e-6, 0.7, 12.0])
def test_a_turn_is_the_solution_of_its_equation(size):
    """du/dt = (1 - u u') g / (d - 1) by Runge and Kutta with a tolerance of 1e-11, and dK/dt = u' g."""
    u, grad = unit(CHAINS, DIM), size * normal(CHAINS, DIM)
    times = torch.linspace(0.3, 1.5, CHAINS).double()
    found, change = turn(u, grad, times)
    for one, g, time, new, kinetic in zip(u, grad, times, found, change, strict=True):

        def slope(_, y, g=g):
            g = g.numpy()
            along = y[:-1] @ g
            return [*((g - y[:-1] * along) / (DIM - 1)), along]

        known = solve_ivp(slope, (0, float(time)), [*one.numpy(), 0.0], rtol=1e-11, atol=1e-11).y[:, -1]
        np.testing.assert_allclose(new.numpy(), known[:-1], rtol=0, atol=1e-8)
        np.testing.assert_allclose(float(kinetic), known[-1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(CHAINS).double())


def test_a_huge_gradient_turns_the_direction_to_itself():
    """Where sinh and cosh overflow; the change of kinetic energy is |g| t - (d - 1) log(2 / (1 + e u))."""
    u, grad = unit(CHAINS, DIM), 1e5 * normal(CHAINS, DIM)
    found, change = turn(u, grad, torch.ones(CHAINS).double())
    e = grad / grad.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(found, e)
    expected = grad.norm(dim=-1) - (DIM - 1) * (2 / (1 + (e * u).sum(-1))).log()
    torch.testing.assert_close(change, expected)


def test_a_direction_against_a_huge_gradient_stays():
    """An unstable fixed point of the equation, at which the kinetic energy falls by |g| t."""
    u = unit(CHAINS, DIM)
    u[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    found, change = turn(u[:1], -1e5 * u[:1], torch.ones(1).double())
    assert torch.equal(found, u[:1])
    assert float(change) == pytest.approx(-1e5)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_path_is_the_solution_of_the_dynamics_to_second_order(name):
    """A path of length 2 on a correlated normal: half the step size, a quarter of the errors."""
    begin = start()

    def slope(_, y):
        q, u = y[:DIM], y[DIM:]
        g = SCALE.numpy() * (-PRECISION.numpy() @ q)
        return [*(SCALE.numpy() * u), *((g - u * (u @ g)) / (DIM - 1))]

    known = np.stack(
        [
            solve_ivp(slope, (0, 2.0), [*q.numpy(), *u.numpy()], rtol=1e-11, atol=1e-11).y[:, -1]
            for q, u in zip(begin[0], begin[1], strict=True)
        ]
    )
    errors, energies = [], []
    for count in (16, 32):
        (q, u, *_), total = path(begin, 2.0 / count, count, INTEGRATORS[name])
        errors.append(float(np.abs(torch.cat([q, u], -1).numpy() - known).max()))
        energies.append(float(total.abs().max()))
    assert errors[1] < 3e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert energies[0] / energies[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_path_is_reversible_and_its_energy_error_changes_sign(name):
    begin = start()
    (q, u, grad, value), total = path(begin, 0.4, 7, INTEGRATORS[name])
    (back, turned, *_), again = path((q, -u, grad, value), 0.4, 7, INTEGRATORS[name])
    torch.testing.assert_close(back, begin[0])
    torch.testing.assert_close(turned, -begin[1])
    torch.testing.assert_close(again, -total)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_the_energy_error_is_that_of_density_and_volume(name):
    """exp(-error) is the ratio of densities times the Jacobian of a step on positions and sphere, by differences."""
    q, u, *_ = (part[:1] for part in start())
    basis = torch.linalg.qr(torch.cat([u.T, normal(DIM, DIM - 1)], 1))[0][:, 1:]  # tangents of the sphere at u

    def move(z):
        moved = u + (basis @ z[DIM:])[None]
        moved = moved / moved.norm()
        at = q + z[:DIM]
        value, grad = quadratic(at)
        single = Engine(engine().density, 1, "eager", quadratic)
        return isokinetic_step(single, (at, moved, grad, value), torch.tensor([0.6]).double(), SCALE, INTEGRATORS[name])

    (end, end_u, _, value), error = move(torch.zeros(2 * DIM - 1).double())
    frame = torch.linalg.qr(torch.cat([end_u.T, normal(DIM, DIM - 1)], 1))[0][:, 1:]
    columns = []
    for i in range(2 * DIM - 1):
        pair = []
        for sign in (1e-5, -1e-5):
            z = torch.zeros(2 * DIM - 1).double()
            z[i] = sign
            (a, b, *_), _ = move(z)
            pair.append(torch.cat([(a - end)[0], frame.T @ (b - end_u)[0]]))
        columns.append((pair[0] - pair[1]) / 2e-5)
    jacobian = torch.linalg.slogdet(torch.stack(columns, 1)).logabsdet
    expected = -(value - quadratic(q)[0])[0] - jacobian
    torch.testing.assert_close(error[0], expected, rtol=1e-6, atol=1e-6)


def test_gradients_are_left_to_the_caller_to_count():
    one = engine()
    isokinetic_step(one, start(), torch.full((CHAINS,), 0.1).double(), SCALE, INTEGRATORS["leapfrog"])
    assert one.gradients == 0


def test_a_chain_of_step_size_zero_stays():
    begin = start()
    step = torch.tensor([0.0, *[0.3] * (CHAINS - 1)]).double()
    (q, u, *_), error = isokinetic_step(engine(), begin, step, SCALE, INTEGRATORS["minimal_norm"])
    assert torch.equal(q[0], begin[0][0])
    torch.testing.assert_close(u[0], begin[1][0])
    assert float(error[0]) == 0.0


def test_directions_forget_their_past_over_the_decoherence_length():
    """E[u(0) u(t)] = exp(-t / L) in many dimensions: 200 steps of L / 100, 400 chains; 5 standard errors of 1/√(nd)."""
    dim, chains = 200, 400
    u = first = unit(chains, dim)
    amount = refresh_amount(torch.full((chains,), 0.01), 1.0, dim)
    for _ in range(200):
        u = refresh(u, normal(chains, dim), amount)
    torch.testing.assert_close(u.norm(dim=-1), torch.ones(chains).double())
    assert float((u * first).sum(-1).mean()) == pytest.approx(np.exp(-2), abs=5 / (chains * dim) ** 0.5 + 0.005)


def test_a_step_much_longer_than_the_decoherence_length_gives_a_new_direction():
    u, z = unit(CHAINS, DIM), normal(CHAINS, DIM)
    amount = refresh_amount(torch.full((CHAINS,), 1e6), 1.0, DIM)
    torch.testing.assert_close(refresh(u, z, amount), z / z.norm(dim=-1, keepdim=True))


def test_a_direction_of_zero_becomes_that_of_the_normals():
    z = normal(CHAINS, DIM)
    found = refresh(torch.zeros(CHAINS, DIM).double(), z, torch.full((CHAINS,), 1e-3))
    torch.testing.assert_close(found, z / z.norm(dim=-1, keepdim=True))
