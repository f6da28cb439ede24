"""What must not matter to a posterior's results, and what must be an error; draws are given, so that nothing is fitted.

Rows in another order, rows behind a mask against rows that are not there, arrays against tensors, y left out, and a
table of wrong arguments for every public method.
"""

import itertools

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.data import Observations, Standardization
from posterity.inference import SVI, Ensemble, Posterior, infer
from posterity.inference import arviz as boundary
from posterity.inference.diagnostics import leave_one_out, loo, pit, pulls, scores
from posterity.inference.program.likelihood import score_draws
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import trace
from posterity.inference.sweep import sweep
from posterity.models import bayesian_mixture_density, bayesian_regression, mixture_density

N, CHAINS, DRAWS = 20, 2, 30
X = torch.linspace(-1, 1, N)[:, None]
Y = 2 * X[:, 0] + 0.3 * torch.sin(7.0 * torch.arange(N))
KEPT = torch.arange(N) % 3 != 1
BAD = torch.where(KEPT, Y, -100.0)
FAST = SVI(guide="map", steps=3, progress=False)


def by_hand(model, *args, draws=DRAWS, site=None):
    """A posterior of prior draws."""
    bare = getattr(model, "model", model)
    program = inspect(bare, args, site)
    runs = [trace(bare, args, seed=1000 + seed) for seed in range(CHAINS * draws)]
    values = {
        name: torch.stack([run[name]["value"].detach() for run in runs]).unflatten(0, (CHAINS, draws))
        for name in (*program.latents, *program.parameters)
    }
    return Posterior(bare, program, values)


def line(x, y=None):
    slope = pyro.sample("slope", dist.Normal(2.0, 0.3))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.3), obs=y)


def with_mask(wrap):
    """`line` with its likelihood wrapped; ``wrap(fn, keep, x)`` is a context or changes the distribution."""

    def model(x, y=None, keep=None):
        keep = torch.ones(len(x), dtype=torch.bool) if keep is None else keep
        slope = pyro.sample("slope", dist.Normal(2.0, 0.3))
        with pyro.plate("obs", len(x)):
            return wrap(dist.Normal(slope * x[:, 0], 0.3), keep, x, y)

    return model


def mixture(fn, x):
    mixing = dist.Categorical(logits=x.new_zeros(len(x), 2))
    return dist.MixtureSameFamily(mixing, dist.Normal(fn.loc[:, None] + torch.tensor([0.0, 1.0]), 0.3))


def components_masked(fn, keep, x):
    whole = mixture(fn, x)
    return dist.MixtureSameFamily(whole.mixture_distribution, whole.component_distribution.mask(keep[:, None]))


def nested(fn, keep, x, y):
    left = x[:, 0] < 0
    with pyro.poutine.mask(mask=keep | left), pyro.poutine.mask(mask=True):
        return pyro.sample("y", fn.mask(keep | ~left), obs=y)


def event(fn, keep, x, y):
    fn = dist.Normal(fn.loc[:, None], 0.3).mask(keep[:, None]).to_event(1)
    return pyro.sample("y", fn, obs=None if y is None else y[:, None])


def under(mask, fn, y):
    with pyro.poutine.mask(mask=mask):
        return pyro.sample("y", fn, obs=y)


MASKS = {
    "fn.mask": lambda fn, keep, x, y: pyro.sample("y", fn.mask(keep), obs=y),
    "poutine.mask": lambda fn, keep, x, y: under(keep, fn, y),
    "nested": nested,
    "fn.mask twice": lambda fn, keep, x, y: pyro.sample("y", fn.mask(keep).mask(True), obs=y),
    "mixture": lambda fn, keep, x, y: pyro.sample("y", mixture(fn, x).mask(keep), obs=y),
    "components": lambda fn, keep, x, y: under(keep, components_masked(fn, keep, x), y),
    "obs_mask": lambda fn, keep, x, y: pyro.sample("y", fn, obs=y, obs_mask=keep),
    "event": event,
}


