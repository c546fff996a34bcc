"""Parameters of a model as options of a server's command line. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from portico_server.core.errors import InvalidRequest, nearest

Kind: TypeAlias = Literal["whole", "number", "share", "text", "flag", "path"]


@dataclass(frozen=True, slots=True)
class Option:
    """``flag`` is how the server calls it; a ``flag`` kind has no value. ``share`` is in (0, 1]."""

    flag: str
    kind: Kind
    doc: str


Options: TypeAlias = Mapping[str, Option]

OURS: Options = {
    "python": Option("", "path", "an interpreter that has the engine, instead of the environment"),
    "arguments": Option("", "text", "further arguments of the server's command line, a list of texts"),
    "fallback": Option("", "text", "names of models that are asked when this one fails"),
}
"""What every such engine takes besides its own."""


def advice(message: str, options: Options) -> str:
    """What the flags that a message of the server speaks of are called here; empty if it speaks of none."""
    spoken = [
        f"'{option.flag}' is the parameter '{key}'"
        for key, option in options.items()
        if re.search(rf"(?<![\w-]){re.escape(option.flag)}(?![\w-])", message)
    ]
    return f"Here {', '.join(spoken)}." if spoken else ""


def arguments(name: str, engine: str, parameters: Mapping[str, Any], options: Options) -> list[str]:
    """The command line for ``parameters``, in the order of ``options``.

    Raises `InvalidRequest` that names the parameter.
    """
    known = {**options, **OURS}
    for key in parameters:
        if key not in known:
            raise InvalidRequest(
                f"The engine '{engine}' has no parameter '{key}'.{nearest(key, known)} It has {', '.join(known)}.",
                param=f"parameters.{key}",
            )
    line: list[str] = []
    for key, option in options.items():
        value = parameters.get(key)
        if value is None or value is False:
            continue
        if not _fits(value, option.kind):
            raise InvalidRequest(
                f"The parameter '{key}' of '{name}' must be {_WORDS[option.kind]}, not {value!r}.",
                param=f"parameters.{key}",
            )
        line += [option.flag] if option.kind == "flag" else [option.flag, str(value)]
    more = parameters.get("arguments") or []
    if not isinstance(more, list | tuple) or not all(isinstance(part, str) for part in more):
        raise InvalidRequest(
            f"The parameter 'arguments' of '{name}' must be a list of texts.", param="parameters.arguments"
        )
    return [*line, *more]


_WORDS: Mapping[Kind, str] = {
    "whole": "a whole number of at least 1",
    "number": "a number of at least 0",
    "share": "a number above 0 and at most 1",
    "text": "a text",
    "flag": "true or false",
    "path": "a path",
}


def _fits(value: Any, kind: Kind) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "whole":
            return number and isinstance(value, int) and value >= 1
        case "number":
            return number and value >= 0
        case "share":
            return number and 0 < value <= 1
        case "flag":
            return value is True
    # An option's value must not be taken for another option.
    return isinstance(value, str) and bool(value) and not value.startswith("-")
