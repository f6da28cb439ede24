"""Effective draws of a posterior's functions a second: our samplers beside Pyro's, NumPyro's, BlackJAX's and nutpie.

    python benchmarks/mcmc.py [--quick] [--repeats 3] [--problems wavy ...] [--samplers posterity_hmc ...]
                              [--peers PYTHON]

Each run of a sampler on a problem has a new process with cold compile caches, and the samplers take turns. The clock
starts after libraries are imported and data are loaded, and stops when the draws are on the host, so the time includes
tracing, compilation and warm-up. The function that a network computes must converge (`function_convergence`), not its
weights; a sampler counts if the largest R-hat is below 1.01. Since warm-up is paid once, samplers are compared for the
same result: the time each needs for 4,000 effective draws, from its measured warm-up and rate.

Samplers have settings that suit the problem, or with "_default" those of their library. The time of nutpie's warm-up is
estimated from its gradients. CPU seconds include those of compilers and child processes.

Runs are stored in the folder ``--out``, and a stored run with the same settings and code is not repeated. Writes
``benchmarks/results/mcmc.json`` and its figures. ``--peers`` is an interpreter that has NumPyro, BlackJAX, nutpie and
PyMC (``pip install numpyro blackjax optax nutpie pymc``). POSTERITY_DATA needs ``uci/energy``.
"""

import argparse
import hashlib
import importlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from _mcmc_one import SAMPLERS as FUNCTIONS
from _mcmc_settings import ONCE, QUICK, SETTINGS
from _results import cold_caches, cores, device, versions, versions_of, write
from tqdm.auto import tqdm

from posterity.inference.diagnostics import function_convergence

HERE = Path(__file__).parent
ENOUGH = 4000  # effective draws
CONVERGED = 1.01
PACKAGES, PEER_PACKAGES = ("torch", "pyro-ppl", "arviz", "numpy"), ("numpyro", "jax", "blackjax", "nutpie", "pymc")
PARTS = ("convergence", "engine", "mcmc", "program", "training")  # folders of inference that samplers depend on

Job = tuple[str, str, int, dict[str, Any]]  # problem, sampler, seed, settings


SAMPLERS = list(dict.fromkeys(name for settings in SETTINGS.values() for name in settings))
OURS, PYRO, NUMPYRO, PEERS = ("posterity",), ("pyro",), ("numpyro",), ("numpyro", "blackjax", "nutpie")
ALL, AFTER = "ess_per_s_at_4000", "ess_per_s_after_warmup"
# Problem, rate, the libraries it is compared with, the ratio of the bar.
BARS: list[tuple[str, str, tuple[str, ...], float]] = [
    ("wavy", ALL, PEERS, 4), ("wavy", AFTER, PEERS, 4), ("wavy", ALL, PYRO, 300), ("wavy", AFTER, PYRO, 500),
    ("moons", ALL, PEERS, 2), ("moons", AFTER, PEERS, 1.5), ("schools", ALL, PEERS, 3), ("schools", AFTER, PEERS, 1),
    ("saas", ALL, PYRO, 25), ("saas", ALL, NUMPYRO, 1), ("energy", ALL, NUMPYRO, 1),
]  # fmt: skip
RATES = ("ess_per_s", "ess_per_s_after_warmup", "ess_per_s_at_4000", "ess_median_per_s", "ess_per_grad")
COSTS = ("seconds", "warmup_seconds", "cpu_seconds", "peak_mb", "divergences", "rhat_max")


