import math

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import NUTS, SVI, Ensemble, Posterior, infer
from posterity.inference import arviz as boundary
from posterity.inference.program.sites import inspect
from posterity.models import bayesian, gaussian, mixture_density, mlp, point
from posterity.models.mixtures import mixture_head

N, CHAINS, DRAWS = 12, 2, 40
X = torch.linspace(-1, 1, N)
Y = 0.5 + 2 * X + 0.3 * torch.sin(torch.arange(N) * 7.0)


def line(x, y=None):
    intercept = pyro.sample("intercept", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    at_one = pyro.deterministic("at_one", intercept + slope)
    with pyro.plate("obs", len(x)):
        mean = pyro.deterministic("mean", intercept + slope * x)
        return pyro.sample("y", dist.Normal(mean + 0 * at_one, noise), obs=y)


@pytest.fixture(scope="module")
def posterior():
    torch.manual_seed(0)
    return infer(line, X, Y, method=NUTS(draws=DRAWS, warmup=60, chains=CHAINS, progress=False))


@pytest.fixture(scope="module")
def idata(posterior):
    return posterior.to_arviz(X, Y, predict=torch.linspace(-2, 2, 5), seed=3)


MASK = torch.tensor([True, False, True])


def with_many_priors(x, y=None):
    """Sites of every kind: constrained, of an event, in a plate with a mask, scaled, and dependent on another."""
    scale = pyro.sample("scale", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
    root = pyro.sample("root", dist.LKJCholesky(2, 1.5))
    with pyro.plate("groups", 3), pyro.poutine.mask(mask=MASK):
        own = pyro.sample("own", dist.Normal(scale[0], scale[1]))
    with pyro.poutine.scale(scale=0.5):
        slope = pyro.sample("slope", dist.StudentT(3.0, own.sum(), 1.0))
    pyro.factor("penalty", -(slope**2))
    with pyro.plate("obs", len(x)):
        pyro.sample("z", dist.Normal(x, 1.0), obs=x)
        return pyro.sample("y", dist.Normal(slope * x + root[1, 0], 1.0), obs=y)


def test_log_prior_is_the_term_of_the_log_joint_as_pyro_scores_it():
    chains, draws = 2, 3
    generator = torch.Generator().manual_seed(0)
    values = {
        "scale": torch.rand(chains, draws, 2, generator=generator) + 0.5,
        "root": dist.LKJCholesky(2, 1.5).sample((chains, draws)),
        "own": torch.randn(chains, draws, 3, generator=generator),
        "slope": torch.randn(chains, draws, generator=generator),
    }
    posterior = Posterior(with_many_priors, inspect(with_many_priors, (X, Y), "y"), values)
    found = posterior.log_prior(X, y=Y)
    shapes = {"scale": (), "root": (), "own": (3,), "slope": ()}
    assert {name: tuple(value.shape) for name, value in found.items()} == {n: (2, 3, *s) for n, s in shapes.items()}
    for chain, draw in np.ndindex(chains, draws):
        one = {name: value[chain, draw] for name, value in values.items()}
        trace = pyro.poutine.trace(pyro.poutine.condition(with_many_priors, data=one)).get_trace(X, Y)
        trace.compute_log_prob()
        for name, value in found.items():
            torch.testing.assert_close(value[chain, draw], trace.nodes[name]["log_prob"])
    assert bool((found["own"][..., ~MASK] == 0).all())
    idata = posterior.to_arviz(X, Y, log_prior=True)
    group = boundary.group(idata, "log_prior")
    assert {str(name): group[name].dims[2:] for name in group} == {
        "scale": (),
        "root": (),
        "own": ("own_dim_0",),
        "slope": (),
    }
    for name, value in found.items():
        np.testing.assert_array_equal(group[name], value)
    assert "log_prior" not in boundary.group_names(posterior.to_arviz(X, Y))
    with pytest.raises(ValueError, match="expected log_prior to be True or False, got 1"):
        posterior.to_arviz(X, Y, log_prior=1)


def by_hand(posterior, x):
    """The likelihood of every draw, from the draws alone: shape (chain, draw, N)."""
    part = {name: value.unsqueeze(-1) for name, value in posterior.draws.items()}
    return torch.distributions.Normal(part["intercept"] + part["slope"] * x, part["noise"])


def test_the_likelihood_has_the_draws_first_chain_after_chain(posterior):
    likelihood = posterior.likelihood(X)
    assert likelihood.batch_shape == (CHAINS * DRAWS, N)
    expected = by_hand(posterior, X)
    torch.testing.assert_close(likelihood.mean, expected.mean.flatten(0, 1))
    torch.testing.assert_close(likelihood.stddev, expected.stddev.flatten(0, 1))


def test_draws_follow_the_inputs_to_their_device(posterior):
    """A sampler stores its draws on the CPU. The device "meta" has shapes without values, on any machine."""
    flat = posterior._flat(10, (X.to("meta"), None))
    assert {name: (value.device.type, value.shape[0]) for name, value in flat.items()} == dict.fromkeys(
        posterior.draws, ("meta", 10)
    )
    assert {value.device.type for value in posterior._flat(None, (X,)).values()} == {"cpu"}


def test_function_draws_and_log_likelihood(posterior):
    expected = by_hand(posterior, X)
    torch.testing.assert_close(posterior.function_draws(X), expected.mean)
    torch.testing.assert_close(posterior.log_likelihood(X, Y), expected.log_prob(Y))


def test_the_predictive_is_the_average(posterior):
    new = torch.tensor([-3.0, 0.0, 3.0])
    predictive = posterior.predictive(new)
    y = torch.tensor([-6.0, 0.4, 7.0])
    expected = by_hand(posterior, new).log_prob(y).flatten(0, 1).logsumexp(0) - math.log(CHAINS * DRAWS)
    torch.testing.assert_close(predictive.log_prob(y), expected)
    torch.testing.assert_close(predictive.epistemic, by_hand(posterior, new).mean.flatten(0, 1).var(0, correction=0))


def test_fewer_draws_are_spread_evenly_over_all_chains(posterior):
    few = posterior.likelihood(X, draws=5)
    chosen = torch.linspace(0, CHAINS * DRAWS - 1, 5).round().long()
    torch.testing.assert_close(few.mean, posterior.likelihood(X).mean[chosen])
    assert posterior.predictive(X, draws=5).num_draws == 5
    assert posterior.predictive(X, draws=CHAINS * DRAWS).num_draws == CHAINS * DRAWS


@pytest.mark.parametrize("draws", [0, -1, CHAINS * DRAWS + 1])
def test_more_draws_than_there_are_raise(posterior, draws):
    with pytest.raises(ValueError, match=f"expected between 1 and {CHAINS * DRAWS} draws, got {draws}"):
        posterior.predictive(X, draws=draws)


@pytest.mark.parametrize("shape", [(N, 1), (N - 1,), (), (1, N)])
def test_y_of_another_shape_raises(posterior, shape):
    message = rf"expected (y of shape \({N},\) at the observed site 'y'|arguments with the same number of rows), got"
    with pytest.raises(ValueError, match=message):
        posterior.log_likelihood(X, torch.zeros(shape))
    with pytest.raises(ValueError, match=message):
        posterior.to_arviz(X, torch.zeros(shape))


def test_groups_and_dimensions_for_arviz(idata):
    assert set(boundary.group_names(idata)) == {
        "posterior", "sample_stats", "log_likelihood", "posterior_predictive", "observed_data", "constant_data",
        "predictions", "predictions_constant_data",
    }  # fmt: skip
    dims = lambda group: {n: v.dims for n, v in boundary.group(idata, group).data_vars.items()}  # noqa: E731
    draw = ("chain", "draw")
    assert dims("posterior") == {
        "intercept": draw, "slope": draw, "noise": draw, "at_one": draw, "mean": (*draw, "mean_dim_0"),
    }  # fmt: skip
    for group in ("log_likelihood", "posterior_predictive", "predictions"):
        assert dims(group) == {"y": (*draw, "obs")}
    assert dims("observed_data") == {"y": ("obs",)}
    assert dims("constant_data") == dims("predictions_constant_data") == {"x": ("obs",)}
    assert {"lp", "energy", "n_steps", "tree_depth", "acceptance_rate", "step_size", "diverging"} == set(
        dims("sample_stats")
    )
    assert boundary.group(idata, "sample_stats").sizes == {"chain": CHAINS, "draw": DRAWS}
    assert boundary.group(idata, "predictions").sizes["obs"] == 5


def test_values_for_arviz(idata, posterior):
    part = boundary.group(idata, "posterior")
    np.testing.assert_array_equal(part["slope"], posterior.draws["slope"])
    np.testing.assert_allclose(part["at_one"], posterior.draws["intercept"] + posterior.draws["slope"], rtol=1e-6)
    np.testing.assert_allclose(part["mean"], by_hand(posterior, X).mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(boundary.group(idata, "observed_data")["y"], Y)
    np.testing.assert_array_equal(boundary.group(idata, "constant_data")["x"], X)
    np.testing.assert_allclose(
        boundary.group(idata, "log_likelihood")["y"], by_hand(posterior, X).log_prob(Y), rtol=1e-4, atol=1e-5
    )


def test_predictive_draws_are_of_their_own_posterior_draw(idata, posterior):
    """Residuals over the draw's own noise are standard normal: mean and variance within 4 standard errors."""
    drawn = torch.tensor(boundary.group(idata, "posterior_predictive")["y"].values)
    likelihood = by_hand(posterior, X)
    z = (drawn - likelihood.mean) / likelihood.stddev
    assert abs(z.mean()) < 4 / z.numel() ** 0.5
    assert abs(z.var() - 1) < 4 * (2 / z.numel()) ** 0.5
    again = posterior.to_arviz(X, Y, seed=3)
    np.testing.assert_array_equal(boundary.group(again, "posterior_predictive")["y"], drawn)
    other = posterior.to_arviz(X, Y, seed=4)
    assert not np.array_equal(boundary.group(other, "posterior_predictive")["y"], drawn)


def test_exporting_leaves_the_random_state_alone(posterior):
    state = torch.get_rng_state()
    posterior.to_arviz(X, Y)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto", "ignore:.*R-hat.*")
def test_arvizs_own_functions_run_and_agree(idata, posterior):
    loo = az.loo(idata, pointwise=True)
    waic_like = by_hand(posterior, X).log_prob(Y).flatten(0, 1).logsumexp(0) - math.log(CHAINS * DRAWS)
    value = float(getattr(loo, "elpd_loo", getattr(loo, "elpd", None)))  # ArviZ 0.23 and 1.x
    assert value < waic_like.sum()  # leaving out costs
    assert abs(value - waic_like.sum()) < 10
    summary = az.summary(idata, var_names=["slope"], round_to="none")
    np.testing.assert_allclose(summary["mean"], posterior.draws["slope"].mean(), rtol=1e-5)
    bfmi = az.bfmi(idata)
    bfmi = bfmi if boundary.HAS_INFERENCE_DATA else bfmi["energy"].values  # 1.x returns a DataTree
    assert np.shape(bfmi) == (CHAINS,)
    assert (np.asarray(bfmi) > 0.2).all()


def test_a_round_trip_through_netcdf(idata, tmp_path):
    path = boundary.save(idata, tmp_path / "posterior.nc")
    back = boundary.load(path)
    assert set(boundary.group_names(back)) == set(boundary.group_names(idata))
    for name in boundary.group_names(idata):
        boundary.group(back, name).load().identical(boundary.group(idata, name))
        for variable, values in boundary.group(idata, name).items():
            np.testing.assert_array_equal(boundary.group(back, name)[variable], values)
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]


def test_two_plates_and_events_name_the_dimensions():
    def model(y=None):
        loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("rows", 4, dim=-2), pyro.plate("columns", 3, dim=-1):
            return pyro.sample("z", dist.Normal(loc, 1.0).to_event(1), obs=y)

    y = torch.randn(4, 3, 2)
    posterior = Posterior(model, boundary_program(model, y), {"loc": torch.randn(2, 5, 2)})
    idata = posterior.to_arviz(y)
    assert boundary.group(idata, "observed_data")["z"].dims == ("rows", "columns", "z_dim_0")
    assert boundary.group(idata, "log_likelihood")["z"].dims == ("chain", "draw", "rows", "columns")
    expected = torch.distributions.Normal(posterior.draws["loc"][:, :, None, None], 1.0).log_prob(y).sum(-1)
    np.testing.assert_allclose(boundary.group(idata, "log_likelihood")["z"], expected, rtol=1e-5)


def boundary_program(model, *args):
    from posterity.inference.program.sites import inspect

    return inspect(model, args)


def test_several_inputs_are_numbered():
    def model(a, b, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(a)):
            return pyro.sample("y", dist.Normal(w * a * b[:, 0], 1.0), obs=y)

    b = torch.randn(N, 2)
    posterior = Posterior(model, boundary_program(model, X, b, Y), {"w": torch.randn(1, 5)})
    idata = posterior.to_arviz(X, b, Y, predict=(X[:3], b[:3]))
    assert {n: v.dims for n, v in boundary.group(idata, "constant_data").items()} == {
        "x0": ("obs",), "x1": ("obs", "x1_dim_0"),
    }  # fmt: skip
    assert boundary.group(idata, "predictions").sizes["obs"] == 3
    assert "sample_stats" not in boundary.group_names(idata)


def test_a_single_observation_without_a_plate():
    def model(y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(w, 1.0), obs=y)

    posterior = Posterior(model, boundary_program(model, torch.tensor(1.0)), {"w": torch.randn(2, 5)})
    idata = posterior.to_arviz(torch.tensor(1.0))
    assert boundary.group(idata, "observed_data")["y"].dims == ()
    np.testing.assert_allclose(
        boundary.group(idata, "log_likelihood")["y"],
        torch.distributions.Normal(posterior.draws["w"], 1.0).log_prob(torch.tensor(1.0)),
        rtol=1e-5,
    )


def test_a_fitted_network_is_one_draw():
    net, head = mlp(1, 6, seed=0), mixture_head(2)

    def model(x, y=None):
        features = point("net", net)(x[:, None])
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", head(features), obs=y)

    posterior = infer(model, X, Y, method=SVI(steps=20, progress=False))
    assert (posterior.num_chains, posterior.num_draws) == (1, 1)
    assert posterior.predictive(X).components_per_draw == 2
    assert boundary.group(posterior.to_arviz(X, Y), "posterior")["net.output.weight"].shape == (1, 1, 6, 1)


def test_save_and_load_are_equal(posterior, tmp_path):
    path = posterior.save(tmp_path / "posterior.pt")
    back = Posterior.load(path, line, X, Y)
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.pt"]
    assert back.program == posterior.program
    assert back.attrs == posterior.attrs
    for kind in ("draws", "sample_stats", "history"):
        mine, theirs = getattr(posterior, kind), getattr(back, kind)
        assert set(mine) == set(theirs)
        assert all(torch.equal(mine[n], theirs[n]) and mine[n].dtype == theirs[n].dtype for n in mine)
    torch.testing.assert_close(back.predictive(X).mean, posterior.predictive(X).mean)


def test_a_fit_with_history_is_saved_too(tmp_path):
    fit = infer(line, X, Y, method=SVI(steps=20, holdout=0.25, check_every=5, draws=7, progress=False))
    back = Posterior.load(fit.save(tmp_path / "fit.pt"), line, X, Y)
    assert {n: len(v) for n, v in back.history.items()} == {"loss": 20, "held_out": 4, "held_out_step": 4}


def test_the_file_holds_no_pickled_code(posterior, tmp_path):
    content = torch.load(posterior.save(tmp_path / "posterior.pt"), weights_only=True)
    assert set(content) == {"format", "site", "draws", "sample_stats", "history", "attrs"}


def test_a_crash_while_writing_keeps_the_old_file(posterior, tmp_path, monkeypatch):
    path = posterior.save(tmp_path / "posterior.pt")
    before = path.read_bytes()

    def crash(content, target):
        with open(target, "wb") as file:  # noqa: PTH123
            file.write(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        posterior.save(path)
    assert path.read_bytes() == before


def test_a_file_of_another_model_raises(posterior, tmp_path):
    path = posterior.save(tmp_path / "posterior.pt")

    def other(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected draws of the model's sites \['w'\], got \['intercept'"):
        Posterior.load(path, other, X, Y)


@pytest.mark.parametrize("content", [{"format": 99}, [1, 2], {"draws": {}}], ids=str)
def test_another_file_raises(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="expected a posterior of format 1 in"):
        Posterior.load(tmp_path / "other.pt", line, X, Y)


def test_a_pair_is_loaded_as_it_was_fitted(tmp_path):
    from posterity.data import Observations, Standardization

    data = Observations(X[:, None], Y)
    pair = mixture_density(Standardization.fit(data), components=2, hidden=(3,))
    fit = infer(pair, data.x, data.y, method=SVI(steps=5, progress=False))
    back = Posterior.load(fit.save(tmp_path / "pair.pt"), pair, data.x, data.y)
    torch.testing.assert_close(back.predictive(data.x).mean, fit.predictive(data.x).mean)


def test_draws_of_different_shapes_raise(posterior):
    with pytest.raises(ValueError, match=r"expected draws of one shape \(chain, draw, ...\) for all sites, got"):
        Posterior(line, posterior.program, {"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)})
    with pytest.raises(ValueError, match="expected draws of one shape"):
        Posterior(line, posterior.program, {"a": torch.zeros(2)})


def test_repr_says_what_is_inside(posterior):
    sites = "intercept (), slope (), noise ()"
    assert repr(posterior).startswith(f"Posterior(line by NUTS, {CHAINS} chains of {DRAWS} draws: {sites}")


def test_gaussian_head_in_float64():
    net = mlp(1, 1, seed=0).double()

    def model(x, y=None):
        features = point("net", net)(x[:, None])
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, 1.0), obs=y)

    fit = infer(model, X.double(), Y.double(), method=SVI(steps=5, progress=False))
    assert fit.draws["net.output.weight"].dtype == torch.double
    assert fit.predictive(X.double()).mean.dtype == torch.double


def test_a_row_without_its_dimension_is_not_taken_for_rows():
    """x (2,) where the fit had (N, 2): the network would give one prediction, and the plate two of them."""
    net = mlp(2, 3, 1)

    def model(x, y=None):
        mean = bayesian("net", net)(x)[..., 0]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    posterior = infer(model, x, x[:, 0], method=Ensemble(members=2, steps=3, progress=False))
    with pytest.raises(ValueError, match=r"expected argument 0 with 2 dimensions as in the fit, got shape \(2,\)"):
        posterior.predictive(x[0])
    assert posterior.predictive(x[:1]).batch_shape == (1,)


def test_observations_to_predict_at_are_read_without_their_targets():
    """The group of inputs has x alone, and the predictions are those at x, whatever y is."""
    from posterity.data import Observations

    data = Observations(X[:, None], Y, ["dose"], ["response"])

    def scaled(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 1.0), obs=y)

    fitted = Posterior(scaled, inspect(scaled, (data.x, data.y)), {"slope": torch.randn(2, 5)})
    found = fitted.to_arviz(data, predict=data.subset(slice(0, 3)))
    assert list(boundary.group(found, "predictions_constant_data").data_vars) == ["x"]
    other = fitted.to_arviz(data, predict=data.x[:3])
    assert boundary.group(found, "predictions").equals(boundary.group(other, "predictions"))
