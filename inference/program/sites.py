"""The sites and plates of a Pyro model, read from its trace."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyro.distributions import Unit
from torch import Tensor

from posterity.inference.program.arguments import nones, with_argument
from posterity.inference.program.observed import check_observed
from posterity.inference.program.trace import TRIES, Model, trace
from posterity.inference.program.weights import network_weights


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
    deterministics = tuple(name for name, node in samples.items() if is_deterministic(node))
    observed = [
        name
        for name, node in samples.items()
        if node["is_observed"] and name not in deterministics and not isinstance(node["fn"], Unit)
    ]
    if site is None and len(observed) > 1:
        raise ValueError(f"expected one observed site or the name of one (site=...), got {observed}")
    if not observed or (site is not None and site not in observed):
        wanted = "an observed site" if site is None else f"an observed site {site!r}"
        hint = without(model, args)
        raise ValueError(f"expected a model with {wanted} (obs=y), got observed sites {observed}{hint}")
    latents = [name for name, node in samples.items() if is_latent(node)]
    chosen = site or observed[0]
    if left_out is None:
        left_out = [name for name, given in nones(model, args).items() if not given]
    refuse_left_out(model, args, nodes, chosen, left_out)
    for name in latents:
        if samples[name]["fn"].support.is_discrete:
            raise ValueError(f"expected continuous latent sites (marginalise the discrete ones), got {name!r}")
    for name in observed:
        check_observed(name, samples[name], partial(again, model, args, name))
    return Program(
        site=chosen,
        plates=tuple(frame.name for frame in frames_of(samples[chosen])),
        observed=tuple(observed),
        latents=tuple(latents),
        parameters=tuple(name for name, node in nodes.items() if node["type"] == "param"),
        deterministics=deterministics,
        weights=network_weights({name: samples[name] for name in latents}),
        dims=tuple(value.ndim if isinstance(value, Tensor) else -1 for value in args),
    )


def frames_of(node: Any) -> list[Any]:
    """The plates of a site from outer to inner."""
    return sorted((frame for frame in node["cond_indep_stack"] if frame.vectorized), key=lambda frame: frame.dim)


def without(model: Model, args: tuple[Any, ...]) -> str:
    """For a message: which arguments are None."""
    names = list(nones(model, args))
    return f" (not given: {', '.join(map(repr, names))})" if names else ""


def refuse_left_out(
    model: Model, args: tuple[Any, ...], nodes: dict[str, Any], site: str, names: Iterable[str]
) -> None:
    """``ValueError`` where one of the arguments ``names``, which are None, would have been observed row by row as y is.

    ``nodes`` are those of a run without them, and ``site`` the one of y.
    """
    plates = {frame.name for frame in frames_of(nodes[site])}
    drawn = [
        name
        for name, node in nodes.items()
        if node["type"] == "sample" and not node["is_observed"] and plates & {f.name for f in frames_of(node)}
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


def again(model: Model, args: tuple[Any, ...], name: str) -> list[Any]:
    """The site at two other draws of the prior."""
    found = [trace(model, args, seed=seed).get(name) for seed in (TRIES, 2 * TRIES)]
    return [node for node in found if node is not None]


def is_latent(node: Any) -> bool:
    """Whether a node of a trace is a latent site; the indices of a subsampled plate are not."""
    return node["type"] == "sample" and not node["is_observed"] and type(node["fn"]).__name__ != "_Subsample"


def is_deterministic(node: Any) -> bool:
    """Whether a node of a trace is a ``pyro.deterministic`` site."""
    return node["type"] == "sample" and bool(node["infer"].get("_deterministic"))
