import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterity.data import Observations, cross_validation, holdout, kfold

seeds = st.integers(0, 2**31)


@given(st.integers(2, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n))), seeds)
def test_every_row_is_tested_once_and_trained_on_otherwise(sizes, seed):
    n, folds = sizes
    splits = kfold(n, folds, seed)
    assert len(splits) == folds
    assert torch.cat([test for _, test in splits]).sort().values.equal(torch.arange(n))
    for train, test in splits:
        assert torch.cat([train, test]).sort().values.equal(torch.arange(n))
    lengths = [len(test) for _, test in splits]
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(2, 200), st.floats(0, 1, exclude_min=True, exclude_max=True), seeds)
def test_holdout_parts_the_rows_in_two(n, fraction, seed):
    train, test = holdout(n, fraction, seed)
    assert torch.cat([train, test]).sort().values.equal(torch.arange(n))
    assert len(train) >= 1
    assert len(test) >= 1
    assert abs(len(test) - n * fraction) <= 1


def test_the_seed_decides_and_the_rows_are_shuffled():
    first, again, other = (torch.stack([test for _, test in kfold(100, 5, seed)]) for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)
    assert not first.flatten().equal(torch.arange(100))
    # Shuffled well: over 2,000 seeds row 0 is in each of 5 folds 400 times, within 4 standard errors (of 17.9).
    homes = torch.tensor([next(i for i, (_, t) in enumerate(kfold(10, 5, s)) if t[0] == 0) for s in range(2000)])
    assert ((homes.bincount() - 400).abs() < 4 * (2000 * 0.2 * 0.8) ** 0.5).all()


def test_a_generator_moves_on_and_the_global_one_does_not():
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    (_, first), (_, second) = holdout(100, 0.2, generator), holdout(100, 0.2, generator)
    assert not first.equal(second)
    assert torch.get_rng_state().equal(before)


def test_cross_validation_gives_the_tables_of_kfold():
    data = Observations(torch.arange(10.0)[:, None], torch.arange(10.0) ** 2, ["t"])
    for (train, test), (train_index, test_index) in zip(cross_validation(data, 3, 7), kfold(10, 3, 7), strict=True):
        assert train.x[:, 0].long().equal(train_index)
        assert test.y.equal(test_index.float() ** 2)
        assert test.x_names == ("t",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kfold(3, 4, 0), "expected at least as many rows as folds, got 3 rows and 4 folds"),
        (lambda: kfold(10, 1, 0), "expected folds to be a whole number of 2 or more, got 1"),
        (lambda: kfold(10, 2.5, 0), "expected folds to be a whole number of 2 or more, got 2.5"),
        (lambda: kfold(10, 2, 1.0), "expected seed to be an int or a torch.Generator, got 1.0"),
        (lambda: holdout(1, 0.5, 0), "expected n to be a whole number of 2 or more, got 1"),
        (lambda: holdout(10, 0.0, 0), r"expected fraction to be a number in \(0, 1\), got 0.0"),
        (lambda: holdout(10, 1.0, 0), r"expected fraction to be a number in \(0, 1\), got 1.0"),
        (lambda: cross_validation(Observations([[1.0]], [1.0]), 2, 0), "got 1 rows and 2 folds"),
    ],
)
def test_impossible_splits_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
