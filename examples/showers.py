"""Fast simulation of a calorimeter: generators in place of a simulation whose distribution is known.

Electrons of 1 to 100 GeV shower in three layers with 504 cells; energies from 20 to 40 GeV are left out of training.
The report compares these methods with the simulation, at the energies of training and in the gap:

- `surrogate`: an ensemble of adversarial generators; `member`: one of them;
- `mixture`: a mixture density network of 22 high-level features, without cells; `library`: for each of its draws, the
  nearest real shower; `flow`: normalizing flows, as CaloFlow; `flow_library`: energies of the layers from the first
  flow, and the nearest real shower;
- `null`: other showers of the simulation.

For each: separation powers of the observables, AUC and JSD of classifiers of the features (`high`) and, if it has
cells, of the cells (`low`), Fréchet and kernel distance, precision and recall, the resolution, and microseconds per
shower. `pulls` tells whether the spread of the members explains their errors, `refusal` what their disagreement says
outside of training.

    python examples/showers.py
    python examples/showers.py --quick
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from _parts import compute_stages, tag, total_seconds
from _report import finish, parser
from _showers import evaluation, figures
from _showers.features import train_mixture
from _showers.flow import train_flow
from _showers.networks import train_member
from _showers.settings import METHODS, QUICK, Settings


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "showers")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that work in parallel")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    work = args.out / f"work-{tag(settings)}"  # networks and arrays of these settings alone
    work.mkdir(exist_ok=True)
    training = {"training.flow": partial(train_flow, settings, work)}
    training |= {f"training.member{m}": partial(train_member, m, settings, work) for m in range(settings.members)}
    training["training.mixture"] = partial(train_mixture, settings, work)
    judged = {name: partial(evaluation.scores, name, settings, work) for name in (*METHODS, "null")}
    judged |= {
        "pulls": partial(evaluation.pulls, settings, work),
        "refusal": partial(evaluation.refusal, settings, work),
    }
    metrics = compute_stages(args.out, settings, [training, judged], jobs=args.jobs)
    timed = {"microseconds": partial(evaluation.timing, settings, work)}  # with nothing beside it
    metrics |= compute_stages(args.out, settings, [timed], jobs=1)
    metrics["surrogate.pull_width"] = metrics["pulls.inside.width"]
    for name, value in sorted(metrics.items()):
        print(f"{name:52} {value:.4g}")
    return finish(args, metrics, figures.draw(settings, metrics, work, args.out), seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
