"""Log density and samples of mixture density networks by several libraries, one process for each measurement.

    python benchmarks/_mdn_peers.py LIBRARY THREADS POINTS COMPONENTS SEED

prints one line of JSON: milliseconds of one log density with its gradient and of one sample for each point, after a
warm-up; the peak memory of the log density; its error. `benchmarks/mdn.py` starts it. Only the measured library is
imported, because Keras may be in an environment without torch.

Every library starts from the same raw outputs of a network, ``logits``, ``loc`` and ``log_scale`` (N, K), and turns
them into weights and scales in its own way. The formulas of the two public networks in torch are rewritten from their
sources, for one target:

- sagelywizard/pytorch-mdn, ``mdn/mdn.py`` at 1bf0675: weights by a softmax, densities as products (not logarithms),
  samples by Categorical and a gather;
- tonyduan/mixture-density-network, ``mdn/models.py`` (at the time of writing): log weights, scales exp(s + 1e-6)
  clamped from below, log-sum-exp; samples by drawing from all components and gathering one.
"""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

FLOOR = 1e-3  # of posterity's scales
CHECKED = 10_000  # points whose log density is compared with double precision
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def data(points: int, components: int, seed: int) -> dict[str, np.ndarray]:
    """Raw outputs (N, K) and targets (N,), each row's drawn from near one of its components."""
    generator = np.random.default_rng(seed)
    raw = {name: generator.standard_normal((points, components), dtype=np.float32) for name in ("logits", "loc")}
    raw["log_scale"] = generator.standard_normal((points, components), dtype=np.float32)
    raw["log_scale"] *= 0.5
    raw["loc"] *= 2
    raw["y"] = raw["loc"][:, 0] + np.exp(raw["log_scale"][:, 0]) * generator.standard_normal(points, dtype=np.float32)
    return raw


