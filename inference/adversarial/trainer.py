"""Two networks, trained against each other: the loop, and what it remembers.

Every step: the discriminator learns ``updates[1]`` times from fresh samples of both kinds, then the generator
``updates[0]`` times from a discriminator that stands still. All randomness comes from one generator whose state is part
of a checkpoint, so that a run that was stopped at any step goes on bit for bit (on a CPU).
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from posterity.inference.adversarial.losses import Loss, make_loss
from posterity.inference.adversarial.regularisers import Regulariser
from posterity.inference.check import number
from posterity.inference.schedule import cosine

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "linear": lambda step, steps: 1 - step / steps,
    "cosine": lambda step, steps: cosine(step, steps, 0.0),
}
Monitor = Callable[["Game"], Mapping[str, float]]


@dataclass(frozen=True)
class Adversarial:
    """How two networks are trained against each other. Pairs are (generator, discriminator).

    - ``loss``: a name of `posterity.inference.adversarial.LOSSES`, or a `Loss`; ``regularisers`` add to the
      discriminator's.
    - ``learning_rate``, ``betas``: of Adam (Kingma & Ba 2015); two rates are two time scales (Heusel et al. 2017).
      ``schedule``: "constant", "linear" or "cosine", to zero, of each.
    - ``updates``: how often each learns in a step.
    - ``noise``: sd of normal noise on what the discriminator sees, real or not, falling linearly to zero over the first
      half (Sønderby et al. 2017).
    - ``ema``: the generator's weights are averaged with this memory (Yazıcı et al. 2019), or None.
    - ``clip``: gradients of each network are scaled down to this norm, or None.
    - ``monitor_every``: steps between two readings of the monitors, beside the last one.
    - ``checkpoint``: a file that is written every ``checkpoint_seconds``, at an interrupt and at the end.

    Raises ``ValueError`` for a setting that cannot be.
    """

    steps: int = 10_000
    batch_size: int = 64
    loss: str | Loss = "non_saturating"
    regularisers: tuple[Regulariser, ...] = ()
    learning_rate: tuple[float, float] = (2e-4, 2e-4)
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: tuple[str, str] = ("constant", "constant")
    updates: tuple[int, int] = (1, 1)
    noise: float = 0.0
    ema: float | None = None
    clip: float | None = None
    monitor_every: int = 500
    checkpoint: str | Path | None = None
    checkpoint_seconds: float = 60.0
    progress: bool = True

    def __post_init__(self) -> None:
        make_loss(self.loss)
        for name in ("steps", "batch_size", "monitor_every"):
            number(name, getattr(self, name), low=1, integer=True)
        number("noise", self.noise, low=0, edges=True)
        number("checkpoint_seconds", self.checkpoint_seconds, low=0, edges=True)
        if self.ema is not None:
            number("ema", self.ema, low=0, high=1)
        if self.clip is not None:
            number("clip", self.clip, low=0)
        for name in ("learning_rate", "betas", "schedule", "updates"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"expected a pair of {name}, of the generator and the discriminator, got {pair!r}")
        for rate, count, beta in zip(self.learning_rate, self.updates, self.betas, strict=True):
            number("every learning_rate", rate, low=0)
            number("every number of updates", count, low=1, integer=True)
            if not 0 <= beta < 1:
                raise ValueError(f"expected betas in [0, 1), got {self.betas}")
        for schedule in self.schedule:
            if schedule not in SCHEDULES:
                raise ValueError(f"expected schedules from {sorted(SCHEDULES)}, got {schedule!r}")


@dataclass
class Game:
    """Both networks and all that their training is made of, after ``step`` steps."""

    settings: Adversarial
    generator: nn.Module
    discriminator: nn.Module
    data: Tensor
    latent: int
    random: torch.Generator
    optimisers: tuple[torch.optim.Adam, torch.optim.Adam]
    averaged: nn.Module | None
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False

    def noise(self, n: int) -> Tensor:
        """Latent z (n, latent) from the run's own random numbers."""
        z = torch.randn(n, self.latent, generator=self.random, device=self.random.device)
        return z.to(self.data.device, self.data.dtype)

    @torch.no_grad()
    def samples(self, n: int, *, seed: int, batch: int = 1000) -> Tensor:
        """n samples of the generator (the averaged one, if any) in evaluation; not with the run's numbers."""
        if n < 1:
            raise ValueError(f"expected at least 1 sample, got {n}")
        net = self.averaged or self.generator
        random = torch.Generator().manual_seed(seed)
        with _evaluating(net):
            z = torch.randn(n, self.latent, generator=random).to(self.data)
            return torch.cat([net(part) for part in z.split(batch)])

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "step": self.step,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "random": self.random.get_state(),
            "global_random": torch.get_rng_state(),  # of dropout
            "history": self.history,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Back to a `state`."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(own)
        self.random.set_state(state["random"])
        torch.set_rng_state(state["global_random"])
        self.step, self.history = state["step"], {name: list(values) for name, values in state["history"].items()}

    def save(self, path: str | Path) -> None:
        """Write the `state`: to a temporary name first, so that an old file is whole until the new one is."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        torch.save(self.state(), part)
        part.replace(path)


def play(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor,
    *,
    latent: int,
    settings: Adversarial | None = None,
    seed: int = 0,
    monitors: tuple[Monitor, ...] = (),
    resume: str | Path | None = None,
) -> Game:
    """Train both networks, which are changed in place, on samples ``data`` (N, ...).

    ``generator`` maps z (B, latent) to samples (B, ...), ``discriminator`` samples to logits. ``monitors`` look at the
    `Game` now and then; what they return is in its ``history`` beside the losses. ``resume`` goes on from a checkpoint
    of a run with the same settings. An interrupt keeps what there is.

    Raises ``ValueError`` for data with values that are not finite or fewer rows than a batch, networks that do not fit
    it, a checkpoint of other networks, or a loss that is not finite: then the state of the last reading is kept, and
    the message says whose loss it was.
    """
    settings = settings or Adversarial()
    if data.ndim < 2 or len(data) < settings.batch_size or not bool(torch.isfinite(data).all()):
        raise ValueError(
            f"expected finite data of shape (N, ...) with at least the {settings.batch_size} rows of a batch, got "
            f"{tuple(data.shape)}"
        )
    number("latent", latent, low=1, integer=True)
    game = Game(
        settings,
        generator,
        discriminator,
        data,
        latent,
        torch.Generator().manual_seed(seed),
        tuple(
            torch.optim.Adam(net.parameters(), lr=rate, betas=settings.betas)
            for net, rate in zip((generator, discriminator), settings.learning_rate, strict=True)
        ),  # type: ignore[arg-type]
        copy.deepcopy(generator).requires_grad_(False) if settings.ema is not None else None,
    )
    _check_shapes(game)
    with _own_random_numbers(seed):
        if resume is not None:
            game.load(torch.load(resume, weights_only=True))
        _loop(game, monitors)
    return game


def _loop(game: Game, monitors: tuple[Monitor, ...]) -> None:
    settings, loss = game.settings, make_loss(game.settings.loss)
    good, written = copy.deepcopy(game.state()), time.monotonic()
    bar = tqdm(total=settings.steps, initial=game.step, desc="GAN", disable=not settings.progress, leave=False)
    try:
        with bar:
            while game.step < settings.steps:
                for net, optimiser in enumerate(game.optimisers):
                    factor = SCHEDULES[settings.schedule[net]](game.step, settings.steps)
                    for group in optimiser.param_groups:
                        group["lr"] = settings.learning_rate[net] * factor
                losses = {"discriminator_loss": 0.0, "generator_loss": 0.0}
                for _ in range(settings.updates[1]):
                    losses["discriminator_loss"] = _discriminator_step(game, loss)
                for _ in range(settings.updates[0]):
                    losses["generator_loss"] = _generator_step(game, loss)
                for name, value in losses.items():
                    if value != value or abs(value) == float("inf"):
                        at = game.step + 1
                        game.load(good)
                        _write(game)
                        raise ValueError(
                            f"expected a finite {name}, got {value} in step {at}: step {game.step} is kept"
                        )
                    game.history.setdefault(name, []).append(value)
                game.step += 1
                bar.update()
                if game.step % settings.monitor_every == 0 or game.step == settings.steps:
                    _read(game, monitors)
                    good = copy.deepcopy(game.state())
                    bar.set_postfix({name: f"{value:.3g}" for name, value in losses.items()}, refresh=False)
                if time.monotonic() - written > settings.checkpoint_seconds:
                    _write(game)
                    written = time.monotonic()
    except KeyboardInterrupt:
        game.interrupted = True
    _write(game)


def _discriminator_step(game: Game, loss: Loss) -> float:
    real, fake = _real(game), game.generator(game.noise(game.settings.batch_size)).detach()
    real, fake = _noisy(game, real), _noisy(game, fake)
    value = loss.discriminator(game.discriminator(real), game.discriminator(fake))
    for regulariser in game.settings.regularisers:
        value = value + regulariser(game.discriminator, real, fake, game.random)
    _descend(game, 1, game.discriminator, value)
    return float(value.detach())


def _generator_step(game: Game, loss: Loss) -> float:
    # The discriminator stands still: its weights get no gradient, so that nothing of this step reaches them.
    with _frozen(game.discriminator):
        fake = _noisy(game, game.generator(game.noise(game.settings.batch_size)))
        answers = game.discriminator(fake)
        real = game.discriminator(_noisy(game, _real(game))) if loss.needs_real else answers
        value = loss.generator(real, answers)
        _descend(game, 0, game.generator, value)
    if game.averaged is not None and game.settings.ema is not None:
        _follow(game.averaged, game.generator, game.settings.ema)
    return float(value.detach())


def _descend(game: Game, which: int, net: nn.Module, value: Tensor) -> None:
    optimiser = game.optimisers[which]
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    if game.settings.clip is not None:
        nn.utils.clip_grad_norm_(net.parameters(), game.settings.clip)
    optimiser.step()


def _real(game: Game) -> Tensor:
    index = torch.randint(len(game.data), (game.settings.batch_size,), generator=game.random)
    return game.data[index.to(game.data.device)]


def _noisy(game: Game, samples: Tensor) -> Tensor:
    sd = game.settings.noise * max(0.0, 1 - 2 * game.step / game.settings.steps)
    if not sd:
        return samples
    return samples + sd * torch.randn(samples.shape, generator=game.random).to(samples)


@torch.no_grad()
def _follow(averaged: nn.Module, net: nn.Module, memory: float) -> None:
    for own, new in zip(averaged.parameters(), net.parameters(), strict=True):
        own.lerp_(new, 1 - memory)
    for kept, last in zip(averaged.buffers(), net.buffers(), strict=True):
        kept.copy_(last)


def _read(game: Game, monitors: tuple[Monitor, ...]) -> None:
    found = {"read_at": float(game.step)}
    for monitor in monitors:
        found |= monitor(game)
    for name, value in found.items():
        game.history.setdefault(name, []).append(float(value))


def _write(game: Game) -> None:
    if game.settings.checkpoint is not None:
        game.save(game.settings.checkpoint)


def _check_shapes(game: Game) -> None:
    with torch.no_grad(), _evaluating(game.generator), _evaluating(game.discriminator):
        some = game.generator(torch.zeros(game.settings.batch_size, game.latent).to(game.data))
        if some.shape[1:] != game.data.shape[1:]:
            raise ValueError(
                f"expected a generator of samples of shape (N, {', '.join(map(str, game.data.shape[1:]))}), got "
                f"{tuple(some.shape)}"
            )
        answers = game.discriminator(some)
        if answers.ndim > 2 or (answers.ndim == 2 and answers.shape[1] != 1):
            raise ValueError(f"expected a discriminator with one logit a sample, got shape {tuple(answers.shape)}")


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    before = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(before)


@contextmanager
def _frozen(net: nn.Module) -> Iterator[None]:
    wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Dropout draws from torch's global state: from the run's seed inside, and the caller's as it was after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
