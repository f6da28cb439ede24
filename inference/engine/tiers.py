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

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.inference.engine.density import Density
from posterity.inference.engine.lanes.build import Compiled, MissingCompiler, cores
from posterity.inference.engine.lanes.decompose import decompositions
from posterity.inference.engine.lanes.emit import Code, emit
from posterity.inference.engine.lanes.expressions import Unsupported
from posterity.inference.engine.lanes.lower import lower
from posterity.inference.engine.recording import replay
from posterity.inference.program.trace import default_dtype

TIERS = ("eager", "replay", "compiled")
COMPILED = ("lanes", "inductor")
# Calls of the gradient from which the preparation of a tier has paid for itself, on small networks.
REPLAY_FROM, COMPILE_FROM, INDUCTOR_FROM = 300, 1000, 20_000
RELATIVE_TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-6}
NAMED = 5  # chains in a message
WRONG = "the recording"  # how a reason begins that says how a recording differs from the model
Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Integrator:
    """A symmetric splitting of the Hamiltonian flow: kicks and drifts in turn, a kick first and last.

    ``LEAPFROG`` is the usual one. ``MINIMAL_NORM`` takes two gradients a step and allows a step more than twice as
    long (McLachlan 1995; Omelyan, Mryglod & Folk 2003, coefficient 0.1931833).
    """

    name: str
    kicks: tuple[float, ...]
    drifts: tuple[float, ...]


_LAMBDA = 0.1931833275037836
LEAPFROG = Integrator("leapfrog", (0.5, 0.5), (1.0,))
MINIMAL_NORM = Integrator("minimal_norm", (_LAMBDA, 1 - 2 * _LAMBDA, _LAMBDA), (0.5, 0.5))
INTEGRATORS = {i.name: i for i in (LEAPFROG, MINIMAL_NORM)}


