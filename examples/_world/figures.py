"""Figures of ``world_model.py``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _report import save_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _world.positions import FORK, MIDDLE, WALL
from _world.settings import CORRIDORS, HISTORY, HORIZONS, Settings
from _world.split import SEEN, TERMS

TITLES = {"real": "real", "shared": "dreams, shared weights", "per_dimension": "dreams, weights per dimension"}
LABELS = {"noise": "noise", "ambiguity": "ambiguity", "epistemic": "epistemic (lack of data)"}
TERM_COLOURS = dict(zip(TERMS, ("C7", "C1", "C3"), strict=True))
UPPER = "probability of the upper branch"


def _arrays(work: Path, name: str) -> Any:
    return np.load(work / f"{name}.npz", allow_pickle=False)


def _picture(ax: Axes, frame: np.ndarray, colour: str | None = None) -> None:
    ax.imshow(frame[0], cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(color=colour or "0.6", linewidth=2.5 if colour else 0.5)


def draw_frames(work: Path, out: Path) -> Path:
    """Episodes, and what the autoencoder keeps of them."""
    frames = _arrays(work, "frames")
    steps = (0, 2, 4, 6, 8, 9, 10, 12, 14)
    figure = Figure(figsize=(9.4, 4.7), layout="constrained")
    axes = figure.subplots(4, len(steps))
    for number in range(2):
        for row, kind in enumerate(("frames", "shown")):
            for ax, step in zip(axes[2 * number + row], steps, strict=True):
                _picture(ax, frames[kind][number, step])
                if not row and not number:
                    ax.set_title(f"step {step}", fontsize=9)
            axes[2 * number + row, 0].set_ylabel(("episode", "decoded")[row], fontsize=9)
    figure.suptitle("Two episodes, and the same frames decoded from four numbers each; the cue is in the first frame")
    return save_figure(figure, out / "world-frames.png")


def draw_branches(metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Branch probabilities of each cue, and the rows at the wall that networks with one and two components dream."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = {
        "truth": lambda cue: metrics[f"branch.{cue}.truth"],
        "predicted before the junction": lambda cue: metrics[f"branch.{cue}.mass"],
        "dreams of positions": lambda cue: metrics[f"dream.{cue}.frequency"],
        "decoded dreams of frames": lambda cue: metrics[f"vae.{cue}.frequency"],
    }
    for number, (name, value) in enumerate(kinds.items()):
        places = np.arange(len(FORK.up)) + 0.2 * (number - 1.5)
        left.bar(
            places,
            [value(cue) for cue in range(len(FORK.up))],
            0.19,
            label=name,
            color=("0.3", "C0", "C2", "C4")[number],
        )
    left.set(xticks=range(len(FORK.up)), xlabel="cue in the first frame", ylabel=UPPER, ylim=(0, 1))
    left.legend(fontsize=8, loc="upper left")
    rows, bins = _arrays(work, "wall"), np.linspace(-5.5, 5.5, 90)
    styles = {"truth": ("0.75", "truth"), "k1": ("C3", "one component"), "k2": ("C0", "two components")}
    for name, (colour, label) in styles.items():
        kind = {"histtype": "stepfilled" if name == "truth" else "step", "lw": 1.8}
        right.hist(rows[name] - MIDDLE, bins, density=True, color=colour, label=label, **kind)
    right.axvline(0, color="k", ls=":", lw=1)
    right.annotate("wall", (0, right.get_ylim()[1] * 0.9), (4, 0), textcoords="offset points", fontsize=9)
    right.set(xlabel="row one step after the junction, from the middle / pixels", ylabel="density per pixel")
    right.legend(fontsize=8, loc="upper right")
    figure.suptitle("Both branches with their probabilities; the mean of a single component lies in the wall")
    return save_figure(figure, out / "world-branches.png")


def draw_activity(metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """The share of dreams in which each component fires, by step, for dreams that end in either branch."""
    data = _arrays(work, "activity")
    components, half = data["components"], data["half"]
    count = components.max() + 1
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, side, title in zip(
        axes, (1, 0), ("that end in the upper branch", "that end in the lower branch"), strict=True
    ):
        share = np.stack([(components[half == side] == k).mean(0) for k in range(count)])
        image = ax.imshow(
            share, aspect="auto", vmin=0, vmax=1, cmap="viridis", extent=(0.5, FORK.size - 0.5, count - 0.5, -0.5)
        )
        for edge in (WALL - 0.5, WALL + 0.5):
            ax.axvline(edge, color="w", lw=1)
        ax.set(xlabel="step", title=f"dreams {title}", yticks=range(count))
    axes[0].set_ylabel("component")
    figure.colorbar(image, ax=axes, label="share of dreams that draw this component")
    figure.suptitle(
        f"Components at the junction (white lines) stand for branches: {metrics['information.nats']:.2f} nats of "
        f"information, of {np.log(2):.2f}"
    )
    return save_figure(figure, out / "world-activity.png")


def draw_horizon(metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Dreamed rows of one episode, and pulls and coverage by the number of steps ahead."""
    data = _arrays(work, "horizon")
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    fan, width, cover = figure.subplots(1, 3, width_ratios=(1.6, 1, 1))
    steps = np.array(HORIZONS) + HISTORY - 1
    episode = 0
    fan.plot(np.arange(FORK.size), data["truth"][episode], "k.-", label="what happened", zorder=3)
    rng = np.random.default_rng(0)
    for number, step in enumerate(steps):
        rows = data["drawn"][:, episode, number]
        fan.scatter(
            step + 0.25 * (rng.random(len(rows)) - 0.5), rows, s=8, color="C0", alpha=0.5,
            label=None if number else "dreams, decoded",
        )  # fmt: skip
    fan.axvline(HISTORY - 0.5, color="0.5", ls=":")
    fan.text(HISTORY - 0.3, 1.0, "dreams begin", fontsize=8, color="0.4")
    fan.set(xlabel="step", ylabel="row / pixels", ylim=(14.5, 0.5))
    fan.legend(fontsize=8, loc="lower left")
    for ax, key, goal, name in (
        (width, "pull_width", 1.0, "width of the pulls"),
        (cover, "coverage90", 0.9, "coverage of 90 % intervals"),
    ):
        for prefix, label, colour in (
            ("horizon_true", "network of positions", "C2"),
            ("horizon", "decoded, against the true row", "C0"),
            ("horizon_decoded", "decoded, against decoded frames", "C4"),
        ):
            values = [metrics[f"{prefix}.{step}.{key}"] for step in HORIZONS]
            ax.plot(HORIZONS, values, "o-", color=colour, label=label)
        ax.axhline(goal, color="k", ls=":")
        ax.set(xlabel="steps ahead", ylabel=name, xticks=HORIZONS)
    width.set_ylim(0.7, 1.3)
    cover.set_ylim(0.7, 1.0)
    figure.legend(*width.get_legend_handles_labels(), loc="outside lower right", ncols=3, fontsize=8)
    figure.suptitle("Are dreamed rows calibrated up to twelve steps ahead?")
    return save_figure(figure, out / "world-horizon.png")


