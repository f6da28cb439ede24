"""Starts of chains: draws of the prior, values of the sites, or draws of another posterior."""

import warnings
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine
from posterity.inference.engine.density import Density
from posterity.inference.engine.evaluation import start_fault, value_and_gradient
from posterity.inference.posterior import Posterior
from posterity.inference.program.trace import DrawFlatPriors, default_dtype
from posterity.models.guides import INITS
from posterity.random import child_seeds, seeded
from posterity.validation import shown

Init = str | Mapping[str, Tensor] | Posterior
NAMES = ("map", *INITS)
TRIES = 100  # draws per chain, as in Stan and Pyro
MOST_NAMED = 5  # chains named in a message
STARTS = 1  # purpose of the seeds (see `child_seeds`): start and first momentum must not share random numbers


def check_init(init: Any) -> None:
    """``ValueError`` unless ``init`` is a known name, a mapping or a `Posterior`."""
    if not (init in NAMES if isinstance(init, str) else isinstance(init, Mapping | Posterior)):
        names = ", ".join(map(repr, NAMES))
        raise ValueError(f"expected init to be one of {names}, values of the sites, or a Posterior, got {shown(init)}")


def start(density: Density, init: Init, chains: int, seed: int) -> Tensor:
    """Starts (chain, dim) in unconstrained space; for "map", positions from the prior (see `climb`).

    For a name, each chain draws until log density and gradient are finite, at most `TRIES` times. A chain without a
    start then draws from "uniform" instead of "prior", or from "prior" instead of another name, with one
    ``RuntimeWarning``. Draws of a `Posterior`, or values (start, ...) of every site, are assigned to the chains evenly
    spaced, and repeated if there are fewer than chains; a value without the dimension of starts is used for all chains.

    Raises:
        ValueError: values do not fit the model, or a chain found no start.
    """
    if isinstance(init, str):
        return _by_name(density, "prior" if init == "map" else init, chains, seed)
    if isinstance(init, Posterior):
        values: Mapping[str, Any] = {name: value.flatten(0, 1) for name, value in init.draws.items()}
    else:
        values = _values(density, init)
    positions = density.unconstrain(values).detach()
    chosen = torch.linspace(0, len(positions) - 1, chains).round().long()
    return positions[chosen].clone()


def _values(density: Density, init: Mapping[str, Any]) -> dict[str, Tensor]:
    """Values (start, ...) of the sites, the same number of starts for each."""
    sites = {site.name: site for site in density.sites}
    missing = [name for name in sites if name not in init]
    if missing:
        raise ValueError(f"expected a start for every latent site, got none for {missing[0]!r}")
    unknown = [name for name in init if name not in sites]
    if unknown:
        raise ValueError(f"expected init with values of the sites {list(sites)} only, got {unknown}")
    values, counts = {}, {}
    for name, given in init.items():
        try:
            value = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"expected init of {name!r} to be numbers, got {type(given).__name__}") from error
        extra = value.ndim - len(sites[name].shape)
        if extra > 1 or (extra == 1 and len(value) == 0):
            shape = ", ".join(map(str, ("starts", *sites[name].shape)))
            raise ValueError(f"expected init of {name!r} of shape ({shape}) with starts > 0, got {tuple(value.shape)}")
        values[name] = value if extra == 1 else value[None]
        counts[name] = len(values[name])
    several = {name: count for name, count in counts.items() if count > 1}
    if len(set(several.values())) > 1:
        raise ValueError(f"expected init with the same number of starts for every site, got {several}")
    most = max(counts.values(), default=1)
    return {name: value.expand(most, *value.shape[1:]) for name, value in values.items()}


def _by_name(density: Density, name: str, chains: int, seed: int) -> Tensor:
    """Starts by the initialisation ``name``, or by another one for chains that find none."""
    # Each chain has its own seed, so its start does not depend on the number of chains.
    search = _Search(density, child_seeds(seed, chains, STARTS))
    search.draw(name, 0)
    without_start = list(search.missing)
    if not without_start:
        return search.positions()
    other = "uniform" if name == "prior" else "prior"
    condition = "a finite log density and gradient"
    reason = search.reason
    search.draw(other, TRIES)
    if search.missing:
        raise ValueError(
            f"expected init with {condition}, got none in {TRIES} draws of {name!r} and {TRIES} of {other!r} for "
            f"{_listed(search.missing)} ({search.reason}): give values of the sites as init"
        )
    warnings.warn(
        f"init={name!r} found no start with {condition} in {TRIES} draws for {_listed(without_start)} ({reason}): "
        f"these start from {other!r}",
        RuntimeWarning,
        stacklevel=9,  # the line that called `infer`
    )
    return search.positions()


