"""A network that reads the true positions, compared with the exact distribution of the corridor."""

import math
from pathlib import Path

import numpy as np
import torch
from _report import save_arrays
from scipy.stats import binomtest
from torch import Tensor

from _world.networks import cue_of, load
from _world.settings import CORRIDORS, HISTORY, HORIZONS, Settings, seed_of
from posterity.data import Episodes
from posterity.inference.diagnostics import component_information, pit, pull_summary, pulls, uniformity_test
from posterity.models.dreaming import Dreams, branches, dream
from posterity.models.mixtures import Mixture
from posterity.models.recurrent import MixtureRNN

FORK = CORRIDORS["fork"]
MIDDLE = (FORK.size - 1) / 2
WALL = FORK.junction + 1  # the first step whose row depends on the branch; between the branches is the wall
TAUS = (0.25, 0.5, 1.0, 2.0)


def predicted(net: MixtureRNN, episodes: Episodes) -> Mixture:
    """The distribution of the positions of the steps from 1 on, batch shape (N, T - 1)."""
    z, cue = episodes.positions, cue_of(FORK, episodes)
    return net.next_state(net(z[:, :-1], cue[:, :-1])[0])


def dreams_of(
    net: MixtureRNN, corridor: str, cue: int, n: int, settings: Settings, purpose: str, temperature: float = 1.0
) -> Dreams:
    """n dreams of the steps from 1 on; each begins with the first position of another episode."""
    world = CORRIDORS[corridor]
    episodes = world.simulate(n, cue=cue, seed=seed_of(settings, f"{purpose}: episodes", cue))
    context = cue_of(world, episodes)
    return dream(
        net, episodes.positions[:, :1], context[:, :1], steps=world.size - 1, future=context[:, 1:],
        temperature=temperature, seed=seed_of(settings, f"{purpose}: dreams", cue),
    )  # fmt: skip


@torch.no_grad()
def density(settings: Settings, out: Path) -> dict[str, float]:
    """Excess of the negative log likelihood, mass of the branches, and PIT values at and away from the junction."""
    net = load("positions", "five", settings, out)
    fresh = FORK.simulate(settings.episodes, seed=seed_of(settings, "density"))
    excess = FORK.log_prob(fresh.positions, fresh.cue)[:, 1:] - predicted(net, fresh).log_prob(fresh.positions[:, 1:])
    each = excess.double().mean(1)
    found = {"true.nll_excess": float(each.mean()), "true.nll_excess_se": float(each.std()) / math.sqrt(len(each))}
    wall = predicted(net, fresh)[:, WALL - 1].marginal(1)
    mass = wall.cdf(torch.full((len(fresh),), MIDDLE))
    for cue, truth in enumerate(FORK.up):
        found |= {f"branch.{cue}.mass": float(mass[fresh.cue == cue].mean()), f"branch.{cue}.truth": truth}
    found["branch.error_max"] = max(abs(found[f"branch.{cue}.mass"] - p) for cue, p in enumerate(FORK.up))
    few = FORK.simulate(settings.pit_episodes, seed=seed_of(settings, "pit"))
    rows = torch.arange(len(few))
    random = torch.Generator().manual_seed(seed_of(settings, "pit: steps"))
    others = torch.tensor([step for step in range(1, FORK.size) if step != WALL])
    away = others[torch.randint(len(others), (len(few),), generator=random)]
    for name, step in (("junction", torch.full_like(away, WALL)), ("away", away)):
        mixture = predicted(net, few)[rows, step - 1].marginal(1)
        found[f"pit.{name}.p_value"] = float(uniformity_test(pit(mixture, few.positions[rows, step, 1])).p_value)
    return found


@torch.no_grad()
def dreamed(settings: Settings, out: Path) -> dict[str, float]:
    """How often dreams take the upper branch, and a binomial test against the truth."""
    net, found, p_values = load("positions", "five", settings, out), {}, []
    for cue, truth in enumerate(FORK.up):
        rows = dreams_of(net, "fork", cue, settings.dreams, settings, "dreamed").states[..., 1]
        up = int((rows[:, -1] < MIDDLE).sum())
        p_values.append(float(binomtest(up, settings.dreams, truth).pvalue))
        found |= {f"dream.{cue}.frequency": up / settings.dreams, f"dream.{cue}.binomial_p": p_values[-1]}
    return found | {"dream.binomial_p": min(1.0, len(p_values) * min(p_values))}  # Bonferroni


@torch.no_grad()
def between(settings: Settings, out: Path) -> dict[str, float]:
    """Where networks of one, two and five components see the ball at the wall, if both branches are equally likely."""
    found: dict[str, float] = {}
    drawn = {"truth": FORK.simulate(settings.dreams, cue=1, seed=seed_of(settings, "wall")).positions[:, WALL, 1]}
    for name, key in (("one", "k1"), ("two", "k2"), ("five", "k5")):
        net = load("positions", name, settings, out)
        episodes = FORK.simulate(settings.episodes, cue=1, seed=seed_of(settings, "between"))
        wall = predicted(net, episodes)[:, WALL - 1]
        centres, weights = wall.component_distribution.mean[..., 1], wall.log_weights.exp()
        off = (centres - MIDDLE).abs().masked_fill(weights < 0.02, math.inf).amin(1)
        found[f"{key}.offset_px"] = float(off.median())
        found[f"{key}.mean_px"] = float((wall.mean[:, 1] - MIDDLE).mean().abs())
        drawn[key] = dreams_of(net, "fork", 1, settings.dreams, settings, "between").states[:, WALL - 1, 1]
    for name, rows in drawn.items():
        inside = (rows - MIDDLE).abs() < (MIDDLE - float(FORK.rows[0, WALL])) - 5 * FORK.jitter
        found[f"{name}.between"] = float(inside.double().mean())
    save_arrays(out / "wall.npz", **drawn)
    return found


