"""Against closed forms: with a normal likelihood every guide's optimum is known exactly."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from posterity.inference import SVI, guide_fit, infer
from posterity.models import mixture_head, mlp, point
from posterity.random import child_seeds, seeded

GENERATOR = torch.Generator().manual_seed(0)
ROWS, NOISE, PRIOR_SD = 40, 0.5, 2.0
MIX = torch.tensor([[1.0, 0.8, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 1.0]])
X = torch.randn(ROWS, 3, generator=GENERATOR) @ MIX
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + NOISE * torch.randn(ROWS, generator=GENERATOR)
PRECISION = X.T @ X / NOISE**2 + torch.eye(3) / PRIOR_SD**2
COVARIANCE = torch.linalg.inv(PRECISION)
MEAN = COVARIANCE @ X.T @ Y / NOISE**2
SD = COVARIANCE.diag().sqrt()
TOO_NARROW = PRECISION.diag().rsqrt()  # the mean-field optimum (Bishop 2006, section 10.1.2)


def linear(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), PRIOR_SD).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def fit(model=linear, *args, seed=1, **settings):
    args = args or (X, Y)
    return infer(model, *args, method=SVI(**{"progress": False, "draws": 4000, **settings}), seed=seed)


@functools.cache
def fit_full_rank():
    return fit(guide="full_rank", steps=2500, learning_rate=0.03)


def moments(posterior, name="w"):
    draws = posterior.draws[name].flatten(0, 1)
    return draws.mean(0), draws.std(0)


# The four guides


@pytest.mark.slow  # the quick one is of a model with a plate, below
def test_full_rank_is_the_closed_form():
    """Means within 0.15 posterior sd, sd within 10 %, correlation within 0.05 (sampling: 0.016, 1 %, 0.01)."""
    posterior = fit_full_rank()
    mean, sd = moments(posterior)
    assert ((mean - MEAN).abs() < 0.15 * SD).all()
    torch.testing.assert_close(sd, SD, rtol=0.1, atol=0)
    correlation = torch.corrcoef(posterior.draws["w"][0].T)
    torch.testing.assert_close(correlation, COVARIANCE / SD / SD[:, None], rtol=0, atol=0.05)


def test_mean_field_is_too_narrow_by_the_known_factor():
    assert (TOO_NARROW / SD).min() < 0.7  # the data tell one from the other
    mean, sd = moments(fit(guide="mean_field", steps=500, learning_rate=0.03, seed=2))
    assert ((mean - MEAN).abs() < 0.15 * SD).all()
    torch.testing.assert_close(sd, TOO_NARROW, rtol=0.1, atol=0)


@pytest.mark.slow
def test_low_rank_of_full_dimension_is_the_closed_form():
    mean, sd = moments(fit(guide="low_rank", rank=3, steps=1500, learning_rate=0.03))
    assert ((mean - MEAN).abs() < 0.2 * SD).all()
    torch.testing.assert_close(sd, SD, rtol=0.15, atol=0)


def test_map_is_the_ridge_solution():
    posterior = fit(guide="map", steps=500, learning_rate=0.05)
    assert posterior.draws["w"].shape == (1, 1, 3)
    torch.testing.assert_close(posterior.draws["w"][0, 0], MEAN, atol=1e-3, rtol=0)


def test_started_at_the_mode_the_guide_is_there():
    """A third of the steps lead to the ridge solution; with too few steps to find it, the start is elsewhere."""
    posterior = fit(guide="mean_field", init="map", steps=450, learning_rate=0.05, init_scale=1e-4)
    short = fit(guide="mean_field", init="map", steps=3, learning_rate=1e-6, init_scale=1e-4)
    assert ((posterior.draws["w"][0].mean(0) - MEAN).abs() < 0.3 * SD).all()
    assert ((short.draws["w"][0].mean(0) - MEAN).abs() > 0.3 * SD).any()


def test_the_mode_is_not_found_on_held_out_rows():
    settings = {"guide": "mean_field", "init": "map", "steps": 30, "holdout": 0.25, "check_every": 30, "draws": 5}
    base = fit(**settings)
    spoilt = Y.clone()
    spoilt[held_out_rows(base, 0.25, ROWS)] = 1e3
    torch.testing.assert_close(fit(linear, X, spoilt, **settings).draws["w"], base.draws["w"])


def test_the_default_guide_is_mean_field():
    assert fit(steps=2).attrs["guide"] == "AutoNormal"


# Batches


@pytest.mark.parametrize("batch_size", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_batches_give_the_posterior_of_all_rows(batch_size):
    """sd within 15 %. Without the factor N / batch it would be wider by the root of it: 124 % and 41 %."""
    settings = {"guide": "mean_field", "steps": 600, "learning_rate": 0.03, "seed": 2}
    mean, sd = moments(fit(batch_size=batch_size, **settings))
    assert ((mean - MEAN).abs() < 0.35 * SD).all()
    torch.testing.assert_close(sd, TOO_NARROW, rtol=0.15, atol=0)


def test_a_batch_larger_than_the_data_raises():
    with pytest.raises(ValueError, match="expected a batch_size of at most 40 rows, got 41"):
        fit(batch_size=41, steps=2)
    with pytest.raises(ValueError, match="expected a batch_size of at most 30 rows, got 31"):
        fit(batch_size=31, holdout=0.25, steps=2)


# Held-out rows


NET, HEAD = mlp(1, 30, 9, seed=0), mixture_head(3)
X1 = torch.linspace(-1, 1, 40)[:, None]
Y1 = torch.sin(3 * X1[:, 0]) + 0.3 * torch.randn(40, generator=GENERATOR)


def network(x, y=None):
    features = point("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", HEAD(features), obs=y)


def held_out_rows(posterior, share, rows):
    """The rows that a fit keeps out are the first of a permutation of its own stream."""
    with seeded(child_seeds(posterior.attrs["seed"], 1)[0]):
        return torch.randperm(rows)[: round(share * rows)]


def test_training_stops_when_the_held_out_score_gets_no_better_and_keeps_the_best():
    posterior = fit(network, X1, Y1, steps=3000, learning_rate=0.03, holdout=0.25, check_every=20, patience=6, draws=1)
    scores, steps = posterior.history["held_out"], posterior.history["held_out_step"]
    best = int(scores.argmax())
    assert len(posterior.history["loss"]) == steps[-1] < 3000
    assert len(scores) == best + 1 + 6
    assert scores[best] > scores[-1] + 0.05  # it went astray, and came back
    rows = held_out_rows(posterior, 0.25, 40)
    score = posterior.predictive(X1[rows]).log_prob(Y1[rows]).mean()
    torch.testing.assert_close(score, scores[best])


def test_held_out_rows_are_not_trained_on():
    """Their y is absurd, and the fit does not notice."""
    base = fit(steps=200, guide="map", holdout=0.25, check_every=200)
    rows = held_out_rows(base, 0.25, ROWS)
    spoilt = Y.clone()
    spoilt[rows] = 1e3
    other = fit(linear, X, spoilt, steps=200, guide="map", holdout=0.25, check_every=200)
    torch.testing.assert_close(other.draws["w"], base.draws["w"])
    assert other.history["held_out"][0] < base.history["held_out"][0] - 100


def test_scoring_does_not_change_the_course_of_training():
    often = fit(steps=100, holdout=0.25, check_every=10)
    seldom = fit(steps=100, holdout=0.25, check_every=50)
    assert torch.equal(often.history["loss"], seldom.history["loss"])


def test_too_few_rows_to_hold_any_out_raise():
    with pytest.raises(ValueError, match="expected rows left to train on, got 1 rows and 1 held out"):
        fit(linear, X[:1], Y[:1], holdout=0.5, steps=2)


# The learning curve


def test_the_learning_curve_is_the_negative_bound():
    """Without latent sites the bound is the log likelihood: the last loss is that of one step before the end."""
    posterior = fit(network, X1, Y1, steps=300, learning_rate=0.01)
    loss = posterior.history["loss"]
    assert loss.shape == (300,)
    assert loss[-20:].mean() < loss[:20].mean() - 5
    torch.testing.assert_close(-posterior.log_likelihood(X1, Y1).sum(), loss[-1], rtol=0, atol=0.05)


@pytest.mark.slow  # the quick one is of a model with a plate, below
def test_the_bound_comes_to_the_evidence():
    """With the exact family the bound is tight: -log p(y), known in closed form, within 0.1 nats."""
    posterior = fit_full_rank()
    evidence = torch.distributions.MultivariateNormal(
        torch.zeros(ROWS), PRIOR_SD**2 * X @ X.T + NOISE**2 * torch.eye(ROWS)
    ).log_prob(Y)
    assert abs(posterior.history["loss"][-200:].mean() + evidence) < 0.1


# Guides of one's own


def own_guide(x, y=None):
    loc = pyro.param("loc", lambda: torch.zeros(3))
    scale = pyro.param("scale", lambda: 0.1 * torch.ones(3), constraint=constraints.positive)
    pyro.sample("w", dist.Normal(loc, scale).to_event(1))


def test_a_callable_is_a_guide():
    posterior = fit(guide=own_guide, steps=600, learning_rate=0.03, draws=1500)
    mean, sd = moments(posterior)
    assert ((mean - MEAN).abs() < 0.2 * SD).all()
    torch.testing.assert_close(sd, TOO_NARROW, rtol=0.12, atol=0)
    assert posterior.attrs["guide"] == "own_guide"


def test_a_pyro_guide_is_a_guide():
    posterior = fit(guide=pyro.infer.autoguide.AutoDiagonalNormal(linear), steps=20, draws=7)
    assert posterior.draws["w"].shape == (1, 7, 3)


# Draws from the guide


def with_plate(s, y=None):
    """A plate over a latent site; all is normal, so the full-rank guide is exact."""
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    pair = pyro.sample("pair", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("groups", 4):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(mu + theta + pair[0] * s, 0.5), obs=y)


S4, Y4 = torch.tensor([-1.0, -0.3, 0.4, 1.0]), torch.tensor([0.5, 1.5, 0.0, 3.0])


def exact_with_plate():
    """Mean and covariance of (mu, pair, theta) given y."""
    design = torch.cat([torch.ones(4, 1), S4[:, None], torch.zeros(4, 1), torch.eye(4)], 1)
    precision = torch.diag(torch.tensor([0.25, 1, 1, 1, 1, 1, 1])) + design.T @ design / 0.25
    covariance = torch.linalg.inv(precision)
    return covariance @ design.T @ Y4 / 0.25, covariance, precision


def stacked(posterior):
    parts = [posterior.draws[name].flatten(0, 1) for name in ("mu", "pair", "theta")]
    return torch.cat([part.reshape(len(part), -1) for part in parts], 1)


@functools.cache
def fit_with_plate(guide):
    return fit(with_plate, S4, Y4, guide=guide, steps=1500, learning_rate=0.03, draws=8000)


def test_the_bound_of_a_model_with_a_plate_comes_to_the_evidence():
    """As above, with y normal of covariance 4 + s s' + 1.25: the loss of the last steps within 0.1 nats."""
    covariance = 4.0 + torch.outer(S4, S4) + 1.25 * torch.eye(4)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(4), covariance).log_prob(Y4)
    assert abs(fit_with_plate("full_rank").history["loss"][-200:].mean() + evidence) < 0.1


