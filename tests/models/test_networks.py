import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.inference import SVI, infer
from posterity.inference.program.likelihood import likelihood_over_draws
from posterity.models import RadialBasis, bayesian, gaussian, mlp, point, priors, radial


class Gated(nn.Module):
    """A user module: two inputs, a keyword, a buffer, a frozen parameter."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4, bias=False)
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.frozen = nn.Parameter(torch.tensor(3.0), requires_grad=False)
        self.register_buffer("offset", torch.tensor(0.5))

    def forward(self, a, b, *, sharpness=1.0):
        return self.gain * torch.tanh(sharpness * self.left(a)) * self.right(b) + self.offset * self.frozen


def convolutional():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16, 3))


MODULES = {
    "mlp": (lambda: mlp(2, 5, 3), lambda: ((torch.randn(7, 2),), {})),
    "convolutional": (convolutional, lambda: ((torch.randn(7, 1, 6, 6),), {})),
    "own": (Gated, lambda: ((torch.randn(7, 3), torch.randn(7, 2)), {"sharpness": 0.3})),
    "linear": (lambda: nn.Linear(2, 1), lambda: ((torch.randn(7, 2),), {})),
}


def with_weights(module, weights):
    clone = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in clone.named_parameters():
            if name in weights:
                value.copy_(weights[name])
    return clone


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("kind", ["bayesian", "point"])
def test_any_module_computes_what_it_would_with_these_weights(name, kind):
    make, make_inputs = MODULES[name]
    module, (args, kwargs) = make(), make_inputs()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    enter = bayesian if kind == "bayesian" else point
    trace = pyro.poutine.trace(lambda: enter("net", module)(*args, **kwargs)).get_trace()
    trainable = {key for key, value in module.named_parameters() if value.requires_grad}
    sites = {n for n, node in trace.nodes.items() if node["type"] == ("sample" if kind == "bayesian" else "param")}
    assert sites == {f"net.{key}" for key in trainable}
    weights = {key: trace.nodes[f"net.{key}"]["value"] for key in trainable}
    assert all(weights[key].shape == before[key].shape for key in trainable)
    expected = with_weights(module, weights)(*args, **kwargs)
    torch.testing.assert_close(trace.nodes["_RETURN"]["value"], expected)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} was changed"
    if kind == "point":
        assert all(torch.equal(weights[key], before[key]) for key in trainable)


def test_layers_of_an_mlp_are_named_and_ordered():
    net = mlp(2, 8, 4, 1, activation="relu")
    assert [name for name, _ in net.named_children()] == ["hidden1", "relu1", "hidden2", "relu2", "output"]
    assert net.hidden1.in_features == 2
    assert net.output.in_features == 4
    assert isinstance(mlp(3, 2)[0], nn.Linear)


def test_the_seed_of_an_mlp_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    first, second, other = mlp(2, 3, seed=1), mlp(2, 3, seed=1), mlp(2, 3, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.output.weight, second.output.weight)
    assert not torch.equal(first.output.weight, other.output.weight)


@pytest.mark.parametrize("widths", [(), (3,), (3, 0, 1)])
def test_bad_widths_raise(widths):
    with pytest.raises(ValueError, match=r"expected (at least two widths|every number of widths to be a whole number)"):
        mlp(*widths)


def test_an_unknown_activation_raises():
    with pytest.raises(ValueError, match=r"expected activation to be one of .*, got 'swish'"):
        mlp(1, 1, activation="swish")


def test_the_default_prior_is_normal_at_fan_in():
    trace = pyro.poutine.trace(lambda: bayesian("net", mlp(4, 9, 1))(torch.zeros(1, 4))).get_trace()
    scale = {name: trace.nodes[name]["fn"].base_dist.scale.flatten()[0].item() for name in trace.stochastic_nodes}
    assert scale == {
        "net.hidden1.weight": pytest.approx(1 / 2),
        "net.hidden1.bias": 1.0,
        "net.output.weight": pytest.approx(1 / 3),
        "net.output.bias": 1.0,
    }


def test_the_longest_match_names_the_prior():
    mapping = {
        "": priors.Normal(),
        "hidden1": priors.Laplace(),
        "hidden1.bias": priors.StudentT(),
        "output": priors.HierarchicalNormal(),
    }
    trace = pyro.poutine.trace(lambda: bayesian("net", mlp(1, 3, 3, 1), mapping)(torch.zeros(1, 1))).get_trace()
    families = {n: type(trace.nodes[n]["fn"].base_dist).__name__ for n in trace.stochastic_nodes if "output" not in n}
    assert families == {
        "net.hidden1.weight": "Laplace",
        "net.hidden1.bias": "StudentT",
        "net.hidden2.weight": "Normal",
        "net.hidden2.bias": "Normal",
    }
    assert {"net.output.weight.precision", "net.output.weight.raw", "net.output.weight"} <= set(trace.nodes)


def test_a_parameter_without_a_prior_raises():
    with pytest.raises(ValueError, match=r"expected a prior for 'output.weight', got priors for \['hidden1'\]"):
        bayesian("net", mlp(1, 3, 1), {"hidden1": priors.Normal()})


@pytest.mark.parametrize("enter", [bayesian, point])
def test_a_module_with_nothing_to_learn_raises(enter):
    with pytest.raises(ValueError, match="expected a module with trainable parameters, got ReLU with none"):
        enter("net", nn.ReLU())


@pytest.mark.parametrize("decay", [-1.0, float("nan")])
def test_a_negative_decay_raises(decay):
    with pytest.raises(ValueError, match="expected decay to be a finite number of 0 or more"):
        point("net", mlp(1, 1), decay=decay)


def test_decay_is_the_log_density_of_a_normal_prior():
    """Up to its constant: the difference between two weights is that of N(0, 1/sqrt(decay))."""
    net = mlp(2, 3, seed=0)

    def log_joint():
        return pyro.poutine.trace(lambda: point("net", net, decay=2.5)(torch.zeros(1, 2))).get_trace().log_prob_sum()

    first = log_joint()
    with torch.no_grad():
        for name in list(pyro.get_param_store()):
            pyro.param(name).mul_(3.0)
    normal = torch.distributions.Normal(0.0, 2.5**-0.5)
    expected = sum((normal.log_prob(3 * w) - normal.log_prob(w)).sum() for w in net.parameters())
    torch.testing.assert_close(log_joint() - first, expected.detach())


def test_point_with_decay_fitted_by_svi_is_ridge_regression():
    """The mode of sum log N(y | Xw, s) - d/2 |w|² is (X'X/s² + d)^-1 X'y/s²; both biases and slopes are shrunk."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 3, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.7 + 0.5 * torch.randn(40, generator=generator)
    net, decay = mlp(3, 1, seed=0), 20.0

    def model(x, y=None):
        features = point("net", net, decay=decay)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, 0.5), obs=y)

    posterior = infer(model, x, y, method=SVI(steps=1500, learning_rate=0.05, progress=False))
    design = torch.cat([x, torch.ones(40, 1)], 1).double()
    ridge = torch.linalg.solve(design.T @ design / 0.25 + decay * torch.eye(4), design.T @ y.double() / 0.25)
    found = torch.cat([posterior.draws["net.output.weight"].flatten(), posterior.draws["net.output.bias"].flatten()])
    torch.testing.assert_close(found.double(), ridge, atol=2e-4, rtol=0)
    # Without the decay the mode is far away.
    least_squares = torch.linalg.lstsq(design, y.double()).solution
    assert (least_squares - ridge).abs().max() > 0.05


