"""Time and memory of every diagnostic at full size, and of the libraries that a user would take instead.

    python benchmarks/diagnostics.py [--quick] [--repeats 3]

Three sizes: *draws* (10,000 observations x 4,000 posterior-predictive draws in ArviZ data, as of a stored run),
*predictive* (a `PredictiveMixture` of 4,000 draws at 10,000 points, each a normal), and *mixture* (100,000 mixtures of
20 normals). With several targets or classes, the data have as many numbers. Each diagnostic is measured in a separate
process with two threads: ``seconds`` is the median over repeats, after a small call as warm-up, and ``peak_mb`` is the
peak memory of the process, with the data and the libraries (about 600 MB). The bars are 10 s and 2,048 MB, and 5 s for
*mixture*.

Peers run in the same way on the same data (``peer.<name>``): ArviZ's own leave-one-out and R-hat, scoringrules for the
CRPS (properscoring takes 1.2 TB for all pairs of so many draws), uncertainty-toolbox for all its metrics of a normal
predictive. ``<diagnostic>.over.<peer>`` is the ratio of the times.

Writes ``benchmarks/results/diagnostics.json``; with ``--quick``, prints the results at a hundredth of the size.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _diagnostics_cases import AGAINST, CASES, PEERS
from _results import device, versions, write
from tqdm.auto import tqdm

HERE = Path(__file__).parent
MEMORY, SECONDS, MIXTURE_SECONDS = 2048, 10.0, 5.0


def one(name: str, scale: float) -> dict[str, float]:
    """A measurement in a new process."""
    command = [sys.executable, "-W", "ignore", str(HERE / "_diagnostics_cases.py"), name, str(scale)]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--only", nargs="+", help="names of cases, for a look at some: nothing is written")
    options.add_argument("--out", type=Path, default=HERE / "results" / "diagnostics.json")
    args = options.parse_args()
    begun, load = time.perf_counter(), os.getloadavg()
    names = args.only or [*CASES, *PEERS]
    jobs = [name for _ in range(1 if args.quick else args.repeats) for name in names]
    runs: dict[str, list[dict[str, float]]] = {}
    for name in tqdm(jobs):
        run = one(name, 0.01 if args.quick else 1.0)
        runs.setdefault(name, []).append(run)
        tqdm.write(f"{name:45} {run['seconds']:8.2f} s {run['peak_mb']:8.0f} MB", file=sys.stdout)
    metrics: dict[str, float] = {}
    for name, found in runs.items():
        stem = f"peer.{name}" if name in PEERS else name
        for key in ("seconds", "peak_mb"):
            metrics[f"{stem}.{key}"] = float(f"{statistics.median(run[key] for run in found):.4g}")
    for ours, theirs in AGAINST:
        if ours in runs and theirs in runs:
            ratio = metrics[f"{ours}.seconds"] / metrics[f"peer.{theirs}.seconds"]
            metrics[f"{ours}.over.{theirs}"] = float(f"{ratio:.3g}")
    over = [
        name
        for name in runs
        if name in CASES
        and (
            metrics[f"{name}.seconds"] > (MIXTURE_SECONDS if name.endswith(".mixture") else SECONDS)
            or metrics[f"{name}.peak_mb"] > MEMORY
        )
    ]
    if not (args.quick or args.only):
        report = {
            "benchmark": "diagnostics",
            "command": f"python benchmarks/diagnostics.py --repeats {args.repeats}",
            "versions": versions("torch", "arviz", "numpy", "scipy", "xarray", "scoringrules"),
            "device": device(),
            "load_before_and_after": [round(load[0], 1), round(os.getloadavg()[0], 1)],
            "wall_seconds": round(time.perf_counter() - begun, 1),
            "over_the_bars": over,
            "metrics": metrics,
        }
        write(args.out, report)
    for name, value in metrics.items():
        print(f"{name:60} {value:10.4g}")
    print("over 10 s (mixtures 5 s) or 2,048 MB:", ", ".join(over) or "none")


if __name__ == "__main__":
    main()
