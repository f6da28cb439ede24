"""Three tiers that compute the log joint and its gradient for all chains at once, with the same values.

- ``"eager"``: the model runs under ``vmap`` at every call. No preparation; milliseconds per call.
- ``"replay"``: the model runs once under ``make_fx``, and TorchScript replays the recorded tensor operations.
  About a second of preparation; several times faster than "eager".
- ``"compiled"``: the recorded operations become one C function of a block of chains, with one chain per lane of the
  vector unit (`lanes`), and whole trajectories run inside this function. A few seconds of preparation; many times
  faster than "replay". On other devices than the CPU, and for operations that `lanes` does not support,
  ``torch.compile`` is used instead.

Every recording is compared with the model, one chain at a time, before it is used, because a recording would freeze
control flow on values and random numbers drawn by the model.
"""

import time
import warnings
from functools import partial

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine, LanesEngine
from posterity.inference.engine.density import Density
from posterity.inference.engine.evaluation import (
    Gradient,
    ModelGradient,
    check_start,
    value_and_gradient,
    value_and_slope,
)
from posterity.inference.engine.lanes.build import Compiled, MissingCompiler
from posterity.inference.engine.lanes.emit import Code, emit
from posterity.inference.engine.lanes.expressions import Unsupported
from posterity.inference.engine.lanes.lower import lower
from posterity.inference.engine.recording import (
    DIFFERS,
    RECORDING_ERRORS,
    RELATIVE_TOLERANCE,
    TEST_POINTS,
    describe_error,
    difference,
    pad_chains,
    quiet,
    record,
    replay,
)
from posterity.inference.engine.threads import fastest_threads
from posterity.inference.program.in_place import without_writes
from posterity.inference.program.trace import default_dtype
from posterity.validation import check_choice

TIERS = ("eager", "replay", "compiled")
# Numbers of gradients from which the preparation of a tier pays off, measured on small networks.
REPLAY_FROM, COMPILE_FROM, INDUCTOR_FROM = 300, 1000, 20_000
LANES_FROM = 4  # chains; a block of lanes takes as long for fewer, so that "replay" is faster call by call


def prepare(
    density: Density, positions: Tensor, *, tier: str = "auto", calls: int = COMPILE_FROM, threads: int | None = None
) -> Engine:
    """The engine of ``density`` for the chains that start at ``positions`` (chain, dim).

    If a model cannot run on the requested tier, the next slower tier is used, and `Engine.reason` says why. A
    ``RuntimeWarning`` repeats the reason if the tier was requested by name (also if `torch.compile` replaces `lanes`),
    if a recording is wrong, and if "auto" finds no compiler or no tier faster than "eager".

    Args:
        density: the log joint of the model.
        positions: starts of the chains in unconstrained space (chain, dim).
        tier: one of ``TIERS``, or "auto" to choose by ``calls``.
        calls: expected number of gradients.
        threads: number of threads; None measures one thread against all cores and takes the faster.

    Raises:
        ValueError: the tier is unknown, the model draws random numbers outside of its sites or branches on a sampled
            value, or the density or its gradient is not finite at a start.
    """
    check_choice("tier", tier, (*TIERS, "auto"))
    start = time.perf_counter()
    exact = ModelGradient(density)
    wanted = tier
    if tier == "auto":
        wanted = "compiled" if calls >= COMPILE_FROM else "replay" if calls >= REPLAY_FROM else "eager"
    engine: Engine | None = None
    reasons: list[str] = []
    if wanted == "compiled":
        named, count = tier == "compiled", threads or 1
        engine, reasons = _compiled(density, positions, exact, by_name=named, calls=calls, threads=count)
        wanted = "replay" if engine is None else wanted
    if engine is None:
        value_and_gradient(density, positions[:1], exact)  # an error of the model itself
    if exact.reason and engine is None:
        reasons.append(exact.reason)  # a recording of a loop over chains would be as slow
    elif wanted == "replay":
        engine, reason = _replayed(density, positions, exact)
        reasons += [reason] if reason else []
    if engine is None:
        engine = Engine(density, len(positions), "eager", exact)
    engine.reason = "; ".join(reasons)
    notable = any(r.startswith(DIFFERS) or MissingCompiler.__name__ in r for r in reasons)
    if reasons and (tier != "auto" or engine.tier == "eager" or notable):
        where = f"on the tier {engine.tier!r}" if engine.kind != "inductor" else "by torch.compile instead of lanes"
        warnings.warn(f"the model runs {where}: {engine.reason}", RuntimeWarning, 2)
    check_start(density, positions, *engine.gradient(positions))
    engine.use_threads(threads or fastest_threads(engine, positions))
    engine.seconds = time.perf_counter() - start
    engine.gradients = 0
    return engine


