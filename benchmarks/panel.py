"""Sixteen published posteriors by samplers with default settings: are the draws right, and what does each cost?

    python benchmarks/panel.py [--seed 0] [--only garch ...] [--samplers posterity_hmc ...] [--peers PYTHON]
                               [--threads 1] [--timeout 600] [--out FILE] [--fresh]

Our `HMC` and `NUTS`, NumPyro's NUTS, BlackJAX's NUTS and ChEES-HMC, and nutpie, each as a user calls it who gives no
settings: 16 chains of 300 + 500 iterations for ours; 4 of 1,000 + 1,000 for NumPyro, one after another (what its
default does on one device) or "vectorized", and for BlackJAX's NUTS; 16 of 1,000 + 1,000 for ChEES; 6 of 400 + 1,000
for nutpie. All are in float64 and in the parametrisation of posteriordb.

Each (posterior, sampler) has a process of its own, one at a time, on ``--threads`` cores. CPU and wall seconds run from
the call of the sampler to draws on the host: compilation with cold caches and warm-up are in them, imports and loading
of data are not. CPU seconds include those of child processes such as the C++ compiler. A process that uses more than
``--timeout`` CPU seconds, imports included, or five times that by the clock, is stopped and has ``timed_out``.

For each posterior and sampler: ``max_z``, the largest distance of a mean from the reference in standard errors of
both; ``max_sd_ratio_error``; ``ess_min``, the smallest bulk ESS, and ``rhat_max`` over the published parameters;
``cpu_seconds`` and ``wall_seconds``; ``ess_per_cpu_s``; ``gradients``, of the draws of all chains without those of
warm-up, and ``warmup_gradients`` where they are known; ``ess_per_gradient``; ``divergences``; ``warned``, 1 if our run
gave a `ConvergenceWarning`. ``over_numpyro`` is our ``ess_per_cpu_s`` over that of the faster of NumPyro's two ways.
A run is right if R-hat is below 1.1, means are within 5 standard errors and standard deviations within 20 %; the ratio
is 0 where ours is not right, and left out where no run of NumPyro is.

Data and references are those of posteriordb in POSTERITY_DATA. Results are appended to a file beside ``--out`` as they
come, and a benchmark that is started again leaves out what the file has; ``--fresh`` starts anew. Writes
``benchmarks/results/panel.json``.
"""

import argparse
import hashlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import xarray as xr
from _panel_one import SAMPLERS
from _results import cold_caches, device, versions, versions_of, write
from tqdm.auto import tqdm

from posterity.files import replacing

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))  # models and references are in the tests

from tests.inference.mcmc.reference_models import distances  # noqa: E402
from tests.inference.mcmc.reference_panel import PANEL, entry  # noqa: E402

Job = tuple[str, str, int]  # posterior, sampler, seed
PARTS = ("convergence", "engine", "mcmc", "program", "training")  # folders of inference that our samplers depend on
PEERS = ("numpyro", "jax", "blackjax", "nutpie", "pymc")
METRICS = (
    "max_z", "max_sd_ratio_error", "ess_min", "rhat_max", "cpu_seconds", "wall_seconds", "gradients",
    "warmup_gradients", "divergences", "warned", "timed_out",
)  # fmt: skip
LIMITS = {"rhat_max": 1.1, "max_z": 5.0, "max_sd_ratio_error": 0.2}  # from which draws count as wrong
COLUMNS = {
    "max_z": "max z", "max_sd_ratio_error": "sd error", "ess_min": "ESS", "rhat_max": "R-hat", "cpu_seconds": "CPU s",
    "wall_seconds": "wall s", "ess_per_cpu_s": "ESS/CPU s", "ess_per_gradient": "ESS/grad", "gradients": "gradients",
    "divergences": "diverged", "warned": "warned",
}  # fmt: skip


