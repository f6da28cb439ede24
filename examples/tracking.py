"""Finding tracks in a noisy detector: a network with a mixture density, held against what is possible.

Straight tracks through 28 layers of 28 pixels that miss a hit in 20 and fire by themselves with a probability of 0.1,
0.2 or 0.3. One track: its density is held against the exact posterior, in nats, in resolution and in pulls. Several:
how many are found, made up and found twice, beside two classical chains, each tuned to the noise on events of its own,
and beside a network that predicts each intercept by itself and so cannot know which belong together.

    python examples/tracking.py
    python examples/tracking.py --quick
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _parts import parts, total_seconds
from _report import finish, parser
from _tracking import NOISES, QUICK, Settings, counted, one_track, train
from _tracking_figures import draw_counts, draw_events, draw_pulls


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "tracking")
    options.add_argument("--jobs", type=int, default=2, help="parts side by side, each in a process")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = 1 if args.quick else args.jobs
    trained = [("set", 0), ("independent", 0), *(("single", member) for member in range(settings.members))]
    numbers = parts(
        args.out,
        {f"{kind}-{member}": (settings, partial(train, kind, settings, member, args.out)) for kind, member in trained},
        jobs=jobs,
    )
    metrics = {f"training.{name}.{key}": value for name, row in numbers.items() for key, value in row.items()}
    wanted = {
        f"one_track.noise{round(100 * noise)}": (settings, partial(one_track, settings, noise, args.out))
        for noise in NOISES
    }
    wanted |= {
        f"tracks{count}.noise{round(100 * noise)}": (settings, partial(counted, settings, count, noise, args.out))
        for count in settings.counts
        for noise in NOISES
    }
    for name, row in parts(args.out, wanted, jobs=jobs).items():
        metrics |= {f"{name}.{key}": value for key, value in row.items()}
    figures: list[Path] = [
        draw_events(settings, args.out),
        draw_pulls(args.out),
        draw_counts(settings, metrics, args.out),
    ]
    for noise in NOISES:
        part = f"one_track.noise{round(100 * noise)}"
        shown = [metrics[f"{part}.{key}"] for key in ("pull_mean", "pull_width", "nll_excess", "resolution_ratio")]
        print(f"{part:20}", "pull {:+.3f} {:.3f}  nll excess {:.3f}  resolution {:.3f}".format(*shown))
    return finish(args, metrics, figures, seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