@pytest.mark.parametrize("guide", ["full_rank", pytest.param("mean_field", marks=pytest.mark.slow)])
def test_draws_of_sites_in_a_plate_have_the_guides_moments(guide):
    """All draws come from one call inside a plate: each site's own mean, sd and correlation must survive it."""
    posterior = fit_with_plate(guide)
    assert {n: v.shape for n, v in posterior.draws.items()} == {
        "mu": (1, 8000), "pair": (1, 8000, 2), "theta": (1, 8000, 4),
    }  # fmt: skip
    mean, covariance, precision = exact_with_plate()
    draws = stacked(posterior)
    sd = covariance.diag().sqrt()
    assert ((draws.mean(0) - mean).abs() < 0.2 * sd).all()
    expected = sd if guide == "full_rank" else precision.diag().rsqrt()
    torch.testing.assert_close(draws.std(0), expected, rtol=0.12, atol=0)
    correlation = covariance / sd / sd[:, None] if guide == "full_rank" else torch.eye(7)
    torch.testing.assert_close(torch.corrcoef(draws.T), correlation, rtol=0, atol=0.08)


@pytest.mark.parametrize("guide", ["map", "mean_field", "low_rank", "full_rank"])
def test_every_guide_draws_constrained_sites_of_nested_plates(guide):
    def model(x, y=None):
        scale = pyro.sample("scale", dist.HalfNormal(1.0))
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("rows", 4, dim=-2):
            row = pyro.sample("row", dist.LogNormal(0.0, scale))
            with pyro.plate("columns", 2, dim=-1):
                cell = pyro.sample("cell", dist.Normal(row * weights[0], 1.0))
                return pyro.sample("y", dist.Normal(cell, 1.0), obs=y)

    y = torch.randn(4, 2)
    posterior = fit(model, torch.zeros(4), y, guide=guide, steps=5, draws=11)
    count = 1 if guide == "map" else 11
    shapes = {"scale": (), "weights": (3,), "row": (4, 1), "cell": (4, 2)}
    assert {n: v.shape for n, v in posterior.draws.items()} == {n: (1, count, *s) for n, s in shapes.items()}
    assert (posterior.draws["row"] > 0).all()
    torch.testing.assert_close(posterior.draws["weights"].sum(-1), torch.ones(1, count))
    if count > 1:
        spread = torch.stack([v[0].std(0).min() for v in posterior.draws.values()])
        assert (spread > 1e-4).all()  # no site is one value repeated
        flat = posterior.draws["cell"].reshape(count, -1)
        assert len(torch.unique(flat, dim=0)) == count
    assert posterior.predictive(torch.zeros(4)).batch_shape == (4, 2)


