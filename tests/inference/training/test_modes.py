"""Training and evaluation mode for a while: every part of a network comes back as it was."""

import pytest
from torch import nn

from posterity.inference.training.modes import evaluation_mode, training_mode


def mixed():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)))
    net[1].eval()
    net[1][1].train()
    return net


def flags(net):
    return [module.training for module in net.modules()]


@pytest.mark.parametrize(("mode", "inside"), [(training_mode, True), (evaluation_mode, False)])
def test_all_parts_change_and_come_back_even_after_an_error(mode, inside):
    net = mixed()
    before = flags(net)
    assert len(set(before)) == 2
    with mode(net):
        assert set(flags(net)) == {inside}
    assert flags(net) == before

    def fails():
        with mode(net):
            net.train(not inside)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert flags(net) == before
