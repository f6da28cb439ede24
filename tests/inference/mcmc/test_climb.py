"""Modes by gradient ascent: found on known densities, and chains far below the best go elsewhere."""

import pytest
import torch

from posterity.inference.engine import Engine
from posterity.inference.mcmc import climb as climb_module
from posterity.inference.mcmc.climb import GAIN, RESTARTS, climb, starts_at_modes

PRECISION = torch.tensor([[2.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 40.0]], dtype=torch.double)
MODE = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)


def gaussian(q):
    return -0.5 * torch.einsum("ci,ij,cj->c", q - MODE, PRECISION, q - MODE), -(q - MODE) @ PRECISION


def engine(gradient, chains):
    return Engine(None, chains, "eager", gradient)


def test_every_chain_climbs_to_the_mode_of_a_gaussian():
    """To the gain in the log density at which the ascent ends."""
    q = 10 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    best, highest, converged = climb(engine(gaussian, 5), q, torch.ones(3, dtype=torch.double))
    assert converged
    torch.testing.assert_close(highest, gaussian(best)[0])
    assert (highest > -GAIN).all()


def test_the_highest_point_is_kept_and_not_the_last():
    """Beyond w = 2 the density is nan: chains come back, and what they return is finite."""

    def edge(q):
        value = torch.where(q[:, 0] < 2, q[:, 0] - 0.5 * (q[:, 0] - 1.9) ** 2, torch.nan)
        return value, torch.where(q < 2, 1 - (q - 1.9), torch.nan)

    best, highest, _ = climb(engine(edge, 3), torch.zeros(3, 1).double(), torch.ones(1).double())
    assert ((best > 1.8) & (best < 2)).all()
    torch.testing.assert_close(highest, edge(best)[0])


def test_a_density_without_a_maximum_is_said(monkeypatch):
    monkeypatch.setattr(climb_module, "MAX_STEPS", 300)
    rising = engine(lambda q: (q.sum(-1), torch.ones_like(q)), 2)
    _, sentences = starts_at_modes(rising, torch.zeros(2, 1), torch.ones(1), 10, lambda restart: pytest.fail("again"))
    (sentence,) = sentences
    assert sentence.startswith("init='map': the log density was still rising after 300 steps and may have no maximum")


def two_modes(q):
    """A mode at 3, and one at -3 that is 500 nats lower."""
    right, low = q[:, 0] > 0, 500.0
    return torch.where(right, -((q[:, 0] - 3) ** 2), -((q[:, 0] + 3) ** 2) - low), torch.where(
        right[:, None], -2 * (q - 3), -2 * (q + 3)
    )


START = torch.tensor([[2.0], [2.5], [-2.0], [4.0]])


def test_a_chain_far_below_the_best_climbs_again_from_elsewhere():
    asked = []

    def fresh(restart):
        asked.append(restart)
        return torch.full((4, 1), 1.0 if restart else -1.0)  # the second time on the better side

    best, sentences = starts_at_modes(engine(two_modes, 4), START, torch.ones(1), 10, fresh)
    assert asked == [0, 1]
    assert sentences == []
    assert ((best - 3).abs() < 0.4).all()


def test_a_chain_that_finds_no_better_mode_starts_from_that_of_another():
    best, sentences = starts_at_modes(
        engine(two_modes, 4), START, torch.ones(1), 10, lambda restart: torch.full((4, 1), -1.0)
    )
    (sentence,) = sentences
    assert "1 of 4 chains (numbers [2]) only found modes up to 500 nats below the best" in sentence
    assert f"in {1 + RESTARTS} attempts: they start from the modes of other chains" in sentence
    assert ((best - 3).abs() < 0.4).all()
    assert torch.equal(best[2], best[0])