def run_apart(path: Path, job: Job, python: str, limit: float) -> str | None:
    """Run one sampler in a new process with cold compile caches; writes its result to ``path``, or returns a reason."""
    problem, sampler, seed, settings = job
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(HERE / "_mcmc_one.py"), problem, sampler, str(seed), json.dumps(settings), folder]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",  # samplers that use more cores start their own threads
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={cores()}",
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": str(problem == "saas").lower(),  # factorises matrices
            **cold_caches(Path(folder)),
        }
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        try:
            _, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return f"not done in {limit:.0f} s"
        finally:
            if process.poll() is None:  # after a timeout or an interrupt, together with the processes it has started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode:
            return (errors.strip().splitlines() or ["no message"])[-1]
        found = json.loads(Path(folder, "run.json").read_text())
        convergence = function_convergence(np.load(Path(folder, "functions.npy")))
    write(
        path,
        found
        | {
            "ess_min": float(convergence.ess_bulk.min()),
            "ess_median": float(convergence.ess_bulk.median()),
            "rhat_max": float(convergence.rhat.max()),
            "settings": settings,
        },
    )
    return None


def stamp(sampler: str, settings: dict[str, Any], found: dict[str, str]) -> str:
    """A checksum of everything that a run depends on: settings, code and the versions ``found``."""
    module = FUNCTIONS[sampler.removesuffix("_default")][0]
    files = [HERE / "_mcmc_one.py", HERE / "_mcmc_problems.py", HERE / f"{module}.py"]
    if sampler.startswith(OURS):
        root = HERE.parent
        files += sorted(root.glob("src/posterity/*.py")) + sorted(root.glob("inference/*.py"))
        code = (file for part in PARTS for file in (root / "inference" / part).rglob("*"))
        files += sorted(file for file in code if file.suffix in (".py", ".h"))
    content = json.dumps([settings, found], sort_keys=True) + "".join(file.read_text() for file in files)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def measure(jobs: Iterable[Job], out: Path, peers: str, limit: float) -> tuple[dict[str, Any], int]:
    """Results by problem and sampler, one for each seed. Failed runs are printed, left out and counted."""
    installed = {True: versions(*PACKAGES), False: versions_of(peers, PEER_PACKAGES)}
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    failures = 0
    bar = tqdm(list(jobs))
    for problem, sampler, seed, settings in bar:
        own = sampler.startswith((*OURS, "pyro_"))
        path = out / f"{problem}-{sampler}-{seed}-{stamp(sampler, settings, installed[own])}.json"
        bar.set_description(f"{problem} {sampler} {seed}")
        if not path.exists():
            python = sys.executable if own else peers
            reason = run_apart(path, (problem, sampler, seed, settings), python, limit)
            if reason is not None:
                tqdm.write(f"{problem} {sampler} seed {seed} failed: {reason}")
                failures += 1
                continue
        results.setdefault(problem, {}).setdefault(sampler, []).append(json.loads(path.read_text()))
    return results, failures


def rates(run: dict[str, Any]) -> dict[str, float]:
    after = run["ess_min"] / (run["seconds"] - run["warmup_seconds"])
    return {
        "ess_per_s": run["ess_min"] / run["seconds"],
        "ess_per_s_after_warmup": after,
        "ess_per_s_at_4000": ENOUGH / (run["warmup_seconds"] + ENOUGH / after),
        "ess_median_per_s": run["ess_median"] / run["seconds"],
        "ess_per_grad": run["ess_min"] / run["gradients"],
    }


def summary(results: dict[str, Any]) -> dict[str, float]:
    """Medians over the repeats; R-hat is that of the worst."""
    metrics: dict[str, float] = {}
    for problem, samplers in results.items():
        for sampler, runs in samplers.items():
            prefix, each = f"{problem}.{sampler}", [rates(run) | {name: run[name] for name in COSTS} for run in runs]
            for name in (*RATES, *COSTS):
                middle = max if name == "rhat_max" else statistics.median
                metrics[f"{prefix}.{name}"] = middle([values[name] for values in each])
            metrics[f"{prefix}.repeats"] = len(runs)
    return metrics


