"""The networks of ``world_model.py``: construction, training and loading."""

import math
from pathlib import Path
from typing import Any

import torch
from _parts import finished, tag
from torch import Tensor, nn

from _world.settings import CORRIDORS, Settings
from posterity.data import Corridor, Episodes
from posterity.data.corridor import MOVES
from posterity.files import read_tensors, write_tensors
from posterity.inference.training.streaming import fit_stream
from posterity.models.autoencoder import Autoencoder
from posterity.models.recurrent import MixtureRNN, sequence_loss

# Networks of the true positions: the corridor and the number of components (0: that of the settings).
POSITIONS = {"five": ("fork", 0), "two": ("fork", 2), "one": ("fork", 1), "sure": ("sure", 0), "forks": ("forks", 0)}
# Networks of latents: the corridor, the kind of weights, and whether episodes end early.
LATENTS = {
    "shared": ("fork", "shared", False),
    "per_dimension": ("fork", "per_dimension", False),
    "player": ("blocks", "shared", True),
}
PIXEL_FLOOR = 0.03  # of the standard deviation of a pixel
FREE_BITS = 0.02  # nats in each latent
ANNEALED = 0.6  # the share of training in which the components of a network of positions become free
WIDE = 1.0  # lower bound of their scales at the start, in standard deviations of the positions
EVEN = 0.3  # factor of the entropy of their weights at the start
WARMUP = 0.3  # the share of training in which the weight of the divergence rises


def position_network(name: str, settings: Settings) -> MixtureRNN:
    corridor, components = POSITIONS[name]
    cues = len(CORRIDORS[corridor].up)
    net = MixtureRNN(2, cues, hidden=settings.hidden, components=components or settings.components, seed=settings.seed)
    return net.standardised(CORRIDORS[corridor].simulate(1000, seed=settings.seed).positions)


def cue_of(corridor: Corridor, episodes: Episodes) -> Tensor:
    """The cue as the context (N, T, cues) of the first step, as in the frames; zeros in the others."""
    shown = torch.zeros(*episodes.positions.shape[:2], len(corridor.up))
    shown[:, 0] = nn.functional.one_hot(episodes.cue, len(corridor.up)).float()
    return shown


class _Annealed(nn.Module):
    """A mixture network whose components start wide and equally probable, and become free within ``steps`` steps.

    Without this deterministic annealing (Rose 1998, Proc. IEEE 86, 2210) one component takes over while the ball moves
    straight on; the others have no weight when the corridor forks, and no gradient. The loss is the negative log
    likelihood with a lower bound of the scales that falls, less the entropy of the weights times a factor that falls
    to 0. The number of steps is a buffer, so it is in the checkpoint.
    """

    def __init__(self, net: MixtureRNN, steps: float) -> None:
        super().__init__()
        self.net, self.steps, self.floor = net, steps, net.head.floor
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, z: Tensor, context: Tensor) -> Tensor:
        left = max(0.0, 1 - float(self.seen) / self.steps)
        self.seen += 1
        self.net.head.floor = self.floor * (WIDE / self.floor) ** left
        mixture = self.net.next_state(self.net(z[:, :-1], context[:, :-1])[0])
        entropy = -(mixture.log_weights.exp() * mixture.log_weights).sum(-1)
        return -(mixture.log_prob(z[:, 1:]) + EVEN * left * entropy).mean()


def train_positions(name: str, settings: Settings, out: Path) -> dict[str, float]:
    """Maximum likelihood on true positions; every batch is new."""
    torch.set_num_threads(1)
    corridor, net = CORRIDORS[POSITIONS[name][0]], position_network(name, settings)
    annealed = _Annealed(net, ANNEALED * settings.position_steps)

    def loss(episodes: Episodes) -> Tensor:
        return annealed.loss(episodes.positions, cue_of(corridor, episodes))

    return _trained(
        annealed, lambda random: corridor.simulate(settings.batch, seed=random), loss, settings.position_steps, 1e-2,
        f"positions-{name}", settings, out, net,
    )  # fmt: skip


def latents_of(corridor: str, settings: Settings) -> int:
    """The number of latents of a frame; with blocks, there is more to see."""
    return settings.player_latent if corridor == "blocks" else settings.latent


def picture_network(corridor: str, settings: Settings) -> Autoencoder:
    size = CORRIDORS[corridor].size
    return Autoencoder(
        (1, size, size), latents_of(corridor, settings), width=settings.width, floor=PIXEL_FLOOR, seed=settings.seed
    )


