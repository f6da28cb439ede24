"""The log joint and its gradient for all chains at once, three ways with the same numbers.

- ``"eager"``: the model runs under ``vmap`` at every call. Nothing to prepare; milliseconds a call.
- ``"replay"``: it runs once under ``make_fx``, and the recorded tensor operations are replayed by TorchScript.
  About a second to prepare, several times faster.
- ``"compiled"``: the recorded operations become one C function of a block of chains, one chain for each lane of the
  vector unit (`lanes`), and whole trajectories run inside it. A few seconds to prepare, many times faster again.
  On other devices than the CPU, and where the model uses an operation that `lanes` does not know, ``torch.compile``
  does it.

What is recorded is compared with the model, one chain at a time, before it is used: control flow on values would be
frozen by a recording, and random numbers of the model's own would be.
"""

import time
import warnings

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine, LanesEngine
from posterity.inference.engine.density import Density
from posterity.inference.engine.evaluation import Gradient, check_start, model_gradient, value_and_gradient
from posterity.inference.engine.lanes.build import Compiled, MissingCompiler
from posterity.inference.engine.lanes.decompose import decompositions
from posterity.inference.engine.lanes.emit import Code, emit
from posterity.inference.engine.lanes.expressions import Unsupported
from posterity.inference.engine.lanes.lower import lower
from posterity.inference.engine.recording import (
    AWAY,
    RECORDING_ERRORS,
    RELATIVE_TOLERANCE,
    WRONG,
    difference,
    filled,
    quiet,
    record,
    replay,
)
from posterity.inference.engine.recording import reason as reason_of
from posterity.inference.engine.threads import fastest_threads
from posterity.inference.program.trace import default_dtype

TIERS = ("eager", "replay", "compiled")
# Calls of the gradient from which the preparation of a tier has paid for itself, on small networks.
REPLAY_FROM, COMPILE_FROM, INDUCTOR_FROM = 300, 1000, 20_000


def prepare(
    density: Density, positions: Tensor, *, tier: str = "auto", calls: int = COMPILE_FROM, threads: int | None = None
) -> Engine:
    """The engine of ``density`` for as many chains as ``positions`` (chain, dim) has.

    ``tier`` is one of ``TIERS`` or "auto", which chooses by ``calls``, the expected number of gradients. If a model
    cannot run on the tier, the next slower tier is used, and `Engine.reason` says why. A ``RuntimeWarning`` repeats
    the reason if the tier was requested by name (also if `torch.compile` replaces `lanes`), if a recording is wrong,
    and if "auto" finds no compiler or nothing faster than "eager". ``threads`` None measures one thread against all
    cores and takes the faster.
    Raises ``ValueError`` for an unknown tier, a model that draws random numbers outside of its sites, a model that
    branches on a sampled value, and a start at which the density or its gradient is not finite.
    """
    if tier not in (*TIERS, "auto"):
        raise ValueError(f"expected a tier from {[*TIERS, 'auto']}, got {tier!r}")
    start = time.perf_counter()
    exact = model_gradient(density)
    check_start(density, positions, *value_and_gradient(density, positions, exact))
    wanted = tier
    if tier == "auto":
        wanted = "compiled" if calls >= COMPILE_FROM else "replay" if calls >= REPLAY_FROM else "eager"
    engine: Engine | None = None
    reasons: list[str] = []
    if wanted == "compiled":
        engine, reasons = _compiled(density, positions, exact, by_name=tier == "compiled", calls=calls)
        wanted = "replay" if engine is None else wanted
    if wanted == "replay":
        engine, reason = _replayed(density, positions, exact)
        reasons += [reason] if reason else []
    if engine is None:
        engine = Engine(density, len(positions), "eager", exact)
    engine.reason = "; ".join(reasons)
    notable = any(r.startswith(WRONG) or MissingCompiler.__name__ in r for r in reasons)
    if reasons and (tier != "auto" or engine.tier == "eager" or notable):
        where = f"on the tier {engine.tier!r}" if engine.kind != "inductor" else "by torch.compile instead of lanes"
        warnings.warn(f"the model runs {where}: {engine.reason}", RuntimeWarning, 2)
    engine.use_threads(threads or fastest_threads(engine, positions))
    engine.seconds = time.perf_counter() - start
    engine.gradients = 0
    return engine


