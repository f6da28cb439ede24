"""The networks of ``translation.py``: construction, training and loading."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from _parts import finished, tag
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from _translation.settings import SIDE, Settings, domains, source
from posterity.data import edges
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import Adversarial, TrainingRun, mode_collapse, r1, saturation, train
from posterity.inference.adversarial.monitors import DiscriminatorAccuracy, SampleQuality
from posterity.inference.adversarial.sampling import generate
from posterity.inference.adversarial.terms import Term, cycle, identity
from posterity.inference.training.classifier import fit_classifier
from posterity.inference.training.streaming import fit_stream
from posterity.models import LeNet, load_lenet, save_lenet
from posterity.models.discriminators import patch_discriminator
from posterity.models.translation import ImageGenerator, PairedDiscriminator, Translator, image_generator

SHAPE = (1, SIDE, SIDE)
POOL = 50


@dataclass(frozen=True)
class Recipe:
    """How the networks of a task are built and trained; chosen on training images.

    ``kernel`` is the side of the last kernel of the discriminators, ``content`` the weight of the input beside the
    changes, ``rates`` the learning rates of generators and discriminators, ``penalty`` the weight of R1.
    """

    terms: tuple[Term, ...]
    kernel: int
    content: float
    rates: tuple[float, float]
    penalty: float


RECIPES = {
    # No identity loss: the domains differ in size, and what enlarges small digits would have to leave large ones alone.
    "digits": Recipe((cycle(1.0),), 7, 1.5, (5e-4, 5e-4), 0.1),
    # An outline is black where clothes are bright.
    "clothes": Recipe((cycle(3.0), identity(0.1)), 5, 0.5, (5e-4, 4e-4), 0.3),
}


def translator(task: str, settings: Settings, seed: int) -> Translator:
    """An untrained translator of the first domain to the second and back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nets = [
            image_generator(SHAPE, width=settings.width, blocks=settings.blocks, content=RECIPES[task].content)
            for _ in range(2)
        ]
    first, second = (images.subset(slice(5000)).scaled() for images in domains(task, "train", settings))
    nets[0].match_moments(second, first)
    nets[1].match_moments(first, second)
    return Translator(*nets)


def discriminator(task: str, settings: Settings, seed: int) -> PairedDiscriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        nets = [patch_discriminator(SHAPE, width=settings.width, kernel=RECIPES[task].kernel) for _ in range(2)]
        return PairedDiscriminator(*nets)


