"""Models computed in blocks of rows: the same values and gradients as torch, whatever goes along the rows."""

import pytest
import torch

from posterity.inference.engine.lanes import emit as emission
from posterity.inference.engine.lanes.build import Compiled
from posterity.inference.engine.lanes.emit import Code, emit
from posterity.inference.engine.lanes.machine import Machine
from posterity.inference.engine.lanes.rows import place_values
from tests.inference.engine.cases import without_optimisation
from tests.inference.engine.lanes.cases import lowered

N, SIZE, CHAINS = 61, 40, 3  # rows that no block divides, numbers of a chain
G = torch.Generator().manual_seed(0)
X = torch.randn(N, 5, generator=G, dtype=torch.double)
Y = torch.randn(N, generator=G, dtype=torch.double)
GROUP = torch.randint(0, 6, (N,), generator=G)
CLASS = torch.randint(0, 3, (N,), generator=G)


def network(q):
    hidden = torch.tanh(X @ q[:30].reshape(6, 5).T + q[30:36])
    return -0.5 * ((Y - hidden @ q[34:40]) ** 2).sum() * q[0].exp()


def normal(y, mean, scale):
    return torch.distributions.Normal(mean, scale, validate_args=False).log_prob(y)


def groups(q):
    return normal(Y, q[GROUP] + X[:, 0] * q[GROUP + 6], q[39].exp()).sum()


def classes(q):
    return torch.log_softmax(X @ q[:15].reshape(5, 3), -1)[torch.arange(N), CLASS].sum()


def standardised(q):
    """The mean over the rows must be known before any row is scored: two loops forward."""
    h = torch.tanh(X @ q[:5])
    return ((h - h.mean()) / h.std() * Y).sum()


def differences(q):
    """A row reads the one before it."""
    h = torch.sin(X @ q[:5])
    return ((h[1:] - 0.5 * h[:-1]) * Y[1:]).sum() + (h.flip(0) * Y).sum()


def walk(q):
    return (torch.cumsum(torch.tanh(X @ q[:5]), 0) * Y).sum()


def joined(q):
    h = torch.cat([X * q[:5], torch.tanh(X @ q[5:20].reshape(5, 3)), X[:, :1]], -1)
    return (h.logsumexp(-1) * Y).sum() + torch.cat([h[:, 0], h[:, 1]]).exp().mean()


def batch(q):
    """A small matrix for each row."""
    a = (X[:, :2, None] * q[:2]) @ q[2:8].reshape(2, 3)
    return (a @ a.mT).logsumexp((-1, -2)).sum()


def largest(q):
    return (X @ q[:5]).amax() + torch.exp(X @ q[5:10]).prod() ** (1 / N)


def along_columns(q):
    """The rows of the data are columns here."""
    return torch.tanh(q[:30].reshape(6, 5) @ X.T).mul(Y).sum(-1).square().sum()


def kernel(q):
    """A matrix of all pairs of rows."""
    distance = (X[:, None, 0] - X[None, :, 0]) ** 2
    return (torch.exp(-distance * q[0].exp()) @ Y * torch.tanh(X @ q[1:6])).sum()


def per_row(q):
    """A number of the chain for each of 40 rows."""
    return normal(Y[:40], q.exp() * X[:40, 0], 1.0).sum() + network(q)


CASES = (
    network, groups, classes, standardised, differences, walk, joined, batch, largest, along_columns, kernel, per_row,
)  # fmt: skip


def together(q):
    def total(x):
        parts = torch.stack([case(part) for case, part in zip(CASES, x.split(SIZE), strict=True)])
        return parts.sum(), parts

    gradient, values = torch.func.grad(total, has_aux=True)(q)
    return torch.cat([values, gradient[: len(q) - len(CASES)]])


@pytest.mark.parametrize("rows", [1, 7, 8, 64])
def test_blocks_of_rows_compute_what_torch_does(rows, monkeypatch):
    """Values and gradients of twelve models, in blocks of 1, 7, 8 and all rows: to 1e-10 of the largest number."""
    without_optimisation(monkeypatch)
    monkeypatch.setattr(Code, "block", lambda self, bytes_of_vector: min(rows, self.rows))
    size = SIZE * len(CASES)
    code = emit(lowered(together, size, torch.double), ["value", "grad"])
    assert code.rows == N
    q = 0.5 * torch.randn(CHAINS, size, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    found = Compiled(code, size, torch.double, CHAINS).gradient(q)[1]
    expected = torch.stack([together(row) for row in q])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def density(function):
    """Value and gradient of one case, as the engine records a model."""

    def both(q):
        gradient, value = torch.func.grad_and_value(function)(q)
        return torch.cat([value[None], gradient[:-1]])

    return lowered(both, SIZE, torch.double)[1:]


@pytest.mark.parametrize(
    ("case", "loops"), [(network, 1), (groups, 1), (classes, 1), (standardised, 4), (along_columns, 2)]
)
def test_a_model_goes_through_its_rows_as_few_times_as_possible(case, loops):
    """Forward and backward in one loop, unless a sum over all rows is needed before."""
    text = emit(density(case), ["grad"]).text
    assert text.count("r0 += ROWS") == loops


def test_memory_for_rows_is_that_of_a_block(monkeypatch):
    """Ten times as many rows take no more memory."""
    few = emit(density(network), ["grad"])
    monkeypatch.setitem(globals(), "X", X.repeat(10, 1))
    monkeypatch.setitem(globals(), "Y", Y.repeat(10))
    many = emit(density(network), ["grad"])
    assert (few.rows, many.rows) == (N, 10 * N)
    assert few.vectors == many.vectors
    assert 6 <= few.row_vectors == many.row_vectors < 30


def test_blocks_fill_the_cache_in_whole_tiles(monkeypatch):
    code = Code("", 0, [], [], row_vectors=100, rows=1000)
    monkeypatch.setattr(emission, "machine", lambda: Machine(64, (4, 4), 64 * 100 * 30))
    assert code.block(64) == 24
    monkeypatch.setattr(emission, "machine", lambda: Machine(64, (4, 4), 1))
    assert code.block(64) == 8  # the smallest
    assert Code("", 0, [], [], row_vectors=100, rows=5).block(64) == 5
    assert Code("", 17, [], []).size(64) == 17


def test_data_with_few_rows_are_not_split():
    few = lowered(lambda q: (X[:5, :2] @ q[:2]).sum() * q, SIZE, torch.double)
    places, rows = place_values(few)
    assert rows == 0
    assert all(place.row is None for place in places.values())


def test_a_sum_over_rows_grows_in_their_loop():
    outputs = density(groups)
    places, rows = place_values(outputs)
    assert rows == N
    grown = [place for place in places.values() if place.grows]
    assert grown
    assert all(place.ready == place.time + 1 for place in grown)


def test_sums_over_many_blocks_keep_their_accuracy(monkeypatch):
    """400,000 terms in blocks of 8 in float32: below 2 roundings of the sum (without compensation: hundreds)."""
    monkeypatch.setattr(Code, "block", lambda self, bytes_of_vector: 8)
    data = torch.rand(400_000, generator=torch.Generator().manual_seed(0))
    code = emit(lowered(lambda q: (data * q[0]).sum() * torch.ones(12), 12, torch.float32), ["value", "grad"])
    found = float(Compiled(code, 12, torch.float32, 2).gradient(torch.ones(2, 12))[1][0, 0])
    assert found == pytest.approx(float(data.double().sum()), rel=2 * 2**-23)