class Engine:
    """All chains of one model: ``gradient`` and ``integrate`` for positions of shape (chain, dim).

    ``tier`` is the one in use, and ``kind`` what computes: "eager", "replay", "inductor" (`torch.compile`) or "lanes".
    ``reason`` says why a faster one could not be used, and is empty otherwise. ``seconds`` is the time that the
    preparation took, ``gradients`` the number of gradients computed since, over all chains.
    """

    def __init__(self, density: Density, chains: int, kind: str, gradient: Gradient) -> None:
        self.density, self.chains, self.kind, self._gradient = density, chains, kind, gradient
        self.tier = "compiled" if kind in COMPILED else kind
        self.reason = ""
        self.gradients, self.seconds, self.threads = 0, 0.0, 1

    @property
    def torch_threads(self) -> int:
        """How many threads torch should use beside this engine."""
        return self.threads

    def use_threads(self, count: int) -> None:
        self.threads = count

    def gradient(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """The log joint (chain,) and its gradient (chain, dim)."""
        self.gradients += self.chains
        with torch.no_grad(), pyro.validation_enabled(False):
            value, grad = self._gradient(q)
        return value, grad

    def integrate(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, steps: Tensor, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Move ``(q, p, grad, value)`` by ``steps`` (chain,) steps of size ``step`` (chain,), each chain its own."""
        q, p, grad, value = state
        self.gradients += int(steps.sum()) * len(integrator.drifts)
        with torch.no_grad(), pyro.validation_enabled(False):
            for s in range(int(steps.max())):
                e = torch.where(steps > s, step, 0.0)[:, None].to(q.dtype)
                for kick, drift in zip(integrator.kicks, integrator.drifts, strict=False):
                    p = p + kick * e * grad
                    q = q + drift * e * inverse_mass * p
                    value, grad = self._gradient(q)
                p = p + integrator.kicks[-1] * e * grad
        return q, p, grad, value

    def path(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, count: int, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """The states after 0, 1, ... ``count`` steps, each part of shape (1 + count, chain, ...)."""
        states, one = [state], torch.ones(len(step), dtype=torch.long, device=step.device)
        for _ in range(count):
            states.append(self.integrate(states[-1], step, one, inverse_mass, integrator))
        q, p, grad, value = (torch.stack(parts) for parts in zip(*states, strict=True))
        return q, p, grad, value


class LanesEngine(Engine):
    """Trajectories inside compiled code."""

    def __init__(self, density: Density, chains: int, compiled: Compiled) -> None:
        super().__init__(density, chains, "lanes", compiled.gradient)
        self.compiled = compiled

    @property
    def torch_threads(self) -> int:
        return 1  # the compiled code has threads of its own

    def use_threads(self, count: int) -> None:
        self.threads = self.compiled.use_threads(count)

    def integrate(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, steps: Tensor, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        self.gradients += int(steps.sum()) * len(integrator.drifts)
        return self._call(tuple(t.contiguous().clone() for t in state), step, steps, inverse_mass, integrator, False)

    def path(
        self, state: tuple[Tensor, Tensor, Tensor, Tensor], step: Tensor, count: int, inverse_mass: Tensor,
        integrator: Integrator = LEAPFROG,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        self.gradients += count * len(step) * len(integrator.drifts)
        states = tuple(torch.cat([t[None], t.new_empty(count, *t.shape)]) for t in state)
        return self._call(states, step, torch.full((len(step),), count), inverse_mass, integrator, True)

    def _call(
        self, state: Any, step: Tensor, steps: Tensor, inverse_mass: Tensor, integrator: Integrator, path: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = self.density.dtype
        kicks, drifts = (torch.tensor(c, dtype=dtype) for c in (integrator.kicks, integrator.drifts))
        q, p, grad, value = state
        self.compiled.integrate(
            q, p, grad, value, step.to(dtype).contiguous(), steps.long().contiguous(),
            inverse_mass.to(dtype).contiguous(), kicks, drifts, path,
        )  # fmt: skip
        return state


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
    exact = _model_gradient(density)
    _check_start(density, positions, *value_and_gradient(density, positions, exact))
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


def fastest_threads(engine: Engine, positions: Tensor, budget: float = 0.12, steps: int = 30) -> int:
    """One thread or all cores, whichever does more steps in a moment; one where it does not matter.

    They take turns, so that a moment in which the machine is busy does not fall on one of them alone.
    """
    if cores() == 1 or positions.device.type != "cpu":
        return 1

    def seconds(count: int) -> float:
        engine.use_threads(count)
        with torch_threads(engine.torch_threads):
            tick = time.perf_counter()
            engine.gradient(positions)
            return time.perf_counter() - tick

    first = seconds(1)
    if first > budget:  # nothing of it is a matter of starting
        return cores() if seconds(cores()) < 0.7 * first else 1
    steps = max(1, min(steps, round(budget / 4 / seconds(1))))
    value, grad = engine.gradient(positions)
    state = (positions, torch.zeros_like(positions), grad, value)
    # Steps of size zero: the work of a trajectory, and no movement.
    still, many = positions.new_zeros(len(positions)), torch.full((len(positions),), steps)
    mass = positions.new_ones(positions.shape[1])
    times: dict[int, list[float]] = {1: [], cores(): []}
    begun = time.perf_counter()
    while len(times[1]) < 3 or time.perf_counter() - begun < budget:
        for count, found in times.items():
            engine.use_threads(count)
            with torch_threads(engine.torch_threads):
                engine.gradient(positions)  # new threads start here
                tick = time.perf_counter()
                engine.integrate(state, still, many, mass)
                found.append(time.perf_counter() - tick)
        if times[cores()][-1] > 3 * times[1][-1]:
            return 1  # on a busy machine threads wait for each other: not to be waited for here
    one, all_ = (statistics.median(found) for found in times.values())
    return cores() if all_ < 0.9 * one else 1


def _model_gradient(density: Density) -> Gradient:
    one = torch.func.grad_and_value(density)
    batched = torch.func.vmap(one, randomness="error")

    def gradient(q: Tensor) -> tuple[Tensor, Tensor]:
        try:
            grad, value = batched(q)
        except torch.linalg.LinAlgError:  # a factorisation failed in one chain: the others go on
            grad, value = (torch.stack(parts) for parts in zip(*map(alone, q), strict=True))
        return value, grad

    def alone(q: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return one(q)
        except torch.linalg.LinAlgError:
            return torch.full_like(q, torch.nan), q.new_tensor(torch.nan)

    return gradient


def _run(exact: Gradient, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The first batched run of the model, where everything that cannot be batched shows."""
    try:
        return exact(positions)
    except RuntimeError as error:
        text = str(error)
        if "randomness" in text:
            raise ValueError(
                "expected all randomness in pyro.sample statements over the whole data (no dropout: module.eval(); "
                "no subsampled plate), got a model that draws random numbers of its own"
            ) from error
        if any(part in text for part in ("data-dependent control flow", ".item()", "Cannot access data pointer")):
            raise ValueError(
                f"expected a model without control flow on sampled values (use torch.where, or the samplers of "
                f"`posterity.inference.mcmc.reference`), got one that branches{_line(error)}"
            ) from error
        if text.startswith("vmap:") or "doesn't match the broadcast shape" in text:  # in place, on what has no chains
            raise ValueError(
                f"expected a model that torch.func.vmap can run for all chains at once (the samplers of "
                f"`posterity.inference.mcmc.reference` take any), got{_line(error)}: {_short(error)}"
            ) from error
        raise


def _line(error: BaseException) -> str:
    """The line of the user's model at which an error was raised."""
    places, frame = [], error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if not any(part in name for part in ("/torch/", "/pyro/", "posterity/inference", "/inference/engine")):
            places.append(f" at line {frame.tb_lineno} of {name}")
        frame = frame.tb_next
    return places[-1] if places else ""


def why_not_finite(density: Density, position: Tensor) -> str:
    """What Pyro's own checks of distributions and values, which are off while sampling, say about a position."""
    try:
        with torch.no_grad(), pyro.validation_enabled(True), quiet():
            density(position)
    except (ValueError, torch.linalg.LinAlgError) as error:
        return str(error).strip().partition("\n")[0][:200]
    return ""


def value_and_gradient(density: Density, positions: Tensor, exact: Gradient | None = None) -> tuple[Tensor, Tensor]:
    """The log joint (chain,) and its gradient (chain, dim), from one batched run of the model."""
    with torch.no_grad(), pyro.validation_enabled(False):
        return _run(exact or _model_gradient(density), positions)


def _check_start(density: Density, positions: Tensor, value: Tensor, grad: Tensor) -> None:
    fault, reason = start_fault(density, positions, value, grad)
    if fault:
        raise ValueError(f"expected {fault}: choose another init{f' ({reason})' if reason else ''}")


def start_fault(density: Density, positions: Tensor, value: Tensor, grad: Tensor) -> tuple[str, str]:
    """What was expected of the starts and what came, if a log density or gradient is not finite; and the reason."""
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
    """ "2 of 8 chains (3, 5)"."""
    chains = which.nonzero().flatten().tolist()
    shown = ", ".join(map(str, chains[:NAMED])) + (", ..." if len(chains) > NAMED else "")
    return f"{len(chains)} of {len(which)} chains ({shown})"


def _record(function: Callable[..., Any], *example: Tensor, **settings: Any) -> torch.fx.GraphModule:
    with pyro.validation_enabled(False), torch.no_grad():
        return make_fx(function, **settings)(*example)


RECORDING_ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError)


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
            reasons.append(_short(error))
            if isinstance(error, MissingCompiler):
                return None, reasons
    if by_name or calls >= INDUCTOR_FROM:
        try:
            graph = _unchecked(_record(exact, positions))
            compiled_graph = torch.compile(graph, fullgraph=True, dynamic=False)
            with quiet(), torch.no_grad():
                compiled_graph(positions)
            reason = _difference(density, compiled_graph, positions)
            if reason is None:
                return Engine(density, chains, "inductor", _guarded(_filled(compiled_graph, chains), exact)), reasons
            reasons.append(reason)
        except Exception as error:  # noqa: BLE001 - a compiler may fail in any way, and a slower tier is there
            reasons.append(_short(error))
    return None, reasons


def compile_lanes(density: Density, position: Tensor) -> Code:
    """The C code of the log joint and its gradient; raises `Unsupported` for operations that it does not know."""

    def one(q: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = torch.func.grad_and_value(density)(q)
        return value, grad

    # In-place operations become ordinary ones.
    graph = _record(torch.func.functionalize(one), position, decomposition_table=decompositions())
    with default_dtype(density.dtype):  # Python floats among the operations are constants of that precision
        return emit(lower(graph, (density.dim,), density.dtype), ["value", "grad"])


def _replayed(density: Density, positions: Tensor, exact: Gradient) -> tuple[Engine | None, str | None]:
    try:
        graph = _record(exact, positions)
        with quiet():
            replayed = replay(graph, positions)
        reason = _difference(density, replayed, positions)
    except RECORDING_ERRORS as error:
        reason = _short(error)
    if reason is not None:
        return None, reason
    return Engine(density, len(positions), "replay", _filled(replayed, len(positions))), None


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
                warnings.warn(f"the model is run by Pyro from here on ({_short(error)})", RuntimeWarning, 2)
        return exact(q)

    return call


def _filled(gradient: Gradient, chains: int) -> Gradient:
    """A recording made for ``chains`` chains, callable with fewer: missing chains are filled up and then removed."""

    def call(q: Tensor) -> tuple[Tensor, Tensor]:
        count = len(q)
        if count == chains:
            return gradient(q)
        value, grad = gradient(torch.cat([q, q[:1].expand(chains - count, -1)]))
        return value[:count], grad[:count]

    return call


def _difference(density: Density, gradient: Gradient, positions: Tensor) -> str | None:
    """How a recording differs from the model at points other than the recorded one; None if it does not differ."""
    tolerance = RELATIVE_TOLERANCE.get(density.dtype, 1e-6)
    exact = torch.func.grad_and_value(density)
    with torch.no_grad(), pyro.validation_enabled(False):
        for factor, shift in ((0.9, 0.05), (1.1, -0.03)):
            points = factor * positions + shift
            values, grads = gradient(points)
            for chain in {0, len(points) - 1}:
                grad, value = exact(points[chain])
                if not bool(torch.isfinite(value)) or not bool(torch.isfinite(grad).all()):
                    continue
                scale = value.abs() + 1
                if not (value - values[chain]).abs() <= tolerance * scale:
                    return f"{WRONG} gives {float(values[chain]):.9g} where the model gives {float(value):.9g}"
                apart = float((grad - grads[chain]).norm())
                if not apart <= tolerance * (float(grad.norm()) + 1):
                    return f"{WRONG} has a gradient that differs by {apart:.3g} from the model's"
    return None


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Deprecation notes of torch's own compilers are not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's number of threads inside, and the caller's after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
