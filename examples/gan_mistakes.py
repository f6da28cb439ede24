"""Mistakes of generators that the alarms miss: wrong counts, wrong views, parts that do not fit together.

A DCGAN of digits and one of clothes are trained for 3,000 steps each (with ``--quick`` a dense GAN of digits). Then
parts are counted in generated and in real images (Goodfellow 2016, arXiv:1701.00160, section 5.4, shows such failures;
here they are measured):

- `mnist`: strokes in pieces (`broken`), and a wrong number of holes for the class that a classifier sees (`holes`);
- `fashion`: trousers without two legs (`legs`); pullovers and coats with one sleeve, or with too many (`sleeves`);
  shoes that do not point to the left, as a classifier of mirror images sees it (`view`); T-shirts, trousers and dresses
  with a left half unlike the right one (`symmetry`, beyond 99% of the training images).

The report has each share for generated and for held-out real images, with its standard error, and what the alarms and
the kernel test say of the same run.

    python examples/gan_mistakes.py
    python examples/gan_mistakes.py --quick
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _images import ImageData, dcgan_networks, dense_gan_settings, load_images
from _parts import compute_parts, finished, tag, total_seconds
from _report import finish, parser, save_arrays, save_figure
from matplotlib.figure import Figure
from torch import Tensor, nn

from posterity.inference.adversarial import metrics, mode_collapse, r1, r2, saturation, train
from posterity.inference.adversarial.monitors import DiscriminatorAccuracy, SampleQuality
from posterity.inference.training.classifier import fit_classifier, predict_probabilities
from posterity.models import LeNet
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator

LATENT = 100
HOLES = (1, 0, 0, 0, 0, 0, 1, 0, 2, 1)  # of the digits 0 to 9; a 4 may be closed, so it does not count
SURE = 0.95  # probability of the class that a sample needs to be counted
ROWS = {"legs": 25, "sleeves": 18}  # of 28 from above
SHOES, SYMMETRIC = (5, 7, 9), (0, 1, 3)
TITLES = {
    "broken": "broken strokes",
    "holes": "wrong number of holes",
    "legs": "trousers without two legs",
    "sleeves": "wrong number of sleeves",
    "view": "shoes seen from the wrong side",
    "symmetry": "halves that do not match",
}


@dataclass(frozen=True)
class Task:
    """One training run."""

    name: str
    steps: int = 3000
    width: int = 16
    samples: int = 10_000
    dense: bool = False
    seed: int = 0


def networks(task: Task, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
    if not task.dense:
        return dcgan_networks(LATENT, shape, width=task.width, seed=task.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        return dense_generator(LATENT, shape), dense_discriminator(shape)


def measure(task: Task, out: Path, quick: bool) -> dict[str, float]:
    """Train a DCGAN, and compare shares of mistakes with those of held-out images."""
    torch.set_num_threads(1)
    data = load_images(task.name, out, quick=quick)
    generator, discriminator = networks(task, data.shape)
    path = out / f"mistakes-{task.name}-{tag(task)}.checkpoint"
    settings = replace(
        dense_gan_settings(task.steps, monitor_every=max(1, task.steps // 8), checkpoint=path),
        regularisers=(r1(0.1, every=4), r2(0.1, every=4)),
    )
    n = min(500, len(data.held_out))
    run = train(
        generator, discriminator, data.train, latent=LATENT, settings=settings, seed=task.seed,
        monitors=[DiscriminatorAccuracy(data.held_out, n=n), SampleQuality(data.held_out, n=n, features=data.features)],
        alarms=[saturation(), mode_collapse()], resume=path if path.exists() else None,
    )  # fmt: skip
    finished(run)
    samples = run.samples(task.samples, seed=task.seed + 1)
    real = data.held_out[: task.samples]
    checks = mistakes_of_digits(data) if task.name != "fashion" else mistakes_of_clothes(data, task)
    found = {
        "alarms": float(len(run.alarms)),
        "inconclusive": float(len(run.inconclusive)),
        "spread": run.history["spread"][-1],
        "kernel_p": run.history["kernel_p"][-1],
        "kernel_distance": run.history["kernel_distance"][-1],
    }
    shown: dict[str, Tensor] = {}
    for name, check in checks.items():
        for kind, images in (("generated", samples), ("real", real)):
            counted, wrong = check(images)
            if not bool(counted.any()):
                continue
            share = float(wrong[counted].double().mean())
            found[f"{name}.{kind}"] = share
            found[f"{name}.{kind}_se"] = float(np.sqrt(share * (1 - share) / max(1, int(counted.sum()))))
            found[f"{name}.{kind}_counted"] = float(counted.sum())
            if kind == "generated":
                shown[name] = images[counted & wrong][:12]
                shown[f"{name}_right"] = images[counted & ~wrong][:4]
        if found.get(f"{name}.real") and f"{name}.generated" in found:
            found[f"{name}.times"] = found[f"{name}.generated"] / found[f"{name}.real"]
    save_arrays(out / f"mistakes-{task.name}.npz", **shown)
    return found


Check = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> which ones count (N,), and which have the mistake (N,)


def mistakes_of_digits(data: ImageData) -> dict[str, Check]:
    def broken(images: Tensor) -> tuple[Tensor, Tensor]:
        sure, _ = classes(data, images)
        return sure, metrics.count_pieces(images, threshold=-0.4) > 1

    def holes(images: Tensor) -> tuple[Tensor, Tensor]:
        sure, label = classes(data, images)
        return sure & (label != 4), metrics.count_holes(images, threshold=-0.4, smallest=2) != torch.tensor(HOLES)[
            label
        ]

    return {"broken": broken, "holes": holes}


def mistakes_of_clothes(data: ImageData, task: Task) -> dict[str, Check]:
    mirrored = mirror_classifier(data, task)
    sure, label = classes(data, data.train[:10_000])
    usual = metrics.asymmetry(data.train[:10_000][sure & among(label, SYMMETRIC)]).quantile(0.99)

    def legs(images: Tensor) -> tuple[Tensor, Tensor]:
        sure, label = classes(data, images)
        return sure & (label == 1), metrics.count_runs(images, ROWS["legs"], threshold=-0.6, smallest=2) != 2

    def sleeves(images: Tensor) -> tuple[Tensor, Tensor]:
        sure, label = classes(data, images)
        runs = metrics.count_runs(images, ROWS["sleeves"], threshold=-0.6)
        return sure & among(label, (2, 4)), (runs == 2) | (runs > 3)  # one body, or a body between two sleeves

    def view(images: Tensor) -> tuple[Tensor, Tensor]:
        sure, label = classes(data, images)
        return sure & among(label, SHOES), predict_probabilities(mirrored, images)[:, 0] < 0.5

    def symmetry(images: Tensor) -> tuple[Tensor, Tensor]:
        sure, label = classes(data, images)
        return sure & among(label, SYMMETRIC), metrics.asymmetry(images) > usual

    return {"legs": legs, "sleeves": sleeves, "view": view, "symmetry": symmetry}


def classes(data: ImageData, images: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the classifier is sure, and the class (N,)."""
    probability, label = data.probabilities(images).max(1)
    return probability > SURE, label


