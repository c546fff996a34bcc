"""Rejects unknown keyword arguments of a call and suggests the intended keyword."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from portico.errors import InvalidRequest
from portico.spelling import nearest

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class UnknownKeyword(InvalidRequest, TypeError):
    """A call received an unknown keyword argument, which ``param`` names."""


def require_known(call: str, given_names: Iterable[str], known_names: Collection[str]) -> None:
    """Raise `UnknownKeyword` for the first name in ``given_names`` that ``call`` does not accept."""
    for name in given_names:
        if name not in known_names:
            names = sorted(known_names)
            hint = nearest(name, names)
            if not hint:
                hint = f" It has {', '.join(names)}." if names else " It has no arguments."
            raise UnknownKeyword(
                f"{call}() has no argument '{name}'.{hint}", code="unknown_parameter", param=name
            )


def exact(function: Callable[P, R], options: Iterable[str] | None = None) -> Callable[P, R]:
    """Reject keyword arguments that ``function`` does not accept: a keyword must be a parameter or, if ``function``
    has a ``**`` parameter, one of ``options``.

    Without ``options``, a ``**`` parameter accepts any keyword.
    """
    parameters = inspect.signature(function).parameters
    if options is None and any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return function
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    own_names = {parameter.name for parameter in parameters.values() if parameter.kind in by_name} - {
        "self",
        "cls",
    }
    known_names = frozenset(own_names | {*(options or ())})
    label = function.__qualname__.replace(".__init__", "").replace(".__call__", "")

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def acall(*args: P.args, **kwargs: P.kwargs) -> Any:
            require_known(label, kwargs, known_names)
            return await function(*args, **kwargs)

        return cast("Callable[P, R]", acall)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        require_known(label, kwargs, known_names)
        return function(*args, **kwargs)

    return call


def with_options(options: Iterable[str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Apply `exact` to a function whose ``**`` parameter accepts these ``options``."""
    return lambda function: exact(function, options)


def exact_methods(cls: type[T]) -> type[T]:
    """Apply `exact` to the callables of a class: its constructor, its methods without a leading underscore, and
    ``__call__``.
    """
    for name, member in [*vars(cls).items()]:
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if isinstance(member, classmethod | staticmethod):
            setattr(cls, name, type(member)(exact(member.__func__)))
        elif inspect.isfunction(member) and not hasattr(member, "__wrapped__"):
            setattr(cls, name, exact(member))
    return cls
