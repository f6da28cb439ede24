"""The training loop of two networks against each other.

In every step the discriminator is updated ``updates[1]`` times, each time with fresh samples of both kinds; then the
generator is updated ``updates[0]`` times against a fixed discriminator. The generated samples of the discriminator's
last update serve the generator's first. All random numbers come from generators whose state is part of a checkpoint,
so a resumed run is equal to an uninterrupted one bit for bit (on a CPU). M runs with different seeds are one
computation (`train_many`).
"""

import copy
import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from posterity.inference.adversarial.alarms import Alarm, TrainingAlarm
from posterity.inference.adversarial.batches import Batch, BatchSource, Drawn, Rows, is_source, stacked_batch
from posterity.inference.adversarial.checks import (
    call_network,
    check_condition,
    check_data,
    check_logit_shape,
    check_network,
    check_sample_shape,
)
from posterity.inference.adversarial.losses import Loss, make_loss
from posterity.inference.adversarial.monitors.protocol import Monitor
from posterity.inference.adversarial.readings import check_monitors_and_alarms, final_warnings, read_monitor
from posterity.inference.adversarial.settings import Adversarial
from posterity.inference.adversarial.steps import training_step
from posterity.inference.adversarial.terms import Term
from posterity.inference.adversarial.training_run import TrainingRun
from posterity.inference.training.modes import evaluation_mode, training_mode
from posterity.inference.training.recovery import Every, LastGood
from posterity.models.stacked import Stacked
from posterity.progress import progress_bar
from posterity.random import seeded
from posterity.validation import check_finite, check_integer, check_seed, shown


def train(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor | BatchSource,
    *,
    latent: int | None = None,
    condition: Tensor | None = None,
    settings: Adversarial | None = None,
    seed: int = 0,
    monitors: Sequence[Monitor] = (),
    alarms: Sequence[Alarm] = (),
    resume: str | Path | None = None,
) -> TrainingRun:
    """Train both networks in place, and return the `TrainingRun` with samples, history, alarms and best generator.

    An interrupt keeps the current state; within a step, it restores the state of the last reading. Three warnings do
    not depend on ``progress``: a `TrainingAlarm` when an alarm rings; a
    `posterity.inference.convergence.ConvergenceWarning` at the end of a run in which an alarm could not have rung, with
    the reasons in ``inconclusive`` of the run; and a ``RuntimeWarning`` after an interrupt, which names the step that
    was kept and the way to resume.

    Args:
        generator: Maps latent points (B, latent) to samples (B, ...).
        discriminator: Maps samples (B, ...) to logits (B,) or (B, 1), larger for real samples; or to logits of patches,
            (B, ..., P).
        data: Real samples (N, ...), floating; or a `posterity.inference.adversarial.batches.BatchSource`, which draws
            the inputs of the generator, too.
        latent: Dimension of the latent points, draws from the standard normal distribution; None with a source.
        condition: One row for each row of the data, (N, C). Both networks then take the rows (B, C) of the batch as a
            second argument.
        settings: Steps, loss, penalties, learning rates and more; `Adversarial` with its defaults if None.
        seed: Seed of batches, latent points and dropout; not of the initial weights.
        monitors: Objects whose readings become curves in ``history``.
        alarms: Rules that judge these curves.
        resume: Checkpoint of a run with the same settings and seed, from which training continues.

    Raises:
        ValueError: Data that are not finite, not floating, outside the range of the generator, or fewer than a batch;
            networks that do not fit the data; a checkpoint of another run; or a loss or weight that becomes NaN or
            infinite. In the last case the state of the last reading is restored.
    """
    settings = Adversarial() if settings is None else settings
    run = _new_run(generator, discriminator, data, latent, condition, settings, (seed,), stacked=False)
    _train(run, monitors, alarms, resume, seed)
    return run


