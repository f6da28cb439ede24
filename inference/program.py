"""Reading a Pyro program: its observed site, and its likelihood for all draws of the posterior at once.

Models are written for one draw. Here a model is run once under ``torch.func.vmap`` with the draws put in place of
its latent sites (and of its parameters), the parameters of the observed site's distribution are gathered, and the
distribution is rebuilt around them with the draws as its first batch dimension. No wrapper class is needed.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import Unit
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, biject_to

from posterity.models.parameters import split

Model = Callable[..., Any]
VMAP_CHUNK = 512
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


def inspect(model: Model, args: tuple[Any, ...], site: str | None = None) -> Program:
    """Run the model once and say what is in it; the caller's random state and parameters stay as they are.

    ``site`` names the observed site where there are several. Raises ``ValueError`` without an observed site, with
    several and none named, with a discrete latent site, or with y of another shape than the site's: y (N, 1) against
    N predictions would otherwise be scored as N x N pairs.
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
        raise ValueError(f"expected a model with {wanted} (obs=y), got observed sites {observed}")
    latents = [
        n for n, node in samples.items() if not node["is_observed"] and type(node["fn"]).__name__ != "_Subsample"
    ]
    for name in latents:
        if samples[name]["fn"].support.is_discrete:
            raise ValueError(f"expected continuous latent sites (marginalise the discrete ones), got {name!r}")
    chosen = site or observed[0]
    expected, got = tuple(samples[chosen]["fn"].shape()), tuple(samples[chosen]["value"].shape)
    if expected != got:
        raise ValueError(f"expected y of shape {expected} at the observed site {chosen!r}, got {got}")
    frames = sorted((f for f in samples[chosen]["cond_indep_stack"] if f.vectorized), key=lambda f: f.dim)
    return Program(
        site=chosen,
        plates=tuple(frame.name for frame in frames),
        observed=tuple(observed),
        latents=tuple(latents),
        parameters=tuple(name for name, node in nodes.items() if node["type"] == "param"),
        deterministics=deterministics,
    )


def observed_value(model: Model, args: tuple[Any, ...], site: str) -> Tensor:
    """What the model says was observed at ``site``: y itself, or what it makes of it, as ``obs=y.log()``."""
    with torch.no_grad():
        return trace(model, args, seed=0)[site]["value"]


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
    and a start that the caller knows may still be good. Where that fails too, the first error is raised.
    """

    def run(seed: int) -> dict[str, Any]:
        with seeded(seed), pyro.get_param_store().scope(), StartMessenger():
            return dict(pyro.poutine.trace(model).get_trace(*args).nodes)

    first: Exception | None = None
    for attempt in range(TRIES):
        try:
            return run(seed + attempt)
        except (ValueError, torch.linalg.LinAlgError) as error:
            first = first or error
    try:
        with dist.validation_enabled(False):
            return run(seed)
    except (ValueError, RuntimeError):
        raise first or ValueError("expected a model that runs") from None


def check_arguments(args: tuple[Any, ...]) -> None:
    """``ValueError`` for a model's arguments without a tensor, empty, not finite or of different lengths."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    if not tensors:
        raise ValueError(f"expected the model's arguments as tensors (y last), got {len(args)} arguments and no tensor")
    for position, value in enumerate(args):
        if not isinstance(value, Tensor):
            continue
        if value.numel() == 0:
            raise ValueError(f"expected data, got an empty argument {position} of shape {tuple(value.shape)}")
        bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
        if bad:
            raise ValueError(f"expected finite values, got {bad} that are not in argument {position}")
    lengths = [len(value) for value in tensors if value.ndim]
    if len(set(lengths)) > 1:
        raise ValueError(f"expected arguments with the same number of rows, got {lengths}")


def bare_model(model: Any) -> Model:
    """The model of a ready pair, which has ``.model`` and ``.guide``; anything else is a model itself."""
    return model.model if hasattr(model, "model") and hasattr(model, "guide") else model


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
    sizes = {len(value) for value in draws.values()}
    if len(sizes) > 1:
        raise ValueError(f"expected draws of one number for all sites, got {sorted(sizes)}")
    read: dict[str, Any] = {}

    def one(_: Tensor, values: dict[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        reader = _Reader(values, site, others)
        with reader:
            model(*args)
        if reader.likelihood is None:
            raise ValueError(f"expected the model to reach site {site!r}, got sites {reader.names}")
        tensors, read["rebuild"] = split(reader.likelihood)
        return tuple(tensors), reader.deterministics

    index = torch.arange(sizes.pop() if sizes else 1)
    with pyro.validation_enabled(False), torch.no_grad():
        batched = torch.func.vmap(one, chunk_size=chunk_size, randomness="error")
        try:
            tensors, deterministics = batched(index, dict(draws))
        except RuntimeError as error:
            if "randomness" in str(error):
                raise ValueError(
                    "expected all randomness in pyro.sample statements (and dropout off: module.eval()), "
                    "got a model that draws random numbers of its own"
                ) from error
            raise
    return read["rebuild"](list(tensors)), deterministics


class _Reader(Messenger):
    """Puts one draw in place of the latent sites and keeps the distribution of the observed one."""

    def __init__(self, values: Mapping[str, Tensor], site: str, others: Collection[str]) -> None:
        super().__init__()
        self.values, self.site, self.others = values, site, others
        self.likelihood: Distribution | None = None
        self.deterministics: dict[str, Tensor] = {}
        self.names: list[str] = []

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        self.names.append(name)
        if name == self.site:
            self.likelihood = fn
            self._fill(msg)
        elif name in self.others:
            self._fill(msg)
        elif msg["infer"].get("_deterministic"):
            self.deterministics[name] = msg["value"]
        elif msg["is_observed"] or type(fn).__name__ == "_Subsample":
            return
        elif name not in self.values:
            raise ValueError(f"expected draws of every latent site, got none of {name!r}")
        elif self.values[name].shape != fn.shape():
            raise ValueError(
                f"expected draws of {name!r} of shape {tuple(fn.shape())} with these inputs, got "
                f"{tuple(self.values[name].shape)}: "
                "they are of another model, or of a site of each row, which cannot be moved to other rows"
            )
        else:
            msg["value"] = self.values[name]

    def _fill(self, msg: Any) -> None:
        """A value where there must be one; it is never scored, and nan shows wherever it is used."""
        if msg["value"] is None:
            msg["value"], msg["is_observed"] = torch.full(msg["fn"].shape(), torch.nan), True

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]


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
