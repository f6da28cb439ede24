r"""Terms that are added to the generator's loss, for tasks with more than an adversarial loss.

A term is a function ``(generator, batch, fake) -> differences``; its loss is the mean of the differences, which may
have any shape (for M runs side by side, M is the first dimension). ``fake`` are the samples
``generator(batch.inputs)``, with their gradient. The function may call the generator again, or other networks:

| term | mean difference between | requirement |
|---|---|---|
| `paired` | each sample and its own real one | inputs and real samples that belong together |
| `feature_distance` | features of both (Ledig et al. 2017, eq. 5) | as above, and a network with fixed weights |
| `energy_loss` | two samples and the real one, less half of that between them | inputs with latent numbers |
| `cycle` | inputs, and their translation there and back (eq. 2) | a `posterity.models.translation.Translator` |
| `identity` | inputs that need no translation, and their translation (section 5.2) | as above |
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from posterity.inference.adversarial.batches import Batch
from posterity.inference.adversarial.record import LOSS_CURVES, RUN_READINGS
from posterity.validation import check_callable, check_choice, check_integer, check_number

DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {"absolute": torch.abs, "squared": torch.square}
SMALL = 1e-8  # added to squares: the root has no gradient at 0
RESERVED = (*LOSS_CURVES, *RUN_READINGS)
TermFunction = Callable[[nn.Module, Batch, Tensor], Tensor]


@dataclass(frozen=True)
class Term:
    """A loss of the generator with its weight; ``history[name]`` is its curve without the weight.

    Terms are equal if their names and weights are; functions are not compared.

    Raises:
        ValueError: The name is not an identifier, or that of a curve that every run has; the weight is not above 0; or
            the function cannot be called.
    """

    name: str
    weight: float
    function: TermFunction = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"expected name to be an identifier such as 'content', got {self.name!r}")
        if self.name in RESERVED:
            raise ValueError(f"expected name to differ from the names of the curves of every run, got {self.name!r}")
        check_number("weight", self.weight, "(0, inf)")
        check_callable("function", self.function, "(generator, batch, fake)")


def paired(weight: float = 1.0, *, distance: str = "absolute") -> Term:
    """Mean "absolute" or "squared" difference between each sample and its real sample.

    Raises:
        ValueError: Another distance, or a weight that is not above 0.
    """
    measure = _measure(distance)
    return Term(f"paired_{distance}", weight, lambda generator, batch, fake: measure(fake - batch.real))


def feature_distance(
    features: Callable[[Tensor], Tensor], weight: float = 1.0, *, name: str = "features", distance: str = "squared"
) -> Term:
    """Mean squared (or absolute) difference of the ``features`` of each image (C, H, W) and of its real image.

    ``features`` maps images (N, C, H, W) to a tensor (N, ...) and has fixed weights; ``name`` should say whose features
    they are: the term is called ``{name}_{distance}``.

    Raises:
        ValueError: ``features`` that cannot be called, another distance, or a weight that is not above 0.
    """
    check_callable("features", features, "images")
    measure = _measure(distance)

    def function(generator: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        with torch.no_grad():
            target = features(batch.real.reshape(-1, *batch.real.shape[-3:]))
        found = features(fake.reshape(-1, *fake.shape[-3:]))
        return measure(found - target).reshape(*fake.shape[:-3], -1)

    return Term(f"{name}_{distance}", weight, function)


def energy_loss(redraw: Callable[[Tensor], Tensor], weight: float = 1.0, *, window: int = 7) -> Term:
    r"""The energy score of two samples X and X' of an input, $E|X - y| - \frac12 E|X - X'|$ for its real sample y.

    It is strictly proper: smallest if samples have the distribution of real ones given the input (Gneiting & Raftery
    2007, J. Am. Stat. Assoc. 102:359, eq. 22). With an adversarial loss alone, the generator may give one answer for
    each input. Norms are taken in windows around each pixel of the first channel and over the whole image, and divided
    by the root of the number of pixels; the score is the mean of both.

    Args:
        redraw: function of the inputs that returns the same inputs with other latent numbers, such as
            `posterity.models.completion.other_latents`.
        weight: of the term.
        window: side of the windows in pixels, an odd number.

    Raises:
        ValueError: a ``redraw`` that cannot be called, a weight that is not above 0, or a window that is not odd.
    """
    check_callable("redraw", redraw, "inputs")
    check_integer("window", window, 1)
    if window % 2 == 0:
        raise ValueError(f"expected window to be odd, got {window}")

    def norm(difference: Tensor) -> Tensor:
        square = difference[..., 0, :, :].square()
        flat = square.reshape(-1, 1, *square.shape[-2:])
        local = avg_pool2d(flat, window, 1, window // 2, count_include_pad=False).add(SMALL).sqrt().mean((1, 2, 3))
        whole = flat.mean((1, 2, 3)).add(SMALL).sqrt()
        return ((local + whole) / 2).reshape(square.shape[:-2])

    def function(generator: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        if fake.ndim < 4 or batch.inputs.ndim < 4 or batch.inputs.shape[-4] < 2:
            raise ValueError(
                "expected samples (B, C, H, W) of at least two inputs for the term 'energy_loss', "
                f"got {tuple(fake.shape)}"
            )
        other = generator(redraw(batch.inputs))
        return (norm(fake - batch.real) + norm(other - batch.real) - norm(fake - other)) / 2

    return Term("energy_loss", weight, function)


def cycle(weight: float = 5.0) -> Term:
    """Mean absolute difference of the inputs and their translation to the other domain and back.

    For a generator of pairs (B, 2, ...) such as `posterity.models.translation.Translator`, which applied twice leads
    back to the domain of each input. With `posterity.inference.adversarial.losses.least_squares`, the defaults of
    `cycle`, 5, and `identity`, 2.5, equal the weights 10 and 5 of Zhu et al., who take sums over the two domains where
    this is a mean, and omit the factor of one half in the adversarial loss.
    """

    def function(net: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        _check_pairs("cycle", batch)
        returned: Tensor = net(fake)
        return (returned - batch.inputs).abs()

    return Term("cycle", weight, function)


def identity(weight: float = 2.5) -> Term:
    """Mean absolute change of inputs that already are in the domain a generator translates to; pairs as for `cycle`."""

    def function(net: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        _check_pairs("identity", batch)
        swapped: Tensor = net(batch.inputs.flip(-4))
        return (swapped - batch.inputs).abs()

    return Term("identity", weight, function)


def check_terms(terms: Any) -> None:
    """Raises ``ValueError`` unless ``terms`` is a tuple of `Term` with different names."""
    if not isinstance(terms, tuple) or not all(isinstance(one, Term) for one in terms):
        raise ValueError(f"expected terms to be a tuple of Term such as (cycle(),), got {terms!r}")
    names = [one.name for one in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"expected terms with different names, got {names}")


def _check_pairs(name: str, batch: Batch) -> None:
    shape = batch.inputs.shape
    if len(shape) not in (5, 6) or shape[-4] != 2:
        raise ValueError(f"expected pairs of shape (B, 2, C, H, W) for the term {name!r}, got inputs {tuple(shape)}")


def _measure(distance: str) -> Callable[[Tensor], Tensor]:
    return DISTANCES[check_choice("distance", distance, list(DISTANCES))]
