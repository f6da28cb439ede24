r"""Losses of the generator and the discriminator, as functions of the discriminator's logits.

Logits have shape (..., B), one for each sample. Each function returns the mean over the last dimension, so leading
dimensions hold runs side by side. For the best discriminator the generator minimises a distance between the two
distributions:

| loss | source | distance at the best discriminator |
|---|---|---|
| `minimax` | Goodfellow et al. 2014, eq. 1 | Jensen-Shannon; the generator's gradient vanishes where it loses |
| `non_saturating` | Goodfellow et al. 2014, section 3 | the same fixed point, with a gradient where it loses |
| `least_squares` | Mao et al. 2017, eq. 9 (a = 0, b = c = 1) | Pearson $\chi^2$ |
| `wasserstein` | Arjovsky et al. 2017 | earth mover's, for a 1-Lipschitz discriminator (see `regularisers`) |
| `hinge` | Lim & Ye 2017; Miyato et al. 2018, eq. 16, 17 | total variation |
| `relativistic` | Jolicoeur-Martineau 2019, RpGAN | compares pairs; does not saturate, resists mode collapse |
| `relativistic_average` | Jolicoeur-Martineau 2019, RaGAN | compares each sample with the mean of the other kind |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.functional import relu, softplus

from posterity.validation import check_choice, check_number

LossFunction = Callable[[Tensor, Tensor], Tensor]
LossTerm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss of the discriminator and one of the generator, functions of ``(real_logits, fake_logits)``.

    Attributes:
        name: Name of the loss; part of the recipe of a run.
        discriminator: Loss of the discriminator, a mean over samples.
        generator: Loss of the generator, a mean over samples.
        needs_real: Whether ``generator`` depends on the real logits; if not, the trainer does not compute them.
        relative: Whether only differences of logits count, so that a logit has no meaning by itself.
        threshold: Logit above which a sample counts as real, for losses that are not relative.
        terms: If the discriminator's loss is a function of the real logits plus a function of the fake ones, these two
            functions. The trainer then computes the gradient term by term, which takes less memory and time.
    """

    name: str
    discriminator: LossFunction
    generator: LossFunction
    needs_real: bool = False
    relative: bool = False
    terms: tuple[LossTerm, LossTerm] | None = None
    threshold: float = 0.0


def minimax(smoothing: float = 0.0) -> Loss:
    r"""$E \log D(x) + E \log(1 - D(G(z)))$, maximised by the discriminator and minimised by the generator.

    With ``smoothing`` s the target of real samples is 1 - s instead of 1 (one-sided label smoothing: Salimans et al.
    2016, section 3.4).

    Raises:
        ValueError: ``smoothing`` outside [0, 1/2).

    >>> import torch
    >>> round(float(minimax().discriminator(torch.zeros(4), torch.zeros(4))), 4)  # log 4: logits without information
    1.3863
    """
    return _sum_of_terms("minimax", _cross_entropy(smoothing), lambda real, fake: -softplus(fake).mean(-1))


def non_saturating(smoothing: float = 0.0) -> Loss:
    r"""The discriminator's loss of `minimax`; the generator maximises $E \log D(G(z))$."""
    return _sum_of_terms("non_saturating", _cross_entropy(smoothing), lambda real, fake: softplus(-fake).mean(-1))


def least_squares(smoothing: float = 0.0) -> Loss:
    """Half the squared distance of the logits from their targets: 1 - ``smoothing`` for real samples, 0 for others."""
    target = 1 - _check_smoothing(smoothing)
    loss = _sum_of_terms(
        "least_squares",
        (lambda real: 0.5 * ((real - target) ** 2).mean(-1), lambda fake: 0.5 * (fake**2).mean(-1)),
        lambda real, fake: 0.5 * ((fake - 1) ** 2).mean(-1),
    )
    return replace(loss, threshold=target / 2)  # halfway between the targets


def wasserstein() -> Loss:
    """The difference of the mean logits, for a discriminator of bounded slope."""
    return _sum_of_terms(
        "wasserstein",
        (lambda real: -real.mean(-1), lambda fake: fake.mean(-1)),
        lambda real, fake: -fake.mean(-1),
        relative=True,
    )


def hinge() -> Loss:
    """Hinge loss: samples with a margin of more than one contribute nothing to the discriminator's loss."""
    return _sum_of_terms(
        "hinge",
        (lambda real: relu(1 - real).mean(-1), lambda fake: relu(1 + fake).mean(-1)),
        lambda real, fake: -fake.mean(-1),
    )


def relativistic() -> Loss:
    """Cross entropy of "the real sample of this pair looks more real than the generated one", over pairs."""

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        _check_pairs(real, fake)
        return softplus(-(real - fake)).mean(-1)

    def generator(real: Tensor, fake: Tensor) -> Tensor:
        _check_pairs(real, fake)
        return softplus(-(fake - real)).mean(-1)

    return Loss("relativistic", discriminator, generator, needs_real=True, relative=True)


def relativistic_average() -> Loss:
    """Cross entropy of "this sample is more real than the mean of the other kind"."""

    def compare(higher: Tensor, lower: Tensor) -> Tensor:
        above = higher - lower.mean(-1, keepdim=True)
        below = lower - higher.mean(-1, keepdim=True)
        return softplus(-above).mean(-1) + softplus(below).mean(-1)

    return Loss("relativistic_average", compare, lambda real, fake: compare(fake, real), needs_real=True, relative=True)


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
    """The loss of this name; a `Loss` is returned as it is.

    Raises:
        ValueError: A name that is not in `LOSSES`.
    """
    return loss if isinstance(loss, Loss) else LOSSES[check_choice("loss", loss, list(LOSSES))]()


def _sum_of_terms(name: str, terms: tuple[LossTerm, LossTerm], generator: LossFunction, relative: bool = False) -> Loss:
    of_real, of_fake = terms
    return Loss(name, lambda real, fake: of_real(real) + of_fake(fake), generator, relative=relative, terms=terms)


def _cross_entropy(smoothing: float) -> tuple[LossTerm, LossTerm]:
    _check_smoothing(smoothing)

    def of_real(real: Tensor) -> Tensor:
        return ((1 - smoothing) * softplus(-real) + smoothing * softplus(real)).mean(-1)

    return of_real, lambda fake: softplus(fake).mean(-1)


def _check_smoothing(smoothing: float) -> float:
    return check_number("smoothing", smoothing, "[0, 0.5)")


def _check_pairs(real: Tensor, fake: Tensor) -> None:
    if fake.shape != real.shape:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"expected as many real logits as fake ones, got {shapes}")
