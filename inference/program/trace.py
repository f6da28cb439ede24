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
from posterity.random import seeded

Model = Callable[..., Any]
FAILURES = (RuntimeError, TypeError, LookupError, AttributeError)
TRIES = 20  # draws of the prior, where the model cannot be run at some of them


class StartMessenger(Messenger):
    """Values for sites that cannot be drawn: a flat prior has no draws, so uniform(-2, 2) in unconstrained space."""

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
    """The nodes of one run of the model; the caller's random state and parameters stay as they are.

    Where the model cannot be run at a draw of its prior (a scale that came out negative, a matrix that has no
    Cholesky factor), other draws are tried, and at last one whose parameters nobody checks: the sites are the same,
    and a start that the caller knows may still be good. Where that fails too, the first error is raised. Where float64
    data do not meet priors of torch's default dtype, the model is run with float64 as the default.
    """

    def once(seed: int) -> dict[str, Any]:
        with seeded(seed), pyro.get_param_store().scope(), StartMessenger():
            return dict(pyro.poutine.trace(model).get_trace(*args).nodes)

    def run(seed: int) -> dict[str, Any]:
        try:
            return once(seed)
        except RuntimeError as error:  # as x @ w of float64 x and of w drawn from Normal(0., 1.)
            if isinstance(error, torch.linalg.LinAlgError) or "double" not in str(error).lower():
                raise
            with contextlib.suppress(RuntimeError), default_dtype(torch.float64):
                return once(seed)
            raise

    first: Exception | None = None
    for attempt in range(TRIES):
        try:
            return run(seed + attempt)
        except (ValueError, torch.linalg.LinAlgError) as error:
            first = first or error
        except FAILURES as error:
            raise failed(error, args) from error
    try:
        with dist.validation_enabled(False):
            return run(seed)
    except (ValueError, RuntimeError):
        raise first or ValueError("expected a model that runs") from None


def failed(error: Exception, args: tuple[Any, ...]) -> ValueError:
    """What to raise where the model fails in a way that says nothing of its arguments."""
    reason = str(error).strip().partition("\n")[0][:200]
    return ValueError(
        f"expected a model that runs with its arguments, got {type(error).__name__}: {reason} (arguments: "
        f"{describe_arguments(args)})"
    )


def widest(values: Iterable[Any], least: torch.dtype) -> torch.dtype:
    """The floating dtype of most bits among tensors, other values being passed over, and ``least``."""
    dtypes = [v.dtype for v in values if isinstance(v, Tensor) and v.is_floating_point()]
    return max([least, *dtypes], key=lambda dtype: torch.finfo(dtype).bits)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Python floats become tensors of ``dtype`` inside; the caller's default is put back. None changes nothing."""
    if dtype is None:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def bare_model(model: Any) -> Model:
    """The model of a ready pair, which has ``.model`` and ``.guide``; anything else is a model itself."""
    return model.model if hasattr(model, "model") and hasattr(model, "guide") else model
