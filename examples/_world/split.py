"""Noise of the jitter, ambiguity at the junction, and lack of data in a corridor that was never seen."""

from pathlib import Path

import numpy as np
import torch
from _report import save_arrays

from _world.networks import cue_of, load, position_network
from _world.positions import FORK, WALL
from _world.settings import CORRIDORS, Settings, test_seed
from posterity.inference import SVI, Ensemble, Posterior, infer
from posterity.inference.diagnostics import uncertainty_split
from posterity.models.recurrent import last_layer_pair, sequence_pair

TERMS = ("noise", "ambiguity", "epistemic")
EPISODES = 300  # of each corridor, to average over


def fitted(method: str, settings: Settings, out: Path) -> Posterior:
    """A posterior from a table of few episodes: an ensemble, or the last layer of the trained network."""
    table = FORK.simulate(settings.table_episodes, seed=settings.seed + 3)
    z, cue = table.positions, cue_of(FORK, table)
    data = (z[:, :-1], cue[:, :-1], table.mask[:, 1:], z[:, 1:])
    if method == "ensemble":
        pair = sequence_pair(position_network("five", settings))
        way = Ensemble(
            members=settings.members, steps=settings.member_steps, learning_rate=1e-2, holdout=0.1,
            batch_size=min(64, settings.table_episodes // 2),
            behind="keep",
        )  # fmt: skip
        return infer(pair, *data, method=way, seed=settings.seed)
    pair = last_layer_pair(load("positions", "five", settings, out))
    return infer(pair, *data, method=SVI(steps=settings.member_steps, learning_rate=1e-2), seed=settings.seed)


def three_terms(method: str, settings: Settings, out: Path) -> dict[str, float]:
    """The split of the variance of the next row, in pixels squared, by step and corridor."""
    torch.set_num_threads(1)
    posterior, found, kept = fitted(method, settings, out), {}, {}
    for corridor in ("fork", "unseen"):
        world = CORRIDORS[corridor]
        fresh = world.simulate(EPISODES, seed=test_seed(settings, 160))
        cue = cue_of(world, fresh)
        predicted = posterior.predictive(fresh.positions[:, :-1], cue[:, :-1], fresh.mask[:, 1:])
        steps = [uncertainty_split(predicted[:, step].marginal(1)).mean("obs") for step in range(world.size - 1)]
        kept[corridor] = np.array([[float(step[term]) for step in steps] for term in TERMS])
        wall = world.junction + 1
        for term, values in zip(TERMS, kept[corridor], strict=True):
            away = np.delete(values, wall - 1)
            found[f"{method}.{corridor}.{term}"] = float(values.mean())
            found[f"{method}.{corridor}.{term}_wall"] = float(values[wall - 1])
            found[f"{method}.{corridor}.{term}_away"] = float(away.mean())
    save_arrays(out / f"split-{method}.npz", **kept)
    found[f"{method}.exact_noise"] = FORK.jitter**2
    found[f"{method}.exact_ambiguity_wall"] = float(
        np.mean([4 * p * (1 - p) * float(FORK.rows[1, WALL] - FORK.rows[0, WALL]) ** 2 / 4 for p in FORK.up])
    )
    return found
