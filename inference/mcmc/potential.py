"""The potential energy of a Pyro model: minus its log joint density in unconstrained space.

`initialize_model` of Pyro gives the potential, the transforms and a valid start. A call of it runs the model
through Pyro's handlers, which costs milliseconds for a network of microseconds; `capture` runs it once under
``make_fx`` together with its gradient and replays the recorded tensor operations from then on.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.inference.engine.recording import AWAY, RECORDING_ERRORS, difference, reason, replay

Values = dict[str, Tensor]
Potential = Callable[[Values], Tensor]

# Of the change of the potential from the start, and of its gradient, beside the rounding of the sum itself.
RELATIVE_TOLERANCE = 1e-3
ROUNDING = 64


def capture(potential: Potential, start: Values) -> Potential:
    """The same potential with its gradient recorded as one graph; an ordinary autograd function from outside.

    Control flow on values and random numbers drawn by the model itself would be frozen by the recording, so the
    graph is compared with the model at two points away from the start. Where it differs, or the model cannot be
    recorded at all, the model itself is used and one ``RuntimeWarning`` says why.
    """
    names = sorted(start)

    def evaluate(values: tuple[Tensor, ...]) -> Tensor:
        return potential(dict(zip(names, values, strict=True)))

    point = tuple(start[name].detach().clone() for name in names)
    try:
        with pyro.validation_enabled(False):
            graph = replay(make_fx(torch.func.grad_and_value(evaluate))(point), point)
            wrong = _difference(evaluate, graph, point)
    except RECORDING_ERRORS as error:
        wrong = reason(error)
    if wrong is not None:
        warnings.warn(f"the model is run at every step, because it cannot be recorded ({wrong})", RuntimeWarning, 2)
        return potential

    def captured(values: Values) -> Tensor:
        return _Recorded.apply(graph, *(values[name] for name in names))

    return captured


def _difference(evaluate: Any, graph: Any, point: tuple[Tensor, ...]) -> str | None:
    """Of the change of the potential from the start, since a constant in it may be large."""
    exact = torch.func.grad_and_value(evaluate)
    start = evaluate(point).detach()
    for factor, shift in AWAY:
        other = tuple(factor * value + shift for value in point)
        gradients, expected = exact(other)
        with torch.no_grad():
            found_gradients, found = graph(other)
        rounding = ROUNDING * torch.finfo(expected.dtype).eps * torch.maximum(expected.abs(), start.abs())
        floor = float(rounding) / RELATIVE_TOLERANCE
        pairs = ((found, found_gradients), (expected, gradients))
        recorded, model = ((v[None], torch.cat([g.flatten() for g in grads])[None]) for v, grads in pairs)
        scale = (expected - start).abs()[None] + floor
        if wrong := difference(recorded, model, RELATIVE_TOLERANCE, scale=scale, floor=floor):
            return wrong
    return None


class _Recorded(torch.autograd.Function):
    """Potential and gradient come from one graph, so the gradient is kept for when autograd asks."""

    @staticmethod
    def forward(ctx: Any, graph: Any, *values: Tensor) -> Tensor:
        gradients, potential = graph(values)
        ctx.save_for_backward(*gradients)
        return potential

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        return None, *(outputs[0] * gradient for gradient in ctx.saved_tensors)
