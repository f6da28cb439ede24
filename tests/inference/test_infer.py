import math

import pandas as pd
import polars as pl
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.data import Observations
from posterity.inference import HMC, NUTS, SVI, Method, Posterior, infer
from posterity.models import empty_guide, gaussian, mlp, point


def model(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


X, Y = torch.linspace(-1, 1, 5), torch.linspace(-2, 2, 5)
METHODS = {
    "NUTS": NUTS(draws=3, warmup=3, chains=1, progress=False),
    "HMC": HMC(draws=3, warmup=3, chains=1, progress=False),
    "SVI": SVI(steps=3, draws=3, progress=False),
}


@pytest.mark.parametrize("name", METHODS)
def test_changing_the_method_is_changing_one_word(name):
    posterior = infer(model, X, Y, method=METHODS[name], seed=1)
    assert isinstance(METHODS[name], Method)
    assert isinstance(posterior, Posterior)
    assert posterior.draws["w"].shape == (1, 3)
    assert posterior.attrs["method"] == name
    assert posterior.attrs["seed"] == 1
    assert posterior.attrs["seconds"] > 0
    assert posterior.attrs["interrupted"] == 0


@pytest.mark.parametrize("name", METHODS)
def test_global_state_and_parameters_of_the_caller_are_untouched(name):
    pyro.param("w", torch.tensor(7.0))
    pyro.param("AutoNormal.locs.w", torch.tensor(8.0))
    state = torch.get_rng_state()
    infer(model, X, Y, method=METHODS[name])
    assert torch.equal(torch.get_rng_state(), state)
    assert set(pyro.get_param_store()) == {"w", "AutoNormal.locs.w"}
    assert pyro.param("AutoNormal.locs.w") == 8.0


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_draws_and_another_seed_others(name):
    torch.manual_seed(5)
    first = infer(model, X, Y, method=METHODS[name], seed=1)
    torch.manual_seed(6)
    second, other = (infer(model, X, Y, method=METHODS[name], seed=seed) for seed in (1, 2))
    assert torch.equal(first.draws["w"], second.draws["w"])
    assert not torch.equal(first.draws["w"], other.draws["w"])


def test_a_pair_brings_its_guide():
    class Pair:
        net = mlp(1, 1, seed=0)
        guide = staticmethod(empty_guide)

        @staticmethod
        def model(x, y=None):
            features = point("net", Pair.net)(x[:, None])
            with pyro.plate("obs", len(x)):
                return pyro.sample("y", gaussian(features, 1.0), obs=y)

    assert set(infer(Pair(), X, Y, method=METHODS["SVI"]).draws) == {"net.output.weight", "net.output.bias"}


def test_the_observed_site_is_named_where_there_are_several():
    def two(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            pyro.sample("a", dist.Normal(w, 1.0), obs=y)
            pyro.sample("b", dist.Normal(w * x, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected site, the name of one observed site of \['a', 'b'\], got none"):
        infer(two, X, Y, method=METHODS["SVI"]).predictive(X)
    assert infer(two, X, Y, method=METHODS["SVI"], site="b").program.site == "b"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_values_that_are_not_finite_raise(value, position):
    args = [X.clone(), Y.clone()]
    args[position][2:4] = value
    with pytest.raises(ValueError, match=f"expected finite values, got 2 that are not in argument {position}"):
        infer(model, *args, method=METHODS["SVI"])


def test_y_of_another_length_than_the_plate_raises():
    with pytest.raises(ValueError, match=r"expected y of shape \(5,\) at the observed site 'y', got \(4,\)"):
        infer(model, X, Y[:4], method=METHODS["SVI"])


def test_empty_data_raise():
    with pytest.raises(ValueError, match=r"expected data, got an empty argument 0 of shape \(0,\)"):
        infer(model, X[:0], Y[:0], method=METHODS["SVI"])


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ((), "TypeError: .* missing 1 required positional argument: 'x'"),
        (("a", None), "TypeError: .*arguments: str, N"),
    ],
)
def test_a_model_that_does_not_run_with_its_arguments_raises(args, reason):
    with pytest.raises(ValueError, match=f"expected a model that runs with its arguments, got {reason}"):
        infer(model, *args, method=METHODS["SVI"])


@pytest.mark.parametrize("method", ["NUTS", None, 3])
def test_what_is_no_method_raises(method):
    with pytest.raises(ValueError, match=r"expected a method such as NUTS\(\), HMC\(\) or SVI\(\), got"):
        infer(model, X, Y, method=method)


def test_a_class_instead_of_settings_raises():
    with pytest.raises(ValueError, match="expected a method such as"):
        infer(model, X, Y, method=NUTS)


def test_a_model_without_an_observed_site_raises():
    with pytest.raises(ValueError, match="expected a model with an observed site"):
        infer(lambda x, y: model(x), X, Y, method=METHODS["SVI"])


def regression(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


TABLE = {"dose": [0.0, 1.0, -1.0, 0.5], "age": [1, 2, 0, -1], "response": [0.1, -0.5, 1.0, 2.0]}
SHORT = NUTS(draws=4, warmup=4, chains=2, progress=False)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_a_frame_and_observations_give_the_draws_of_tensors_and_keep_the_names(library, tmp_path):
    frame = library(TABLE)
    rows = list(zip(TABLE["dose"], TABLE["age"], strict=True))
    x, y = torch.tensor(rows, dtype=torch.float64), torch.tensor(TABLE["response"], dtype=torch.float64)
    plain = infer(regression, x, y, method=SHORT)
    of_frame = infer(regression, frame[["dose", "age"]], y=frame["response"], method=SHORT)
    of_data = infer(regression, Observations.from_frame(frame, y="response"), method=SHORT)
    assert plain.x_names == plain.y_names == ()
    for posterior in (of_frame, of_data):
        assert torch.equal(posterior.draws["w"], plain.draws["w"])
        assert posterior.x_names == ("dose", "age")
        assert posterior.y_names == ("response",)
    loaded = Posterior.load(of_frame.save(tmp_path / "posterior.pt"), regression, frame[["dose", "age"]], y)
    assert (loaded.x_names, loaded.y_names) == (("dose", "age"), ("response",))


def test_a_prediction_takes_the_columns_of_the_fit_in_any_order():
    frame = pd.DataFrame(TABLE)
    data = Observations.from_frame(frame, y="response")
    posterior = infer(regression, data, method=SHORT)
    expected = posterior.predictive(data.x).mean
    for table in (frame[["dose", "age"]], frame[["age", "dose"]], pl.DataFrame(TABLE)[["age", "dose"]], data):
        assert torch.equal(posterior.predictive(table).mean, expected)
    assert torch.equal(posterior.log_likelihood(data), posterior.log_likelihood(data.x, data.y))
    assert torch.equal(posterior.inputs(frame[["age", "dose"]])[0], data.x)
    with pytest.raises(ValueError, match=r"with the columns of the fit, got the further columns \['response'\]"):
        posterior.predictive(frame)
    with pytest.raises(ValueError, match=r"with the columns of the fit, got none of \['age'\] and .*weight"):
        posterior.predictive(frame[["dose", "age"]].rename(columns={"age": "weight"}))


def test_frames_with_categories_are_refused_with_the_way_to_read_them():
    frame = pd.DataFrame({**TABLE, "site": list("abab")})
    with pytest.raises(ValueError, match=r"other values in \['site'\]: Observations.from_frame reads categories"):
        infer(regression, frame[["dose", "site"]], frame["response"], method=SHORT)


def test_names_are_coordinates_of_arviz_data(tmp_path):
    frame = pd.DataFrame(TABLE)
    posterior = infer(regression, frame[["dose", "age"]], frame["response"], method=SHORT)
    data = posterior.to_arviz(frame[["age", "dose"]], frame["response"], predict=frame[["dose", "age"]])
    for name in ("constant_data", "predictions_constant_data"):
        x = data[name]["x"]
        assert x.sel({x.dims[1]: "dose"}).values.tolist() == TABLE["dose"]
    assert str(data.attrs["y_names"]) == '["response"]'

    def two(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x * w, 0.5).to_event(1), obs=y)

    targets = Observations(torch.randn(5, 2), torch.randn(5, 2), ["dose", "age"], ["up", "down"])
    several = infer(two, targets, method=SHORT).to_arviz(targets)
    for name in ("observed_data", "posterior_predictive"):
        variable = several[name]["y"]
        assert variable[variable.dims[-1]].values.tolist() == ["up", "down"]
    torch.testing.assert_close(several["observed_data"]["y"].values, targets.y.numpy())
