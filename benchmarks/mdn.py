"""Mixture density networks: log density with gradient, and samples, of 10^6 points by posterity and other libraries.

    python benchmarks/mdn.py [--quick] [--repeats 5] [--points 1000000] [--keras-python PATH]

20 components, one target, single precision; the gradient is that of the mean log density by the raw outputs of a
network (logits, locations, log-scales), and one sample is drawn for each point. Compared: `Mixture` ("posterity") and
the same through `mixture_head` ("posterity_head"), ``torch.distributions`` ("torch"), the formulas of two public
networks in torch, and keras-mdn-layer on TensorFlow: they are in ``_mdn_peers.py``. Keras needs a separate environment
(``pip install keras-mdn-layer tensorflow-cpu``), whose Python is ``--keras-python``. Without one it is left out, and
the results give the reason.

Each measurement runs in a new process with the same data and seed, after a warm-up. The libraries take turns, on 1 and
on 2 threads. The report has medians over the turns, for the faster number of threads of each library (``threads``) and
for each number of threads:

- ``logprob_grad_ms``, ``sample_ms``: wall time. With ``_cpu_ms``: CPU time on the fewest threads, which other load on
  the machine changes little.
- ``logprob_grad_mb``: peak memory beyond that of the data, with the 240 MB of the gradient.
- ``logprob_max_error``: largest error at 10,000 points, against double precision.

Writes ``benchmarks/results/mdn.json``; with ``--quick``, prints the results of a run with 10^4 points.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _results import device, versions, write
from tqdm.auto import tqdm

HERE = Path(__file__).parent
OURS = ("posterity", "posterity_head")
TORCH = ("torch", "torch_mdn_sagelywizard", "torch_mdn_tonyduan")
KERAS = "keras_mdn_layer"
COMPONENTS, POINTS, QUICK_POINTS = 20, 1_000_000, 10_000
TIMES = ("logprob_grad_ms", "sample_ms")
OTHERS = ("logprob_grad_mb", "logprob_max_error")
CPU_TIMES = ("logprob_grad_cpu_ms", "sample_cpu_ms")
KERAS_VERSIONS = (
    "import json; from importlib.metadata import version as v; "
    "print(json.dumps({n: v(n) for n in ('keras-mdn-layer', 'keras', 'tensorflow-cpu')}))"
)


def one(python: str, library: str, threads: int, points: int, seed: int) -> dict[str, float]:
    """A measurement in a new process."""
    command = [python, "-W", "ignore", str(HERE / "_mdn_peers.py"), library, str(threads), str(points)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command += [str(COMPONENTS), str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{library} on {threads} thread(s) failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def keras_versions(python: str | None) -> dict[str, str] | str:
    """Versions in the environment of Keras, or the reason why it is left out."""
    if python is None:
        return "no --keras-python given"
    try:
        done = subprocess.run([python, "-c", KERAS_VERSIONS], capture_output=True, text=True)
    except OSError as error:
        return f"{python} cannot be run: {error}"
    if done.returncode:
        return f"{python} does not have it: {done.stderr.strip().splitlines()[-1]}"
    return json.loads(done.stdout)


def summary(runs: dict[tuple[str, int], list[dict[str, float]]], libraries: list[str]) -> dict[str, float]:
    """Medians over the turns: of each time at the faster number of threads, of the rest where the gradient was."""
    threads = sorted({number for _, number in runs})
    metrics: dict[str, float] = {}
    for library in libraries:
        median = {
            (name, number): statistics.median(run[name] for run in runs[library, number])
            for number in threads
            for name in TIMES + OTHERS + CPU_TIMES
        }
        for name in TIMES:
            fastest = min(threads, key=lambda number: median[name, number])
            metrics[f"{library}.{name}"] = median[name, fastest]
            metrics[f"{library}.{name}.threads"] = fastest
        at = int(metrics[f"{library}.{TIMES[0]}.threads"])
        metrics |= {f"{library}.{name}": median[name, at] for name in OTHERS}
        metrics |= {f"{library}.{name}": median[name, threads[0]] for name in CPU_TIMES}
    for name in (*TIMES, *CPU_TIMES, "logprob_grad_mb"):
        best = min(metrics[f"{library}.{name}"] for library in libraries if library not in OURS)
        metrics |= {f"{library}.{name}.over_best_other": metrics[f"{library}.{name}"] / best for library in OURS}
    return metrics


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--points", type=int, default=POINTS)
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keras-python", help="Python of an environment with keras-mdn-layer and TensorFlow")
    options.add_argument("--out", type=Path, default=HERE / "results" / "mdn.json")
    args = options.parse_args()
    begun = time.perf_counter()
    repeats, points = (1, QUICK_POINTS) if args.quick else (args.repeats, args.points)
    keras, load = keras_versions(args.keras_python), os.getloadavg()
    libraries = [*OURS, *TORCH] + ([KERAS] if isinstance(keras, dict) else [])
    jobs = [(library, number) for _ in range(repeats) for number in args.threads for library in libraries]
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    for library, number in tqdm(jobs):
        python = args.keras_python if library == KERAS else sys.executable
        runs.setdefault((library, number), []).append(one(python, library, number, points, args.seed))
    metrics = summary(runs, libraries)
    report: dict[str, Any] = {
        "benchmark": "mdn",
        "command": "python benchmarks/mdn.py --keras-python PATH",
        "settings": {
            "points": points,
            "components": COMPONENTS,
            "repeats": repeats,
            "threads": args.threads,
            "seed": args.seed,
            "dtype": "float32",
        },
        "versions": versions("torch", "pyro-ppl", "numpy") | (keras if isinstance(keras, dict) else {}),
        "skipped": {} if isinstance(keras, dict) else {KERAS: keras},
        "device": device(),
        "load_before_and_after": [round(load[0], 1), round(os.getloadavg()[0], 1)],
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "metrics": {name: float(f"{value:.4g}") for name, value in metrics.items()},
    }
    if not args.quick:
        write(args.out, report)
    for name, value in metrics.items():
        print(f"{name:60} {value:14.7g}")
    for library, reason in report["skipped"].items():
        print(f"{library} is left out: {reason}")


if __name__ == "__main__":
    main()