def test_sites_and_parameters_together_are_drawn_and_constant():
    net = mlp(1, 1, seed=0)

    def model(x, y=None):
        features = point("net", net)(x)
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(features[:, 0], noise), obs=y)

    posterior = fit(model, X1, Y1, steps=50, draws=9)
    assert posterior.draws["noise"].shape == (1, 9)
    weight = posterior.draws["net.output.weight"]
    assert weight.shape == (1, 9, 1, 1)
    assert (weight == weight[:, :1]).all()
    assert not torch.equal(weight[0, 0], net.output.weight.detach())


# What holds everywhere


@pytest.mark.parametrize("guide", ["map", "mean_field", "low_rank", "full_rank", own_guide])
def test_the_same_seed_gives_the_same_fit(guide):
    first, second, other = (fit(guide=guide, steps=10, draws=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.history["loss"], second.history["loss"])
    assert torch.equal(first.draws["w"], second.draws["w"])
    assert not torch.equal(first.history["loss"], other.history["loss"]) or guide is own_guide


def test_the_callers_parameters_are_neither_used_nor_changed():
    clean = fit(guide=own_guide, steps=10, draws=5)
    pyro.param("loc", 100 * torch.ones(3))
    state = torch.get_rng_state()
    assert torch.equal(fit(guide=own_guide, steps=10, draws=5).draws["w"], clean.draws["w"])
    assert torch.equal(torch.get_rng_state(), state)
    assert list(pyro.get_param_store()) == ["loc"]
    assert torch.equal(pyro.param("loc"), 100 * torch.ones(3))


def test_an_interrupt_keeps_what_is_fitted(monkeypatch):
    loss, count = guide_fit.GuideFit._loss, iter(range(1000))

    def stop(self, elbo):
        if next(count) == 12:
            raise KeyboardInterrupt
        return loss(self, elbo)

    monkeypatch.setattr(guide_fit.GuideFit, "_loss", stop)
    with pytest.warns(RuntimeWarning, match="SVI was interrupted and returns the guide as it was after 12 of 100"):
        posterior = fit(steps=100, draws=5)
    assert posterior.attrs["interrupted"] == 1
    assert posterior.history["loss"].shape == (12,)
    assert posterior.draws["w"].shape == (1, 5, 3)


def test_an_interrupt_before_the_first_check_keeps_what_is_fitted(monkeypatch):
    """Held-out rows choose among checks; where there is none yet, the latest weights are the best known."""
    loss, count = guide_fit.GuideFit._loss, iter(range(1000))

    def stop(self, elbo):
        if next(count) == 12:
            raise KeyboardInterrupt
        return loss(self, elbo)

    monkeypatch.setattr(guide_fit.GuideFit, "_loss", stop)
    with pytest.warns(RuntimeWarning, match="interrupted and returns"):
        posterior = fit(network, X1, Y1, steps=100, holdout=0.25, check_every=50, learning_rate=0.05)
    assert not torch.equal(posterior.draws["net.output.weight"][0, 0], NET.output.weight.detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guide": "normal"}, r"expected guide to be one of .* or a callable, got 'normal'"),
        ({"init": "zero"}, r"expected init to be one of .*, got 'zero'"),
        ({"steps": 0}, "expected steps to be a whole number of 1 or more, got 0"),
        ({"particles": 0}, "expected particles to be a whole number of 1 or more"),
        ({"draws": 0}, "expected draws to be a whole number of 1 or more"),
        ({"check_every": 0}, "expected check_every to be a whole number of 1 or more"),
        ({"patience": 0}, "expected patience to be a whole number of 1 or more"),
        ({"learning_rate": 0.0}, "expected learning_rate to be a finite number above 0, got 0.0"),
        (
            {"learning_rate": math.nan},
            r"expected learning_rate to be a finite number above 0, got nan",
        ),
        ({"final_rate": -1.0}, "expected final_rate to be a finite number above 0"),
        ({"clip": 0.0}, "expected clip to be a finite number above 0"),
        ({"init_scale": 0.0}, "expected init_scale to be a finite number above 0"),
        ({"batch_size": 0}, "expected batch_size to be a whole number of 1 or more, got 0"),
        ({"holdout": 1.0}, r"expected holdout to be a number in \[0, 1\), got 1.0"),
        ({"holdout": -0.1}, r"expected holdout to be a number in \[0, 1\)"),
        ({"rank": 0}, "expected rank to be a whole number of 1 or more, got 0"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        SVI(**settings)


def test_a_bound_that_is_not_finite_raises():
    def model(y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("nothing", torch.tensor(-math.inf))
        return pyro.sample("y", dist.Normal(w, 1.0), obs=y)

    with pytest.raises(ValueError, match="expected init with a finite bound at the start, got a loss of nan"):
        fit(model, torch.tensor(0.0), steps=2)


def test_nothing_to_fit_raises():
    def model(y=None):
        with pyro.plate("obs", 3):
            return pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    with pytest.raises(ValueError, match="expected a model or guide with parameters to fit, got none"):
        fit(model, torch.zeros(3), steps=2)
