"""`Chains`: networks of one kind side by side, each a chain of `sghmc`."""

import torch
from torch import Tensor, nn

from posterity.inference.adversarial.bayesian.kernel import sghmc
from posterity.inference.adversarial.bayesian.settings import BayesianAdversarial
from posterity.models.stacked import Stacked

DECAY = 0.999  # of the running mean of squared gradients
FLOOR = 0.1  # smallest scale of a weight's gradient, relative to that of all weights of its network


class Chains:
    """Networks of one kind side by side, with their weights as one matrix (J, P).

    Each chain has its own random numbers, so that it is the same beside others as alone. ``side`` is the position in
    the pairs of the settings: 0 for generators, 1 for discriminators.
    """

    def __init__(self, kind: str, nets: list[nn.Module], seeds: list[int], side: int) -> None:
        for net in nets:
            others = [name for name, _ in net.named_buffers()]
            others += [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
            if others or not list(net.parameters()):
                raise ValueError(
                    f"expected a {kind} with trainable weights and no other state, got {others or 'no weights'}"
                )
        self.kind, self.net, self.side = kind, Stacked(nets), side
        self.names = [name for name, _ in nets[0].named_parameters()]
        self.shapes = [parameter.shape for parameter in nets[0].parameters()]
        self.weights = [self.net.net.get_parameter(name) for name in self.names]
        self.position = torch.cat([weight.detach().reshape(len(weight), -1) for weight in self.weights], 1)
        for name, view in self.by_name(self.position).items():
            self.net.net.get_parameter(name).data = view  # the weights share memory with the matrix
        self.velocity, self.mean_square = torch.zeros_like(self.position), torch.zeros_like(self.position)
        self.updates = 0
        self.rngs = [torch.Generator(self.position.device).manual_seed(seed) for seed in seeds]

    def by_name(self, matrix: Tensor) -> dict[str, Tensor]:
        """The columns of a matrix (J, ..., P) as tensors (J, ..., *shape) by parameter name."""
        parts = matrix.split([shape.numel() for shape in self.shapes], -1)
        return {
            name: part.unflatten(-1, shape) if len(shape) else part.squeeze(-1)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def draw_normal(self, *shape: int) -> Tensor:
        """Standard normal draws (J, *shape)."""
        like = self.position
        return torch.stack(
            [torch.randn(shape, generator=random, dtype=like.dtype, device=like.device) for random in self.rngs]
        )

    def draw_batches(self, data: Tensor, size: int) -> Tensor:
        """One batch of the data for each chain: (J, size, ...)."""
        rows = [torch.randint(len(data), (size,), generator=random, device=data.device) for random in self.rngs]
        return data[torch.stack(rows)]

    def step(self, log_likelihood: Tensor, count: int, settings: BayesianAdversarial, *, warmup: bool) -> None:
        """One step of `sghmc`; ``log_likelihood`` (J,) is a mean over samples that stands for ``count`` of them."""
        weight = settings.data_weight[self.side] * count
        if settings.opponents == "sum":
            weight *= settings.generators if self.side else settings.discriminators
        parts = torch.autograd.grad(log_likelihood.sum(), self.weights)
        gradient = weight * torch.cat([part.reshape(len(part), -1) for part in parts], 1)
        gradient -= self.position / settings.prior_sd[self.side] ** 2
        noise = self.draw_normal(self.position.shape[1]) if settings.temperature else torch.zeros_like(self.position)
        position, self.velocity = sghmc(
            self.position, self.velocity, gradient, noise, rate=self._rate(gradient, settings, warmup=warmup),
            friction=settings.friction, temperature=settings.temperature,
        )  # fmt: skip
        self.position.copy_(position)

    def _rate(self, gradient: Tensor, settings: BayesianAdversarial, *, warmup: bool) -> float | Tensor:
        """The step η of each weight."""
        rate = settings.learning_rate[self.side]
        if not settings.preconditioned:
            return rate
        if warmup:
            self.mean_square.lerp_(gradient**2, 1 - DECAY)
            self.updates += 1
        square = self.mean_square / (1 - DECAY**self.updates)
        least = FLOOR**2 * square.mean(1, keepdim=True)
        return rate * settings.friction / torch.maximum(square, least).sqrt().clamp_min(1e-30)

    def first_not_finite(self) -> int | None:
        """Index of the first chain with weights that are NaN or infinite."""
        wrong = ~torch.isfinite(self.position).all(1)
        return int(wrong.nonzero()[0]) if bool(wrong.any()) else None
