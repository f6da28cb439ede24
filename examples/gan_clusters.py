"""Generators of clusters on a ring and on a grid: are all clusters present, equally frequent, and of the right width?

Two recipes on each data set (Srivastava et al. 2017; Lin et al. 2018), with ten seeds side by side in one computation:

- ``plain``: the GAN of 2014, with the non-saturating loss and continuous latent points.
- ``best``: a coded generator, a discriminator with sine and cosine features, and the relativistic loss with both
  gradient penalties (Huang et al. 2024, arXiv:2501.05441), whose weights fall from stage to stage.

An interrupted run is resumed when it is repeated.

    python examples/gan_clusters.py            # the numbers in examples/results
    python examples/gan_clusters.py --quick    # wider clusters, smaller networks, one seed: about a minute on one core
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from _parts import compute_parts, total_seconds
from _report import finish, parser, save_figure
from matplotlib.figure import Figure
from torch import Tensor, nn

from posterity.data import Clusters, grid, ring
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import Adversarial, TrainingRun, r1, r2, train, train_many
from posterity.inference.adversarial.metrics import cluster_quality
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import coded, dense_generator

BLUE, VERMILION = "#0072B2", "#D55E00"
LATENT, HIDDEN, ROWS, SAMPLES = 16, (128, 128), 50_000, 2500


@dataclass(frozen=True)
class Task:
    """Clusters, the divisor that brings them to about -0.7 to 0.7, and the octaves of the discriminator's features."""

    clusters: Clusters
    scale: float
    octaves: int
    start: str  # initial weights of the generator in the best recipe; the plain one has those of torch
    hidden: tuple[int, ...] = HIDDEN


@dataclass(frozen=True)
class Stage:
    """A stage of training; ``penalty`` is the weight of both penalties, 0 for none."""

    steps: int
    penalty: float = 0.0
    rate: float = 2e-4
    schedule: str = "constant"
    batch_size: int = 256


@dataclass(frozen=True)
class Recipe:
    """Networks and training stages; the signs of ``bits`` latent dimensions select a code."""

    stages: tuple[Stage, ...]
    bits: int = 0
    waves: bool = False
    loss: str = "non_saturating"
    betas: tuple[float, float] = (0.5, 0.999)
    ema: float | None = None


# Chosen on seeds 100 to 102 and 200 to 209: spread initial samples reach all 8 clusters, but 25 less evenly.
TASKS = {"ring": Task(ring(), 1.4, 6, "he"), "grid": Task(grid(), 5.66, 6, "torch")}
TITLES = {"real": "real", "plain": "the GAN of 2014", "best": "coded, relativistic, both penalties"}
KEYS = (
    *("modes_mean", "modes_min", "high_quality_mean", "reverse_kl_mean", "reverse_kl_worst", "reverse_kl_floor"),
    *("sd_ratio_mean", "seconds"),
)
BEST = (  # chosen on seeds 100 to 102
    Stage(3000, 0.1, 1e-3),
    Stage(4500, 0.01, 1e-3, "linear"),
    Stage(2500, 0.001, 2e-4, "linear", 512),
)
RECIPES = {
    "plain": Recipe((Stage(10_000),)),
    "best": Recipe(BEST, bits=10, waves=True, loss="relativistic", betas=(0.0, 0.99)),
}
# Clusters 5 and 3 times as wide are found in a tenth of the steps (all 8 and all 25 with seed 0).
QUICK_TASKS = {
    "ring": Task(ring(sd=0.05), 1.4, 3, "he", (64, 64)),
    "grid": Task(grid(sd=0.15), 5.66, 4, "torch", (64, 64)),
}
QUICK_RECIPES = {
    "plain": Recipe((Stage(1000, batch_size=128),)),
    "best": replace(
        RECIPES["best"],
        stages=(Stage(600, 0.1, 2e-3, batch_size=128), Stage(900, 0.01, 2e-3, "linear", batch_size=128)),
    ),
}


