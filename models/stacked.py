"""Many networks of the same architecture as one, with stacked weights and one computation for each layer."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from posterity.models.modules import described_inputs
from posterity.validation import check_floating


class Stacked(nn.Module):
    """M networks as one: inputs (M, ...) -> outputs (M, ...), each slice through one network.

    Parameters and buffers have the names of a single network and a first dimension M, so that an elementwise optimiser
    (SGD, Adam) trains each network as it would alone. A step of M small networks takes little longer than a step of
    one, whose time is that of launching operations. Batch normalisation keeps M statistics, dropout draws M masks.

    Raises:
        ValueError: no networks, networks of different architectures, or networks with parametrisations, such as a
            spectral norm, which modifies buffers in place and cannot be mapped by ``vmap``.

    >>> Stacked([nn.Linear(3, 2) for _ in range(5)])(torch.zeros(5, 7, 3)).shape
    torch.Size([5, 7, 2])
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        if not isinstance(nets, Sequence) or not all(isinstance(net, nn.Module) for net in nets):
            raise ValueError(f"expected nets to be a list of torch.nn.Module, got {nets!r:.200}")
        if not nets:
            raise ValueError("expected nets to have at least one network, got none")
        if any(is_parametrized(module) for net in nets for module in net.modules()):
            raise ValueError("expected nets without parametrisations, got one with a parametrisation (spectral norm?)")
        shapes = [{name: tuple(value.shape) for name, value in net.state_dict().items()} for net in nets]
        for others in shapes[1:]:
            if others != shapes[0]:
                raise ValueError(f"expected nets with equal parameter shapes {shapes[0]}, got {others}")
        if other := next((repr(net) for net in nets if repr(net) != repr(nets[0])), None):
            raise ValueError(f"expected nets of one architecture, got {nets[0]!r} and {other}")
        self.net, self.count = copy.deepcopy(nets[0]), len(nets)
        for name, parameter in nets[0].named_parameters():
            values = torch.stack([net.get_parameter(name).detach() for net in nets])
            setattr(*_place(self.net, name), nn.Parameter(values, requires_grad=parameter.requires_grad))
        for name, _ in nets[0].named_buffers():
            owner, last = _place(self.net, name)
            owner._buffers[last] = torch.stack([net.get_buffer(name) for net in nets])

    def forward(self, *args: Tensor) -> Tensor:
        for value in args:
            check_floating("inputs", value)
            if not value.ndim or len(value) != self.count:
                raise ValueError(f"expected inputs of shape ({self.count}, ...), got {tuple(value.shape)}")
        weights = dict(self.net.named_parameters()) | dict(self.net.named_buffers())
        with described_inputs(self.net, *args):
            outputs: Tensor = torch.vmap(self._one, randomness="different")(weights, *args)
        return outputs

    def _one(self, weights: dict[str, Any], *args: Tensor) -> Any:
        return functional_call(self.net, weights, args)

    def split(self) -> list[nn.Module]:
        """Copies of the M networks as separate modules."""
        nets = []
        for index in range(self.count):
            net = copy.deepcopy(self.net)
            for name, parameter in self.net.named_parameters():
                own = nn.Parameter(parameter[index].detach().clone(), requires_grad=parameter.requires_grad)
                setattr(*_place(net, name), own)
            for name, buffer in self.net.named_buffers():
                owner, last = _place(net, name)
                owner._buffers[last] = buffer[index].clone()
            nets.append(net)
        return nets


def _place(net: nn.Module, name: str) -> tuple[nn.Module, str]:
    owner, _, last = name.rpartition(".")
    return net.get_submodule(owner), last
