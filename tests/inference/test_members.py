"""The members of an ensemble: their starts, members far behind the best, and what is said of them."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import ConvergenceWarning, Ensemble, infer
from posterity.inference.members import MembersFit, _redrawn
from posterity.inference.program.sites import inspect
from posterity.inference.training.optimiser import AdaptiveAdam
from tests.inference.training.cases import two_modes

ZEROS = torch.zeros(100)
SETTINGS = {"members": 6, "steps": 150, "progress": False, "engine": "replay"}


@pytest.fixture(scope="module")
def kept():
    return infer(two_modes, ZEROS, ZEROS, method=Ensemble(**SETTINGS, behind="keep"), seed=1)


def worse(posterior):
    return int((posterior.draws["m"][0] < 0).sum())


def check_curves(posterior, kept):
    """The learning curves are those of the members that are kept: no column is of the worse mode."""
    worst = float(kept.history["loss"][-1].min()) + 1
    assert posterior.history["loss"].shape == (150, posterior.num_draws)
    assert bool((posterior.history["loss"][-1] < worst).all())
    assert bool((kept.history["loss"][-1] > worst).any())


def test_members_far_behind_are_counted_where_they_are_kept(kept):
    assert 0 < worse(kept) < 6
    assert f"{worse(kept)} of 6 members" in kept.attrs["warnings"]


def test_members_far_behind_are_left_out(kept):
    with pytest.warns(ConvergenceWarning, match="are left out"):
        left = infer(two_modes, ZEROS, ZEROS, method=Ensemble(**SETTINGS, behind="leave_out"), seed=1)
    assert left.num_draws == 6 - worse(kept)
    assert worse(left) == 0
    check_curves(left, kept)


def test_members_far_behind_are_fitted_again(kept):
    again = infer(two_modes, ZEROS, ZEROS, method=Ensemble(**SETTINGS), seed=1)
    assert again.attrs["redone"] == worse(kept)
    assert again.num_draws > 6 - worse(kept)
    torch.testing.assert_close(again.draws["m"], torch.full_like(again.draws["m"], 10.0), atol=0.05, rtol=0)
    check_curves(again, kept)


def test_an_interrupt_leaves_no_member_out_unsaid(monkeypatch):
    """Nothing is known yet of members that have not arrived: all are kept."""
    step, calls = AdaptiveAdam.step, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 100:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(AdaptiveAdam, "step", interrupted)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = infer(two_modes, ZEROS, ZEROS, method=Ensemble(**SETTINGS), seed=1)
    assert posterior.num_draws == 6


def fit_of(**settings):
    method = Ensemble(**({"members": 4, "steps": 100, "progress": False, "engine": "eager"} | settings))
    return MembersFit(method, two_modes, inspect(two_modes, (ZEROS, ZEROS)), (ZEROS, ZEROS), seed=0)


def test_who_is_far_behind_and_who_is_chosen():
    """100 rows: half a nat per row is 50 nats."""
    fit = fit_of(keep=2)
    fit.score = torch.tensor([-1000.0, -10.0, -30.0, -9.0]).double()
    fit.gained = torch.zeros(4).double()
    assert fit.far().tolist() == [True, False, False, False]
    index, score = fit.chosen()
    assert (index.tolist(), score.tolist()) == ([1, 3], [-10.0, -9.0])
    fit.gained[3] = 100.0  # the best has not converged: nobody is judged by it
    assert not bool(fit.far().any())


def test_the_sentences_follow_from_gains_and_losses():
    fit = fit_of()
    fit.score, fit.unsettled = torch.zeros(4).double(), torch.zeros(4, dtype=torch.bool)
    fit.gained = torch.tensor([0.0, 0.2, 0.3, 5.0]).double()  # of one number, 0.25 nats are converged
    (sentence,) = fit.problems()
    assert sentence.startswith("2 of 4 members have not converged and still gained 5 nats of log joint density (100")
    assert sentence.endswith("in 20 further steps at the full learning rate: raise steps above 100")
    fit.unsettled[:] = True
    assert fit.problems()[1].startswith("2 of 4 members have not settled: further steps lower the log joint density")
    fit.gained[:] = 0
    fit.unsettled[:] = False
    assert fit.problems() == []


def bounded(x, y=None):
    """Two of three draws of the prior put an observed 3 outside of the support."""
    t = pyro.sample("t", dist.Pareto(torch.tensor(1.0), 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Uniform(0.0, t), obs=y)


def test_members_start_where_the_log_joint_is_finite():
    """A start outside of the support ended the fit; now that member draws again."""
    y = torch.linspace(0.1, 3, 20)
    settings = Ensemble(members=6, steps=30, behind="keep", engine="eager", progress=False)
    draws = infer(bounded, torch.zeros(20), y, method=settings, seed=0).draws["t"][0]
    assert draws.shape == (6,)
    assert bool((draws >= 3).all())


def test_members_start_again_where_checks_refuse_a_parameter():
    """Half of the draws of the prior give a negative scale; Pyro's checks ended the fit there."""

    def model(x, y=None):
        scale = pyro.sample("scale", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(0.0, scale), obs=y)

    settings = Ensemble(members=8, steps=30, behind="keep", engine="eager", progress=False)
    draws = infer(model, torch.zeros(20), torch.ones(20), method=settings, seed=0).draws["scale"][0]
    assert bool((draws > 0).all())


def test_new_parameters_have_the_moments_of_the_old_ones():
    """Means and standard deviations of 10,000 numbers within five standard errors."""
    value = 3 + 0.5 * torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    new = _redrawn(value, torch.Generator().manual_seed(1))
    assert abs(float(new.mean() - value.mean())) < 5 * 0.5 / 100
    assert abs(float(new.std() / value.std()) - 1) < 5 / (2e4) ** 0.5
    assert abs(float(torch.corrcoef(torch.stack([new.flatten(), value.flatten()]))[0, 1])) < 5 / 100
    scalar = torch.tensor([7.0])
    assert torch.equal(_redrawn(scalar, torch.Generator()), scalar)
