"""What is kept of a training by gradients."""

from dataclasses import dataclass, field


@dataclass
class Training:
    """How a training went: mean losses in the order of steps, the ``steps`` taken, the ``seconds`` in all runs.

    Each entry of ``loss`` is a mean: over a whole epoch where there are epochs, over 50 steps of a stream.
    """

    loss: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False
