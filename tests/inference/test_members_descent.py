"""Steps of all members at once: a quadratic has its minimum, a step into infinity is undone, an interrupt is kept."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import Ensemble, infer, members_descent
from posterity.inference.members_descent import MembersDescent
from posterity.models import gaussian, mlp, point

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(80, 3, generator=GENERATOR)
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.7 + 0.3 * torch.randn(80, generator=GENERATOR)
NET = mlp(3, 8, 1, seed=0)
SHORT = {"steps": 60, "progress": False, "engine": "eager"}


def model_of_many_ways(x, y=None):
    features = point("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def test_each_member_descends_to_its_own_minimum():
    """Quadratics of curvatures 1 and 100 with minima at 3 and -2; the second number of both is held fixed."""
    minima = torch.tensor([[3.0, 0.0], [-2.0, 0.0]]).double()
    curvature = torch.tensor([1.0, 100.0]).double()

    def gradient(q):
        slope = -curvature[:, None] * (q - minima)
        return 0.5 * ((q - minima) * slope).sum(-1), slope

    settings = SimpleNamespace(
        batch_size=None, clip=10.0, learning_rate=0.05, final_rate=0.01, patience=5, check_every=50, progress=False
    )
    free = torch.tensor([1.0, 0.0]).double()
    fit = SimpleNamespace(settings=settings, rows=10, gradient=gradient, units=free, free=free, held_out=None)
    descent, history = MembersDescent(fit, torch.ones(2, 2).double()), {"loss": []}
    assert not descent.take(1500, 0, history)
    torch.testing.assert_close(descent.q[:, 0], minima[:, 0], rtol=0, atol=1e-3)
    assert descent.q[:, 1].tolist() == [1.0, 1.0]
    assert len(history["loss"]) == 1500


def test_an_interrupt_keeps_what_is_fitted(monkeypatch):
    count, step = iter(range(100)), members_descent.MembersDescent._step

    def stop(self, share, losses):
        if next(count) == 30:
            raise KeyboardInterrupt
        step(self, share, losses)

    monkeypatch.setattr(members_descent.MembersDescent, "_step", stop)
    with pytest.warns(RuntimeWarning, match=r"Ensemble was interrupted and returns its members .* 30 of 60"):
        posterior = infer(model_of_many_ways, X, Y, method=Ensemble(members=2, **SHORT), seed=0)
    assert posterior.attrs["interrupted"] == 1
    assert len(posterior.history["loss"]) == 30
    assert float(posterior.history["loss"][-1].mean()) < float(posterior.history["loss"][0].mean())


def test_a_step_into_infinity_is_taken_back_and_one_too_many_is_said(monkeypatch):
    def exploding(x, y=None):
        w = pyro.param("w", torch.tensor(0.5))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(torch.exp(w * 3).exp().expand(len(x)), 1.0), obs=y)

    method, y = (
        Ensemble(members=1, learning_rate=1e3, steps=400, progress=False, engine="eager"),
        torch.full((80,), 1e6),
    )
    posterior = infer(exploding, X, y, method=method, seed=0)
    loss = posterior.history["loss"]
    assert bool(torch.isfinite(loss).all())
    assert len(loss) == 400
    monkeypatch.setattr(members_descent, "FAILURES", 0)
    with pytest.raises(ValueError, match=r"expected a finite log joint, got .* try a learning_rate below 1000"):
        infer(exploding, X, y, method=method, seed=0)
