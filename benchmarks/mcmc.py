"""Effective draws of a posterior's functions per second: our samplers, Pyro's, NumPyro's and BlackJAX's, side by side.

    python benchmarks/mcmc.py [--quick] [--repeats 3] [--problems wavy ...] [--samplers posterity_hmc ...]

Each run of a sampler on a problem has a new process with cold compile caches, and the samplers take turns. The clock
starts after libraries are imported and data are loaded, and stops when the draws are on the host, so the time includes
tracing, compilation and warm-up. The function that a network computes must converge (`function_convergence`), not its
weights; a sampler counts if the largest R-hat is below 1.01. Since warm-up is paid once, samplers are compared for the
same result: the time each needs for 4,000 effective draws, from its measured warm-up and rate.

Runs are stored in the folder ``--out``, and a stored run with the same settings and code is not repeated. Writes
``benchmarks/results/mcmc.json`` and its figures. Needs the extra ``bench`` (``pip install -e ".[bench]"``), and in
POSTERITY_DATA the folder of ``uci/energy``.
"""

import argparse
import hashlib
import importlib
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _results import cores, device, versions, write
from tqdm.auto import tqdm

HERE = Path(__file__).parent
ENOUGH = 4000  # effective draws
CONVERGED = 1.01
PACKAGES = ("torch", "pyro-ppl", "numpyro", "jax", "blackjax", "arviz", "numpy")
PARTS = ("convergence", "engine", "mcmc", "program", "training")  # folders of inference that samplers depend on

Job = tuple[str, str, int, dict[str, Any]]  # problem, sampler, seed, settings

# The module of each sampler, imported only in that sampler's process.
SAMPLERS = {
    "posterity_hmc": ("_mcmc_ours", "hmc"),
    "posterity_nuts": ("_mcmc_ours", "nuts"),
    "pyro_nuts": ("_mcmc_ours", "pyro_nuts"),
    "numpyro_nuts": ("_mcmc_peers", "numpyro_nuts"),
    "numpyro_nuts_vectorized": ("_mcmc_peers", "numpyro_nuts"),
    "blackjax_nuts": ("_mcmc_peers", "blackjax_nuts"),
    "blackjax_chees": ("_mcmc_peers", "blackjax_chees"),
}


def of(chains: int, warmup: int, draws: int, **more: Any) -> dict[str, Any]:
    return {"chains": chains, "warmup": warmup, "draws": draws, **more}


# All tuning is here. An R-hat below 1.01 needs about 100 effective draws of every chain, and more with more chains.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "wavy": {
        "posterity_hmc": of(32, 60, 200, trajectory_length=3.7, target_accept=0.9),
        "posterity_nuts": of(32, 80, 160, max_tree_depth=8),
        "pyro_nuts": of(2, 60, 60),
        "numpyro_nuts": of(2, 500, 1000),
        "numpyro_nuts_vectorized": of(4, 500, 1000, chain_method="vectorized"),
        "blackjax_nuts": of(2, 500, 1000),
        "blackjax_chees": of(32, 300, 500, mass_matrix_estimation="diagonal", max_leapfrog_steps=256),
    },
    "schools": {
        "posterity_hmc": of(32, 150, 1000),
        "posterity_nuts": of(32, 150, 300),
        "pyro_nuts": of(2, 300, 1000),
        "numpyro_nuts": of(4, 500, 2000),
        "numpyro_nuts_vectorized": of(8, 500, 1000, chain_method="vectorized"),
        "blackjax_nuts": of(4, 500, 2000),
        "blackjax_chees": of(16, 500, 1000, target_acceptance_rate=0.8, mass_matrix_estimation="diagonal"),
    },
    "moons": {
        "posterity_hmc": of(16, 60, 300, trajectory_length=1.5, target_accept=0.8),
        "posterity_nuts": of(16, 60, 300),
        "numpyro_nuts": of(2, 500, 1000),
        "numpyro_nuts_vectorized": of(4, 500, 1000, chain_method="vectorized"),
        "blackjax_chees": of(16, 500, 500, max_leapfrog_steps=256),  # the diagonal metric keeps a 10,602² covariance
    },
    "energy": {
        "posterity_hmc": of(16, 200, 200, trajectory_length=16.0, target_accept=0.9),
        "posterity_nuts": of(16, 100, 60, max_tree_depth=9),
        "numpyro_nuts": of(2, 300, 400),
        "blackjax_chees": of(16, 300, 200, mass_matrix_estimation="diagonal", max_leapfrog_steps=256),
    },
}
QUICK: dict[str, dict[str, dict[str, Any]]] = {
    "wavy": {
        "posterity_hmc": of(8, 50, 50),
        "pyro_nuts": of(2, 4, 4, max_tree_depth=4),
    },
    "schools": {
        "posterity_hmc": of(8, 50, 50),
        "posterity_nuts": of(8, 50, 50),
        "numpyro_nuts": of(2, 50, 50, max_tree_depth=6),
        "blackjax_chees": of(8, 50, 50, max_leapfrog_steps=50),
    },
}

