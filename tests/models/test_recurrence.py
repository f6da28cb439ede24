"""The recurrent layer against torch's, under transforms of torch, and with memories of chosen lengths."""

import pytest
import torch
from scipy.stats import kstest, uniform
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.models import recurrence
from posterity.models.recurrence import Recurrence
from posterity.models.recurrent import MixtureRNN


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("cell", "layer"), [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)])
def test_the_recurrence_is_that_of_torch(cell, layer):
    ours, theirs, x = Recurrence(cell, 3, 5), layer(3, 5, batch_first=True), noise(4, 7, 3)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.weight_hh_l0.copy_(ours.repeat.weight)
        theirs.bias_ih_l0.copy_(ours.input.bias)
        theirs.bias_hh_l0.copy_(ours.repeat.bias)
        assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)
        last = theirs(x)[1]
        assert torch.allclose(ours(x)[1][0], (last[0] if cell == "lstm" else last)[0], atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_torch_s_operation_and_the_products_agree_up_to_the_second_derivative(cell, monkeypatch):
    layer, x = Recurrence(cell, 3, 16), noise(6, 4, 3).requires_grad_()
    state = tuple(noise(6, 16, seed=seed) for seed in range(2 if cell == "lstm" else 1))
    weights = [x, *layer.parameters()]

    def everything():
        outputs, last = layer(x, state)
        total = outputs.square().sum() + sum(part.sum() for part in last)
        first = torch.autograd.grad(total, weights, create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), weights)
        return outputs, *last, *first, *second

    by_torch = everything()
    monkeypatch.setattr(recurrence, "untransformed", lambda *tensors: False)
    for one, other in zip(by_torch, everything(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_transforms_of_torch_see_products(cell):
    """``vmap``, forward-mode derivatives and recordings."""
    layer = Recurrence(cell, 3, 5)
    x, along = noise(2, 6, 4, 3), noise(6, 4, 3, seed=1)
    expected = torch.stack([layer(one)[0] for one in x])
    torch.testing.assert_close(torch.func.vmap(lambda one: layer(one)[0])(x), expected)
    recorded = make_fx(lambda one: layer(one)[0])(x[0])
    assert not any(name in recorded.code for name in ("aten.lstm", "aten.gru", "mkldnn"))
    torch.testing.assert_close(recorded(x[1]), expected[1])
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x[0], along)
        tangent = torch.autograd.forward_ad.unpack_dual(layer(dual)[0]).tangent
    step = 1e-3 * along
    torch.testing.assert_close(tangent, (layer(x[0] + step)[0] - layer(x[0] - step)[0]) / 2e-3, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_that_start_open_keep_a_memory_for_1_to_span_steps(cell):
    """Without inputs a memory falls as (t / (1 + t))^steps, with t uniform from 1 to span - 1."""
    net = MixtureRNN(1, hidden=400, components=1, cell=cell, span=30, seed=1).recurrent
    with torch.no_grad():
        net.input.weight.zero_()
        net.repeat.weight.zero_()
        net.input.bias.zero_()
        net.repeat.bias.zero_()
        start = tuple(torch.ones(1, 400) for _ in range(2 if cell == "lstm" else 1))
        kept = net(torch.zeros(1, 5, 1), start)[1][-1][0] ** (1 / 5)
    assert kstest((kept / (1 - kept)).double().numpy(), uniform(1, 28).cdf).pvalue > 1e-3
    with pytest.raises(ValueError, match="expected span to be"):
        MixtureRNN(1, span=2)


def test_a_recurrence_names_bad_input():
    layer, x = Recurrence("lstm", 3, 5), torch.zeros(2, 4, 3)
    for bad in (torch.zeros(2, 4, 2), torch.zeros(4, 3), torch.zeros(2, 0, 3), None):
        with pytest.raises(ValueError, match=r"expected x of shape \(N, T, 3\), T of 1 or more, got"):
            layer(bad)
    with pytest.raises(ValueError, match=r"expected x of dtype torch.float32, as the weights, got torch.float64"):
        layer(x.double())
    state = torch.zeros(2, 5)
    for bad in ((state,), (state, torch.zeros(3, 5)), state, (state, state.double()), (state, None)):
        with pytest.raises(ValueError, match=r"expected state to be 2 tensor\(s\) of shape \(2, 5\) and dtype"):
            layer(x, bad)
