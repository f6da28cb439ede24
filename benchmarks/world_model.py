"""Mixture density recurrent networks: training steps and dreams per second of `MixtureRNN` and of plain PyTorch.

    python benchmarks/world_model.py [--quick] [--rounds 30] [--steps 10] [--seed 0]

``_world_model_peer.py`` has the program in PyTorch, after a public MD-RNN. Two sizes:

- ``corridor``: 2 targets, 3 inputs of context, an LSTM of width 64, batches of 128 sequences of 15 steps;
- ``published``: 32 latents, 3 actions, width 256, batches of 16 sequences of 32 steps, with reward and end, as in
  Ha & Schmidhuber 2018 and in the public code.

Both have 5 components and diagonal covariances. A training step is the loss of one batch in memory, its gradient, and
a step of Adam. A dream is 15 steps; 1,000 dreams run as one batch. `MixtureRNN` also standardises its inputs, checks
its arguments, and predicts the scale of the reward, which the other program does not.

The programs take turns in one process with one thread, ``steps`` training steps or one batch of dreams at a time, and
change places after each round. The report has medians over the rounds:

- ``train_steps_per_s``, ``dreams_per_s``: by wall time. With ``_cpu_ms``: CPU time of one step or of one batch.
- ``peak_mb``: peak memory of a process that only trains and dreams; imported libraries take most of it.
  ``saved_mb``: what one training step keeps for its gradient.
- ``ratio.*``: median of the ratios within a round, with quartiles; above one, posterity is faster. ``ratio_cpu.*``: the
  inverse ratio of the CPU time of all rounds. The bar is 1.
- ``same_loss``: the largest difference of the losses of the mixture for equal weights, relative to the loss.

Writes ``benchmarks/results/world_model.json``; with ``--quick``, prints the results of a short run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from _results import device, versions, write
from _world_model_peer import PlainMDRNN, plain_dream, plain_loss
from torch import Tensor
from tqdm.auto import tqdm

from posterity.models.dreaming import dream
from posterity.models.recurrent import MixtureRNN

HERE = Path(__file__).parent
OURS, PEER = "posterity", "plain_torch"
COMPONENTS, DREAMS, LENGTH, RATE, BAR = 5, 1000, 15, 1e-3, 1.0


@dataclass(frozen=True)
class Size:
    targets: int
    context: int
    hidden: int
    batch: int
    steps: int
    heads: bool  # reward and end


SIZES = {"corridor": Size(2, 3, 64, 128, 15, False), "published": Size(32, 3, 256, 16, 32, True)}
Work = dict[str, Callable[[], Any]]


def batch(size: Size, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States (N, T + 1, D), context (N, T, C), rewards and ends (N, T)."""
    random = torch.Generator().manual_seed(seed)
    shape = (size.batch, size.steps)
    states = torch.randn(size.batch, size.steps + 1, size.targets, generator=random)
    context = torch.randn(*shape, size.context, generator=random)
    return states, context, torch.randn(shape, generator=random), (torch.rand(shape, generator=random) < 0.1).float()


def ours(size: Size, seed: int) -> tuple[MixtureRNN, Work]:
    states, context, rewards, ends = batch(size, seed)
    net = MixtureRNN(
        size.targets, size.context, hidden=size.hidden, components=COMPONENTS, ends=size.heads, rewarded=size.heads
    ).standardised(states)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    random = torch.Generator().manual_seed(seed)
    start, given = torch.randn(DREAMS, 1, size.targets), torch.randn(DREAMS, 1, size.context)

    def step() -> None:
        features, _ = net(states[:, :-1], context)
        loss = -net.next_state(features).log_prob(states[:, 1:]).mean()
        if size.heads:
            loss = loss - net.reward(features).log_prob(rewards).mean() - net.end(features).log_prob(ends).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    future = torch.zeros(len(start), LENGTH, net.context)
    return net, {"train": step, "dream": lambda: dream(net, start, given, steps=LENGTH, future=future, seed=random)}


