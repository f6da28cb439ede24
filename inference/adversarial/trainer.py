"""Two networks, trained against each other: the loop.

Every step: the discriminator learns ``updates[1]`` times from fresh samples of both kinds, then the generator
``updates[0]`` times from a discriminator that stands still; the samples of the discriminator's last update serve the
generator's first. All randomness comes from generators whose state is part of a checkpoint, so that a run that was
stopped at any step goes on bit for bit (on a CPU). M games with other seeds are one computation (`play_many`).
"""

import copy
import math
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from posterity.inference.adversarial.alarms import Alarm, TrainingAlarm
from posterity.inference.adversarial.losses import make_loss
from posterity.inference.adversarial.monitors.protocol import Monitor
from posterity.inference.adversarial.readings import check_watchers, conclusions, values_of
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.steps import step
from posterity.inference.adversarial.training_run import Game, Record, asked, check_data, check_network
from posterity.inference.training.modes import evaluation_mode, training_mode
from posterity.models.stacked import Stacked
from posterity.random import seeded
from posterity.validation import check_integer, check_seed


def play(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor,
    *,
    latent: int,
    condition: Tensor | None = None,
    settings: Adversarial | None = None,
    seed: int = 0,
    monitors: Sequence[Monitor] = (),
    alarms: Sequence[Alarm] = (),
    resume: str | Path | None = None,
) -> Game:
    """Train both networks, which are changed in place, on samples ``data`` (N, ...).

    ``generator`` maps z (B, latent) to samples (B, ...), ``discriminator`` samples to logits. With ``condition``
    (N, C), one row for each row of the data, both take the rows (B, C) of the batch as a second argument. ``monitors``
    read the `Game` at intervals. Their readings are in its ``history`` beside the losses, and ``alarms`` judge them.
    ``resume`` continues from a checkpoint of a run with the same settings. An interrupt keeps the current state, or
    within a step the state of the last reading. Warnings, with or without a progress bar: a `TrainingAlarm` when an
    alarm rings; a `posterity.inference.convergence.ConvergenceWarning` at the end of a run in which an alarm could not
    have rung, with the reasons in ``unjudged`` of the game; a ``RuntimeWarning`` after an interrupt, with the step that
    is kept and how to continue.

    Raises ``ValueError`` for data that are not finite, not floating, outside the range of the generator, or with fewer
    rows than a batch; networks that do not fit the data; a checkpoint of other networks; or a loss that is not finite:
    the state of the last reading is then kept, and the message names the loss.
    """
    settings = Adversarial() if settings is None else settings
    game = _start(generator, discriminator, data, latent, condition, settings, (seed,), many=False)
    _run(game, monitors, alarms, resume, seed)
    return game


def play_many(
    generators: Sequence[nn.Module],
    discriminators: Sequence[nn.Module],
    data: Tensor,
    *,
    latent: int,
    seeds: Sequence[int],
    condition: Tensor | None = None,
    settings: Adversarial | None = None,
    monitors: Sequence[Monitor] = (),
    alarms: Sequence[Alarm] = (),
    resume: str | Path | None = None,
) -> list[Game]:
    """M games side by side as one batched computation: as `play` with each pair of networks and its seed.

    For small networks, where most of a step is the cost of calling operations. All games keep their own random numbers,
    so that each is what it would be alone, up to rounding; but for dropout, whose masks are others. Arguments and
    errors are those of `play`; the networks are of one kind (see `posterity.models.stacked.Stacked`) and as many as the
    seeds.
    """
    settings = Adversarial() if settings is None else settings
    for name, given in (("generators", generators), ("discriminators", discriminators), ("seeds", seeds)):
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise ValueError(f"expected {name} as a sequence, got {given!r}")
        if name != "seeds":
            for net in given:
                check_network(f"every one of {name}", net)
    if not len(generators) == len(discriminators) == len(seeds):
        raise ValueError(
            f"expected as many generators and discriminators as seeds, got {len(generators)}, {len(discriminators)} "
            f"and {len(seeds)}"
        )
    generator, discriminator = Stacked(generators), Stacked(discriminators)
    game = _start(generator, discriminator, data, latent, condition, settings, tuple(seeds), many=True)
    _run(game, monitors, alarms, resume, seeds[0])
    return game.split()