def among(label: Tensor, wanted: Sequence[int]) -> Tensor:
    return torch.isin(label, torch.tensor(wanted))


def mirror_classifier(data: ImageData, task: Task) -> LeNet:
    """A classifier of shoes: 0 as they are in the training images, 1 mirrored."""
    sure, label = classes(data, data.train)
    shoes = data.train[sure & among(label, SHOES)][:10_000]
    images, labels = torch.cat([shoes, shoes.flip(-1)]), torch.arange(2).repeat_interleave(len(shoes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        net = LeNet(2, shape=data.shape)
    finished(fit_classifier(net, images, labels, epochs=3, seed=task.seed, progress=False))
    return net


def draw_figures(names: Sequence[str], found: dict[str, float], out: Path) -> list[Path]:
    rows = [
        (name, key)
        for name in names
        for key in TITLES
        if {f"{name}.{key}.{kind}" for kind in ("real", "generated")} <= found.keys()
    ]
    figure = Figure(figsize=(15, 1.15 * len(rows) + 1), layout="constrained")
    pictures, bars = figure.subfigures(1, 2, width_ratios=(2, 1))
    pictures.suptitle("Generated images with a mistake, and four without on the right")
    for ax, (name, key) in zip(np.ravel(pictures.subplots(len(rows), 1)), rows, strict=True):
        stored = np.load(out / f"mistakes-{name}.npz")
        height, width = stored[key].shape[-2:] if len(stored[key]) else stored[f"{key}_right"].shape[-2:]
        line = -np.ones((height, 17 * width))
        for place, image in [
            *enumerate(stored[key][:12]),
            *((13 + i, one) for i, one in enumerate(stored[f"{key}_right"])),
        ]:
            line[:, place * width : (place + 1) * width] = image[0]
        line[:, 12 * width : 13 * width] = 1
        ax.imshow(line, cmap="gray", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(
            TITLES[key].replace(" without", "\nwithout").replace(" that", "\nthat"), rotation=0, ha="right", va="center"
        )
    ax = bars.subplots(1, 1)
    for offset, kind in enumerate(("generated", "real")):
        shares = [100 * found[f"{name}.{key}.{kind}"] for name, key in rows]
        errors = [100 * found[f"{name}.{key}.{kind}_se"] for name, key in rows]
        ax.barh(
            np.arange(len(rows)) + 0.38 * (offset - 0.5),
            shares,
            0.36,
            xerr=errors,
            color=("C3", "C7")[offset],
            label=kind,
        )
    ax.set_yticks(range(len(rows)), ["" for _ in rows])
    ax.set(xlabel="share of the images that were counted, in %", ylim=(len(rows) - 0.5, -0.5))
    rung = sum(found[f"{name}.alarms"] for name in names)
    ax.set_title(f"Alarms that rang: {rung:.0f}")
    ax.legend(loc="lower right")
    return [save_figure(figure, out / "gan-mistakes.png")]


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "gan_mistakes")
    options.add_argument("--steps", type=int, default=3000)
    options.add_argument("--jobs", type=int, default=2, help="number of processes that train in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    names = ["mnist"] if args.quick else ["mnist", "fashion"]
    wanted = {}
    for name in names:
        load_images(name, args.out, quick=args.quick)  # trains its LeNet before the processes need it
        task = Task(name, args.steps, seed=args.seed)
        if args.quick:
            task = replace(task, steps=600, samples=500, dense=True)
        wanted[name] = (task, partial(measure, task, args.out, args.quick))
    found = {
        f"{name}.{key}": value
        for name, row in compute_parts(args.out, wanted, jobs=1 if args.quick else args.jobs).items()
        for key, value in row.items()
    }
    for key, value in sorted(found.items()):
        print(f"{key:40} {value:.4g}")
    return finish(args, found, draw_figures(names, found, args.out), seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