@pytest.mark.parametrize("name", MODULES)
def test_all_draws_at_once_are_each_draw_by_itself(name):
    make, make_inputs = MODULES[name]
    module, (args, kwargs) = make(), make_inputs()

    def model(*args, y=None):
        output = bayesian("net", module)(*args, **kwargs)
        with pyro.plate("obs", len(output)):
            return pyro.sample("y", dist.Normal(output, 1.0).to_event(1), obs=y)

    draws = {f"net.{n}": torch.randn(6, *p.shape) for n, p in module.named_parameters() if p.requires_grad}
    likelihood, _ = likelihood_over_draws(model, args, draws, "y")
    expected = torch.stack(
        [
            with_weights(module, {n.removeprefix("net."): v[i] for n, v in draws.items()})(*args, **kwargs)
            for i in range(6)
        ]
    )
    torch.testing.assert_close(likelihood.mean, expected.detach(), atol=1e-5, rtol=1e-5)


def test_radial_bumps_are_normalised_gaussians():
    """By the formula; they sum to one, follow the order of the centres, and far outside the last one remains."""
    x = torch.linspace(-1, 3, 50, dtype=torch.double)[:, None]
    basis = RadialBasis(0.0, 2.0, 5, width=1.5).double()
    plain = torch.exp(-((x - torch.linspace(0, 2, 5).double()) ** 2) / (2 * 0.75**2))
    torch.testing.assert_close(basis(x), plain / plain.sum(-1, keepdim=True))
    torch.testing.assert_close(basis(torch.tensor([[1e4], [-1e4]]).double()), torch.eye(5).double()[[4, 0]])


def test_places_of_a_radial_network_share_nothing():
    """The change at x = -1.5 by a gradient step at x > 0 is proportional to this product."""
    net = radial(torch.linspace(-2, 2, 100)[:, None], 20, 1, seed=0)
    assert torch.equal(net.output.weight, radial(torch.tensor([[-2.0], [2.0]]), 20, 1, seed=0).output.weight)
    left, right = net.basis(torch.tensor([[-1.5]])), net.basis(torch.linspace(0, 2, 40)[:, None])
    assert float((left @ right.mT).max()) < 1e-6
    assert float((right @ right.mT).diagonal().min()) > 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: radial(torch.zeros(5, 2), 4, 1), r"expected x of shape \(N, 1\), got \(5, 2\)"),
        (
            lambda: radial(torch.zeros(5, 1), 4, 1),
            r"expected range of the centres to be .*, got \(0",
        ),
        (lambda: radial(torch.rand(5, 1), 1, 1), "expected centres to be a whole number of 2 or more, got 1"),
        (lambda: radial(torch.rand(5, 1), 4, 0), "expected outputs to be a whole number of 1 or more, got 0"),
        (lambda: radial(torch.rand(5, 1), 4, 1, width=0.0), "expected width to be a finite number above 0, got 0.0"),
    ],
)
def test_bad_radial_networks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
