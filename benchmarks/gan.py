"""Steps per second of adversarial training: a DCGAN on MNIST by posterity, by hand in PyTorch, and by torchgan.

    python benchmarks/gan.py [--quick] [--rounds 7] [--steps 60] [--widths 32 64] [--threads 1 2]
                             [--torchgan-python PATH] [--out FOLDER]

Batches of 64, 100 latent dimensions, the non-saturating loss, Adam with 2e-4 and betas (0.5, 0.999), no monitors.
``_gan_peers.py`` has the programs; each measurement is a fresh process, and the programs take turns. torchgan may need
an environment of its own (``pip install torchgan torchvision``), whose Python is ``--torchgan-python``; without one it
is left out, and the results say why.

Reported for each program, of the first width on the first number of threads (others have ``.width64``, ``.threads2``
at the end), as medians over the rounds:

- ``steps_per_s``; ``cpu_ms``: time that cores were busy for a step, which a machine with other work can still tell;
- ``extra_mb``: the most memory beyond that of the data.

``ratio.posterity_over_*`` are medians over the rounds of the ratio of steps per second within a round, with the lowest
and the highest, and ``ratio_cpu.*`` the inverse ratios of the busy time: above one posterity is faster, in both. The
bar is 0.95 of ``plain_torch``. That all do the same work is checked: the numbers of parameters are equal, and so are
the losses of posterity and of the loops by hand, which see the same batches and the same z: ``same.first_loss`` is
the largest difference in the first step, and the ``*_loss`` are means over the last half of the steps.

Writes ``gan.json`` to ``benchmarks/results``; with ``--quick`` a short run, to see that it works, is only printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _results import device, versions, write
from tqdm.auto import tqdm

from posterity.data.images import mnist

HERE = Path(__file__).parent
OURS, PLAIN, TORCHGAN = "posterity", ("plain_torch", "plain_torch_unread", "plain_torch_frozen"), "torchgan"
MEASURES = ("steps_per_s", "cpu_ms", "extra_mb")
VERSIONS = (
    "import json, torchgan.trainer; from importlib.metadata import version as v; "
    "print(json.dumps({'torchgan': v('torchgan'), 'torch_of_torchgan': v('torch')}))"
)
BAR = 0.95

Found = dict[str, Any]
Case = tuple[int, int]  # width, threads


def one(python: str, library: str, case: Case, steps: int, seed: int, images: Path) -> Found:
    """A measurement in a process of its own."""
    width, threads = case
    command = [python, "-W", "ignore", str(HERE / "_gan_peers.py"), library]
    command += [str(threads), str(width), str(steps), str(seed), str(images)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{library} of width {width} on {threads} thread(s) failed:\n{done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def torchgan_versions(python: str | None) -> dict[str, str] | str:
    """What the environment of torchgan has, or why there is none."""
    if python is None:
        return "no --torchgan-python given"
    try:
        done = subprocess.run([python, "-W", "ignore", "-c", VERSIONS], capture_output=True, text=True)
    except OSError as error:
        return f"{python} cannot be run: {error}"
    if done.returncode:
        return f"it cannot be imported: {done.stderr.strip().splitlines()[-1]}"
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(runs: dict[Case, dict[str, list[Found]]]) -> dict[str, float]:
    """Medians of each case, ratios within rounds, and whether the programs did the same."""
    metrics: dict[str, float] = {}
    first = next(iter(runs))
    for case, of in runs.items():
        end = f".width{case[0]}" * (case[0] != first[0]) + f".threads{case[1]}" * (case[1] != first[1])
        for library, rounds in of.items():
            for name in MEASURES:
                metrics[f"{library}.{name}{end}"] = statistics.median(run[name] for run in rounds)
            late = [np.array(run["losses"])[len(run["losses"]) // 2 :].mean(0) for run in rounds]
            for name, value in zip(("discriminator_loss", "generator_loss"), np.mean(late, 0), strict=True):
                metrics[f"{library}.{name}{end}"] = float(value)
            if library != OURS:
                metrics |= ratios(f"{OURS}_over_{library}{end}", of[OURS], rounds)
        metrics[f"parameters{end}"] = same_work(of)
        metrics[f"same.first_loss{end}"] = max(
            float(np.abs(np.subtract(own["losses"][0], other["losses"][0])).max())
            for library in PLAIN
            for own, other in zip(of[OURS], of[library], strict=True)
        )
    return metrics


def ratios(name: str, ours: list[Found], others: list[Found]) -> dict[str, float]:
    pairs = list(zip(ours, others, strict=True))
    clock = [own["steps_per_s"] / other["steps_per_s"] for own, other in pairs]
    busy = [other["cpu_ms"] / own["cpu_ms"] for own, other in pairs]
    return {
        f"ratio.{name}": statistics.median(clock),
        f"ratio.{name}.low": min(clock),
        f"ratio.{name}.high": max(clock),
        f"ratio_cpu.{name}": statistics.median(busy),
    }


def same_work(of: dict[str, list[Found]]) -> int:
    """The number of parameters, which is that of all. Raises ``RuntimeError`` where it is not."""
    counts = {library: {run["parameters"] for run in rounds} for library, rounds in of.items()}
    (number, *others) = set.union(*counts.values())
    if others:
        raise RuntimeError(f"expected networks of one size, got {counts}")
    return int(number)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--steps", type=int, default=60, help="that the clock sees, after a warm-up")
    options.add_argument("--widths", type=int, nargs="+", default=[32, 64])
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--seed", type=int, default=0, help="of the first round")
    options.add_argument("--torchgan-python", help="Python of an environment with torchgan")
    options.add_argument("--out", type=Path, default=HERE / "results", help="folder of gan.json")
    args = options.parse_args()
    begun, load = time.perf_counter(), os.getloadavg()
    if args.quick:
        args.rounds, args.steps, args.widths, args.threads = 1, 10, [16], [1]
    peer = torchgan_versions(args.torchgan_python)
    libraries = [OURS, *PLAIN] + ([TORCHGAN] if isinstance(peer, dict) else [])
    cases: list[Case] = [(width, threads) for width in args.widths for threads in args.threads]
    runs: dict[Case, dict[str, list[Found]]] = {case: {library: [] for library in libraries} for case in cases}
    jobs = [(turn, case, library) for turn in range(args.rounds) for case in cases for library in libraries]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, mnist("train").scaled().numpy())
        for turn, case, library in tqdm(jobs):
            python = args.torchgan_python if library == TORCHGAN else sys.executable
            runs[case][library].append(one(python, library, case, args.steps, args.seed + turn, images))
    metrics = summary(runs)
    report: dict[str, Any] = {
        "benchmark": "gan",
        "command": " ".join(
            ["python benchmarks/gan.py", *("PATH" if word == args.torchgan_python else word for word in sys.argv[1:])]
        ),
        "settings": {
            "data": "mnist",
            "widths": args.widths,
            "threads": args.threads,
            "rounds": args.rounds,
            "steps": args.steps,
            "batch_size": 64,
            "latent": 100,
            "loss": "non_saturating",
            "seed": args.seed,
            "dtype": "float32",
        },
        "versions": versions("torch", "pyro-ppl", "numpy") | (peer if isinstance(peer, dict) else {}),
        "skipped": {} if isinstance(peer, dict) else {TORCHGAN: peer},
        "device": device(),
        "load_before_and_after": [round(load[0], 1), round(os.getloadavg()[0], 1)],
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "bar": {f"ratio.{OURS}_over_plain_torch": BAR},
        "metrics": {name: float(f"{value:.4g}") for name, value in metrics.items()},
    }
    if not args.quick:
        write(args.out / "gan.json", report)
    for name, value in metrics.items():
        print(f"{name:60} {value:14.7g}")
    for library, reason in report["skipped"].items():
        print(f"{library} is left out: {reason}")


if __name__ == "__main__":
    main()
