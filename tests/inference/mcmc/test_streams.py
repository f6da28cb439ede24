"""Random numbers of chains: their distribution, and their independence of other chains and of interrupts."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from posterity.inference.engine import Density
from posterity.inference.mcmc.starts import start
from posterity.inference.mcmc.streams import Streams
from tests.inference.mcmc.cases import X, Y


def numbers(streams, count):
    """Normals and uniforms of the next transitions, (transition, chain, ...)."""
    return [torch.stack(part) for part in zip(*(streams.next() for _ in range(count)), strict=True)]


def test_numbers_are_normal_and_uniform():
    """200 chains x 50 transitions: Kolmogorov-Smirnov tests that refuse a correct stream once in 10,000 runs."""
    normals, uniforms = numbers(Streams(0, 200, 3, 2, torch.float32), 50)
    assert (normals.shape, uniforms.shape) == ((50, 200, 3), (50, 200, 2))
    assert (normals.dtype, uniforms.dtype) == (torch.float32, torch.float64)
    assert stats.kstest(normals.flatten().numpy(), "norm").pvalue > 1e-4
    assert stats.kstest(uniforms.flatten().numpy(), "uniform").pvalue > 1e-4
    assert len(uniforms.unique()) == uniforms.numel()  # no number comes twice, in any chain or transition


def test_a_chain_has_the_same_numbers_beside_any_number_of_others():
    few, many = (numbers(Streams(3, chains, 4, 2, torch.float64), 20) for chains in (2, 7))
    assert torch.equal(few[0], many[0][:, :2])
    assert torch.equal(few[1], many[1][:, :2])


def test_the_current_numbers_stay_until_the_streams_advance():
    streams, other = Streams(3, 2, 4, 2, torch.float64), Streams(3, 2, 4, 2, torch.float64)
    for normals, uniforms in zip(*numbers(other, 10), strict=True):
        for _ in range(2):
            assert torch.equal(streams.current()[0], normals)
            assert torch.equal(streams.current()[1], uniforms)
        streams.advance()


@pytest.mark.parametrize("used", [0, 3, 8, 11])
def test_restored_streams_continue_where_they_were(used):
    """Before a block of 8 transitions, inside of it, at its end, and in the next block."""
    streams = Streams(3, 2, 4, 2, torch.float32)
    numbers(streams, used)
    state, expected = streams.state(), numbers(streams, 10)
    other = Streams(5, 2, 4, 2, torch.float32)
    other.restore(state)
    for found, wanted in zip(numbers(other, 10), expected, strict=True):
        assert torch.equal(found, wanted)


def test_the_first_momentum_is_not_the_start():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        return pyro.sample("y", dist.Normal(w[0] * x[:, 0], 1.0).to_event(1), obs=y)

    density = Density(model, (X, Y))
    momentum, _ = Streams(3, 4, density.dim, 3, density.dtype).next()
    assert not torch.isin(start(density, "prior", 4, seed=3), momentum).any()
