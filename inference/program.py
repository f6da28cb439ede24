"""Reading a Pyro program: its observed site, and its likelihood for all draws of the posterior at once.

Models are written for one draw. Here a model is run once under ``torch.func.vmap`` with the draws put in place of
its latent sites (and of its parameters), the parameters of the observed site's distribution are gathered, and the
distribution is rebuilt around them with the draws as its first batch dimension. No wrapper class is needed.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import Unit
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, biject_to

from posterity.inference.arguments import describe, nones, with_argument
from posterity.inference.each import for_each
from posterity.inference.observed import AsNumbers, cast_to, check_observed, scored
from posterity.inference.reader import Reader
from posterity.inference.weights import network_weights
from posterity.models.parameters import family, split

Model = Callable[..., Any]
VMAP_CHUNK = 512
FAILURES = (RuntimeError, TypeError, IndexError, AttributeError)
TRIES = 20  # draws of the prior, where the model cannot be run at some of them


@dataclass(frozen=True)
class Program:
    """What a model's trace says: its sites by kind, and the plates of its observed site from outer to inner."""

    site: str
    plates: tuple[str, ...]
    observed: tuple[str, ...]
    latents: tuple[str, ...]
    parameters: tuple[str, ...]
    deterministics: tuple[str, ...]
    weights: tuple[str, ...] = ()  # latent sites that are weights of a network, see `network_weights`
    dims: tuple[int, ...] = ()  # number of dimensions of each argument of the model; -1 if it is not a tensor


def inspect(
    model: Model, args: tuple[Any, ...], site: str | None = None, left_out: Iterable[str] | None = None
) -> Program:
    """Run the model once and say what is in it; the caller's random state and parameters stay as they are.

    ``site`` names the observed site where there are several. Raises ``ValueError`` without an observed site, with
    several and none named, where an observation was left out (give None for one that is to be inferred; ``left_out``
    names the arguments in question, by default those behind the last one given), with a discrete latent site, or for
    what `check_observed` refuses: y (N, 1) against N predictions would otherwise be scored as N x N pairs.
    """
    nodes = trace(model, args, seed=0)
    samples = {name: node for name, node in nodes.items() if node["type"] == "sample"}
    deterministics = tuple(n for n, node in samples.items() if node["infer"].get("_deterministic"))
    observed = [
        name
        for name, node in samples.items()
        if node["is_observed"] and name not in deterministics and not isinstance(node["fn"], Unit)
    ]
    if site is None and len(observed) > 1:
        raise ValueError(f"expected one observed site or the name of one (site=...), got {observed}")
    if not observed or (site is not None and site not in observed):
        wanted = "an observed site" if site is None else f"an observed site {site!r}"
        hint = _without(model, args)
        raise ValueError(f"expected a model with {wanted} (obs=y), got observed sites {observed}{hint}")
    latents = [
        n for n, node in samples.items() if not node["is_observed"] and type(node["fn"]).__name__ != "_Subsample"
    ]
    chosen = site or observed[0]
    if left_out is None:
        left_out = [name for name, given in nones(model, args).items() if not given]
    refuse_left_out(model, args, nodes, chosen, left_out)
    for name in latents:
        if samples[name]["fn"].support.is_discrete:
            raise ValueError(f"expected continuous latent sites (marginalise the discrete ones), got {name!r}")
    for name in observed:
        check_observed(name, samples[name], partial(_again, model, args, name))
    return Program(
        site=chosen,
        plates=tuple(frame.name for frame in _frames(samples[chosen])),
        observed=tuple(observed),
        latents=tuple(latents),
        parameters=tuple(name for name, node in nodes.items() if node["type"] == "param"),
        deterministics=deterministics,
        weights=network_weights({name: samples[name] for name in latents}),
        dims=tuple(value.ndim if isinstance(value, Tensor) else -1 for value in args),
    )


def _frames(node: Any) -> list[Any]:
    """The plates of a site from outer to inner."""
    return sorted((frame for frame in node["cond_indep_stack"] if frame.vectorized), key=lambda frame: frame.dim)