@pytest.fixture(scope="module", params=MASKS)
def masked_and_without(request):
    """The same posterior of all rows, some behind a mask, and of the others alone, with the rows' arguments."""
    model = with_mask(MASKS[request.param])
    torch.manual_seed(0)
    full = by_hand(model, X, BAD, KEPT)
    rest = by_hand(model, X[KEPT], Y[KEPT], torch.ones(int(KEPT.sum()), dtype=torch.bool))
    rest.draws["slope"].copy_(full.draws["slope"])
    return full, (X, BAD, KEPT), rest, (X[KEPT], Y[KEPT], torch.ones(int(KEPT.sum()), dtype=torch.bool))


def test_masked_rows_score_zero_and_the_others_as_without_them(masked_and_without):
    full, args, rest, others = masked_and_without
    found = full.log_likelihood(*args)
    assert bool((found[..., ~KEPT] == 0).all())
    torch.testing.assert_close(found[..., KEPT], rest.log_likelihood(*others))


def test_masked_rows_are_in_no_group(masked_and_without):
    full, args, rest, others = masked_and_without
    one, two = full.to_arviz(*args), rest.to_arviz(*others)
    rows = KEPT.nonzero()[:, 0].numpy()
    for name in ("log_likelihood", "observed_data", "posterior_predictive"):
        found = boundary.group(one, name)
        assert found.sizes["obs"] == len(rows)
        np.testing.assert_array_equal(found["obs"], rows)
        if name != "posterior_predictive":  # drawn at random for all rows
            for site, values in boundary.group(two, name).items():
                np.testing.assert_allclose(found[site], values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(boundary.group(one, "constant_data")["x0"], X[KEPT], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*Pareto.*", "ignore:The following observations")
def test_diagnostics_of_masked_rows_are_those_without_them(masked_and_without):
    full, args, rest, others = masked_and_without
    one, two = full.to_arviz(*args), rest.to_arviz(*others)
    name = "elpd_loo" if boundary.HAS_INFERENCE_DATA else "elpd"
    values = [float(getattr(az.loo(data), name)) for data in (one, two)]
    assert np.isfinite(values[0])
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert float(loo(one, reff=1.0).elpd_loo) == pytest.approx(float(loo(two, reff=1.0).elpd_loo), rel=1e-5)
    if boundary.group(one, "observed_data")[full.program.site].ndim > 1:
        return  # of several targets there are other diagnostics
    np.testing.assert_allclose(scores(one)["log_score"], scores(two)["log_score"], rtol=1e-5)
    # -100 behind the mask would be a pull of the limit.
    assert np.abs(pulls(one)["pull"].values).max() < 10
    assert pit(one)["pit"].size == int(KEPT.sum())


def test_what_is_scored_is_the_term_of_the_log_joint(masked_and_without):
    full, args, _, _ = masked_and_without
    for chain, draw in itertools.product(range(CHAINS), range(3)):
        values = {name: value[chain, draw] for name, value in full.draws.items()}
        run = pyro.poutine.trace(pyro.poutine.condition(full.model, values)).get_trace(*args)
        run.compute_log_prob()
        expected = run.nodes[full.program.site]["log_prob"].sum()
        torch.testing.assert_close(full.log_likelihood(*args)[chain, draw].sum(), expected, rtol=1e-5, atol=1e-4)


def test_a_mask_has_no_part_in_predictions(masked_and_without):
    full, _, rest, _ = masked_and_without
    torch.testing.assert_close(full.predictive(X[:7]).mean, rest.predictive(X[:7]).mean)
    assert bool(torch.isfinite(full.predictive(X[:7]).mean).all())


def test_steps_behind_a_mask_are_left_out_of_rows_that_stay():
    """Sequences of 3 and 1 to 4 steps: what is left lies along one dimension, with the numbers of row and step."""
    lengths, steps = torch.tensor([4, 1, 3]), 4
    keep = torch.arange(steps) < lengths[:, None]
    x = torch.randn(3, steps)
    y = torch.where(keep, x, -100.0)

    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(1.0, 0.3))
        with pyro.plate("rows", len(x), dim=-2), pyro.plate("steps", steps, dim=-1), pyro.poutine.mask(mask=keep):
            return pyro.sample("y", dist.Normal(slope * x, 0.3), obs=y)

    posterior = by_hand(model, x, y)
    data = posterior.to_arviz(x, y)
    scores = boundary.group(data, "log_likelihood")["y"]
    assert scores.dims == ("chain", "draw", "unmasked")
    rows, places = keep.nonzero().unbind(1)
    np.testing.assert_array_equal(scores["rows"], rows)
    np.testing.assert_array_equal(scores["steps"], places)
    np.testing.assert_array_equal(boundary.group(data, "observed_data")["y"], x[keep])
    np.testing.assert_array_equal(boundary.group(data, "constant_data")["x"], x[rows])
    np.testing.assert_allclose(scores.sum("unmasked"), posterior.log_likelihood(x, y).sum((2, 3)), rtol=1e-5)
    assert np.abs(pulls(data)["pull"].values).max() < 10


def test_columns_behind_a_mask_leave_a_grid():
    keep = torch.tensor([True, False, True])

    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(1.0, 0.3))
        with pyro.plate("rows", len(x), dim=-2), pyro.plate("columns", 3, dim=-1):
            return pyro.sample("y", dist.Normal(slope * x, 0.3).mask(keep), obs=y)

    x = torch.randn(5, 3)
    found = boundary.group(by_hand(model, x, x).to_arviz(x, x), "observed_data")["y"]
    assert found.dims == ("rows", "columns")
    np.testing.assert_array_equal(found["columns"], [0, 2])
    np.testing.assert_array_equal(found, x[:, keep])