def draw_ghosts(metrics: Mapping[str, float], work: Path, out: Path) -> Path:
    """Frames one step after the junction, and where the ball is in them."""
    figure = Figure(figsize=(10.6, 4.7), layout="constrained")
    figure.suptitle("Frames one step after the junction; red: a ball in no branch")
    parts = figure.subfigures(1, 3)
    for part, kind in zip(parts, TITLES, strict=True):
        data = _arrays(work, "real" if kind == "real" else f"dreams-{kind}")
        grid = part.subplots(4, 4, gridspec_kw={"hspace": 0.02, "wspace": 0.02})
        if kind == "real":
            frames, ghost = data["pictures"][:16, WALL - 1], np.zeros(16, bool)
        else:
            frames, ghost = data["wall"][:16], data["wall_ghost"][:16]
        for ax, frame, strange in zip(grid.flat, frames, ghost, strict=True):
            _picture(ax, frame, "C3" if strange else None)
        part.suptitle(
            f"{TITLES[kind]}\nin no branch at some step: {100 * metrics[f'ghosts.{kind}']:.1f} %", fontsize=11
        )
    return save_figure(figure, out / "world-ghosts.png")


def draw_split(work: Path, out: Path) -> Path:
    """The three terms of the variance of the next row, by step, in both corridors and for both posteriors."""
    figure = Figure(figsize=(10.4, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    names = {"ensemble": "ensemble, few episodes", "last_layer": "last layer alone"}
    worlds = {"fork": "the corridor of training", "unseen": "a corridor never seen"}
    for row, (method, name) in zip(axes, names.items(), strict=True):
        data = _arrays(work, f"split-{method}")
        for ax, (world, title) in zip(row, worlds.items(), strict=True):
            for term, values in zip(TERMS, data[world], strict=True):
                ax.semilogy(
                    np.arange(1, FORK.size),
                    np.maximum(values, 1e-6),
                    "o-",
                    ms=3,
                    color=TERM_COLOURS[term],
                    label=LABELS[term],
                )
            ax.axvline(CORRIDORS[world].junction + 1, color="0.5", ls=":")
            ax.axvspan(0, SEEN[world] - 0.5, color="0.93", lw=0)
            ax.set_xlim(0.5, FORK.size - 0.5)
            ax.set_title(f"{name}: {title}", fontsize=10)
            ax.set_ylim(1e-5, 100)
    for ax in axes[1]:
        ax.set_xlabel("step (grey: seen, then dreamed; dotted: first after the junction)")
    for ax in axes[:, 0]:
        ax.set_ylabel("variance of the row / pixels²")
    axes[0, 0].legend(fontsize=9, loc="upper left")
    figure.suptitle("Which uncertainty is it? The variance of the next row, along dreams")
    return save_figure(figure, out / "world-split.png")


def draw_tree(work: Path, out: Path) -> Path:
    """The tree of likely branches with probabilities, and dreams behind it."""
    data = _arrays(work, "tree")
    figure = Figure(figsize=(7.6, 4), layout="constrained")
    ax = figure.subplots()
    steps = np.arange(1, FORK.size)
    ax.plot(steps, data["dreams"].T, color="C0", alpha=0.06, lw=1)
    for rows, chance in zip(data["rows"], data["chance"], strict=True):
        ax.plot(steps, rows, color="C3", lw=0.6 + 4 * float(chance))
        if chance > 0.02:
            ax.text(FORK.size - 0.8, rows[-1], f"{chance:.3f}", va="center", fontsize=9, color="C3")
    ends = CORRIDORS["forks"].rows[:, -1].numpy()
    for end, share in zip(ends, data["share"], strict=True):
        ax.text(FORK.size + 0.9, end, f"{share:.3f}", va="center", fontsize=9, color="C0")
    ax.text(FORK.size - 0.8, 0.9, "tree", fontsize=9, color="C3")
    ax.text(FORK.size + 0.9, 0.9, "dreams", fontsize=9, color="C0")
    ax.set(xlabel="step", ylabel="row / pixels", ylim=(14.5, 0.3), xlim=(0.5, FORK.size + 2.6))
    ax.set_title("Two junctions: likely futures with their probabilities, and dreams", fontsize=11)
    return save_figure(figure, out / "world-tree.png")


def draw_controller(settings: Settings, metrics: Mapping[str, float], out: Path) -> Path:
    """Scores in the corridor by the temperature of the dreams of training."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    ax = figure.subplots()
    taus = settings.temperatures
    real = [metrics[f"controller.{tau:g}.score"] for tau in taus]
    for number, tau in enumerate(taus):
        seeds = [metrics[f"controller.{tau:g}.seed{seed}"] for seed in range(settings.controllers)]
        ax.plot([tau] * len(seeds), seeds, ".", color="C0", alpha=0.5, label=None if number else "single seeds")
    ax.plot(taus, real, "o-", color="C0", label="in the corridor, mean")
    ax.plot(
        taus, [metrics[f"controller.{tau:g}.dream_score"] for tau in taus], "s--", color="C4", label="in its dreams"
    )
    for name, colour in (("oracle", "C2"), ("still", "C5"), ("random", "C7")):
        ax.axhline(metrics[f"controller.{name}.score"], color=colour, ls=":")
        ax.text(
            taus[-1] * 1.03, metrics[f"controller.{name}.score"] + 0.005, name, color=colour, va="bottom", fontsize=9
        )
    ax.set(xlabel="temperature of the dreams it was trained in", ylabel="share of episodes survived", ylim=(0.3, 1.04))
    ax.set_xlim(0, taus[-1] * 1.2)
    ax.legend(fontsize=8, loc="lower center")
    ax.set_title("A controller that was trained in dreams alone", fontsize=11)
    return save_figure(figure, out / "world-controller.png")
