"""Failed training and its repair: a small dense generator of digits against a discriminator that is far too strong.

The discriminator has two convolutions without stride and a dense layer.

- ``saturated``: with the minimax loss the discriminator wins, and the generator's gradient vanishes.
- ``collapsed``: with the non-saturating loss the generator makes a few images that pass for a while.
- ``r1``: with the penalty R1 on the slope at real digits, the same discriminator trains a healthy generator.
- ``spectral``: with a spectral norm alone, training still fails, and the alarms ring: every layer has norm 1, but
  digits are far apart, and so are their logits.

In five healthy runs with the settings of `gan_digits` and other seeds, no alarm should ring.

    python examples/gan_failing.py             # MNIST, reduced width of the convolutions (--widths 64 128: a GPU)
    python examples/gan_failing.py --quick     # scikit-learn's digits, shorter runs: about a minute on one core
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from _images import DEVICE, dense_gan_settings, load_images
from _parts import compute_parts, finished, tag, total_seconds
from _report import finish, parser, save_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import (
    Adversarial,
    TrainingAlarm,
    TrainingRun,
    mode_collapse,
    monitors,
    r1,
    saturation,
    train,
)
from posterity.inference.plots import plot_samples
from posterity.models.discriminators import dense_discriminator, strong_discriminator
from posterity.models.generators import dense_generator

LATENT, HEALTHY = 100, 5
ALARMS = ("saturation", "mode_collapse")


@dataclass(frozen=True)
class Task:
    """One training run; ``regularisation`` is "none", "r1", "spectral" or "penalties"."""

    strong: bool
    loss: str = "non_saturating"
    regularisation: str = "none"
    steps: int = 500
    seed: int = 0
    widths: tuple[int, int] = (8, 16)
    every: int = 25
    hidden: tuple[tuple[int, ...], tuple[int, ...]] = (
        (256, 512, 1024),
        (392,),
    )  # of both networks
    batch_size: int = 128

    def settings(self, checkpoint: Path) -> Adversarial:
        """The settings: equal learning rates with the strong discriminator, those of `gan_digits` otherwise."""
        if not self.strong:
            settings = dense_gan_settings(self.steps, monitor_every=self.every, checkpoint=checkpoint)
            return replace(settings, batch_size=self.batch_size)
        return Adversarial(
            steps=self.steps,
            loss=self.loss,
            regularisers=(r1(10.0),) if self.regularisation == "r1" else (),
            learning_rate=(1e-3, 1e-3),
            monitor_every=self.every,
            checkpoint=checkpoint,
        )


def train_and_measure(task: Task, name: str, out: Path, quick: bool) -> dict[str, float]:
    torch.set_num_threads(1)
    data = load_images("mnist", out, quick=quick)
    shape = data.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        generator = dense_generator(LATENT, shape, hidden=task.hidden[0])
        discriminator = (
            strong_discriminator(shape, widths=task.widths, spectral=task.regularisation == "spectral")
            if task.strong
            else dense_discriminator(shape, hidden=task.hidden[1])
        )
    path = out / f"{name}-{tag(task)}.checkpoint"
    readers = (
        monitors.DiscriminatorAccuracy(data.held_out, n=250),
        monitors.SampleQuality(data.held_out, n=250, permutations=20),
        monitors.ClassCoverage(data.probabilities, n=250),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingAlarm)  # the report has them
        run = train(
            generator.to(DEVICE), discriminator.to(DEVICE), data.train.to(DEVICE), latent=LATENT,
            settings=task.settings(path), seed=task.seed, monitors=readers,
            alarms=(saturation(), mode_collapse()), resume=path if path.exists() else None,
        )  # fmt: skip
    finished(run)
    save_curves(run, out / f"{name}.pt")
    alarm_steps = {f"{alarm}_step": float(run.alarms.get(alarm, -1)) for alarm in ALARMS}
    last = ("accuracy_held_out", "accuracy_fake", "spread", "class_kl", "largest_class", "generator_gradient")
    if run.inconclusive:  # the silence of an alarm would mean nothing
        raise ValueError(f"expected a run that is long enough for its alarms, got {run.inconclusive}")
    return alarm_steps | {key: run.history[key][-1] for key in last} | {"steps": float(run.step)}


def save_curves(run: TrainingRun, path: Path) -> None:
    """Store curves, alarms and samples for the figure."""
    curves = {name: torch.tensor(values) for name, values in run.history.items()}
    write_tensors({"curves": curves, "alarms": dict(run.alarms), "samples": run.samples(36, seed=0).cpu()}, path)


def make_tasks(*, quick: bool, seed: int, widths: tuple[int, int]) -> dict[str, Task]:
    # Smaller networks fail less reliably, so a quick run has the same strong discriminator and fewer steps.
    steps, every = (120, 8) if quick else (500, 25)
    strong = Task(True, steps=steps, every=every, seed=seed, widths=widths)
    chosen = {
        "saturated": replace(strong, loss="minimax"),
        "collapsed": strong,
        "spectral": replace(strong, regularisation="spectral"),
        "r1": replace(strong, regularisation="r1"),
    }
    healthy = Task(False, regularisation="penalties", steps=3000, every=150)
    if quick:  # below about 1,000 steps samples do not look like digits
        healthy = replace(healthy, steps=1500, every=75, hidden=((128, 256), (128,)), batch_size=64)
    return chosen | {f"healthy-{k}": replace(healthy, seed=seed + k) for k in range(1 if quick else HEALTHY)}


def summarise(numbers: dict[str, dict[str, float]]) -> dict[str, float]:
    metrics = {f"{name}.{key}": value for name, row in numbers.items() for key, value in row.items()}
    metrics["strong.saturation_step"] = numbers["saturated"]["saturation_step"]
    metrics["strong.mode_collapse_step"] = numbers["collapsed"]["mode_collapse_step"]
    metrics["strong.steps"] = numbers["collapsed"]["steps"]
    for group, members in (
        ("healthy", [row for name, row in numbers.items() if name.startswith("healthy")]),
        ("repaired", [numbers["r1"]]),
    ):
        metrics[f"{group}.false_alarms"] = float(sum(row[f"{alarm}_step"] >= 0 for row in members for alarm in ALARMS))
    return metrics


TITLES = {
    "saturated": "strong discriminator,\nminimax loss",
    "collapsed": "strong discriminator,\nnon-saturating loss",
    "spectral": "strong discriminator,\nspectral norm alone",
    "r1": "strong discriminator,\npenalty on its slope (R1)",
    "healthy-0": "ordinary discriminator,\nhealthy",
}


def draw_figure(out: Path) -> Path:
    """One column for each run: its last samples, the accuracy of the discriminator, and the variety of the samples."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    figure.suptitle("Failed, repaired and healthy training: an alarm rings at each vertical line")
    rows = figure.subplots(3, len(TITLES), height_ratios=[3, 2, 2])
    for column, (name, title) in zip(rows.T, TITLES.items(), strict=True):
        content = read_tensors(out / f"{name}.pt", "a run")
        curves = {key: values.tolist() for key, values in content["curves"].items()}
        plot_samples(content["samples"], columns=6, ax=column[0], title=title)
        steps = curves["read_at"]
        column[1].plot(steps, curves["accuracy_held_out"], color="#0072B2", label="held-out")
        column[1].plot(steps, curves["accuracy_fake"], color="#D55E00", label="generated")
        column[1].set(ylim=(0, 1.04))
        column[2].plot(steps, curves["spread"], color="#009E73", label="spread of samples")
        column[2].plot(steps, curves["largest_class"], color="#CC79A7", label="largest class")
        column[2].set(ylim=(0, 1.3), xlabel="step")
        for ax in column[1:]:
            mark_alarms(ax, content["alarms"])
    for ax, label in zip(rows[1:, 0], ("accuracy of the discriminator", "variety"), strict=True):
        ax.set_ylabel(label)
        ax.legend(frameon=False, fontsize="small")
    return save_figure(figure, out / "gan-failing.png")