def train_many(
    generators: Sequence[nn.Module],
    discriminators: Sequence[nn.Module],
    data: Tensor | BatchSource,
    *,
    latent: int | None = None,
    seeds: Sequence[int],
    condition: Tensor | None = None,
    settings: Adversarial | None = None,
    monitors: Sequence[Monitor] = (),
    alarms: Sequence[Alarm] = (),
    resume: str | Path | None = None,
) -> list[TrainingRun]:
    """Train M pairs of networks side by side as one batched computation; returns a `TrainingRun` for each.

    This saves time with small networks, for which most of a step is the overhead of calling operations. Each run has
    its own random numbers and so equals a run of `train` alone, up to rounding; only dropout draws other masks.

    Args:
        generators: M generators that differ in their weights alone (see `posterity.models.stacked.Stacked`).
        discriminators: M discriminators that differ in their weights alone.
        data: Real samples (N, ...), or a source; the same for all runs.
        latent: Dimension of the latent points; None with a source.
        seeds: One seed for each run.
        condition: One row for each row of the data, (N, C).
        settings: Settings of all runs.
        monitors: Monitors that read each run.
        alarms: Alarms that judge each run.
        resume: Checkpoint of M runs with the same settings and seeds.

    Raises:
        ValueError: Different numbers of generators, discriminators and seeds, networks that cannot be stacked, or any
            reason of `train`.
    """
    settings = Adversarial() if settings is None else settings
    for name, given in (("generators", generators), ("discriminators", discriminators), ("seeds", seeds)):
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise ValueError(f"expected {name} to be a sequence, got {shown(given)}")
        if name != "seeds":
            for net in given:
                check_network(f"every one of {name}", net)
    if not len(generators) == len(discriminators) == len(seeds):
        raise ValueError(
            f"expected as many generators and discriminators as seeds, got {len(generators)}, {len(discriminators)} "
            f"and {len(seeds)}"
        )
    generator, discriminator = Stacked(generators), Stacked(discriminators)
    run = _new_run(generator, discriminator, data, latent, condition, settings, tuple(seeds), stacked=True)
    _train(run, monitors, alarms, resume, seeds[0])
    return run.split()


def _new_run(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor | BatchSource,
    latent: int | None,
    condition: Tensor | None,
    settings: Adversarial,
    seeds: tuple[int, ...],
    *,
    stacked: bool,
) -> TrainingRun:
    """A run before its first step, with all arguments checked."""
    if not isinstance(settings, Adversarial):
        raise ValueError(f"expected settings to be Adversarial(...), got {shown(settings)}")
    for seed in seeds:
        check_seed(seed)
    source = _checked_source(data, latent, condition, settings)
    for name, net in (("generator", generator), ("discriminator", discriminator)):
        check_network(name, net)
        if not any(parameter.requires_grad for parameter in net.parameters()):
            raise ValueError(f"expected a {name} with weights to train, got none that requires a gradient")
    rngs = tuple(torch.Generator().manual_seed(int(seed)) for seed in seeds)
    example = source.draw(settings.batch_size, torch.Generator().manual_seed(0))
    check_finite("data", example.real)
    check_finite("data", example.inputs)
    run = TrainingRun(
        settings, generator, discriminator, source, example.real[:1].clone(), rngs, stacked, tuple(seeds)
    )  # fmt: skip
    _check_fit(run, example)
    return run


def _checked_source(
    data: Tensor | BatchSource, latent: int | None, condition: Tensor | None, settings: Adversarial
) -> Rows | Drawn:
    if is_source(data):
        for name, value in (("latent", latent), ("condition", condition)):
            if value is not None:
                raise ValueError(f"expected {name} to be None for data that draw the inputs, got {shown(value)}")
        return Drawn(cast(BatchSource, data))
    check_integer("latent", latent, 1)
    check_data(data, settings.batch_size)
    rows = cast(Tensor, data)
    check_condition(condition, len(rows))
    if condition is not None and not bool(torch.isfinite(condition).all()):
        raise ValueError("expected finite condition, got values that are NaN or infinite")
    if condition is not None and settings.replay:
        raise ValueError(f"expected replay to be 0 for a conditional run, got {settings.replay}")
    return Rows(rows, cast(int, latent), condition)


