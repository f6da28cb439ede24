"""Finding tracks in a noisy detector: a network with a mixture density, held against what is possible.

Straight tracks through 28 layers of 28 pixels that miss a hit in 20 and fire by themselves with a probability of 0.1,
0.2 or 0.3. One track: its density is held against the exact posterior, in nats, in resolution and in pulls. Several:
how many are found, made up and found twice, beside two classical chains, each tuned to the noise on events of its own,
and beside a network that predicts each intercept by itself and so cannot know which belong together. Then normal hits,
whose bound is known; what each costs; and events unlike those of training.

    python examples/tracking.py
    python examples/tracking.py --quick
    python examples/tracking.py --tracks 3 --noise 0.1 0.25 --head set
    python examples/tracking.py --quick --weights examples/results/tracking   # trained networks, few events

The last one trains nothing and takes about two minutes on one core. Its figures show the networks of the full run on
few events. Normal hits are fitted by the Kalman filter alone unless the folder has a ``line-0.pt``.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _parts import parts, total_seconds
from _report import finish, parser
from _tracking.clock import LOUDER, MORE, clock, generator
from _tracking.figures import (
    draw_cost,
    draw_counts,
    draw_events,
    draw_existence,
    draw_noise,
    draw_pulls,
    draw_unlike,
)
from _tracking.finders import train
from _tracking.line import gaussian_hits
from _tracking.many import HEADS, counted, fading, said
from _tracking.one import UNLIKE, one_track, unlike
from _tracking.settings import NOISES, QUICK, Settings, percent

ALL = ("single", *HEADS)
COUNTS = (2, 3, 4, 5)
BESIDE = (0.05, 0.15, 0.25, 0.4)  # noises at which three tracks are counted too


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "tracking")
    options.add_argument("--tracks", type=int, nargs="+", help="numbers of tracks to count (2 3 4 5)")
    options.add_argument("--noise", type=float, nargs="+", help="noises to look at (0.1 0.2 0.3)")
    options.add_argument("--head", nargs="+", choices=ALL, default=ALL, help="networks to look at (all)")
    options.add_argument("--weights", type=Path, help="folder of trained networks: none is trained then")
    options.add_argument("--jobs", type=int, default=2, help="parts side by side, each in a process")
    args = options.parse_args(argv)
    counts = tuple(args.tracks or ((2, 3) if args.quick else COUNTS))
    noises = tuple(args.noise or NOISES)
    if min(counts) < 1:
        options.error(f"expected numbers of tracks of 1 or more, got {min(counts)}")
    if not all(0 <= noise < 1 for noise in noises):
        options.error(f"expected noises of at least 0 and below 1, got {noises}")
    torch.set_num_threads(1)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    if args.weights:
        sizes = {name: getattr(Settings(), name) for name in ("members", "single_components", "set_components")}
        settings = replace(settings, weights=str(args.weights), **sizes)
    args.out.mkdir(parents=True, exist_ok=True)
    heads = tuple(head for head in HEADS if head in args.head)
    metrics: dict[str, float] = {}

    def add(wanted: dict[str, Callable[[], dict[str, float]]], jobs: int) -> None:
        """Numbers of parts, by their names, with what they depend on beside their names."""
        found = parts(args.out, {name: ((settings, heads), part) for name, part in wanted.items()}, jobs=jobs)
        metrics.update({f"{name}.{key}": value for name, row in found.items() for key, value in row.items()})

    jobs = 1 if args.quick else args.jobs
    if not args.weights:
        trained = [(head, 0) for head in heads]
        trained += [("single", member) for member in range(settings.members) if "single" in args.head]
        add({f"training.{kind}-{member}": partial(train, kind, settings, member, args.out) for kind, member in trained},
            jobs)  # fmt: skip
    every: dict[str, Callable[[], dict[str, float]]] = {}
    figures: list[Callable[[], Path]] = []
    if "single" in args.head:
        every |= {f"one_track.{percent(noise)}": partial(one_track, settings, noise, args.out) for noise in noises}
        every |= {f"unlike.{name}": partial(unlike, settings, name, args.out) for name in UNLIKE}
        every["gaussian_hits"] = partial(gaussian_hits, settings, args.out)
        figures += [lambda: draw_pulls(noises, args.out), lambda: draw_unlike(metrics, args.out)]
    if heads:
        cells = [(count, noise) for count in counts for noise in noises]
        beside = () if args.noise or args.quick or 3 not in counts else BESIDE
        cells += [(3, noise) for noise in beside]
        every |= {
            f"tracks{count}.{percent(noise)}": partial(counted, settings, count, noise, heads, args.out)
            for count, noise in cells
        }
        figures += [
            lambda: draw_events(settings, noises, heads, args.out, tracks=3 if 3 in counts else max(counts)),
            lambda: draw_counts(counts, noises, metrics, args.out),
        ]
        if beside:
            figures.append(lambda: draw_noise(3, tuple(sorted((*noises, *beside))), metrics, args.out))
    if "independent" in heads:
        every["independent_components"] = partial(fading, settings, args.out)
    if "set" in heads:
        every |= {f"said.{percent(noise)}": partial(said, settings, noise, args.out) for noise in noises}
        figures.append(lambda: draw_existence(noises, args.out))
    add(every, jobs)
    alone: dict[str, Callable[[], dict[str, float]]] = {"events_per_second": partial(generator, settings)}
    if "set" in heads:
        alone["timing"] = partial(clock, settings, args.out)
        figures.append(lambda: draw_cost(settings.clock_size, metrics, LOUDER, MORE, args.out))
    add(alone, 1)  # beside others they would be timed wrong
    for count in counts:  # errors of matched tracks, over those of the exact posterior of events with one track
        for noise in noises:
            limit = {key: metrics.get(f"one_track.{percent(noise)}.{key}_exact") for key in ("core", "rms")}
            for name in list(metrics):
                which = name.rsplit(".", 1)[-1]
                if name.startswith(f"tracks{count}.{percent(noise)}.") and (exact := limit.get(which)):
                    metrics[f"{name}_over_limit"] = metrics[name] / exact
    for name in (f"one_track.{percent(noise)}" for noise in noises if "single" in args.head):
        shown = [metrics[f"{name}.{key}"] for key in ("pull_mean", "pull_width", "nll_excess", "resolution_ratio")]
        print(f"{name:20}", "pull {:+.3f} {:.3f}  nll excess {:.3f}  resolution {:.3f}".format(*shown))
    for name in (f"tracks{count}.{percent(noise)}.{head}" for count in counts for noise in noises for head in heads):
        shown = [metrics.get(f"{name}.{key}", float("nan")) for key in ("efficiency", "fake_rate", "duplicate_rate")]
        print(f"{name:32}", "efficiency {:.3f}  fakes {:.4f}  duplicates {:.4f}".format(*shown))
    return finish(args, metrics, [draw() for draw in figures], seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
