"""The gradients of `engine.py` by JAX, ``jit(vmap(value_and_grad))``, in a process of its own.

    python _engine_jax.py THREADS NAME ...

Prints one JSON object: the seconds of one gradient of all chains, the least of seven timings, for each name.
"""

import itertools
import json
import os
import sys
import time

THREADS = int(sys.argv[1])
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(THREADS > 1).lower()}"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from _engine_shapes import CHAINS, SHAPES, repeats  # noqa: E402


def seconds(name: str) -> float:
    sizes, rows = SHAPES[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(rows, sizes[0])), jnp.float32)
    y, label = jnp.sin(x[:, 0]), (x[:, 0] > 0).astype(int)

    def log_joint(parameters):  # type: ignore[no-untyped-def]
        hidden, value = x, 0.0
        for layer, (w, b) in enumerate(parameters["layers"]):
            hidden = (jnp.tanh(hidden) if layer else hidden) @ w + b
            value = value - 0.5 * (w**2).sum() - 0.5 * (b**2).sum()
        if sizes[-1] == 2:
            return value + jnp.take_along_axis(jax.nn.log_softmax(hidden), label[:, None], 1).sum()
        noise = jnp.exp(parameters["noise"])
        value = value - 0.5 * noise**2 + parameters["noise"]
        return value + (-0.5 * ((y - hidden[:, 0]) / noise) ** 2 - jnp.log(noise)).sum()

    layers = [
        (jnp.asarray(0.3 * rng.normal(size=(CHAINS, a, b)), jnp.float32), jnp.zeros((CHAINS, b), jnp.float32))
        for a, b in itertools.pairwise(sizes)
    ]
    parameters = {"layers": layers, "noise": jnp.zeros((CHAINS,), jnp.float32)}
    gradient = jax.jit(jax.vmap(jax.value_and_grad(log_joint)))
    jax.block_until_ready(gradient(parameters))
    found, count = [], repeats(name)
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(count):
            result = gradient(parameters)
        jax.block_until_ready(result)
        found.append((time.perf_counter() - start) / count)
    return min(found)


print(json.dumps({name: seconds(name) for name in sys.argv[2:]}))
