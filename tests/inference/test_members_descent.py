"""Steps of all members at once, on functions whose maximum is known."""

import math
from types import SimpleNamespace

import pytest
import torch

from posterity.inference import members_descent
from posterity.inference.members_descent import MembersDescent

OPTIMA = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-1.0, 0.0]])
CURVATURE = torch.tensor([1.0, 50.0])


def quadratic(q):
    """A maximum of 0 at the optimum of each member."""
    return -0.5 * (CURVATURE * (q - OPTIMA) ** 2).sum(1), -CURVATURE * (q - OPTIMA)


def fit_of(gradient=quadratic, *, free=None, **settings):
    """The parts of a `MembersFit` that a descent uses."""
    defaults = {
        "learning_rate": 0.1, "final_rate": 0.01, "clip": 10.0, "check_every": 10, "patience": 3, "batch_size": None,
        "progress": False,
    }  # fmt: skip
    return SimpleNamespace(
        settings=SimpleNamespace(**(defaults | settings)), gradient=gradient, units=torch.ones(2), rows=100,
        free=torch.ones(2) if free is None else free, held_out=None, best=torch.zeros(3, 2),
        score=torch.full((3,), -math.inf, dtype=torch.double), noise=None,
    )  # fmt: skip


def losses_of(steps, fit=None, restarts=0):
    descent, history = MembersDescent(fit or fit_of(), torch.zeros(3, 2)), {"loss": []}
    stopped = descent.take(steps, restarts, history)
    return descent, history, stopped


def test_every_member_arrives_at_its_own_maximum():
    descent, history, stopped = losses_of(300)
    torch.testing.assert_close(descent.q, OPTIMA, atol=1e-3, rtol=0)
    losses = torch.stack(history["loss"])
    torch.testing.assert_close(losses[0], -quadratic(torch.zeros(3, 2))[0])  # the loss before the first step
    assert losses.shape == (300, 3)
    assert not stopped


def test_elements_that_are_not_free_stay():
    descent, _, _ = losses_of(100, fit_of(free=torch.tensor([1.0, 0.0])))
    torch.testing.assert_close(descent.q[:, 0], OPTIMA[:, 0], atol=0.05, rtol=0)
    assert torch.equal(descent.q[:, 1], torch.zeros(3))


def edge(at):
    """`quadratic`, and nan for the second member beyond ``at``."""

    def gradient(q):
        value, grad = quadratic(q)
        bad = torch.tensor([False, True, False]) & (q[:, 0] > at)
        return torch.where(bad, torch.nan, value), torch.where(bad[:, None], torch.nan, grad)

    return gradient


def test_a_step_to_a_density_that_is_not_finite_is_undone_for_that_member_alone():
    plain, _, _ = losses_of(200)
    descent, history, _ = losses_of(200, fit_of(edge(2.5)))
    assert bool(torch.isfinite(torch.stack(history["loss"])).all())
    assert descent.failures.tolist()[0] == descent.failures.tolist()[2] == 0
    assert int(descent.failures[1]) > 0
    assert 2.0 < float(descent.q[1, 0]) <= 2.5  # as near to its maximum as the density is defined
    assert torch.equal(descent.q[[0, 2]], plain.q[[0, 2]])
    assert int(descent.last_failure[1]) > 0


def test_too_many_failures_end_the_fit(monkeypatch):
    monkeypatch.setattr(members_descent, "FAILURES", 1)
    with pytest.raises(ValueError, match=r"expected a finite log joint, got nan in step \d+: .* below 0.1"):
        losses_of(200, fit_of(edge(2.5)))
    with pytest.raises(ValueError, match="expected a finite log joint, got nan in step 1"):
        losses_of(200, fit_of(edge(-1.0)))  # at the start already


def test_each_member_keeps_its_best_held_out_state_and_training_stops_when_none_improves():
    """Held-out scores fall from the third, second and first check on; a patience of 3 then ends training."""
    fit, states, checks = fit_of(), [], []
    fit.held_out = ()

    def score(q):
        states.append(q.clone())
        checks.append(len(states))
        return -(torch.tensor([3.0, 2.0, 1.0]).double() - checks[-1]).abs()

    fit.held_out_score = score
    _, history, stopped = losses_of(1000, fit)
    assert stopped
    assert len(history["held_out"]) == 6
    assert len(history["loss"]) == 60
    assert torch.equal(fit.best, torch.stack([states[2][0], states[1][1], states[0][2]]))
    assert fit.score.tolist() == [0.0, 0.0, 0.0]
