"""One step of a game: how the discriminator learns, and how the generator does while the other stands still."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from posterity.inference.adversarial.losses import Loss
from posterity.inference.adversarial.regularisers import due
from posterity.inference.adversarial.training_run import Game

Batch = tuple[Tensor, Tensor | None]  # samples and their conditions


def step(game: Game, loss: Loss, *, norms: bool) -> dict[str, Tensor]:
    """Both networks learn; the last loss of each, () or (M,)."""
    losses: dict[str, Tensor] = {}
    gradients: dict[int, Tensor | None] = {}
    for update in reversed(range(game.settings.updates[1])):
        real = game.real()
        with torch.set_grad_enabled(update == 0):  # the last ones serve the generator too
            fake = _made(game, real[1])
        losses["discriminator_loss"], gradients[1] = _discriminator_update(game, loss, real, fake, norms)
    for update in range(game.settings.updates[0]):
        if update:
            real = game.real()
            fake = _made(game, real[1])
        losses["generator_loss"], gradients[0] = _generator_update(game, loss, real, fake, norms)
    game.gradient_norms = [norm for _, norm in sorted(gradients.items()) if norm is not None]
    return losses


def _discriminator_update(
    game: Game, loss: Loss, real: Batch, fake: Batch, norms: bool
) -> tuple[Tensor, Tensor | None]:
    samples, others = _noisy(game, real[0]), _noisy(game, fake[0].detach())
    game.optimisers[1].zero_grad(set_to_none=True)
    penalties = due(game.settings.regularisers, game.step)
    if loss.halves is not None and not penalties:
        # One half at a time: only one graph is held.
        value = torch.zeros((), dtype=samples.dtype, device=samples.device)
        for half, seen, condition in zip(loss.halves, (samples, others), (real[1], fake[1]), strict=True):
            with _precision(game):
                part = half(_judge(game, seen, condition))
            part.sum().backward()
            value = value + part.detach()
    else:
        with _precision(game):
            value = loss.discriminator(_judge(game, samples, real[1]), _judge(game, others, fake[1]))
            for times, regulariser in penalties:
                value = value + times * regulariser(
                    lambda points: _judge(game, points, real[1]), samples, others, lambda: _uniform(game)
                )
        value.sum().backward()  # of M games: the gradient of each is its own
    return value.detach(), _descend(game, 1, game.discriminator, norms)


def _generator_update(game: Game, loss: Loss, real: Batch, fake: Batch, norms: bool) -> tuple[Tensor, Tensor | None]:
    # The discriminator stands still: its weights get no gradient, so that nothing of this step reaches them.
    with _frozen(game.discriminator):
        with _precision(game):
            answers = _judge(game, _noisy(game, fake[0]), fake[1])
            wanted = _judge(game, _noisy(game, real[0]), real[1]) if loss.needs_real else answers
            value = loss.generator(wanted, answers)
        game.optimisers[0].zero_grad(set_to_none=True)
        value.sum().backward()
        norm = _descend(game, 0, game.generator, norms)
    if game.averaged is not None and game.settings.ema is not None:
        _follow(game.averaged, game.generator, game.settings.ema)
    return value.detach(), norm


def _made(game: Game, condition: Tensor | None) -> Batch:
    z = game.noise(game.settings.batch_size)
    with _precision(game):
        samples = game.generator(z) if condition is None else game.generator(z, condition)
    return samples.to(game.data.dtype), condition


def _judge(game: Game, samples: Tensor, condition: Tensor | None) -> Tensor:
    """Logits (B,), or (M, B)."""
    logits = game.discriminator(samples) if condition is None else game.discriminator(samples, condition)
    flat: Tensor = logits.to(samples.dtype).flatten(1 if game.many else 0)
    return flat


def _descend(game: Game, which: int, net: nn.Module, norms: bool) -> Tensor | None:
    """A step of one network; the norm of its gradient as it was before it was clipped, if wanted."""
    norm = _norm(net, game.many) if norms or game.settings.clip is not None else None
    if norm is not None and game.settings.clip is not None:
        factor = (game.settings.clip / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.grad *= factor.reshape(*factor.shape, *(1,) * (parameter.ndim - factor.ndim))
    game.optimisers[which].step()
    return norm


def _norm(net: nn.Module, many: bool) -> Tensor:
    """Of the gradient of all weights: () or (M,)."""
    squares = [
        (parameter.grad.detach() ** 2).reshape(*parameter.shape[:many], -1).sum(-1)
        for parameter in net.parameters()
        if parameter.grad is not None
    ]
    return torch.stack(squares).sum(0).sqrt()


def _uniform(game: Game) -> Tensor:
    return game.each(lambda random: torch.rand(game.settings.batch_size, generator=random))


def _noisy(game: Game, samples: Tensor) -> Tensor:
    sd = game.settings.noise * max(0.0, 1 - 2 * game.step / game.settings.steps)
    if not sd:
        return samples
    shape = samples.shape[1:] if game.many else samples.shape
    return samples + sd * game.each(lambda random: torch.randn(shape, generator=random)).to(samples)


@torch.no_grad()
def _follow(averaged: nn.Module, net: nn.Module, memory: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(net.parameters()), 1 - memory)
    for kept, last in zip(averaged.buffers(), net.buffers(), strict=True):
        kept.copy_(last)


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


def _precision(game: Game) -> Any:
    return torch.autocast(game.data.device.type, torch.bfloat16, enabled=game.settings.precision == "bfloat16")
