"""Recorded operations of a function: recorded once, replayed with little Python, and compared with the function.

A recording has no control flow on values, and freezes random numbers that the function draws itself. Every recording is
therefore compared with the function at other points before it is used.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

RECORDING_ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError)
RELATIVE_TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-6}
WRONG = "the recording"  # the first words of a reason that says how a recording differs from its function
AWAY = ((0.9, 0.05), (1.1, -0.03))  # factors and shifts of the points at which a recording is compared


def record(function: Callable[..., Any], *example: Any, **settings: Any) -> torch.fx.GraphModule:
    """The operations of ``function(*example)`` as a graph; ``settings`` as of `make_fx`."""
    with pyro.validation_enabled(False), torch.no_grad():
        return make_fx(function, **settings)(*example)


def replay(graph: torch.fx.GraphModule, *example: Any) -> Callable[..., Any]:
    """A function that runs ``graph``, recorded with arguments like ``example``, without a gradient.

    TorchScript runs it, four times as fast as the graph on small networks. Where TorchScript does not know an
    operation, such as the gradient of a convolution, the graph runs itself; Python then takes little of the time.
    """
    graph = graph.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch.compile, the named successor, takes seconds to compile a function that often runs for seconds.
            warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
            return torch.jit.freeze(torch.jit.trace(graph, example, check_trace=False))
    except RuntimeError:
        return torch.no_grad()(graph)


def filled(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """A recording made for ``count`` rows, callable with fewer: the first row fills up, and is removed afterwards."""

    def call(*arguments: Tensor) -> Any:
        rows = len(arguments[0])
        if rows == count:
            return function(*arguments)
        full = (torch.cat([part, part[:1].expand(count - rows, *part.shape[1:])]) for part in arguments)
        return tuple(part[:rows] for part in function(*full))

    return call


def difference(
    recorded: tuple[Tensor, Tensor],
    exact: tuple[Tensor, Tensor],
    tolerance: float,
    *,
    scale: Tensor | None = None,
    floor: float = 1.0,
) -> str | None:
    """How values (n,) and gradients (n, dim) of a recording differ from those of its function; None if they agree.

    Rows that are not finite in the function are left out. Values may differ by ``tolerance`` times ``scale`` (n,), by
    default 1 + |value|, and gradients by ``tolerance`` times their norm plus ``floor``.
    """
    (value, gradient), (true, slope) = recorded, exact
    compared = torch.isfinite(true) & torch.isfinite(slope).all(-1)
    scale = true.abs() + 1 if scale is None else scale
    wrong = compared & ~((true - value).abs() <= tolerance * scale)
    if bool(wrong.any()):
        return f"{WRONG} gives {float(value[wrong][0]):.9g} where the model gives {float(true[wrong][0]):.9g}"
    apart = (gradient - slope).norm(dim=-1)
    wrong = compared & ~(apart <= tolerance * (slope.norm(dim=-1) + floor))
    if bool(wrong.any()):
        return f"{WRONG} has a gradient that differs by {float(apart[wrong][0]):.3g} from the model's"
    return None


def reason(error: BaseException) -> str:
    """The type and the first line of an error."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings inside: torch's own compilers use functions that torch deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
