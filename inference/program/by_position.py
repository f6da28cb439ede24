"""Models with arguments by keyword alone, called by position: one way to call every model."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch.nn import Module

Parameter = inspect.Parameter
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Absent:
    """The value, the class itself, of an argument that is not passed on."""


class ByPosition:
    """A function whose arguments by keyword alone follow its ``count`` positional arguments in every call.

    ``signature`` lists all arguments; one that is `Absent` is left out of the call.
    """

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature, count: int) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function, self.count, self.__signature__ = function, count, signature

    def __call__(self, *args: Any) -> Any:
        names = list(self.__signature__.parameters)[self.count :]
        named = dict(zip(names, args[self.count :], strict=False))
        return self.function(
            *args[: self.count], **{name: value for name, value in named.items() if value is not Absent}
        )


def by_position(model: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> Callable[..., Any]:
    """The model as `ByPosition` if it has arguments by keyword alone, otherwise the model itself.

    ``args`` and ``named`` are the arguments of a call, which say what ``*args`` and ``**kwargs`` of the model hold.

    >>> def model(x, *, y=None, **further):
    ...     return x, y, further
    >>> by_position(model, (1,), {"y": 2, "z": 3})(1, 2, 3)
    (1, 2, {'z': 3})
    """
    parameters = parameters_of(model)
    positional = [one.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for one in parameters if one.kind in POSITIONAL]
    keywords = [one for one in parameters if one.kind == Parameter.KEYWORD_ONLY]
    for one in parameters:
        if one.kind == Parameter.VAR_POSITIONAL:
            names = [f"{one.name}_{place}" for place in range(len(positional), len(args))]
            positional += [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        if one.kind == Parameter.VAR_KEYWORD:
            known = {other.name for other in (*positional, *keywords)}
            further = [name for name in named if name not in known]
            keywords += [Parameter(name, Parameter.KEYWORD_ONLY, default=Absent) for name in further]
    if not keywords:
        return model
    return ByPosition(model, inspect.Signature([*positional, *keywords]), len(positional))


def parameters_of(model: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a model, of a module those of ``forward``; none if it has no signature."""
    try:
        signature = inspect.signature(model.forward if isinstance(model, Module) else model)
    except (TypeError, ValueError):
        return []
    return list(signature.parameters.values())


def takes(model: Callable[..., Any], name: str, reserved: Collection[str] = ()) -> bool:
    """Whether the model has an argument of this name, or ``**kwargs`` for a name that is not ``reserved``."""
    parameters = parameters_of(model)
    fixed = [one.name for one in parameters if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    return name in fixed or (name not in reserved and any(one.kind == Parameter.VAR_KEYWORD for one in parameters))


def called_as(guide: Callable[..., Any], model: Callable[..., Any]) -> Callable[..., Any]:
    """The guide, called with the arguments of ``model`` in the way that `by_position` calls the model.

    Raises ``ValueError`` for a guide of Pyro's ``autoguide``, which calls the model of its own.
    """
    found: Any = model
    while found is not None and not isinstance(found, ByPosition):
        found = getattr(found, "__wrapped__", None)
    if found is None:
        return guide
    if isinstance(guide, Module):
        raise ValueError(
            "expected a function or the name of a guide for a model with arguments by keyword alone, got "
            f"{type(guide).__name__}"
        )
    return ByPosition(guide, found.__signature__, found.count)