def run_apart(job: Job, python: str, data: Any, threads: int, limit: int) -> dict[str, Any]:
    """`one` in a new process with cold compile caches: its row, which has ``failed`` or ``timed_out`` without draws."""
    name, sampler, seed = job
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data.json").write_text(json.dumps(data))
        command = [python, str(HERE / "_panel_one.py"), name, sampler, str(seed), folder, str(threads), str(limit)]
        start = time.perf_counter()
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            command, env=environment(threads, Path(folder, "cache")), start_new_session=True, **pipes
        )
        try:
            _, errors = process.communicate(timeout=5 * limit)
        except subprocess.TimeoutExpired:
            return {"timed_out": limit}
        finally:
            if process.poll() is None:  # after a timeout or an interrupt, together with the processes it has started
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode == -signal.SIGXCPU:
            return {"timed_out": limit}
        if process.returncode != 0:
            return {"failed": (errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1]}
        row = json.loads(Path(folder, "run.json").read_text())
        return {"process_seconds": time.perf_counter() - start} | row | judge(name, Path(folder, "draws.npz"))


def environment(threads: int, cache: Path) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={threads} --xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON")}
    return {
        **os.environ,
        **limits,
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        **cold_caches(cache),
    }


def judge(name: str, path: Path) -> dict[str, float]:
    """What the draws are worth."""
    with np.load(path) as content:
        found = {key[4:]: content[key] for key in content.files}
    data = xr.Dataset({p: (("chain", "draw"), draws) for p, draws in found.items()})
    ess, rhat = arviz.ess(data, method="bulk"), arviz.rhat(data)
    row = {
        "ess_min": float(np.min([ess[p] for p in found])),  # nan if any is
        "rhat_max": float(np.max([rhat[p] for p in found])),
        "chains": next(iter(found.values())).shape[0],
        "draws": next(iter(found.values())).shape[1],
    }
    published = entry(name).get("reference")
    far = distances(found, published) if published else {}
    return row | {key: far[key] for key in ("max_z", "max_sd_ratio_error") if published}


def stamp(sampler: str) -> str:
    """A checksum of the code that a run depends on."""
    if sampler.startswith("posterity"):
        files = [HERE / "_panel_one.py", HERE / "_panel_models.py", *ROOT.glob("tests/inference/mcmc/reference_*.py")]
        files += [*ROOT.glob("src/posterity/*.py")]
        files += [file for part in PARTS for file in (ROOT / "inference" / part).rglob("*") if file.is_file()]
        files = [file for file in files if file.suffix in (".py", ".h")]
    else:
        files = [
            HERE / f"_panel_{part}.py" for part in ("draws", "models_jax", "models_pymc", "nutpie", "one", "peers")
        ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:8]


def load(path: Path) -> dict[str, Any]:
    """Stored rows by "<posterior>.<sampler>"."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {f"{row['posterior']}.{row['sampler']}": row for row in map(json.loads, lines)}


def store(path: Path, rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))


def current(row: dict[str, Any] | None, same: dict[str, Any], limit: int) -> bool:
    """Whether a stored row need not be measured again. A timeout is tried again with a longer limit."""
    if row is None or any(row.get(key) != value for key, value in same.items()):
        return False
    return "failed" not in row and row.get("timed_out", math.inf) >= limit


def measure(jobs: list[Job], args: argparse.Namespace, lines: Path) -> dict[str, Any]:
    rows = load(lines)
    bar = tqdm(jobs)
    for name, sampler, seed in bar:
        bar.set_description(f"{name} {sampler}")
        key = f"{name}.{sampler}"
        same = {"seed": seed, "threads": args.threads, "code": stamp(sampler)}
        if not args.fresh and current(rows.get(key), same, args.timeout):
            continue
        python = sys.executable if sampler.startswith("posterity") else args.peers
        row = run_apart((name, sampler, seed), python, entry(name)["data"], args.threads, args.timeout)
        rows[key] = {"posterior": name, "sampler": sampler, **same, **row}
        store(lines, rows)
        if "failed" in row or "timed_out" in row:
            tqdm.write(f"{key}: {row}")
    return rows


def summary(rows: dict[str, Any]) -> dict[str, float]:
    """The metrics of all rows, and our effective draws per CPU second relative to NumPyro's."""
    metrics: dict[str, float] = {}
    for key, row in rows.items():
        found = {name: row[name] for name in METRICS if name in row}
        if "ess_min" in row:
            found["ess_per_cpu_s"] = row["ess_min"] / row["cpu_seconds"]
            if row.get("gradients"):
                found["ess_per_gradient"] = row["ess_min"] / row["gradients"]
        found |= {"failed": 1} if "failed" in row else {}
        metrics |= {f"{key}.{name}": float(f"{value:.6g}") for name, value in found.items() if math.isfinite(value)}
    return metrics | over_numpyro(rows)


