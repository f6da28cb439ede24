"""Engines whose chains each have their own data: in closed form, recorded or not, and where a recording is wrong."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.engine import Density, chain_data
from posterity.inference.engine.chain_data import prepare_chain_data

X = torch.linspace(0.0, 1.0, 5, dtype=torch.double)
DATA = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)
Q = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def line(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.5), obs=y)


def closed_form(q, y):
    misfit = y - q[:, :1] - q[:, 1:] * X
    value = dist.Normal(0.0, 1.0).log_prob(q).sum(-1) + dist.Normal(0.0, 0.5).log_prob(misfit).sum(-1)
    return value, -q + 4 * torch.stack([misfit.sum(-1), (misfit * X).sum(-1)], -1)


@pytest.mark.parametrize("recorded", [True, False])
def test_every_chain_has_the_density_of_its_own_data(recorded):
    """Of all chains, and of two that move alone, by a step of nothing."""
    engine = prepare_chain_data(Density(line, (X, DATA[0])), DATA, Q, recorded=recorded)
    assert engine.tier == ("replay" if recorded else "eager")
    q = 2 * Q - 1
    torch.testing.assert_close(engine.gradient(q), closed_form(q, DATA))
    some, nothing = torch.tensor([3, 1]), torch.zeros(2)
    state = (q[some], q[some], q[some], nothing)
    _, _, grad, value = engine.integrate(state, nothing, torch.ones(2).long(), torch.ones(2), chains=some)
    torch.testing.assert_close((value, grad), closed_form(q[some], DATA[some]))


def test_a_recording_that_has_frozen_the_data_is_not_used(monkeypatch):
    monkeypatch.setattr(chain_data, "replay", lambda graph, *example: lambda q, data: graph(q, example[1]))
    engine = prepare_chain_data(Density(line, (X, DATA[0])), DATA, Q, recorded=True)
    assert engine.tier == "eager"
    torch.testing.assert_close(engine.gradient(Q), closed_form(Q, DATA))


def test_a_model_that_cannot_be_recorded_runs_itself(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("control flow on values")

    monkeypatch.setattr(chain_data, "record", fail)
    engine = prepare_chain_data(Density(line, (X, DATA[0])), DATA, Q, recorded=True)
    assert engine.tier == "eager"
    torch.testing.assert_close(engine.gradient(Q), closed_form(Q, DATA))