def train_translator(task: str, seed: int, settings: Settings, out: Path) -> dict[str, float]:
    """Train two generators against two discriminators; returns alarms and last losses."""
    torch.set_num_threads(1)
    data, held_out = source(task, settings)
    recipe = RECIPES[task]
    steps = settings.digit_steps if task == "digits" else settings.clothes_steps
    checkpoint = out / f"{task}-{seed}-{tag(settings)}.checkpoint"
    chosen = Adversarial(
        steps=steps, batch_size=settings.batch, loss="least_squares", terms=recipe.terms, replay=POOL,
        regularisers=(r1(recipe.penalty, every=4),), learning_rate=recipe.rates, betas=(0.5, 0.999),
        schedule=("late_linear", "late_linear"), ema=0.99 if steps < 1000 else 0.999,
        monitor_every=max(1, steps // settings.readings), checkpoint=checkpoint,
    )  # fmt: skip
    n = min(200, len(held_out))
    run = train(
        translator(task, settings, seed), discriminator(task, settings, seed), data, settings=chosen, seed=seed,
        monitors=[DiscriminatorAccuracy(held_out, n=n), SampleQuality(held_out, n=n)],
        alarms=[saturation(), mode_collapse()], resume=checkpoint if checkpoint.exists() else None,
    )  # fmt: skip
    finished(run)
    write_tensors(run.sampling_generator.state_dict(), out / f"{task}-{seed}.pt")
    return _summary(run)


def _summary(run: TrainingRun) -> dict[str, float]:
    last = {name: run.history[name][-1] for name in ("kernel_distance", "spread", "accuracy_held_out", "accuracy_fake")}
    losses = {name: sum(run.history[name][-100:]) / len(run.history[name][-100:]) for name in run.records[0].losses}
    return last | losses | {"alarms": float(len(run.alarms)), "inconclusive": float(len(run.inconclusive))}


def load(task: str, seed: int, settings: Settings, out: Path) -> Translator:
    net = translator(task, settings, seed)
    net.load_state_dict(read_tensors(out / f"{task}-{seed}.pt", "weights of a translator"))
    return net.eval().requires_grad_(False)


def translated(net: torch.nn.Module, images: Tensor) -> Tensor:
    """Images (N, 1, H, W) through one generator."""
    return generate(net, images, batch=500)


def train_judge(name: str, settings: Settings, out: Path) -> dict[str, float]:
    """A classifier of real digits of one domain, which is then frozen: "mnist" or "usps", or with "-plain".

    It is trained on digits and distorted copies of them, so that it knows other writers. The distortions were chosen on
    held-out training digits, before any translation was judged.
    """
    torch.set_num_threads(1)
    domain, _, plain = name.partition("-")
    images = domains("digits", "train", settings)[("mnist", "usps").index(domain)]
    assert images.labels is not None
    random = torch.Generator().manual_seed(settings.seed)
    copies = 1 if plain else max(2, settings.distorted // len(images))
    pixels = torch.cat([images.scaled(), *(distorted(images.scaled(), random) for _ in range(copies - 1))])
    net = new_classifier(settings.seed)
    epochs = max(1, round(settings.judge_epochs * settings.distorted / len(pixels) / (4 if plain else 1)))
    finished(
        fit_classifier(net, pixels, images.labels.repeat(copies), epochs=epochs, weight_decay=0.05, seed=settings.seed)
    )
    save_lenet(net, out / f"judge-{name}.pt")
    return {}


def distorted(images: Tensor, random: torch.Generator) -> Tensor:
    """Images (N, 1, H, W) turned by up to 15 degrees, sheared by up to 0.3, and scaled by up to 15 % on each axis."""
    angle, shear, log_x, log_y = (
        size * (2 * torch.rand(len(images), generator=random) - 1) for size in (math.radians(15), 0.3, 0.15, 0.15)
    )
    cos, sin, x, y = angle.cos(), angle.sin(), log_x.exp(), log_y.exp()
    rows = [torch.stack([cos * x, (shear * cos - sin) * x], -1), torch.stack([sin * y, (cos + shear * sin) * y], -1)]
    maps = torch.cat([torch.stack(rows, 1), torch.zeros(len(images), 2, 1)], 2)
    return grid_sample(images + 1, affine_grid(maps, list(images.shape), align_corners=False), align_corners=False) - 1


def new_classifier(seed: int) -> LeNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LeNet(shape=SHAPE, dropout=0.3)


def judge(name: str, out: Path) -> LeNet:
    return load_lenet(out / f"judge-{name}.pt").eval().requires_grad_(False)


def train_paired(settings: Settings, out: Path) -> dict[str, float]:
    """For comparison: both generators of clothes and outlines, trained on pairs."""
    torch.set_num_threads(1)
    clothes = domains("clothes", "train", settings)[0]
    images, outlines = clothes.scaled(), edges(clothes).scaled()
    nets: dict[str, ImageGenerator] = {}
    for name, inputs, outputs in (("to_first", outlines, images), ("to_second", images, outlines)):
        net = getattr(translator("clothes", settings, settings.seed), name)

        def draw(random: torch.Generator, a: Tensor = inputs, b: Tensor = outputs) -> tuple[Tensor, Tensor]:
            rows = torch.randint(len(a), (4 * settings.batch,), generator=random)
            return a[rows], b[rows]

        def loss(batch: tuple[Tensor, Tensor], net: ImageGenerator = net) -> Tensor:
            return (net(batch[0]) - batch[1]).square().mean()

        training = fit_stream(
            net, draw, loss, steps=settings.paired_steps, warmup=min(100, settings.paired_steps // 5),
            seed=settings.seed, checkpoint=out / f"paired-{name}-{tag(settings)}.checkpoint",
        )  # fmt: skip
        finished(training)
        nets[name] = net
    write_tensors(Translator(nets["to_first"], nets["to_second"]).state_dict(), out / "clothes-paired.pt")
    return {}
