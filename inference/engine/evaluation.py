"""The log joint for all chains without a recording, and errors for models and starts that cannot be sampled."""

from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.density import Density
from posterity.inference.engine.recording import describe_error, quiet

BRANCHES = ("data-dependent control flow", ".item()", "Cannot access data pointer")  # in errors of vmap
MOST_NAMED = 5  # chains named in a message
LARGEST = 2**22  # data times chains of one batched run
LIBRARY = str(Path(__file__).parents[2])  # the folder of this package
Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]


class ModelGradient:
    """A function from positions (chain, dim) to the log joint (chain,) and its gradient, by ``vmap`` over the model.

    If a matrix factorisation fails in one chain, that chain gets nan, and the other chains are evaluated one by one. A
    model that ``vmap`` cannot run, such as one that writes into strided parts of a tensor, runs for one chain at a
    time; ``reason`` then says why, and is empty otherwise.
    """

    def __init__(self, density: Density) -> None:
        self._one, self._density = torch.func.grad_and_value(density), density
        self._batched = torch.func.vmap(self._one, randomness="error")
        self.reason = ""

    def __call__(self, q: Tensor) -> tuple[Tensor, Tensor]:
        if not self.reason:
            try:
                grad, value = self._batched(q)
                return value, grad
            except torch.linalg.LinAlgError:
                pass
            except RuntimeError as error:
                if not _cannot_batch(error, self._density.unwritten):
                    raise
                try:
                    values = self._one_by_one(q)
                except RuntimeError:
                    raise error from None
                self.reason = f"one chain at a time, since vmap fails{_line(error)}: {describe_error(error)}"
                return values
        return self._one_by_one(q)

    def _one_by_one(self, q: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = (torch.stack(parts) for parts in zip(*map(self._alone, q), strict=True))
        return value, grad

    def _alone(self, q: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return self._one(q)
        except torch.linalg.LinAlgError:
            return torch.full_like(q, torch.nan), q.new_tensor(torch.nan)


def value_and_slope(density: Callable[[Tensor], Tensor], position: Tensor) -> tuple[Tensor, Tensor]:
    """The log joint at one position, a scalar, and its gradient (dim,).

    As by `torch.func.grad_and_value`, whose first call takes a second to import the compiler of torch.
    """
    q = position.detach().requires_grad_()
    with torch.enable_grad():
        value = density(q)
        # As in torch.func: without `create_graph` the sums of the backward pass would be computed in place.
        (slope,) = (
            torch.autograd.grad(value, q, create_graph=True, allow_unused=True) if value.requires_grad else (None,)
        )
    return value.detach(), torch.zeros_like(q) if slope is None else slope.detach()


def _cannot_batch(error: RuntimeError, unwritten: bool = False) -> bool:
    """Whether ``vmap`` has no rule for an operation: one in place on a tensor without a dimension of chains.

    In a model that is run without its writes (``unwritten``), any error may be one of ``vmap``.
    """
    text = str(error)
    if "randomness" in text or any(part in text for part in BRANCHES):
        return False
    return unwritten or text.startswith("vmap:") or "doesn't match the broadcast shape" in text


def _run(exact: Gradient, positions: Tensor) -> tuple[Tensor, Tensor]:
    """One batched run of the model, with a ``ValueError`` that explains why a model cannot be batched."""
    try:
        return exact(positions)
    except RuntimeError as error:
        text = str(error)
        if "randomness" in text:
            raise ValueError(
                "expected all randomness in pyro.sample statements over the whole data (no dropout: module.eval(); "
                "no subsampled plate; networks built outside of the model), got a model that draws random numbers "
                "outside its sites"
            ) from error
        if any(part in text for part in BRANCHES):
            raise ValueError(
                f"expected a model without control flow on sampled values (use torch.where, or the samplers of "
                f"`posterity.inference.mcmc.reference`), got one that branches{_line(error)}"
            ) from error
        if _cannot_batch(error):
            raise ValueError(
                f"expected a model that torch.func.vmap can run for all chains at once (the samplers of "
                f"`posterity.inference.mcmc.reference` take any), got{_line(error)}: {describe_error(error)}"
            ) from error
        raise


def _line(error: BaseException) -> str:
    """The line of the user's model at which an error was raised."""
    places, frame = [], error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if not any(part in name for part in ("/torch/", "/pyro/")) and not name.startswith(LIBRARY):
            places.append(f" at line {frame.tb_lineno} of {name}")
        frame = frame.tb_next
    return places[-1] if places else ""


def why_not_finite(density: Density, position: Tensor) -> str:
    """The message of Pyro's checks of distributions and values at a position; "" if they find no fault.

    The checks are off during sampling.
    """
    try:
        with torch.no_grad(), pyro.validation_enabled(True), quiet():
            density(position)
    except (ValueError, torch.linalg.LinAlgError) as error:
        return str(error).strip().partition("\n")[0][:200]
    return ""


def value_and_gradient(density: Density, positions: Tensor, exact: Gradient | None = None) -> tuple[Tensor, Tensor]:
    """The log joint (chain,) and its gradient (chain, dim), from batched runs of the model.

    With much data few chains run at once, because every number of the model is stored for each.
    """
    exact = exact or ModelGradient(density)
    data = sum(value.numel() for value in (*density.args, *density.observed) if isinstance(value, Tensor))
    with torch.no_grad(), pyro.validation_enabled(False):
        pieces = [_run(exact, part) for part in positions.split(max(1, LARGEST // max(1, data)))]
    return torch.cat([value for value, _ in pieces]), torch.cat([grad for _, grad in pieces])


def check_start(density: Density, positions: Tensor, value: Tensor, grad: Tensor) -> None:
    """``ValueError`` if the log density ``value`` or the gradient ``grad`` at the starts is not finite."""
    fault, reason = start_fault(density, positions, value, grad)
    if fault:
        raise ValueError(f"expected {fault}: choose another init{f' ({reason})' if reason else ''}")


def start_fault(density: Density, positions: Tensor, value: Tensor, grad: Tensor) -> tuple[str, str]:
    """The expectation that the starts miss, if a log density or gradient is not finite, and the reason; else ""."""
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        fault = f"starts inside the support, with a finite log density, got {float(value[bad][0])} in {_chains(bad)}"
        return fault, why_not_finite(density, positions[bad][0])
    bad = ~torch.isfinite(grad).all(1)
    if not bool(bad.any()):
        return "", ""
    broken = [s.name for s in density.sites if not bool(torch.isfinite(grad[:, s.start : s.start + s.size]).all())]
    return (
        f"a finite gradient at the start, got nan or infinity for the sites {broken} in {_chains(bad)}",
        "possible causes: a torch.where over an invalid branch, or a square root at zero",
    )


def _chains(which: Tensor) -> str:
    """The chains in words, such as "2 of 8 chains (3, 5)"."""
    chains = which.nonzero().flatten().tolist()
    shown = ", ".join(map(str, chains[:MOST_NAMED])) + (", ..." if len(chains) > MOST_NAMED else "")
    return f"{len(chains)} of {len(which)} chains ({shown})"
