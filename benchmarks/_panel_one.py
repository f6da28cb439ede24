"""One run of `panel.py`, in a process that has done nothing else and that loads only the library of its sampler.

    python _panel_one.py POSTERIOR SAMPLER SEED FOLDER THREADS CPU_SECONDS

Reads ``data.json`` of the folder, and writes ``draws.npz``, the published parameters (chain, draw), and ``run.json``.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

# The module and function of each sampler.
SAMPLERS = {
    "posterity_hmc": ("_panel_models", "hmc"),
    "posterity_nuts": ("_panel_models", "nuts"),
    "numpyro": ("_panel_peers", "numpyro_nuts"),
    "numpyro_vectorized": ("_panel_peers", "numpyro_vectorized"),
    "blackjax_nuts": ("_panel_peers", "blackjax_nuts"),
    "blackjax_chees": ("_panel_peers", "blackjax_chees"),
    "nutpie": ("_panel_nutpie", "sample"),
}


class Clock:
    """CPU seconds, those of child processes included, and wall seconds between two calls."""

    def __init__(self) -> None:
        self.readings: list[tuple[float, float]] = []

    def __call__(self) -> None:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self.readings.append((sum(u.ru_utime + u.ru_stime for u in usage), time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        (cpu, wall), (cpu_end, wall_end) = self.readings
        return {"cpu_seconds": cpu_end - cpu, "wall_seconds": wall_end - wall}


def restrict(threads: int, cpu_seconds: int) -> None:
    """Use the first ``threads`` of the allowed cores, where the system can bind a process; end by SIGXCPU in time."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 10))


def main(name: str, sampler: str, seed: str, folder: str, threads: str, cpu_seconds: str) -> None:
    restrict(int(threads), int(cpu_seconds))
    module, function = SAMPLERS[sampler]
    run = getattr(importlib.import_module(module), function)
    data, clock = json.loads(Path(folder, "data.json").read_text()), Clock()
    found = run(name, data, int(seed), clock)
    draws = {f"{i:04}{parameter}": values for i, (parameter, values) in enumerate(found.pop("parameters").items())}
    np.savez(Path(folder, "draws.npz"), **draws)
    Path(folder, "run.json").write_text(json.dumps(found | clock.seconds()))


if __name__ == "__main__":
    main(*sys.argv[1:])
