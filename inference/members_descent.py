"""Optimisation steps of all members of an ensemble at once."""

import math
from typing import Any

import torch
from torch import Tensor

from posterity.inference.training.clipping import RelativeClip
from posterity.inference.training.holdout import Patience
from posterity.inference.training.optimiser import AdaptiveAdam
from posterity.inference.training.schedule import cosine
from posterity.progress import progress_bar

FAILURES = 100  # steps of one member to a log joint that is not finite; each is undone, and more end the fit


class MembersDescent:
    """Optimisation from the positions ``start`` (member, dim); ``fit`` is a `MembersFit`."""

    def __init__(self, fit: Any, start: Tensor) -> None:
        self.fit, self.q, self.last = fit, start, start
        settings = fit.settings
        noisy = fit.noise is not None or (settings.batch_size is not None and settings.batch_size < fit.rows)
        self.optimiser = AdaptiveAdam(fit.units.expand_as(start).clone(), noisy=noisy)
        self.value = start.new_full((len(start),), -math.inf)
        self.failures = torch.zeros(len(start), dtype=torch.long, device=start.device)
        self.last_failure = torch.zeros_like(self.failures)  # step after which the log joint was not finite
        self.clip = RelativeClip(settings.clip)

    def take(self, steps: int, restarts: int, history: dict[str, list[Tensor]]) -> bool:
        """Take ``steps``; returns whether early stopping on held-out rows ended them."""
        fit, settings = self.fit, self.fit.settings
        patience = Patience(settings.patience)
        with progress_bar(steps, "Ensemble", shown=settings.progress) as bar:
            for step in range(steps):
                self._step(cosine(step, steps, settings.final_rate, restarts), history["loss"])
                bar.update()
                if (step + 1) % settings.check_every and step + 1 < steps:
                    continue
                bar.set_postfix_str(f"loss {-float(self.value.mean()):.1f}", refresh=False)
                if fit.held_out is None:
                    continue
                score = fit.held_out_score(self.q)
                history.setdefault("held_out", []).append(score)
                history.setdefault("held_out_step", []).append(torch.full_like(score, step + 1))
                better = score > fit.score
                fit.best = torch.where(better[:, None], self.q, fit.best)
                fit.score = torch.where(better, score, fit.score)
                if patience.exhausted(improved=bool(better.any()), scored=bool(torch.isfinite(fit.score).any())):
                    return True
        return False

    def _step(self, share: float, losses: list[Tensor]) -> None:
        """One step of every member at this share of the learning rate; the loss before the step is appended."""
        value, grad = self.fit.gradient(self.q)
        bad = ~torch.isfinite(value)
        if bool(bad.any()):
            self._back_off(value, bad)
            value, grad = torch.where(bad, self.value, value), torch.where(bad[:, None], 0.0, grad)
        self.last, self.value = self.q, value
        losses.append(-value)
        grad = self.clip(torch.nan_to_num(grad) * self.fit.free)
        self.q = self.q + self.optimiser.step(-grad, self.fit.settings.learning_rate, share) * self.fit.free

    def _back_off(self, value: Tensor, bad: Tensor) -> None:
        """Undo the last step of members whose log joint is not finite, and make their next steps smaller."""
        self.failures += bad
        self.last_failure = torch.where(bad, self.optimiser.steps, self.last_failure)
        if self.optimiser.steps == 0 or bool((self.failures > FAILURES).any()):
            raise ValueError(
                f"expected a finite log joint, got {value[bad][0].item()} in step {self.optimiser.steps + 1}: try a "
                f"learning_rate below {self.fit.settings.learning_rate:g}"
            )
        self.q = torch.where(bad[:, None], self.last, self.q)
        self.optimiser.back_off(bad)
