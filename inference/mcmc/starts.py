"""Where chains start: the prior, modes, or draws of another posterior."""

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

Init = str | Mapping[str, Tensor] | Posterior
NAMES = ("map", *INITS)
TRIES = 100  # draws per chain, the same number as in Stan and Pyro
NAMED = 5  # chains named in a message
STARTS = 1  # purpose of the seeds: the start and the first momentum must not share random numbers


def check_init(init: Any) -> None:
    if isinstance(init, str) and init not in NAMES:
        raise ValueError(f"expected init from {list(NAMES)}, values of the sites, or a Posterior, got {init!r}")
    if not isinstance(init, str | Mapping | Posterior):
        raise ValueError(f"expected init as a name, values of the sites, or a Posterior, got {type(init).__name__}")


def start(density: Density, init: Init, chains: int, seed: int) -> Tensor:
    """Positions (chain, dim) in unconstrained space; "map" starts from the prior, see `climb`.

    For a name, each chain draws until log density and gradient are finite, at most `TRIES` times; "prior" draws every
    site from its prior. If a chain finds no start, it draws from "uniform" instead of "prior", or from "prior"
    instead of another name, and one ``RuntimeWarning`` says so. Draws of a `Posterior`, or values (start, ...) of every
    site, are assigned to chains evenly spaced, and repeated if there are too few; a value without the dimension of
    starts is used for all chains.
    Raises ``ValueError`` if values do not fit the model or have no finite log density and gradient, or if no start was
    found.
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
        raise ValueError(f"expected init with values of the sites {list(sites)}, got others: {unknown}")
    values, counts = {}, {}
    for name, given in init.items():
        try:
            value = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"expected init with numbers for {name!r}, got {type(given).__name__}") from error
        extra = value.ndim - len(sites[name].shape)
        if extra > 1 or (extra == 1 and len(value) == 0):
            shape = ", ".join(map(str, ("starts", *sites[name].shape)))
            raise ValueError(f"expected init of {name!r} of shape ({shape}), one or more, got {tuple(value.shape)}")
        values[name] = value if extra == 1 else value[None]
        counts[name] = len(values[name])
    several = {name: count for name, count in counts.items() if count > 1}
    if len(set(several.values())) > 1:
        raise ValueError(f"expected init with as many starts of every site, got {several}")
    most = max(counts.values(), default=1)
    return {name: value.expand(most, *value.shape[1:]) for name, value in values.items()}


def _by_name(density: Density, name: str, chains: int, seed: int) -> Tensor:
    # Each chain has its own seed, so its start does not depend on the number of chains.
    search = _Search(density, child_seeds(seed, chains, STARTS))
    search.draw(name, 0)
    lost = list(search.missing)
    if not lost:
        return search.positions()
    other = "uniform" if name == "prior" else "prior"
    wanted = "a finite log density and gradient"
    reason = search.reason
    search.draw(other, TRIES)
    if search.missing:
        raise ValueError(
            f"expected init with {wanted}, got none in {TRIES} draws of {name!r} and {TRIES} of {other!r} for "
            f"{_listed(search.missing)} ({search.reason}): give values of the sites as init"
        )
    warnings.warn(
        f"init={name!r} found no start with {wanted} in {TRIES} draws for {_listed(lost)} ({reason}): these start from "
        f"{other!r}",
        RuntimeWarning,
        stacklevel=6,
    )
    return search.positions()


class _Search:
    """Starts with finite density and gradient, one for each seed. A chain with a start is not drawn again."""

    def __init__(self, density: Density, seeds: list[int]) -> None:
        self.density, self.seeds = density, seeds
        self.found: dict[int, Tensor] = {}
        self.error, self.last = "", None

    last: tuple[Tensor, Tensor, Tensor] | None

    @property
    def missing(self) -> list[int]:
        return [chain for chain in range(len(self.seeds)) if chain not in self.found]

    def positions(self) -> Tensor:
        return torch.stack([self.found[chain] for chain in range(len(self.seeds))])

    def draw(self, name: str, first: int) -> None:
        """Make attempts ``first`` to ``first + TRIES - 1`` for the chains without a start."""
        for attempt in range(first, first + TRIES):
            drawn = {
                chain: q for chain in self.missing if (q := self._one(name, self.seeds[chain] + attempt)) is not None
            }
            if drawn:
                self._keep(drawn)
            if not self.missing:
                return

    def _one(self, name: str, seed: int) -> Tensor | None:
        """A draw of one chain; None if the model fails on it, which counts as zero density."""
        messenger = _Initialiser(self.density, name)
        try:
            # Pyro's checks are off, as in the density: invalid parameters give nan.
            unchecked = pyro.validation_enabled(False)
            with seeded(seed), torch.no_grad(), unchecked, messenger, default_dtype(self.density.promoted):
                self.density.model(*self.density.args)
            return self.density.unconstrain(messenger.values)
        except (ValueError, torch.linalg.LinAlgError) as error:
            self.error = str(error).strip().partition("\n")[0] or type(error).__name__
            return None

    def _keep(self, drawn: dict[int, Tensor]) -> None:
        positions = torch.stack(list(drawn.values()))
        value, grad = value_and_gradient(self.density, positions)
        good = torch.isfinite(value) & torch.isfinite(grad).all(1)
        self.found |= {chain: q for chain, q, ok in zip(drawn, positions, good.tolist(), strict=True) if ok}
        if not bool(good.all()):
            self.error, self.last = "", (positions[~good], value[~good], grad[~good])

    @property
    def reason(self) -> str:
        """Why the last draw was rejected."""
        if self.error or self.last is None:
            return self.error
        fault, reason = start_fault(self.density, *(part[:1] for part in self.last))
        return reason or f"expected {fault}"


def _listed(chains: list[int]) -> str:
    shown = ", ".join(str(c) for c in chains[:NAMED]) + (", ..." if len(chains) > NAMED else "")
    return f"{len(chains)} chains ({shown})" if len(chains) > 1 else f"chain {shown}"


def finite_or(engine: Engine, positions: Tensor, before: Tensor) -> Tensor:
    """``positions``; for chains whose log density or gradient is not finite there, ``before``."""
    value, grad = engine.gradient(positions)
    good = torch.isfinite(value) & torch.isfinite(grad).all(1)
    return torch.where(good[:, None], positions, before)


def density_at(density: Density, position: Tensor) -> Tensor:
    """The log density; nan if a matrix factorisation fails, as on every tier."""
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            return density(position)
    except torch.linalg.LinAlgError:
        return position.new_tensor(torch.nan)


class _Initialiser(DrawFlatPriors):
    """One start of every latent site, by Pyro's initialisation functions."""

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