def _compiled(
    density: Density, positions: Tensor, exact: Gradient, *, by_name: bool, calls: int
) -> tuple[Engine | None, list[str]]:
    chains, reasons = len(positions), []
    if positions.device.type == "cpu":
        try:
            code = compile_lanes(density, positions[0])
            compiled = Compiled(code, density.dim, density.dtype, chains)
            reason = _difference(density, compiled.gradient, positions)
            if reason is None:
                return LanesEngine(density, chains, compiled), []
            reasons.append(reason)
        except (*RECORDING_ERRORS, Unsupported, MissingCompiler) as error:
            reasons.append(reason_of(error))
            if isinstance(error, MissingCompiler):
                return None, reasons
    if by_name or calls >= INDUCTOR_FROM:
        try:
            graph = _unchecked(record(exact, positions))
            compiled_graph = torch.compile(graph, fullgraph=True, dynamic=False)
            with quiet(), torch.no_grad():
                compiled_graph(positions)
            reason = _difference(density, compiled_graph, positions)
            if reason is None:
                return Engine(density, chains, "inductor", _guarded(filled(compiled_graph, chains), exact)), reasons
            reasons.append(reason)
        except Exception as error:  # noqa: BLE001 - a compiler may fail in any way, and a slower tier is there
            reasons.append(reason_of(error))
    return None, reasons


def compile_lanes(density: Density, position: Tensor) -> Code:
    """The C code of the log joint and its gradient; raises `Unsupported` for operations that it does not know."""

    def one(q: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = torch.func.grad_and_value(density)(q)
        return value, grad

    # In-place operations become ordinary ones.
    graph = record(torch.func.functionalize(one), position, decomposition_table=decompositions())
    with default_dtype(density.dtype):  # Python floats among the operations are constants of that precision
        return emit(lower(graph, (density.dim,), density.dtype), ["value", "grad"])


def _replayed(density: Density, positions: Tensor, exact: Gradient) -> tuple[Engine | None, str | None]:
    try:
        graph = record(exact, positions)
        with quiet():
            replayed = replay(graph, positions)
        reason = _difference(density, replayed, positions)
    except RECORDING_ERRORS as error:
        reason = reason_of(error)
    if reason is not None:
        return None, reason
    return Engine(density, len(positions), "replay", filled(replayed, len(positions))), None


def _unchecked(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Without the check of a factorisation, which raises where one chain fails: unchecked, that chain has nan.

    TorchScript drops it by itself, because nothing comes out of it.
    """
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten._linalg_check_errors.default:
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def _guarded(compiled: Gradient, exact: Gradient) -> Gradient:
    """What torch.compile made, and the model itself from the first time that it fails.

    It compiles anew where something about a call has changed, such as the number of threads, and that may fail when
    the run is under way.
    """
    failed = False

    def call(q: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal failed
        if not failed:
            try:
                return compiled(q)
            except (torch._dynamo.exc.TorchDynamoException, torch.linalg.LinAlgError) as error:
                failed = True
                warnings.warn(f"the model is run by Pyro from here on ({reason_of(error)})", RuntimeWarning, 2)
        return exact(q)

    return call


def _difference(density: Density, gradient: Gradient, positions: Tensor) -> str | None:
    """How a recording differs from the model, one chain at a time, away from the recorded points; None if it agrees."""
    tolerance = RELATIVE_TOLERANCE.get(density.dtype, 1e-6)
    exact = torch.func.grad_and_value(density)
    with torch.no_grad(), pyro.validation_enabled(False):
        for factor, shift in AWAY:
            points = factor * positions + shift
            chains = sorted({0, len(points) - 1})
            grads, values = (torch.stack(part) for part in zip(*(exact(points[c]) for c in chains), strict=True))
            value, grad = gradient(points)
            if wrong := difference((value[chains], grad[chains]), (values, grads), tolerance):
                return wrong
    return None
