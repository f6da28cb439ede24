"""Draws of components by `fused.pick`, also in cases in which public samplers return an invalid component."""

import math

import numpy as np
import pytest
import torch

from posterity.models import Mixture, chunks
from posterity.models.mixtures import fused


def adds_up_until_reached(weights, uniform):
    """keras-mdn-layer: the first index whose running sum reaches the uniform number, or -1."""
    reached = (np.cumsum(weights.numpy(), dtype=np.float32) >= uniform).nonzero()[0]
    return int(reached[0]) if len(reached) else -1


def searches_the_sum(weights, uniform):
    """The place of the uniform number in the running sum, which is K if the sum is below the number."""
    return int(torch.searchsorted(weights.cumsum(0), torch.tensor(uniform)))


def takes_the_first_above(weights, uniform):
    """The first running sum above the number by argmax, which is 0 where there is none."""
    return int((weights.cumsum(0) > uniform).to(torch.uint8).argmax())


def is_a_component(index, weights):
    return 0 <= index < len(weights) and bool(weights[index] > 0)


JUST_BELOW_1 = 1 - 2.0**-24  # the largest float32 below 1; torch.rand can return it


WEIGHTS = {
    "first_has_none": torch.tensor([0.0, 0.5, 0.5]),
    "last_has_none": torch.tensor([0.5, 0.5, 0.0]),
    "middle_has_none": torch.tensor([0.5, 0.0, 0.5]),
    "only_one": torch.tensor([0.0, 1.0, 0.0]),
    "tiny": torch.tensor([1e-30, 1.0, 1e-30]),
    "tiny_first_none": torch.tensor([0.0, 1e-30, 1.0]),
    "falls_short": torch.cat([torch.zeros(1), torch.full((99,), 1 / 99), torch.zeros(1)]),
    "falls_short_of_100": torch.full((100,), 0.01),
}


UNIFORMS = (0.0, 1e-30, 0.25, 0.5, 0.75, JUST_BELOW_1)


def float32_sum(weights):
    return float(np.cumsum(weights.numpy(), dtype=np.float32)[-1])


@pytest.mark.parametrize("uniform", UNIFORMS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_every_uniform_number_picks_a_component_that_has_weight(name, uniform):
    weights = WEIGHTS[name]
    index = fused.pick(weights.log(), torch.tensor(uniform))
    assert is_a_component(int(index), weights)
    rows = fused.pick(weights.log().expand(5, -1), torch.full((5,), uniform))
    assert rows.tolist() == [int(index)] * 5
    logits = Mixture.normal(weights.log(), torch.zeros(()), torch.ones(())).log_weights
    assert is_a_component(int(fused.pick(logits, torch.tensor(uniform))), weights)


def test_the_check_of_a_component_rejects_public_samplers():
    short = WEIGHTS["falls_short_of_100"]
    assert float32_sum(short) < JUST_BELOW_1
    assert adds_up_until_reached(short, JUST_BELOW_1) == -1
    assert not is_a_component(-1, short)
    assert searches_the_sum(torch.tensor([0.5, 0.4999]), JUST_BELOW_1) == 2
    assert not is_a_component(2, torch.tensor([0.5, 0.4999]))
    none_first = torch.tensor([0.0, 0.5, 0.4999])
    assert takes_the_first_above(none_first, JUST_BELOW_1) == 0
    for buggy in (adds_up_until_reached, searches_the_sum):
        assert not is_a_component(buggy(WEIGHTS["first_has_none"], 0.0), WEIGHTS["first_has_none"])
    assert not is_a_component(takes_the_first_above(none_first, JUST_BELOW_1), none_first)


@pytest.mark.parametrize("uniform", UNIFORMS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_samples_come_from_a_component_that_has_weight(name, uniform, monkeypatch):
    """`Mixture.sample` with this number for each uniform one: centres 1000 apart identify the component."""
    weights = WEIGHTS[name]
    mixture = Mixture.normal(weights.log(), 1000.0 * torch.arange(len(weights)), torch.ones(()))
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.full(shape, uniform, **options))
    y = mixture.sample((50,))
    index = (y / 1000).round().long()
    assert len(index.unique()) == 1
    assert is_a_component(int(index[0]), weights)
    assert bool(((y - 1000 * index).abs() < 6).all())


@pytest.mark.parametrize("block", [1, 9, 10, 50, 10_000])
def test_components_are_drawn_as_often_as_their_weights_say(block, monkeypatch):
    """Different weights in each row, one of them zero, which is never drawn, for all boundaries of chunks."""
    monkeypatch.setattr(chunks, "CHUNK", block)
    rows, draws = 7, 20_000 if block > 1000 else 500
    log_weights = torch.randn(rows, 5).log_softmax(-1)
    log_weights[:, 1] = -math.inf
    log_weights[3, 4] = -math.inf
    log_weights = log_weights.log_softmax(-1)
    index = fused.pick(log_weights.expand(draws, rows, 5), torch.rand(draws, rows))
    share = torch.nn.functional.one_hot(index, 5).double().mean(0)
    weights = log_weights.double().exp()
    assert bool(((share - weights).abs() <= 5 * (weights * (1 - weights) / draws).sqrt()).all())
    assert bool((share[weights == 0] == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("components", [1, 2, 100, 3000])
def test_the_component_drawn_has_the_uniform_number_in_its_share(components, dtype, monkeypatch):
    """By the running sum in double precision, up to rounding in single; also for rows larger than a chunk."""
    monkeypatch.setattr(chunks, "CHUNK", 1000)
    log_weights = torch.randn(50, components, dtype=dtype).log_softmax(-1)
    uniform = torch.rand(50, dtype=dtype)  # its complement falls into the share
    uniform[:2] = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2])
    index = fused.pick(log_weights, uniform)
    assert index.dtype == torch.long
    assert bool(((index >= 0) & (index < components)).all())
    upper = log_weights.double().exp().cumsum(-1)
    lower = torch.cat([torch.zeros(50, 1, dtype=torch.double), upper[:, :-1]], -1)
    rounding = components * torch.finfo(dtype).eps
    at = index[:, None]
    uniform = 1 - uniform
    assert bool((uniform >= lower.gather(-1, at)[:, 0] - rounding).all())
    assert bool((uniform <= upper.gather(-1, at)[:, 0] + rounding).all())


def test_no_rows_give_no_components():
    assert fused.pick(torch.zeros(0, 3), torch.zeros(0)).shape == (0,)
    assert fused.pick(torch.zeros(2, 0, 3), torch.zeros(2, 0)).shape == (2, 0)


def test_a_first_component_of_weight_1e_30_is_never_drawn():
    """As the last is not: 10^7 draws in single precision would have it with a chance of one in two."""
    weights = torch.tensor([1e-30, 1.0])
    assert int(fused.pick(weights.flip(0).log(), torch.tensor(1 - 2.0**-24))) == 0
    assert int(fused.pick(weights.log(), torch.tensor(0.0))) == 1
