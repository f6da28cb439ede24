"""`Game`: two networks and all that their training is made of; what a checkpoint holds."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.training.modes import evaluation_mode
from posterity.models.stacked import Stacked
from posterity.validation import check_integer, check_seed

FORMAT = 2
PER_STEP = ("discriminator_loss", "generator_loss")  # all other curves have a value for each reading


@dataclass
class Record:
    """The record of one game: ``history[name]``, with one value for each step (losses) or reading (monitors);
    ``alarms[name]``, the step in which an alarm rang; ``unjudged[name]``, why an alarm could not have rung in this run;
    and the best generator so far, by the reading that settings name."""

    history: dict[str, list[float]] = field(default_factory=dict)
    alarms: dict[str, int] = field(default_factory=dict)
    unjudged: dict[str, str] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float = float("inf")
    best_weights: dict[str, Tensor] | None = None

    def note(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.history.setdefault(name, []).append(float(value))

    def note_reading(self, values: Mapping[str, float]) -> None:
        """Append one value to each curve of readings: NaN if a curve has none, as after monitors have changed."""
        before = len(self.history.get("read_at", []))
        for name in dict.fromkeys([*self.history, *values]):
            if name not in PER_STEP:
                curve = self.history.setdefault(name, [])
                curve[:0] = [math.nan] * (before - len(curve))
                curve.append(float(values.get(name, math.nan)))

    def state(self) -> dict[str, Any]:
        curves = {name: torch.tensor(values, dtype=torch.double) for name, values in self.history.items()}
        kept = {name: value for name, value in vars(self).items() if name != "unjudged"}  # of the run, not the game
        return {**kept, "history": curves, "alarms": dict(self.alarms)}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Record":
        history = {name: values.tolist() for name, values in state["history"].items()}
        return cls(**{**state, "history": history, "alarms": dict(state["alarms"])})


@dataclass
class Game:
    """Both networks and all that their training is made of, after ``step`` steps.

    Of M games side by side both networks are `Stacked`, samples have (M,) in front, and ``records`` has one for each.
    ``condition`` (N, C) belongs to the rows of ``data`` (N, ...), or is None.
    """

    settings: Adversarial
    generator: nn.Module
    discriminator: nn.Module
    data: Tensor
    latent: int
    randoms: tuple[torch.Generator, ...]
    condition: Tensor | None = None
    many: bool = False
    seeds: tuple[int, ...] = ()
    seat: int | None = None  # which of many, once it is taken out of them
    step: int = 0
    records: tuple[Record, ...] = ()
    interrupted: bool = False
    gradient_norms: list[Tensor] = field(default_factory=list)  # of the last step before a reading
    reading: Mapping[str, float] = field(default_factory=dict)  # what monitors have found so far in this reading

    def __post_init__(self) -> None:
        wanted = self.settings.ema is not None
        self.averaged: nn.Module | None = copy.deepcopy(self.generator).requires_grad_(False) if wanted else None
        self.optimisers = tuple(
            torch.optim.Adam(net.parameters(), lr=rate, betas=self.settings.betas, fused=True)
            for net, rate in zip((self.generator, self.discriminator), self.settings.learning_rate, strict=True)
        )
        self.records = self.records or tuple(Record() for _ in self.randoms)

    # What it has seen

    @property
    def history(self) -> dict[str, list[float]]:
        """Of the first game: the only one, but for those side by side."""
        return self.records[0].history

    @property
    def alarms(self) -> dict[str, int]:
        """The step in which each alarm rang; alarms that did not ring are missing."""
        return self.records[0].alarms

    @property
    def unjudged(self) -> dict[str, str]:
        """Why an alarm could not have rung in this run. Alarms neither here nor in ``alarms`` found no failure."""
        return self.records[0].unjudged

    # Random numbers: each game has its own, so that it is the same beside others as alone

    def each(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """A draw of every game: stacked if there are many."""
        drawn = [draw(random) for random in self.randoms]
        return torch.stack(drawn) if self.many else drawn[0]

    def noise(self, n: int) -> Tensor:
        """Latent z (n, latent) from the run's own random numbers."""
        return self.each(lambda random: torch.randn(n, self.latent, generator=random)).to(self.data)

    def real(self) -> tuple[Tensor, Tensor | None]:
        """A batch of the data, and the conditions that belong to it."""
        size = self.settings.batch_size
        index = self.each(lambda random: torch.randint(len(self.data), (size,), generator=random))
        index = index.to(self.data.device)
        return self.data[index], None if self.condition is None else self.condition[index]

    # Samples

    @property
    def trained(self) -> nn.Module:
        """The generator to use: the averaged one, if there is."""
        return self.averaged or self.generator

    @torch.no_grad()
    def settle(self, batches: int = 20) -> None:
        """Give batch normalisation of the averaged generator the statistics of its own samples.

        Those it has are of the last generator, whose weights are others ("standing statistics": Brock, Donahue &
        Simonyan 2019, BigGAN, appendix B). The trainer does it before every reading, with random numbers of its own.
        """
        net = self.averaged
        layers = [] if net is None else [one for one in net.modules() if isinstance(one, _BatchNorm)]
        if net is None or not layers:
            return
        randoms = [torch.Generator().manual_seed(seat) for seat in range(len(self.randoms))]
        momenta = [layer.momentum for layer in layers]
        with evaluation_mode(net):
            for layer in layers:
                layer.train()
            for batch in range(batches):
                for layer in layers:
                    layer.momentum = 1 / (batch + 1)  # the mean of all batches
                draws = [torch.randn(self.settings.batch_size, self.latent, generator=one) for one in randoms]
                z = (torch.stack(draws) if self.many else draws[0]).to(self.data)
                if self.condition is None:
                    net(z)
                else:
                    condition = self.condition[: len(draws[0])]
                    net(z, condition.expand(len(draws), -1, -1) if self.many else condition)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum

    def samples(self, n: int, *, seed: int, condition: Tensor | None = None, batch: int = 1000) -> Tensor:
        """n samples (n, ...) of the generator (the averaged one, if any) in evaluation; not with the run's numbers.

        A conditional generator is told ``condition`` (n, C), or conditions of random rows of the data.
        """
        if condition is not None and self.condition is None:
            raise ValueError("expected no condition (the generator was trained without one), got a condition")
        if condition is None and self.condition is not None:
            check_integer("n", n, 1)
            check_seed(seed)
            random = torch.Generator().manual_seed(seed + 1)
            condition = self.condition[torch.randint(len(self.condition), (n,), generator=random)]
        return draw_samples(self.trained, n, self.latent, seed=seed, like=self.data, condition=condition, batch=batch)

    def best(self) -> nn.Module:
        """A copy of the generator at the reading with the smallest ``settings.best_by``, in evaluation.

        Raises ``ValueError`` where no monitor has read that.
        """
        weights = self.records[0].best_weights
        if weights is None:
            found = sorted(name for name in self.history if not name.endswith("_loss"))
            raise ValueError(
                f"expected a monitor that reads {self.settings.best_by!r}, to know the best generator, got {found}"
            )
        net = copy.deepcopy(self.trained)
        net.load_state_dict(weights)
        return net.requires_grad_(True).eval()

    # What is kept

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, and what was seen."""
        return {
            "format": FORMAT,
            "step": self.step,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "made_by": self.made_by,
            "gradient_norms": list(self.gradient_norms),
            "randoms": [random.get_state() for random in self.randoms],
            "global_random": torch.get_rng_state(),  # of dropout
            "global_random_cuda": torch.cuda.get_rng_state_all() if self.data.is_cuda else [],
            "records": [record.state() for record in self.records],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Back to a `state`."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(own)
        for random, own in zip(self.randoms, state["randoms"], strict=True):
            random.set_state(own)
        torch.set_rng_state(state["global_random"])
        if state["global_random_cuda"]:
            torch.cuda.set_rng_state_all(state["global_random_cuda"])
        self.gradient_norms = [norm.clone() for norm in state["gradient_norms"]]
        self.step, self.records = state["step"], tuple(Record.of(record) for record in state["records"])

    @property
    def made_by(self) -> str:
        """What the next step depends on beside the state: a run that goes on must have the same."""
        return f"{self.settings.recipe}, latent {self.latent}, seeds {list(self.seeds)}"

    def save(self, path: str | Path) -> None:
        """Write the `state`: to a temporary name first, so that an old file is whole until the new one is."""
        if not isinstance(path, str | Path) or not Path(path).parent.is_dir():
            raise ValueError(f"expected a path in a folder that is there, got {path!r}")
        write_tensors(self.state(), path)

    def resume(self, path: str | Path) -> None:
        """Back to what `save` wrote. Raises ``ValueError`` for another file, or that of other networks or games."""
        if not isinstance(path, str | Path):
            raise ValueError(f"expected the path of a checkpoint to resume, got {path!r}")
        state = read_tensors(path, "a checkpoint", device=self.data.device)
        if state.get("format") != FORMAT or "global_random" not in state:
            raise ValueError(f"expected a checkpoint of format {FORMAT} in {path}, got something else")
        for name in ("randoms", "global_random", "global_random_cuda"):  # those of generators stay where they are made
            state[name] = [one.cpu() for one in state[name]] if isinstance(state[name], list) else state[name].cpu()
        if len(state["randoms"]) != len(self.randoms) or (state["averaged"] is None) != (self.averaged is None):
            raise ValueError(
                f"expected a checkpoint of {len(self.randoms)} game(s) {'with' if self.averaged else 'without'} an "
                f"average in {path}, got {len(state['randoms'])} {'without' if state['averaged'] is None else 'with'}"
            )
        if state["made_by"] != self.made_by:
            raise ValueError(
                f"expected a checkpoint of these settings and seeds in {path}: {self.made_by}; got {state['made_by']}"
            )
        try:
            self.load(state)
        except RuntimeError as error:
            raise ValueError(f"expected a checkpoint of these networks in {path}, got others: {error}") from error

    # One of many

    def split(self) -> list["Game"]:
        """Copies of the games, each on its own, in the order of the seeds; they share the records."""
        if not self.many:
            return [self]
        averaged = [None] * len(self.randoms) if self.averaged is None else _parts(self.averaged)
        games = []
        for index, (generator, discriminator) in enumerate(
            zip(_parts(self.generator), _parts(self.discriminator), strict=True)
        ):
            game = Game(
                self.settings, generator, discriminator, self.data, self.latent, (self.randoms[index],),
                self.condition, seeds=self.seeds[index : index + 1], seat=index,
                step=self.step, records=(self.records[index],), interrupted=self.interrupted,
            )  # fmt: skip
            game.averaged = averaged[index]
            game.gradient_norms = [norm[index] for norm in self.gradient_norms]
            games.append(game)
        return games


@torch.no_grad()
def draw_samples(
    generator: nn.Module,
    n: int,
    latent: int,
    *,
    seed: int,
    like: Tensor | None = None,
    condition: Tensor | None = None,
    batch: int = 1000,
) -> Tensor:
    """n samples (n, ...) of a generator in evaluation, of the dtype and on the device of ``like``.

    Raises ``ValueError`` for fewer than one, or a condition of another number of rows.
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"expected at least 1 sample, got {n!r}")
    check_integer("batch", batch, 1)
    check_seed(seed)
    if condition is not None and (not isinstance(condition, Tensor) or condition.ndim != 2 or len(condition) != n):
        got = tuple(condition.shape) if isinstance(condition, Tensor) else type(condition).__name__
        raise ValueError(f"expected a condition with the {n} rows of the samples, got {got}")
    random = torch.Generator().manual_seed(seed)
    with evaluation_mode(generator):
        z = torch.randn(n, latent, generator=random)
        z = z if like is None else z.to(like)
        inputs = (z,) if condition is None else (z, condition.to(z))
        return torch.cat([generator(*part) for part in zip(*(value.split(batch) for value in inputs), strict=True)])