def test_part_of_an_event_behind_a_mask_is_nan_where_it_is_observed():
    keep = torch.tensor([True, False])

    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(2.0, 0.3))
        with pyro.plate("obs", len(x)):
            mean = (slope * x).expand(-1, 2)
            return pyro.sample("y", dist.Normal(mean, 0.3).mask(keep).to_event(1), obs=y)

    y = torch.stack([Y, torch.full((N,), -100.0)], -1)
    posterior = by_hand(model, X, y)
    torch.testing.assert_close(posterior.log_likelihood(X, y), by_hand(line, X, Y).log_likelihood(X, Y))
    found = boundary.group(posterior.to_arviz(X, y), "observed_data")["y"]
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to([False, True], (N, 2)))


def test_nothing_left_by_a_mask_is_an_error():
    posterior = by_hand(with_mask(MASKS["fn.mask"]), X, Y, torch.zeros(N, dtype=torch.bool))
    assert bool((posterior.log_likelihood(X, Y, torch.zeros(N, dtype=torch.bool)) == 0).all())
    with pytest.raises(ValueError, match="expected observations that the model scores, got 20, all masked out"):
        posterior.to_arviz(X, Y, torch.zeros(N, dtype=torch.bool))


@pytest.mark.parametrize("word", ["mask", "scale"])
def test_a_column_beside_rows_is_no_mask_and_no_scale(word):
    """Pyro would score N x N pairs."""

    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(2.0, 0.3))
        column = {"mask": KEPT[:, None], "scale": torch.ones(N, 1)}[word]
        with pyro.plate("obs", len(x)), getattr(pyro.poutine, word)(**{word: column}):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.3), obs=y)

    with pytest.raises(
        ValueError, match=rf"expected a {word} of shape \(20,\) at the observed site 'y', got \(20, 1\)"
    ):
        infer(model, X, Y, method=FAST)


def test_a_mask_that_depends_on_the_draws_is_an_error():
    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.3).mask(slope > 0), obs=y)

    with pytest.raises(ValueError, match="expected a mask at 'y' that is the same for every draw"):
        by_hand(model, X, Y).log_likelihood(X, Y)


