"""A controller that is trained in dreams by an evolution strategy, and tested in the corridor with blocks.

As in Ha & Schmidhuber (2018, section 2.3): a linear map from the latents of a frame and the memory of the network to
scores of the actions. It is trained by CMA-ES (Hansen 2016, arXiv:1604.00772) to survive in dreams.
"""

from pathlib import Path

import cma
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from _world.networks import codes, load, moves, sampled_codes
from _world.settings import CORRIDORS, Settings, seed_of
from posterity.data.corridor import MOVES
from posterity.files import read_tensors
from posterity.models.dreaming import dream
from posterity.models.recurrent import MixtureRNN

BLOCKS = CORRIDORS["blocks"]
STILL = MOVES.index(0.0)


class Controllers:
    """C linear controllers (C, P) at once; rows are grouped by controller, with as many episodes for each."""

    def __init__(self, net: MixtureRNN, parameters: Tensor) -> None:
        self.net, width = net, net.targets + net.recurrent.width + 1
        self.weights = parameters.float().reshape(len(parameters), len(MOVES), width)

    @staticmethod
    def size(net: MixtureRNN) -> int:
        return len(MOVES) * (net.targets + net.recurrent.width + 1)

    def __call__(self, state: Tensor, memory: tuple[Tensor, ...]) -> Tensor:
        """Actions (C * N,) for latents (C * N, D) and the memory before them."""
        seen = [(state - self.net.loc) / self.net.scale, memory[0], torch.ones(len(state), 1)]
        features = torch.cat(seen, 1).unflatten(0, (len(self.weights), -1))
        return (features @ self.weights.mT).argmax(-1).flatten()


@torch.no_grad()
def survival(controllers: Controllers, starts: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """The share of dreams (C,) that do not end before the last step; starts (N, 1, D) are the same for all."""
    net, count = controllers.net, len(controllers.weights)
    first = starts.repeat(count, 1, 1)
    empty = tuple(torch.zeros(len(first), net.recurrent.width) for _ in range(2))
    action = moves(controllers(first[:, 0], empty))
    dreams = dream(
        net, first, action[:, None], steps=BLOCKS.size - 2, temperature=temperature,
        future=lambda state, memory: moves(controllers(state, memory)), seed=random,
    )  # fmt: skip
    return 1 - dreams.ended[:, -1].double().unflatten(0, (count, -1)).mean(1)


def train_controller(temperature: float, number: int, settings: Settings, out: Path) -> tuple[Tensor, float]:
    """The controller at the centre of the search distribution of CMA-ES, and its survival in dreams."""
    net = load("latents", "player", settings, out)
    bank = read_tensors(out / "codes-blocks.pt", "codes of episodes")
    random = torch.Generator().manual_seed(1000 * settings.seed + number)
    normal = np.random.default_rng(1000 * settings.seed + number)
    options = {
        "popsize": settings.population, "verbose": -9, "seed": np.nan,
        "randn": lambda *shape: normal.standard_normal(shape),
    }  # fmt: skip
    strategy = cma.CMAEvolutionStrategy(np.zeros(Controllers.size(net)), 0.1, options)
    for _ in tqdm(range(settings.generations), desc=f"temperature {temperature:g}, {number}", disable=None):
        candidates = strategy.ask()
        rows = torch.randint(len(bank["mean"]), (settings.starts,), generator=random)
        starts = sampled_codes(bank["mean"][rows, :1], bank["scale"][rows, :1], random)
        alive = survival(Controllers(net, torch.as_tensor(np.array(candidates))), starts, temperature, random)
        strategy.tell(candidates, (1 - alive).tolist())
    best = torch.as_tensor(strategy.result.xfavorite)[None]
    fresh = BLOCKS.simulate(1000, seed=seed_of(settings, "dreamed score"))
    mean, scale = codes(load("pictures", "blocks", settings, out), BLOCKS, fresh)
    starts = sampled_codes(mean[:, :1], scale[:, :1], random)
    return best, float(survival(Controllers(net, best), starts, temperature, random))


@torch.no_grad()
def score(controller: Tensor, settings: Settings, out: Path) -> float:
    """The share of real episodes in which the ball arrives."""
    net, pictures = load("latents", "player", settings, out), load("pictures", "blocks", settings, out)
    controllers, memory = Controllers(net, controller), None
    random = torch.Generator().manual_seed(seed_of(settings, "played: codes"))

    def policy(frames: Tensor) -> Tensor:
        nonlocal memory
        state = sampled_codes(*pictures.encode(frames), random)
        seen = memory or tuple(torch.zeros(len(state), net.recurrent.width) for _ in range(2))
        action = controllers(state, seen)
        _, memory = net(state[:, None], moves(action)[:, None], memory)
        return action

    return float(BLOCKS.play(policy, settings.played_episodes, seed=seed_of(settings, "played")).rewards[:, -1].mean())


def scores(temperature: float, settings: Settings, out: Path) -> dict[str, float]:
    """Scores in the corridor of controllers trained at one temperature: mean over seeds with its error."""
    torch.set_num_threads(1)
    real, dreamt = [], []
    for number in range(settings.controllers):
        controller, alive = train_controller(temperature, number, settings, out)
        dreamt.append(alive)
        real.append(score(controller, settings, out))
    error = float(np.std(real, ddof=1)) / len(real) ** 0.5
    return {"score": float(np.mean(real)), "score_se": error, "dream_score": float(np.mean(dreamt))} | {
        f"seed{number}": value for number, value in enumerate(real)
    }


def references(settings: Settings) -> dict[str, float]:
    """Scores of a player who moves at random, who does not move, and who knows where the block is."""
    n, seed = settings.played_episodes, seed_of(settings, "played")
    random = torch.Generator().manual_seed(seed_of(settings, "random player"))
    drawn = BLOCKS.play(lambda frames: torch.randint(len(MOVES), (n,), generator=random), n, seed=seed)
    still = BLOCKS.play(lambda frames: torch.full((n,), STILL), n, seed=seed)
    away = torch.where(still.obstacle > 0, 0, len(MOVES) - 1)[:, None].expand(-1, BLOCKS.size)
    oracle = BLOCKS.simulate(n, actions=away, seed=seed)
    played = {"random": drawn, "still": still, "oracle": oracle}
    return {f"{name}.score": float(episodes.rewards[:, -1].mean()) for name, episodes in played.items()}