def _parts(net: nn.Module) -> list[nn.Module]:
    return net.split() if isinstance(net, Stacked) else [net]


def asked(name: str, net: nn.Module, values: Tensor, condition: Tensor | None = None) -> Tensor:
    """What a network makes of these; ``ValueError`` with its ``name`` and their shapes where it cannot."""
    inputs = (values,) if condition is None else (values, condition)
    try:
        made: Tensor = net(*inputs)
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = " and ".join(f"{tuple(value.shape)} of {value.dtype} on {value.device}" for value in inputs)
        raise ValueError(f"expected a {name} that can be called with {shapes}, got: {error}") from error
    return made


def check_network(name: str, net: Any) -> None:
    if not isinstance(net, nn.Module):
        raise ValueError(f"expected {name} as a torch.nn.Module, got {net!r}")


def check_data(data: Tensor, batch_size: int) -> None:
    """``ValueError`` unless data (N, ...) are finite, floating, and enough for a batch."""
    if not isinstance(data, Tensor):
        raise ValueError(f"expected data as a tensor, got {type(data).__name__}")
    if not data.is_floating_point():
        raise ValueError(f"expected floating data, got {data.dtype}: images of bytes are scaled to [-1, 1] first")
    if data.ndim < 2 or not data[:1].numel() or len(data) < batch_size or not _finite(data):
        raise ValueError(
            f"expected finite data of shape (N, ...) with at least the {batch_size} rows of a batch, got "
            f"{tuple(data.shape)}"
        )


def _finite(data: Tensor) -> bool:
    """Without a copy as large as the data."""
    return bool(data.numel()) and all(bool(torch.isfinite(value)) for value in data.aminmax())
