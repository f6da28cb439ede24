"""The potential energy of a Pyro model: minus its log joint density in unconstrained space.

Pyro's `initialize_model` returns the potential. Each call of it runs the model through Pyro's handlers, which takes
milliseconds where the operations of a small network take microseconds. `capture` records the potential and its gradient
once, under ``make_fx``, and replays the recorded operations afterwards.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.inference.engine.recording import RECORDING_ERRORS, TEST_POINTS, describe_error, difference, replay

Values = dict[str, Tensor]
Potential = Callable[[Values], Tensor]

RELATIVE_TOLERANCE = 1e-3  # of the change of the potential from the start, and of the gradient
ROUNDING = 64  # rounding errors of the potential, added to the tolerance


def capture(potential: Potential, start: Values) -> Potential:
    """The potential recorded together with its gradient; it supports autograd like the original.

    The recording would freeze control flow on values and random numbers drawn by the model, so it is compared with the
    model at two points away from ``start``. If it differs, or if the model cannot be recorded, the original is returned
    with one ``RuntimeWarning``.
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
        wrong = describe_error(error)
    if wrong is not None:
        warnings.warn(f"the model is run at every step, because it cannot be recorded ({wrong})", RuntimeWarning, 2)
        return potential

    def captured(values: Values) -> Tensor:
        return _Recorded.apply(graph, *(values[name] for name in names))

    return captured


def _difference(evaluate: Any, graph: Any, point: tuple[Tensor, ...]) -> str | None:
    """How a recording differs from the model; None if it agrees.

    Changes of the potential from the start are compared, because its additive constant may be large.
    """
    exact = torch.func.grad_and_value(evaluate)
    start = evaluate(point).detach()
    for factor, shift in TEST_POINTS:
        other = tuple(factor * value + shift for value in point)
        gradients, expected = exact(other)
        with torch.no_grad():
            recorded_gradients, recorded = graph(other)
        rounding = ROUNDING * torch.finfo(expected.dtype).eps * torch.maximum(expected.abs(), start.abs())
        floor = float(rounding) / RELATIVE_TOLERANCE
        pairs = ((recorded, recorded_gradients), (expected, gradients))
        graph_pair, model_pair = ((v[None], torch.cat([g.flatten() for g in grads])[None]) for v, grads in pairs)
        scale = (expected - start).abs()[None] + floor
        if wrong := difference(graph_pair, model_pair, RELATIVE_TOLERANCE, scale=scale, floor=floor):
            return wrong
    return None


class _Recorded(torch.autograd.Function):
    """A recorded potential as an autograd function; its gradient is computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, graph: Any, *values: Tensor) -> Tensor:
        gradients, potential = graph(values)
        ctx.save_for_backward(*gradients)
        return potential

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        return None, *(outputs[0] * gradient for gradient in ctx.saved_tensors)
