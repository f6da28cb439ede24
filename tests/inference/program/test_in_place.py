"""Functions without their writes: their values, and the gradients of functions that write every element once."""

import numpy as np
import pytest
import torch

from posterity.inference.program.in_place import NoticeWrites, without_writes

N = 5


def recursion(x):
    result = torch.empty(N)
    result[0] = x[0]
    for t in range(1, N):
        result[t] = x[t] + 0.5 * result[t - 1] ** 2
    return result


def recursion_once(x):
    steps = [x[0]]
    for t in range(1, N):
        steps.append(x[t] + 0.5 * steps[-1] ** 2)
    return torch.stack(steps)


def sums(x):
    result = torch.zeros(N)
    result += x
    result *= x
    result[1:] -= x[:-1]
    result.add_(2.0).div_(3.0)
    return result


def sums_once(x):
    return (x * x - torch.cat([torch.zeros(1), x[:-1]]) + 2) / 3


def assignments(x):
    result = torch.full((2, N), torch.nan)
    result[0] = x
    result[1, :2] = x[3]  # broadcast
    result[1, torch.arange(2, N)] = x[2:].exp()
    result[..., -1] = x[:2].double()
    result[:, None, 0] = np.float64(1.0)
    row = result[1]
    row.copy_(row.sin())  # a view: written into the whole
    return result


def assignments_once(x):
    second = torch.cat([x[3].expand(2), x[2:].exp()])
    both = torch.cat([torch.ones(2, 1), torch.stack([x, second])[:, 1:-1], x[:2, None]], 1)
    return torch.stack([both[0], both[1].sin()])


DATA = torch.linspace(0, 1, N)


def from_data(x):
    result = torch.zeros_like(DATA)
    result[0] = x[0] + DATA[1]
    shifted = DATA + 1
    shifted[1:] += x[1:]
    for t in range(1, N):
        result[t] = shifted[t] * result[t - 1]
    return torch.stack([result, DATA.clone().mul_(x)])


def from_data_once(x):
    steps = [x[0] + DATA[1]]
    for t in range(1, N):
        steps.append((DATA[t] + 1 + x[t]) * steps[-1])
    return torch.stack([torch.stack(steps), DATA * x])


def by_numpy(x):
    result = torch.zeros(N)
    for t in np.arange(N):
        result[t] = 2 * x[t] + (result[t - 1] if t else 0.0)
    return result


def by_numpy_once(x):
    return 2 * x.cumsum(0)


def masked(x):
    result = x.clone()
    result[x > 0] = 2 * x[x > 0]
    result.clamp_(max=1.0)
    return result


def masked_once(x):
    return torch.where(x > 0, 2 * x, x).clamp(max=1.0)


PAIRS = [
    (recursion, recursion_once),
    (sums, sums_once),
    (assignments, assignments_once),
    (from_data, from_data_once),
    (by_numpy, by_numpy_once),
]


@pytest.mark.parametrize(("written", "once"), [*PAIRS, (masked, masked_once)], ids=lambda f: f.__name__)
def test_values_and_gradients_are_those_of_the_function(written, once):
    x = torch.linspace(-1, 1, N) ** 3 + 0.1
    weights = torch.linspace(1, 2, written(x).numel())
    torch.testing.assert_close(without_writes(written)(x), written(x), rtol=0, atol=0)
    torch.testing.assert_close(written(x), once(x))
    found, expected = (
        torch.func.grad(lambda x, f=f: (f(x).reshape(-1) * weights).sum())(x) for f in (without_writes(written), once)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("written", "once"), PAIRS, ids=lambda f: f.__name__)
def test_they_can_be_batched(written, once):
    x = torch.randn(3, N, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.func.vmap(without_writes(written))(x), torch.stack([once(row) for row in x]))


def test_a_tensor_from_outside_is_not_written_to():
    outside = torch.zeros(N)

    def adds(x):
        outside[1:].add_(x[1:])
        return outside

    with pytest.raises(RuntimeError, match="mutating"):
        without_writes(adds)(torch.ones(N))
    assert not outside.any()


@pytest.mark.parametrize(
    "read",
    [lambda x: torch.from_numpy(x.numpy()), lambda x: torch.tensor(x.tolist()), lambda x: torch.tensor(np.asarray(x))],
)
def test_tensors_are_not_read_outside_of_torch(read):
    with pytest.raises(RuntimeError, match="reads a tensor outside of torch"):
        without_writes(read)(torch.ones(N))


def without_gradient(x):
    result = 2 * x + torch.zeros(N)
    with torch.no_grad():
        result[0] = 0.0
    return result


def into_detached(x):
    result = torch.zeros(N)
    result[1:] = 2 * x[1:]
    result.detach()[0] = 3.0
    return result


def into_data(x):
    result = torch.zeros(N)
    result[1:] = 2 * x[1:]
    result.data.clamp_(min=0.0)
    return result


@pytest.mark.parametrize("function", [without_gradient, into_detached, into_data])
def test_a_write_that_autograd_does_not_see_has_another_gradient_and_is_refused(function):
    x = torch.linspace(-1, 1, N)
    with pytest.raises(RuntimeError, match="a tensor is detached, or written to without a gradient"):
        torch.func.grad(lambda x: without_writes(function)(x).sum())(x)


@pytest.mark.parametrize("function", [recursion, sums, masked, lambda x: x.clone().mul_(2), torch.Tensor.exp_])
def test_writes_are_noticed(function):
    with NoticeWrites() as notice:
        function(torch.ones(N))
    assert notice.found


def test_what_only_reads_is_not_noticed():
    with NoticeWrites() as notice:
        recursion_once(torch.ones(N, requires_grad=True).requires_grad_(False))
        masked_once(torch.ones(N))[0].item()
    assert not notice.found