def mark_alarms(ax: Axes, alarms: dict[str, int]) -> None:
    for name, step in alarms.items():
        ax.axvline(step, color="0.2", linestyle=":" if name == "saturation" else "--")
        height, side = (0.3, "right") if name == "saturation" else (0.5, "left")
        ax.annotate(name.replace("_", " "), (step, height), rotation=90, va="center", ha=side, fontsize="small")


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "gan_failing")
    options.add_argument("--widths", type=int, nargs=2, default=(8, 16), help="channels of the two convolutions")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that train in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    load_images("mnist", args.out, quick=args.quick)  # trains its LeNet before the processes need it
    wanted = {
        name: (task, partial(train_and_measure, task, name, args.out, args.quick))
        for name, task in make_tasks(quick=args.quick, seed=args.seed, widths=tuple(args.widths)).items()
    }
    numbers = compute_parts(args.out, wanted, jobs=1 if args.quick else args.jobs)
    metrics = summarise(numbers)
    for name, row in numbers.items():
        alarms = ", ".join(
            f"{alarm} in step {row[f'{alarm}_step']:.0f}" for alarm in ALARMS if row[f"{alarm}_step"] >= 0
        )
        print(f"{name:12}{row['steps']:8.0f} steps: {alarms or 'no alarm'}")
    picture = draw_figure(args.out)
    return finish(args, metrics, [picture], seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
