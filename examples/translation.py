"""Unpaired translation: digits of two kinds, and clothes and their outlines, without a single pair.

Two generators translate between two domains, two discriminators judge the results, and an image that is translated to
the other domain and back should equal the original (Zhu et al. 2017, CycleGAN). The pairing is known but hidden from
training, so translations can be judged:

- `digits`: MNIST and USPS, five seeds. Accuracy of a frozen classifier of the target domain on translated digits, on
  untranslated ones (`untranslated`), after the affine start alone (`placed_only`), and on real digits (`own`);
  confusion of classes. `adapted`: accuracy on real digits of a classifier that was trained on translated ones;
  `source_only` without translation, `placed_only` with the affine start alone;
- `edges`: clothes and their outlines, five seeds. PSNR on hidden pairs (dB), and that of the same generators trained
  on pairs;
- `cycle`: mean absolute error (0 to 2) after translation there and back; also with the translation rounded to 8 bits
  and with noise, which destroys a code hidden in the lowest bits.

    python examples/translation.py
    python examples/translation.py --quick
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _parts import compute_parts, tag, total_seconds
from _report import finish, parser
from _translation import clothes, digits, figures
from _translation.networks import train_judge, train_paired, train_translator
from _translation.settings import QUICK, Settings

Compute = Callable[[], dict[str, float]]


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "translation")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that work in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    chosen = QUICK if args.quick else Settings()
    settings = replace(chosen, seed=args.seed, seeds=tuple(seed + args.seed for seed in chosen.seeds))
    args.out.mkdir(parents=True, exist_ok=True)
    work = args.out / f"work-{tag(settings)}"  # networks and arrays of these settings alone
    work.mkdir(exist_ok=True)
    metrics: dict[str, float] = {}
    for stage in stages(settings, work):
        parts = {name: (settings, compute) for name, compute in stage.items()}
        for group, numbers in compute_parts(args.out, parts, jobs=args.jobs).items():
            name = group.partition("-")[2] or group
            metrics |= {f"{name}.{key}": value for key, value in numbers.items() if key != "seconds"}
    metrics |= means_over_seeds(metrics, settings)
    for name, value in sorted(metrics.items()):
        if "confusion" not in name:
            print(f"{name:50} {value:.4g}")
    drawn = [
        figures.draw_digits(settings, metrics, work, args.out),
        figures.draw_clothes(settings, metrics, work, args.out),
        figures.draw_scores(settings, metrics, args.out),
    ]
    return finish(args, metrics, drawn, seconds=total_seconds())


def stages(settings: Settings, out: Path) -> list[dict[str, Compute]]:
    """The parts by stage; a stage needs the networks of the stages before.

    The text after the dash in a part's name begins the names of its metrics.
    """
    training: dict[str, Compute] = {
        f"training-training.{task}.{seed}": partial(train_translator, task, seed, settings, out)
        for task in ("digits", "clothes")
        for seed in settings.seeds
    }
    training |= {
        f"judge-judge.{name}": partial(train_judge, name, settings, out)
        for name in ("mnist", "usps", "mnist-plain", "usps-plain")
    }
    training["paired-judge.paired"] = partial(train_paired, settings, out)
    results: dict[str, Compute] = {
        "baselines-digits": partial(digits.baselines, settings, out),
        "references-edges": partial(clothes.references, settings, out),
    }
    for seed in settings.seeds:
        results[f"digits{seed}-digits.{seed}"] = partial(digits.evaluate, seed, settings, out)
        results[f"adapted{seed}-adapted.{seed}"] = partial(digits.adapt, seed, settings, out)
        results[f"edges{seed}-edges.{seed}"] = partial(clothes.evaluate, seed, settings, out)
    return [training, results]


def means_over_seeds(metrics: dict[str, float], settings: Settings) -> dict[str, float]:
    """Means of all metrics that each seed has, under the name without the seed, and the smallest ones as ``.worst``."""
    found: dict[str, float] = {}
    for group in ("digits", "adapted", "edges", "training.digits", "training.clothes"):
        first = f"{group}.{settings.seeds[-1]}."
        for name in [name.removeprefix(first) for name in metrics if name.startswith(first)]:
            values = [metrics[f"{group}.{seed}.{name}"] for seed in settings.seeds]
            short = name if group == "digits" else f"{group}.{name}"
            found[short] = float(np.mean(values))
            if name.endswith(("accuracy", "psnr", "psnr_clothes")) or group == "adapted":
                found[f"{short}.worst"] = min(values)
    found["alarms"] = sum(value for name, value in metrics.items() if name.endswith(".alarms"))
    return found


if __name__ == "__main__":
    sys.exit(main())
