"""Track finding by mixture density networks, compared with the exact posterior and with classical finders.

Straight tracks cross 28 layers of 28 pixels, which miss one hit in 20 and fire by themselves with a probability of 0.1,
0.2 or 0.3. The report has

- one track: excess of the NLL over the exact posterior in nats, resolution, and pulls;
- several tracks: efficiency, fake rate and duplicate rate, also of two classical finders, which are tuned to the noise
  on other events, and of a network that predicts each intercept by itself and so cannot pair them;
- normal hits: errors over the Cramér-Rao bound;
- time per event, and events unlike those of training.

    python examples/tracking.py
    python examples/tracking.py --quick
    python examples/tracking.py --tracks 3 --noise 0.1 0.25 --head set
    python examples/tracking.py --quick --weights examples/results/tracking   # trained networks, few events

The last command trains nothing and takes about two minutes on one core; its figures show the networks of the full run
on few events. Normal hits are fitted by the Kalman filter alone unless the folder has a ``line-0.pt``.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _parts import compute_parts, total_seconds
from _report import finish, parser
from _tracking.figures import (
    draw_cost,
    draw_counts,
    draw_events,
    draw_existence,
    draw_noise,
    draw_pulls,
    draw_shifted,
)
from _tracking.networks import train
from _tracking.normal_hits import gaussian_hits
from _tracking.settings import NOISES, QUICK, Settings, noise_name
from _tracking.several_tracks import HEADS, count_tracks, existence_calibration, used_components
from _tracking.single_track import SHIFTED, one_track, shifted
from _tracking.timing import TIMED_COUNTS, TIMED_NOISES, events_per_second, time_finders

ALL = ("single", *HEADS)
COUNTS = (2, 3, 4, 5)
MORE_NOISES = (0.05, 0.15, 0.25, 0.4)  # at which three tracks are counted as well


Compute = Callable[[], dict[str, float]]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(1)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    if args.weights:
        sizes = {name: getattr(Settings(), name) for name in ("members", "single_components", "set_components")}
        settings = replace(settings, weights=str(args.weights), **sizes)
    args.out.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, float] = {}

    def compute(wanted: dict[str, Compute], jobs: int) -> None:
        """Add the metrics of these parts, named after them."""
        parts = {name: ((settings, args.heads), part) for name, part in wanted.items()}
        for name, numbers in compute_parts(args.out, parts, jobs=jobs).items():
            metrics.update({f"{name}.{key}": value for key, value in numbers.items()})

    jobs = 1 if args.quick else args.jobs
    if not args.weights:
        compute(trainings(args, settings), jobs)
    compute(evaluations(args, settings), jobs)
    compute(timings(args, settings), 1)  # other processes would disturb the timing
    metrics |= over_limit(args, metrics)
    print_table(args, metrics)
    return finish(args, metrics, draw_figures(args, settings, metrics), seconds=total_seconds())


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with ``counts`` of tracks, ``noises``, ``more_noises`` for three tracks, and ``heads`` of sets."""
    options = parser(__doc__, "tracking")
    options.add_argument("--tracks", type=int, nargs="+", help="numbers of tracks (default 2 3 4 5)")
    options.add_argument("--noise", type=float, nargs="+", help="noises (default 0.1 0.2 0.3)")
    options.add_argument("--head", nargs="+", choices=ALL, default=ALL, help="networks (default all)")
    options.add_argument("--weights", type=Path, help="folder of trained networks; nothing is trained")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that work in parallel")
    args = options.parse_args(argv)
    args.counts = tuple(args.tracks or ((2, 3) if args.quick else COUNTS))
    args.noises = tuple(args.noise or NOISES)
    if min(args.counts) < 1:
        options.error(f"expected numbers of tracks of 1 or more, got {min(args.counts)}")
    if not all(0 <= noise < 1 for noise in args.noises):
        options.error(f"expected noises of at least 0 and below 1, got {args.noises}")
    args.more_noises = () if args.noise or args.quick or 3 not in args.counts else MORE_NOISES
    args.heads = tuple(head for head in HEADS if head in args.head)
    return args


