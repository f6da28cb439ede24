"""Many networks of one kind as one: every weight has a first dimension (M,), every layer is one computation for all."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from posterity.models.modules import named_misfits
from posterity.validation import check_floating


class Stacked(nn.Module):
    """M networks side by side: inputs (M, ...) -> outputs (M, ...), each slice through its own network.

    Parameters and buffers have the names of a single network's with (M,) in front, so that an optimiser that works
    element by element (SGD, Adam) trains each as it would alone. For small networks, where the cost of a step is that
    of calling its operations, M of them cost little more than one. Batch normalisation keeps M statistics, dropout
    draws for each.

    Raises ``ValueError`` for no networks, some with other parameters than the first, or some with parametrisations
    (`torch`'s spectral norm writes where vmap cannot follow).

    >>> Stacked([nn.Linear(3, 2) for _ in range(5)])(torch.zeros(5, 7, 3)).shape
    torch.Size([5, 7, 2])
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        if not isinstance(nets, Sequence) or not all(isinstance(net, nn.Module) for net in nets):
            raise ValueError(f"expected a list of torch.nn.Module, got {nets!r:.200}")
        if not nets:
            raise ValueError("expected at least one network, got none")
        if any(is_parametrized(module) for net in nets for module in net.modules()):
            raise ValueError("expected networks without parametrisations, got a spectral norm or another one")
        shapes = [{name: tuple(value.shape) for name, value in net.state_dict().items()} for net in nets]
        for found in shapes[1:]:
            if found != shapes[0]:
                raise ValueError(f"expected networks with equal parameters {shapes[0]}, got {found}")
        if other := next((repr(net) for net in nets if repr(net) != repr(nets[0])), None):
            raise ValueError(f"expected networks of one kind, got {nets[0]!r} and {other}")
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
        with named_misfits(self.net, *args):
            outputs: Tensor = torch.vmap(self._one, randomness="different")(weights, *args)
        return outputs

    def _one(self, weights: dict[str, Any], *args: Tensor) -> Any:
        return functional_call(self.net, weights, args)

    def split(self) -> list[nn.Module]:
        """Copies of the M networks, each on its own."""
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
