"""One training step: the discriminator's updates, then those of the generator against a fixed discriminator."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from posterity.inference.adversarial.batches import Batch
from posterity.inference.adversarial.losses import Loss
from posterity.inference.adversarial.regularisers import due_penalties
from posterity.inference.adversarial.training_run import TrainingRun

GENERATOR, DISCRIMINATOR = 0, 1  # positions in pairs of settings and in the optimisers


def training_step(run: TrainingRun, loss: Loss, *, record_norms: bool) -> dict[str, Tensor]:
    """Update both networks; returns the last loss of each, () or (M,)."""
    losses: dict[str, Tensor] = {}
    norms: dict[int, Tensor | None] = {}
    for update in reversed(range(run.settings.updates[DISCRIMINATOR])):
        batch = run.draw_batch()
        with torch.set_grad_enabled(update == 0):  # the generator learns from the last generated batch
            fake = _generate(run, batch)
        losses["discriminator_loss"], norms[DISCRIMINATOR] = _update_discriminator(run, loss, batch, fake, record_norms)
    for update in range(run.settings.updates[GENERATOR]):
        if update:
            batch = run.draw_batch()
            fake = _generate(run, batch)
        of_update, norms[GENERATOR] = _update_generator(run, loss, batch, fake, record_norms)
    run.gradient_norms = [norm for _, norm in sorted(norms.items()) if norm is not None]
    return losses | of_update


def _update_discriminator(
    run: TrainingRun, loss: Loss, batch: Batch, fake: Tensor, record_norms: bool
) -> tuple[Tensor, Tensor | None]:
    real_samples, fake_samples = _add_noise(run, batch.real), _add_noise(run, _replayed(run, fake.detach()))
    run.optimisers[DISCRIMINATOR].zero_grad(set_to_none=True)
    penalties = due_penalties(run.settings.regularisers, run.step)
    if loss.terms is not None and not penalties:
        # One term at a time: only one graph is in memory.
        value = torch.zeros((), dtype=real_samples.dtype, device=real_samples.device)
        for term, samples in zip(loss.terms, (real_samples, fake_samples), strict=True):
            with _autocast(run):
                part = term(_logits(run, samples, batch.condition))
            part.sum().backward()
            value = value + part.detach()
    else:
        with _autocast(run):
            value = loss.discriminator(
                _logits(run, real_samples, batch.condition), _logits(run, fake_samples, batch.condition)
            )
            for factor, regulariser in penalties:
                value = value + factor * regulariser(
                    lambda points: _mean_logits(run, points, batch.condition), real_samples, fake_samples,
                    lambda: _uniform(run),
                )  # fmt: skip
        value.sum().backward()  # the gradients of M runs do not mix
    return value.detach(), _optimise(run, DISCRIMINATOR, run.discriminator, record_norms)


def _update_generator(
    run: TrainingRun, loss: Loss, batch: Batch, fake: Tensor, record_norms: bool
) -> tuple[dict[str, Tensor], Tensor | None]:
    values: dict[str, Tensor] = {}
    with _frozen(run.discriminator):  # a gradient of its weights would be computed in vain
        with _autocast(run):
            fake_logits = _logits(run, _add_noise(run, fake), batch.condition)
            real_logits = _logits(run, _add_noise(run, batch.real), batch.condition) if loss.needs_real else fake_logits
            values["generator_loss"] = total = loss.generator(real_logits, fake_logits)
            for term in run.settings.terms:
                differences = term.function(run.generator, batch, fake)
                values[term.name] = differences.reshape(len(run.rngs), -1).mean(-1).reshape(total.shape)
                total = total + term.weight * values[term.name]
        run.optimisers[GENERATOR].zero_grad(set_to_none=True)
        total.sum().backward()
        norm = _optimise(run, GENERATOR, run.generator, record_norms)
    if run.ema_generator is not None and run.settings.ema is not None:
        _update_average(run.ema_generator, run.generator, run.settings.ema)
    return {name: value.detach() for name, value in values.items()}, norm


def _generate(run: TrainingRun, batch: Batch) -> Tensor:
    with _autocast(run):
        inputs = (batch.inputs,) if batch.condition is None else (batch.inputs, batch.condition)
        samples: Tensor = run.generator(*inputs)
    return samples.to(run.like.dtype)


def _replayed(run: TrainingRun, fake: Tensor) -> Tensor:
    """New samples, some of them exchanged for earlier ones."""
    if not run.settings.replay:
        return fake
    parts = fake if run.stacked else [fake]
    exchanged = [pool.exchange(part, random) for pool, part, random in zip(run.pools, parts, run.rngs, strict=True)]
    return torch.stack(exchanged) if run.stacked else exchanged[0]


def _logits(run: TrainingRun, samples: Tensor, condition: Tensor | None) -> Tensor:
    """All logits of the discriminator, (P,) or (M, P): of samples, packs of samples, or patches of samples."""
    flat: Tensor = _raw_logits(run, samples, condition).flatten(1 if run.stacked else 0)
    return flat


def _mean_logits(run: TrainingRun, samples: Tensor, condition: Tensor | None) -> Tensor:
    """As `_logits`, with the mean of the patches of each sample, (B,) or (M, B): a penalty has one slope per sample."""
    logits, lead = _raw_logits(run, samples, condition), 1 + run.stacked
    mean: Tensor = logits.reshape(*logits.shape[:lead], -1).mean(-1)
    return mean


def _raw_logits(run: TrainingRun, samples: Tensor, condition: Tensor | None) -> Tensor:
    logits: Tensor = run.discriminator(samples) if condition is None else run.discriminator(samples, condition)
    return logits.to(samples.dtype)


def _optimise(run: TrainingRun, which: int, net: nn.Module, record_norm: bool) -> Tensor | None:
    """One step of a network's optimiser; returns the norm of its gradient before clipping, if that is computed."""
    norm = _gradient_norm(net, run.stacked) if record_norm or run.settings.clip is not None else None
    if norm is not None and run.settings.clip is not None:
        factor = (run.settings.clip / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.grad *= factor.reshape(*factor.shape, *(1,) * (parameter.ndim - factor.ndim))
    run.optimisers[which].step()
    return norm


def _gradient_norm(net: nn.Module, stacked: bool) -> Tensor:
    """Norm of the gradient with respect to all weights, () or (M,)."""
    squares = [
        (parameter.grad.detach() ** 2).reshape(*parameter.shape[:stacked], -1).sum(-1)
        for parameter in net.parameters()
        if parameter.grad is not None
    ]
    return torch.stack(squares).sum(0).sqrt()


def _uniform(run: TrainingRun) -> Tensor:
    return run.draw_per_run(lambda random: torch.rand(run.settings.batch_size, generator=random))


def _add_noise(run: TrainingRun, samples: Tensor) -> Tensor:
    sd = run.settings.noise * max(0.0, 1 - 2 * run.step / run.settings.steps)
    if not sd:
        return samples
    shape = samples.shape[1:] if run.stacked else samples.shape
    return samples + sd * run.draw_per_run(lambda random: torch.randn(shape, generator=random)).to(samples)


@torch.no_grad()
def _update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    for averaged, last in zip(average.buffers(), net.buffers(), strict=True):
        averaged.copy_(last)


@contextmanager
def _frozen(net: nn.Module) -> Iterator[None]:
    """Inside, no weight of the network requires a gradient."""
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _autocast(run: TrainingRun) -> Any:
    return torch.autocast(run.like.device.type, torch.bfloat16, enabled=run.settings.precision == "bfloat16")
