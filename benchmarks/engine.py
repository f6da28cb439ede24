"""The gain from recording and batching a Pyro model: medians of repeated runs in one process.

    python benchmarks/engine.py [--repeats 5]

Problem: a 1-16-16-1 tanh network with one noise on 86 points. It compares one gradient of the log joint by
Pyro's potential and by the recorded one, and the likelihood of 1,000 draws by a loop of conditioned traces and by one
`vmap`.
Writes ``benchmarks/results/engine.json``.
"""

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _results import versions, write
from pyro.infer.mcmc.util import initialize_model
from pyro.ops.integrator import potential_grad
from torch import Tensor

from posterity.data import wavy
from posterity.inference.mcmc.potential import capture
from posterity.inference.program.likelihood import likelihood_over_draws
from posterity.models import bayesian, gaussian, mlp
from posterity.models.guides import initial
from posterity.random import seeded

GRADIENTS, DRAWS = 300, 1000


def median_seconds(function: Callable[[], Any], repeats: int) -> float:
    times = []
    function()
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=5)
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
        "versions": versions("torch", "pyro-ppl"),
        "device": f"cpu ({platform.machine()}, {torch.get_num_threads()} thread(s))",
        "wall_seconds": round(time.perf_counter() - start, 1),
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
    }
    write(args.out, report)
    for name, value in metrics.items():
        print(f"{name:32} {value:12.3f}")


if __name__ == "__main__":
    main()
