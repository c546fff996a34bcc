"""Python functions as tools: schema from the signature, arguments from JSON, result as JSON.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from portico._keywords import require_known
from portico.errors import InvalidRequest

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}
_MANY = (list, tuple, set, frozenset)


_KEY: ContextVar[str] = ContextVar("portico_idempotency_key")


def idempotency_key() -> str:
    """Return the idempotency key of the call that runs the current function.

    The key stays the same if the function is executed again for the same step because the daemon, this program or the
    connection was lost. Pass the key to any operation that must happen only once: a payment, an email, a database row.
    Raises `InvalidRequest` outside of such a call.
    """
    # the variable is set in processes in which the daemon runs functions
    key = _KEY.get("") or os.environ.get("PORTICO_IDEMPOTENCY_KEY", "")
    if not key:
        raise InvalidRequest(
            "No Portico call is running: idempotency_key() works only within functions of a flow, an agent "
            "or 'portico serve' while they are called."
        )
    return key


@contextmanager
def called(key: str) -> Iterator[None]:
    """Set the idempotency key for the duration of a function call."""
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A function in this process that the daemon can call.

    ``read_only``: a call changes nothing. ``destructive``: a call's changes may be irreversible. ``timeout``: maximum
    seconds per call, including the wait for a free worker. ``approval``: when a person must approve a call (always,
    destructive, data, refuse, never; empty: the daemon's setting).

    Example::

        from portico import Function


        def area(width: float, height: float) -> float:
            '''Return the area of a rectangle.'''
            return width * height


        print(Function.of(area, read_only=True).input_schema)
    """

    name: str
    call: Callable[..., Any]
    description: str = ""
    input_schema: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"type": "object"})
    read_only: bool = False
    destructive: bool = False
    timeout: float = 60.0
    approval: str = ""

    @classmethod
    def of(cls, call: Callable[..., Any], **options: Any) -> Function:
        """Create the description of a function from its name, docstring and signature; ``options`` set or override
        fields.

        Argument descriptions are read from ``Annotated[str, "…"]``, ``name: …`` or ``:param name: …``. Raises
        `InvalidRequest` if an argument cannot be passed by name.
        """
        require_known("Function.of", options, [item.name for item in dataclasses.fields(cls)])
        doc = inspect.getdoc(call) or ""
        fields = {
            "name": getattr(call, "__name__", "function"),
            "description": " ".join(doc.split("\n\n")[0].split()),
            "input_schema": _arguments_of(call, doc),
        }
        return cls(call=call, **{**fields, **options})

    def to_json(self) -> dict[str, Any]:
        """Return the function's description for the daemon."""
        return {
            "name": self.name,
            "description": self.description,
            "input_schema": dict(self.input_schema),
            "read_only": self.read_only,
            "destructive": self.destructive,
            "timeout": self.timeout,
            "approval": self.approval,
        }

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Convert arguments from JSON to the types in the signature: enums, dataclasses, sets and tuples."""
        hints = annotations_of(self.call)
        return {name: value_of(hints.get(name, Any), value) for name, value in arguments.items()}


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a type. For a type that JSON cannot express, return an empty schema."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        description = next((item for item in inner[1:] if isinstance(item, str)), None)
        return {**schema_of(inner[0]), **({"description": description} if description else {})}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(member_type) for member_type in inner]}
    if kind in _MANY or origin in _MANY or _is_a(origin, Sequence):
        return {"type": "array", **({"items": schema_of(inner[0])} if inner else {})}
    if kind is dict or _is_a(origin, Mapping):
        return {"type": "object", **({"additionalProperties": schema_of(inner[1])} if inner else {})}
    if _is_a(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        required_names = [
            item.name
            for item in dataclasses.fields(kind)
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        ]
        return _object(typing.get_type_hints(kind, include_extras=True), required_names)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return _object(hints, sorted(kind.__required_keys__))
    return {}


def value_of(kind: Any, value: Any) -> Any:
    """Convert a JSON value to the type ``kind``, if `schema_of` can express that type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return value_of(inner[0], value)
    if origin in (Union, types.UnionType):
        fitting = [member for member in inner if _fits(schema_of(member), value)]
        return value_of(fitting[0], value) if fitting else value
    collection = origin or kind
    if collection in _MANY and isinstance(value, list):
        member_type = inner[0] if inner else Any
        return collection(value_of(member_type, item) for item in value)
    if _is_a(origin, Mapping) and isinstance(value, dict) and inner:
        return {name: value_of(inner[1], item) for name, item in value.items()}
    if _is_a(kind, enum.Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        return kind(**{name: value_of(hints.get(name, Any), item) for name, item in value.items()})
    return value


def plain(value: Any) -> Any:
    """Convert a result to a JSON value: dataclasses to objects, enums to their values, sets to lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def _arguments_of(call: Callable[..., Any], doc: str) -> dict[str, Any]:
    hints = annotations_of(call)
    properties: dict[str, Any] = {}
    required_names = []
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise InvalidRequest(
                f"The argument '{name}' of {getattr(call, '__name__', 'the function')} cannot be passed by "
                "name.",
                param=name,
            )
        schema = schema_of(hints.get(name, Any))
        description = re.search(rf"^\s*(?::param\s+)?{name}\s*(?:\([^)]*\))?:\s*(.+)$", doc, re.MULTILINE)
        if description:
            schema.setdefault("description", description[1].strip())
        if parameter.default is parameter.empty:
            required_names.append(name)
        elif isinstance(parameter.default, str | int | float | bool | None):
            schema["default"] = parameter.default
        properties[name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": required_names,
        "additionalProperties": False,
    }


def annotations_of(call: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's arguments and of its result. Return an empty mapping if they cannot be
    determined.
    """
    try:
        return typing.get_type_hints(call, include_extras=True)
    except (NameError, TypeError):  # annotations that are not types, and callables without annotations
        return {}


def _object(hints: Mapping[str, Any], required_names: Sequence[str]) -> dict[str, Any]:
    properties = {name: schema_of(kind) for name, kind in hints.items()}
    return {"type": "object", "properties": properties, "required": list(required_names)}


def _is_a(kind: Any, base: type[Any]) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Return whether a value has the JSON type of a schema, or is in its ``enum``."""
    if "enum" in schema:
        return value in schema["enum"]
    kinds: dict[str, tuple[type[Any], ...]] = {
        "string": (str,),
        "boolean": (bool,),
        "null": (type(None),),
        "array": (list,),
        "object": (dict,),
        "integer": (int,),
        "number": (int, float),
    }
    expected_types = kinds.get(str(schema.get("type")), (object,))
    if isinstance(value, bool) and bool not in expected_types:
        return object in expected_types
    return isinstance(value, expected_types)
