"""One run of a Pyro model: its trace, at a draw of the prior at which the model can be run."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

from posterity.inference.program.arguments import describe_arguments
from posterity.inference.program.nested import tensors_in
from posterity.random import seeded

Model = Callable[..., Any]
MODEL_ERRORS = (RuntimeError, TypeError, LookupError, AttributeError, ArithmeticError)
"""Errors that a model raises for arguments that it cannot use."""
TRIES = 20  # draws of the prior, if the model cannot be run at some of them


class DrawFlatPriors(Messenger):
    """Draws sites with a flat prior, which has no sampler: uniform(-2, 2) in unconstrained space."""

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        flat = fn
        while hasattr(flat, "base_dist"):
            flat = flat.base_dist
        if msg["value"] is None and isinstance(flat, dist.ImproperUniform):
            shape = fn.shape()
            transform = biject_to(fn.support)
            free = torch.empty(transform.inverse_shape(shape)).uniform_(-2, 2)
            msg["value"] = transform(free)


def trace(model: Model, args: tuple[Any, ...], seed: int) -> dict[str, Any]:
    """The nodes of one run of the model; the caller's random state and parameters do not change.

    If the model fails at a draw of its prior (a negative scale, a matrix without a Cholesky factor), other draws are
    tried, and last a draw without validation of parameters: the sites are the same, and a start that the caller knows
    may still be good. If that fails too, the first error is raised. If float64 data meet priors of torch's default
    dtype, the model is run with float64 as the default.

    Raises ``ValueError`` for a model that writes into its arguments, and for other errors of the model, with the shapes
    of its arguments.
    """
    data = [tensor for tensor in tensors_in(args) if not tensor.is_inference()]
    before = [tensor._version for tensor in data]
    nodes = _trace(model, args, seed)
    if [tensor._version for tensor in data] != before:
        raise ValueError(
            "expected a model that does not write into its arguments, got one that changes its data (load them again: "
            "this run has changed them)"
        )
    return nodes


def _trace(model: Model, args: tuple[Any, ...], seed: int) -> dict[str, Any]:
    def run_once(seed: int) -> dict[str, Any]:
        with seeded(seed), pyro.get_param_store().scope(), DrawFlatPriors():
            return dict(pyro.poutine.trace(model).get_trace(*args).nodes)

    def run(seed: int) -> dict[str, Any]:
        try:
            return run_once(seed)
        except RuntimeError as error:  # such as x @ w of float64 x and w drawn from Normal(0., 1.)
            if isinstance(error, torch.linalg.LinAlgError) or "double" not in str(error).lower():
                raise
            with contextlib.suppress(RuntimeError), default_dtype(torch.float64):
                return run_once(seed)
            raise

    first: Exception | None = None
    for attempt in range(TRIES):
        try:
            return run(seed + attempt)
        except (ValueError, torch.linalg.LinAlgError) as error:
            first = first or error
        except MODEL_ERRORS as error:
            raise model_failure(error, args) from error
    try:
        with dist.validation_enabled(False):
            return run(seed)
    except (ValueError, RuntimeError):
        raise first or ValueError("expected a model that runs") from None


def model_failure(error: Exception, args: tuple[Any, ...]) -> ValueError:
    """The ``ValueError`` for an ``error`` of the model, with the shapes of its arguments, which the error lacks."""
    reason = str(error).strip().partition("\n")[0][:200]
    return ValueError(
        f"expected a model that runs with its arguments, got {type(error).__name__}: {reason} (arguments: "
        f"{describe_arguments(args)})"
    )


def widest_dtype(values: Iterable[Any], least: torch.dtype) -> torch.dtype:
    """The floating dtype with the most bits among ``least`` and those of the tensors in ``values``."""
    dtypes = [v.dtype for v in values if isinstance(v, Tensor) and v.is_floating_point()]
    return max([least, *dtypes], key=lambda dtype: torch.finfo(dtype).bits)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Make ``dtype`` torch's default inside and restore the caller's default afterwards; None changes nothing."""
    if dtype is None:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def unwrap_pair(model: Any) -> Model:
    """The model of a ready pair, which has ``.model`` and ``.guide``; a model by itself is returned unchanged."""
    return model.model if hasattr(model, "model") and hasattr(model, "guide") else model
