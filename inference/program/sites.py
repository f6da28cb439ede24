"""The sites and plates of a Pyro model, read from its trace."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyro.distributions import Delta, MaskedDistribution, Unit
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from posterity.inference.program.arguments import describe_none_arguments, none_arguments, replace_argument
from posterity.inference.program.enumeration import check_discrete
from posterity.inference.program.site_value import check_site_value
from posterity.inference.program.trace import TRIES, Model, trace
from posterity.inference.program.weights import network_weights

SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Program:
    """The sites of a model by kind, and the plates of its observed sites from outer to inner.

    ``site`` is the observed site that was named, or the only one; None for a model with several, or with factors alone
    (``pyro.factor``). ``observed`` lists all observed sites. ``weights`` are the latent sites that are weights of a
    network (see `network_weights`). ``dims`` is the number of dimensions of each argument of the model, -1 for an
    argument that is not a tensor. ``reparametrised`` are the deterministic sites that ``pyro.poutine.reparam``
    computes from auxiliary latent sites. ``enumerated`` are discrete latent sites, which are summed out.
    """

    site: str | None
    plates: tuple[str, ...]
    observed: tuple[str, ...]
    latents: tuple[str, ...]
    parameters: tuple[str, ...]
    deterministics: tuple[str, ...]
    weights: tuple[str, ...] = ()
    dims: tuple[int, ...] = ()
    reparametrised: tuple[str, ...] = ()
    enumerated: tuple[str, ...] = ()

    @property
    def sites(self) -> tuple[str, ...]:
        """The observed sites that are scored and predicted: ``site``, or all of them."""
        return self.observed if self.site is None else (self.site,)

    def one_site(self, name: str | None = None) -> str:
        """The observed site called ``name``, or without a name the one that is scored and predicted.

        Raises ``ValueError`` if there is no observed site, none of this name, or several and no name.
        """
        if not self.observed:
            raise ValueError("expected a model with an observed site to predict or score, got factors alone")
        if name is not None and name not in self.observed:
            raise ValueError(f"expected site to be an observed site of {shown_names(self.observed)}, got {name!r}")
        chosen = self.site if name is None else name
        if chosen is None:
            raise ValueError(f"expected site, the name of one observed site of {shown_names(self.observed)}, got none")
        return chosen


def inspect(
    model: Model, args: tuple[Any, ...], site: str | None = None, left_out: Iterable[str] | None = None
) -> Program:
    """The `Program` of a model, from one run; the caller's random state and parameters do not change.

    ``site`` names the observed site to score and predict; all observed sites are conditioned on. ``left_out`` names
    arguments that are None and that the model may observe; by default those behind the last one given. None that was
    passed explicitly asks for inference of that observation.

    Raises ``ValueError`` without an observed site or a factor, if an observation was left out, for a discrete latent
    site without finite support, and as `check_site_value` does: y (N, 1) against N predictions would otherwise be
    scored as N x N pairs.
    """
    nodes = trace(model, args, seed=0)
    samples = {name: node for name, node in nodes.items() if node["type"] == "sample"}
    deterministics = tuple(name for name, node in samples.items() if is_deterministic(node))
    observed = [
        name
        for name, node in samples.items()
        if node["is_observed"] and name not in deterministics and not isinstance(node["fn"], Unit)
    ]
    factors = [name for name, node in samples.items() if node["is_observed"] and isinstance(node["fn"], Unit)]
    if (site is None and not observed and not factors) or (site is not None and site not in observed):
        wanted = "an observed site" if site is None else f"an observed site {site!r}"
        hint = describe_none_arguments(model, args)
        raise ValueError(f"expected a model with {wanted} (obs=y), got observed sites {shown_names(observed)}{hint}")
    latents = [name for name, node in samples.items() if is_latent(node)]
    chosen = observed[0] if site is None and len(observed) == 1 else site
    scored = observed if chosen is None else [chosen]
    if left_out is None:
        left_out = [name for name, given in none_arguments(model, args).items() if not given]
    check_left_out(model, args, nodes, scored, left_out)
    enumerated = [name for name in latents if check_discrete(name, samples[name])]
    latents = [name for name in latents if name not in enumerated]
    for name in observed:
        check_site_value(name, samples[name], partial(other_prior_draws, model, args, name))
    return Program(
        site=chosen,
        plates=tuple(dict.fromkeys(frame.name for name in scored for frame in vectorized_plates(samples[name]))),
        observed=tuple(observed),
        latents=tuple(latents),
        parameters=tuple(name for name, node in nodes.items() if node["type"] == "param"),
        deterministics=deterministics,
        weights=network_weights({name: samples[name] for name in latents}),
        dims=tuple(value.ndim if isinstance(value, Tensor) else -1 for value in args),
        reparametrised=tuple(name for name in deterministics if is_reparametrised(samples[name])),
        enumerated=tuple(enumerated),
    )


def vectorized_plates(node: Any) -> list[Any]:
    """The plates of a site from outer to inner, without plates that are Python loops."""
    return sorted((frame for frame in node["cond_indep_stack"] if frame.vectorized), key=lambda frame: frame.dim)


def shown_names(names: Sequence[str]) -> str:
    """The names as a list in a message; of more than a few the first and their number."""
    shown = [*names[:SHOWN]] if len(names) > SHOWN + 1 else [*names]
    return str(shown) if len(shown) == len(names) else f"{str(shown)[:-1]}, ...] ({len(names)} in all)"


def check_left_out(
    model: Model, args: tuple[Any, ...], nodes: dict[str, Any], sites: Sequence[str], names: Iterable[str]
) -> None:
    """Raises ``ValueError`` if the model would observe one of the missing arguments ``names`` row by row, as it does y.

    ``nodes`` is the trace of a run without these arguments, and ``sites`` are the observed sites of y; without any, all
    latent sites may hold y.
    """
    plates = {frame.name for site in sites for frame in vectorized_plates(nodes[site])}
    sampled = [
        name
        for name, node in nodes.items()
        if is_latent(node) and (not sites or plates & {f.name for f in vectorized_plates(node)})
    ]
    for argument, name in itertools.product(names, sampled):
        try:
            with_value = replace_argument(model, args, argument, nodes[name]["value"].detach())
            rerun = trace(model, with_value, seed=0)
        except Exception:  # noqa: BLE001 - the value of a site need not fit this argument, and may fail in any way
            continue
        if name in rerun and rerun[name]["is_observed"]:
            raise ValueError(
                f"expected the model's argument {argument!r}, which it observes at the site {name!r}, got none: "
                f"give None for it where {name!r} is to be inferred"
            )


def other_prior_draws(model: Model, args: tuple[Any, ...], name: str) -> list[Any]:
    """The site ``name`` in two runs of the model at other draws of its prior."""
    nodes = [trace(model, args, seed=seed).get(name) for seed in (TRIES, 2 * TRIES)]
    return [node for node in nodes if node is not None]


def is_latent(node: Any) -> bool:
    """Whether a node of a trace is a latent site; the indices of a subsampled plate are not."""
    return node["type"] == "sample" and not node["is_observed"] and not is_subsample(node)


def is_subsample(node: Any) -> bool:
    """Whether a node of a trace holds the indices of a subsampled plate."""
    return isinstance(node["fn"], _Subsample)


def is_deterministic(node: Any) -> bool:
    """Whether a node of a trace is a ``pyro.deterministic`` site, or one that a reparametrisation computes."""
    return node["type"] == "sample" and (bool(node["infer"].get("_deterministic")) or is_reparametrised(node))


def is_reparametrised(node: Any) -> bool:
    """Whether ``pyro.poutine.reparam`` computes a site: Pyro gives it the distribution ``Delta(value).mask(False)``."""
    fn = node["fn"]
    delta = isinstance(fn, MaskedDistribution) and isinstance(fn.base_dist, Delta) and fn._mask is False
    return delta and node["is_observed"] and not node["infer"].get("_deterministic")
