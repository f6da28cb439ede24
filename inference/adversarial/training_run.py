"""`TrainingRun`: two networks and everything that their training depends on; the content of a checkpoint."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial.batches import Batch, Drawn, Rows, stacked_batch
from posterity.inference.adversarial.checks import check_condition
from posterity.inference.adversarial.record import LOSS_CURVES, TrainingRecord
from posterity.inference.adversarial.replay import ReplayPool
from posterity.inference.adversarial.sampling import generate
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.training.modes import evaluation_mode
from posterity.models.stacked import Stacked
from posterity.validation import check_integer, check_seed, shown

FORMAT = 3


@dataclass
class TrainingRun:
    """Both networks and everything that their training depends on, after ``step`` steps.

    For M runs side by side (``stacked``) both networks are `Stacked`, samples have (M,) in front, and ``records`` has
    one entry for each run. ``like`` is a tensor with the dtype and device of the real samples.
    """

    settings: Adversarial
    generator: nn.Module
    discriminator: nn.Module
    source: Rows | Drawn
    like: Tensor
    rngs: tuple[torch.Generator, ...]  # one for each run, so that a run is the same beside others as alone
    stacked: bool = False
    seeds: tuple[int, ...] = ()
    index: int | None = None  # position among the runs that were trained side by side
    step: int = 0
    records: tuple[TrainingRecord, ...] = ()
    interrupted: bool = False
    gradient_norms: list[Tensor] = field(default_factory=list)  # of generator and discriminator, before clipping
    current_reading: Mapping[str, float] = field(default_factory=dict)  # values read so far in this reading

    def __post_init__(self) -> None:
        average = self.settings.ema is not None
        self.ema_generator: nn.Module | None = copy.deepcopy(self.generator).requires_grad_(False) if average else None
        self.optimisers = tuple(
            torch.optim.Adam(net.parameters(), lr=rate, betas=self.settings.betas, fused=True)
            for net, rate in zip((self.generator, self.discriminator), self.settings.learning_rate, strict=True)
        )
        self.pools = tuple(ReplayPool(self.settings.replay) for _ in self.rngs)
        losses = (*LOSS_CURVES, *(term.name for term in self.settings.terms))
        self.records = self.records or tuple(TrainingRecord(losses=losses) for _ in self.rngs)

    # Records

    @property
    def history(self) -> dict[str, list[float]]:
        """Training curves by name: one value for each step (losses) or for each reading (monitors)."""
        return self.records[0].history

    @property
    def alarms(self) -> dict[str, int]:
        """The step in which each alarm rang; alarms that did not ring are missing."""
        return self.records[0].alarms

    @property
    def inconclusive(self) -> dict[str, str]:
        """For each alarm that could not have rung in this run, the reason.

        Only an alarm that is neither here nor in ``alarms`` has found no failure.
        """
        return self.records[0].inconclusive

    # Random numbers

    def draw_per_run(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """``draw`` with the random numbers of each run; stacked if there are several runs."""
        drawn = [draw(random) for random in self.rngs]
        return torch.stack(drawn) if self.stacked else drawn[0]

    def draw_batch(self) -> Batch:
        """A batch of inputs, real samples and conditions."""
        size = self.settings.batch_size
        if not self.stacked:
            return self.source.draw(size, self.rngs[0])
        return stacked_batch(lambda random: self.source.draw(size, random), self.rngs)

    # Samples

    @property
    def sampling_generator(self) -> nn.Module:
        """The generator that samples come from: the exponential moving average if there is one, else the last."""
        return self.ema_generator or self.generator

    @torch.no_grad()
    def update_batch_norm(self, batches: int = 20) -> None:
        """Compute the batch-normalisation statistics of the averaged generator from its own samples.

        Its buffers are those of the last generator, whose weights differ ("standing statistics": Brock, Donahue &
        Simonyan 2019, BigGAN, appendix B). The trainer calls this before every reading. The latent points have fixed
        seeds, so the random numbers of the run are left alone.
        """
        net = self.ema_generator
        layers = [] if net is None else [layer for layer in net.modules() if isinstance(layer, _BatchNorm)]
        if net is None or not layers:
            return
        rngs = [torch.Generator().manual_seed(index) for index in range(len(self.rngs))]
        momenta = [layer.momentum for layer in layers]
        with evaluation_mode(net):
            for layer in layers:
                layer.train()
            for batch in range(batches):
                for layer in layers:
                    layer.momentum = 1 / (batch + 1)  # the mean of all batches
                draws = [self.source.draw_inputs(self.settings.batch_size, random) for random in rngs]
                net(*(torch.stack(parts) if self.stacked else parts[0] for parts in zip(*draws, strict=True)))
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum

    def samples(
        self, n: int, *, seed: int, condition: Tensor | None = None, batch: int = 1000, averaged: bool = True
    ) -> Tensor:
        """n samples (n, ...) of the `sampling_generator` in evaluation mode.

        ``seed`` determines the inputs; the random numbers of the run are left alone. A conditional generator gets
        ``condition`` (n, C), by default the conditions of random rows of the data. ``averaged=False`` takes the last
        generator, also if there is an average.

        Raises:
            ValueError: n below 1, a condition of another shape, or a condition for an unconditional run.
        """
        check_integer("n", n, 1)
        check_seed(seed)
        of_data = self.condition
        if condition is not None and of_data is None:
            raise ValueError(f"expected condition to be None for an unconditional run, got {shown(condition)}")
        check_condition(condition, n)
        random = torch.Generator().manual_seed(seed)
        if isinstance(self.source, Drawn):
            inputs, condition = self.source.draw(n, random).inputs, None
        else:
            inputs = self.source.draw_latent(n, random)
            if condition is None and of_data is not None:
                other = torch.Generator().manual_seed(seed + 1)
                condition = of_data[torch.randint(len(of_data), (n,), generator=other)]
        return generate(self.sampling_generator if averaged else self.generator, inputs, condition, batch=batch)

    def draw_real(self, n: int, *, seed: int) -> tuple[Tensor, Tensor | None]:
        """n random real samples (n, ...) and their conditions; leaves the random numbers of the run alone."""
        return self.source.draw_real(n, torch.Generator().manual_seed(seed))

    @property
    def data(self) -> Tensor:
        """The real samples (N, ...) of a run on a tensor.

        Raises:
            ValueError: The real samples come from another source.
        """
        if isinstance(self.source, Rows):
            return self.source.data
        raise ValueError("expected a run on a tensor of real samples, got one on a source: see draw_real")

    @property
    def condition(self) -> Tensor | None:
        """The conditions (N, C) of the real samples, or None."""
        return self.source.condition if isinstance(self.source, Rows) else None

    def best_generator(self) -> nn.Module:
        """A copy of the `sampling_generator` at the smallest reading of ``settings.best_by``, in evaluation mode.

        Raises:
            ValueError: No monitor reads ``settings.best_by``.
        """
        weights = self.records[0].best_weights
        if weights is None:
            names = sorted(name for name in self.history if not name.endswith("_loss"))
            raise ValueError(
                f"expected a monitor that reads {self.settings.best_by!r}, to choose the best generator, got {names}"
            )
        net = copy.deepcopy(self.sampling_generator)
        net.load_state_dict(weights)
        return net.requires_grad_(True).eval()

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, and the records."""
        return {
            "format": FORMAT,
            "step": self.step,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "averaged": None if self.ema_generator is None else self.ema_generator.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "made_by": self.recipe,
            "pools": [pool.state_dict() for pool in self.pools],
            "gradient_norms": list(self.gradient_norms),
            "randoms": [random.get_state() for random in self.rngs],
            "global_random": torch.get_rng_state(),  # dropout draws from it
            "global_random_cuda": torch.cuda.get_rng_state_all() if self.like.is_cuda else [],
            "records": [record.state_dict() for record in self.records],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.ema_generator is not None:
            self.ema_generator.load_state_dict(state["averaged"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for random, saved in zip(self.rngs, state["randoms"], strict=True):
            random.set_state(saved)
        for pool, saved in zip(self.pools, state["pools"], strict=True):
            pool.load_state_dict(saved)
        torch.set_rng_state(state["global_random"])
        if state["global_random_cuda"]:
            torch.cuda.set_rng_state_all(state["global_random_cuda"])
        self.gradient_norms = [norm.clone() for norm in state["gradient_norms"]]
        self.step = state["step"]
        self.records = tuple(TrainingRecord.from_state_dict(record) for record in state["records"])

    @property
    def recipe(self) -> str:
        """Settings, inputs of the generator and seeds: a checkpoint is resumed only by a run of the same recipe."""
        return f"{self.settings.recipe}, {self.source.recipe}, seeds {list(self.seeds)}"

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, first under a temporary name, so that a crash leaves the earlier file whole.

        Raises:
            ValueError: The folder does not exist.
        """
        if not isinstance(path, str | Path) or not Path(path).parent.is_dir():
            raise ValueError(f"expected path to be in an existing folder, got {path!r}")
        write_tensors(self.state_dict(), path)

    def restore(self, path: str | Path) -> None:
        """Load the checkpoint that `save` wrote.

        Raises:
            ValueError: The file is not a checkpoint, or it belongs to other networks, settings, seeds or another
                number of runs.
        """
        if not isinstance(path, str | Path):
            raise ValueError(f"expected resume to be the path of a checkpoint, got {path!r}")
        state = read_tensors(path, "a checkpoint", device=self.like.device)
        if state.get("format") != FORMAT or "global_random" not in state:
            raise ValueError(f"expected a checkpoint of format {FORMAT} in {path}, got another format")
        for name in ("randoms", "global_random", "global_random_cuda"):  # states of random numbers stay on the CPU
            state[name] = [one.cpu() for one in state[name]] if isinstance(state[name], list) else state[name].cpu()
        if len(state["randoms"]) != len(self.rngs) or (state["averaged"] is None) != (self.ema_generator is None):
            raise ValueError(
                f"expected a checkpoint of {len(self.rngs)} run(s) {'with' if self.ema_generator else 'without'} an "
                f"averaged generator in {path}, got {len(state['randoms'])} "
                f"{'without' if state['averaged'] is None else 'with'}"
            )
        if state["made_by"] != self.recipe:
            raise ValueError(
                f"expected a checkpoint of these settings and seeds in {path}: {self.recipe}; got {state['made_by']}"
            )
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"expected a checkpoint of these networks in {path}, got others: {error}") from error

    # Runs side by side

    def split(self) -> list["TrainingRun"]:
        """Copies of the runs, one by one, in the order of the seeds; they share the records."""
        if not self.stacked:
            return [self]
        averages = [None] * len(self.rngs) if self.ema_generator is None else _split(self.ema_generator)
        runs = []
        for index, (generator, discriminator) in enumerate(
            zip(_split(self.generator), _split(self.discriminator), strict=True)
        ):
            run = TrainingRun(
                self.settings, generator, discriminator, self.source, self.like, (self.rngs[index],),
                seeds=self.seeds[index : index + 1], index=index,
                step=self.step, records=(self.records[index],), interrupted=self.interrupted,
            )  # fmt: skip
            run.ema_generator = averages[index]
            run.pools = self.pools[index : index + 1]
            run.gradient_norms = [norm[index] for norm in self.gradient_norms]
            runs.append(run)
        return runs


def _split(net: nn.Module) -> list[nn.Module]:
    return net.split() if isinstance(net, Stacked) else [net]
