"""Steps per second of adversarial training: a DCGAN on MNIST by posterity, by a loop in PyTorch, and by torchgan.

    python benchmarks/gan.py [--quick] [--rounds 7] [--steps 60] [--widths 32 64] [--threads 1 2]
                             [--torchgan-python PATH] [--out FOLDER]

Batches of 64, 100 latent dimensions, the non-saturating loss, Adam with 2e-4 and betas (0.5, 0.999), no monitors.
``_gan_peers.py`` has the programs. Each measurement runs in a new process, and the programs take turns. torchgan may
need a separate environment (``pip install torchgan torchvision``), whose Python is ``--torchgan-python``. Without one
it is left out, and the results give the reason.

The report has medians over the rounds for each program, with the first width and number of threads (the keys of others
end in ``.width64`` or ``.threads2``):

- ``steps_per_s``: steps per second.
- ``cpu_ms``: CPU time per step, which other load on the machine changes little.
- ``extra_mb``: peak memory beyond that of the data.

``ratio.posterity_over_*`` is the median over the rounds of the ratio of steps per second within a round, with the
lowest and the highest ratio; ``ratio_cpu.*`` is the inverse ratio of the CPU time. Above one, posterity is faster. The
bar is 0.95 of ``plain_torch``. The report also shows that all programs do the same work: the numbers of parameters are
equal, and the losses of posterity and of the PyTorch loops agree, which have the same batches and latent points.
``same.first_loss`` is the largest difference in the first step; ``*_loss`` are means over the last half of the steps.

Writes ``gan.json`` to ``benchmarks/results``; with ``--quick``, prints the results of a short run.
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
MEASURED = ("steps_per_s", "cpu_ms", "extra_mb")
VERSIONS = (
    "import json, torchgan.trainer; from importlib.metadata import version as v; "
    "print(json.dumps({'torchgan': v('torchgan'), 'torch_of_torchgan': v('torch')}))"
)
BAR = 0.95

Result = dict[str, Any]
Case = tuple[int, int]  # width, threads


def measure(python: str, library: str, case: Case, steps: int, seed: int, images: Path) -> Result:
    """The result of one measurement in a new process."""
    width, threads = case
    command = [python, "-W", "ignore", str(HERE / "_gan_peers.py"), library]
    command += [str(threads), str(width), str(steps), str(seed), str(images)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{library} of width {width} on {threads} thread(s) failed:\n{done.stderr[-2000:]}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def torchgan_versions(python: str | None) -> dict[str, str] | str:
    """Versions in the environment of torchgan, or the reason why it is left out."""
    if python is None:
        return "no --torchgan-python given"
    try:
        done = subprocess.run([python, "-W", "ignore", "-c", VERSIONS], capture_output=True, text=True)
    except OSError as error:
        return f"{python} cannot be run: {error}"
    if done.returncode:
        return f"it cannot be imported: {done.stderr.strip().splitlines()[-1]}"
    package_versions: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return package_versions


def summary(runs: dict[Case, dict[str, list[Result]]]) -> dict[str, float]:
    """Medians of each case, ratios within rounds, and checks of equal work."""
    metrics: dict[str, float] = {}
    first = next(iter(runs))
    for case, programs in runs.items():
        end = f".width{case[0]}" * (case[0] != first[0]) + f".threads{case[1]}" * (case[1] != first[1])
        for library, rounds in programs.items():
            for name in MEASURED:
                metrics[f"{library}.{name}{end}"] = statistics.median(run[name] for run in rounds)
            late = [np.array(run["losses"])[len(run["losses"]) // 2 :].mean(0) for run in rounds]
            for name, value in zip(("discriminator_loss", "generator_loss"), np.mean(late, 0), strict=True):
                metrics[f"{library}.{name}{end}"] = float(value)
            if library != OURS:
                metrics |= ratios(f"{OURS}_over_{library}{end}", programs[OURS], rounds)
        metrics[f"parameters{end}"] = same_work(programs)
        metrics[f"same.first_loss{end}"] = max(
            float(np.abs(np.subtract(own["losses"][0], other["losses"][0])).max())
            for library in PLAIN
            for own, other in zip(programs[OURS], programs[library], strict=True)
        )
    return metrics


def ratios(name: str, ours: list[Result], others: list[Result]) -> dict[str, float]:
    pairs = list(zip(ours, others, strict=True))
    clock = [own["steps_per_s"] / other["steps_per_s"] for own, other in pairs]
    busy = [other["cpu_ms"] / own["cpu_ms"] for own, other in pairs]
    return {
        f"ratio.{name}": statistics.median(clock),
        f"ratio.{name}.low": min(clock),
        f"ratio.{name}.high": max(clock),
        f"ratio_cpu.{name}": statistics.median(busy),
    }


def same_work(programs: dict[str, list[Result]]) -> int:
    """The common number of parameters; ``RuntimeError`` if the programs differ."""
    counts = {library: {run["parameters"] for run in rounds} for library, rounds in programs.items()}
    (number, *others) = set.union(*counts.values())
    if others:
        raise RuntimeError(f"expected networks of one size, got {counts}")
    return int(number)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--steps", type=int, default=60, help="timed steps after a warm-up")
    options.add_argument("--widths", type=int, nargs="+", default=[32, 64])
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--seed", type=int, default=0, help="seed of the first round")
    options.add_argument("--torchgan-python", help="Python of an environment with torchgan")
    options.add_argument("--out", type=Path, default=HERE / "results", help="folder of gan.json")
    args = options.parse_args()
    begun, load = time.perf_counter(), os.getloadavg()
    if args.quick:
        args.rounds, args.steps, args.widths, args.threads = 1, 10, [16], [1]
    peer = torchgan_versions(args.torchgan_python)
    libraries = [OURS, *PLAIN] + ([TORCHGAN] if isinstance(peer, dict) else [])
    cases: list[Case] = [(width, threads) for width in args.widths for threads in args.threads]
    runs: dict[Case, dict[str, list[Result]]] = {case: {library: [] for library in libraries} for case in cases}
    jobs = [(turn, case, library) for turn in range(args.rounds) for case in cases for library in libraries]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, mnist("train").scaled().numpy())
        for turn, case, library in tqdm(jobs):
            python = args.torchgan_python if library == TORCHGAN else sys.executable
            runs[case][library].append(measure(python, library, case, args.steps, args.seed + turn, images))
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
