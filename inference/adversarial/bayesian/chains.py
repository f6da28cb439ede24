"""`Chains`: networks of one kind side by side, each a chain of `sghmc`."""

import torch
from torch import Tensor, nn

from posterity.inference.adversarial.bayesian.kernel import sghmc
from posterity.inference.adversarial.bayesian.settings import BayesianAdversarial
from posterity.models.stacked import Stacked

MEMORY = 0.999  # of the mean square of gradients
FLOOR = 0.1  # of the root mean square of all of a network's gradients: no weight's is taken for less


class Chains:
    """Networks of one kind side by side, their weights as one matrix (J, P), each with its own random numbers."""

    def __init__(self, kind: str, nets: list[nn.Module], seeds: list[int], which: int) -> None:
        for net in nets:
            others = [name for name, _ in net.named_buffers()]
            others += [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
            if others or not list(net.parameters()):
                raise ValueError(f"expected a {kind} of weights with a prior and nothing else, got {others or 'none'}")
        self.kind, self.net, self.which = kind, Stacked(nets), which
        self.names = [name for name, _ in nets[0].named_parameters()]
        self.shapes = [parameter.shape for parameter in nets[0].parameters()]
        self.weights = [self.net.net.get_parameter(name) for name in self.names]
        self.position = torch.cat([weight.detach().reshape(len(weight), -1) for weight in self.weights], 1)
        for name, view in self.named(self.position).items():
            self.net.net.get_parameter(name).data = view  # what changes the matrix changes the networks
        self.velocity, self.square = torch.zeros_like(self.position), torch.zeros_like(self.position)
        self.updates = 0
        self.randoms = [torch.Generator(self.position.device).manual_seed(seed) for seed in seeds]

    def named(self, matrix: Tensor) -> dict[str, Tensor]:
        """(J, ..., P) as tensors (J, ..., *shape) of each name."""
        parts = matrix.split([shape.numel() for shape in self.shapes], -1)
        return {
            name: part.unflatten(-1, shape) if len(shape) else part.squeeze(-1)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (J, ...)."""
        like = self.position
        return torch.stack(
            [torch.randn(shape, generator=own, dtype=like.dtype, device=like.device) for own in self.randoms]
        )

    def rows(self, data: Tensor, size: int) -> Tensor:
        """A batch of the data for each: (J, size, ...)."""
        index = [torch.randint(len(data), (size,), generator=own, device=data.device) for own in self.randoms]
        return data[torch.stack(index)]

    def move(self, likelihood: Tensor, count: int, settings: BayesianAdversarial, *, warm: bool) -> None:
        """A step along the log posterior: ``likelihood`` (J,), a mean over samples, counts ``count`` times."""
        weight = settings.data_weight[self.which] * count
        weight *= settings.generators if self.which and settings.opponents == "sum" else 1
        weight *= settings.discriminators if not self.which and settings.opponents == "sum" else 1
        parts = torch.autograd.grad(likelihood.sum(), self.weights)
        gradient = weight * torch.cat([part.reshape(len(part), -1) for part in parts], 1)
        gradient -= self.position / settings.prior_sd[self.which] ** 2
        noise = self.normal(self.position.shape[1]) if settings.temperature else torch.zeros_like(self.position)
        moved, self.velocity = sghmc(
            self.position, self.velocity, gradient, noise, rate=self._rate(gradient, settings, warm=warm),
            friction=settings.friction, temperature=settings.temperature,
        )  # fmt: skip
        self.position.copy_(moved)

    def _rate(self, gradient: Tensor, settings: BayesianAdversarial, *, warm: bool) -> float | Tensor:
        rate = settings.learning_rate[self.which]
        if not settings.preconditioned:
            return rate
        if warm:
            self.square.lerp_(gradient**2, 1 - MEMORY)
            self.updates += 1
        square = self.square / (1 - MEMORY**self.updates)
        least = FLOOR**2 * square.mean(1, keepdim=True)
        return rate * settings.friction / torch.maximum(square, least).sqrt().clamp_min(1e-30)

    def wrong(self) -> int | None:
        """The first whose weights are not finite."""
        found = ~torch.isfinite(self.position).all(1)
        return int(found.nonzero()[0]) if bool(found.any()) else None