@torch.no_grad()
def information(settings: Settings, out: Path) -> dict[str, float]:
    """Does the component that fires at the wall tell where the dream ends?

    The half in which a dream ends is that above or below the expected row. In the corridor that forks it is the branch;
    in the control it is jitter alone.
    """
    found: dict[str, float] = {}
    for name, corridor in (("five", "fork"), ("sure", "sure")):
        net, world = load("positions", name, settings, out), CORRIDORS[corridor]
        dreams = dreams_of(net, corridor, 1, settings.information_dreams, settings, "information")
        expected = float(world.path_probabilities(torch.tensor([1]))[0] @ world.rows[:, -1])
        half = (dreams.states[:, -1, 1] < expected).long()
        fired = dreams.components[:, WALL - 1]
        result = component_information(fired, half, permutations=settings.permutations, seed=settings.seed)
        prefix = "information." + ("" if corridor == "fork" else "control_")
        found |= {f"{prefix}nats": float(result.information), f"{prefix}p_value": float(result.p_value)}
        if corridor == "fork":
            save_arrays(out / "activity.npz", components=dreams.components, half=half)
    return found


@torch.no_grad()
def temperature(settings: Settings, out: Path) -> dict[str, float]:
    """Branches of dreams at several temperatures against p^(1/tau) / sum, for one component in each branch."""
    net, errors = load("positions", "two", settings, out), []
    for tau in TAUS:
        for cue, p in enumerate(FORK.up):
            dreams = dreams_of(net, "fork", cue, settings.dreams, settings, f"temperature {tau}", tau)
            share = float((dreams.states[:, WALL - 1, 1] < MIDDLE).double().mean())
            law = p ** (1 / tau) / (p ** (1 / tau) + (1 - p) ** (1 / tau))
            errors.append(abs(share - law))
    return {"temperature.max_error": max(errors)}


@torch.no_grad()
def tree(settings: Settings, out: Path) -> dict[str, float]:
    """Two junctions: probabilities of the tree of components beside frequencies of dreams and the truth."""
    net, world = load("positions", "forks", settings, out), CORRIDORS["forks"]
    ends = world.rows[:, -1]

    def path(rows: Tensor) -> Tensor:
        return (rows[:, None] - ends).abs().argmin(1)

    errors, truths = [], []
    for cue in range(len(world.up)):
        dreams = dreams_of(net, "forks", cue, settings.dreams, settings, "tree").states
        share = path(dreams[:, -1, 1]).bincount(minlength=len(ends)) / len(dreams)
        first = world.simulate(1, cue=cue, seed=seed_of(settings, "tree: first", cue))
        context = cue_of(world, first)
        found = branches(net, first.positions[:, :1], context[:, :1], steps=world.size - 1, future=context[0, 1:])
        chance = torch.zeros(len(ends)).index_add(0, path(found.states[:, -1, 1]), found.probabilities)
        errors.append(float((chance - share).abs().max()))
        truths.append(float((chance - world.path_probabilities(torch.tensor([cue]))[0]).abs().max()))
        if cue == 0:
            save_arrays(
                out / "tree.npz", rows=found.states[..., 1], chance=found.probabilities, share=share,
                dreams=dreams[:200, :, 1],
            )  # fmt: skip
    return {"tree.error_max": max(errors), "tree.truth_error_max": max(truths)}


@torch.no_grad()
def horizon(settings: Settings, out: Path) -> dict[str, float]:
    """Pulls and coverage of rows that were dreamed 1, 4, 8 and 12 steps ahead."""
    net = load("positions", "five", settings, out)
    fresh = FORK.simulate(settings.horizon_episodes, seed=seed_of(settings, "horizon"))
    past, context, ahead = fresh.positions[:, :HISTORY], cue_of(FORK, fresh), max(HORIZONS)
    future = context[:, HISTORY : HISTORY + ahead]
    rows = []
    for number in range(settings.horizon_dreams):
        seed = seed_of(settings, "horizon: dreams", number)
        rows.append(dream(net, past, context[:, :HISTORY], steps=ahead, future=future, seed=seed).states[..., 1])
    return horizon_metrics("horizon_true", torch.stack(rows), fresh.positions[:, HISTORY:, 1], settings)


def horizon_metrics(prefix: str, rows: Tensor, truth: Tensor, settings: Settings) -> dict[str, float]:
    """Width of the gaussianised pulls and coverage of central 90 % intervals, from draws (S, N, steps)."""
    found: dict[str, float] = {}
    for step in HORIZONS:
        drawn, at = rows[..., step - 1], truth[:, step - 1]
        summary = pull_summary(pulls(drawn, at, seed=settings.seed))
        values = pit(drawn, at, seed=settings.seed)["pit"].to_numpy()
        inside = np.mean(np.abs(values - 0.5) <= 0.45)
        found |= {
            f"{prefix}.{step}.pull_width": float(summary.width),
            f"{prefix}.{step}.pull_width_se": float(summary.width_se),
            f"{prefix}.{step}.coverage90": float(inside),
        }
    return found
