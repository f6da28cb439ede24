"""DCGAN on digits and clothes, with and without batch normalisation, held against the dense GAN.

Fractionally strided convolutions (Radford, Metz & Chintala 2016) behind a dense layer, as those of InfoGAN for digits
(Chen et al. 2016, appendix C.1), of reduced width for two cores. All are trained alike, by the relativistic loss with
both penalties, as many steps on as many images. The discriminator has no batch normalisation: penalties are of each
sample by itself (Gulrajani et al. 2017, section 4). Kernel distance, precision and recall on the features of a LeNet,
with what real images score against other real ones beside; and a dense GAN of four times the steps, which takes longer.

    python examples/dcgan.py                   # MNIST and Fashion-MNIST
    python examples/dcgan.py --width 64        # the published width: for a GPU
    python examples/dcgan.py --quick           # scikit-learn's digits
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _images import DEVICE, JUDGED, Pictures, judge, judges, pictures, steady
from _parts import parts, tag, total_seconds
from _report import finish, parser, save_figure
from matplotlib.figure import Figure
from torch import Tensor, nn

from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import TrainingRun, metrics, r1, r2, train
from posterity.inference.plots import plot_samples
from posterity.models.discriminators import dcgan_discriminator, dense_discriminator
from posterity.models.generators import dcgan_generator, dense_generator

LATENT = 100
LONGER = 4  # a step of the dense GAN takes a quarter of the time on two cores
TITLES = {
    "dense": "dense",
    "dense_long": f"dense, {LONGER} times the steps",
    "batch_norm": "DCGAN, batch norm",
    "no_norm": "DCGAN, no norm",
}
SPREADS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3)
AXES = ("recall", "precision")
PENALTIES = (r1(0.1, every=4), r2(0.1, every=4))  # lazily: of convolutions they are two thirds of a step otherwise


@dataclass(frozen=True)
class Task:
    """One training: which networks on which data."""

    variant: str
    name: str
    steps: int
    width: int = 16
    seed: int = 0


def networks(task: Task, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        if task.variant.startswith("dense"):
            return dense_generator(LATENT, shape), dense_discriminator(shape)
        normal = task.variant == "batch_norm"
        generator = dcgan_generator(
            LATENT, shape, width=task.width, hidden=(64 * task.width,), batch_norm=normal, start="he"
        )
        return generator, dcgan_discriminator(shape, width=task.width, hidden=(32 * task.width,), norm="none")


def trained(task: Task, out: Path, data: Pictures) -> TrainingRun:
    generator, discriminator = (net.to(DEVICE) for net in networks(task, data.shape))
    path = out / f"{task.name}-{task.variant}-{tag(task)}.checkpoint"
    steps = task.steps * (LONGER if task.variant == "dense_long" else 1)
    settings = replace(steady(steps, monitor_every=steps, checkpoint=path), regularisers=PENALTIES)
    run = train(
        generator, discriminator, data.train.to(DEVICE), latent=LATENT, settings=settings, seed=task.seed,
        resume=path if path.exists() else None,
    )  # fmt: skip
    if run.interrupted:
        raise KeyboardInterrupt
    return run


def train_and_evaluate(task: Task, out: Path, quick: bool) -> dict[str, float]:
    """Trained, judged; samples and a walk between latent points are kept for the figure."""
    torch.set_num_threads(1)
    data = pictures(task.name, out, quick=quick)
    run = trained(task, out, data)
    samples = run.samples(JUDGED, seed=task.seed + 1).cpu()
    with torch.no_grad():
        walked = run.trained.eval()(walk(6, 8).to(DEVICE)).cpu()
    write_tensors({"samples": samples[:64], "walk": walked}, out / f"{task.name}-{task.variant}.pt")
    return judge(samples, data, seed=task.seed)


def curve(task: Task, out: Path, quick: bool) -> dict[str, float]:
    """Precision and recall where latent points are drawn more narrowly, or more widely, than in training.

    Narrow ones trade recall for precision (Brock, Donahue & Simonyan 2019, the "truncation trick"), so that generators
    can be compared at the same recall.
    """
    torch.set_num_threads(1)
    data = pictures(task.name, out, quick=quick)
    run = trained(task, out, data)
    random = torch.Generator().manual_seed(task.seed + 2)
    z = torch.randn(min(JUDGED, len(data.held_out)), LATENT, generator=random)
    _, held_out = judges(data, len(z), seed=task.seed)
    found: dict[str, float] = {}
    for spread in SPREADS:
        with torch.no_grad():
            made = torch.cat([run.trained.eval()((spread * part).to(DEVICE)).cpu() for part in z.split(1000)])
        seen = metrics.precision_recall(held_out, data.features(made))
        found |= {f"spread_{spread:g}.{key}": seen[key] for key in ("precision", "recall")}
    return found


def at_recall(row: dict[str, float], recall: float) -> float:
    """Precision at that recall along the curve; at its nearest end where the curve does not reach it."""
    points = sorted((row[f"spread_{s:g}.recall"], row[f"spread_{s:g}.precision"]) for s in SPREADS)
    recalls, precisions = np.array(points).T
    return float(np.interp(recall, recalls, precisions))


def walk(rows: int, columns: int) -> Tensor:
    """Latent points on great circles, from one normal draw to another in each row: (rows * columns, latent)."""
    random = torch.Generator().manual_seed(5)
    start, end = torch.randn(2, rows, 1, LATENT, generator=random)
    angle = torch.linspace(0, torch.pi / 2, columns)[:, None]
    return (angle.cos() * start + angle.sin() * end).flatten(0, 1)


def draw(names: Sequence[str], metrics: dict[str, float], out: Path) -> list[Path]:
    figures = []
    for kind, columns, count in (("samples", 8, 64), ("walk", 8, 48)):
        figure = Figure(figsize=(14, 3.9 * len(names)), layout="constrained")
        figure.suptitle("Samples" if kind == "samples" else "From one latent point to another, a row each")
        for row, name in zip(figure.subplots(len(names), len(TITLES), squeeze=False), names, strict=True):
            for ax, variant in zip(row, TITLES, strict=True):
                images = read_tensors(out / f"{name}-{variant}.pt", "samples")[kind][:count]
                distance = metrics[f"{name}.{variant}.kernel_distance"]
                plot_samples(images, columns=columns, ax=ax, title=f"{name}: {TITLES[variant]}\nMMD² {distance:.4f}")
        figures.append(save_figure(figure, out / f"dcgan-{kind}.png"))
    figure = Figure(figsize=(5.2 * len(names), 4.4), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for number, variant in enumerate(TITLES):
            row = {key: [metrics[f"{name}.{variant}.spread_{s:g}.{key}"] for s in SPREADS] for key in AXES}
            ax.plot(*row.values(), ".-", color=f"C{number}", label=TITLES[variant])
            plain = [metrics[f"{name}.{variant}.{key}"] for key in AXES]
            ax.plot(*plain, "o", ms=9, color=f"C{number}")
        real = [metrics[f"{name}.dense.{key}_real"] for key in AXES]
        ax.plot(*real, "k*", ms=13, label="real images")
        ax.set(xlabel="recall: how much of the real is made", ylabel="precision: how much that is made is real")
        ax.set_title(f"{name}: latent points of sd {SPREADS[0]:g} to {SPREADS[-1]:g}, large dots 1")
        ax.legend(loc="lower left")
    return [*figures, save_figure(figure, out / "dcgan-precision-recall.png")]


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "dcgan")
    options.add_argument("--width", type=int, default=16, help="channels next to the image")
    options.add_argument("--steps", type=int, default=3000)
    options.add_argument("--jobs", type=int, default=2, help="trainings side by side, each in a process")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    names = ["mnist"] if args.quick else ["mnist", "fashion"]
    wanted, curves = {}, {}
    for variant in reversed(list(TITLES)):  # the long ones first
        for name in names:
            task = Task(variant, name, 60 if args.quick else args.steps, 4 if args.quick else args.width, args.seed)
            wanted[f"{name}.{variant}"] = (task, partial(train_and_evaluate, task, args.out, args.quick))
            curves[f"{name}.{variant}.curve"] = ((task, SPREADS), partial(curve, task, args.out, args.quick))
    for name in names:
        pictures(name, args.out, quick=args.quick)  # its LeNet, before all that ask it
    numbers = parts(args.out, wanted, jobs=1 if args.quick else args.jobs)
    metrics = {f"{name}.{key}": value for name, row in numbers.items() for key, value in row.items()}
    for name, row in parts(args.out, curves, jobs=1 if args.quick else args.jobs).items():
        plain = name.removesuffix(".curve")
        metrics |= {f"{plain}.{key}": value for key, value in row.items() if key != "seconds"}
        for other in ("dense", "dense_long"):
            recall = metrics[f"{plain.split('.')[0]}.{other}.recall"]
            metrics[f"{plain}.precision_at_recall_of_{other}"] = at_recall(row, recall)
    shown = ("kernel_distance", "frechet", "precision", "recall", "precision_at_recall_of_dense_long", "seconds")
    for key in shown:
        print(f"{key:34}" + "".join(f"{metrics[f'{n}.{v}.{key}']:12.4f}" for n in names for v in TITLES))
    figures = draw(names, metrics, args.out)
    return finish(args, metrics, figures, seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
