"""Inputs of networks: dtypes, widths and modes that fit, or an error that names the mismatch."""

import pyro
import pytest
import torch
from torch import nn

from posterity.data import Observations, Standardization
from posterity.inference import SVI, Ensemble, infer
from posterity.models import (
    bayesian,
    bayesian_mixture_density,
    bayesian_regression,
    gaussian,
    mixture_density,
    mlp,
    point,
)

X = torch.linspace(-1, 1, 40)[:, None] * torch.tensor([1.0, 2.0])
Y = X.sum(1)
SCALE = Standardization.fit(Observations(X, Y))
NET = mlp(2, 4, 1, seed=0)
PAIRS = {
    "constant": lambda **k: bayesian_regression(SCALE, hidden=(3,), noise="constant", **k),
    "input": lambda **k: bayesian_regression(SCALE, hidden=(3,), noise="input", **k),
    "mixture": lambda **k: mixture_density(SCALE, components=2, hidden=(3,), **k),
    "Bayesian mixture": lambda **k: bayesian_mixture_density(SCALE, components=2, hidden=(3,), **k),
}


def called(enter, net, *args, **kwargs):
    return pyro.poutine.trace(lambda: enter("net", net)(*args, **kwargs)).get_trace().nodes["_RETURN"]["value"]


@pytest.mark.parametrize("enter", [bayesian, point])
@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True)])
def test_running_averages_in_training_mode_are_refused(enter, layer):
    net = nn.Sequential(nn.Linear(2, 3), layer, nn.Linear(3, 1)).train()
    with pytest.raises(ValueError, match=rf"got {type(layer).__name__} '1' in training mode: call module.eval"):
        enter("net", net)


def test_running_averages_in_eval_mode_are_used_as_they_are():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    net[1].running_mean += 2.0
    net.eval()
    torch.testing.assert_close(called(point, net, X), net(X))
    before = net[1].running_mean.clone()

    def model(x, y=None):
        return pyro.sample("y", gaussian(point("net", net)(x), 1.0).to_event(1), obs=y)

    assert infer(model, X, Y, method=Ensemble(members=2, steps=5, progress=False)).predictive(X).mean.shape == (40,)
    assert torch.equal(net[1].running_mean, before)


@pytest.mark.parametrize("enter", [bayesian, point])
def test_float64_inputs_of_a_float32_network_are_cast(enter):
    assert called(enter, NET, X.double()).dtype == torch.float32
    torch.testing.assert_close(called(point, NET, X.double()), NET(X))


def test_float32_inputs_of_a_float64_network_are_cast():
    assert called(bayesian, mlp(2, 4, 1).double(), X).dtype == torch.float64


def test_inputs_that_float32_would_merge_are_refused():
    """1.7e9 + 10 i has 17 distinct values of 200 in float32."""
    time = (1.7e9 + 10 * torch.arange(200, dtype=torch.double))[:, None]
    with pytest.raises(ValueError, match=r"expected input 0 with values that torch.float32 can distinguish, got"):
        called(bayesian, mlp(1, 4, 1), time)
    assert called(bayesian, mlp(1, 4, 1), (time - time.mean()) / time.std()).shape == (200, 1)


def test_a_column_that_is_constant_but_for_rounding_is_no_reason_to_refuse():
    x = torch.cat([X[:, :1].double(), 0.1 + 1e-17 * X[:, 1:].double()], 1)
    assert called(bayesian, NET, x).shape == (40, 1)


@pytest.mark.parametrize("shape", [(40,), (40, 3), (), (2, 1)])
def test_another_number_of_features_is_named(shape):
    with pytest.raises(ValueError, match=r"expected x of shape \(\.\.\., 2\), got"):
        called(bayesian, NET, torch.zeros(shape))


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (nn.Conv2d(3, 2, 3), torch.zeros(5, 1, 8, 8)),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), torch.zeros(5, 1, 4, 4)),
        (nn.LSTM(3, 2), torch.zeros(4, 5, 2)),
        (nn.Linear(2, 1), torch.zeros(5, 2, dtype=torch.long)),
        (nn.LayerNorm(3), torch.zeros(5, 2)),
    ],
)
def test_inputs_that_a_module_cannot_take_are_described(net, x):
    with pytest.raises(ValueError, match=rf"expected inputs that \w+ takes, got torch.* of shape \({x.shape[0]}, "):
        called(bayesian, net, x)


def test_an_error_of_a_module_itself_stays_as_it_is():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        called(bayesian, Broken(2, 1), X)


def test_integers_are_looked_up_by_an_embedding():
    assert called(bayesian, nn.Embedding(5, 3), torch.tensor([0, 4])).shape == (2, 3)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("shape", "given"), [((40,), r"\(40,\)"), ((2,), r"\(2,\)"), ((40, 3), r"\(40, 3\)")])
def test_x_of_another_shape_is_named_by_pairs(name, shape, given):
    with pytest.raises(ValueError, match=rf"expected x of shape \((N|\.\.\.), 2\), got {given}"):
        PAIRS[name]().model(torch.zeros(shape))


@pytest.mark.parametrize("name", ["mixture", "Bayesian mixture"])
def test_float64_data_with_a_float32_net_keep_the_digits_of_y(name):
    """y = 1e9 + (0 ... 1) has one value in float32. Standardised in float64, cast, and back in float64."""
    x = 1e9 + torch.linspace(0, 1, 40, dtype=torch.double)[:, None].expand(40, 2)
    y = x[:, 0].clone()
    scale = Standardization.fit(Observations(x, y))
    build = mixture_density if name == "mixture" else bayesian_mixture_density
    pair = build(scale, components=2, net=mlp(2, 4, 6, seed=0))
    method = Ensemble(members=1, steps=150, learning_rate=0.05, progress=False)
    posterior = infer(pair, x, y, method=method)
    predictive = posterior.predictive(x)
    assert predictive.mean.dtype == torch.float64
    assert {value.dtype for value in posterior.draws.values()} == {torch.float64}  # as the data
    assert float((predictive.mean - y).abs().max()) < 0.3
    assert float(predictive.mean.std()) > 0.2


@pytest.mark.parametrize("name", PAIRS)
def test_float64_x_and_y_beside_a_float32_standardisation(name):
    posterior = infer(PAIRS[name](), X.double(), Y.double(), method=SVI(steps=3, draws=2, progress=False))
    assert torch.isfinite(posterior.predictive(X.double()).log_prob(Y.double())).all()


@pytest.mark.parametrize("build", [mixture_density, bayesian_mixture_density])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net": mlp(3, 9)}, "expected a net of 2 inputs, got one that fails with them"),
        ({"net": "mlp"}, "expected net to be a torch.nn.Module, got str"),
        ({"net": nn.Sequential(nn.Linear(2, 9), nn.BatchNorm1d(9))}, "in training mode"),
        ({"head": "normal"}, "expected head to be a MixtureHead or MultivariateMixtureHead, got str"),
        ({"hidden": 3}, "expected hidden to be a tuple of widths, got 3"),
        ({"hidden": (3.5,)}, "expected every number of widths to be a whole number of 1 or more, got 3.5"),
    ],
)
def test_settings_that_do_not_fit_are_refused_when_a_pair_is_made(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(SCALE, **settings)