def initial_weights(task: Task, recipe: Recipe) -> str:
    return task.start if recipe.bits else "torch"


def networks(task: Task, recipe: Recipe, seeds: list[int]) -> tuple[list[nn.Module], list[nn.Module]]:
    """One pair of networks for each seed; the global random state is left alone."""
    generators: list[nn.Module] = []
    discriminators: list[nn.Module] = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = dense_generator(LATENT, (2,), hidden=task.hidden, squash=False, start=initial_weights(task, recipe))
            generators.append(coded(net, recipe.bits) if recipe.bits else net)
            octaves = task.octaves if recipe.waves else 0
            discriminators.append(dense_discriminator((2,), hidden=task.hidden, octaves=octaves))
    return generators, discriminators


def train_stages(
    task: Task, recipe: Recipe, seeds: list[int], data: Tensor, *, progress: bool = True
) -> list[TrainingRun]:
    """Runs of all seeds after the last stage; a single seed is trained by `train`, which takes half the time."""
    generators, discriminators = networks(task, recipe, seeds)
    runs: list[TrainingRun] = []
    for stage in recipe.stages:
        settings = Adversarial(
            steps=stage.steps,
            batch_size=stage.batch_size,
            loss=recipe.loss,
            regularisers=(r1(stage.penalty), r2(stage.penalty)) if stage.penalty else (),
            learning_rate=(stage.rate, stage.rate),
            betas=recipe.betas,
            schedule=(stage.schedule, stage.schedule),
            ema=recipe.ema,
            monitor_every=stage.steps,
            progress=progress,
        )
        if len(seeds) == 1:
            runs = [train(generators[0], discriminators[0], data, latent=LATENT, seed=seeds[0], settings=settings)]
        else:
            runs = train_many(generators, discriminators, data, latent=LATENT, seeds=seeds, settings=settings)
        generators, discriminators = [run.generator for run in runs], [run.discriminator for run in runs]
    return runs


def measure(name: str, task: Task, recipe: Recipe, seeds: list[int], out: Path) -> dict[str, float]:
    """Metrics of all seeds; stores their samples for the figure."""
    torch.set_num_threads(1)  # two processes with one thread each are faster than one process with two
    data = task.clusters.sample(ROWS, seed=seeds[0] + 1000) / task.scale
    begun = time.perf_counter()
    runs = train_stages(task, recipe, seeds, data)
    if any(run.interrupted for run in runs):
        raise KeyboardInterrupt
    seconds = time.perf_counter() - begun
    numbers: dict[str, float] = {"train_seconds": seconds}
    all_samples = []
    for seed, run in zip(seeds, runs, strict=True):
        samples = run.samples(SAMPLES, seed=seed + 2000) * task.scale
        all_samples.append(samples)
        for key, value in cluster_quality(samples, task.clusters).items():
            if value == value:  # the width is NaN without a sample in a cluster
                numbers[f"{key}.{seed}"] = value
    write_tensors({"samples": torch.stack(all_samples)}, samples_path(out, name, recipe, seeds))
    return numbers


def samples_path(out: Path, name: str, recipe: Recipe, seeds: list[int]) -> Path:
    return out / f"{name}-{'best' if recipe.waves else 'plain'}-{recipe.stages[-1].steps}-{seeds[0]}.pt"


def summarise(numbers: dict[str, float], seeds: list[int]) -> dict[str, float]:
    """Mean and worst value of each metric over the seeds, and the smallest number of modes."""
    metrics = {"modes_min": min(numbers[f"modes.{seed}"] for seed in seeds), "seconds": numbers["train_seconds"]}
    for key in ("modes", "high_quality", "reverse_kl", "sd_ratio"):
        values = [numbers[f"{key}.{seed}"] for seed in seeds if f"{key}.{seed}" in numbers]
        metrics[f"{key}_mean"] = sum(values) / len(values) if values else float("nan")
        metrics[f"{key}_worst"] = (max if key == "reverse_kl" else min)(values, default=float("nan"))
    metrics["reverse_kl_floor"] = numbers[f"reverse_kl_floor.{seeds[0]}"]
    return metrics


