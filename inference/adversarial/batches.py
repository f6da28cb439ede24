"""Sources of batches: what the generator is given, and the real samples that its output is compared with.

`train` accepts a tensor of real samples, with latent points from a normal distribution (`Rows`), or any object with the
method of `BatchSource`. Then the inputs of the generator may be anything: a small picture for super-resolution, or
pictures of two domains for translation (`posterity.data.UnpairedImages`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from posterity.validation import shown


class BatchSource(Protocol):
    """Draws batches of pairs (inputs of the generator, real samples).

    If a source has an attribute ``recipe``, a text that identifies it, `train` refuses a checkpoint with another
    recipe.
    """

    def draw(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """n inputs (n, ...) and n real samples (n, ...); all random numbers come from ``random``.

        The generator maps the inputs to samples of the shape of the real ones. Row i of both may belong together, as in
        super-resolution, or not, as in unpaired translation: only a `posterity.inference.adversarial.terms.Term` such
        as ``paired`` compares them row by row.
        """
        ...


class Batch(NamedTuple):
    """One batch: the generator is called with ``inputs`` and, if there is one, the ``condition``."""

    inputs: Tensor
    real: Tensor
    condition: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """Random rows of a tensor of real samples, with latent points as inputs of the generator.

    Attributes:
        data: Real samples (N, ...).
        latent: Dimension of the latent points, draws from the standard normal distribution.
        condition: One row for each row of the data, (N, C), or None.
    """

    data: Tensor
    latent: int
    condition: Tensor | None = None

    def draw(self, n: int, random: torch.Generator) -> Batch:
        """n random rows; the latent points are drawn after the rows."""
        real, condition = self.draw_real(n, random)
        return Batch(self.draw_latent(n, random), real, condition)

    def draw_latent(self, n: int, random: torch.Generator) -> Tensor:
        """n latent points (n, latent)."""
        return torch.randn(n, self.latent, generator=random).to(self.data)

    def draw_inputs(self, n: int, random: torch.Generator) -> tuple[Tensor, ...]:
        """Arguments of the generator: latent points and, if there are conditions, the first n of them."""
        z = self.draw_latent(n, random)
        return (z,) if self.condition is None else (z, self.condition[:n])

    def draw_real(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """n random rows of the data and of the condition."""
        rows = torch.randint(len(self.data), (n,), generator=random).to(self.data.device)
        return self.data[rows], None if self.condition is None else self.condition[rows]

    @property
    def recipe(self) -> str:
        """Identifies the inputs of the generator; the data are not compared."""
        return f"latent {self.latent}"


@dataclass(frozen=True, eq=False)
class Drawn:
    """Draws batches from a user's `BatchSource` and checks what it returns."""

    source: BatchSource

    def draw(self, n: int, random: torch.Generator) -> Batch:
        """A batch of the source.

        Raises:
            ValueError: The source does not return n inputs and n real samples.
        """
        drawn = self.source.draw(n, random)
        if not isinstance(drawn, tuple) or len(drawn) != 2 or not all(isinstance(part, Tensor) for part in drawn):
            raise ValueError(f"expected data.draw to return two tensors (inputs, real samples), got {shown(drawn)}")
        for name, part in zip(("inputs", "real samples"), drawn, strict=True):
            if not part.is_floating_point() or part.ndim < 2 or len(part) != n:
                raise ValueError(
                    f"expected data.draw to return floating-point {name} of shape ({n}, ...), got {part.dtype} "
                    f"of shape {tuple(part.shape)}"
                )
        return Batch(*drawn)

    def draw_real(self, n: int, random: torch.Generator) -> tuple[Tensor, None]:
        """n real samples (n, ...), and None in place of a condition."""
        return self.draw(n, random).real, None

    def draw_inputs(self, n: int, random: torch.Generator) -> tuple[Tensor, ...]:
        """Arguments of the generator."""
        return (self.draw(n, random).inputs,)

    @property
    def recipe(self) -> str:
        """The source's own text, or the name of its class."""
        return f"source {getattr(self.source, 'recipe', type(self.source).__qualname__)}"


def is_source(data: Any) -> bool:
    """Whether ``data`` has the method of `BatchSource`."""
    return callable(getattr(data, "draw", None))


def stacked_batch(draw: Callable[[torch.Generator], Batch], rngs: tuple[torch.Generator, ...]) -> Batch:
    """One batch for each generator of random numbers, with a first dimension (M,)."""
    inputs, real, condition = zip(*(draw(random) for random in rngs), strict=True)
    return Batch(torch.stack(inputs), torch.stack(real), None if condition[0] is None else torch.stack(condition))
