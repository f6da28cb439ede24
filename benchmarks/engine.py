"""The speed of gradients: by Pyro, recorded, and compiled for 16 chains beside JAX and the peak of the machine.

    python benchmarks/engine.py [--repeats 5] [--peers PYTHON] [--only NAME ...]

- ``gradient``, ``likelihood_1000_draws``: a 1-16-16-1 tanh network with one noise on 86 points. One gradient of the log
  joint by Pyro's potential and by the recorded one, and the likelihood of 1,000 draws by a loop of conditioned traces
  and by one `vmap`; medians.
- ``<layers>/<rows>.<engine>_<threads>``: the gradient of the log joint of a tanh network for 16 chains, compiled by
  this library and by JAX (``jit(vmap(value_and_grad))``), with one thread and two: ``ms``, the least of seven timings,
  and ``gmac_per_s``, billions of multiply-adds a second (`_engine_shapes.multiply_adds`; elementary functions do not
  count). ``over_jax``: JAX's time divided by ours with as many threads; ``of_peak``: the share of the peak.
- ``peak_<threads>``: multiply-adds of single precision a second in registers, in a loop of C++.
- ``preparation``: seconds from model to engine (1-16-16-1 on 82 rows), in a process that compiles and in the next one.

JAX runs in a process of its own, by the interpreter ``--peers`` (default: this one), on at most 45,730 rows. Without
JAX it is left out.
Writes ``benchmarks/results/engine.json``.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _engine_shapes import CHAINS, SHAPES, multiply_adds, repeats
from _results import device, versions, write
from pyro.infer.mcmc.util import initialize_model
from pyro.ops.integrator import potential_grad
from torch import Tensor

from posterity.data import wavy
from posterity.inference.engine import Density, prepare
from posterity.inference.engine.lanes import build
from posterity.inference.engine.lanes.machine import machine
from posterity.inference.mcmc.potential import capture
from posterity.inference.program.likelihood import likelihood_over_draws
from posterity.models import bayesian, gaussian, mlp
from posterity.models.guides import initial
from posterity.random import seeded

GRADIENTS, DRAWS = 300, 1000
MOST_ROWS_OF_JAX = 100_000  # its arrays of a million rows take more than ten gigabytes
PEAK = """
extern "C" double peak(long count) {
  V a[24];
  for (int i = 0; i < 24; i++) a[i] = fill((S)(0.1 * i));
  V x = fill((S)0.999), y = fill((S)0.001);
  for (long k = 0; k < count; k++) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) a[i] = a[i] * x + y;
  }
  double sum = 0;
  for (int i = 0; i < 24; i++) sum += a[i][0];
  return sum;
}
"""
PREPARE = """
import time, torch
from engine import network_of
from posterity.inference.engine import Density, prepare
model, args = network_of("1-16-16-1/82")
start = time.perf_counter()
density = Density(model, args)
q = 0.3 * torch.randn(16, density.dim, generator=torch.Generator().manual_seed(0))
prepare(density, q, tier="compiled", threads=1)
print(time.perf_counter() - start)
"""


def median_seconds(function: Callable[[], Any], repeats: int) -> float:
    times = []
    function()
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def network_of(name: str) -> tuple[Callable[..., Any], tuple[Tensor, Tensor]]:
    """The model of one of `SHAPES`, and its data."""
    sizes, rows = SHAPES[name]
    x = torch.randn(rows, sizes[0], generator=torch.Generator().manual_seed(0))
    net = mlp(*sizes, seed=0)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        features = bayesian("net", net)(x)
        if sizes[-1] == 2:
            with pyro.plate("obs", len(x)):
                return pyro.sample("y", dist.Categorical(logits=features), obs=y)
        noise = pyro.sample("noise", dist.HalfNormal(features.new_ones(())))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, noise), obs=y)

    return model, (x, (x[:, 0] > 0).long() if sizes[-1] == 2 else x[:, 0].sin())


def compiled_gradients(names: list[str], peers: str) -> dict[str, float]:
    """Times and rates of the compiled gradients, beside JAX and the peak."""
    metrics: dict[str, float] = {}
    for threads in (1, 2):
        metrics[f"peak_{threads}.gmac_per_s"] = peak(threads)
        jax = run_jax([name for name in names if SHAPES[name][1] <= MOST_ROWS_OF_JAX], threads, peers)
        for name in names:
            scale = CHAINS * multiply_adds(name) / 1e9
            for engine, seconds in (("posterity", our_seconds(name, threads)), ("jax", jax.get(name))):
                if seconds is not None:
                    metrics[f"{name}.{engine}_{threads}.ms"] = 1e3 * seconds
                    metrics[f"{name}.{engine}_{threads}.gmac_per_s"] = scale / seconds
            ours = metrics[f"{name}.posterity_{threads}.gmac_per_s"]
            metrics[f"{name}.of_peak_{threads}"] = ours / metrics[f"peak_{threads}.gmac_per_s"]
            if name in jax:
                metrics[f"{name}.over_jax_{threads}"] = ours / metrics[f"{name}.jax_{threads}.gmac_per_s"]
            print(f"{name:18} {threads} thread(s): {ours:7.1f} GMAC/s", flush=True)
    return metrics


def our_seconds(name: str, threads: int) -> float:
    """The seconds of one gradient of all chains, the least of seven timings."""
    model, args = network_of(name)
    density = Density(model, args)
    q = 0.3 * torch.randn(CHAINS, density.dim, generator=torch.Generator().manual_seed(1))
    engine = prepare(density, q, tier="compiled", threads=threads)
    count, found = repeats(name), []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(count):
            engine.gradient(q)
        found.append((time.perf_counter() - start) / count)
    return min(found)


def run_jax(names: list[str], threads: int, peers: str) -> dict[str, float]:
    """`_engine_jax.py`; an empty result without JAX."""
    script = Path(__file__).parent / "_engine_jax.py"
    run = subprocess.run([peers, str(script), str(threads), *names], capture_output=True, text=True)
    if run.returncode:
        print(f"JAX is left out: {(run.stderr.strip().splitlines() or ['no message'])[-1]}")
        return {}
    return dict(json.loads(run.stdout.strip().splitlines()[-1]))


def peak(threads: int) -> float:
    """Billions of multiply-adds a second in registers, the best of five, on ``threads`` threads."""
    width = machine().bytes // 4
    library = build.library(build.vector_source(torch.float32, width) + PEAK)
    function, count, best = library.peak, 5_000_000, 0.0
    function.restype = ctypes.c_double
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(lambda _: function(ctypes.c_long(count)), range(threads)))
            best = max(best, threads * count * 24 * width / (time.perf_counter() - start) / 1e9)
    return best


def preparation() -> dict[str, float]:
    """Seconds of the preparation in a process that compiles, and in the next one."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            environment = {**os.environ, "POSTERITY_CACHE": folder}
            run = subprocess.run(
                [sys.executable, "-c", PREPARE], capture_output=True, text=True, check=True, env=environment,
                cwd=Path(__file__).parent,
            )  # fmt: skip
            found.append(float(run.stdout.split()[-1]))
    return dict(zip(("preparation.first_seconds", "preparation.next_seconds"), found, strict=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--peers", default=sys.executable, help="interpreter that has JAX")
    options.add_argument("--only", nargs="*", choices=list(SHAPES), help="networks, by default all")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "engine.json")
    args = options.parse_args()
    start = time.perf_counter()
    data, net = wavy(86, seed=0), mlp(1, 16, 16, 1, seed=0)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        features = bayesian("net", net)(x)
        noise = pyro.sample("noise", dist.HalfNormal(features.new_ones(())))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, noise), obs=y)

    with seeded(0):
        point, plain, _, _ = initialize_model(model, (data.x, data.y), init_strategy=initial("prior"))
    tick = time.perf_counter()
    recorded = capture(plain, point)
    capture_seconds = time.perf_counter() - tick
    draws = {name: value.expand(DRAWS, *value.shape).clone() for name, value in point.items()}
    draws["noise"] = draws["noise"].exp()

    def gradients(potential: Callable[[dict[str, Tensor]], Tensor]) -> None:
        for _ in range(GRADIENTS):
            potential_grad(potential, point)

    def loop() -> None:
        with torch.no_grad():
            for index in range(DRAWS):
                values = {name: value[index] for name, value in draws.items()}
                pyro.poutine.trace(pyro.condition(model, data=values)).get_trace(data.x, data.y)

    pyro_us = median_seconds(lambda: gradients(plain), args.repeats) / GRADIENTS * 1e6
    recorded_us = median_seconds(lambda: gradients(recorded), args.repeats) / GRADIENTS * 1e6
    loop_ms = median_seconds(loop, args.repeats) * 1e3
    vmap_ms = median_seconds(lambda: likelihood_over_draws(model, (data.x,), draws, "y"), args.repeats) * 1e3
    metrics = {
        **compiled_gradients(args.only or list(SHAPES), args.peers),
        **preparation(),
        "gradient.pyro_us": pyro_us,
        "gradient.recorded_us": recorded_us,
        "gradient.ratio": pyro_us / recorded_us,
        "gradient.capture_seconds": capture_seconds,
        "likelihood_1000_draws.loop_ms": loop_ms,
        "likelihood_1000_draws.vmap_ms": vmap_ms,
        "likelihood_1000_draws.ratio": loop_ms / vmap_ms,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    report = {
        "benchmark": "engine",
        "command": "python benchmarks/engine.py",
        "seed": 0,
        "quick": False,
        "versions": versions("torch", "pyro-ppl"),
        "device": device(),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
    }
    write(args.out, report)
    for name, value in metrics.items():
        print(f"{name:32} {value:12.3f}")


if __name__ == "__main__":
    main()