def best(
    metrics: dict[str, float], problem: str, rate: str, families: tuple[str, ...], default: bool
) -> tuple[str, float] | None:
    """The fastest converged sampler of these libraries, or the fastest of all if none converged.

    With ``default``, among those with the settings of their library; otherwise among all.
    """
    found = [name.split(".")[1] for name in metrics if name.startswith(f"{problem}.") and name.endswith(f".{rate}")]
    found = [sampler for sampler in found if sampler.split("_")[0] in families]
    found = [sampler for sampler in found if not default or sampler.endswith("_default")]
    found = [sampler for sampler in found if converged(metrics, problem, sampler)] or found
    pairs = [(sampler, metrics[f"{problem}.{sampler}.{rate}"]) for sampler in found]
    return max(pairs, key=lambda pair: pair[1], default=None)


def converged(metrics: dict[str, float], problem: str, sampler: str) -> bool:
    return metrics[f"{problem}.{sampler}.rhat_max"] < CONVERGED


def ratios(metrics: dict[str, float]) -> dict[str, float]:
    """Our best over theirs for every bar. Ours must have converged; a peer that has not is favoured, and marked."""
    found = {}
    print()
    for problem, rate, families, least in BARS:
        for default in (False, True):
            ours, theirs = (best(metrics, problem, rate, names, default) for names in (OURS, families))
            if ours is None or theirs is None:
                continue
            ratio = ours[1] / theirs[1] if converged(metrics, problem, ours[0]) else math.nan
            verdict = "" if default else f", bar {least:g} {'met' if ratio >= least else 'missed'}"
            note = "".join(
                f" ({name} not converged)" for name, _ in (ours, theirs) if not converged(metrics, problem, name)
            )
            print(f"{problem} {rate}: {ours[0]} / {theirs[0]} = {ratio:.1f}{verdict}{note}")
            if math.isfinite(ratio):
                found[f"{problem}.{rate}.{'default_' * default}over_{'_'.join(families)}"] = ratio
    return found


def show(metrics: dict[str, float]) -> None:
    columns = (*RATES, *COSTS)
    print(f"{'':32}" + "".join(f"{name.replace('ess_per_s_', ''):>17}" for name in columns))
    for prefix in sorted({name.rpartition(".")[0] for name in metrics if name.endswith(".rhat_max")}):
        row = "".join(f"{metrics[f'{prefix}.{name}']:17.4g}" for name in columns)
        print(f"{prefix:32}{row}{'' if converged(metrics, *prefix.split('.')) else '  not converged'}")


def scaling() -> dict[str, float]:
    """``scaling.<chains>.us_per_chain_grad``: one leapfrog step of 1, 2, 4, ..., 1,024 chains of `wavy`."""
    return importlib.import_module("_mcmc_ours").scaling(importlib.import_module("_mcmc_problems").PROBLEMS["wavy"]())


