"""Values in place of parameters: of Pyro, and of modules that read their own attributes."""

import pyro
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from posterity.inference.program.held_parameters import HeldParameters

LINEAR = nn.Linear(2, 3)
LSTM = nn.LSTM(2, 3, batch_first=True)
X = torch.linspace(-1, 1, 10).reshape(5, 2)


def by_pyro(x):
    return nn.functional.linear(x, pyro.param("w", torch.zeros(3, 2)), pyro.param("b", torch.zeros(3)))


def by_module(x):
    return pyro.module("net", LINEAR)(x)


class OfPyro(PyroModule):
    def __init__(self):
        super().__init__()
        self.layer = PyroModule[nn.Linear](2, 3)

    def forward(self, x):
        return self.layer(x)


WEIGHT, BIAS = torch.arange(6.0).reshape(3, 2), torch.tensor([1.0, -1.0, 0.5])


@pytest.mark.parametrize(
    ("model", "names"),
    [(by_pyro, ("w", "b")), (by_module, ("net$$$weight", "net$$$bias")), (OfPyro(), ("layer.weight", "layer.bias"))],
    ids=["param", "module", "PyroModule"],
)
def test_the_model_runs_with_the_values(model, names):
    """Also under vmap and grad: the sum of x W' + b has the gradient sum of x by each row of W."""
    with pyro.get_param_store().scope():
        before = model(X)

        def total(weight):
            with HeldParameters({names[0]: weight, names[1]: BIAS}):
                return model(X).sum()

        with HeldParameters({names[0]: WEIGHT, names[1]: BIAS}):
            torch.testing.assert_close(model(X), X @ WEIGHT.T + BIAS)
        weights = torch.stack([WEIGHT, -WEIGHT])
        gradients, values = torch.func.vmap(torch.func.grad_and_value(total))(weights)
        torch.testing.assert_close(gradients, X.sum(0).expand(2, 3, 2))
        torch.testing.assert_close(values, torch.stack([(X @ w.T + BIAS).sum() for w in weights]))
        torch.testing.assert_close(model(X), before)


def test_parameters_in_lists_of_arguments_are_replaced():
    """A recurrent layer gives its weights to torch as one list."""
    values = {f"net$$${name}": torch.full_like(value, 0.1) for name, value in LSTM.named_parameters()}
    other = nn.LSTM(2, 3, batch_first=True)
    for value in other.parameters():
        nn.init.constant_(value, 0.1)
    with pyro.get_param_store().scope(), HeldParameters(values), torch.no_grad():
        found = pyro.module("net", LSTM)(X[None])[0]
    torch.testing.assert_close(found, other(X[None])[0].detach())


def test_other_parameters_keep_their_own_values():
    with pyro.get_param_store().scope(), HeldParameters({"net$$$bias": BIAS}):
        found = pyro.module("net", LINEAR)(X)
    torch.testing.assert_close(found, X @ LINEAR.weight.T + BIAS)
