"""What an operator says of a tool, from the configuration, the API or a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.tools.approval import Rule, rule_of
from portico_server.tools.fetch.policy import is_unsafe

Kind: TypeAlias = Literal["command", "function", "openapi", "database"]

TIMEOUT: Final = 60.0
"""Seconds that a call may take unless the tool's entry says otherwise."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:([A-Za-z_][\w.]*|\*)")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9/][^\x00-\x1f\x7f]{0,300}")
_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """Exactly one of ``command``, ``function``, ``openapi`` and ``database`` is set.

    ``command``: program and arguments, with ``{name}`` where an argument of a call goes. ``function``:
    ``module:function``, looked for in ``folder`` first, run by the interpreter ``python``, with the packages
    ``requirements``; ``module:*`` are all public functions of a module. ``openapi``: URL or path of
    an OpenAPI 3 document; ``url`` replaces its server, ``headers`` go with every request, ``allow`` and ``deny`` are
    patterns of operations. ``database``: ``postgresql://…``, or the path of a SQLite or DuckDB file, from ``folder``.
    ``parameters`` are JSON schemas by argument. ``timeout`` is in seconds a call, ``cost`` in US dollars. ``approval``
    says when somebody is asked before a call, ``group`` under which heading it is found.
    """

    name: str
    command: tuple[str, ...] = ()
    function: str = ""
    openapi: str = ""
    database: str = ""
    group: str = ""
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    requirements: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    read_only: bool = False
    timeout: float = TIMEOUT
    cost: float = 0.0
    approval: Rule = ""

    @property
    def kind(self) -> Kind:
        if self.command:
            return "command"
        if self.function:
            return "function"
        return "openapi" if self.openapi else "database"

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The arguments that a command has room for, in order."""
        return tuple(dict.fromkeys(name for part in self.command for name in _PLACEHOLDER.findall(part)))

    def offers(self, operation: str) -> bool:
        """Whether an operation of an API is to be a tool."""
        allowed = not self.allow or any(fnmatchcase(operation, pattern) for pattern in self.allow)
        return allowed and not any(fnmatchcase(operation, pattern) for pattern in self.deny)

    def to_json(self) -> dict[str, Any]:
        """What `parse` reads, secrets included."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


_TEXTS: Final = ("function", "openapi", "database", "group", "description", "folder", "python", "url")
_LISTS: Final = ("command", "allow", "deny", "requirements")
_PAIRS: Final = ("env", "headers")


def parse(item: Mapping[str, Any], at: str = "tool") -> ToolSpec:
    """A spec from JSON or YAML. Raises `InvalidRequest` that names the field under ``at``."""
    known = [each.name for each in fields(ToolSpec)]
    for key in item:
        if key not in known:
            raise InvalidRequest(f"{at} has no field '{key}'.{nearest(str(key), known)}", param=f"{at}.{key}")
    values: dict[str, Any] = {"name": item.get("name")}
    if not isinstance(values["name"], str) or not _NAME.fullmatch(values["name"]):
        raise _wrong(at, "name", "up to 64 letters, digits, '_', '-' and '.'")
    for key in _TEXTS:
        values[key] = item.get(key) or ""
        if not isinstance(values[key], str) or "\0" in values[key]:
            raise _wrong(at, key, "text")
    for key in _LISTS:
        value = item.get(key) or ()
        if not isinstance(value, list | tuple) or not all(
            isinstance(each, str) and "\0" not in each for each in value
        ):
            raise _wrong(at, key, "a list of texts")
        values[key] = tuple(value)
    for key in _PAIRS:
        value = item.get(key) or {}
        if not isinstance(value, Mapping) or any(isinstance(each, dict | list) for each in value.values()):
            raise _wrong(at, key, "a mapping of names to texts")
        values[key] = {str(name): str(each) for name, each in value.items()}
    for name, text in values["headers"].items():
        if is_unsafe(name) or is_unsafe(text):
            raise _wrong(at, "headers", "names and texts without control characters")
    values["parameters"] = item.get("parameters") or {}
    if not isinstance(values["parameters"], Mapping) or not all(
        isinstance(schema, Mapping) for schema in values["parameters"].values()
    ):
        raise _wrong(at, "parameters", "a mapping of arguments to JSON schemas")
    values["read_only"] = item.get("read_only", False)
    if not isinstance(values["read_only"], bool):
        raise _wrong(at, "read_only", "true or false")
    timeout = item.get("timeout", TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 86_400:
        raise _wrong(at, "timeout", "seconds above 0")
    cost = item.get("cost", 0)
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= 1e6:
        raise _wrong(at, "cost", "US dollars a call, 0 or more")
    spec = ToolSpec(
        **values, timeout=float(timeout), cost=float(cost), approval=rule_of(item.get("approval"), at)
    )
    _check(spec, at)
    return spec


def _check(spec: ToolSpec, at: str) -> None:
    given = (spec.command, spec.function, spec.openapi, spec.database)
    if sum(map(bool, given)) != 1:
        raise InvalidRequest(
            f"{at} needs one of 'command', 'function', 'openapi' and 'database'.", param=f"{at}.command"
        )
    if spec.group and not _NAME.fullmatch(spec.group):
        raise _wrong(at, "group", "up to 64 letters, digits, '_', '-' and '.'")
    if spec.function and not _FUNCTION.fullmatch(spec.function):
        raise _wrong(at, "function", "module:function, or module:* for all functions of a module")
    if spec.requirements and not spec.function:
        raise InvalidRequest(f"{at}.requirements are for a 'function'.", param=f"{at}.requirements")
    if not all(_REQUIREMENT.fullmatch(each) for each in spec.requirements):
        raise _wrong(at, "requirements", "a list such as ['pandas>=2', 'rich']")
    if spec.command and _PLACEHOLDER.search(spec.command[0]):
        raise InvalidRequest(
            f"{at}.command begins with an argument; the program itself must be fixed.", param=f"{at}.command"
        )
    unknown = set(spec.parameters) - set(spec.placeholders)
    if spec.command and unknown:
        raise InvalidRequest(
            f"{at}.parameters names '{sorted(unknown)[0]}', which is not in the command.",
            param=f"{at}.parameters",
        )


def _wrong(at: str, key: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{at}.{key} must be {expected}.", param=f"{at}.{key}")