def train_pictures(name: str, settings: Settings, out: Path) -> dict[str, float]:
    """An autoencoder of the frames of a corridor, with free bits and a warm-up; then its codes of new episodes."""
    torch.set_num_threads(1)
    corridor, net = CORRIDORS[name], picture_network(name, settings)
    warm = _WarmUp(net, WARMUP * settings.picture_steps)

    def draw(random: torch.Generator) -> tuple[Tensor, torch.Generator]:
        """Eight frames of each episode; the first, which shows the cue, is always among them."""
        episodes = corridor.simulate(settings.batch // 8, seed=random)
        steps = torch.randint(corridor.size, (len(episodes), 8), generator=random)
        steps[:, 0] = 0
        return corridor.frames(episodes)[torch.arange(len(episodes))[:, None], steps].flatten(0, 1), random

    metrics = _trained(warm, draw, warm.loss, settings.picture_steps, 5e-3, f"pictures-{name}", settings, out, net)
    episodes = corridor.simulate(settings.encoded_episodes, seed=settings.seed + 1)
    mean, scale = codes(net, corridor, episodes)
    content = {"mean": mean, "scale": scale, "actions": episodes.actions, "done": episodes.done, "mask": episodes.mask}
    write_tensors(content, out / f"codes-{name}.pt")
    return metrics | {"pixel_sd": float(net.scale.detach())}


class _WarmUp(nn.Module):
    """An autoencoder whose divergence has a weight that rises from 0 to 1 within ``steps`` steps.

    The number of steps is a buffer, so it is in the checkpoint.
    """

    def __init__(self, net: Autoencoder, steps: float) -> None:
        super().__init__()
        self.net, self.steps = net, steps
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch: tuple[Tensor, torch.Generator]) -> Tensor:
        self.seen += 1
        pictures, random = batch
        return self.net.loss(
            pictures, beta=min(1.0, float(self.seen) / self.steps), free_bits=FREE_BITS, generator=random
        )


@torch.no_grad()
def codes(net: Autoencoder, corridor: Corridor, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (N, T, D) of the latents of all frames."""
    frames = corridor.frames(episodes).flatten(0, 1).split(4096)
    mean, scale = (torch.cat(parts) for parts in zip(*map(net.encode, frames), strict=True))
    return mean.unflatten(0, (len(episodes), -1)), scale.unflatten(0, (len(episodes), -1))


def sampled_codes(mean: Tensor, scale: Tensor, seed: int | torch.Generator) -> Tensor:
    random = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    return mean + scale * torch.randn(mean.shape, generator=random)


def moves(actions: Tensor) -> Tensor:
    """Actions as context: (..., 3)."""
    return nn.functional.one_hot(actions, len(MOVES)).float()


def latent_network(name: str, settings: Settings) -> MixtureRNN:
    corridor, weights, plays = LATENTS[name]
    return MixtureRNN(
        latents_of(corridor, settings), len(MOVES) if plays else 0, hidden=settings.latent_hidden,
        components=settings.components, weights=weights, ends=plays,
        covariance="full" if weights == "shared" else "diagonal",
        span=CORRIDORS[corridor].size, seed=settings.seed,
    )  # fmt: skip


def train_latents(name: str, settings: Settings, out: Path) -> dict[str, float]:
    """Maximum likelihood on latents, drawn anew from the encoder's posterior in every batch."""
    torch.set_num_threads(1)
    corridor, _, plays = LATENTS[name]
    bank = read_tensors(out / f"codes-{corridor}.pt", "codes of episodes")
    net = latent_network(name, settings).standardised(bank["mean"])

    def draw(random: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(bank["mean"]), (settings.latent_batch,), generator=random)
        return sampled_codes(bank["mean"][rows], bank["scale"][rows], random), rows

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        z, rows = batch
        context = moves(bank["actions"][rows, :-1]) if plays else None
        done = bank["done"][rows, 1:] if plays else None
        return sequence_loss(net, z[:, :-1], context, bank["mask"][rows, 1:], z[:, 1:], done)

    return _trained(net, draw, loss, settings.latent_steps, 1e-2, f"latents-{name}", settings, out, net)


def load(kind: str, name: str, settings: Settings, out: Path) -> Any:
    """The network of this ``kind`` ("positions", "pictures" or "latents") with the weights of this run."""
    makers: dict[str, Any] = {"positions": position_network, "pictures": picture_network, "latents": latent_network}
    net = makers[kind](name, settings)
    net.load_state_dict(read_tensors(out / f"{kind}-{name}.pt", "weights of a network"))
    return net.eval().requires_grad_(False)


def _trained(
    module: nn.Module, draw: Any, loss: Any, steps: int, rate: float, name: str, settings: Settings, out: Path,
    net: nn.Module,
) -> dict[str, float]:  # fmt: skip
    """Train a module with a checkpoint, store the weights of its part ``net``, and return last loss and seconds."""
    training = fit_stream(
        module, draw, loss, steps=steps, learning_rate=rate, warmup=min(100, steps // 5), seed=settings.seed,
        checkpoint=out / f"{name}-{tag(settings)}.checkpoint",
    )  # fmt: skip
    finished(training)
    write_tensors(net.state_dict(), out / f"{name}.pt")
    return {"loss": training.loss[-1] if training.loss else math.nan, "fit_seconds": training.seconds}
