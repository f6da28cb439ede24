"""Dense GAN of handwritten digits at six stages of training: are all ten digits made, equally often and as varied?

The generator has layers of 100-256-512-1024-784, the discriminator of 784-392-1; the loss is relativistic with both
gradient penalties (Huang et al. 2024). The best generator is the one nearest to one half of the held-out digits. It is
evaluated on the other half, on the features of a LeNet that was trained on real digits; the report has the same metrics
for real digits. An interrupted run is resumed from its checkpoint when it is repeated.

    python examples/gan_digits.py              # MNIST
    python examples/gan_digits.py --quick      # scikit-learn's digits
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from _images import DEVICE, ImageData, dense_gan_settings, evaluate_samples, load_images
from _parts import finished
from _report import finish, parser, save_figure
from matplotlib.figure import Figure

from posterity.data.pictures import animate
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial import TrainingRun, draw_samples, mode_collapse, monitors, saturation, train
from posterity.inference.plots import plot_samples
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator

LATENT, STAGES, READINGS = 100, 6, 32


class SampleFiles:
    """A monitor that stores samples of the same latent points at each reading."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.out.mkdir(parents=True, exist_ok=True)

    def read(self, run: TrainingRun) -> dict[str, float]:
        write_tensors({"samples": run.samples(20, seed=0).cpu()}, self.out / f"{run.step:08d}.pt")
        return {}


def train_digits(data: ImageData, steps: int, folder: Path, seed: int) -> TrainingRun:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = dense_generator(LATENT, data.shape)
        discriminator = dense_discriminator(data.shape)
    held_out = data.held_out[: len(data.held_out) // 2]  # the other half is for the evaluation
    n = min(1000, len(held_out))
    readers = (
        monitors.DiscriminatorAccuracy(held_out, n=n),
        monitors.SampleQuality(held_out, n=n, features=data.features, permutations=50),
        monitors.ClassCoverage(data.probabilities, reference=data.shares),
        monitors.SampleGrid(folder / "pictures"),
        SampleFiles(folder / "stages"),
    )
    path = folder / "run.pt"
    settings = dense_gan_settings(steps, monitor_every=steps // READINGS, checkpoint=path)
    return train(
        generator.to(DEVICE), discriminator.to(DEVICE), data.train.to(DEVICE), latent=LATENT, settings=settings,
        seed=seed, monitors=readers, alarms=(saturation(), mode_collapse()), resume=path if path.exists() else None,
    )  # fmt: skip


def draw_figures(run: TrainingRun, folder: Path, out: Path) -> list[Path]:
    """Samples at six stages, at doubling numbers of readings; and the training curves."""
    files = sorted((folder / "stages").glob("*.pt"))
    places = sorted({min(len(files), 2**power) - 1 for power in range(STAGES)})
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    figure.suptitle("A dense GAN of digits: the same 20 latent points at six stages of training")
    for ax, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        samples = read_tensors(files[place], "samples")["samples"]
        plot_samples(samples, columns=4, ax=ax, title=f"{int(files[place].stem):,} steps")
    stages = save_figure(figure, out / "gan-digits-stages.png")
    animate(folder / "pictures", out / "gan-digits.gif")
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    steps = run.history["read_at"]
    for name in ("accuracy_train", "accuracy_held_out", "accuracy_fake"):
        left.plot(steps, run.history[name], label=name.removeprefix("accuracy_").replace("_", " "))
    left.set(title="accuracy of the discriminator", xlabel="step", ylabel="share", ylim=(0, 1.02))
    middle.semilogy(steps, run.history["kernel_distance"], color="0.2")
    middle.set(title="distance from held-out digits", xlabel="step", ylabel="MMD² on LeNet features")
    right.semilogy(steps, run.history["class_kl"], color="0.2")
    right.set(title="unevenness of classes", xlabel="step", ylabel="KL of their shares, nats")
    left.legend(frameon=False)
    best = run.records[0].best_step
    for ax in (middle, right):
        ax.axvline(best, color="#D55E00", linestyle="--", label="best")
        ax.legend(frameon=False)
    return [stages, save_figure(figure, out / "gan-digits-curves.png")]


def main(argv: Sequence[str] | None = None) -> int:
    args = parser(__doc__, "gan_digits").parse_args(argv)
    torch.set_num_threads(1)
    begun = time.perf_counter()
    data = load_images("mnist", args.out, quick=args.quick)
    folder = args.out / f"{data.name}-{args.seed}"
    run = train_digits(data, 320 if args.quick else 12_000, folder, args.seed)
    finished(run)
    half = len(data.held_out) // 2
    other_half = ImageData(data.name, data.train, data.held_out[half:], data.shares, data.net, data.accuracy)
    samples = draw_samples(run.best_generator(), 5000, LATENT, seed=args.seed + 1, like=run.data).cpu()
    metrics = evaluate_samples(samples, other_half, seed=args.seed)
    metrics["best_step"] = float(run.records[0].best_step or 0)
    metrics |= {f"alarm.{name}_step": float(step) for name, step in run.alarms.items()}
    for name, value in sorted(metrics.items()):
        print(f"{name:24}{value:10.4f}")
    figures = draw_figures(run, folder, args.out)
    return finish(args, metrics, figures, seconds=time.perf_counter() - begun)


if __name__ == "__main__":
    sys.exit(main())
