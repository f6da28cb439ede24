"""The loops of compiled functions: chains of views, tiles that do not divide a product, and accurate long sums."""

import itertools

import pytest
import torch

from posterity.inference.engine.lanes import build, products
from posterity.inference.engine.lanes import emit as emission
from posterity.inference.engine.lanes.emit import emit
from posterity.inference.engine.lanes.machine import Machine
from tests.inference.engine.cases import without_optimisation
from tests.inference.engine.lanes.cases import SIZE, TOLERANCE, compiled, lowered, padded, together


def view(order, dim, step, keep):
    """A cube permuted, cut, and reduced: 24 numbers, those that are cut away as zeros."""

    def function(q):
        x = q.reshape(2, 3, 4).permute(order)
        y = x[tuple(slice(None, None, step) if d == dim else slice(None) for d in range(3))]
        total = y.sum(dim, keepdim=True) if keep else y.amax(dim).unsqueeze(dim)
        return padded(y - total, 24)

    return function


def test_chains_of_views_are_torchs(monkeypatch):
    """All orders of three dimensions, each of them cut by steps of 1 to 3, and reduced in two ways."""
    without_optimisation(monkeypatch)
    kinds = itertools.product(itertools.permutations(range(3)), range(3), (1, 2, 3), (True, False))
    functions = {kind: view(*kind) for kind in kinds}
    q = torch.randn(3, len(functions), 24, dtype=torch.double)
    found = compiled(together(functions, 24), 24 * len(functions), torch.double, 3).gradient(q.flatten(1))[1]
    for kind, result, x in zip(functions, found.split(24, -1), q.unbind(1), strict=True):
        with torch.no_grad():
            expected = torch.stack([functions[kind](row) for row in x])
        torch.testing.assert_close(
            result, expected, rtol=1e-12, atol=1e-12, msg=lambda text, kind=kind: f"{kind}: {text}"
        )


def test_long_sums_keep_their_accuracy():
    """100,000 terms of one sign in float32: partial sums keep the error below 20 roundings (naive: thousands)."""
    data = torch.rand(100_000, generator=torch.Generator().manual_seed(0))

    def function(q):
        return (data * q[0]).sum() * torch.ones(SIZE)

    q = torch.ones(2, SIZE)
    found = float(compiled(function, SIZE, torch.float32, 2).gradient(q)[1][0, 0])
    assert found == pytest.approx(float(data.double().sum()), rel=20 * 6e-8 * 100)


@pytest.mark.parametrize("kind", [Machine(64, (4, 4)), Machine(32, (2, 4)), Machine(16, (4, 4))], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("chains", [1, 9, 40])
def test_vectors_and_tiles_of_other_processors_give_the_same(kind, dtype, chains, monkeypatch):
    """A product of 7 x 5 and 5 x 6, which no tile divides, with what is left of each."""
    without_optimisation(monkeypatch)
    for module in (build, emission, products):
        monkeypatch.setattr(module, "machine", lambda: kind)
    size = 7 * 5 + 5 * 6

    def product(x):
        return padded(torch.tanh(x[:35].reshape(7, 5) @ x[35:].reshape(5, 6)), size)

    q = torch.randn(chains, size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    call = compiled(product, size, dtype, chains)
    assert 2 <= call.width <= kind.bytes // dtype.itemsize
    expected = torch.stack([product(row) for row in q])
    torch.testing.assert_close(call.gradient(q)[1], expected, rtol=0, atol=TOLERANCE[dtype])


def test_an_expression_of_a_product_is_computed_in_its_tiles():
    """The tanh of a product is stored, and the product is not; data are constants of the code."""
    data = torch.linspace(-1, 1, 9).reshape(3, 3)

    def function(x):
        return torch.cat([torch.tanh(x[:9].reshape(3, 3) @ data).reshape(-1), x[9:]])

    fused = emit(lowered(function, SIZE, torch.float32)[1:], ["grad"])
    plain = emit(lowered(lambda x: padded(x[:9].reshape(3, 3) @ data), SIZE, torch.float32)[1:], ["grad"])
    assert fused.text.count("v_tanh") >= 1
    assert fused.vectors <= plain.vectors + SIZE
    assert any(torch.equal(array, data) for array in fused.floats)
