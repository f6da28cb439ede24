"""Where chains start: the prior, modes, or draws of another posterior."""

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.density import Density
from posterity.inference.engine.tiers import Engine, why_not_finite
from posterity.inference.posterior import Posterior
from posterity.inference.program import TRIES, StartMessenger, child_seeds, seeded
from posterity.models.guides import INITS

Init = str | Mapping[str, Tensor] | Posterior
NAMES = ("map", *INITS)
STARTS = 1  # the purpose of seeds: a start must not be made of the numbers of the first momentum


def check_init(init: Any) -> None:
    if isinstance(init, str) and init not in NAMES:
        raise ValueError(f"expected init from {list(NAMES)}, values of the sites, or a Posterior, got {init!r}")
    if not isinstance(init, str | Mapping | Posterior):
        raise ValueError(f"expected init as a name, values of the sites, or a Posterior, got {type(init).__name__}")


def start(density: Density, init: Init, chains: int, seed: int) -> Tensor:
    """Positions (chain, dim) in unconstrained space; "map" starts from the prior, see `ascend`.

    Draws of a `Posterior`, or values (start, ...) of every site, are taken evenly spaced, repeated where there are
    too few; one value of a site, without that dimension, is that of every start. Raises ``ValueError`` where they do
    not fit the model, or the prior has no start of finite density.
    """
    if isinstance(init, str):
        name = "prior" if init == "map" else init
        # Each chain from a seed of its own, so that it starts there whatever runs beside it.
        return torch.stack([_drawn(density, name, s) for s in child_seeds(seed, chains, STARTS)])
    if isinstance(init, Posterior):
        values: Mapping[str, Any] = {name: value.flatten(0, 1) for name, value in init.draws.items()}
    else:
        values = _values(density, init)
    positions = density.unconstrain(values).detach()
    return positions[torch.linspace(0, len(positions) - 1, chains).round().long()].clone()


def _values(density: Density, init: Mapping[str, Any]) -> dict[str, Tensor]:
    """Values (start, ...) of the sites, as many of each."""
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


def _drawn(density: Density, name: str, seed: int) -> Tensor:
    """A start of finite density. A draw at which the model cannot be run is as good as one of density zero."""
    reason = "no finite log density"
    for attempt in range(TRIES):
        messenger = _Initialiser(density, name)
        try:
            # Unchecked, as the density is: where parameters are not valid it is nan.
            with seeded(seed + attempt), torch.no_grad(), pyro.validation_enabled(False), messenger:
                density.model(*density.args)
            position = density.unconstrain(messenger.values)
            if bool(torch.isfinite(density_at(density, position))):
                return position
            reason = why_not_finite(density, position) or reason
        except (ValueError, torch.linalg.LinAlgError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
    raise ValueError(f"expected init with a finite log density, got none in {TRIES} draws of {name!r} ({reason})")


def density_at(density: Density, position: Tensor) -> Tensor:
    """nan where a factorisation fails, as on every tier."""
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            return density(position)
    except torch.linalg.LinAlgError:
        return position.new_tensor(torch.nan)


class _Initialiser(StartMessenger):
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


def ascend(engine: Engine, positions: Tensor, steps: int = 300, rate: float = 0.05) -> Tensor:
    """Every chain uphill by Adam, to a mode of its own: an ensemble of MAP estimates in one batched computation."""
    q, best = positions.clone(), positions.clone()
    first, second = torch.zeros_like(q), torch.zeros_like(q)
    highest = torch.full((len(q),), -torch.inf, dtype=q.dtype, device=q.device)
    for t in range(1, steps + 1):
        value, grad = engine.gradient(q)
        better = value > highest
        best, highest = torch.where(better[:, None], q, best), torch.where(better, value, highest)
        grad = torch.nan_to_num(grad)
        first, second = 0.9 * first + 0.1 * grad, 0.99 * second + 0.01 * grad**2
        slower = rate * min(1.0, 2 * (1 - t / (steps + 1)))
        q = q + slower * (first / (1 - 0.9**t)) / ((second / (1 - 0.99**t)).sqrt() + 1e-8)
    return best
