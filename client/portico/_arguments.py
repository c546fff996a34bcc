"""Determines the arguments of a function that is a step of a flow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from portico._step import Argument, Reference
from portico._types import Incoming, Schema, clashes, words
from portico.errors import InvalidRequest
from portico.functions import annotations_of, schema_of

VALUE: Final = Reference("value")

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call. ``args`` are those by position, ``kwargs`` those by name.

    ``args`` is ``None`` if the incoming value is passed unchanged. ``returns`` is the schema of the function's return
    annotation.
    """

    args: list[Any] | None
    kwargs: dict[str, Any] = field(default_factory=dict)
    returns: dict[str, Any] | None = None


def call_fields(
    function: Callable[..., Any],
    name: str,
    args: tuple[Any, ...] | None,
    kwargs: Mapping[str, Any],
    incoming: Incoming,
) -> Arguments:
    """Return the arguments of the function in the step ``name``.

    Raises `InvalidRequest` if the call is invalid: an unknown argument, too many branches for the parameters, or a
    value that does not match an annotation.
    """
    signature = _signature(function)
    if signature is None:
        return Arguments(None if args is None else [_place(arg, incoming) for arg in args], dict(kwargs))
    call = _FunctionStep(function, name, signature, incoming)
    call.knows(kwargs)
    returns = call.returned()
    if args is not None:
        return Arguments([_place(arg, incoming) for arg in args], dict(kwargs), returns)
    free = [parameter for parameter in call.taking if parameter.name not in kwargs]
    if not free and not call.rest:
        return Arguments([], dict(kwargs), returns)
    parameters = [parameter for parameter in free if parameter.default is parameter.empty]
    if incoming.packed and (call.rest or len(parameters or free) > 1):
        spread = call.spread(free, parameters, kwargs)
        return Arguments(spread.args, {**kwargs, **spread.kwargs}, returns)
    if free:
        call.fits(free[0], incoming.schema)
    if not kwargs:
        return Arguments(None, {}, returns)
    if free and call.taking[0] is not free[0]:
        # the first parameter is bound, so the value is passed by name
        return Arguments([], {**kwargs, free[0].name: VALUE}, returns)
    return Arguments([VALUE], dict(kwargs), returns)


def by_name(function: Callable[..., Any], arguments: Arguments) -> Arguments:
    """Return the arguments with every argument passed by name, if all names are known before the flow runs."""
    signature = _signature(function)
    if signature is None:
        return arguments
    names = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    args = [VALUE] if arguments.args is None else arguments.args
    all_named = all(
        parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
    )
    if not all_named or len(args) > len(names) or any(_is_spread(arg) for arg in args):
        return arguments
    named_arguments = dict(zip(names, args, strict=False))
    if named_arguments.keys() & arguments.kwargs.keys():
        return arguments
    return Arguments([], {**named_arguments, **arguments.kwargs}, arguments.returns)


@dataclass(frozen=True, slots=True)
class _FunctionStep:
    """A function as the step ``name``."""

    function: Callable[..., Any]
    name: str
    signature: inspect.Signature
    incoming: Incoming

    @property
    def taking(self) -> list[inspect.Parameter]:
        return [parameter for parameter in self.signature.parameters.values() if parameter.kind in _BY_PLACE]

    @property
    def rest(self) -> bool:
        return any(
            parameter.kind is parameter.VAR_POSITIONAL for parameter in self.signature.parameters.values()
        )

    @property
    def _subject(self) -> str:
        subject = self.incoming.subject
        return subject[0].upper() + subject[1:]

    def knows(self, kwargs: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest` if a bound argument is not a parameter of the function."""
        parameters = self.signature.parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        for name in kwargs:
            if name not in parameters:
                raise InvalidRequest(
                    f"{getattr(self.function, '__qualname__', 'The function')} has no argument '{name}' to bind; "
                    f"it has {', '.join(parameters) or 'none'}.",
                    param=name,
                )

    def spread(
        self,
        free: Sequence[inspect.Parameter],
        parameters: Sequence[inspect.Parameter],
        kwargs: Mapping[str, Any],
    ) -> Arguments:
        """Distribute the incoming values among the parameters that are not bound."""
        count = self.incoming.count
        if count is not None and (count < len(parameters) or (count > len(free) and not self.rest)):
            raise InvalidRequest(
                f"{self._subject} provides {count} values, but the function of the step '{self.name}' "
                f"accepts {', '.join(parameter.name for parameter in free) or 'none'}. Bind the arguments, "
                "or change one of the steps.",
                code="type_clash",
                param=self.name,
            )
        for number, parameter in enumerate(free):
            if count is None or number < count:
                self.fits(parameter, self.incoming.item(number))
        behind = [parameter for parameter in self.taking if parameter.name in kwargs]
        if behind and free and self.taking.index(behind[0]) < self.taking.index(free[-1]):
            chosen_parameters = free[:count] if count is not None else parameters or free
            return Arguments(
                [], {parameter.name: VALUE[number] for number, parameter in enumerate(chosen_parameters)}
            )
        return Arguments([{"$spread": VALUE}])

    def fits(self, parameter: inspect.Parameter, schema: Schema) -> None:
        """Raise `InvalidRequest` if the incoming value does not match the annotation of the parameter."""
        parameter_schema = schema_of(annotations_of(self.function).get(parameter.name, Any))
        if clashes(parameter_schema, schema):
            raise InvalidRequest(
                f"The step '{self.name}' accepts {words(parameter_schema)} as '{parameter.name}', but "
                f"{self.incoming.subject} provides {words(schema)}.",
                code="type_clash",
                param=self.name,
            )

    def returned(self) -> dict[str, Any] | None:
        if self.signature.return_annotation in (self.signature.empty, None, "None"):
            return None
        return schema_of(annotations_of(self.function).get("return", Any)) or None


def _place(arg: Any, incoming: Incoming) -> Any:
    """Resolve an argument such as `_0`: an item of several incoming values, or the only incoming value."""
    if not isinstance(arg, Argument):
        return arg
    if incoming.packed:
        return VALUE[arg.number]
    if arg.number == 0:
        return VALUE
    raise InvalidRequest(f"{arg!r}: the step receives a single value, which is _0.")


def _is_spread(arg: Any) -> bool:
    return isinstance(arg, Mapping) and set(arg) == {"$spread"}


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return None