def _start(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor,
    latent: int,
    condition: Tensor | None,
    settings: Adversarial,
    seeds: tuple[int, ...],
    *,
    many: bool,
) -> Game:
    if not isinstance(settings, Adversarial):
        raise ValueError(f"expected settings as Adversarial(...), got {settings!r}")
    check_integer("latent", latent, 1)
    for seed in seeds:
        check_seed(seed)
    check_data(data, settings.batch_size)
    if condition is not None:
        if not isinstance(condition, Tensor) or condition.ndim != 2 or len(condition) != len(data):
            got = tuple(condition.shape) if isinstance(condition, Tensor) else type(condition).__name__
            raise ValueError(f"expected a condition of shape ({len(data)}, C), got {got}")
        if not bool(torch.isfinite(condition).all()):
            raise ValueError("expected a finite condition, got values that are not")
    for name, net in (("generator", generator), ("discriminator", discriminator)):
        check_network(name, net)
        if not any(parameter.requires_grad for parameter in net.parameters()):
            raise ValueError(f"expected a {name} with weights to train, got none that requires a gradient")
    randoms = tuple(torch.Generator().manual_seed(int(seed)) for seed in seeds)
    game = Game(settings, generator, discriminator, data, latent, randoms, condition, many, tuple(seeds))
    _check_fit(game)
    return game


def _run(
    game: Game, monitors: Sequence[Monitor], alarms: Sequence[Alarm], resume: str | Path | None, seed: int
) -> None:
    monitors, alarms = check_watchers(monitors, alarms, game.settings)
    with ExitStack() as stack:
        stack.enter_context(seeded(seed))  # dropout draws from the global state
        for net in (game.generator, game.discriminator):
            if not net.training:  # such as the best one of another game
                stack.enter_context(training_mode(net))
        if resume is not None:
            game.resume(resume)
        _loop(game, monitors, alarms)
    for text, category in conclusions(game, alarms):
        warnings.warn(text, category, stacklevel=3)


def _loop(game: Game, monitors: Sequence[Monitor], alarms: Sequence[Alarm]) -> None:
    settings, loss = game.settings, make_loss(game.settings.loss)
    good, written, whole = copy.deepcopy(game.state()), time.monotonic(), True
    bar = tqdm(total=settings.steps, initial=game.step, desc="GAN", disable=not settings.progress, leave=False)
    try:
        with bar:
            if due := _due(game):  # the run was stopped before this reading
                _read(game, monitors)
                good = copy.deepcopy(game.state())
            if due or game.step >= settings.steps:  # a finished run may be given new alarms
                _ask(game, alarms)
            while game.step < settings.steps and not _stopped(game):
                for optimiser, rate in zip(game.optimisers, settings.rates(game.step), strict=True):
                    for group in optimiser.param_groups:
                        group["lr"] = rate
                reading = (game.step + 1) % settings.monitor_every == 0 or game.step + 1 == settings.steps
                whole = False
                losses = step(game, loss, norms=reading)
                if (wrong := _not_finite(losses, game.many)) is not None:
                    kept = good["step"]
                    raise ValueError(f"expected a finite {wrong} in step {game.step + 1}: step {kept} is kept")
                if reading and (wrong := _lost(game)) is not None:
                    raise ValueError(
                        f"expected finite weights of the {wrong} in step {game.step + 1}, got others: step "
                        f"{good['step']} is kept"
                    )
                _note(game, losses)
                game.step += 1
                whole = True
                bar.update()
                if reading:
                    _read(game, monitors)
                    _ask(game, alarms)
                    good = copy.deepcopy(game.state())
                    shown = {name: f"{float(value.mean()):.3g}" for name, value in losses.items()}
                    bar.set_postfix(shown, refresh=False)
                if time.monotonic() - written > settings.checkpoint_seconds:
                    _write(game)
                    written = time.monotonic()
    except KeyboardInterrupt:
        game.interrupted = True
    finally:  # also where a monitor fails
        if not whole:  # one network may have learned and the other not: nothing could go on from there bit for bit
            game.load(good)
        _write(game)


def _not_finite(losses: dict[str, Tensor], many: bool) -> str | None:
    """Which loss is no number, and of which game."""
    for name, value in losses.items():
        wrong = ~torch.isfinite(value)
        if bool(wrong.any()):
            where = f" of game {int(wrong.nonzero()[0])}" if many else ""
            return f"{name}{where}, got {float(value[wrong].flatten()[0])}"
    return None


