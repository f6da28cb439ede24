"""DCGANs of digits and clothes, with and without batch normalisation, compared with dense GANs.

The generator has fractionally strided convolutions (Radford, Metz & Chintala 2016) after a dense layer, as that of
InfoGAN for digits (Chen et al. 2016, appendix C.1), with a reduced width for two CPU cores. All networks are trained in
the same way, with the relativistic loss, both penalties, and the same number of steps and images. The discriminator has
no batch normalisation, because penalties are defined for each sample by itself (Gulrajani et al. 2017, section 4). The
report has kernel distance, precision and recall on the features of a LeNet, also for real images, and for a dense GAN
with four times the steps, which takes longer to train than the DCGANs.

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
from _images import (
    DEVICE,
    EVALUATED,
    ImageData,
    dcgan_networks,
    dense_gan_settings,
    evaluate_samples,
    load_images,
    reference_images,
)
from _parts import compute_parts, finished, tag, total_seconds
from _report import finish, parser, save_figure
from matplotlib.figure import Figure
from torch import Tensor, nn

from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import TrainingRun, metrics, r1, r2, train
from posterity.inference.plots import plot_samples
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator

LATENT = 100
LONGER = 4  # times the steps: on two cores a step of the dense GAN takes a quarter of the time
TITLES = {
    "dense": "dense",
    "dense_long": f"dense, {LONGER} times the steps",
    "batch_norm": "DCGAN, batch norm",
    "no_norm": "DCGAN, no norm",
}
SPREADS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3)
AXES = ("recall", "precision")
PENALTIES = (r1(0.1, every=4), r2(0.1, every=4))  # in every step they would take two thirds of the time


@dataclass(frozen=True)
class Task:
    """One training run: networks and data set."""

    variant: str
    name: str
    steps: int
    width: int = 16
    seed: int = 0


def networks(task: Task, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
    if not task.variant.startswith("dense"):
        return dcgan_networks(LATENT, shape, width=task.width, seed=task.seed, batch_norm=task.variant == "batch_norm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        return dense_generator(LATENT, shape), dense_discriminator(shape)


def trained(task: Task, out: Path, data: ImageData) -> TrainingRun:
    """The finished run, resumed from its checkpoint if there is one."""
    generator, discriminator = (net.to(DEVICE) for net in networks(task, data.shape))
    path = out / f"{task.name}-{task.variant}-{tag(task)}.checkpoint"
    steps = task.steps * (LONGER if task.variant == "dense_long" else 1)
    settings = replace(dense_gan_settings(steps, monitor_every=steps, checkpoint=path), regularisers=PENALTIES)
    run = train(
        generator, discriminator, data.train.to(DEVICE), latent=LATENT, settings=settings, seed=task.seed,
        resume=path if path.exists() else None,
    )  # fmt: skip
    finished(run)
    return run


def train_and_evaluate(task: Task, out: Path, quick: bool) -> dict[str, float]:
    """Metrics of one run; stores samples and a walk between latent points for the figure."""
    torch.set_num_threads(1)
    data = load_images(task.name, out, quick=quick)
    run = trained(task, out, data)
    samples = run.samples(EVALUATED, seed=task.seed + 1).cpu()
    with torch.no_grad():
        walked = run.sampling_generator.eval()(walk(6, 8).to(DEVICE)).cpu()
    write_tensors({"samples": samples[:64], "walk": walked}, out / f"{task.name}-{task.variant}.pt")
    return evaluate_samples(samples, data, seed=task.seed)


def curve(task: Task, out: Path, quick: bool) -> dict[str, float]:
    """Precision and recall for latent points with a smaller or larger standard deviation than in training.

    A smaller one trades recall for precision (the "truncation trick" of Brock, Donahue & Simonyan 2019), so generators
    can be compared at the same recall.
    """
    torch.set_num_threads(1)
    data = load_images(task.name, out, quick=quick)
    run = trained(task, out, data)
    random = torch.Generator().manual_seed(task.seed + 2)
    z = torch.randn(min(EVALUATED, len(data.held_out)), LATENT, generator=random)
    _, held_out = reference_images(data, len(z), seed=task.seed)
    values: dict[str, float] = {}
    for spread in SPREADS:
        with torch.no_grad():
            samples = torch.cat(
                [run.sampling_generator.eval()((spread * part).to(DEVICE)).cpu() for part in z.split(1000)]
            )
        manifold = metrics.precision_recall(held_out, data.features(samples))
        values |= {f"spread_{spread:g}.{key}": manifold[key] for key in ("precision", "recall")}
    return values


def precision_at(row: dict[str, float], recall: float) -> float:
    """Precision at this recall along the curve, or at the nearest end of the curve."""
    points = sorted((row[f"spread_{s:g}.recall"], row[f"spread_{s:g}.precision"]) for s in SPREADS)
    recalls, precisions = np.array(points).T
    return float(np.interp(recall, recalls, precisions))


def walk(rows: int, columns: int) -> Tensor:
    """Latent points (rows * columns, latent); each row is a great circle from one normal draw to another."""
    random = torch.Generator().manual_seed(5)
    start, end = torch.randn(2, rows, 1, LATENT, generator=random)
    angle = torch.linspace(0, torch.pi / 2, columns)[:, None]
    return (angle.cos() * start + angle.sin() * end).flatten(0, 1)


def draw_figures(names: Sequence[str], metrics: dict[str, float], out: Path) -> list[Path]:
    figures = []
    for kind, columns, count in (("samples", 8, 64), ("walk", 8, 48)):
        figure = Figure(figsize=(14, 3.9 * len(names)), layout="constrained")
        figure.suptitle("Samples" if kind == "samples" else "From one latent point to another in each row")
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
        ax.set(xlabel="recall: share of real images covered", ylabel="precision: share of samples that look real")
        ax.set_title(f"{name}: latent sd {SPREADS[0]:g} to {SPREADS[-1]:g}, large dots: 1")
        ax.legend(loc="lower left")
    return [*figures, save_figure(figure, out / "dcgan-precision-recall.png")]


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "dcgan")
    options.add_argument("--width", type=int, default=16, help="channels of the layer next to the image")
    options.add_argument("--steps", type=int, default=3000)
    options.add_argument("--jobs", type=int, default=2, help="number of processes that train in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    names = ["mnist"] if args.quick else ["mnist", "fashion"]
    wanted, curves = {}, {}
    for variant in reversed(list(TITLES)):  # longest first
        for name in names:
            task = Task(variant, name, 60 if args.quick else args.steps, 4 if args.quick else args.width, args.seed)
            wanted[f"{name}.{variant}"] = (task, partial(train_and_evaluate, task, args.out, args.quick))
            curves[f"{name}.{variant}.curve"] = ((task, SPREADS), partial(curve, task, args.out, args.quick))
    for name in names:
        load_images(name, args.out, quick=args.quick)  # trains its LeNet before the processes need it
    numbers = compute_parts(args.out, wanted, jobs=1 if args.quick else args.jobs)
    metrics = {f"{name}.{key}": value for name, row in numbers.items() for key, value in row.items()}
    for name, row in compute_parts(args.out, curves, jobs=1 if args.quick else args.jobs).items():
        plain = name.removesuffix(".curve")
        metrics |= {f"{plain}.{key}": value for key, value in row.items() if key != "seconds"}
        for other in ("dense", "dense_long"):
            recall = metrics[f"{plain.split('.')[0]}.{other}.recall"]
            metrics[f"{plain}.precision_at_recall_of_{other}"] = precision_at(row, recall)
    shown = ("kernel_distance", "frechet", "precision", "recall", "precision_at_recall_of_dense_long", "seconds")
    for key in shown:
        print(f"{key:34}" + "".join(f"{metrics[f'{n}.{v}.{key}']:12.4f}" for n in names for v in TITLES))
    figures = draw_figures(names, metrics, args.out)
    return finish(args, metrics, figures, seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
