"""Seeds and generators: the same numbers every time, independent streams, and global state left alone."""

import numpy as np
import pytest
import torch

from posterity.random import as_generator, child_seeds, generator, normal, seeded, uniform


def test_an_int_starts_the_same_stream_every_time_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    assert normal(5, as_generator(3)).equal(normal(5, as_generator(np.int64(3))))
    assert torch.get_rng_state().equal(before)


def test_a_generator_is_used_as_it_is():
    generator = torch.Generator().manual_seed(3)
    assert as_generator(generator) is generator
    assert not uniform(5, 0, 1, generator).equal(uniform(5, 0, 1, generator))


@pytest.mark.parametrize("seed", [None, 1.0, "1", True])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError, match=r"expected seed to be an int or a torch.Generator, got"):
        as_generator(seed)


def test_other_seeds_than_of_64_bits_are_refused():
    with pytest.raises(ValueError, match="expected seed to be an int of 64 bits, got 18446744073709551616"):
        as_generator(2**64)


def test_draws_have_the_moments_of_their_distribution():
    """Means and variances of 10,000 draws within five standard errors."""
    u, z = uniform(10_000, -1, 3, as_generator(0)), normal(10_000, as_generator(1))
    assert u.dtype == z.dtype == torch.float64
    assert -1 <= float(u.min()) < float(u.max()) < 3
    for draws, mean, variance, kurtosis in ((u, 1.0, 16 / 12, 1.8), (z, 0.0, 1.0, 3.0)):
        assert abs(float(draws.mean()) - mean) < 5 * (variance / 1e4) ** 0.5
        assert abs(float(draws.var()) / variance - 1) < 5 * ((kurtosis - 1) / 1e4) ** 0.5


def test_seeds_of_streams_do_not_depend_on_how_many_there_are():
    assert child_seeds(3, 2) == child_seeds(3, 5)[:2]
    assert len({*child_seeds(3, 50), *child_seeds(4, 50)}) == 100
    assert all(0 <= seed < 2**63 for seed in child_seeds(0, 100))


def test_seeds_of_another_purpose_are_others():
    assert not {*child_seeds(3, 50)} & {*child_seeds(3, 50, 1), *child_seeds(3, 50, 0), *child_seeds(3, 50, 2)}
    assert child_seeds(3, 2, 1) == child_seeds(3, 5, 1)[:2]


def test_a_numpy_generator_differs_by_seed_and_purpose_and_from_the_callers():
    firsts = [generator(seed, purpose).random() for seed, purpose in ((0, "a"), (0, "b"), (1, "a"))]
    assert len({*firsts, np.random.default_rng(0).random()}) == 4
    assert generator(0, "a").random() == firsts[0]
    with pytest.raises(ValueError, match="expected seed to be a whole number of 0 or more, got -1"):
        generator(-1, "a")


def test_seeded_gives_the_state_back_even_after_an_error():
    state = torch.get_rng_state()

    def fails():
        with seeded(1):
            torch.randn(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(1):
        first = torch.randn(3)
    with seeded(1):
        np.testing.assert_array_equal(first, torch.randn(3))
