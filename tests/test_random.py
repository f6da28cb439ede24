import numpy as np
import pytest
import torch

from posterity.random import as_generator, normal, uniform


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