def right(row: dict[str, Any]) -> bool:
    """Whether the draws are of the posterior: chains agree, and moments are near those of the reference, if any."""
    return "ess_min" in row and all(row.get(key, 0.0) < limit for key, limit in LIMITS.items())


def over_numpyro(rows: dict[str, Any]) -> dict[str, float]:
    """Our ESS per CPU second over that of the faster right run of NumPyro; 0 where our run is not right."""
    metrics: dict[str, float] = {}
    for ours in ("posterity_hmc", "posterity_nuts"):
        ratios = {}
        for name in PANEL:
            own, *theirs = (rows.get(f"{name}.{s}") for s in (ours, "numpyro", "numpyro_vectorized"))
            rates = [row["ess_min"] / row["cpu_seconds"] for row in theirs if row is not None and right(row)]
            if own is not None and rates:
                ratios[name] = own["ess_min"] / own["cpu_seconds"] / max(rates) if right(own) else 0.0
        found = {f"{name}.{ours}.over_numpyro": ratio for name, ratio in ratios.items()}
        if ratios:
            found[f"over_numpyro.{ours}.median"] = statistics.median(ratios.values())
            found[f"over_numpyro.{ours}.min"] = min(ratios.values())
        metrics |= {name: float(f"{ratio:.4g}") for name, ratio in found.items()}
    return metrics


def show(rows: dict[str, Any], metrics: dict[str, float]) -> None:
    print(f"{'':40}" + "".join(f"{title:>10}" for title in COLUMNS.values()))
    for key, row in rows.items():
        if "ess_min" not in row:
            print(f"{key:40}  {'timed out' if 'timed_out' in row else row['failed']}")
            continue
        cells = [metrics.get(f"{key}.{name}") for name in COLUMNS]
        print(f"{key:40}" + "".join(f"{'':>10}" if cell is None else f"{cell:10.3g}" for cell in cells))
    for name, value in metrics.items():
        if "over_numpyro" in name:
            print(f"{name} {value:g}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", choices=PANEL, default=list(PANEL), metavar="POSTERIOR")
    options.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    options.add_argument("--peers", default=sys.executable, help="interpreter that has the other libraries")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--timeout", type=int, default=600, help="CPU seconds for one process")
    options.add_argument("--out", type=Path, default=HERE / "results" / "panel.json")
    options.add_argument("--fresh", action="store_true", help="measure again what the file of results has")
    args = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that the run's process ends as well
    start, lines = time.perf_counter(), args.out.with_suffix(".jsonl")
    jobs = [(name, sampler, args.seed) for name in args.only for sampler in args.samplers]
    rows = measure(jobs, args, lines)
    rows = {f"{n}.{s}": rows[f"{n}.{s}"] for n in PANEL for s in SAMPLERS if f"{n}.{s}" in rows}
    metrics = summary(rows)
    show(rows, metrics)
    report = {
        "benchmark": "panel",
        "command": f"python benchmarks/panel.py --seed {args.seed} --threads {args.threads} --timeout {args.timeout}",
        "seed": args.seed,
        "quick": False,
        "versions": versions("torch", "pyro-ppl", "arviz") | versions_of(args.peers, PEERS),
        "device": f"{device()}, {args.threads} used",
        "wall_seconds": round(time.perf_counter() - start, 1),
        "metrics": metrics,
    }
    write(args.out, report)


if __name__ == "__main__":
    main()
