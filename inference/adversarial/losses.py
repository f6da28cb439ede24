"""What the two networks minimise: a loss is a pair of functions of the discriminator's answers.

The answers are logits (..., B), one for each sample; every function returns the mean over the last dimension, so that
many games are played side by side in the leading ones. For the best discriminator the game is a distance between the
two distributions, which the table names.

| loss | source | distance at the best discriminator |
|---|---|---|
| `minimax` | Goodfellow et al. 2014, eq. 1 | Jensen-Shannon; the generator's gradient dies where it loses |
| `non_saturating` | Goodfellow et al. 2014, section 3 | the same fixed point, with a gradient where it loses |
| `least_squares` | Mao et al. 2017, eq. 9 (a = 0, b = c = 1) | Pearson chi-squared |
| `wasserstein` | Arjovsky et al. 2017 | earth mover's, if the discriminator is 1-Lipschitz (see `regularisers`) |
| `hinge` | Lim & Ye 2017; Miyato et al. 2018, eq. 16, 17 | total variation |
| `relativistic` | Jolicoeur-Martineau 2019, RpGAN | of pairs; no saturation, and no pull to a few samples |
| `relativistic_average` | Jolicoeur-Martineau 2019, RaGAN | of each sample against the other kind's mean |
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus

from posterity.validation import check_number

Answers = Callable[[Tensor, Tensor], Tensor]
Half = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """``discriminator(real, fake)`` and ``generator(real, fake)``, each a mean over samples.

    ``generator`` looks at ``real`` only where ``needs_real`` is set; elsewhere the trainer need not compute it.
    ``relative``: answers are compared with each other, and zero means nothing. ``halves``: where the discriminator's
    loss is a sum of one function of the real answers and one of the others, these two; the trainer then goes back
    through one half at a time, which takes less memory and time.
    """

    name: str
    discriminator: Answers
    generator: Answers
    needs_real: bool = False
    relative: bool = False
    halves: tuple[Half, Half] | None = None


def minimax(smoothing: float = 0.0) -> Loss:
    """E log D(x) + E log(1 - D(G(z))), which one maximises and the other minimises.

    ``smoothing`` s: real samples are answered right with 1 - s instead of 1 (Salimans et al. 2016, section 3.4,
    one-sided). Raises ``ValueError`` for s outside [0, 1/2).

    >>> import torch
    >>> round(float(minimax().discriminator(torch.zeros(4), torch.zeros(4))), 4)  # log 4: no idea which is which
    1.3863
    """
    return _in_halves("minimax", _cross_entropy(smoothing), lambda real, fake: -softplus(fake).mean(-1))


def non_saturating(smoothing: float = 0.0) -> Loss:
    """As `minimax`, but the generator maximises E log D(G(z))."""
    return _in_halves("non_saturating", _cross_entropy(smoothing), lambda real, fake: softplus(-fake).mean(-1))


def least_squares(smoothing: float = 0.0) -> Loss:
    """Squares of the distance to 1 - ``smoothing`` for real samples and 0 for others, halved."""
    target = 1 - _checked(smoothing)
    return _in_halves(
        "least_squares",
        (lambda real: 0.5 * ((real - target) ** 2).mean(-1), lambda fake: 0.5 * (fake**2).mean(-1)),
        lambda real, fake: 0.5 * ((fake - 1) ** 2).mean(-1),
    )


def wasserstein() -> Loss:
    """The difference of means: for a discriminator whose slope is bounded."""
    return _in_halves(
        "wasserstein",
        (lambda real: -real.mean(-1), lambda fake: fake.mean(-1)),
        lambda real, fake: -fake.mean(-1),
        relative=True,
    )


def hinge() -> Loss:
    """What is on the right side by more than one is left alone."""
    return _in_halves(
        "hinge",
        (lambda real: relu(1 - real).mean(-1), lambda fake: relu(1 + fake).mean(-1)),
        lambda real, fake: -fake.mean(-1),
    )


def relativistic() -> Loss:
    """Whether a real sample is more real than the generated one beside it: as many of each."""

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-(real - _beside(fake, real))).mean(-1)

    def generator(real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-(_beside(fake, real) - real)).mean(-1)

    return Loss("relativistic", discriminator, generator, needs_real=True, relative=True)


def relativistic_average() -> Loss:
    """Whether a sample is more real than the mean of the other kind."""

    def compared(higher: Tensor, lower: Tensor) -> Tensor:
        above = higher - lower.mean(-1, keepdim=True)
        below = lower - higher.mean(-1, keepdim=True)
        return softplus(-above).mean(-1) + softplus(below).mean(-1)

    return Loss(
        "relativistic_average", compared, lambda real, fake: compared(fake, real), needs_real=True, relative=True
    )


LOSSES: dict[str, Callable[[], Loss]] = {
    "minimax": minimax,
    "non_saturating": non_saturating,
    "least_squares": least_squares,
    "wasserstein": wasserstein,
    "hinge": hinge,
    "relativistic": relativistic,
    "relativistic_average": relativistic_average,
}


def make_loss(loss: str | Loss) -> Loss:
    """A loss by its name, or itself. Raises ``ValueError`` for another name."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"expected a loss from {sorted(LOSSES)}, got {loss!r}")
    return LOSSES[loss]()


def _in_halves(name: str, halves: tuple[Half, Half], generator: Answers, relative: bool = False) -> Loss:
    of_real, of_fake = halves
    return Loss(
        name, lambda real, fake: of_real(real) + of_fake(fake), generator, relative=relative, halves=halves
    )  # fmt: skip


def _cross_entropy(smoothing: float) -> tuple[Half, Half]:
    wrong = _checked(smoothing)

    def of_real(real: Tensor) -> Tensor:
        return ((1 - wrong) * softplus(-real) + wrong * softplus(real)).mean(-1)

    return of_real, lambda fake: softplus(fake).mean(-1)


def _checked(smoothing: float) -> float:
    check_number("smoothing", smoothing, "[0, 0.5)")
    return smoothing


def _beside(fake: Tensor, real: Tensor) -> Tensor:
    if fake.shape != real.shape:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"expected as many real answers as generated ones, got {shapes}")
    return fake
