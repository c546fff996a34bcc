"""The spec of a third-party MCP server, from the configuration, the API or a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final
from urllib.parse import urlsplit

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

_LIMITS: Final = {"max_tokens": 100_000, "calls": 100_000}
"""Numeric fields of `SamplingSpec`, and their maximum values."""


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """The model that a server can ask, and limits: the tokens of an answer, and the calls per hour."""

    model: str
    max_tokens: int = 1_000
    calls: int = 60


@dataclass(frozen=True, slots=True)
class ServerSpec(ToolEntry):
    """A server: either a ``command`` to start, or a ``url`` to reach.

    ``prefix`` is put before the names of the server's tools. ``sampling`` allows the server to ask a model; ``None``
    forbids it.
    """

    prefix: str = ""
    sampling: SamplingSpec | None = None


def parse(item: Mapping[str, Any], at: str = "mcp") -> ServerSpec:
    """Parse a spec from JSON or YAML. Raise `InvalidRequest` that names the field under ``at``."""
    known_fields = [field.name for field in fields(ServerSpec)]
    for key in item:
        if key not in known_fields:
            raise InvalidRequest(
                f"{at} has no field '{key}'.{nearest(str(key), known_fields)}", param=f"{at}.{key}"
            )
    name = item.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{at}.name is {name!r}, but must be up to 64 letters, digits, '_', '-' and '.'.",
            param=f"{at}.name",
        )
    command = texts(item, "command", at)
    url = text(item, "url", at)
    if bool(command) == bool(url):
        raise InvalidRequest(
            f"{at} needs either a 'command', a list of the program and its arguments, or a 'url'.",
            param=f"{at}.command",
        )
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc):
        raise InvalidRequest(f"{at}.url is '{url[:200]}', but must be an http(s) URL.", param=f"{at}.url")
    prefix = item.get("prefix")
    timeout = item.get("timeout", TIMEOUT)
    if not is_timeout(timeout):
        raise InvalidRequest(
            f"{at}.timeout is {timeout!r}, but must be a number of seconds above 0.", param=f"{at}.timeout"
        )
    return ServerSpec(
        name=name,
        command=command,
        url=url,
        env=_pairs(item, "env", at),
        headers=_pairs(item, "headers", at),
        folder=text(item, "folder", at),
        allow=texts(item, "allow", at),
        deny=texts(item, "deny", at),
        prefix=f"{name}_" if prefix is None else text(item, "prefix", at),
        timeout=float(timeout),
        approval=rule_of(item.get("approval"), at),
        repeat=repeat_of(item.get("repeat"), at),
        sampling=_sampling(item.get("sampling"), f"{at}.sampling"),
    )


def _sampling(item: Any, at: str) -> SamplingSpec | None:
    if item is None:
        return None
    if not isinstance(item, Mapping):
        raise InvalidRequest(f"{at} must be a mapping with a 'model'.", param=at)
    for key in item:
        if key not in ("model", *_LIMITS):
            raise InvalidRequest(
                f"{at} has no field '{key}'.{nearest(str(key), ('model', *_LIMITS))}", param=f"{at}.{key}"
            )
    model = item.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest(
            f"{at}.model is missing: name the model that the server can ask.", param=f"{at}.model"
        )
    numbers: dict[str, int] = {}
    for key, limit in _LIMITS.items():
        value = item.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= limit:
            raise InvalidRequest(
                f"{at}.{key} is {value!r}, but must be a whole number from 1 to {limit}.", param=f"{at}.{key}"
            )
        numbers[key] = value
    return SamplingSpec(model, **numbers)


def _pairs(item: Mapping[str, Any], key: str, at: str) -> dict[str, str]:
    values = pairs(item, key, at)
    is_named = all(isinstance(name, str) and name for name in item.get(key) or ())
    if not is_named or any("\0" in f"{name}{value}" for name, value in values.items()):
        raise wrong(at, key, "a mapping of names to texts")
    return values
