"""Noise of the jitter, ambiguity at the junction, and lack of data in a corridor that was never seen.

The networks dream on from what they have seen of an episode. Along every dream the variance of the next row, predicted
by all of them together, is split into its three terms.
"""

from pathlib import Path

import numpy as np
import torch
from _report import save_arrays

from _world.networks import cue_of, load, position_network
from _world.positions import FORK, WALL
from _world.settings import CORRIDORS, HISTORY, Settings, seed_of
from posterity.inference import SVI, Ensemble, Posterior, infer
from posterity.inference.diagnostics import uncertainty_split
from posterity.models.dreaming import dream
from posterity.models.recurrent import MixtureRNN, last_layer_pair, networks_of, sequence_pair

TERMS = ("noise", "ambiguity", "epistemic")
EPISODES = 300  # of each corridor, to average over
SEEN = {"fork": HISTORY, "unseen": CORRIDORS["unseen"].junction + 3}  # steps before the dreams begin
NETWORKS = 5  # that dream


def fitted(method: str, settings: Settings, out: Path) -> tuple[MixtureRNN, Posterior]:
    """A posterior from a table of few episodes: an ensemble, or the last layer of the trained network."""
    table = FORK.simulate(settings.table_episodes, seed=settings.seed + 3)
    z, cue = table.positions, cue_of(FORK, table)
    data = (z[:, :-1], cue[:, :-1], table.mask[:, 1:], z[:, 1:])
    if method == "ensemble":
        net = position_network("five", settings)
        way = Ensemble(
            members=settings.members, steps=settings.member_steps, learning_rate=1e-2, holdout=0.1,
            batch_size=min(64, settings.table_episodes // 2), behind="keep",
        )  # fmt: skip
        return net, infer(sequence_pair(net), *data, method=way, seed=settings.seed)
    net = load("positions", "five", settings, out)
    way = SVI(steps=settings.member_steps, learning_rate=1e-2)
    return net, infer(last_layer_pair(net), *data, method=way, seed=settings.seed)


@torch.no_grad()
def dreamed_on(networks: list[MixtureRNN], corridor: str, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Episodes (N, T, 2), dreamed from step ``SEEN`` on by one network each, and their cue as context."""
    world, seen, parts = CORRIDORS[corridor], SEEN[corridor], []
    fresh = world.simulate(EPISODES, seed=seed_of(settings, f"split: {corridor}"))
    cue = cue_of(world, fresh)
    shares = zip(fresh.positions.tensor_split(len(networks)), cue.tensor_split(len(networks)), strict=True)
    for number, (net, (z, context)) in enumerate(zip(networks, shares, strict=True)):
        dreams = dream(
            net, z[:, :seen], context[:, :seen], steps=world.size - seen, future=context[:, seen:],
            seed=seed_of(settings, f"split: dreams {corridor}", number),
        )  # fmt: skip
        parts.append(torch.cat([z[:, :seen], dreams.states], 1))
    return torch.cat(parts), cue


def three_terms(method: str, settings: Settings, out: Path) -> dict[str, float]:
    """The split of the variance of the next row along dreams, in pixels squared, by step and corridor."""
    torch.set_num_threads(1)
    net, posterior = fitted(method, settings, out)
    every = {name: value.flatten(0, 1) for name, value in posterior.draws.items()}
    count = len(next(iter(every.values())))
    some = torch.linspace(0, count - 1, min(NETWORKS, count)).long()
    networks = networks_of(net, {name: value[None, some] for name, value in every.items()})
    found, kept = {}, {}
    for corridor in SEEN:
        world = CORRIDORS[corridor]
        z, cue = dreamed_on(networks, corridor, settings)
        mask = torch.ones(z.shape[:2], dtype=torch.bool)[:, 1:]
        predicted = posterior.predictive(z[:, :-1], cue[:, :-1], mask, draws=min(50, count))
        steps = [uncertainty_split(predicted[:, step].marginal(1)).mean("obs") for step in range(world.size - 1)]
        kept[corridor] = np.array([[float(step[term]) for step in steps] for term in TERMS])
        for term, values in zip(TERMS, kept[corridor], strict=True):
            dreamt = values[SEEN[corridor] - 1 :]
            found[f"{method}.{corridor}.{term}"] = float(dreamt.mean())
        if corridor == "fork":
            found |= {f"{method}.wall.{term}": float(kept[corridor][row, WALL - 1]) for row, term in enumerate(TERMS)}
    save_arrays(out / f"split-{method}.npz", **kept)
    return found


def exact_terms() -> dict[str, float]:
    """What noise and ambiguity of the next row are in the corridor of training, at the wall."""
    apart = float(FORK.rows[1, WALL] - FORK.rows[0, WALL])
    return {"exact.noise": FORK.jitter**2, "exact.ambiguity": float(np.mean([p * (1 - p) * apart**2 for p in FORK.up]))}