def _train(
    run: TrainingRun, monitors: Sequence[Monitor], alarms: Sequence[Alarm], resume: str | Path | None, seed: int
) -> None:
    monitors, alarms = check_monitors_and_alarms(monitors, alarms, run.settings)
    with ExitStack() as stack:
        stack.enter_context(seeded(seed))  # dropout draws from the global state
        for net in (run.generator, run.discriminator):
            if not net.training:  # for example the best generator of another run
                stack.enter_context(training_mode(net))
        if resume is not None:
            run.restore(resume)
        _loop(run, monitors, alarms)
    for text, category in final_warnings(run, alarms):
        warnings.warn(text, category, stacklevel=3)


def _loop(run: TrainingRun, monitors: Sequence[Monitor], alarms: Sequence[Alarm]) -> None:
    settings, loss = run.settings, make_loss(run.settings.loss)
    good, checkpoint = LastGood(run.state_dict, run.load_state_dict), Every(settings.checkpoint_seconds)
    bar = progress_bar(settings.steps, "GAN", shown=settings.progress, initial=run.step)
    try:
        with bar:
            if missing := _is_reading_missing(run):  # the run was stopped before this reading
                _take_reading(run, monitors)
                good.keep()
            if missing or run.step >= settings.steps:  # a finished run may be resumed with other alarms
                _check_alarms(run, alarms)
            while run.step < settings.steps and not _is_stopped(run):
                reading = (run.step + 1) % settings.monitor_every == 0 or run.step + 1 == settings.steps
                with good.changing():
                    losses = _step(run, loss, reading, good.state["step"])
                bar.update()
                if reading:
                    _take_reading(run, monitors)
                    _check_alarms(run, alarms)
                    good.keep()
                    means = {name: f"{float(value.mean()):.3g}" for name, value in losses.items()}
                    bar.set_postfix(means, refresh=False)
                if checkpoint.due():
                    _write_checkpoint(run)
    except KeyboardInterrupt:
        run.interrupted = True
    finally:  # also if a monitor fails
        if not good.whole:  # perhaps only one of the networks was updated
            good.restore()
        _write_checkpoint(run)


