"""Training steps of a DCGAN on MNIST by several programs, one process for each measurement.

    python benchmarks/_gan_peers.py LIBRARY THREADS WIDTH STEPS SEED [IMAGES]

prints one line of JSON: steps per second after a warm-up, CPU milliseconds per step, peak memory beyond that of the
data, the number of parameters, and the losses of each step. `benchmarks/gan.py` starts it. IMAGES is a NumPy file,
float32 (N, 1, 28, 28) in [-1, 1], because the peers may need an environment without this package.

The clock is read when the discriminator is called, which each program does three times in a step.

- ``posterity``: `train` with networks of the library, without monitors.
- ``plain_torch``: a hand-written loop after ``dcgan/main.py`` of pytorch/examples. It has ``BCEWithLogitsLoss``, one
  batch of generated samples per step for both networks, one backward pass for each term of the discriminator's loss,
  and reads both losses in each step. Adam is fused; batches are drawn by index from a tensor in memory.
- ``plain_torch_unread``: the same, but the losses are read at the end.
- ``plain_torch_frozen``: in addition, the discriminator's weights need no gradient in the generator's update, where the
  example computes one in vain.
- ``torchgan``: its ``Trainer`` with the same networks. It draws generated samples for each network, which is more work.

All programs start from the weights of ``posterity`` if that is installed; its loop and the hand-written ones draw the
same batches and latent points.
"""

import contextlib
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BATCH, LATENT, SIDE = 64, 100, 28
RATE, BETAS = 2e-4, (0.5, 0.999)
WARMUP, CALLS = 3, 3  # steps, and calls of the discriminator in a step

Losses = list[tuple[float, float]]  # of discriminator and generator


