"""Rows held out of training, and early stopping, by truth tables."""

import pytest
import torch

from posterity.inference.training.holdout import Patience, check_batch_size, hold_out

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.25, 2), (0.35, 4), (0.5, 5), (0.9, 9)])
def test_every_row_is_trained_on_or_held_out(share, count):
    (x, y, text), (x_out, y_out, _) = hold_out((X, Y, "a"), share, torch.Generator().manual_seed(0))
    assert text == "a"
    assert len(y_out) == count
    assert sorted([*y.tolist(), *y_out.tolist()]) == list(range(10))
    assert torch.equal(x, X[y])  # x and y are of the same rows
    assert torch.equal(x_out, X[y_out])


def test_rows_are_chosen_by_the_generator_or_by_the_global_state():
    first, second, other = (hold_out((Y,), 0.5, torch.Generator().manual_seed(s))[0][0].tolist() for s in (1, 1, 2))
    assert first == second != other
    torch.manual_seed(1)
    assert hold_out((Y,), 0.5)[0][0].tolist() == first


def test_without_a_share_there_is_nothing_to_hold_out():
    assert hold_out((X, Y), 0.0) == ((X, Y), None)


def test_rows_must_be_left_to_train_on():
    with pytest.raises(ValueError, match="expected rows left to train on, got 10 rows and 10 held out"):
        hold_out((X, Y), 0.96)
    with pytest.raises(ValueError, match="expected rows left to train on, got 1 rows and 1 held out"):
        hold_out((X[:1],), 0.1)


def test_a_batch_is_at_most_all_rows():
    for size in (None, 1, 10):
        check_batch_size(size, 10)
    with pytest.raises(ValueError, match="expected a batch_size of at most 10 rows, got 11"):
        check_batch_size(11, 10)


# "+" improved, "-" did not, "?" no finite score yet; and the checks at which a limit of 2 ends training.
COURSES = {"--": [1], "-+--": [3], "+-+-+-": [], "??--": [3], "-?--": [3], "+++": [], "---": [1, 2]}


@pytest.mark.parametrize("course", COURSES)
def test_patience_counts_consecutive_checks_without_improvement(course):
    patience = Patience(2)
    ended = [patience.exhausted(improved=check == "+", scored=check != "?") for check in course]
    assert [number for number, end in enumerate(ended) if end] == COURSES[course]
