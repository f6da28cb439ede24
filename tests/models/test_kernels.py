import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from posterity.models import bayesian, mlp, priors
from posterity.models.kernels import EXPECTATIONS, feature_kernel, network_kernel, squared_exponential

X = torch.tensor([[-1.5, 0.3], [0.2, -0.4], [0.2, 0.9], [2.0, 1.0]])
PRIOR = {"": priors.Normal(scale=1.3, bias_scale=0.4), "hidden1": priors.Normal(scale=1.7)}


def outputs(activation, hidden, prior, draws, width=128):
    """Outputs (draw, row) of networks drawn from the prior."""
    net = mlp(2, *(width,) * hidden, 1, activation=activation)
    torch.manual_seed(3)
    with torch.no_grad():
        return torch.stack([bayesian("net", net, prior)(X)[:, 0] for _ in range(draws)])


@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("activation", sorted(EXPECTATIONS))
def test_the_kernel_of_a_network_is_the_second_moment_of_its_prior(activation, hidden):
    """Within 5 standard errors (seed 3). With one hidden layer it holds at any width; two of 128 come near it."""
    values = outputs(activation, hidden, PRIOR, 1000).double()
    products = values[:, :, None] * values[:, None]
    expected = network_kernel(activation, hidden=hidden, prior=PRIOR)(X.double(), X.double())
    error = products.std(0) / len(values) ** 0.5
    assert ((products.mean(0) - expected).abs() < 5 * error).all()
    for other in set(EXPECTATIONS) - {activation}:  # the comparison can tell the activations apart
        wrong = network_kernel(other, hidden=hidden, prior=PRIOR)(X.double(), X.double())
        assert ((products.mean(0) - wrong).abs() > 5 * error).any()


@pytest.mark.parametrize("name", sorted(EXPECTATIONS))
def test_expectations_against_quadrature(name):
    """Gauss-Hermite quadrature in two dimensions; relu has a kink, which limits the quadrature to 2e-3."""
    nodes, weights = (torch.tensor(v) for v in hermegauss(120))
    weights = weights / weights.sum()
    function = {"cos": torch.cos, "erf": torch.erf, "relu": torch.relu}[name]
    for uu, vv, rho in ((1.0, 1.0, 0.3), (0.2, 2.5, -0.8), (1.5, 0.7, 1.0), (2.0, 2.0, -1.0)):
        uv = rho * math.sqrt(uu * vv)
        u = math.sqrt(uu) * nodes[:, None]
        v = math.sqrt(vv) * (rho * nodes[:, None] + math.sqrt(1 - rho**2) * nodes)
        expected = (weights[:, None] * weights * function(u) * function(v)).sum()
        got = EXPECTATIONS[name](*(torch.tensor(value, dtype=torch.double) for value in (uu, vv, uv)))
        assert float(got) == pytest.approx(float(expected), abs=2e-3 if name == "relu" else 1e-8)


def test_a_wide_layer_of_cosines_is_a_squared_exponential():
    prior = {
        "hidden1": priors.Normal(scale=1 / 0.5, bias_scale=4.0),
        "output": priors.Normal(scale=2**0.5, bias_scale=1e-6),
    }
    x = torch.linspace(-2, 2, 9, dtype=torch.double)[:, None]
    torch.testing.assert_close(
        network_kernel("cos", prior=prior)(x, x), squared_exponential(0.5)(x, x), rtol=0, atol=1e-6
    )


def test_the_kernel_of_features_is_that_of_a_linear_layer():
    """Exact: 5,000 draws of the prior, within 5 standard errors (seed 0)."""
    net, layer = mlp(2, 5, activation="tanh", seed=0), torch.nn.Linear(5, 1)

    def features(x):
        return torch.tanh(net(x))

    prior = priors.Normal(scale=0.7, fan_in=False, bias_scale=0.2)
    with torch.no_grad():
        fixed = features(X)
        draws = torch.stack([bayesian("layer", layer, prior)(fixed)[:, 0] for _ in range(5000)]).double()
        products = draws[:, :, None] * draws[:, None]
        kernel = feature_kernel(features, scale=0.7, bias_scale=0.2)(X, X)
    assert ((products.mean(0) - kernel).abs() < 5 * products.std(0) / 5000**0.5).all()


def test_two_sets_of_inputs_and_symmetry():
    z = torch.randn(6, 2)
    for kernel in (squared_exponential(0.8, scale=2.0), network_kernel("relu"), feature_kernel(torch.tanh)):
        both = kernel(torch.cat([X, z]), torch.cat([X, z]))
        torch.testing.assert_close(both, both.T)
        torch.testing.assert_close(kernel(X, z), both[:4, 4:])
        assert torch.linalg.eigvalsh(both.double() + 1e-6 * torch.eye(10)).min() > 0


def test_float32_loses_no_digits():
    prior = {"hidden1": priors.Normal(scale=4.0), "output": priors.Normal()}
    x = torch.tensor([[3000.0], [3000.5]])
    for kernel in (network_kernel("cos", prior=prior), network_kernel("relu")):
        torch.testing.assert_close(kernel(x, x), kernel(x.double(), x.double()).float())
    far = torch.tensor([[1e10]])
    assert torch.isfinite(network_kernel("relu")(far, far)).all()


def test_the_first_layer_needs_no_fan_in():
    """Its number of inputs is fixed: without it the variance of a weight counts once for each input."""
    whole = network_kernel("erf", prior={"hidden1": priors.Normal(scale=2**0.5), "": priors.Normal()})
    each = network_kernel("erf", prior={"hidden1": priors.Normal(fan_in=False, bias_scale=2**0.5), "": priors.Normal()})
    torch.testing.assert_close(whole(X, X), each(X, X))


def test_relu_at_zero_has_no_nan():
    kernel = network_kernel("relu", prior=priors.Normal(bias_scale=1e-30))
    assert torch.isfinite(kernel(torch.zeros(2, 1), torch.zeros(2, 1))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: squared_exponential(0.0), "length_scale"),
        (lambda: squared_exponential(1.0, scale=-1.0), "scale"),
        (
            lambda: squared_exponential(1.0)(torch.zeros(3), X),
            r"expected inputs of shapes \(N, D\) and \(M, D\), got \(3,\)",
        ),
        (lambda: squared_exponential(1.0)(torch.zeros(3, 1), X), r"got \(3, 1\) and \(4, 2\)"),
        (lambda: network_kernel("tanh"), "expected activation"),
        (lambda: network_kernel("relu", hidden=0), "hidden"),
        (lambda: network_kernel("relu", prior=priors.Laplace()), r"expected priors\.Normal for 'hidden1\.weight'"),
        (
            lambda: network_kernel("relu", prior=priors.Normal(fan_in=False)),
            "expected fan_in=True for 'output.weight', whose sum would grow",
        ),
        (lambda: network_kernel("relu", prior={"hidden1": priors.Normal()}), r"expected a prior for 'output\.weight'"),
        (lambda: feature_kernel(lambda x: x[0])(X, X), r"expected features\(x\) of shape \(4, F\)"),
        (lambda: squared_exponential(1.0)(torch.zeros(3, 1, dtype=torch.int64), X), "expected x"),
        (lambda: feature_kernel(1.0), "features"),
        (lambda: feature_kernel(torch.tanh, bias_scale=-1.0), "bias_scale"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_activations_are_those_of_networks():
    for name in EXPECTATIONS:
        assert torch.isfinite(mlp(1, 3, 1, activation=name)(torch.randn(4, 1))).all()