def _step(run: TrainingRun, loss: Loss, reading: bool, good: int) -> dict[str, Tensor]:
    """One training step and its losses, with their names; ``good`` is the step that an error falls back on."""
    for optimiser, rate in zip(run.optimisers, run.settings.rates(run.step), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate
    losses = training_step(run, loss, record_norms=reading)
    if (wrong := _infinite_loss(losses, run.stacked)) is not None:
        raise ValueError(f"expected a finite {wrong} in step {run.step + 1}: step {good} is kept")
    if reading and (wrong := _infinite_network(run)) is not None:
        raise ValueError(
            f"expected finite weights of the {wrong} in step {run.step + 1}, got NaN or infinity: step {good} is kept"
        )
    _append_losses(run, losses)
    run.step += 1
    return losses


def _infinite_loss(losses: dict[str, Tensor], stacked: bool) -> str | None:
    """The first loss that is NaN or infinite, with its run if there are several."""
    for name, value in losses.items():
        wrong = ~torch.isfinite(value)
        if bool(wrong.any()):
            where = f" of run {int(wrong.nonzero()[0])}" if stacked else ""
            return f"{name}{where}, got {float(value[wrong].flatten()[0])}"
    return None


def _infinite_network(run: TrainingRun) -> str | None:
    """The network with weights that are NaN or infinite: a gradient can be so while the loss is still finite."""
    for name, net in (("generator", run.generator), ("discriminator", run.discriminator)):
        if not all(bool(torch.isfinite(parameter).all()) for parameter in net.parameters()):
            return name
    return None


def _is_reading_missing(run: TrainingRun) -> bool:
    """Whether the current step should have a reading and has none."""
    due = run.step % run.settings.monitor_every == 0 or run.step >= run.settings.steps
    started = bool(run.step and run.gradient_norms)
    return started and due and not all(record.has_reading(run.step) for record in run.records)


def _append_losses(run: TrainingRun, losses: dict[str, Tensor]) -> None:
    for name, loss in losses.items():
        values = loss.tolist() if run.stacked else [loss.item()]
        for record, value in zip(run.records, values, strict=True):
            record.append_losses({name: value})


def _take_reading(run: TrainingRun, monitors: Sequence[Monitor]) -> None:
    run.update_batch_norm()
    for single in run.split():
        record = single.records[0]
        if record.has_reading(run.step):
            continue
        generator, discriminator = (float(norm) for norm in single.gradient_norms)
        values = {"read_at": float(run.step), "generator_gradient": generator, "discriminator_gradient": discriminator}
        values["gradient_ratio"] = generator / discriminator if discriminator else math.inf if generator else math.nan
        single.current_reading = values
        for monitor in monitors:
            values |= read_monitor(monitor, single)
        record.append_reading(values)  # all together, so that a failing monitor leaves no partial reading
        if values.get(run.settings.best_by, math.inf) < record.best_value:
            record.best_step, record.best_value = run.step, values[run.settings.best_by]
            record.best_weights = copy.deepcopy(single.sampling_generator.state_dict())


def _check_alarms(run: TrainingRun, alarms: Sequence[Alarm]) -> None:
    """Apply all alarms that have not rung to the readings so far."""
    for index, record in enumerate(run.records):
        for alarm in alarms:
            if record.history.get("read_at") and alarm.name not in record.alarms and alarm.rings(record.history):
                record.alarms[alarm.name] = run.step
                which = f" of run {index}" if run.stacked else ""
                warnings.warn(f"{alarm.name}{which} in step {run.step}: {alarm.meaning}", TrainingAlarm, stacklevel=5)


def _is_stopped(run: TrainingRun) -> bool:
    return all(not record.alarms.keys().isdisjoint(run.settings.stop_on) for record in run.records)


def _write_checkpoint(run: TrainingRun) -> None:
    if run.settings.checkpoint is not None:
        run.save(run.settings.checkpoint)


def _check_fit(run: TrainingRun, example: Batch) -> None:
    """Check that both networks fit the data and each other, in evaluation mode, which changes neither."""
    inputs, real, condition = example
    if run.stacked:
        inputs, real, condition = stacked_batch(lambda random: example, run.rngs)
    with torch.no_grad(), evaluation_mode(run.generator), evaluation_mode(run.discriminator):
        samples = call_network("generator", run.generator, inputs, condition)
        check_sample_shape(samples[0] if run.stacked else samples, run.settings.batch_size, example.real)
        logits = call_network("discriminator", run.discriminator, samples, condition)
        check_logit_shape(logits[0] if run.stacked else logits)
        for term in run.settings.terms:
            _check_term(term, run, Batch(inputs, real, condition), samples)
    layers = [layer for layer in run.generator.modules() if not list(layer.children())]
    layers = [layer for layer in layers if not isinstance(layer, nn.Unflatten | nn.Flatten | nn.Identity)]
    if layers and isinstance(layers[-1], nn.Tanh):
        samples = run.source.data if isinstance(run.source, Rows) else example.real
        low, high = (float(value) for value in samples.aminmax())
        if low < -1 or high > 1:
            raise ValueError(f"expected data from -1 to 1, the range of the generator's tanh, got {low:g} to {high:g}")


def _check_term(term: Term, run: TrainingRun, batch: Batch, samples: Tensor) -> None:
    try:
        differences = term.function(run.generator, batch, samples)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"expected a term {term.name!r} that can be called with these networks and samples of shape "
            f"{tuple(samples.shape)}, got: {error}"
        ) from error
    if not isinstance(differences, Tensor) or differences.shape[: run.stacked] != samples.shape[: run.stacked]:
        raise ValueError(f"expected a tensor of differences from the term {term.name!r}, got {shown(differences)}")
