"""Functions of one vector, compiled as the engine compiles a model, for the tests of the compiler."""

import torch

from posterity.inference.engine.lanes.build import Compiled
from posterity.inference.engine.lanes.emit import emit
from posterity.inference.engine.lanes.lower import lower

# Of the largest result: in float32 thirty times its rounding, for what polynomials and the order of sums may do.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
SIZE = 12


def lowered(function, size, dtype):
    """The sum of ``function``, in the place of a density, and its values (size,), in the place of a gradient."""

    def both(q):
        result = function(q)
        return result.sum(), result

    example = torch.linspace(0.1, 0.9, size, dtype=dtype)
    return lower(torch.func.functionalize(both), example)


def compiled(function, size, dtype, chains):
    """``function`` of a vector (size,) to a vector (size,), for all chains."""
    return Compiled(emit(lowered(function, size, dtype), ["value", "grad"]), size, dtype, chains)


def together(functions, size=SIZE):
    """Functions of ``size`` numbers as one function, each of a part of the vector: one compilation for all."""
    return lambda x: torch.cat([f(part) for f, part in zip(functions.values(), x.split(size), strict=True)])


def padded(x, size=SIZE):
    return torch.nn.functional.pad(x.reshape(-1), (0, size - x.numel()))
