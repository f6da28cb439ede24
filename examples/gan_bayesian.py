"""Posterior of generators on a grid of 25 clusters: does it find more clusters than one GAN, and where is it uncertain?

The Bayesian GAN of Saatchi & Wilson 2017 has four chains of generators against two chains of discriminators, sampled by
stochastic-gradient Hamiltonian Monte Carlo. It is compared with the GAN of 2014 on the same networks, data and batches,
trained for as many steps as the four generators together. Three seeds of each. An interrupted run is resumed when it is
repeated.

    python examples/gan_bayesian.py            # the numbers in examples/results
    python examples/gan_bayesian.py --quick
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from _parts import compute_parts, finished, total_seconds
from _report import finish, parser, save_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from posterity.data import grid
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import Adversarial, BayesianAdversarial, train_bayesian, train_many
from posterity.inference.adversarial.metrics import cluster_quality
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator

LATENT, HIDDEN, ROWS, SAMPLES, SCALE = 8, (128, 128), 10_000, 2500, 2.83
POINTS, REACH, BANDWIDTH = (
    150,
    5.2,
    0.15,
)  # of the density maps, in units of the data
KEYS = ("modes", "high_quality", "reverse_kl", "sd_ratio")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Task:
    """Settings of both methods; ``steps`` is the number of steps of the Bayesian GAN."""

    steps: int
    generators: int = 4
    discriminators: int = 2
    batch_size: int = 64

    @property
    def bayesian(self) -> BayesianAdversarial:
        return BayesianAdversarial(
            steps=self.steps,
            warmup=2 * self.steps // 3,
            draws=10,
            generators=self.generators,
            discriminators=self.discriminators,
            batch_size=self.batch_size,
            friction=0.5,
            temperature=0.01,
        )

    @property
    def single(self) -> Adversarial:
        steps = self.generators * self.steps
        return Adversarial(steps=steps, batch_size=self.batch_size, monitor_every=steps)


def make_generator() -> nn.Module:
    return dense_generator(LATENT, (2,), hidden=HIDDEN, squash=False)


def make_discriminator() -> nn.Module:
    return dense_discriminator((2,), hidden=HIDDEN)


def bayesian(task: Task, seed: int, out: Path) -> dict[str, float]:
    """Metrics of one posterior; stores its samples and the maps of its density for the figure."""
    torch.set_num_threads(1)
    data = grid().sample(ROWS, seed=seed + 1000) / SCALE
    begun = time.perf_counter()
    run = train_bayesian(make_generator, make_discriminator, data, latent=LATENT, settings=task.bayesian, seed=seed)
    finished(run)
    seconds = time.perf_counter() - begun
    line = torch.linspace(-REACH, REACH, POINTS)
    points = torch.cartesian_prod(line, line) / SCALE
    mean, sd = run.density_spread(points, BANDWIDTH / SCALE, samples=1000, seed=seed)
    content = {
        "samples": SCALE * run.samples(SAMPLES, seed=seed + 2000),
        "each": SCALE * run.samples(600, seed=seed + 2001, per_draw=True)[:: task.bayesian.draws],
        "mean": mean.reshape(POINTS, POINTS) / SCALE**2,
        "sd": sd.reshape(POINTS, POINTS) / SCALE**2,
    }
    write_tensors(content, out / f"bayesian-{task.steps}-{seed}.pt")
    inside = mean > mean.max() / 20  # elsewhere a relative spread means nothing
    return cluster_metrics(content["samples"]) | {
        "train_seconds": seconds,
        "relative_spread": float((sd[inside] / mean[inside]).mean()),
    }


def single(task: Task, seeds: list[int], out: Path) -> dict[str, float]:
    """Metrics of the GAN of 2014, for all seeds in one computation."""
    torch.set_num_threads(1)
    generators, discriminators = [], []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generators.append(make_generator())
            discriminators.append(make_discriminator())
    data = grid().sample(ROWS, seed=seeds[0] + 1000) / SCALE
    begun = time.perf_counter()
    runs = train_many(generators, discriminators, data, latent=LATENT, seeds=seeds, settings=task.single)
    finished(runs[0])
    metrics = {"train_seconds": (time.perf_counter() - begun) / len(seeds)}
    for seed, run in zip(seeds, runs, strict=True):
        samples = SCALE * run.samples(SAMPLES, seed=seed + 2000)
        write_tensors({"samples": samples}, out / f"single-{task.steps}-{seed}.pt")
        metrics |= {f"{key}.{seed}": value for key, value in cluster_metrics(samples).items()}
    return metrics


def cluster_metrics(samples: torch.Tensor) -> dict[str, float]:
    quality = cluster_quality(samples, grid())
    return {key: quality[key] for key in KEYS if quality[key] == quality[key]}


def summarise(numbers: dict[str, float], seeds: list[int]) -> dict[str, float]:
    metrics = {key: value for key, value in numbers.items() if key.endswith("seconds")}
    for key in (*KEYS, "relative_spread"):
        values = [numbers[f"{key}.{seed}"] for seed in seeds if f"{key}.{seed}" in numbers]
        if values:
            metrics[f"{key}_mean"] = sum(values) / len(values)
        if key == "modes":
            metrics["modes_min"], metrics["modes_max"] = min(values), max(values)
    return metrics


def draw_figure(task: Task, metrics: dict[str, float], seed: int, out: Path) -> Path:
    """Samples of the single GAN and of each chain; mean and standard deviation of the density over all draws."""
    single_run = read_tensors(out / f"single-{task.steps}-{seed}.pt", "samples")["samples"]
    posterior = read_tensors(out / f"bayesian-{task.steps}-{seed}.pt", "samples")
    figure = Figure(figsize=(15, 4.3), layout="constrained")
    figure.suptitle("25 clusters, first seed: four generators of a posterior find more of them than one GAN")
    left, second, third, right = figure.subplots(1, 4)
    scatter(left, single_run, "0.25")
    left.set_title(f"one GAN, four times the steps\n{metrics['grid.single.modes_mean']:.1f} of 25 (mean of 3 seeds)")
    for colour, samples in zip(COLOURS, posterior["each"], strict=False):
        scatter(second, samples, colour)
    second.set_title(f"Bayesian GAN, one colour per chain\n{metrics['grid.bayesian.modes_mean']:.1f} of 25")
    for ax, key, title in (
        (third, "mean", "mean density of all draws"),
        (right, "sd", "its sd (epistemic)"),
    ):
        image = ax.imshow(posterior[key].T, origin="lower", extent=(-REACH, REACH) * 2, cmap="magma")
        figure.colorbar(image, ax=ax, shrink=0.75, label="per unit of area")
        ax.set_title(f"{title}\n(kernels of sd {BANDWIDTH})")
    for ax in (left, second, third, right):
        ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xlabel="x0", ylabel="x1")
    return save_figure(figure, out / "gan-bayesian.png")


def scatter(ax: Axes, samples: torch.Tensor, colour: str) -> None:
    centres = grid().centres
    ax.scatter(centres[:, 0], centres[:, 1], s=70, facecolors="none", edgecolors="0.75", linewidths=0.8, zorder=0)
    ax.scatter(samples[:, 0], samples[:, 1], s=3, color=colour, linewidths=0, alpha=0.6)


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "gan_bayesian")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that train in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    seeds = list(range(args.seed, args.seed + (1 if args.quick else 3)))
    task = Task(9000)
    task = replace(task, steps=150) if args.quick else task
    wanted: dict[str, tuple[object, Callable[[], dict[str, float]]]] = {}
    wanted["single"] = ((task, seeds), partial(single, task, seeds, args.out))
    wanted |= {f"bayesian-{seed}": ((task, seed), partial(bayesian, task, seed, args.out)) for seed in seeds}
    results = compute_parts(args.out, wanted, jobs=1 if args.quick else args.jobs)
    numbers = {f"{key}.{seed}": value for seed in seeds for key, value in results[f"bayesian-{seed}"].items()}
    numbers["train_seconds"] = sum(numbers[f"train_seconds.{seed}"] for seed in seeds) / len(seeds)
    numbers = {key: value for key, value in numbers.items() if not key.startswith(("train_seconds.", "seconds."))}
    metrics = {f"grid.single.{key}": value for key, value in summarise(results["single"], seeds).items()}
    metrics |= {f"grid.bayesian.{key}": value for key, value in summarise(numbers, seeds).items()}
    for name, value in sorted(metrics.items()):
        print(f"{name:36}{value:10.3f}")
    picture = draw_figure(task, metrics, seeds[0], args.out)
    return finish(args, metrics, [picture], seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
