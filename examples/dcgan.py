"""DCGAN on digits and clothes, with and without batch normalisation, held against the dense GAN.

Strided convolutions (Radford, Metz & Chintala 2016): with batch normalisation and Adam with their beta1 of 0.5, at 5e-4
since the width is reduced for two cores; without, by the relativistic loss and both penalties, as the dense GAN. Kernel
distance, precision and recall on the features of a LeNet, with what real images score against other real ones beside.

    python examples/dcgan.py                   # MNIST and Fashion-MNIST
    python examples/dcgan.py --width 64        # the published width: for a GPU
    python examples/dcgan.py --quick           # scikit-learn's digits
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from _images import DEVICE, judge, pictures, steady
from _parts import parts, tag, total_seconds
from _report import finish, parser, save_figure
from matplotlib.figure import Figure
from torch import Tensor, nn

from posterity.data.kept import read_tensors, write_tensors
from posterity.inference.adversarial import Adversarial, play
from posterity.inference.plots import plot_samples
from posterity.models.discriminators import dcgan_discriminator, dense_discriminator
from posterity.models.generators import dcgan_generator, dense_generator

LATENT = 100
VARIANTS = ("dense", "batch_norm", "no_norm")
TITLES = {"dense": "dense", "batch_norm": "DCGAN, batch normalisation", "no_norm": "DCGAN, no normalisation"}


@dataclass(frozen=True)
class Task:
    """One training: which networks on which data."""

    variant: str
    name: str
    steps: int
    width: int = 32
    seed: int = 0


def networks(task: Task, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        if task.variant == "dense":
            return dense_generator(LATENT, shape), dense_discriminator(shape)
        normal = task.variant == "batch_norm"
        generator = dcgan_generator(LATENT, shape, width=task.width, batch_norm=normal)
        return generator, dcgan_discriminator(shape, width=task.width, norm="batch" if normal else "none")


def settings(task: Task, checkpoint: Path) -> Adversarial:
    common = steady(task.steps, monitor_every=task.steps, checkpoint=checkpoint)
    if task.variant == "dense":
        return common
    if task.variant == "no_norm":
        return replace(common, batch_size=64)
    # No average: its weights would meet the running statistics of others (Fréchet 215 against 161 in 3,000 steps).
    rate = 5e-4 if task.width < 64 else 2e-4
    return replace(
        common,
        batch_size=64,
        loss="non_saturating",
        regularisers=(),
        learning_rate=(rate, rate),
        betas=(0.5, 0.999),
        ema=None,
    )


def train(task: Task, out: Path, quick: bool) -> dict[str, float]:
    """Trained, judged; samples and a walk between latent points are kept for the figure."""
    torch.set_num_threads(1)
    data = pictures(task.name, out, quick=quick)
    shape = data.shape
    generator, discriminator = (net.to(DEVICE) for net in networks(task, shape))
    name = f"{task.name}-{task.variant}"
    path = out / f"{name}-{tag(task)}.checkpoint"
    game_settings = settings(task, path)
    game = play(
        generator, discriminator, data.train.to(DEVICE), latent=LATENT, settings=game_settings, seed=task.seed,
        resume=path if path.exists() else None,
    )  # fmt: skip
    if game.interrupted:
        raise KeyboardInterrupt
    samples = game.samples(5000, seed=task.seed + 1).cpu()
    with torch.no_grad():
        walked = game.trained.eval()(walk(6, 8).to(DEVICE)).cpu()
    write_tensors({"samples": samples[:64], "walk": walked}, out / f"{name}.pt")
    return judge(samples, data, seed=task.seed)


def walk(rows: int, columns: int) -> Tensor:
    """Latent points on great circles, from one normal draw to another in each row: (rows * columns, latent)."""
    random = torch.Generator().manual_seed(5)
    start, end = torch.randn(2, rows, 1, LATENT, generator=random)
    angle = torch.linspace(0, torch.pi / 2, columns)[:, None]
    return (angle.cos() * start + angle.sin() * end).flatten(0, 1)


def draw(names: Sequence[str], metrics: dict[str, float], out: Path) -> list[Path]:
    figures = []
    for kind, columns, count in (("samples", 8, 64), ("walk", 8, 48)):
        figure = Figure(figsize=(11, 3.9 * len(names)), layout="constrained")
        figure.suptitle("Samples" if kind == "samples" else "From one latent point to another, a row each")
        for row, name in zip(figure.subplots(len(names), len(VARIANTS), squeeze=False), names, strict=True):
            for ax, variant in zip(row, VARIANTS, strict=True):
                images = read_tensors(out / f"{name}-{variant}.pt", "samples")[kind][:count]
                distance = metrics[f"{name}.{variant}.kernel_distance"]
                plot_samples(images, columns=columns, ax=ax, title=f"{name}: {TITLES[variant]}\nMMD² {distance:.4f}")
        figures.append(save_figure(figure, out / f"dcgan-{kind}.png"))
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "dcgan")
    options.add_argument("--width", type=int, default=32, help="channels next to the image")
    options.add_argument("--steps", type=int, default=3000)
    options.add_argument("--jobs", type=int, default=2, help="trainings side by side, each in a process")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    names = ["mnist"] if args.quick else ["mnist", "fashion"]
    wanted = {}
    for variant in reversed(VARIANTS):  # the long ones first
        for name in names:
            task = Task(variant, name, 60 if args.quick else args.steps, 4 if args.quick else args.width, args.seed)
            wanted[f"{name}.{variant}"] = (task, partial(train, task, args.out, args.quick))
    for name in names:
        pictures(name, args.out, quick=args.quick)  # its LeNet, before all that ask it
    numbers = parts(args.out, wanted, jobs=1 if args.quick else args.jobs)
    metrics = {f"{name}.{key}": value for name, row in numbers.items() for key, value in row.items()}
    for key in ("kernel_distance", "frechet", "precision", "recall", "class_kl", "seconds"):
        print(f"{key:18}" + "".join(f"{metrics[f'{n}.{v}.{key}']:12.4f}" for n in names for v in VARIANTS))
    figures = draw(names, metrics, args.out)
    return finish(args, metrics, figures, seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
