"""Recording the operations of a function once, to replay them with little Python.

A recording has no control flow on values, and it freezes random numbers that the function draws. Every recording is
therefore compared with its function at other points before it is used.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.inference.engine.constants import ReadConstants

RECORDING_ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError)
RELATIVE_TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-6}
DIFFERS = "the recording"  # every description of a difference (`difference`) begins with these words
TEST_POINTS = ((0.9, 0.05), (1.1, -0.03))  # factor and shift from the recorded point to each point of comparison


def record(function: Callable[..., Any], *example: Any, **settings: Any) -> torch.fx.GraphModule:
    """The operations of ``function(*example)`` as a graph; ``settings`` are those of `make_fx`."""
    # Without a context, `make_fx` makes a new fake mode for each operation, half of the time of a recording.
    context = tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True)))
    with pyro.validation_enabled(False), torch.no_grad(), context, ReadConstants():
        return make_fx(function, **settings)(*example)


def replay(graph: torch.fx.GraphModule, *example: Any) -> Callable[..., Any]:
    """A function that runs ``graph``, to be called without autograd; ``example`` are arguments like those recorded.

    TorchScript runs the graph, four times as fast as Python on small networks. If TorchScript does not know an
    operation, such as the gradient of a convolution, Python runs the graph; its share of the time is then small.
    """
    graph = graph.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch.compile, the suggested replacement, takes seconds to compile; many runs take no longer than that.
            warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
            return torch.jit.freeze(torch.jit.trace(graph, example, check_trace=False))
    except RuntimeError:
        return torch.no_grad()(graph)


def pad_chains(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """``function``, recorded for ``count`` chains, made callable with fewer chains.

    Copies of the first chain are added to the arguments, and their results are removed.
    """

    def call(*arguments: Tensor) -> Any:
        chains = len(arguments[0])
        if chains == count:
            return function(*arguments)
        padded = (torch.cat([part, part[:1].expand(count - chains, *part.shape[1:])]) for part in arguments)
        return tuple(part[:chains] for part in function(*padded))

    return call


def difference(
    recorded: tuple[Tensor, Tensor],
    exact: tuple[Tensor, Tensor],
    tolerance: float,
    *,
    scale: Tensor | None = None,
    floor: float = 1.0,
) -> str | None:
    """How a recording differs from its function, in words; None if they agree.

    ``recorded`` and ``exact`` are values (n,) and gradients (n, dim). Points at which the function is not finite are
    skipped. Values may differ by ``tolerance * scale``, and gradients by ``tolerance`` times their norm plus ``floor``.

    Args:
        recorded: values and gradients of the recording.
        exact: values and gradients of the function.
        tolerance: relative tolerance.
        scale: scale of each value (n,); by default 1 + |value|.
        floor: added to the norm of the gradient.
    """
    (value, gradient), (exact_value, exact_gradient) = recorded, exact
    compared = torch.isfinite(exact_value) & torch.isfinite(exact_gradient).all(-1)
    scale = exact_value.abs() + 1 if scale is None else scale
    wrong = compared & ~((exact_value - value).abs() <= tolerance * scale)
    if bool(wrong.any()):
        return f"{DIFFERS} gives {float(value[wrong][0]):.9g} where the model gives {float(exact_value[wrong][0]):.9g}"
    distance = (gradient - exact_gradient).norm(dim=-1)
    wrong = compared & ~(distance <= tolerance * (exact_gradient.norm(dim=-1) + floor))
    if bool(wrong.any()):
        return f"{DIFFERS} has a gradient that differs by {float(distance[wrong][0]):.3g} from the model's"
    return None


def describe_error(error: BaseException) -> str:
    """The type and the first line of an error, at most 200 characters."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings inside: torch's compilers call deprecated functions of torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
