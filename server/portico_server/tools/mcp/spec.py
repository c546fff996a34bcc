"""What an operator says of another MCP server, from the configuration, the API or a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.tools.approval import Rule, rule_of

TIMEOUT: Final = 60.0
"""Seconds that a call may take unless the server's entry says otherwise."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FIELDS: Final = (
    "name",
    "command",
    "url",
    "env",
    "headers",
    "folder",
    "allow",
    "deny",
    "prefix",
    "timeout",
    "approval",
    "sampling",
)

_LIMITS: Final = {"max_tokens": 100_000, "calls": 100_000}
"""Fields of `SamplingSpec` that are numbers, and the most that each may be."""


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """What a server may ask of a model: of which one, how many tokens an answer has, how many calls an hour."""

    model: str
    max_tokens: int = 1_000
    calls: int = 60


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """Either a ``command`` to start, or a ``url`` to reach.

    ``env`` is what the process gets besides PATH, HOME and the like; ``headers`` are sent with every request.
    ``allow`` and ``deny`` are patterns of tool names (``read_*``); ``prefix`` goes before the names of its tools.
    ``timeout`` is in seconds a call. ``approval`` says when somebody is asked before a call. ``sampling``: that it may
    ask a model; ``None``: that it may not.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    prefix: str = ""
    timeout: float = TIMEOUT
    approval: Rule = ""
    sampling: SamplingSpec | None = None

    def offers(self, tool: str) -> bool:
        """Whether a tool of this name is to be seen here."""
        allowed = not self.allow or any(fnmatchcase(tool, pattern) for pattern in self.allow)
        return allowed and not any(fnmatchcase(tool, pattern) for pattern in self.deny)

    def to_json(self) -> dict[str, Any]:
        """What `parse` reads, secrets included."""
        return {
            "name": self.name,
            "command": list(self.command),
            "url": self.url,
            "env": dict(self.env),
            "headers": dict(self.headers),
            "folder": self.folder,
            "allow": list(self.allow),
            "deny": list(self.deny),
            "prefix": self.prefix,
            "timeout": self.timeout,
            "approval": self.approval,
            "sampling": None if self.sampling is None else asdict(self.sampling),
        }


def parse(item: Mapping[str, Any], at: str = "mcp") -> ServerSpec:
    """A spec from JSON or YAML. Raises `InvalidRequest` that names the field under ``at``."""
    for key in item:
        if key not in _FIELDS:
            raise InvalidRequest(
                f"{at} has no field '{key}'.{nearest(str(key), _FIELDS)}", param=f"{at}.{key}"
            )
    name = item.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{at}.name is {name!r}, but must be up to 64 letters, digits, '_', '-' and '.'.",
            param=f"{at}.name",
        )
    command = _strings(item, "command", at)
    url = _text(item, "url", at)
    if bool(command) == bool(url):
        raise InvalidRequest(
            f"{at} needs either a 'command', a list of the program and its arguments, or a 'url'.",
            param=f"{at}.command",
        )
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc):
        raise InvalidRequest(f"{at}.url is '{url[:200]}', but must be an http(s) URL.", param=f"{at}.url")
    prefix = item.get("prefix")
    timeout = item.get("timeout", TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 86_400:
        raise InvalidRequest(
            f"{at}.timeout is {timeout!r}, but must be seconds above 0.", param=f"{at}.timeout"
        )
    return ServerSpec(
        name=name,
        command=command,
        url=url,
        env=_pairs(item, "env", at),
        headers=_pairs(item, "headers", at),
        folder=_text(item, "folder", at),
        allow=_strings(item, "allow", at),
        deny=_strings(item, "deny", at),
        prefix=f"{name}_" if prefix is None else _text(item, "prefix", at),
        timeout=float(timeout),
        approval=rule_of(item.get("approval"), at),
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
        raise InvalidRequest(f"{at}.model is missing: name the model that may be asked.", param=f"{at}.model")
    numbers: dict[str, int] = {}
    for key, most in _LIMITS.items():
        value = item.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise InvalidRequest(
                f"{at}.{key} is {value!r}, but must be a whole number from 1 to {most}.", param=f"{at}.{key}"
            )
        numbers[key] = value
    return SamplingSpec(model, **numbers)


def _text(item: Mapping[str, Any], key: str, at: str) -> str:
    value = item.get(key) or ""
    if not isinstance(value, str) or "\0" in value:
        raise InvalidRequest(f"{at}.{key} must be text.", param=f"{at}.{key}")
    return value


def _strings(item: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
    value = item.get(key) or ()
    if not isinstance(value, list | tuple) or any(
        not isinstance(each, str) or "\0" in each for each in value
    ):
        raise InvalidRequest(f"{at}.{key} must be a list of texts.", param=f"{at}.{key}")
    return tuple(value)


def _pairs(item: Mapping[str, Any], key: str, at: str) -> dict[str, str]:
    value = item.get(key) or {}
    if not isinstance(value, Mapping) or any(
        not isinstance(name, str) or not name or isinstance(each, dict | list) or "\0" in f"{name}{each}"
        for name, each in value.items()
    ):
        raise InvalidRequest(f"{at}.{key} must be a mapping of names to texts.", param=f"{at}.{key}")
    return {name: str(each) for name, each in value.items()}