def _lost(game: Game) -> str | None:
    """The network with weights that are no numbers: a gradient can be none where the loss still is one."""
    for name, net in (("generator", game.generator), ("discriminator", game.discriminator)):
        if not all(bool(torch.isfinite(parameter).all()) for parameter in net.parameters()):
            return name
    return None


def _due(game: Game) -> bool:
    """Whether the step it stands at wants a reading that is not there."""
    ends = game.step % game.settings.monitor_every == 0 or game.step >= game.settings.steps
    started = bool(game.step and game.gradient_norms)
    return started and ends and not all(_has_read(game.step, record) for record in game.records)


def _has_read(step: int, record: Record) -> bool:
    return record.history.get("read_at", [])[-1:] == [step]


def _note(game: Game, losses: dict[str, Tensor]) -> None:
    for name, value in losses.items():
        values = value.tolist() if game.many else [value.item()]
        for record, own in zip(game.records, values, strict=True):
            record.note({name: own})


def _read(game: Game, monitors: Sequence[Monitor]) -> None:
    game.settle()
    for single in game.split():
        record = single.records[0]
        if _has_read(game.step, record):
            continue
        generator, discriminator = (float(norm) for norm in single.gradient_norms)
        found = {"read_at": float(game.step), "generator_gradient": generator, "discriminator_gradient": discriminator}
        found["gradient_ratio"] = generator / discriminator if discriminator else math.inf if generator else math.nan
        single.reading = found
        for monitor in monitors:
            found |= values_of(monitor, single)  # stored together below, so a failing monitor leaves no partial reading
        record.note_reading(found)
        if found.get(game.settings.best_by, math.inf) < record.best_value:
            record.best_step, record.best_value = game.step, found[game.settings.best_by]
            record.best_weights = copy.deepcopy(single.trained.state_dict())


def _ask(game: Game, alarms: Sequence[Alarm]) -> None:
    """Test all alarms that have not rung against the readings so far."""
    for seat, record in enumerate(game.records):
        for alarm in alarms:
            if record.history.get("read_at") and alarm.name not in record.alarms and alarm.rings(record.history):
                record.alarms[alarm.name] = game.step
                which = f" of game {seat}" if game.many else ""
                warnings.warn(f"{alarm.name}{which} in step {game.step}: {alarm.meaning}", TrainingAlarm, stacklevel=5)


def _stopped(game: Game) -> bool:
    return all(not record.alarms.keys().isdisjoint(game.settings.stop_on) for record in game.records)


def _write(game: Game) -> None:
    if game.settings.checkpoint is not None:
        game.save(game.settings.checkpoint)


def _check_fit(game: Game) -> None:
    """Both networks fit the data and each other, in evaluation, so that nothing of them changes."""
    size = game.settings.batch_size
    lead: tuple[int, ...] = (len(game.randoms),) if game.many else ()
    condition = None if game.condition is None else game.condition[:size].expand(*lead, -1, -1)
    with torch.no_grad(), evaluation_mode(game.generator), evaluation_mode(game.discriminator):
        z = torch.zeros(*lead, size, game.latent).to(game.data)
        some = asked("generator", game.generator, z, condition)
        if some.shape != (*lead, size, *game.data.shape[1:]):
            shape = ", ".join(map(str, game.data.shape[1:]))
            raise ValueError(
                f"expected a generator of samples of shape (N, {shape}), got {tuple(some.shape[len(lead) :])}"
            )
        answers = asked("discriminator", game.discriminator, some, condition)
        answers = answers[0] if game.many else answers
        if answers.ndim > 2 or (answers.ndim == 2 and answers.shape[1] != 1):
            raise ValueError(f"expected a discriminator with one logit a sample, got shape {tuple(answers.shape)}")
    layers = [layer for layer in game.generator.modules() if not list(layer.children())]
    ends = [layer for layer in layers if not isinstance(layer, nn.Unflatten | nn.Flatten | nn.Identity)]
    if ends and isinstance(ends[-1], nn.Tanh):
        low, high = (float(value) for value in game.data.aminmax())
        if low < -1 or high > 1:
            raise ValueError(f"expected data from -1 to 1, as the generator's tanh makes, got {low:g} to {high:g}")