@pytest.mark.parametrize("scale", [10.0, torch.linspace(0.1, 2.0, N)], ids=["number", "weights"])
def test_a_scale_multiplies_scores_and_nothing_else(scale):
    def model(x, y=None):
        with pyro.poutine.scale(scale=scale):
            return line(x, y)

    posterior = by_hand(line, X, Y)
    scaled = Posterior(model, inspect(model, (X, Y)), posterior.draws)
    torch.testing.assert_close(scaled.log_likelihood(X, Y), scale * posterior.log_likelihood(X, Y))
    one, two = scaled.to_arviz(X, Y), posterior.to_arviz(X, Y)
    np.testing.assert_allclose(
        boundary.group(one, "log_likelihood")["y"],
        boundary.group(two, "log_likelihood")["y"] * np.asarray(scale),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(pulls(one)["pull"], pulls(two)["pull"])
    torch.testing.assert_close(scaled.predictive(X).variance, posterior.predictive(X).variance)


HOLDOUTS = {
    "SVI": SVI(guide="map", steps=6, holdout=0.5, check_every=2, progress=False),
    "Ensemble": Ensemble(members=2, steps=6, holdout=0.5, check_every=2, progress=False),
}


@pytest.mark.parametrize("name", HOLDOUTS)
def test_held_out_scores_do_not_see_what_is_behind_the_mask(name):
    model = with_mask(MASKS["fn.mask"])
    found = [infer(model, X, y, KEPT, method=HOLDOUTS[name], seed=3).history["held_out"] for y in (BAD, Y)]
    torch.testing.assert_close(found[0], found[1])
    assert bool((found[0] > -50).all())


def test_a_sweep_does_not_see_what_is_behind_the_mask():
    def model(x, y=None, keep=None):
        decay = pyro.param("decay", torch.tensor(1.0)).detach()
        slope = pyro.param("slope", torch.tensor(2.0))
        pyro.factor("prior", -0.5 * decay * slope**2)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.3).mask(keep), obs=y)

    method = Ensemble(steps=3, progress=False)
    settings = {"name": "decay", "values": [0.0, 1.0], "repeats": 1, "holdout": 0.5, "method": method}
    found = [sweep(model, X, y, KEPT, **settings) for y in (BAD, Y)]
    np.testing.assert_allclose(found[0]["log_score"], found[1]["log_score"], rtol=1e-6)


def test_a_refit_without_a_row_counts_the_rows_that_are_left():
    model = with_mask(MASKS["fn.mask"])
    refit = leave_one_out(model, X.numpy(), BAD.numpy(), KEPT.numpy(), method=FAST)
    rest = leave_one_out(with_mask(MASKS["fn.mask"]), X, BAD, KEPT, method=FAST)
    left = int(KEPT.sum())
    assert all(refit(n) == rest(n) and refit(n) > -100 for n in (0, 1, left - 1))
    with pytest.raises(ValueError, match=f"expected a row from 0 to {left - 1}, got {left}"):
        refit(left)


# Rows in another order