def _without(model: Model, args: tuple[Any, ...]) -> str:
    """For a message: which arguments are None."""
    names = list(nones(model, args))
    return f" (not given: {', '.join(map(repr, names))})" if names else ""


def refuse_left_out(
    model: Model, args: tuple[Any, ...], nodes: dict[str, Any], site: str, names: Iterable[str]
) -> None:
    """``ValueError`` where one of the arguments ``names``, which are None, would have been observed row by row as y is.

    ``nodes`` are those of a run without them, and ``site`` the one of y.
    """
    plates = {frame.name for frame in _frames(nodes[site])}
    drawn = [
        name
        for name, node in nodes.items()
        if node["type"] == "sample" and not node["is_observed"] and plates & {f.name for f in _frames(node)}
    ]
    for argument, name in itertools.product(names, drawn):
        try:
            again = trace(model, with_argument(model, args, argument, nodes[name]["value"].detach()), seed=0)
        except Exception:  # noqa: BLE001 - the value of a site need not be one of this argument, and may fail in any way
            continue
        if name in again and again[name]["is_observed"]:
            raise ValueError(
                f"expected the model's argument {argument!r}, which it observes at the site {name!r}, got none: "
                f"give None for it where {name!r} is to be inferred"
            )


def _again(model: Model, args: tuple[Any, ...], name: str) -> list[Any]:
    """The site at two other draws of the prior."""
    found = [trace(model, args, seed=seed).get(name) for seed in (TRIES, 2 * TRIES)]
    return [node for node in found if node is not None]


@dataclass(frozen=True, eq=False)
class Observation:
    """What was observed at a site: its ``value``, the type to score it in where that is another, and its dimensions.

    ``kept``, of the shape of the value, says which elements are scored. ``plates`` names the dimensions of the batch
    from the left; None where there is no plate.
    """

    value: Tensor
    kept: Tensor
    dtype: torch.dtype | None
    plates: tuple[str | None, ...]


def observe(model: Model, args: tuple[Any, ...], site: str) -> Observation:
    """What the model says was observed at ``site``: y itself, or what it makes of it, as ``obs=y.log()``.

    Raises ``ValueError`` where nothing was, or for what `check_observed` refuses.
    """
    with torch.no_grad():
        nodes = trace(model, args, seed=0)
        node = nodes.get(site)
        if node is None or not node["is_observed"]:
            raise ValueError(
                f"expected y, which the model observes at {site!r}, among the arguments, got {len(args)} "
                f"argument{'s' if len(args) != 1 else ''}{_without(model, args)}"
            )
        check_observed(site, node, lambda: _again(model, args, site))
        frames = {frame.dim: frame.name for frame in _frames(node)}
        batch = range(-len(node["fn"].batch_shape), 0)
        return Observation(node["value"], scored(node), cast_to(node), tuple(frames.get(dim) for dim in batch))


def observed_value(model: Model, args: tuple[Any, ...], site: str) -> Tensor:
    """The value of `observe`."""
    return observe(model, args, site).value


def in_numbers(model: Model, args: tuple[Any, ...]) -> Model:
    """The model with observed whole numbers and truth values as numbers where its distributions compute with them."""
    with torch.no_grad():
        nodes = trace(model, args, seed=0)
        observed = {n: node for n, node in nodes.items() if node["type"] == "sample" and node["is_observed"]}
        dtypes = {n: cast_to(node) for n, node in observed.items() if isinstance(node["value"], Tensor)}
    needed = {name: dtype for name, dtype in dtypes.items() if dtype is not None}
    if not needed:
        return model
    return functools.update_wrapper(AsNumbers(needed)(model), model, updated=())


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
        f"{describe(args)})"
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


