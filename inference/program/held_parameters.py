"""Fixed values in place of the parameters of a model, also of those that belong to modules of torch."""

from collections.abc import Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class HeldParameters(Messenger):
    """Puts ``values`` in place of the model's parameters.

    A module under ``pyro.module``, and a `PyroModule` with parameters of torch, announce each parameter to Pyro and
    then read it as their own attribute. Such a parameter is replaced in every call of torch that takes it.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self._modules: list[_OfModules] = []

    def __enter__(self) -> Any:
        self._modules.append(_OfModules())
        self._modules[-1].__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._modules.pop().__exit__(*error)

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] not in self.values:
            return
        msg["value"] = self.values[msg["name"]]
        for first in msg["args"][1:2]:
            if isinstance(first, nn.Parameter):
                self._modules[-1].held[id(first)] = first, msg["value"]


class _OfModules(TorchFunctionMode):
    """Replaces the parameters ``held``, pairs of parameter and value by id, in the arguments of torch's functions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.held:
            return func(*args, **kwargs)
        return func(*map(self._replaced, args), **{name: self._replaced(value) for name, value in kwargs.items()})

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, nn.Parameter):
            return self.held.get(id(value), (value, value))[1]
        return type(value)(map(self._replaced, value)) if type(value) in (list, tuple) else value