def truth(raw: dict[str, np.ndarray], scale: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Log density of the first points in double precision, with the scales of the library in question."""
    logits, loc, log_scale, y = (raw[name][:CHECKED].astype(np.float64) for name in ("logits", "loc", "log_scale", "y"))
    width = scale(log_scale)
    terms = logits - 0.5 * ((y[:, None] - loc) / width) ** 2 - np.log(width) - HALF_LOG_TWO_PI
    return np.logaddexp.reduce(terms, -1) - np.logaddexp.reduce(logits, -1)


def of_torch(raw: dict[str, np.ndarray], make: Callable[..., Any], scale: Callable[[np.ndarray], np.ndarray]) -> Any:
    """``make(logits, loc, log_scale)`` gives the functions ``log_prob(y)`` and ``sample()``."""
    import torch

    leaves = [torch.from_numpy(raw[name]).requires_grad_() for name in ("logits", "loc", "log_scale")]
    y = torch.from_numpy(raw["y"])

    def gradient(rows: slice = slice(None)) -> Any:
        parts = [t[rows].detach().requires_grad_() for t in leaves]
        return torch.autograd.grad(make(*parts).log_prob(y[rows]).mean(), parts)

    @torch.no_grad()
    def sample(rows: slice = slice(None)) -> Any:
        return make(*(t[rows] for t in leaves)).sample()

    @torch.no_grad()
    def log_prob() -> np.ndarray:
        return make(*(t[:CHECKED] for t in leaves)).log_prob(y[:CHECKED]).numpy()

    return SimpleNamespace(gradient=gradient, sample=sample, log_prob=log_prob, scale=scale)


def posterity(raw: dict[str, np.ndarray]) -> Any:
    """`Mixture` with the scales that a head makes."""
    from posterity.models import Mixture
    from posterity.models.likelihoods import floored_scale

    def make(logits: Any, loc: Any, log_scale: Any) -> Any:
        return Mixture.normal(logits, loc, floored_scale(log_scale, FLOOR))

    return of_torch(raw, make, lambda s: np.hypot(FLOOR, np.exp(s)))


def posterity_head(raw: dict[str, np.ndarray]) -> Any:
    """`mixture_head`, from all raw outputs in one array (N, 3 K), as the last layer of a network gives them."""
    import torch

    from posterity.models import mixture_head

    names = ("logits", "loc", "log_scale")
    count = raw["loc"].shape[1]
    head = mixture_head(count, floor=FLOOR)
    start = head(torch.zeros(head.features, dtype=torch.double)).component_distribution
    width = 0.5 * np.log(start.scale.numpy() ** 2 - FLOOR**2)  # log-scales before the floor
    offsets = {name: v.astype(np.float32) for name, v in zip(names, (0 * width, start.loc.numpy(), width), strict=True)}
    joined = np.empty((len(raw["y"]), 3 * count), dtype=np.float32)
    for place, name in enumerate(names):
        joined[:, place * count : (place + 1) * count] = raw[name] - offsets[name]
    features, y = torch.from_numpy(joined), torch.from_numpy(raw["y"])

    def gradient(rows: slice = slice(None)) -> Any:
        leaf = features[rows].detach().requires_grad_()
        return torch.autograd.grad(head(leaf).log_prob(y[rows]).mean(), leaf)

    return SimpleNamespace(
        gradient=gradient,
        sample=torch.no_grad()(lambda rows=slice(None): head(features[rows]).sample()),
        log_prob=torch.no_grad()(lambda: head(features[:CHECKED]).log_prob(y[:CHECKED]).numpy()),
        scale=lambda s: np.hypot(FLOOR, np.exp(s)),
    )


def torch_same_family(raw: dict[str, np.ndarray]) -> Any:
    """Plain ``torch.distributions``."""
    from torch.distributions import Categorical, MixtureSameFamily, Normal

    def make(logits: Any, loc: Any, log_scale: Any) -> Any:
        return MixtureSameFamily(Categorical(logits=logits), Normal(loc, log_scale.exp()))

    return of_torch(raw, make, np.exp)


def sagelywizard(raw: dict[str, np.ndarray]) -> Any:
    import torch

    def make(logits: Any, loc: Any, log_scale: Any) -> Any:
        weights = torch.softmax(logits, dim=1)
        sigma, mu = torch.exp(log_scale).unsqueeze(2), loc.unsqueeze(2)  # (N, K, 1): one target

        def log_prob(y: Any) -> Any:
            target = y.unsqueeze(1).unsqueeze(1).expand_as(sigma)
            height = (1 / math.sqrt(2 * math.pi)) * torch.exp(-0.5 * ((target - mu) / sigma) ** 2) / sigma
            return torch.log(torch.sum(weights * torch.prod(height, 2), dim=1))

        def sample() -> Any:
            chosen = torch.distributions.Categorical(weights).sample().view(len(weights), 1, 1)
            noise = torch.randn(sigma.shape[2], len(sigma))
            return (noise * sigma.gather(1, chosen).squeeze() + mu.gather(1, chosen).squeeze()).transpose(0, 1)

        return SimpleNamespace(log_prob=log_prob, sample=sample)

    return of_torch(raw, make, np.exp)


def tonyduan(raw: dict[str, np.ndarray]) -> Any:
    import torch

    eps = 1e-6

    def make(logits: Any, loc: Any, log_scale: Any) -> Any:
        log_weights = torch.log_softmax(logits, dim=-1)
        mu, sigma = loc.unsqueeze(-1), torch.exp(log_scale + eps).unsqueeze(-1)

        def log_prob(y: Any) -> Any:
            clamped = torch.clamp(sigma, min=eps)
            away = (y.unsqueeze(-1).unsqueeze(-2) - mu) / clamped
            normal = -0.5 * away.pow(2).sum(-1) - clamped.log().sum(-1) - 0.5 * math.log(2 * math.pi)
            return torch.logsumexp(log_weights + normal, dim=-1)

        def sample() -> Any:
            chosen = torch.multinomial(torch.softmax(log_weights, dim=-1), num_samples=1)
            every = torch.randn_like(mu) * sigma + mu
            return torch.gather(every, -2, chosen.unsqueeze(-1)).squeeze(-2).squeeze(-1)

        return SimpleNamespace(log_prob=log_prob, sample=sample)

    return of_torch(raw, make, lambda s: np.maximum(np.exp(s + eps), eps))


def keras_mdn_layer(raw: dict[str, np.ndarray]) -> Any:
    """The loss and the batched sampler of keras-mdn-layer on TensorFlow, compiled as ``fit`` and ``predict`` do."""
    import keras_mdn_layer as layer
    import tensorflow as tf

    count = raw["loc"].shape[1]
    loc, log_scale, logits, y = (tf.constant(raw.pop(name)) for name in ("loc", "log_scale", "logits", "y"))
    loss, draw = layer.get_mixture_loss_func(1, count), layer.get_mixture_sampling_fun(1, count)

    def joined(mu: Any, s: Any, pi: Any) -> Any:
        return tf.concat([mu, layer.elu_plus_one_plus_epsilon(s), pi], -1)

    @tf.function(reduce_retracing=True)
    def gradients(mu: Any, s: Any, pi: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((mu, s, pi))
            value = loss(target, joined(mu, s, pi))
        return tape.gradient(value, (mu, s, pi))

    @tf.function(reduce_retracing=True)
    def samples(mu: Any, s: Any, pi: Any) -> Any:
        return draw(joined(mu, s, pi))

    def log_prob() -> np.ndarray:
        parts = layer._split_mdn_params(joined(*(t[:CHECKED] for t in (loc, log_scale, logits))), 1, count)
        return np.asarray(layer._mdn_log_prob(y[:CHECKED], *parts, 1, count))

    def gradient(rows: slice = slice(None)) -> Any:
        return gradients(*(t[rows] for t in (loc, log_scale, logits, y)))

    return SimpleNamespace(
        gradient=gradient,
        sample=lambda rows=slice(None): samples(*(t[rows] for t in (loc, log_scale, logits))),
        log_prob=log_prob,
        scale=lambda s: np.where(s > 0, s + 1, np.exp(np.minimum(s, 0))) + 1e-7,
    )


LIBRARIES = {
    "posterity": posterity,
    "posterity_head": posterity_head,
    "torch": torch_same_family,
    "torch_mdn_sagelywizard": sagelywizard,
    "torch_mdn_tonyduan": tonyduan,
    "keras_mdn_layer": keras_mdn_layer,
}


def use_threads(library: str, threads: int) -> None:
    if library == "keras_mdn_layer":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.random.set_seed(0)
    else:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)


def resident() -> float:
    """Current memory in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak() -> float:
    """Peak memory in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(name: str, function: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of wall time and of CPU time, after the warm-up."""
    start, used = time.perf_counter(), time.process_time()
    function()
    return {f"{name}_ms": 1e3 * (time.perf_counter() - start), f"{name}_cpu_ms": 1e3 * (time.process_time() - used)}


def main() -> None:
    if len(sys.argv) == 1:
        print(__doc__)
        return
    library = sys.argv[1]
    threads, points, components, seed = (int(word) for word in sys.argv[2:])
    use_threads(library, threads)
    raw = data(points, components, seed)
    checked = {name: value[:CHECKED].copy() for name, value in raw.items()}
    functions = LIBRARIES[library](raw)
    del raw
    functions.gradient(slice(1000))  # first-call overhead
    before = resident()
    functions.gradient()
    extra = peak() - before
    found = {"logprob_grad_mb": extra} | timed("logprob_grad", functions.gradient)
    functions.sample()
    found |= timed("sample", functions.sample)
    found["logprob_max_error"] = float(np.abs(functions.log_prob() - truth(checked, functions.scale)).max())
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    main()
