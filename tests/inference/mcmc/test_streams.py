"""Random numbers of chains: published values, their distribution, and the same numbers in compiled code."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from posterity.inference.engine import Density
from posterity.inference.mcmc.starts import start
from posterity.inference.mcmc.streams import BEFORE, Streams, philox
from tests.inference.mcmc.cases import X, Y

# Known answers of philox4x32-10 in Random123, the authors' library: counter, key, result.
KNOWN = [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN, ids=["zeros", "ones", "pi"])
def test_the_generator_is_philox(counter, key, expected):
    words = philox([np.array([c], np.uint64) for c in counter], [np.array([k], np.uint64) for k in key])
    assert [int(word[0]) for word in words] == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_normal_and_uniform(dtype):
    """200 chains x 50 transitions: Kolmogorov-Smirnov tests that refuse a correct stream once in 10,000 runs."""
    streams = Streams(0, 200, 7, dtype)
    numbers = [streams.numbers(transition) for transition in range(50)]
    normals = torch.stack([n.normals() for n in numbers])
    uniforms = torch.stack([n.uniforms(index) for n in numbers for index in (0, 1, 2**32 - 1)])
    assert (normals.shape, normals.dtype, uniforms.dtype) == ((50, 200, 7), dtype, torch.float64)
    assert stats.kstest(normals.flatten().numpy(), "norm").pvalue > 1e-4
    assert stats.kstest(uniforms.flatten().numpy(), "uniform").pvalue > 1e-4
    assert len(uniforms.unique()) == uniforms.numel()  # no number comes twice, in any chain or transition
    # The pairs of Box and Muller are independent, also in their squares: correlations of 10,000 within 4.5 errors.
    for power in (1, 2):
        correlation = torch.corrcoef((normals.flatten(0, 1).double() ** power).T)
        assert float((correlation - torch.eye(7)).abs().max()) < 4.5 / 100


def test_a_chain_has_the_same_numbers_beside_any_number_of_others():
    few, many = (Streams(3, chains, 5, torch.float64).numbers(11) for chains in (2, 7))
    assert torch.equal(few.normals(), many.normals()[:2])
    assert torch.equal(few.uniforms(70), many.uniforms(70)[:2])
    assert torch.equal(many.uniforms(70, torch.tensor([5, 1])), many.uniforms(70)[[5, 1]])


def test_more_numbers_begin_with_the_same():
    few, many = (Streams(3, 2, size, torch.float32).numbers(4).normals() for size in (3, 50))
    assert torch.equal(few, many[:, :3])


def test_transitions_have_their_own_numbers():
    streams = Streams(3, 4, 6, torch.float64)
    drawn = torch.stack([streams.numbers(t).normals() for t in (0, 1, 2**32, BEFORE)])
    assert len(drawn.unique()) == drawn.numel()


def test_the_first_momentum_is_not_the_start():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        return pyro.sample("y", dist.Normal(w[0] * x[:, 0], 1.0).to_event(1), obs=y)

    density = Density(model, (X, Y))
    momentum = Streams(3, 4, density.dim, density.dtype).numbers(0).normals()
    assert not torch.isin(start(density, "prior", 4, seed=3), momentum).any()
