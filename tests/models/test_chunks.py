"""Chunks of rows: each row once, unchanged threads and gradient mode, exact values and derivatives."""

import threading
from types import SimpleNamespace

import pytest
import torch

from posterity.models import chunks
from posterity.models.likelihoods import floored_scale


@pytest.fixture
def small(monkeypatch):
    """Chunks of 12 numbers, used for tensors of any size."""
    monkeypatch.setattr(chunks, "LARGE", 0)
    monkeypatch.setattr(chunks, "CHUNK", 12)


@pytest.fixture
def threads():
    """Sets torch's threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 30])
def test_every_row_is_done_once_on_threads_that_record_nothing(rows, number, small, threads):
    threads(number)
    done, seen = torch.zeros(rows), []

    def work(part):
        done[part] += 1
        seen.append((torch.is_grad_enabled(), torch.get_num_threads()))

    chunks.for_each_chunk(work, torch.zeros(rows, 3))
    assert bool((done == 1).all())
    assert set(seen) <= {(False, 1)}
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == number


def test_several_threads_take_part(small, threads):
    """Two chunks wait for each other: with one thread the barrier would time out."""
    threads(2)
    meeting = threading.Barrier(2, timeout=30)
    chunks.for_each_chunk(lambda part: meeting.wait() and None, torch.zeros(8, 3))


@pytest.mark.parametrize("number", [1, 2])
def test_what_fails_in_a_block_fails_outside_and_threads_are_as_before(number, small, threads):
    threads(number)

    def work(part):
        raise RuntimeError("in a block")

    with pytest.raises(RuntimeError, match="in a block"):
        chunks.for_each_chunk(work, torch.zeros(30, 3))
    assert torch.get_num_threads() == number


def plain_scale(x, floor, ceiling):
    if ceiling is None:
        return (floor**2 + (2 * x).exp()).sqrt()
    return (floor**2 + 1 / ((-2 * x).exp() + ceiling**-2)).sqrt()


@pytest.mark.parametrize("ceiling", [None, 2.0])
@pytest.mark.parametrize("number", [1, 2])
def test_scales_in_blocks_and_their_gradients_are_those_of_the_formula(ceiling, number, small, threads):
    """Also for columns of a larger tensor, from far below the floor to far above the ceiling, in both dtypes."""
    threads(number)
    columns = torch.linspace(-12, 12, 5 * 3 * 4, dtype=torch.double).reshape(5, 3, 4)
    for x in (columns, columns[:, 1], columns[..., 2], columns.float()[:, 2]):
        inputs = x.detach().requires_grad_()
        weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
        found = floored_scale(inputs, 0.1, ceiling)
        (slope,) = torch.autograd.grad(found, inputs, weights)
        exact_inputs = x.detach().double().requires_grad_()
        exact = plain_scale(exact_inputs, 0.1, ceiling)
        (exact_slope,) = torch.autograd.grad(exact, exact_inputs, weights.double())
        tolerance = 1e-12 if x.dtype == torch.double else 1e-5
        torch.testing.assert_close(found.double(), exact.detach(), rtol=tolerance, atol=0)
        torch.testing.assert_close(slope.double(), exact_slope, rtol=10 * tolerance, atol=1e-30)


@pytest.mark.parametrize("ceiling", [None, 2.0])
def test_first_and_second_derivatives_of_scales_are_those_of_differences(ceiling, small):
    x = torch.linspace(-3, 3, 10, dtype=torch.double).reshape(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: floored_scale(t, 0.1, ceiling), x)
    assert torch.autograd.gradgradcheck(lambda t: floored_scale(t, 0.1, ceiling), x)


def test_scales_beyond_any_number_stay_finite(small):
    x = torch.tensor([[-1e4, -100.0, 100.0, 1e4]], requires_grad=True)
    found = floored_scale(x, 1e-3)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert bool(found.isfinite().all())
    assert slope.tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_what_batches_goes_the_plain_way(small):
    x = torch.linspace(-3, 3, 8).reshape(4, 2)
    torch.testing.assert_close(torch.vmap(lambda t: floored_scale(t, 0.1))(x), floored_scale(x, 0.1))
    slope = torch.func.grad(lambda t: floored_scale(t, 0.1).sum())(x)
    at = x.clone().requires_grad_()
    torch.testing.assert_close(slope, torch.autograd.grad(floored_scale(at, 0.1).sum(), at)[0])


def test_many_gradients_of_scales_at_once(small):
    x = torch.linspace(-3, 3, 4).reshape(2, 2).requires_grad_()
    rows = torch.eye(4).reshape(4, 2, 2)
    (found,) = torch.autograd.grad(floored_scale(x, 0.1), x, rows, is_grads_batched=True)
    (slope,) = torch.autograd.grad(floored_scale(x, 0.1).sum(), x)
    torch.testing.assert_close(found, rows * slope)


def test_threads_are_as_before_where_many_of_pythons_work_at_once(two_threads):
    seen = []

    def work():
        for _ in range(5):
            chunks.for_each_chunk(lambda part: None, torch.zeros(70_000, 10))
        seen.append(torch.get_num_threads())

    for _ in range(3):
        running = [threading.Thread(target=work) for _ in range(4)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert seen == [2] * 12
    assert torch.get_num_threads() == 2


def test_without_the_private_functions_of_torch_whole_tensors_are_used(small, monkeypatch):
    """Another version of torch may lack them: then a transform is assumed, with the same numbers."""
    x = torch.linspace(-3, 3, 40, dtype=torch.double).reshape(10, 4).requires_grad_()
    expected = floored_scale(x, 0.1)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "torch", SimpleNamespace(_C=SimpleNamespace()))
        answers = [chunks._is_tracing(), chunks._in_functorch_transform(), chunks._in_dispatch_mode()]
        assert all(answers)
        assert chunks.is_batched(x)
    monkeypatch.setattr(chunks, "_is_tracing", lambda: True)
    monkeypatch.setattr(chunks, "for_each_chunk", None)  # not called
    plain = floored_scale(x, 0.1)
    torch.testing.assert_close(plain, expected)
    torch.testing.assert_close(torch.autograd.grad(plain.sum(), x)[0], slope)