SCALE = Standardization.fit(Observations(X, Y))
MODELS = {
    "line": line,
    "bayesian_regression": bayesian_regression(SCALE, hidden=(4,)),
    "constant noise": bayesian_regression(SCALE, hidden=(4,), noise="constant"),
    "mixture_density": mixture_density(SCALE, hidden=(4,)),
    "bayesian_mixture_density": bayesian_mixture_density(SCALE, hidden=(4,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_rows_in_another_order_are_the_same_results_in_that_order(name):
    """To rounding: 1e-5 relative, of sums 1e-4."""
    posterior = by_hand(MODELS[name], X, Y)
    order = torch.randperm(N)
    torch.testing.assert_close(posterior.log_likelihood(X[order], Y[order]), posterior.log_likelihood(X, Y)[..., order])
    torch.testing.assert_close(posterior.function_draws(X[order]), posterior.function_draws(X)[..., order])
    one, two = posterior.predictive(X[order]), posterior.predictive(X)
    for part in ("mean", "noise", "ambiguity", "epistemic"):
        torch.testing.assert_close(getattr(one, part), getattr(two, part)[order], rtol=1e-4, atol=1e-5)
    data = [posterior.to_arviz(x, y) for x, y in ((X[order], Y[order]), (X, Y))]
    found = [boundary.group(one, "log_likelihood")["y"].values for one in data]
    np.testing.assert_allclose(found[0], found[1][..., order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_arrays_and_lists_are_read_as_tensors(name):
    posterior = by_hand(MODELS[name], X, Y)
    expected = posterior.log_likelihood(X, Y)
    torch.testing.assert_close(posterior.log_likelihood(X.numpy(), Y.numpy()), expected)
    torch.testing.assert_close(posterior.log_likelihood(X, Y.tolist()), expected)
    torch.testing.assert_close(posterior.log_likelihood(X, y=Y.numpy()[::-1][::-1]), expected)
    torch.testing.assert_close(posterior.predictive(X.numpy()).mean, posterior.predictive(X).mean)


def test_a_fit_to_arrays_is_the_fit_to_tensors():
    one = infer(line, X, Y, method=FAST, seed=2)
    for args, named in (((X.numpy(), Y.numpy()), {}), ((X.tolist(), Y.tolist()), {}), ((X,), {"y": Y.numpy()})):
        assert torch.equal(infer(line, *args, method=FAST, seed=2, **named).draws["slope"], one.draws["slope"])


# y left out


def two_answers(x, z=None, y=None):
    slope = pyro.sample("slope", dist.Normal(2.0, 0.3))
    with pyro.plate("obs", len(x)):
        pyro.sample("z", dist.Normal(-slope * x[:, 0], 0.3), obs=z)
        return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.3), obs=y)


WITHOUT_Y = {
    "nothing": (lambda call: call(X)),
    "None": (lambda call: call(X, None)),
    "x left out": (lambda call: call(Y)),
}


@pytest.mark.parametrize("given", WITHOUT_Y)
@pytest.mark.parametrize("method", ["log_likelihood", "to_arviz", "infer", "load", "sweep", "leave_one_out", "score"])
def test_a_y_that_is_left_out_is_an_error_that_names_it(given, method, tmp_path):
    posterior = by_hand(line, X, Y)
    path = posterior.save(tmp_path / "line.posterior")
    calls = {
        "infer": lambda *args: infer(line, *args, method=FAST),
        "load": lambda *args: Posterior.load(path, line, *args),
        "sweep": lambda *args: sweep(line, *args, name="decay", values=[0.0]),
        "leave_one_out": lambda *args: leave_one_out(line, *args, method=FAST)(0),
        "score": lambda *args: score_draws(line, args, {"slope": torch.zeros(3)}, "y"),
    }
    call = calls.get(method) or getattr(posterior, method)
    with pytest.raises(ValueError, match=r"not given: 'y'|IndexError: too many indices"):
        WITHOUT_Y[given](call)


@pytest.mark.parametrize("site", [None, "y"])
def test_one_of_two_observations_left_out_is_not_inferred_in_silence(site):
    with pytest.raises(ValueError, match=r"not given: 'y'|expected the model's argument 'y', which it observes at"):
        infer(two_answers, X, -Y, method=FAST, site=site)
    with pytest.raises(ValueError, match="expected the model's argument 'z', which it observes at the site 'z'"):
        infer(two_answers, X, y=Y, method=FAST)
    assert "z" in infer(two_answers, X, None, Y, method=FAST).draws  # meant, and said


def test_the_other_observation_does_not_take_the_place_of_y():
    posterior = by_hand(two_answers, X, -Y, Y, site="y")
    with pytest.raises(ValueError, match=r"expected y, which the model observes at 'y'.*not given: 'y'"):
        posterior.to_arviz(X, -Y)
    torch.testing.assert_close(posterior.log_likelihood(X, None, Y), posterior.log_likelihood(X, -Y, Y))


def test_an_observation_that_a_prediction_needs_is_named():
    def model(x, z=None, y=None):
        slope = pyro.sample("slope", dist.Normal(2.0, 0.3))
        with pyro.plate("obs", len(x)):
            z = pyro.sample("z", dist.Normal(x[:, 0], 0.3), obs=z)
            return pyro.sample("y", dist.Normal(slope * z, 0.3), obs=y)

    posterior = by_hand(model, X, X[:, 0], Y, site="y")
    assert bool(torch.isfinite(posterior.predictive(X, X[:, 0]).mean).all())
    with pytest.raises(ValueError, match=r"expected values of the observed sites \['z'\]"):
        posterior.predictive(X)


def test_an_optional_input_is_no_observation():
    def model(x, y=None, weights=None):
        with pyro.poutine.scale(scale=torch.ones(()) if weights is None else weights):
            return line(x, y)

    assert "slope" in infer(model, X, Y, method=FAST).draws


# Any argument is a result or a ValueError that says which


WRONG = {
    "no rows": lambda v: v[:0],
    "one row": lambda v: v[:1],
    "a row less": lambda v: v[1:],
    "a column": lambda v: v.reshape(N, 1),
    "a row": lambda v: v.reshape(1, N),
    "flat": lambda v: v.reshape(N),
    "three columns": lambda v: v.reshape(N, 1).expand(N, 3),
    "a number": lambda v: v.flatten()[0],
    "float64": lambda v: v.double(),
    "float16": lambda v: v.half(),
    "whole numbers": lambda v: v.long(),
    "truth values": lambda v: v > 0,
    "complex": lambda v: v + 0j,
    "nan": lambda v: torch.where(torch.arange(N).reshape(-1, *[1] * (v.ndim - 1)) == 3, torch.nan, v),
    "infinite": lambda v: v / 0,
    "array": lambda v: v.numpy(),
    "big-endian array": lambda v: v.numpy().astype(">f8"),
    "array of objects": lambda v: v.numpy().astype(object),
    "array of texts": lambda v: v.numpy().astype(str),
    "dates": lambda v: np.zeros(v.shape, "datetime64[s]"),
    "masked array": lambda v: np.ma.masked_less(v.numpy(), 0),
    "list": lambda v: v.tolist(),
    "ragged list": lambda v: [[1.0], *[[1.0, 2.0]] * (N - 1)],
    "empty list": lambda v: [],
    "text": lambda v: "x",
    "None": lambda v: None,
    "object": lambda v: object(),
    "dictionary": lambda v: {"x": v},
}


@pytest.mark.parametrize("place", ["x", "y"])
@pytest.mark.parametrize("name", WRONG)
def test_every_argument_is_a_result_or_a_named_error(name, place):
    """Of 28 values for x and y each, in every method: 100 % are a finite result or a ``ValueError``."""
    posterior = by_hand(line, X, Y, draws=2)
    args = (WRONG[name](X), Y) if place == "x" else (X, WRONG[name](Y))
    calls = {
        "log_likelihood": lambda: posterior.log_likelihood(*args),
        "to_arviz": lambda: boundary.group(posterior.to_arviz(*args), "log_likelihood")["y"].values,
        "infer": lambda: infer(line, *args, method=FAST).draws["slope"],
        "predictive": lambda: posterior.predictive(args[0]).mean,
        "predict": lambda: boundary.group(posterior.to_arviz(X, Y, predict=args[0]), "predictions")["y"].values,
    }
    for method, call in calls.items():
        message, found = "expected ", torch.zeros(())
        try:
            found = torch.as_tensor(call())
        except ValueError as error:
            message = str(error)
        assert message.startswith("expected "), f"{method}: {message}"
        assert bool(torch.isfinite(found).all()), method
