"""The arguments of a prompt: declared with a type, parsed from JSON or from text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest

ArgumentType: TypeAlias = Literal["string", "integer", "number", "boolean"]
Value: TypeAlias = str | int | float | bool

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_FIELDS: Final = frozenset({"name", "type", "description", "required", "default", "enum"})
_ARTICLE: Final[Mapping[str, str]] = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}
_IS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ),
    "boolean": lambda value: isinstance(value, bool),
}


@dataclass(frozen=True, slots=True)
class PromptArgument:
    """An argument of a prompt. A required argument has no ``default``; ``enum`` lists the allowed values, if they are
    limited.
    """

    name: str
    type: ArgumentType = "string"
    description: str = ""
    required: bool = False
    default: Value | None = None
    enum: tuple[Value, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the argument in the JSON form that `parse` accepts."""
        return {
            "name": self.name,
            "type": self.type,
            "description": self.description,
            "required": self.required,
            "default": self.default,
            "enum": list(self.enum),
        }

    def check(self, value: Any, at: str) -> Value:
        """Return the value if the argument allows it. Raises `InvalidRequest` that names the path ``at``."""
        if not _IS[self.type](value):
            raise InvalidRequest(
                f"{at} must be {_ARTICLE[self.type]}, not {_format(value)}.", code="invalid_type", param=at
            )
        if self.enum and value not in self.enum:
            raise InvalidRequest(
                f"{at} must be one of {', '.join(map(_format, self.enum))}, not {_format(value)}.", param=at
            )
        found_value: Value = value
        return found_value

    def read(self, text: str) -> Any:
        """Convert a text to the argument's type. If this fails, return the text itself, so that `check` can quote it
        in an error.
        """
        try:
            match self.type:
                case "integer":
                    return int(text)
                case "number":
                    return float(text)
                case "boolean":
                    return {"true": True, "false": False}.get(text.strip().lower(), text)
        except ValueError:
            return text
        return text


def parse(value: Any, at: str) -> PromptArgument:
    """Parse an argument from its JSON form: a mapping, or only the name. Raises `InvalidRequest` that names the
    path.
    """
    value = {"name": value, "required": True} if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{at} must be a mapping with a 'name', or a name.", param=at)
    for key in value:
        if key not in _FIELDS:
            raise InvalidRequest(
                f"{at} has no field '{key}'.{nearest(str(key), _FIELDS)}", param=f"{at}.{key}"
            )
    name = value.get("name")
    kind: Any = value.get("type") or "string"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{at}.name must be a word of letters, digits and underscores, not {_format(name)}.",
            param=f"{at}.name",
        )
    if kind not in get_args(ArgumentType):
        argument_types = ", ".join(get_args(ArgumentType))
        raise InvalidRequest(
            f"{at}.type must be one of {argument_types}, not {_format(kind)}.", param=f"{at}.type"
        )
    description, is_required = value.get("description") or "", value.get("required") or False
    if not isinstance(description, str) or not isinstance(is_required, bool):
        field = "required" if isinstance(description, str) else "description"
        raise InvalidRequest(f"{at}.{field} has the wrong type.", param=f"{at}.{field}")
    plain = PromptArgument(name, kind, description, is_required)
    enum = value.get("enum") or ()
    if isinstance(enum, str) or not isinstance(enum, Sequence):
        raise InvalidRequest(f"{at}.enum must be a list.", param=f"{at}.enum")
    choices = tuple(plain.check(item, f"{at}.enum") for item in enum)
    argument = PromptArgument(name, kind, description, is_required, None, choices)
    default = value.get("default")
    if default is None:
        return argument
    if is_required:
        raise InvalidRequest(
            f"{at} is required and has a default; remove one of the two.", param=f"{at}.default"
        )
    return PromptArgument(name, kind, description, False, argument.check(default, f"{at}.default"), choices)


def _format(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else f"{text[:80]}…"