def draw_figure(
    tasks: dict[str, Task], recipes: dict[str, Recipe], metrics: dict[str, float], seeds: list[int], out: Path
) -> Path:
    """Real samples and those of both recipes for each data set, all of the first seed."""
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    figure.suptitle(
        f"{SAMPLES:,} samples of the first seed, blue within 3 sd of a centre, red outside"
        + (f"; numbers: means of {len(seeds)} seeds" if len(seeds) > 1 else "")
    )
    for row, (name, task) in zip(figure.subplots(len(tasks), 3), tasks.items(), strict=True):
        shown = {"real": task.clusters.sample(SAMPLES, seed=seeds[0] + 3000)}
        for which, recipe in recipes.items():
            shown[which] = read_tensors(samples_path(out, name, recipe, seeds), "samples")["samples"][0]
        for ax, (which, samples) in zip(row, shown.items(), strict=True):
            near = task.clusters.nearest(samples)[1] <= 3
            for mask, colour in ((near, BLUE), (~near, VERMILION)):
                ax.scatter(*samples[mask].T, s=3, color=colour, linewidths=0, alpha=0.5)
            reach = 1.25 * float(task.clusters.centres.abs().max())
            ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="x0", ylabel="x1")
            ax.set_title(f"{name}: {TITLES[which]}\n{caption(metrics, name, which)}", fontsize="medium")
    return save_figure(figure, out / "gan-clusters.png")


def caption(metrics: dict[str, float], name: str, which: str) -> str:
    if which == "real":
        return f"{len(TASKS[name].clusters.centres)} clusters, 98.9 % within 3 sd"
    modes, near = metrics[f"{name}.{which}.modes_mean"], 100 * metrics[f"{name}.{which}.high_quality_mean"]
    return f"{modes:.1f} clusters, {near:.1f} % within 3 sd, KL {metrics[f'{name}.{which}.reverse_kl_mean']:.3f}"


def print_table(metrics: dict[str, float], recipes: dict[str, Recipe]) -> None:
    print(f"{'':14}{'modes (least)':>16}{'near':>9}{'KL (worst)':>17}{'floor':>8}{'sd ratio':>10}{'seconds':>9}")
    for name in TASKS:
        for which in recipes:
            row = {key: metrics[f"{name}.{which}.{key}"] for key in KEYS if f"{name}.{which}.{key}" in metrics}
            print(
                f"{name:5}{which:9}{row['modes_mean']:9.1f} ({row['modes_min']:3.0f}){row['high_quality_mean']:10.3f}"
                f"{row['reverse_kl_mean']:9.3f} ({row['reverse_kl_worst']:.3f}){row['reverse_kl_floor']:8.3f}"
                f"{row['sd_ratio_mean']:10.2f}{row['seconds']:9.0f}"
            )


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "gan_clusters")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that train in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    seeds = list(range(args.seed, args.seed + (1 if args.quick else 10)))
    tasks, recipes = (QUICK_TASKS, QUICK_RECIPES) if args.quick else (TASKS, RECIPES)
    wanted = {
        f"{name}.{which}": (
            (task.clusters.sd, task.hidden, task.octaves, initial_weights(task, recipe), recipe, seeds),
            partial(measure, name, task, recipe, seeds, args.out),
        )
        for which, recipe in reversed(recipes.items())  # longest first
        for name, task in tasks.items()
    }
    numbers = compute_parts(args.out, wanted, jobs=1 if args.quick else args.jobs)
    metrics = {f"{name}.{key}": value for name, row in numbers.items() for key, value in summarise(row, seeds).items()}
    print_table(metrics, recipes)
    picture = draw_figure(tasks, recipes, metrics, seeds, args.out)
    return finish(args, metrics, [picture], seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
