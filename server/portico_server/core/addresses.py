"""Web addresses in the arguments of tools.

A request tells the host everything that its address contains. An address that a model wrote after it has read foreign
data can therefore carry this data to any host. An address that the user wrote, or that what was read contains,
tells the host nothing new.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

MAX_ADDRESSES: Final = 10_000
"""Maximum number of addresses that are remembered; further ones count as new."""

SEEN_ADDRESSES: ContextVar[Container[str]] = ContextVar("seen_addresses", default=())
"""The addresses that the caller's model did not have to invent, in the form of `plain_address`."""

_ADDRESS: Final = re.compile(
    r"(?P<scheme>https?://)[^\s<>\"'`\\^{}|]{1,4096}"
    r"|(?<![\w.@-])(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,63}(?![\w.-])(?::\d{1,5})?(?:/[^\s<>\"'`\\^{}|]{0,4096})?",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"https?://", re.IGNORECASE)
_NOT_ASCII: Final = re.compile(r"[^\x21-\x7e]")
_PUNCTUATION: Final = ".,;:!?)]*_~"


def plain_address(text: str) -> str:
    """Return an address without scheme, fragment and final slash."""
    return _SCHEME.sub("", text.strip(), count=1).partition("#")[0].rstrip("/")


def addresses_in(text: str) -> set[str]:
    """Return the addresses in a text, in the form of `plain_address`. Where it is unclear which punctuation belongs to
    an address, all forms are returned.
    """
    addresses: set[str] = set()
    for match in _ADDRESS.finditer(text):
        for form in (match[0], _NOT_ASCII.split(match[0], maxsplit=1)[0]):
            shortest = len(form.rstrip(_PUNCTUATION))
            addresses |= {
                plain_address(form[:end]) for end in range(shortest, min(len(form), shortest + 8) + 1)
            }
    return addresses


def host_of(address: str) -> str:
    """Return the host of a plain address in lower case, with its port. It is empty for an address with a user."""
    host = re.split(r"[/?]", address, maxsplit=1)[0].lower()
    return "" if "@" in host else host


def requested_addresses(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the addresses in a tool's arguments, in the form of `plain_address`: all with a scheme, and the texts of
    arguments whose name says that they are addresses.
    """
    unread: list[tuple[str, Any]] = list(arguments.items())
    while unread:
        name, value = unread.pop()
        if isinstance(value, Mapping):
            unread += value.items()
        elif isinstance(value, list | tuple):
            unread += ((name, member) for member in value)
        elif isinstance(value, str):
            if "url" in name.lower() or "uri" in name.lower() or _SCHEME.match(value.lstrip()):
                yield plain_address(value)
            else:
                yield from (plain_address(match[0]) for match in _ADDRESS.finditer(value) if match["scheme"])


class SeenTexts:
    """The addresses in a conversation that the user wrote or that were read, before the model wrote
    them: a tool may only have repeated what the model wrote.

    ``texts``: the texts in their order, each with whether the model cannot have written it. ``outer``: the addresses
    seen before the conversation.
    """

    def __init__(self, texts: Iterable[tuple[str, bool]], outer: Container[str] = ()) -> None:
        self._texts = tuple(texts)
        self._outer = outer

    def __contains__(self, address: object) -> bool:
        assert isinstance(address, str)
        found = (
            is_read for text, is_read in self._texts if address in text and address in addresses_in(text)
        )
        return address in self._outer or next(found, False)


class SeenAddresses:
    """The same as `SeenTexts` for a conversation whose texts are not kept."""

    def __init__(self, outer: Container[str] = ()) -> None:
        self._outer = outer
        self._read_addresses: set[str] = set()
        self._written_addresses: set[str] = set()

    def __contains__(self, address: object) -> bool:
        return address in self._read_addresses or address in self._outer

    def read(self, text: str) -> None:
        """Add the addresses in a text that the model did not write."""
        if len(self._written_addresses) < MAX_ADDRESSES > len(self._read_addresses):
            self._read_addresses |= addresses_in(text) - self._written_addresses

    def wrote(self, text: str) -> None:
        """Note the addresses in a text that the model wrote."""
        if len(self._written_addresses) < MAX_ADDRESSES:
            self._written_addresses |= addresses_in(text) - self._read_addresses
