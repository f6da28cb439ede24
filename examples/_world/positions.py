"""A network that reads the true positions, compared with the exact distribution of the corridor."""

import math
from pathlib import Path

import numpy as np
import torch
from _report import save_arrays
from scipy.stats import binomtest
from torch import Tensor

from _world.networks import cue_of, load
from _world.settings import CORRIDORS, HISTORY, HORIZONS, Settings, test_seed
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


def dreams_of(net: MixtureRNN, corridor: str, cue: int, n: int, seed: int, temperature: float = 1.0) -> Dreams:
    """n dreams of the steps from 1 on; each begins with the first position of another episode."""
    world = CORRIDORS[corridor]
    episodes = world.simulate(n, cue=cue, seed=seed)
    start, context = episodes.positions[:, :1], cue_of(world, episodes)[:, :1]
    return dream(net, start, context, steps=world.size - 1, temperature=temperature, seed=seed)


@torch.no_grad()
def density(settings: Settings, out: Path) -> dict[str, float]:
    """Excess of the negative log likelihood, mass of the branches, and PIT values at and away from the junction."""
    net = load("positions", "five", settings, out)
    fresh = FORK.simulate(settings.episodes, seed=test_seed(settings, 0))
    excess = FORK.log_prob(fresh.positions, fresh.cue)[:, 1:] - predicted(net, fresh).log_prob(fresh.positions[:, 1:])
    each = excess.double().mean(1)
    found = {"true.nll_excess": float(each.mean()), "true.nll_excess_se": float(each.std()) / math.sqrt(len(each))}
    wall = predicted(net, fresh)[:, WALL - 1].marginal(1)
    mass = wall.cdf(torch.full((len(fresh),), MIDDLE))
    for cue, truth in enumerate(FORK.up):
        found |= {f"branch.{cue}.mass": float(mass[fresh.cue == cue].mean()), f"branch.{cue}.truth": truth}
    found["branch.error_max"] = max(abs(found[f"branch.{cue}.mass"] - p) for cue, p in enumerate(FORK.up))
    few = FORK.simulate(settings.pit_episodes, seed=test_seed(settings, 1))
    rows = torch.arange(len(few))
    random = torch.Generator().manual_seed(test_seed(settings, 1))
    others = torch.tensor([step for step in range(1, FORK.size) if step != WALL])
    away = others[torch.randint(len(others), (len(few),), generator=random)]
    values = {}
    for name, step in (("junction", torch.full_like(away, WALL)), ("away", away)):
        mixture = predicted(net, few)[rows, step - 1].marginal(1)
        values[name] = pit(mixture, few.positions[rows, step, 1])
        found[f"pit.{name}.p_value"] = float(uniformity_test(values[name]).p_value)
    save_arrays(out / "pit.npz", **{name: part["pit"] for name, part in values.items()})
    return found


@torch.no_grad()
def dreamed(settings: Settings, out: Path) -> dict[str, float]:
    """How often dreams take the upper branch, and a binomial test against the truth."""
    net, found, p_values = load("positions", "five", settings, out), {}, []
    for cue, truth in enumerate(FORK.up):
        rows = dreams_of(net, "fork", cue, settings.dreams, test_seed(settings, 10 + cue)).states[..., 1]
        up = int((rows[:, -1] < MIDDLE).sum())
        p_values.append(float(binomtest(up, settings.dreams, truth).pvalue))
        found |= {f"dream.{cue}.frequency": up / settings.dreams, f"dream.{cue}.binomial_p": p_values[-1]}
        if cue == 1:
            save_arrays(out / "dreams.npz", rows=rows[:400])
    return found | {"dream.binomial_p": min(1.0, len(p_values) * min(p_values))}  # Bonferroni


@torch.no_grad()
def between(settings: Settings, out: Path) -> dict[str, float]:
    """Where networks of one, two and five components see the ball at the wall, if both branches are as likely."""
    found: dict[str, float] = {}
    drawn = {"truth": FORK.simulate(settings.dreams, cue=1, seed=test_seed(settings, 20)).positions[:, WALL, 1]}
    for name, key in (("one", "k1"), ("two", "k2"), ("five", "k5")):
        net = load("positions", name, settings, out)
        episodes = FORK.simulate(settings.episodes, cue=1, seed=test_seed(settings, 21))
        wall = predicted(net, episodes)[:, WALL - 1]
        centres, weights = wall.component_distribution.mean[..., 1], wall.log_weights.exp()
        off = (centres - MIDDLE).abs().masked_fill(weights < 0.02, math.inf).amin(1)
        found[f"{key}.offset_px"] = float(off.median())
        found[f"{key}.mean_px"] = float((wall.mean[:, 1] - MIDDLE).mean().abs())
        drawn[key] = dreams_of(net, "fork", 1, settings.dreams, test_seed(settings, 22)).states[:, WALL - 1, 1]
    for name, rows in drawn.items():
        far = (rows[:, None] - FORK.rows[:, WALL]).abs().amin(1) > 5 * FORK.jitter
        found[f"{name}.between"] = float(far.double().mean())
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
        dreams = dreams_of(net, corridor, 1, settings.information_dreams, test_seed(settings, 30))
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
    net, errors, shares = load("positions", "two", settings, out), [], []
    for tau in TAUS:
        for cue, p in enumerate(FORK.up):
            seed = test_seed(settings, 40 + cue)
            rows = dreams_of(net, "fork", cue, settings.dreams, seed, tau).states[:, WALL - 1, 1]
            shares.append(float((rows < MIDDLE).double().mean()))
            law = p ** (1 / tau) / (p ** (1 / tau) + (1 - p) ** (1 / tau))
            errors.append(abs(shares[-1] - law))
    save_arrays(out / "temperature.npz", share=np.reshape(shares, (len(TAUS), -1)), tau=np.array(TAUS))
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
        dreams = dreams_of(net, "forks", cue, settings.dreams, test_seed(settings, 50 + cue)).states
        share = path(dreams[:, -1, 1]).bincount(minlength=len(ends)) / len(dreams)
        first = world.simulate(1, cue=cue, seed=test_seed(settings, 60 + cue))
        found = branches(net, first.positions[:, :1], cue_of(world, first)[:, :1], steps=world.size - 1)
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
    fresh = FORK.simulate(settings.horizon_episodes, seed=test_seed(settings, 70))
    past, context = fresh.positions[:, :HISTORY], cue_of(FORK, fresh)[:, :HISTORY]
    rows = [
        dream(net, past, context, steps=max(HORIZONS), seed=test_seed(settings, 71) + number).states[..., 1]
        for number in range(settings.horizon_dreams)
    ]
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