@dataclass(frozen=True, eq=False)
class Score:
    """A model with its y at every draw.

    - ``likelihood`` (S, ...) and ``deterministics`` as of `over_draws`; ``observation``: what was observed.
    - ``log_prob`` (S, ...): the site's term of the log joint, with its masks and scales.
    - ``kept``, of the shape of y: which of its elements are scored.
    """

    likelihood: Distribution
    deterministics: dict[str, Tensor]
    log_prob: Tensor
    kept: Tensor
    observation: Observation

    @property
    def kept_rows(self) -> Tensor:
        """Which elements of the batch, of one log density each, are scored."""
        batch = self.log_prob.ndim - 1
        return self.kept.flatten(batch).any(-1) if self.kept.ndim > batch else self.kept

    def left(self, values: Tensor) -> Tensor:
        """Those of values (..., *batch) that are scored, (..., left); ``ValueError`` where none is."""
        kept = self.kept_rows
        if not bool(kept.any()):
            raise ValueError(f"expected rows that the model scores, got {kept.numel()} that its mask leaves out")
        return values.flatten(values.ndim - kept.ndim)[..., kept.flatten()] if kept.ndim else values[..., None]


def over_draws(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    site: str,
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
) -> tuple[Distribution, dict[str, Tensor]]:
    """The likelihood and the deterministic sites of every draw.

    ``draws[name]`` has shape (S, ...); ``others`` are observed sites whose values the arguments may leave out.
    Returns the distribution of ``site`` with batch shape (S, ...), and each deterministic site with shape (S, ...).
    Memory is that of ``chunk_size`` draws plus the result. Raises ``ValueError`` for draws that do not fit the
    model, or a model that draws random numbers of its own.
    """
    return _read(model, args, draws, site, others, chunk_size, None)[:2]


def score(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    site: str,
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
) -> Score:
    """`over_draws` of a model that was given y, with the log density of y at every draw.

    Raises ``ValueError`` too where y is missing or is refused by `check_observed`, where the log density is nan, or
    where different draws leave out different elements.
    """
    observation = observe(model, args, site)
    likelihood, deterministics, (log_prob, kept) = _read(model, args, draws, site, others, chunk_size, observation)
    if bool((kept != kept[0]).any()):
        raise ValueError(f"expected a mask at {site!r} that is the same for every draw, got one that depends on them")
    bad = int(torch.isnan(log_prob).sum())
    if bad:
        raise ValueError(f"expected log densities of {site!r}, got {bad} of {log_prob.numel()} that are nan")
    return Score(likelihood, deterministics, log_prob, kept[0], observation)


def _read(
    model: Model, args: tuple[Any, ...], draws: Mapping[str, Tensor], site: str, others: Collection[str],
    chunk_size: int, observation: Observation | None,
) -> tuple[Distribution, dict[str, Tensor], tuple[Tensor, ...]]:  # fmt: skip
    sizes = {len(value) for value in draws.values()}
    if len(sizes) > 1:
        raise ValueError(f"expected draws of one number for all sites, got {sorted(sizes)}")
    read: dict[str, Any] = {}
    scoring, dtype = observation is not None, None if observation is None else observation.dtype

    def one(_: Tensor, values: dict[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor], tuple[Tensor, ...]]:
        reader = Reader(values, site, others, scoring, dtype)
        with reader:
            model(*args)
        if reader.likelihood is None:
            raise ValueError(f"expected the model to reach site {site!r}, got sites {reader.names}")
        tensors, read["rebuild"] = split(reader.likelihood)
        read["family"], read["filled"] = family(reader.likelihood), reader.filled
        return tuple(tensors), reader.deterministics, reader.scores

    count = sizes.pop() if sizes else 1
    with pyro.validation_enabled(False), torch.no_grad():
        try:
            tensors, deterministics, scores = for_each(one, count, dict(draws), read, chunk_size)
        except FAILURES as error:
            raise failed(error, args) from error
    if read["filled"] and any(bool(torch.isnan(tensor).any()) for tensor in tensors):
        raise ValueError(
            f"expected values of the observed sites {read['filled']}, on which {site!r} may depend, got none"
            f"{_without(model, args)}"
        )
    return read["rebuild"](list(tensors)), deterministics, scores


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random state from ``seed`` inside, and the caller's again after."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def child_seeds(seed: int, count: int, *purpose: int) -> list[int]:
    """Seeds of ``count`` independent streams; the first ones do not depend on how many there are.

    With ``purpose``, numbers that say what they are for, they are others than those of another purpose.
    """
    children = np.random.SeedSequence(seed, spawn_key=purpose).spawn(count)
    return [int(child.generate_state(1, np.uint64)[0] >> 1) for child in children]