class _Search:
    """The search for a start with finite density and gradient for each seed, by repeated draws."""

    def __init__(self, density: Density, seeds: list[int]) -> None:
        self.density, self.seeds = density, seeds
        self.starts: dict[int, Tensor] = {}
        self.error = ""
        self.rejected: tuple[Tensor, Tensor, Tensor] | None = None  # positions, log densities and gradients

    @property
    def missing(self) -> list[int]:
        """Chains without a start."""
        return [chain for chain in range(len(self.seeds)) if chain not in self.starts]

    def positions(self) -> Tensor:
        """The starts (chain, dim)."""
        return torch.stack([self.starts[chain] for chain in range(len(self.seeds))])

    def draw(self, name: str, first: int) -> None:
        """Make the attempts ``first`` to ``first + TRIES - 1`` for the chains without a start."""
        for attempt in range(first, first + TRIES):
            drawn = {
                chain: q for chain in self.missing if (q := self._one(name, self.seeds[chain] + attempt)) is not None
            }
            if drawn:
                self._accept(drawn)
            if not self.missing:
                return

    def _one(self, name: str, seed: int) -> Tensor | None:
        """A draw for one chain; None if the model fails, which counts as zero density."""
        messenger = _Initialiser(self.density, name)
        try:
            # Without Pyro's checks, as in the density, invalid parameters give nan.
            unchecked = pyro.validation_enabled(False)
            with seeded(seed), torch.no_grad(), unchecked, messenger, default_dtype(self.density.promoted):
                self.density.model(*self.density.args)
            return self.density.unconstrain(messenger.values)
        except (ValueError, torch.linalg.LinAlgError) as error:
            self.error = str(error).strip().partition("\n")[0] or type(error).__name__
            return None

    def _accept(self, drawn: dict[int, Tensor]) -> None:
        """Take the draws with a finite density and gradient as starts."""
        positions = torch.stack(list(drawn.values()))
        value, grad = value_and_gradient(self.density, positions)
        good = torch.isfinite(value) & torch.isfinite(grad).all(1)
        self.starts |= {chain: q for chain, q, ok in zip(drawn, positions, good.tolist(), strict=True) if ok}
        if not bool(good.all()):
            self.error, self.rejected = "", (positions[~good], value[~good], grad[~good])

    @property
    def reason(self) -> str:
        """The reason why the last draw was rejected."""
        if self.error or self.rejected is None:
            return self.error
        fault, reason = start_fault(self.density, *(part[:1] for part in self.rejected))
        return reason or f"expected {fault}"


def _listed(chains: list[int]) -> str:
    numbers = ", ".join(str(c) for c in chains[:MOST_NAMED]) + (", ..." if len(chains) > MOST_NAMED else "")
    return f"{len(chains)} chains ({numbers})" if len(chains) > 1 else f"chain {numbers}"


def finite_or(engine: Engine, positions: Tensor, before: Tensor) -> Tensor:
    """``positions``, or ``before`` for chains with a log density or gradient that is not finite."""
    value, grad = engine.gradient(positions)
    good = torch.isfinite(value) & torch.isfinite(grad).all(1)
    return torch.where(good[:, None], positions, before)


def density_at(density: Density, position: Tensor) -> Tensor:
    """The log density at one position; nan if a matrix factorisation fails, as on every tier."""
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            return density(position)
    except torch.linalg.LinAlgError:
        return position.new_tensor(torch.nan)


class _Initialiser(DrawFlatPriors):
    """Draws a start of every latent site by one of Pyro's initialisation functions."""

    def __init__(self, density: Density, name: str) -> None:
        super().__init__()
        self.initial, self.wanted = INITS[name], {s.name for s in density.sites}
        self.values: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.wanted:
            return
        super()._pyro_sample(msg)
        if msg["value"] is None:
            msg["value"] = self.initial(msg)
        self.values[msg["name"]] = msg["value"].detach()
