"""Operations written in terms of others, against torch: factorisations, convolutions, pooling, and their gradients."""

import subprocess
import sys

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from posterity.inference.engine.lanes.decompose import (
    LARGEST,
    avg_pool2d,
    avg_pool2d_backward,
    convolution,
    convolution_backward,
    decompositions,
    linalg_cholesky_ex,
    linalg_solve_triangular,
)
from posterity.inference.engine.lanes.rules import RULES

aten = torch.ops.aten


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("unitriangular", [True, False])
def test_triangular_systems_are_solved_by_substitution(upper, left, unitriangular):
    a = torch.randn(2, 4, 4, dtype=torch.double) + 3 * torch.eye(4)
    b = torch.randn(2, *((4, 3) if left else (3, 4)), dtype=torch.double)
    settings = {"upper": upper, "left": left, "unitriangular": unitriangular}
    a = a.triu() if upper else a.tril()
    expected = torch.linalg.solve_triangular(a, b, **settings)
    torch.testing.assert_close(linalg_solve_triangular(a, b, **settings), expected)


@pytest.mark.parametrize("upper", [True, False])
def test_the_cholesky_factor_is_torchs_and_nan_where_there_is_none(upper):
    root = torch.randn(3, 5, 5, dtype=torch.double)
    a = root @ root.mT + torch.eye(5)
    factor, errors = linalg_cholesky_ex(a, upper=upper)
    torch.testing.assert_close(factor, torch.linalg.cholesky(a, upper=upper))
    assert not errors.any()
    assert linalg_cholesky_ex(-a, upper=upper)[0].isnan().any()


def test_large_matrices_are_left_to_others():
    a = torch.eye(LARGEST + 1)
    assert linalg_cholesky_ex(a) is NotImplemented
    assert linalg_solve_triangular(a, a, upper=False) is NotImplemented


CONVOLUTIONS = [
    {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1},
    {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 1], "groups": 1},
    {"stride": [1, 2], "padding": [2, 1], "dilation": [2, 1], "groups": 2},
    {"stride": [3, 3], "padding": [0, 1], "dilation": [1, 2], "groups": 4},
]


@pytest.mark.parametrize("settings", CONVOLUTIONS, ids=str)
def test_convolutions_and_their_gradients_are_torchs(settings):
    groups = settings["groups"]
    x = torch.randn(3, 4, 7, 6, dtype=torch.double)
    weight, bias = torch.randn(8, 4 // groups, 3, 2, dtype=torch.double), torch.randn(8, dtype=torch.double)
    geometry = [settings["stride"], settings["padding"], settings["dilation"], False, [0, 0], groups]
    expected = aten.convolution(x, weight, bias, *geometry)
    torch.testing.assert_close(convolution(x, weight, bias, *geometry), expected)
    torch.testing.assert_close(convolution(x, weight, None, *geometry), expected - bias[:, None, None])
    gradient = torch.randn_like(expected)
    found = convolution_backward(gradient, x, weight, [8], *geometry, [True, True, True])
    for mine, torchs in zip(
        found, aten.convolution_backward(gradient, x, weight, [8], *geometry, [True] * 3), strict=True
    ):
        torch.testing.assert_close(mine, torchs)
    assert convolution_backward(gradient, x, weight, [8], *geometry, [False, True, False])[::2] == (None, None)


def test_one_dimensional_convolutions_too():
    x, weight = torch.randn(2, 3, 9, dtype=torch.double), torch.randn(4, 3, 3, dtype=torch.double)
    geometry = [[2], [1], [1], False, [0], 1]
    torch.testing.assert_close(convolution(x, weight, None, *geometry), aten.convolution(x, weight, None, *geometry))


@pytest.mark.parametrize(("kernel", "stride"), [([2], []), ([3, 2], [1, 2]), ([2, 2], [3])])
def test_average_pooling_and_its_gradient_are_torchs(kernel, stride):
    x = torch.randn(2, 3, 7, 6, dtype=torch.double)
    found = avg_pool2d(x, kernel, stride)
    torch.testing.assert_close(found, aten.avg_pool2d(x, kernel, stride))
    gradient = torch.randn_like(found)
    rest = [kernel, stride, [0, 0], False, True, None]
    torch.testing.assert_close(avg_pool2d_backward(gradient, x, *rest), aten.avg_pool2d_backward(gradient, x, *rest))


def test_what_they_do_not_cover_is_left_to_others():
    x, weight = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 2, 2)
    assert convolution(x, weight, None, [1, 1], [0, 0], [1, 1], True, [0, 0], 1) is NotImplemented
    assert avg_pool2d(x, [2], [], [1]) is NotImplemented
    assert avg_pool2d(x, [2], ceil_mode=True) is NotImplemented


KEPT = {
    "_log_softmax": lambda q: q.log_softmax(-1),
    "_softmax": lambda q: q.softmax(-1),
    "native_layer_norm": lambda q: functional.layer_norm(q, (12,)),
    "native_group_norm": lambda q: functional.group_norm(q.reshape(1, 4, 3), 2),
    "gelu": lambda q: functional.gelu(q),
    "elu": lambda q: functional.elu(q),
    "leaky_relu": lambda q: functional.leaky_relu(q),
    "linalg_vector_norm": lambda q: torch.linalg.vector_norm(q),
    "repeat": lambda q: q.repeat(2),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_torchs_compilers_keep_whole_becomes_operations_with_a_rule(name):
    q = torch.linspace(0.1, 0.9, 12)
    graph = make_fx(KEPT[name], decomposition_table=decompositions())(q)
    operations = [node.target for node in graph.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    assert {operation._schema.name.removeprefix("aten::") for operation in operations} <= set(RULES)
    torch.testing.assert_close(graph(q), KEPT[name](q))


QUICK = """
import sys, torch
from torch import nn
from posterity.inference.engine.lanes.lower import lower
for name in ("Tanh", "Sigmoid", "Softplus", "ReLU", "LeakyReLU", "SiLU", "GELU", "ELU", "Hardtanh", "LogSigmoid"):
    unit = getattr(nn, name)()
    def gradient(q):
        q = q.detach().requires_grad_()
        with torch.enable_grad():
            value = unit(q).softmax(0).log().sum()
            return torch.autograd.grad(value, q, create_graph=True)[0].detach()
    lower(gradient, torch.ones(3))
    found = [module for module in ("sympy", "torch._dynamo") if module in sys.modules]
    assert not found, (name, found)
"""


def test_nothing_slow_is_imported_for_networks():
    """Each of the two would take longer than all other preparation of a model that was compiled before."""
    done = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
