"""The operator's specification of a tool, from the configuration, the API or a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.features.tools.entry import (
    NAME,
    TIMEOUT,
    ToolEntry,
    is_timeout,
    pairs,
    repeat_of,
    rule_of,
    text,
    texts,
    wrong,
)
from portico_server.http.fetch.headers import is_unsafe

Kind: TypeAlias = Literal["command", "function", "openapi", "database"]

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:([A-Za-z_][\w.]*|\*)")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9/][^\x00-\x1f\x7f]{0,300}")
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class ToolSpec(ToolEntry):
    """Specification of an added tool. Exactly one of ``command``, ``function``, ``openapi`` and ``database`` is set.

    - ``command``: program and arguments, with ``{name}`` for an argument of a call.
    - ``function``: ``module:function``, searched in ``folder`` first, run by the interpreter ``python`` with the
      packages
      ``requirements``; ``module:*`` means all public functions of a module.
    - ``openapi``: URL or path of an OpenAPI 3 document. ``url`` replaces the document's server, every request includes
      ``headers``, and ``allow`` and ``deny`` are patterns of operations.
    - ``database``: ``postgresql://…``, or the path of a SQLite or DuckDB file, relative to ``folder``.

    ``parameters`` are JSON schemas, keyed by argument; ``cost`` is in US dollars per call; ``group`` is the heading of
    the tool in lists.
    """

    function: str = ""
    openapi: str = ""
    database: str = ""
    group: str = ""
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    python: str = ""
    read_only: bool = False
    cost: float = 0.0

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.url, self.openapi, self.database)

    @property
    def kind(self) -> Kind:
        if self.command:
            return "command"
        if self.function:
            return "function"
        return "openapi" if self.openapi else "database"

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The placeholders of a command, in order."""
        return tuple(dict.fromkeys(name for part in self.command for name in PLACEHOLDER.findall(part)))


_TEXTS: Final = ("function", "openapi", "database", "group", "description", "folder", "python", "url")
_LISTS: Final = ("command", "allow", "deny", "requirements")
_PAIRS: Final = ("env", "headers")


def parse(item: Mapping[str, Any], at: str = "tool") -> ToolSpec:
    """Parse a spec from JSON or YAML. Raises `InvalidRequest` that names the field under ``at``."""
    known_fields = [spec_field.name for spec_field in fields(ToolSpec)]
    for key in item:
        if key not in known_fields:
            raise InvalidRequest(
                f"{at} has no field '{key}'.{nearest(str(key), known_fields)}", param=f"{at}.{key}"
            )
    values: dict[str, Any] = {"name": item.get("name")}
    if not isinstance(values["name"], str) or not NAME.fullmatch(values["name"]):
        raise wrong(at, "name", "up to 64 letters, digits, '_', '-' and '.'")
    for key in _TEXTS:
        values[key] = text(item, key, at)
    for key in _LISTS:
        values[key] = texts(item, key, at)
    for key in _PAIRS:
        values[key] = pairs(item, key, at)
    for name, value in values["headers"].items():
        if is_unsafe(name) or is_unsafe(value):
            raise wrong(at, "headers", "names and texts without control characters")
    values["parameters"] = item.get("parameters") or {}
    if not isinstance(values["parameters"], Mapping) or not all(
        isinstance(schema, Mapping) for schema in values["parameters"].values()
    ):
        raise wrong(at, "parameters", "a mapping of arguments to JSON schemas")
    values["read_only"] = item.get("read_only", False)
    if not isinstance(values["read_only"], bool):
        raise wrong(at, "read_only", "true or false")
    timeout = item.get("timeout", TIMEOUT)
    if not is_timeout(timeout):
        raise wrong(at, "timeout", "seconds above 0")
    cost = item.get("cost", 0)
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= 1e6:
        raise wrong(at, "cost", "US dollars per call, 0 or more")
    spec = ToolSpec(
        **values,
        timeout=float(timeout),
        cost=float(cost),
        approval=rule_of(item.get("approval"), at),
        repeat=repeat_of(item.get("repeat"), at),
    )
    _check(spec, at)
    return spec


def _check(spec: ToolSpec, at: str) -> None:
    sources = (spec.command, spec.function, spec.openapi, spec.database)
    if sum(map(bool, sources)) != 1:
        raise InvalidRequest(
            f"{at} needs exactly one of 'command', 'function', 'openapi' and 'database'.",
            param=f"{at}.command",
        )
    if spec.group and not NAME.fullmatch(spec.group):
        raise wrong(at, "group", "up to 64 letters, digits, '_', '-' and '.'")
    if spec.function and not _FUNCTION.fullmatch(spec.function):
        raise wrong(at, "function", "module:function, or module:* for all functions of a module")
    if spec.requirements and not spec.function:
        raise InvalidRequest(f"{at}.requirements is valid only with 'function'.", param=f"{at}.requirements")
    if not all(_REQUIREMENT.fullmatch(requirement) for requirement in spec.requirements):
        raise wrong(at, "requirements", "a list such as ['pandas>=2', 'rich']")
    if spec.command and PLACEHOLDER.search(spec.command[0]):
        raise InvalidRequest(
            f"{at}.command begins with a placeholder; the program cannot be an argument.",
            param=f"{at}.command",
        )
    unknown = set(spec.parameters) - set(spec.placeholders)
    if spec.command and unknown:
        raise InvalidRequest(
            f"{at}.parameters names '{sorted(unknown)[0]}', which does not occur in the command.",
            param=f"{at}.parameters",
        )
