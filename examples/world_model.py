"""A world model: a network that sees frames of a ball in a corridor, and dreams how they go on.

The corridor forks. A cue in the first frame says how probable the upper branch is, so the truth is known: the exact
distribution of every step, and the probability of every branch. The report has

- the network on true positions (`true`, `branch`, `dream`, `pit`, `k1`, `information`, `temperature`, `tree`): excess
  of its negative log likelihood in nats per step, mass and frequency of the branches, and what components stand for;
- an autoencoder of the frames and a network of its latents (`vae`, `ghosts`, `horizon`): branches of decoded dreams,
  dreams with a ball in no branch, and pulls of dreamed rows up to twelve steps ahead;
- `split`: noise, ambiguity and lack of data, in the corridor of training and in one never seen;
- `controller`: a controller is trained only in dreams; the share of real episodes that it survives.

    python examples/world_model.py
    python examples/world_model.py --quick
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _parts import compute_parts, tag, total_seconds
from _report import finish, parser
from _world import control, figures, pictures, positions, split
from _world.film import draw_film
from _world.networks import LATENTS, POSITIONS, train_latents, train_pictures, train_positions
from _world.settings import QUICK, Settings

Compute = Callable[[], dict[str, float]]


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "world_model")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that work in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, float] = {}
    work = args.out / f"work-{tag(settings)}"  # networks and arrays of these settings alone
    work.mkdir(exist_ok=True)
    for stage in stages(settings, work):
        parts = {name: (settings, part) for name, part in stage.items()}
        for name, numbers in compute_parts(args.out, parts, jobs=args.jobs).items():
            group = name.partition("-")[2]
            metrics.update({f"{group}.{key}" if group else key: value for key, value in numbers.items()})
    metrics = {name: value for name, value in metrics.items() if not name.endswith("seconds")}
    print_table(metrics)
    return finish(args, metrics, draw_figures(settings, work, args.out, metrics), seconds=total_seconds())


def stages(settings: Settings, out: Path) -> list[dict[str, Compute]]:
    """The parts by stage; a stage needs the networks of the stages before.

    The text after the dash in a part's name begins the names of its metrics.
    """
    autoencoders: dict[str, Compute] = {
        f"pictures-training.pictures.{name}": partial(train_pictures, name, settings, out)
        for name in ("fork", "blocks")
    }
    networks: dict[str, Compute] = {
        f"latents-training.latents.{name}": partial(train_latents, name, settings, out) for name in LATENTS
    }
    networks |= {
        f"positions-training.positions.{name}": partial(train_positions, name, settings, out) for name in POSITIONS
    }
    results: dict[str, Compute] = {
        f"controller{tau:g}-controller.{tau:g}": partial(control.scores, tau, settings, out)
        for tau in settings.temperatures
    }
    results |= {
        "references-controller": partial(control.references, settings),
        "density": partial(positions.density, settings, out),
        "dreamed": partial(positions.dreamed, settings, out),
        "between": partial(positions.between, settings, out),
        "information": partial(positions.information, settings, out),
        "temperature": partial(positions.temperature, settings, out),
        "tree": partial(positions.tree, settings, out),
        "horizon_true": partial(positions.horizon, settings, out),
        "reconstruction": partial(pictures.reconstruction, settings, out),
        "decoded": partial(pictures.decoded_dreams, settings, out),
        "horizon": partial(pictures.horizon, settings, out),
        "ensemble-split": partial(split.three_terms, "ensemble", settings, out),
        "exact-split": split.exact_terms,
        "last_layer-split": partial(split.three_terms, "last_layer", settings, out),
    }
    return [autoencoders, networks, results]


def print_table(metrics: dict[str, float]) -> None:
    for name, value in sorted(metrics.items()):
        print(f"{name:44} {value:.4g}")


def draw_figures(settings: Settings, work: Path, out: Path, metrics: dict[str, float]) -> list[Path]:
    return [
        figures.draw_frames(work, out),
        figures.draw_branches(metrics, work, out),
        figures.draw_activity(metrics, work, out),
        figures.draw_tree(work, out),
        figures.draw_horizon(metrics, work, out),
        figures.draw_ghosts(metrics, work, out),
        figures.draw_split(work, out),
        figures.draw_controller(settings, metrics, out),
        draw_film(work, out),
    ]


if __name__ == "__main__":
    sys.exit(main())