def peer(size: Size, seed: int) -> tuple[PlainMDRNN, Work]:
    states, context, rewards, ends = (part.transpose(0, 1).contiguous() for part in batch(size, seed))
    sizes = (size.targets, size.context, size.hidden, COMPONENTS)
    net, cell = PlainMDRNN(*sizes), PlainMDRNN(*sizes, cell=True)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    start, given = torch.randn(DREAMS, size.targets), torch.randn(DREAMS, size.context)

    def step() -> None:
        loss = plain_loss(net, states, context, rewards if size.heads else None, ends if size.heads else None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return net, {"train": step, "dream": lambda: plain_dream(cell, start, given, LENGTH, size.heads)}


PROGRAMS: dict[str, Callable[[Size, int], tuple[Any, Work]]] = {OURS: ours, PEER: peer}


def same_loss(size: Size, seed: int) -> float:
    """The relative difference of the losses of the mixture, with the weights of ours in the other network."""
    net, states, context = MixtureRNN(size.targets, size.context, hidden=size.hidden), *batch(size, seed)[:2]
    other = PlainMDRNN(size.targets, size.context, size.hidden, COMPONENTS)
    recurrent, inputs = net.recurrent, torch.arange(size.targets + size.context).roll(size.context)
    with torch.no_grad():
        other.rnn.weight_ih_l0.copy_(recurrent.input.weight[:, inputs])  # there the actions come first
        other.rnn.weight_hh_l0.copy_(recurrent.repeat.weight)
        other.rnn.bias_ih_l0.copy_(recurrent.input.bias)
        other.rnn.bias_hh_l0.copy_(recurrent.repeat.bias)
        features, _ = net(states[:, :-1], context)
        mixture = net.next_state(features)
        expected = -mixture.log_prob(states[:, 1:]).mean()
        hidden, _ = net.hidden_states(states[:, :-1], context, None)
        theirs = other.rnn(torch.cat([context, states[:, :-1]], -1).transpose(0, 1))[0].transpose(0, 1)
        normal = mixture.component_distribution.base_dist
        from_theirs = net.next_state(net.output(theirs)).log_prob(states[:, 1:]).mean()
        terms = torch.distributions.Normal(normal.loc, normal.scale).log_prob(states[:, 1:].unsqueeze(-2)).sum(-1)
        by_hand = (mixture.log_weights + terms).logsumexp(-1).mean()
    apart = max(
        float((hidden - theirs).abs().max()), float(abs(expected + from_theirs)), float(abs(expected + by_hand))
    )
    return apart / float(expected)


def rounds(work: dict[str, Work], task: str, count: int, steps: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each round of each program."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for one in work.values():  # warm-up
        for _ in range(3):
            one[task]()
    for turn in range(count):
        for name in list(work)[:: -1 if turn % 2 else 1]:
            wall, busy = time.perf_counter(), time.process_time()
            for _ in range(steps):
                work[name][task]()
            found[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return found


def summary(found: dict[str, list[tuple[float, float]]], label: str, rate: str, units: int, steps: int) -> dict:
    metrics = {}
    for name, times in found.items():
        metrics[f"{name}.{rate}.{label}"] = units / statistics.median(wall for wall, _ in times)
        metrics[f"{name}.{rate.split('_')[0]}_cpu_ms.{label}"] = (
            1e3 * sum(busy for _, busy in times) / len(times) / steps
        )
    ratios = [b[0] / a[0] for a, b in zip(found[OURS], found[PEER], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    end = f"{rate}.{label}"
    metrics |= {f"ratio.{end}": middle, f"ratio.{end}.low": low, f"ratio.{end}.high": high}
    metrics[f"ratio_cpu.{end}"] = sum(t[1] for t in found[PEER]) / sum(t[1] for t in found[OURS])
    return metrics


def memory(program: str, label: str) -> float:
    """Peak memory in MB of a process that takes 20 training steps and samples one batch of dreams."""
    command = [sys.executable, "-W", "ignore", __file__, "--memory", program, label]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{program} of size {label} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure_memory(program: str, label: str) -> None:
    torch.manual_seed(0)
    _, work = PROGRAMS[program](SIZES[label], 0)
    for task, count in (("train", 20), ("dream", 1)):
        for _ in range(count):
            work[task]()
    print(json.dumps(peak()))


def peak() -> float:
    """Peak memory of this process in MB. ``ru_maxrss`` would include that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def saved(step: Callable[[], Any]) -> float:
    """Memory in MB that one training step keeps for its gradient; the weights are a part of it."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 2**20


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--steps", type=int, default=10, help="training steps of a round")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--memory", nargs=2, metavar=("PROGRAM", "SIZE"), help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path, default=HERE / "results" / "world_model.json")
    args = options.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        measure_memory(*args.memory)
        return
    count, steps = (2, 3) if args.quick else (args.rounds, args.steps)
    begun, load, metrics = time.perf_counter(), os.getloadavg(), {}
    for label, size in tqdm(SIZES.items()):
        torch.manual_seed(args.seed)
        work = {name: make(size, args.seed)[1] for name, make in PROGRAMS.items()}
        metrics |= summary(rounds(work, "train", count, steps), label, "train_steps_per_s", steps, steps)
        metrics |= summary(rounds(work, "dream", count, 1), label, "dreams_per_s", DREAMS, 1)
        metrics |= {f"{name}.peak_mb.{label}": memory(name, label) for name in PROGRAMS}
        metrics |= {f"{name}.saved_mb.{label}": saved(work[name]["train"]) for name in PROGRAMS}
        metrics[f"same_loss.{label}"] = same_loss(size, args.seed)
    report: dict[str, Any] = {
        "benchmark": "world_model",
        "command": " ".join(["python benchmarks/world_model.py", *sys.argv[1:]]),
        "settings": {
            "sizes": {label: asdict(size) for label, size in SIZES.items()},
            "components": COMPONENTS,
            "dreams": DREAMS,
            "dream_steps": LENGTH,
            "rounds": count,
            "steps": steps,
            "threads": 1,
            "optimiser": f"Adam, learning rate {RATE}",
            "seed": args.seed,
            "dtype": "float32",
        },
        "versions": versions("torch", "pyro-ppl", "numpy"),
        "device": device(),
        "load_before_and_after": [round(load[0], 1), round(os.getloadavg()[0], 1)],
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "bar": {f"ratio.{rate}.{label}": BAR for rate in ("train_steps_per_s", "dreams_per_s") for label in SIZES},
        "metrics": {name: float(f"{value:.4g}") for name, value in metrics.items()},
    }
    if not args.quick:
        write(args.out, report)
    for name, value in metrics.items():
        print(f"{name:60} {value:14.7g}")


if __name__ == "__main__":
    main()