def tier_for_steps(tier: str, chains: int, calls: int) -> str:
    """The ``tier`` for a method that calls `Engine.gradient` once in each step: "auto" is "replay" for few chains."""
    return "replay" if tier == "auto" and chains < LANES_FROM and calls >= REPLAY_FROM else tier


def _compiled(
    density: Density, positions: Tensor, exact: ModelGradient, *, by_name: bool, calls: int, threads: int
) -> tuple[Engine | None, list[str]]:
    chains, reasons = len(positions), []
    if positions.device.type == "cpu":
        try:
            code = compile_lanes(density, positions[0])
            compiled = Compiled(code, density.dim, density.dtype, chains, threads)
            reason = _difference(density, compiled.gradient, positions)
            if reason is None:
                return LanesEngine(density, chains, compiled), []
            reasons.append(reason)
        except (*RECORDING_ERRORS, Unsupported, MissingCompiler) as error:
            reasons.append(describe_error(error))
            if isinstance(error, MissingCompiler):
                return None, reasons
    if (by_name or calls >= INDUCTOR_FROM) and not exact.reason:
        try:
            graph = _unchecked(record(exact, positions))
            compiled_graph = torch.compile(graph, fullgraph=True, dynamic=False)
            with quiet(), torch.no_grad():
                compiled_graph(positions)
            reason = _difference(density, compiled_graph, positions)
            if reason is None:
                return Engine(density, chains, "inductor", _guarded(pad_chains(compiled_graph, chains), exact)), reasons
            reasons.append(reason)
        except Exception as error:  # noqa: BLE001 - a compiler may fail in any way; a slower tier remains
            reasons.append(describe_error(error))
    return None, reasons


def compile_lanes(density: Density, position: Tensor) -> Code:
    """The C code of the log joint and its gradient; raises `Unsupported` for an operation without a rule."""

    def within(q: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = torch.func.grad_and_value(density)(q)
        return value, grad

    plain = without_writes(density) if density.has_writes else torch.func.functionalize(density)
    with pyro.validation_enabled(False):
        try:
            outputs = lower(partial(value_and_slope, plain), position)
        except RuntimeError:  # some operations have a derivative in place only
            outputs = lower(torch.func.functionalize(within), position)
    with default_dtype(density.dtype):  # the precision of Python floats among the operations
        return emit(outputs, ["value", "grad"])


def _replayed(density: Density, positions: Tensor, exact: Gradient) -> tuple[Engine | None, str | None]:
    try:
        graph = record(exact, positions)
        with quiet():
            replayed = replay(graph, positions)
        reason = _difference(density, replayed, positions)
    except RECORDING_ERRORS as error:
        reason = describe_error(error)
    if reason is not None:
        return None, reason
    return Engine(density, len(positions), "replay", pad_chains(replayed, len(positions))), None


def _unchecked(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """``graph`` without the error check of factorisations: a chain whose factorisation fails gets nan instead.

    TorchScript removes this check anyway, because the check has no result.
    """
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten._linalg_check_errors.default:
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def _guarded(compiled: Gradient, exact: Gradient) -> Gradient:
    """``compiled`` until it fails for the first time, and ``exact`` from then on.

    `torch.compile` compiles again if the conditions of a call change, such as the number of threads, and this may fail
    during a run.
    """
    failed = False

    def call(q: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal failed
        if not failed:
            try:
                return compiled(q)
            except (torch._dynamo.exc.TorchDynamoException, torch.linalg.LinAlgError) as error:
                failed = True
                warnings.warn(f"the model is run by Pyro from here on ({describe_error(error)})", RuntimeWarning, 2)
        return exact(q)

    return call


def _difference(density: Density, gradient: Gradient, positions: Tensor) -> str | None:
    """How a recording differs from the model run for one chain at a time, away from the recorded points; or None."""
    tolerance = RELATIVE_TOLERANCE.get(density.dtype, 1e-6)
    with torch.no_grad(), pyro.validation_enabled(False):
        for factor, shift in TEST_POINTS:
            points = factor * positions + shift
            chains = sorted({0, len(points) - 1})
            exact = [value_and_slope(density, points[c]) for c in chains]
            values, grads = (torch.stack(part) for part in zip(*exact, strict=True))
            value, grad = gradient(points)
            if wrong := difference((value[chains], grad[chains]), (values, grads), tolerance):
                return wrong
    return None
