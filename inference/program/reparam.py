r"""Reparametrised models: their samplers move auxiliary sites, and the user's sites are computed from them.

``pyro.poutine.reparam`` replaces a site, such as ``theta``, by auxiliary sites, such as ``theta_decentered``, and a
deterministic site ``theta``. A centred hierarchy $\theta \sim \mathrm{Normal}(\mu, \tau)$ has a funnel, in which
samplers diverge; its non-centred form $\theta = \mu + \tau z$ has none (Papaspiliopoulos, Roberts & Sköld 2007).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer.autoguide.initialization import InitMessenger, init_to_value
from pyro.infer.reparam import LocScaleReparam, TransformReparam
from pyro.infer.reparam.strategies import AutoReparam
from pyro.poutine.messenger import Messenger
from torch import Tensor

from posterity.inference.program.batching import for_each_draw
from posterity.inference.program.held_parameters import HeldParameters
from posterity.inference.program.likelihood import VMAP_CHUNK
from posterity.inference.program.sites import Program, is_latent, is_subsample
from posterity.inference.program.trace import Model, default_dtype, trace
from posterity.random import seeded

Reparam = str | Mapping[str, Any] | Callable[[Any], Any] | None
"""None, "auto", or the ``config`` of ``pyro.poutine.reparam``: reparametrisers by site, or a strategy."""

RUNS = 3  # draws of the prior at which the prior of a site is compared


def check_reparam(reparam: Any) -> None:
    """``ValueError`` unless ``reparam`` is a `Reparam`."""
    named = isinstance(reparam, str) and reparam == "auto"
    if reparam is None or named or isinstance(reparam, Mapping) or callable(reparam):
        return
    raise ValueError(
        "expected reparam to be None, 'auto', or a config of pyro.poutine.reparam (a dict or a strategy), got "
        f"{reparam!r}"
    )


@dataclass(frozen=True, eq=False)
class Parametrisation:
    """The ``model`` that a sampler samples in place of the user's, and the user's ``sites`` that are stored.

    ``centredness`` are the values of the parameters ``{site}_centered`` of ``LocScaleReparam()``. A sampler does not
    learn them but holds them at their start value of 0.5, as Pyro's own samplers do. The posterior of the user's sites
    does not depend on their values.
    """

    model: Model
    sites: tuple[str, ...]
    centredness: Mapping[str, Tensor]

    def user_draws(self, args: tuple[Any, ...], draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draws (chain, draw, ...) of the user's sites, and centredness, for ``draws`` of the sites of ``model``."""
        missing = [name for name in self.sites if name not in draws]
        known = {**draws, **(computed_sites(self.model, args, draws, missing) if missing else {})}
        shape = next(iter(draws.values())).shape[:2]
        held = {name: value.expand(*shape, *value.shape) for name, value in self.centredness.items()}
        return {name: known[name] for name in self.sites} | held

    def auxiliary_values(
        self, args: tuple[Any, ...], values: Mapping[str, Tensor], dtype: torch.dtype | None
    ) -> dict[str, Tensor]:
        """Values (start, ...) of the latent sites of ``model`` for ``values`` of the user's latent sites.

        ``dtype`` is the default dtype while the model runs. Pyro warns of reparametrisers that have no inverse.
        """
        rows = []
        for start in range(len(next(iter(values.values())))):
            given = init_to_value(values={name: value[start] for name, value in values.items()})
            with torch.no_grad(), seeded(0), default_dtype(dtype), pyro.get_param_store().scope():
                nodes = pyro.poutine.trace(InitMessenger(given)(self.model)).get_trace(*args).nodes
            rows.append({name: node["value"] for name, node in nodes.items() if is_latent(node)})
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def parametrise(model: Model, args: tuple[Any, ...], program: Program, reparam: Reparam = None) -> Parametrisation:
    """The `Parametrisation` of ``model(*args)``, whose ``program`` is known.

    With "auto", these sites are reparametrised, found at three draws of the prior:

    - latent location-scale sites whose location or scale depends on other latent sites, by ``LocScaleReparam(0.0)``;
    - transformed distributions that depend on other latent sites, by ``TransformReparam()``; their base sites then
      count as latent sites;
    - Stable, projected normal and relaxed categorical distributions, as by Pyro's ``AutoReparam``.

    Sites that are reparametrised by the model itself are stored beside their auxiliary sites; those that ``reparam``
    reparametrises are stored in place of their auxiliary sites, as if the model had been sampled as it is.

    Raises ``ValueError`` for a model with parameters other than centredness.
    """
    sites = (*program.latents, *program.reparametrised)
    sampled = model
    if reparam is not None:
        config = decentring(model, args) if reparam == "auto" else reparam
        sampled = pyro.poutine.reparam(model, config=config) if config else model
    nodes = trace(sampled, args, seed=0)
    latents = {name for name, node in nodes.items() if is_latent(node)}
    parameters = {name: node["value"].detach().clone() for name, node in nodes.items() if node["type"] == "param"}
    learnt = tuple(n for n in parameters if n.removesuffix("_centered") + "_decentered" not in latents)
    if learnt:
        raise ValueError(f"expected a model without parameters (a sampler cannot learn them), got {learnt}")
    held = HeldParameters(parameters)(sampled) if parameters else sampled
    return Parametrisation(held, sites, {name: parameters[name] for name in program.parameters})


