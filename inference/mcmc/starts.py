"""Where chains start: the prior, modes, or draws of another posterior."""

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from posterity.inference.engine.density import Density, StartMessenger
from posterity.inference.engine.tiers import Engine
from posterity.inference.posterior import Posterior
from posterity.inference.program import child_seeds, seeded
from posterity.models.guides import INITS

Init = str | Mapping[str, Tensor] | Posterior
NAMES = ("map", *INITS)
TRIES = 20


def check_init(init: Any) -> None:
    if isinstance(init, str) and init not in NAMES:
        raise ValueError(f"expected init from {list(NAMES)}, values of the sites, or a Posterior, got {init!r}")
    if not isinstance(init, str | Mapping | Posterior):
        raise ValueError(f"expected init as a name, values of the sites, or a Posterior, got {type(init).__name__}")


def start(density: Density, init: Init, chains: int, seed: int) -> Tensor:
    """Positions (chain, dim) in unconstrained space; "map" starts from the prior, see `ascend`.

    Draws of a `Posterior`, or values (draw, ...) of every site, are taken evenly spaced, repeated where there are
    too few. Raises ``ValueError`` where they do not fit the model.
    """
    if isinstance(init, str):
        name = "prior" if init == "map" else init
        # Each chain from a seed of its own, so that it starts there whatever runs beside it.
        return torch.stack([_drawn(density, name, s) for s in child_seeds(seed, chains)])
    if isinstance(init, Posterior):
        values = {name: value.flatten(0, 1) for name, value in init.draws.items()}
    else:
        values = {s.name: torch.as_tensor(init[s.name]) for s in density.sites if s.name in init}
        values = {
            s.name: v if v.ndim > len(s.shape) else v[None]
            for s in density.sites
            if (v := values.get(s.name)) is not None
        }
    positions = density.unconstrain(values).detach()
    return positions[torch.linspace(0, len(positions) - 1, chains).round().long()].clone()


def _drawn(density: Density, name: str, seed: int) -> Tensor:
    for attempt in range(TRIES):
        with seeded(seed + attempt), torch.no_grad():
            messenger = _Initialiser(density, name)
            with messenger:
                density.model(*density.args)
        position = density.unconstrain(messenger.values)
        if bool(torch.isfinite(density_at(density, position))):
            break
    return position


def density_at(density: Density, position: Tensor) -> Tensor:
    with torch.no_grad(), pyro.validation_enabled(False):
        return density(position)


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
