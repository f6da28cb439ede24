"""Stacked networks, against each network alone."""

import pytest
import torch
from torch import nn

from posterity.models.discriminators import dcgan_discriminator, dense_discriminator, packed
from posterity.models.generators import dense_generator
from posterity.models.stacked import Stacked


def many(make, count=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [make() for _ in range(count)]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: dense_generator(4, (2,), hidden=(8,)), (4,)),
        (lambda: packed(dense_discriminator, 2, (2,), hidden=(8,)), (2,)),
        (lambda: dcgan_discriminator((1, 8, 8), width=3), (1, 8, 8)),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (4,)),
    ],
)
def test_values_gradients_and_statistics_are_those_of_each_network(make, shape):
    nets = many(make)
    stacked = Stacked(nets)
    x = torch.randn(3, 6, *shape, generator=torch.Generator().manual_seed(1))
    each = [net(inputs) for net, inputs in zip(nets, x, strict=True)]
    together = stacked(x)
    torch.testing.assert_close(together, torch.stack(each))
    (together**2).sum().backward()
    sum((values**2).sum() for values in each).backward()
    for net, own in zip(stacked.split(), nets, strict=True):  # statistics of batch normalisation were updated
        for (name, value), (_, expected) in zip(net.state_dict().items(), own.state_dict().items(), strict=True):
            torch.testing.assert_close(value, expected, msg=name)
    for name, parameter in stacked.net.named_parameters():
        torch.testing.assert_close(parameter.grad, torch.stack([net.get_parameter(name).grad for net in nets]))
    stacked.eval()
    for net in nets:
        net.eval()
    expected = torch.stack([net(inputs) for net, inputs in zip(nets, x, strict=True)])
    torch.testing.assert_close(stacked(x), expected)


def test_dropout_is_another_in_each():
    stacked = Stacked(many(lambda: nn.Dropout(0.5), 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dropped = stacked(torch.ones(4, 100)) == 0
    assert len({tuple(row.tolist()) for row in dropped}) == 4


def test_the_networks_themselves_are_left_alone():
    nets = many(lambda: nn.Linear(2, 1))
    stacked, before = Stacked(nets), nets[0].weight.clone()
    with torch.no_grad():
        stacked.net.weight.add_(1)
        stacked.split()[0].weight.add_(1)
    assert torch.equal(nets[0].weight, before)
    torch.testing.assert_close(stacked.net.weight[0], before + 1)


def test_bad_input():
    with pytest.raises(ValueError, match="expected nets to have at least one network"):
        Stacked([])
    with pytest.raises(ValueError, match="expected nets with equal parameter shapes"):
        Stacked([nn.Linear(2, 1), nn.Linear(3, 1)])
    with pytest.raises(ValueError, match="expected nets without parametrisations"):
        Stacked([dense_discriminator((2,), spectral=True)])
    with pytest.raises(ValueError, match=r"expected inputs of shape \(2, ...\), got \(3, 5, 2\)"):
        Stacked([nn.Linear(2, 1), nn.Linear(2, 1)])(torch.zeros(3, 5, 2))
