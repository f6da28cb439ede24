"""Stacked MNIST: does a GAN find all of 1,000 modes?

Three random digits as red, green and blue make 1,000 classes (Metz et al. 2017, arXiv:1611.02163, section 3.3.1). A
DCGAN without normalisation layers is trained on them with the relativistic loss and the penalties R1 and R2 (Huang et
al. 2024, arXiv:2501.05441). As in the literature, a classifier of single digits labels the channels of 26,000 samples.
The report has the number of `modes` with at least one sample, and the divergence `kl` of their shares from equal ones,
in nats; `real` has the same numbers for held-out digits. For 26,000 samples with equal shares the expected KL is 999 /
52,000 = 0.019; the digits of MNIST are not quite equally frequent. Repeat the command to resume an interrupted run.

    python examples/gan_stacked.py             # one core
    python examples/gan_stacked.py --quick     # scikit-learn's digits, too short to find all modes
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _images import DEVICE, ImageData, dcgan_networks, dense_gan_settings, load_images, source_images
from _parts import compute_part, finished, tag, total_seconds
from _report import finish, parser, save_arrays, save_figure
from matplotlib.figure import Figure
from torch import Tensor

from posterity.data import StackedImages
from posterity.inference.adversarial import TrainingRun, metrics, mode_collapse, monitors, r1, r2, saturation, train
from posterity.inference.plots import plot_samples

LATENT = 128
MODES = 1000
PUBLISHED = {"DCGAN": (99, 3.40), "PacGAN": (1000, 0.06), "R3GAN": (1000, 0.029)}  # modes and KL


@dataclass(frozen=True)
class Task:
    """Everything that the numbers depend on."""

    steps: int = 50_000
    width: int = 24
    batch: int = 64
    rate: float = 1e-3
    penalty: float = 0.1
    readings: int = 50
    read: int = 10_000  # samples at each reading
    samples: int = 26_000  # samples at the end
    quick: bool = False
    seed: int = 0


QUICK = Task(steps=2500, width=8, readings=5, read=1000, samples=2000, quick=True)


@dataclass(frozen=True, eq=False)
class Modes:
    """A monitor of the number of modes among ``n`` samples, and of the divergence of their shares."""

    data: ImageData
    n: int

    def read(self, run: TrainingRun) -> Mapping[str, float]:
        return count_modes(run.samples(self.n, seed=run.step), self.data)


def labels(stacks: Tensor, data: ImageData) -> Tensor:
    """Labels (N,) from 0 to 999 of stacks (N, 3, H, W): the digits of the channels as one number."""
    digit = torch.stack([data.probabilities(channel).argmax(1) for channel in stacks.split(1, dim=1)], 1)
    return digit @ torch.tensor([100, 10, 1], device=digit.device)


def count_modes(stacks: Tensor, data: ImageData) -> dict[str, float]:
    histogram = metrics.class_histogram(labels(stacks, data), MODES)
    return {"modes": float(MODES - histogram.missing), "kl": histogram.kl_uniform, "kl_floor": histogram.kl_floor}


def features(stacks: Tensor, data: ImageData) -> Tensor:
    """Features (N, 3 F) of the three channels side by side."""
    return torch.cat([data.features(channel) for channel in stacks.split(1, dim=1)], 1)


def train_stacks(task: Task, data: ImageData, out: Path) -> TrainingRun:
    height, width = data.shape[1:]
    generator, discriminator = dcgan_networks(LATENT, (3, height, width), width=task.width, seed=task.seed)
    path = out / f"stacked-{tag(task)}.checkpoint"
    settings = replace(
        dense_gan_settings(task.steps, monitor_every=max(1, round(task.steps / task.readings)), checkpoint=path),
        batch_size=task.batch, learning_rate=(task.rate, task.rate),
        regularisers=(r1(task.penalty, every=4), r2(task.penalty, every=4)),
    )  # fmt: skip
    held_out = held_out_stacks(data, 1000, seed=1)
    run = train(
        generator.to(DEVICE), discriminator.to(DEVICE),
        StackedImages(source_images("mnist", quick=task.quick), LATENT), settings=settings, seed=task.seed,
        monitors=(
            monitors.DiscriminatorAccuracy(held_out),
            monitors.SampleQuality(held_out, features=partial(features, data=data), permutations=50),
            Modes(data, task.read),
        ),
        alarms=(saturation(), mode_collapse()), resume=path if path.exists() else None,
    )  # fmt: skip
    finished(run)
    return run


def held_out_stacks(data: ImageData, n: int, *, seed: int) -> Tensor:
    """Stacks (n, 3, H, W) of digits that no network was trained on."""
    rows = torch.randint(len(data.held_out), (n, 3), generator=torch.Generator().manual_seed(seed))
    return data.held_out[:, 0][rows]


def measure(task: Task, out: Path) -> dict[str, float]:
    data = load_images("mnist", out, quick=task.quick)
    run = train_stacks(task, data, out)
    samples = run.samples(task.samples, seed=task.seed + 1).cpu()
    real = held_out_stacks(data, task.samples, seed=task.seed + 2)
    found = {"accuracy_of_classifier": data.accuracy, "alarms": float(len(run.alarms))}
    found["inconclusive"] = float(len(run.inconclusive))
    for group, stacks in (("generated", samples), ("real", real)):
        numbers = count_modes(stacks, data)
        most = torch.stack([data.probabilities(channel).amax(1) for channel in stacks.split(1, dim=1)], 1)
        numbers["sure"] = float((most > 0.95).all(1).double().mean())
        found |= {f"{group}.{name}": value for name, value in numbers.items()}
    found |= {name: run.history[name][-1] for name in ("kernel_distance", "kernel_p", "precision", "recall")}
    curves = {name: run.history[name] for name in ("read_at", "modes", "kl", "kernel_distance", "recall")}
    save_arrays(out / "stacked.npz", samples=samples[:48], real=real[:48], **curves)
    return found


def draw_figures(found: dict[str, float], task: Task, data: ImageData, out: Path) -> list[Path]:
    reference = count_modes(held_out_stacks(data, task.read, seed=task.seed + 2), data)
    stored = np.load(out / "stacked.npz")
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
    for ax, name, title in zip(axes, ("real", "samples"), ("three digits, stacked", "generated"), strict=False):
        plot_samples(torch.from_numpy(stored[name][:36]), columns=6, ax=ax, title=title)
    left, right = axes[2], axes[2].twinx()
    left.plot(stored["read_at"], stored["modes"], "C0")
    left.set(xlabel="step", ylim=(0, 1050))
    left.set_ylabel("modes found, of 1,000", color="C0")
    right.semilogy(stored["read_at"], stored["kl"], "C1")
    right.set_ylabel(f"KL of {task.read:,} samples, nats (dotted: real digits)", color="C1")
    right.axhline(reference["kl"], color="C1", ls=":", lw=1.5)
    left.set_title(
        f"{task.samples:,} samples at the end: {found['generated.modes']:.0f} modes, KL {found['generated.kl']:.3f}"
    )
    return [save_figure(figure, out / "gan-stacked.png")]


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "gan_stacked")
    options.add_argument("--steps", type=int, help="steps of training")
    options.add_argument("--width", type=int, help="channels of the layer next to the image")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    changes = {name: value for name in ("steps", "width") if (value := getattr(args, name)) is not None}
    task = replace(QUICK if args.quick else Task(), seed=args.seed, **changes)
    data = load_images("mnist", args.out, quick=task.quick)  # trains its LeNet, before the clock
    found = compute_part(args.out, "stacked", task, partial(measure, task, args.out))
    for name, value in sorted(found.items()):
        print(f"{name:28} {value:.4g}")
    print("published modes and KL: " + ", ".join(f"{name} {m}, {kl:g}" for name, (m, kl) in PUBLISHED.items()))
    return finish(args, found, draw_figures(found, task, data, args.out), seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