# Measured once only: slower than another way of the same library in every run so far, or minutes long.
ONCE = {(problem, "numpyro_nuts_vectorized") for problem in SETTINGS} | {
    ("wavy", "pyro_nuts"), ("energy", "posterity_nuts"), ("moons", "posterity_nuts"),
    ("wavy", "blackjax_nuts"), ("schools", "blackjax_nuts"), ("energy", "blackjax_chees"), ("moons", "blackjax_chees"),
}  # fmt: skip

OURS, PYRO, NUMPYRO, PEERS = ("posterity",), ("pyro",), ("numpyro",), ("numpyro", "blackjax")
# Problem, rate, the libraries it is compared with, the ratio of the bar, the ratio aimed for.
BARS: list[tuple[str, str, tuple[str, ...], float, float | None]] = [
    ("wavy", "ess_per_s_after_warmup", PEERS, 5, 12),
    ("wavy", "ess_per_s_after_warmup", PYRO, 500, 1500),
    ("wavy", "ess_per_s_at_4000", PEERS, 4, 10),
    ("wavy", "ess_per_s_at_4000", PYRO, 300, 1000),
    *((problem, "ess_per_s_at_4000", NUMPYRO, 1, None) for problem in ("energy", "schools", "moons")),
]
RATES = ("ess_per_s", "ess_per_s_after_warmup", "ess_per_s_at_4000", "ess_median_per_s", "ess_per_grad")
COSTS = ("seconds", "warmup_seconds", "peak_mb", "divergences", "rhat_max")