def draw_scaling(metrics: dict[str, float], path: Path) -> None:
    """Time of one leapfrog step against the number of chains: for each chain, and for all together."""
    from matplotlib import pyplot as plt

    found = {int(name.split(".")[1]): value for name, value in metrics.items() if name.endswith("us_per_chain_grad")}
    if not found:
        return
    chains = sorted(found)
    per_chain = [found[count] for count in chains]
    several = [count for count in chains if metrics.get(f"scaling.{count}.threads", 1) > 1]
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained")
    total = [count * found[count] for count in chains]
    for ax, values, name, colour in zip(
        axes, (per_chain, total), ("one chain", "all chains"), ("#0072B2", "#D55E00"), strict=True
    ):
        ax.plot(chains, values, "o-", color=colour)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(chains[::2], [f"{count:,}" for count in chains[::2]])
        ticks = [value for value in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if value < 1.3 * max(values)]
        ax.set_yticks(ticks, [f"{value:,}" for value in ticks])
        ax.minorticks_off()
        ax.set(
            xlabel="chains",
            ylabel=f"microseconds per gradient of {name}",
            title=f"what {name} cost{'s' * (ax is axes[0])}",
        )
        ax.grid(alpha=0.3)
        if several:
            ax.axvspan(several[0] / 2**0.5, chains[-1] * 2**0.5, color="grey", alpha=0.12, lw=0, label="on two threads")
            ax.legend(fontsize=9)
    figure.suptitle("leapfrog steps of `wavy`, a 1-16-16-1 network on 82 points, compiled", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_rates(metrics: dict[str, float], path: Path) -> None:
    """Effective draws per second of every sampler, warm-up included; hollow if its chains do not agree."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter

    colours = {
        "posterity": "#0072B2", "numpyro": "#D55E00", "blackjax": "#009E73", "pyro": "#E69F00", "nutpie": "#CC79A7",
    }  # fmt: skip
    rate = f"ess_per_s_at_{ENOUGH}"
    keys = [name.split(".")[:2] for name in metrics if name.endswith(f".{rate}")]
    problems = list(dict.fromkeys(problem for problem, _ in keys))
    samplers = list(dict.fromkeys(sampler for _, sampler in keys))
    figure, all_axes = plt.subplots(
        1, len(problems), figsize=(2.2 + 2.6 * len(problems), 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for ax, problem in zip(all_axes[0], problems, strict=True):
        for at, sampler in enumerate(samplers):
            value = metrics.get(f"{problem}.{sampler}.{rate}")
            if value is None:
                continue
            colour = colours[sampler.split("_")[0]]
            face = colour if converged(metrics, problem, sampler) else "white"
            ax.plot(value, at, "o", ms=9, mec=colour, mew=2, mfc=face)
            ax.annotate(
                f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
                (value, at),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.25)
        ax.grid(axis="x", alpha=0.3)
        ax.set_title(problem)
    all_axes[0, 0].set_yticks(range(len(samplers)), [name.replace("_", " ") for name in samplers])
    all_axes[0, 0].set_ylim(len(samplers) - 0.5, -0.7)
    figure.supxlabel(f"effective draws per second, all included (hollow: R-hat above {CONVERGED})", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw(metrics: dict[str, float], folder: Path) -> None:
    draw_rates(metrics, folder / "mcmc-rates.png")
    draw_scaling(metrics, folder / "mcmc-scaling.png")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="two problems with tiny settings, one repeat")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--problems", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    options.add_argument("--peers", default=sys.executable, help="interpreter that has the other libraries")
    options.add_argument("--limit", type=float, default=3600, help="seconds for one run")
    options.add_argument("--out", type=Path, default=HERE.parent / "out" / "mcmc_benchmark")
    options.add_argument("--draw", action="store_true", help="only the figures, from the numbers that are kept")
    args = options.parse_args()
    if args.draw:
        draw(json.loads((HERE / "results" / "mcmc.json").read_text())["metrics"], HERE / "results")
        return
    start = time.perf_counter()
    settings, repeats = (QUICK, 1) if args.quick else (SETTINGS, args.repeats)
    jobs = [
        (problem, sampler, seed, settings[problem][sampler])
        for problem in args.problems
        if problem in settings
        for seed in range(repeats)
        for sampler in args.samplers
        if sampler in settings[problem] and (seed == 0 or (problem, sampler) not in ONCE)
    ]
    results, failures = measure(jobs, args.out, args.peers, args.limit)
    metrics = summary(results) | scaling()
    show(metrics)
    metrics |= ratios(metrics)
    whole = not args.quick and args.problems == list(SETTINGS) and args.samplers == SAMPLERS
    folder = HERE / "results" if whole else args.out
    write(
        folder / "mcmc.json",
        {
            "benchmark": "mcmc",
            "command": "python benchmarks/mcmc.py" + (" --quick" if args.quick else ""),
            "seed": 0,
            "quick": args.quick,
            "versions": versions(*PACKAGES) | versions_of(args.peers, PEER_PACKAGES),
            "device": device(),
            "wall_seconds": round(time.perf_counter() - start, 1),
            "metrics": {name: float(f"{value:.6g}") for name, value in metrics.items()},
        },
    )
    draw(metrics, folder)
    if failures:
        sys.exit(f"{failures} of {len(jobs)} runs failed")


if __name__ == "__main__":
    main()
