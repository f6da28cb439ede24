"""Recorded functions: the same numbers as the function, fewer chains, and words for the difference of two."""

import warnings

import pytest
import torch

from posterity.inference.engine.recording import DIFFERS, describe_error, difference, pad_chains, quiet, record, replay


def gradient(q):
    """Value and gradient for every row of ``q``."""
    return torch.sin(q).prod(-1), torch.cos(q) * torch.sin(q.flip(-1))


def test_a_replayed_recording_is_the_function_at_other_points():
    q = torch.linspace(0.1, 0.9, 6).reshape(3, 2)
    replayed = replay(record(gradient, q), q)
    other = 2 - 3 * q
    for found, expected in zip(replayed(other), gradient(other), strict=True):
        torch.testing.assert_close(found, expected)


def test_where_torchscript_fails_the_graph_runs_itself(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("unknown operation")

    monkeypatch.setattr(torch.jit, "trace", fail)
    q = torch.linspace(0.1, 0.9, 6).reshape(3, 2)
    found = replay(record(gradient, q), q)(q.requires_grad_())
    torch.testing.assert_close(found, gradient(q.detach()))
    assert not found[0].requires_grad


@pytest.mark.parametrize("chains", [1, 3, 5])
def test_a_recording_of_five_chains_takes_fewer(chains):
    asked = []

    def function(q, data):
        asked.append((q.shape, data.shape))
        return q.sum(-1) * data, q * data[:, None]

    q, data = torch.randn(chains, 2), torch.randn(chains)
    value, grad = pad_chains(function, 5)(q, data)
    assert asked == [((5, 2), (5,))]
    torch.testing.assert_close(value, q.sum(-1) * data)
    torch.testing.assert_close(grad, q * data[:, None])


VALUE, GRADIENT = torch.tensor([1.0, -1000.0]).double(), torch.tensor([[3.0, 4.0], [0.0, 0.0]]).double()


@pytest.mark.parametrize(
    ("value", "grad", "expected"),
    [
        ([1.0, -1000.0], [[3.0, 4.0], [0.0, 0.0]], None),
        ([1.01, -1009.0], [[3.05, 4.0], [0.005, 0.0]], None),  # 1 % of 1 + |value|, and of 1 + the norm
        ([1.03, -1000.0], [[3.0, 4.0], [0.0, 0.0]], f"{DIFFERS} gives 1.03 where the model gives 1"),
        ([1.0, -1011.0], [[3.0, 4.0], [0.0, 0.0]], f"{DIFFERS} gives -1011 where the model gives -1000"),
        ([1.0, torch.nan], [[3.0, 4.0], [0.0, 0.0]], f"{DIFFERS} gives nan where the model gives -1000"),
        ([1.0, -1000.0], [[3.0, 4.0], [0.02, 0.0]], f"{DIFFERS} has a gradient that differs by 0.02 from the model's"),
        ([1.0, -1000.0], [[3.0, torch.nan], [0.0, 0.0]], f"{DIFFERS} has a gradient that differs by nan from"),
    ],
)
def test_a_difference_is_said_with_the_numbers(value, grad, expected):
    recorded = torch.tensor(value, dtype=torch.double), torch.tensor(grad, dtype=torch.double)
    found = difference(recorded, (VALUE, GRADIENT), 0.01)
    assert found is None if expected is None else found.startswith(expected)


def test_where_the_function_is_not_finite_nothing_is_compared():
    other = (torch.tensor([1.0, 7.0]), GRADIENT)
    assert difference(other, (torch.tensor([1.0, -torch.inf]), GRADIENT), 0.01) is None
    infinite = torch.tensor([[3.0, 4.0], [torch.inf, 0.0]])
    assert difference(other, (VALUE, infinite), 0.01) is None


def test_an_error_is_described_by_its_type_and_first_line():
    assert describe_error(ValueError("one\ntwo")) == "ValueError: one"
    assert describe_error(KeyError()) == "KeyError: "
    assert len(describe_error(RuntimeError(500 * "x"))) == 200


def test_quiet_hides_warnings_inside_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("inside", stacklevel=1)
        warnings.warn("outside", stacklevel=1)
    assert [str(one.message) for one in caught] == ["outside"]
