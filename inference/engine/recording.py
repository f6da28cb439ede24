"""Recorded operations, run with as little Python between them as can be."""

import warnings
from collections.abc import Callable
from typing import Any

import torch


def replay(graph: torch.fx.GraphModule, *example: Any) -> Callable[..., Any]:
    """A function that does what ``graph``, recorded with arguments like ``example``, does: without a gradient.

    By TorchScript, which is four times as fast on small networks; the graph itself where TorchScript does not know an
    operation, as the gradient of a convolution. There Python is a small part of the time.
    """
    graph = graph.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch.compile, its named successor, takes seconds to compile what often runs for seconds.
            warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
            return torch.jit.freeze(torch.jit.trace(graph, example, check_trace=False))
    except RuntimeError:
        return torch.no_grad()(graph)
