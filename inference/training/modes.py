"""A network in training or evaluation mode for the length of a ``with`` block."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def training_mode(net: nn.Module) -> Iterator[None]:
    """Put the network in training mode inside; afterwards each of its modules is in its earlier mode."""
    with _mode(net, training=True):
        yield


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Put the network in evaluation mode inside; afterwards each of its modules is in its earlier mode."""
    with _mode(net, training=False):
        yield


@contextmanager
def _mode(net: nn.Module, *, training: bool) -> Iterator[None]:
    before = [(module, module.training) for module in net.modules()]
    net.train(training)
    try:
        yield
    finally:
        for module, earlier in before:
            module.training = earlier
