"""The operator's secrets of one model, tool or MCP server, and their removal from texts that may repeat them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

MIN_SECRET_CHARS: Final = 6
"""Minimum length of a secret that is removed; a shorter value would match ordinary words."""

MASK: Final = "***"

SECRET_NAME: Final = re.compile(r"(key|token|secret|passw(or)?d|authorization|credentials?)$", re.IGNORECASE)
"""The ending of the name of a variable or parameter that contains a secret."""

_SECRET_HEADER: Final = re.compile(
    r"auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE
)


class SecretValues:
    """Secret texts. `remove` replaces them with `MASK`, also where they are encoded for JSON or for an address."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[str]) -> None:
        secrets = {value for value in values if len(value) >= MIN_SECRET_CHARS}
        encoded = {form for value in secrets for form in (quote(value, safe=""), json.dumps(value)[1:-1])}
        self._values = sorted(secrets | encoded, key=len, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._values)

    def remove(self, value: Any) -> Any:
        """Return a text, a JSON value or an instance of a dataclass without the secrets."""
        if not self:
            return value
        if isinstance(value, str):
            for secret in self._values:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, Mapping):
            return {self.remove(name): self.remove(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.remove(item) for item in value]
        if isinstance(value, tuple):
            return tuple(self.remove(item) for item in value)
        if is_dataclass(value) and not isinstance(value, type):
            return replace(
                value, **{field.name: self.remove(getattr(value, field.name)) for field in fields(value)}
            )
        return value

    def remove_bytes(self, data: bytes) -> bytes:
        """Return a body without the secrets."""
        for secret in self._values:
            data = data.replace(secret.encode("utf-8", "surrogatepass"), MASK.encode())
        return data


def in_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets in headers, with and without their scheme (``Bearer``)."""
    for name, value in headers.items():
        if _SECRET_HEADER.search(name) is not None:
            yield value
            yield value.rpartition(" ")[2]


def _is_secret(name: str, value: str) -> bool:
    """Return whether a variable or parameter contains a secret. A key without digits can be the name of a column."""
    ending = SECRET_NAME.search(name)
    return ending is not None and (ending[1].lower() != "key" or any(map(str.isdigit, value)))


def in_variables(variables: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets in environment variables."""
    for name, value in variables.items():
        if _is_secret(name, value):
            yield value
        else:
            yield from in_address(value)


def in_address(address: str) -> Iterator[str]:
    """Yield the password of an address, and the values of its parameters whose names are those of secrets."""
    try:
        parts = urlsplit(address)
        if parts.scheme and parts.netloc:
            yield parts.password or ""
            for name, value in parse_qsl(parts.query):
                if _is_secret(name, value):
                    yield value
    except ValueError:
        return
