"""A network in evaluation or in training for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode(net: nn.Module, *, training: bool) -> Iterator[None]:
    """All of the network in training, or in evaluation; after, every part of it as it was."""
    before = [(module, module.training) for module in net.modules()]
    net.train(training)
    try:
        yield
    finally:
        for module, own in before:
            module.training = own


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """In evaluation inside, every part as it was after."""
    with mode(net, training=False):
        yield