def decentring(model: Model, args: tuple[Any, ...]) -> dict[str, Any]:
    """The reparametrisers of "auto" (see `parametrise`), by site; {} if there is nothing to reparametrise."""
    strategy = AutoReparam(centered=0.0)
    config: dict[str, Any] = {}
    while True:
        current = pyro.poutine.reparam(model, config=dict(config)) if config else model
        with torch.no_grad():
            first, *others = [trace(current, args, seed=seed) for seed in range(RUNS)]
            further: dict[str, Any] = {}
            for name, node in first.items():
                if name in config or node["type"] != "sample" or is_subsample(node):
                    continue
                found = strategy.configure(node)
                if isinstance(found, LocScaleReparam | TransformReparam):
                    found = found if _depends(node, [run[name] for run in others if name in run]) else None
                further |= {name: found} if found is not None else {}
        if not further:
            return config
        config |= further


def _depends(node: Any, others: list[Any]) -> bool:
    """Whether the prior density of a value of the site differs between runs, and so depends on other latent sites."""
    value = node["value"]
    try:
        with pyro.validation_enabled(False):
            here, *there = (other["fn"].log_prob(value) for other in (node, *others))
    except (RuntimeError, ValueError, NotImplementedError):
        return False
    return any(here.shape == log_prob.shape and not bool(torch.allclose(here, log_prob)) for log_prob in there)


def with_reparametrised(
    model: Model, args: tuple[Any, ...], program: Program, draws: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The draws (chain, draw, ...), with those of the sites that the model reparametrises."""
    missing = [name for name in program.reparametrised if name not in draws]
    return {**draws, **computed_sites(model, args, draws, missing)} if missing else draws


def computed_sites(
    model: Model, args: tuple[Any, ...], draws: Mapping[str, Tensor], names: list[str]
) -> dict[str, Tensor]:
    """Values (chain, draw, ...) of the deterministic sites ``names``, for ``draws`` of all latent sites."""
    flat = {name: value.flatten(0, 1) for name, value in draws.items()}
    shape = next(iter(draws.values())).shape[:2]

    def at_draw(_: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        with HeldParameters(values), _Named(values, names) as reader:
            model(*args)
        return dict(reader.found)

    with pyro.validation_enabled(False), torch.no_grad(), pyro.get_param_store().scope():
        found = for_each_draw(at_draw, shape.numel(), flat, {}, VMAP_CHUNK)
    return {name: value.unflatten(0, shape) for name, value in found.items()}


class _Named(Messenger):
    """Puts values in place of the latent sites, and reads the values of the sites ``names``."""

    def __init__(self, values: Mapping[str, Tensor], names: list[str]) -> None:
        super().__init__()
        self.values, self.names = values, names
        self.found: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            self.found[msg["name"]] = msg["value"]
        elif msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]