def one(problem_name: str, sampler: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One run, in a process that has done nothing else."""
    module, function = SAMPLERS[sampler]
    run = getattr(importlib.import_module(module), function)
    problem = importlib.import_module("_mcmc_problems").PROBLEMS[problem_name]()
    found = run(problem, seed, **settings)
    # Before the diagnostics are imported, which are not part of a peer. Memory of the chains' processes counts.
    kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    from posterity.inference.diagnostics import function_convergence

    convergence = function_convergence(problem.functions(found.pop("draws")))
    return found | {
        "ess_min": float(convergence.ess_bulk.min()),
        "ess_median": float(convergence.ess_bulk.median()),
        "rhat_max": float(convergence.rhat.max()),
        "peak_mb": kilobytes / 1024,
        "settings": settings,
    }


def run_apart(path: Path, problem: str, sampler: str, seed: int, settings: dict[str, Any], limit: float) -> str | None:
    """`one` in a new process with cold compile caches; its result, or the reason for none, is written to ``path``."""
    command = [sys.executable, __file__, "--one", problem, sampler, str(seed), json.dumps(settings), str(path)]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",  # samplers that use more cores start their own threads
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={cores()}",
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "TORCHINDUCTOR_CACHE_DIR": cache,
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
    return None if process.returncode == 0 else (errors.strip().splitlines() or ["no message"])[-1]


def stamp(sampler: str, settings: dict[str, Any]) -> str:
    """A checksum of everything that a run depends on: settings, code and versions."""
    module = SAMPLERS[sampler][0]
    files = [HERE / "_mcmc_problems.py", HERE / f"{module}.py"]
    if sampler.startswith(OURS):
        root = HERE.parent
        files += sorted(root.glob("src/posterity/*.py")) + sorted(root.glob("inference/*.py"))
        files += sorted(file for part in PARTS for file in (root / "inference" / part).rglob("*.py"))
    content = json.dumps([settings, versions(*PACKAGES)], sort_keys=True) + "".join(file.read_text() for file in files)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def measure(jobs: Iterable[Job], out: Path, limit: float) -> tuple[dict[str, Any], int]:
    """Results by problem and sampler, one for each seed. Failed runs are printed, left out and counted."""
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    failures = 0
    bar = tqdm(list(jobs))
    for problem, sampler, seed, settings in bar:
        path = out / f"{problem}-{sampler}-{seed}-{stamp(sampler, settings)}.json"
        bar.set_description(f"{problem} {sampler} {seed}")
        if not path.exists():
            reason = run_apart(path, problem, sampler, seed, settings, limit)
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


def best(metrics: dict[str, float], problem: str, rate: str, families: tuple[str, ...]) -> tuple[str, float] | None:
    """The fastest converged sampler of these libraries, or the fastest of all if none converged."""
    found = [name.split(".")[1] for name in metrics if name.startswith(f"{problem}.") and name.endswith(f".{rate}")]
    found = [sampler for sampler in found if sampler.split("_")[0] in families]
    found = [sampler for sampler in found if converged(metrics, problem, sampler)] or found
    pairs = [(sampler, metrics[f"{problem}.{sampler}.{rate}"]) for sampler in found]
    return max(pairs, key=lambda pair: pair[1], default=None)


def converged(metrics: dict[str, float], problem: str, sampler: str) -> bool:
    return metrics[f"{problem}.{sampler}.rhat_max"] < CONVERGED


def ratios(metrics: dict[str, float]) -> dict[str, float]:
    """Our best over theirs for every bar. Ours must have converged; a peer that has not is favoured, and marked."""
    found = {}
    print()
    for problem, rate, families, least, goal in BARS:
        ours, theirs = (best(metrics, problem, rate, names) for names in (OURS, families))
        if ours is None or theirs is None:
            continue
        ratio = ours[1] / theirs[1] if converged(metrics, problem, ours[0]) else math.nan
        verdict = "met" if ratio >= least else "missed"
        aim = "" if goal is None else f", goal {goal:g} {'met' if ratio >= goal else 'missed'}"
        note = "".join(
            f" ({name} not converged)" for name, _ in (ours, theirs) if not converged(metrics, problem, name)
        )
        print(f"{problem} {rate}: {ours[0]} / {theirs[0]} = {ratio:.1f}, bar {least:g} {verdict}{aim}{note}")
        if math.isfinite(ratio):
            found[f"{problem}.{rate}.over_{'_'.join(families)}"] = ratio
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

    colours = {"posterity": "#0072B2", "numpyro": "#D55E00", "blackjax": "#009E73", "pyro": "#E69F00"}
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
    options.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    options.add_argument("--limit", type=float, default=3600, help="seconds for one run")
    options.add_argument("--out", type=Path, default=HERE.parent / "out" / "mcmc_benchmark")
    options.add_argument("--draw", action="store_true", help="only the figures, from the numbers that are kept")
    options.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.one:
        problem, sampler, seed, settings, path = args.one
        write(Path(path), one(problem, sampler, int(seed), json.loads(settings)))
        return
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
    results, failures = measure(jobs, args.out, args.limit)
    metrics = summary(results) | scaling()
    show(metrics)
    metrics |= ratios(metrics)
    whole = not args.quick and args.problems == list(SETTINGS) and args.samplers == list(SAMPLERS)
    folder = HERE / "results" if whole else args.out
    write(
        folder / "mcmc.json",
        {
            "benchmark": "mcmc",
            "command": "python benchmarks/mcmc.py" + (" --quick" if args.quick else ""),
            "seed": 0,
            "quick": args.quick,
            "versions": versions(*PACKAGES),
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
