"""Completing faces: many completions of a hidden part, beside the exact posterior of a linear model.

Pictures of 40 people (AT&T), of which ten are for the test alone; the lower half, the eyes or the centre is hidden. The
report has, for each part,

- `network`: encoders and decoders with latent numbers, trained with an energy score against a global and a local
  discriminator; completions come from three of them in turn. PSNR (dB) and SSIM in the hidden part of the expected
  completion, coverage of 90% intervals, distance of the PIT from uniform, and `distinct`: the mean distance of two
  completions of a face over that of two true faces;
- `mean`, `knn`, `ridge`, `ridge_moved` (trained on moved copies), `ppca`: PSNR and SSIM of simple methods, whose
  settings were chosen on held-out people;
- `pca`: intervals of the exact posterior of probabilistic PCA;
- `refused`: shares of pictures that are refused as unlike those of training.

    python examples/faces.py
    python examples/faces.py --quick    # scikit-learn's digits
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from _faces import evaluation, figures
from _faces.baselines import CHOICES
from _faces.networks import store_completer, train_network
from _faces.settings import QUICK, Settings
from _parts import compute_stages, tag, total_seconds
from _report import finish, parser


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "faces")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that work in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    work = args.out / f"work-{tag(settings)}"  # networks and arrays of these settings alone
    work.mkdir(exist_ok=True)
    stages = [
        {
            f"training.{group}{member}": partial(train_network, group, member, settings, work)
            for member in range(settings.members)
            for group in ("fitted", "training")
        },
        {"completer": partial(store_completer, settings, work)},
        {
            "network": partial(evaluation.score_network, settings, work),
            "pca": partial(evaluation.score_pca, settings),
            "refused": partial(evaluation.refusals, settings, work),
        }
        | {name: partial(evaluation.score_baseline, name, settings) for name in CHOICES},
    ]
    metrics = compute_stages(args.out, settings, stages, jobs=args.jobs)
    for name, value in sorted(metrics.items()):
        print(f"{name:36} {value:.4g}")
    drawn = [figures.draw_completions(settings, work, args.out), figures.draw_scores(settings, metrics, work, args.out)]
    return finish(args, metrics, drawn, seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
