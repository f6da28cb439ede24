"""Blocks of chains in separate processes against threads: medians of repeated runs, in turns.

    python benchmarks/blocks.py [--quick] [--repeats 3] [--chains 32 128]

Problem: "wavy" of `_mcmc_problems.py`, a 1-16-16-1 tanh network on 86 points, sampled by HMC. For the same
total number of chains it compares two blocks in two processes of one thread each (`Blocks`), one block on two threads,
and one block on one thread. The workers have imported everything and compiled nothing of the run. The seconds of a run
include tracing, compilation, warm-up and, with blocks, the transfer of the draws. Blocks adapt separately, so their
step sizes and trajectories differ. The measure is therefore effective draws of functions per second, for runs whose
largest R-hat is below 1.01. Writes ``benchmarks/results/blocks.json``; with ``--quick``, prints the results of a short
run.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import joblib
import torch
from _mcmc_ours import model_of
from _mcmc_problems import wavy
from _results import versions, write
from tqdm.auto import tqdm

from posterity.inference import HMC, Blocks, infer
from posterity.inference.diagnostics import function_convergence
from posterity.inference.engine.lanes.machine import cores

WORKERS = 2
SETTINGS = {"warmup": 200, "draws": 400, "engine": "compiled"}
QUICK = {"warmup": 20, "draws": 20, "engine": "compiled"}
COLUMNS = ("seconds", "ess_min", "ess_per_s", "gradients_per_s", "rhat_max")


def ways(chains: int, settings: dict[str, Any]) -> dict[str, Any]:
    def method(threads: int) -> HMC:
        return HMC(chains=chains, threads=threads, progress=False, **settings)

    return {
        "two_blocks": Blocks(method(1), blocks=WORKERS, jobs=WORKERS),
        "two_threads": method(WORKERS),
        "one_thread": method(1),
    }


def one(method: Any, seed: int) -> dict[str, float]:
    """A run of ``method`` that compiles everything anew."""
    problem = wavy()
    model, x, y = model_of(problem)
    forget()
    if isinstance(method, Blocks):
        joblib.Parallel(n_jobs=WORKERS)(joblib.delayed(pause_and_forget)() for _ in range(WORKERS))
    start = time.perf_counter()
    posterior = infer(model, x, y, method=method, seed=seed)
    seconds = time.perf_counter() - start
    functions = problem.functions({name: value.numpy() for name, value in posterior.draws.items()})
    convergence = function_convergence(functions)
    ess = float(convergence.ess_bulk.min())
    return {
        "seconds": seconds,
        "ess_min": ess,
        "ess_per_s": ess / seconds,
        "gradients_per_s": float(posterior.attrs["gradients"]) / seconds,
        "rhat_max": float(convergence.rhat.max()),
    }


def forget() -> None:
    """The compiled models that a process keeps."""
    from posterity.inference.engine.lanes import build

    build.compile_source.cache_clear()


def pause_and_forget() -> None:
    """A task long enough for every worker to get one."""
    time.sleep(0.5)
    forget()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--chains", type=int, nargs="+", default=[32, 128])
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "blocks.json")
    args = options.parse_args()
    begun = time.perf_counter()
    repeats, settings = (1, QUICK) if args.quick else (args.repeats, SETTINGS)
    runs: dict[str, list[dict[str, float]]] = {}
    jobs = [
        (f"chains_{chains}.{name}", method, seed)
        for seed in range(repeats)
        for chains in args.chains
        for name, method in ways(chains, settings).items()
    ]
    for method in ways(2 * WORKERS, {"warmup": 0, "draws": 1, "step_size": 0.01, "engine": "compiled"}).values():
        model, x, y = model_of(wavy())
        infer(model, x, y, method=method, seed=0)  # first-call overhead, here and in the workers
    for name, method, seed in tqdm(jobs):
        runs.setdefault(name, []).append(one(method, seed))
    metrics = {
        f"{name}.{column}": statistics.median(run[column] for run in found)
        for name, found in runs.items()
        for column in COLUMNS
    }
    for chains in args.chains:
        for other in ("two_threads", "one_thread"):
            rates = [metrics[f"chains_{chains}.{name}.ess_per_s"] for name in ("two_blocks", other)]
            metrics[f"chains_{chains}.two_blocks_over_{other}"] = rates[0] / rates[1]
    report = {
        "benchmark": "blocks",
        "command": "python benchmarks/blocks.py",
        "settings": settings | {"repeats": repeats, "chains": args.chains},
        "versions": versions("torch", "pyro-ppl", "joblib"),
        "device": f"cpu ({platform.machine()}, {cores()} cores, torch on {torch.get_num_threads()} thread(s))",
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
    }
    if not args.quick:
        write(args.out, report)
    for name, value in metrics.items():
        print(f"{name:44} {value:12.3f}")


if __name__ == "__main__":
    main()
