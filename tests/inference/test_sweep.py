"""Settings side by side: held, not trained; the same fits as one at a time; the right choice where it is known."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.data import Standardization
from posterity.inference import Ensemble, infer, sweep
from posterity.inference.sweep import _compare_values
from posterity.models import mixture_density, mixture_head

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(400, 1, generator=GENERATOR)
SIGN = torch.where(torch.rand(400, generator=GENERATOR) < 0.5, 1.0, -1.0)
BRANCHES = SIGN * (2 + 0.3 * X[:, 0]) + 0.2 * torch.randn(400, generator=GENERATOR)
SCALE = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(0.0), torch.tensor(1.0))
FAST = Ensemble(members=1, steps=600, learning_rate=0.02, progress=False)


def ridge(x, y=None):
    """Its mode is ridge regression: (X'X + decay)^-1 X'y."""
    w = pyro.param("w", torch.zeros(x.shape[1]))
    decay = pyro.param("decay", torch.tensor(1.0)).detach()
    pyro.factor("prior", -0.5 * decay * (w**2).sum())
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def test_values_are_held_and_each_member_is_the_fit_of_its_own():
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    y = x @ torch.tensor([1.0, -2.0])
    decays = torch.tensor([0.0, 10.0, 100.0])
    method = Ensemble(members=3, steps=1500, learning_rate=0.05, vary={"decay": decays}, progress=False)
    posterior = infer(ridge, x, y, method=method, seed=0)
    torch.testing.assert_close(posterior.draws["decay"][0], decays)
    exact = torch.stack([torch.linalg.solve(x.T @ x + d * torch.eye(2), x.T @ y) for d in decays])
    torch.testing.assert_close(posterior.draws["w"][0], exact, atol=2e-3, rtol=0)


def test_two_branches_need_two_components():
    """One misses a branch; two score what the truth scores on the rows held out, -0.5 nats in the mean, within 0.25."""
    pair = mixture_density(SCALE, components=5, hidden=(8,), swept=("components",))
    found = sweep(pair, X, BRANCHES, name="components", values=[1, 2, 5], method=FAST, repeats=2, seed=0)
    assert found.attrs["simplest"] != 1
    assert found.attrs["rows_held_out"] == 80
    scores = found.best_score.values
    # The entropy of two normals of sd 0.2 that do not overlap.
    floor = math.log(2) + 0.5 * math.log(2 * math.pi * math.e * 0.2**2)
    assert scores[1] == pytest.approx(-floor, abs=0.25)
    assert scores[0] < scores[1] - 0.5
    assert float(found.behind.sel(value=1)) > 5 * float(found.behind_se.sel(value=1))


def test_the_simplest_is_the_first_within_a_standard_error_of_the_best():
    """Four rows; the start that did best in training counts, whatever it scored."""
    rows = np.array([1.0, -1.0, 1.0, -1.0])
    far, near, best = (level + spread * rows for level, spread in ((-3.0, 0.1), (-1.05, 0.4), (-1.0, 0.0)))
    lucky = np.full(4, 5.0)
    score = np.stack([np.stack([far, lucky]), np.stack([lucky, near]), np.stack([best, lucky])])
    found = _compare_values([1, 2, 5], score, np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    assert (found.attrs["best"], found.attrs["simplest"]) == (5, 2)
    np.testing.assert_allclose(found.best_score, [-3.0, -1.05, -1.0])
    np.testing.assert_allclose(found.behind, [2.0, 0.05, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.behind_se[1], np.std(best - near, ddof=1) / 2)
    assert _compare_values([1, 2, 5], score, np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])).attrs["best"] == 2


def test_unused_components_have_no_weight():
    head = mixture_head(5).spread_first()
    mixture = head(torch.randn(7, 15, generator=torch.Generator().manual_seed(0)), torch.tensor(2.0))
    assert bool((mixture.log_weights[:, 2:].exp() == 0).all())
    two = mixture.log_weights[:, :2].exp().sum(-1)
    torch.testing.assert_close(two, torch.ones(7))


def test_the_first_components_are_spread():
    """The first is in the middle, the next two at either side."""
    loc = mixture_head(7).spread_first()(torch.zeros(21)).component_distribution.loc
    assert float(loc[0].abs()) < 1e-6
    assert float(loc[1]) == pytest.approx(-float(loc[2]), abs=1e-6)
    torch.testing.assert_close(loc.sort().values, mixture_head(7)(torch.zeros(21)).component_distribution.loc)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "w2"}, "expected vary with names of parameters .*'decay'.*, got 'w2'"),
        ({"values": []}, "expected values of the setting to compare, got none"),
        ({"repeats": 0}, "expected repeats to be a whole number of 1 or more, got 0"),
        ({"holdout": 0.0}, r"expected holdout to be a number in \(0, 1\), got 0"),
        ({"holdout": 1.0}, r"expected holdout to be a number in \(0, 1\), got 1"),
        ({"holdout": 0.001}, "expected at least two of 400 rows held out"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        sweep(ridge, X, BRANCHES, **{"name": "decay", "values": [1.0], "method": FAST, **settings})


def test_values_for_other_members_raise():
    with pytest.raises(ValueError, match=r"expected a value of 'decay' for each of 3 members, got \(2,\)"):
        Ensemble(members=3, vary={"decay": torch.ones(2)})
    with pytest.raises(ValueError, match="expected restarts to be a whole number of 0 or more"):
        Ensemble(restarts=-1)
    with pytest.raises(ValueError, match="expected swept to be one of"):
        mixture_density(SCALE, swept=("width",))


def rows(n=60):
    torch.manual_seed(0)
    x = torch.randn(n, 1)
    return x, x[:, 0] + 0.1 * torch.randn(n)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("components", [0, 2], "expected numbers of components from 1 to 4, got 0"),
        ("components", [2, 9], "from 1 to 4, got 9"),
        ("components", [2.5], "from 1 to 4, got 2.5"),
        ("components", [math.nan], "expected numbers of components|cannot convert"),
        ("decay", [-1.0, 0.0], "expected finite decays of 0 or more, got -1"),
        ("decay", [math.nan], "expected finite decays of 0 or more, got nan"),
    ],
)
def test_values_that_a_setting_cannot_have_are_refused(name, values, message):
    x, y = rows()
    scale = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(0.0), torch.tensor(1.0))
    pair = mixture_density(scale, components=4, hidden=(4,), swept=(name,))
    method = Ensemble(steps=2, progress=False)
    with pytest.raises(ValueError, match=message):
        sweep(pair, x, y, name=name, values=values, method=method)
    for settings, wrong in (({"repeats": 1.5}, "repeats"), ({"holdout": math.nan}, "holdout")):
        with pytest.raises(ValueError, match=f"expected {wrong}"):
            sweep(pair, x, y, name=name, values=[1.0], method=method, **settings)


def test_errors_of_sequences_count_sequences():
    """40 sequences of 25 equal steps are 40 rows: the error is that of 20 held-out ones, not of 500."""

    def model(x, y=None):
        spread = pyro.param("spread", torch.tensor(1.0)).detach()
        loc = pyro.param("loc", torch.zeros(()))
        with pyro.plate("obs", len(x), dim=-2), pyro.plate("step", 25, dim=-1):
            return pyro.sample("y", dist.Normal(loc, spread.expand(len(x), 25)), obs=y)

    torch.manual_seed(0)
    y = torch.randn(40, 1).expand(40, 25).contiguous()
    method = Ensemble(steps=5, progress=False)
    found = sweep(model, torch.zeros(40, 25), y, name="spread", values=[1.0], repeats=1, holdout=0.5, method=method)
    assert found.attrs["rows_held_out"] == 20
    assert float(found.best_score_se[0]) > 0.05  # sd of -y²/2, about 0.7, over sqrt(20); over sqrt(500) 0.03
