"""Draws from the joint distribution of a model: latent sites from their prior, and data given them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from posterity.inference.program.arguments import read_arguments
from posterity.inference.program.observation import observed_value
from posterity.inference.program.sites import inspect, is_deterministic, is_latent, is_subsample
from posterity.inference.program.trace import Model, unwrap_pair
from posterity.random import child_seeds, seeded
from posterity.validation import check_integer, check_seed

SIMULATED = 1  # the purpose of these seeds: a fit must not reuse the random numbers of its data


@dataclass(frozen=True, eq=False)
class Simulations:
    """Independent draws of (latent sites, y): ``latents[name]`` and ``deterministics[name]`` (count, ...), ``y``
    (count, ...) at the observed ``site``.
    """

    latents: Mapping[str, Tensor]
    deterministics: Mapping[str, Tensor]
    y: Tensor
    site: str

    def __len__(self) -> int:
        return len(self.y)


def draw_simulations(model: Any, *inputs: Any, count: int, seed: int = 0, site: str | None = None) -> Simulations:
    """The draws of `posterity.inference.diagnostics.simulate`."""
    check_integer("count", count, 1)
    check_seed(seed)
    inputs = read_arguments(inputs)
    bare = unwrap_pair(model)
    seeds = child_seeds(int(seed), int(count), SIMULATED)
    nodes = _run(bare, inputs, seeds[0])
    observed = _observed_site(bare, inputs, nodes, site)
    for name, node in nodes.items():
        _check_node(name, node, observed)
    latents, deterministics, y = [], [], []
    for one in seeds:
        nodes = _run(bare, inputs, one)
        latents.append({n: node["value"] for n, node in nodes.items() if is_latent(node) and n != observed})
        deterministics.append({n: node["value"] for n, node in nodes.items() if is_deterministic(node)})
        y.append(nodes[observed]["value"])
    if not latents[0]:
        raise ValueError("expected a model with latent sites, from whose prior the truth is drawn, got none")
    stacked = torch.stack(y)
    bad = (~torch.isfinite(stacked)).flatten(1).any(1) if stacked.is_floating_point() else torch.zeros(len(y))
    if bool(bad.any()):
        raise ValueError(
            f"expected finite data from the prior, got nan or infinity in {int(bad.sum())} of {len(y)} simulations: "
            "the prior is too wide for the likelihood"
        )
    return Simulations(_stack(latents), _stack(deterministics), stacked, observed)


def _run(model: Model, inputs: tuple[Any, ...], seed: int) -> dict[str, Any]:
    """The nodes of one run without y. A draw at which the model fails is not replaced: that would change the prior."""
    try:
        with seeded(seed), torch.no_grad(), pyro.get_param_store().scope():
            return dict(pyro.poutine.trace(model).get_trace(*inputs).nodes)
    except (TypeError, AttributeError, ArithmeticError, NotImplementedError) as error:
        raise ValueError(
            f"expected a model that draws every site, and y if none is given (y=None), got {type(error).__name__}: "
            f"{error}"
        ) from error


def _observed_site(model: Model, inputs: tuple[Any, ...], nodes: dict[str, Any], site: str | None) -> str:
    """The site that observes y: ``site``, or the last one whose draw the model accepts as y and observes there."""
    drawn = [name for name, node in nodes.items() if is_latent(node)]
    if site is not None and site not in drawn:
        raise ValueError(f"expected an observed site {site!r} that is drawn if no y is given, got the sites {drawn}")
    for name in [site] if site is not None else reversed(drawn):
        args = (*inputs, nodes[name]["value"])
        if not bool(torch.isfinite(args[-1]).all()):
            return name  # the caller raises the error, with the number of simulations
        try:
            inspect(model, args, name)
        except (ValueError, RuntimeError, TypeError, IndexError):
            continue  # the draw of another site does not fit as y
        if not torch.equal(observed_value(model, args, name), args[-1]):
            raise ValueError(
                f"expected a model that observes y itself at {name!r}, got one that observes a function of it: "
                "write the function into the distribution (TransformedDistribution)"
            )
        return name
    raise ValueError(f"expected a model that observes y at one of its sites (obs=y), got {drawn}")


def _check_node(name: str, node: Any, observed: str) -> None:
    """Refuse nodes whose density is not drawn from: parameters, factors, other data, scales, masks, flat priors."""
    if node["type"] == "param":
        raise ValueError(f"expected a model whose unknowns all have a prior, got the parameter {name!r}")
    if node["type"] != "sample" or is_deterministic(node) or is_subsample(node):
        return
    if node["is_observed"]:
        kind = "a pyro.factor" if isinstance(node["fn"], dist.Unit) else "other observed data"
        raise ValueError(f"expected a model that observes y alone, got {kind} at {name!r}")
    if not (isinstance(node["scale"], int | float) and node["scale"] == 1):
        raise ValueError(f"expected a model without scaled densities, got one at {name!r}")
    if name != observed and node["mask"] is not None and not bool(torch.as_tensor(node["mask"]).all()):
        raise ValueError(f"expected a prior of {name!r} without a mask, got one with a mask")
    fn = node["fn"]
    while fn is not None and name != observed:
        masked = getattr(fn, "_mask", None) is not None and not bool(torch.as_tensor(fn._mask).all())
        if masked or isinstance(fn, dist.ImproperUniform):
            raise ValueError(f"expected a proper prior of {name!r}, got a flat one, from which nothing can be drawn")
        fn = getattr(fn, "base_dist", None)


def _stack(values: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name].detach() for one in values]) for name in values[0]}