def trainings(args: argparse.Namespace, settings: Settings) -> dict[str, Compute]:
    """Training of all networks."""
    networks = [(head, 0) for head in args.heads]
    networks += [("single", member) for member in range(settings.members) if "single" in args.head]
    return {f"training.{kind}-{member}": partial(train, kind, settings, member, args.out) for kind, member in networks}


def evaluations(args: argparse.Namespace, settings: Settings) -> dict[str, Compute]:
    """Everything that is measured on test events, but for the time it takes."""
    parts: dict[str, Compute] = {}
    names = {noise: noise_name(noise) for noise in (*args.noises, *args.more_noises)}
    if "single" in args.head:
        parts |= {f"one_track.{names[noise]}": partial(one_track, settings, noise, args.out) for noise in args.noises}
        parts |= {f"unlike.{name}": partial(shifted, settings, name, args.out) for name in SHIFTED}
        parts["gaussian_hits"] = partial(gaussian_hits, settings, args.out)
    if args.heads:
        cells = [(count, noise) for count in args.counts for noise in args.noises]
        cells += [(3, noise) for noise in args.more_noises]
        parts |= {
            f"tracks{count}.{names[noise]}": partial(count_tracks, settings, count, noise, args.heads, args.out)
            for count, noise in cells
        }
    if "independent" in args.heads:
        parts["independent_components"] = partial(used_components, settings, args.out)
    if "set" in args.heads:
        parts |= {
            f"said.{names[noise]}": partial(existence_calibration, settings, noise, args.out) for noise in args.noises
        }
    return parts


def timings(args: argparse.Namespace, settings: Settings) -> dict[str, Compute]:
    parts: dict[str, Compute] = {"events_per_second": partial(events_per_second, settings)}
    if "set" in args.heads:
        parts["timing"] = partial(time_finders, settings, args.out)
    return parts


def over_limit(args: argparse.Namespace, metrics: dict[str, float]) -> dict[str, float]:
    """Errors of matched tracks over those of the exact posterior for one track."""
    ratios: dict[str, float] = {}
    for count in args.counts:
        for noise in map(noise_name, args.noises):
            limits = {key: metrics.get(f"one_track.{noise}.{key}_exact") for key in ("core", "rms")}
            for name, value in metrics.items():
                limit = limits.get(name.rsplit(".", 1)[-1])
                if name.startswith(f"tracks{count}.{noise}.") and limit:
                    ratios[f"{name}_over_limit"] = value / limit
    return ratios


def print_table(args: argparse.Namespace, metrics: dict[str, float]) -> None:
    noises = [noise_name(noise) for noise in args.noises]
    for name in (f"one_track.{noise}" for noise in noises if "single" in args.head):
        shown = [metrics[f"{name}.{key}"] for key in ("pull_mean", "pull_width", "nll_excess", "resolution_ratio")]
        print(f"{name:20}", "pull {:+.3f} {:.3f}  nll excess {:.3f}  resolution {:.3f}".format(*shown))
    for name in (f"tracks{count}.{noise}.{head}" for count in args.counts for noise in noises for head in args.heads):
        shown = [metrics.get(f"{name}.{key}", float("nan")) for key in ("efficiency", "fake_rate", "duplicate_rate")]
        print(f"{name:32}", "efficiency {:.3f}  fakes {:.4f}  duplicates {:.4f}".format(*shown))


def draw_figures(args: argparse.Namespace, settings: Settings, metrics: dict[str, float]) -> list[Path]:
    figures: list[Path] = []
    if "single" in args.head:
        figures += [draw_pulls(args.noises, args.out), draw_shifted(metrics, args.out)]
    if args.heads:
        tracks = 3 if 3 in args.counts else max(args.counts)
        figures.append(draw_events(settings, args.noises, args.heads, args.out, tracks=tracks))
        figures.append(draw_counts(args.counts, args.noises, metrics, args.out))
    if args.more_noises and args.heads:
        figures.append(draw_noise(3, tuple(sorted((*args.noises, *args.more_noises))), metrics, args.out))
    if "set" in args.heads:
        figures.append(draw_existence(args.noises, args.out))
        figures.append(draw_cost(settings.timing_size, metrics, TIMED_NOISES, TIMED_COUNTS, args.out))
    return figures


if __name__ == "__main__":
    sys.exit(main())