def plain_networks(width: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The networks of `dcgan_generator` and `dcgan_discriminator` for 28 x 28 pixels, layer by layer."""
    generator = nn.Sequential(
        nn.Linear(LATENT, 2 * width * 7 * 7, bias=False),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * width * 7 * 7, 1),
        nn.Flatten(0),
    )
    for layer in [*generator, *discriminator]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return generator, discriminator


def our_networks(width: int) -> tuple[nn.Module, nn.Module]:
    from posterity.models.discriminators import dcgan_discriminator
    from posterity.models.generators import dcgan_generator

    shape = (1, SIDE, SIDE)
    return dcgan_generator(LATENT, shape, width=width), dcgan_discriminator(shape, width=width)


def networks(library: str, width: int, seed: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    if library == "posterity":
        return our_networks(width)
    with contextlib.suppress(ImportError):  # then the weights are another draw from the same distribution
        ours = our_networks(width)
        copies = plain_networks(width)
        for copy, own in zip(copies, ours, strict=True):
            copy.load_state_dict(dict(zip(copy.state_dict(), own.state_dict().values(), strict=True)))
        return copies
    return plain_networks(width)


def posterity(generator: nn.Module, discriminator: nn.Module, data: Tensor, steps: int, seed: int) -> Losses:
    from posterity.inference.adversarial import Adversarial, train

    settings = Adversarial(
        steps=steps, batch_size=BATCH, loss="non_saturating", learning_rate=(RATE, RATE), betas=BETAS, progress=False
    )
    history = train(generator, discriminator, data, latent=LATENT, settings=settings, seed=seed).history
    return list(zip(history["discriminator_loss"], history["generator_loss"], strict=True))


def by_hand(read: bool, freeze: bool) -> Callable[..., Losses]:
    def train(generator: nn.Module, discriminator: nn.Module, data: Tensor, steps: int, seed: int) -> Losses:
        random = torch.Generator().manual_seed(seed)
        criterion = nn.BCEWithLogitsLoss()
        ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
        optimiser_d = torch.optim.Adam(discriminator.parameters(), lr=RATE, betas=BETAS, fused=True)
        optimiser_g = torch.optim.Adam(generator.parameters(), lr=RATE, betas=BETAS, fused=True)
        losses: list[Any] = []
        for _ in range(steps):
            optimiser_d.zero_grad()
            real = data[torch.randint(len(data), (BATCH,), generator=random)]
            loss_real = criterion(discriminator(real), ones)
            loss_real.backward()
            fake = generator(torch.randn(BATCH, LATENT, generator=random))
            loss_fake = criterion(discriminator(fake.detach()), zeros)
            loss_fake.backward()
            optimiser_d.step()
            loss_d = loss_real.detach() + loss_fake.detach()

            optimiser_g.zero_grad()
            if freeze:
                discriminator.requires_grad_(False)
            loss_g = criterion(discriminator(fake), ones)
            loss_g.backward()
            if freeze:
                discriminator.requires_grad_(True)
            optimiser_g.step()
            losses.append((loss_d.item(), loss_g.item()) if read else (loss_d, loss_g.detach()))
        return [(float(first), float(second)) for first, second in losses]

    return train


def torchgan(generator: nn.Module, discriminator: nn.Module, data: Tensor, steps: int, seed: int) -> Losses:
    from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
    from torchgan.models import Discriminator, Generator
    from torchgan.trainer import Trainer

    class Makes(Generator):
        def __init__(self) -> None:
            super().__init__(LATENT)
            self.net = generator

        def forward(self, z: Tensor) -> Tensor:
            return self.net(z)

    class Judges(Discriminator):
        def __init__(self) -> None:
            super().__init__(SIDE)
            self.net = discriminator

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    class Batches:
        batch_size = BATCH

        def __iter__(self) -> Iterator[Tensor]:
            random = torch.Generator().manual_seed(seed)
            for _ in range(steps):
                yield data[torch.randint(len(data), (BATCH,), generator=random)]

    optimiser = {"name": torch.optim.Adam, "args": {"lr": RATE, "betas": BETAS, "fused": True}}
    models = {
        "discriminator": {"name": Judges, "optimizer": optimiser},
        "generator": {"name": Makes, "optimizer": optimiser},
    }
    rules = [MinimaxDiscriminatorLoss(), MinimaxGeneratorLoss()]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = Trainer(
            models,
            rules,
            device=torch.device("cpu"),
            epochs=1,
            sample_size=1,
            checkpoints=f"{folder}/gan",
            recon=folder,
        )
        trainer(Batches())
        logs = trainer.logger.get_loss_viz().logs
    return list(zip(*(logs[type(rule).__name__] for rule in rules), strict=True))


LIBRARIES: dict[str, Callable[..., Losses]] = {
    "posterity": posterity,
    "plain_torch": by_hand(read=True, freeze=False),
    "plain_torch_unread": by_hand(read=False, freeze=False),
    "plain_torch_frozen": by_hand(read=False, freeze=True),
    "torchgan": torchgan,
}


def status(name: str) -> float:
    """Memory of this process in MiB: "VmRSS" now, "VmHWM" at most since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Reset the peak memory, if the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    if len(sys.argv) == 1:
        print(__doc__)
        return
    library = sys.argv[1]
    threads, width, steps, seed = (int(word) for word in sys.argv[2:6])
    torch.set_num_threads(threads)
    if len(sys.argv) > 6:
        data = torch.from_numpy(np.load(sys.argv[6]))
    else:
        data = torch.rand(1000, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    generator, discriminator = networks(library, width, seed)
    calls: list[tuple[float, float]] = []

    def clock(net: nn.Module, arguments: Any) -> None:
        if net.training:  # the library checks the networks once in evaluation mode
            calls.append((time.perf_counter(), time.process_time()))

    discriminator.register_forward_pre_hook(clock)
    LIBRARIES[library](generator, discriminator, data[: 2 * BATCH], 1, seed)  # first-call overhead
    generator, discriminator = networks(library, width, seed)
    discriminator.register_forward_pre_hook(clock)
    calls.clear()
    forget_peak()
    before = status("VmRSS")
    losses = LIBRARIES[library](generator, discriminator, data, WARMUP + steps + 1, seed)
    extra = status("VmHWM") - before
    if len(calls) != CALLS * (WARMUP + steps + 1):
        raise RuntimeError(f"expected {CALLS} calls of the discriminator per step, got {len(calls)} in total")
    first, last = calls[CALLS * WARMUP], calls[CALLS * (WARMUP + steps)]
    wall, busy = (b - a for a, b in zip(first, last, strict=True))
    results = {
        "steps_per_s": steps / wall,
        "cpu_ms": 1e3 * busy / steps,
        "extra_mb": extra,
        "parameters": sum(p.numel() for net in (generator, discriminator) for p in net.parameters()),
        "losses": losses,
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
