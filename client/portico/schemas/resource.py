"""How a noun is addressed, and what can be done to it. `scripts/sdk` writes the plain methods of the SDK from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Verb:
    """One call: the SDK's method ``name`` sends ``route``, such as ``POST {schedule}/pause``.

    A route that begins with ``/`` is the whole path; any other is below the path of its resource. The places in braces
    are the first parameters. The others come from the document of the API: what a request must have is positional, the
    rest are keywords, except those in ``positional``. ``aliases`` renames them: the SDK's word for the API's.

    ``returns`` is a class of `portico.schemas`, a list or page of them, or ``None``; ``key`` is the member of the
    answer that counts. A model is at work behind ``slow`` calls. ``doc`` replaces the API's description.
    """

    name: str
    route: str
    returns: Any = None
    key: str = ""
    slow: bool = False
    positional: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing: the heading, and the attribute that its cells have, such as ``file_counts.failed``.

    Without an ``attribute`` it is the heading in lower case. A ``width`` shortens texts to as many characters.
    ``kind`` says how a value is printed:

    - ``bytes``: ``98.3 MB``; ``moment``: seconds since 1970 as local time; ``share``: ``12.5%``; ``number``: ``0.5``.
    - ``count``: nothing for 0; ``size``: how many items there are; ``names``: the name of each item.
    - ``pairs``: ``name=value``; ``owner``: the key, or "shared".
    """

    heading: str
    attribute: str = ""
    kind: Literal[
        "text", "bytes", "count", "moment", "names", "number", "owner", "pairs", "share", "size"
    ] = "text"
    width: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """A group of calls, which the SDK has as a class called ``name``. ``nouns`` says what a parameter in a path names,
    for errors: ``{"schedule": "a schedule"}``. ``columns`` are those of its listing at the command line.
    """

    name: str
    path: str
    doc: str
    nouns: Mapping[str, str]
    verbs: tuple[Verb, ...]
    columns: tuple[Column, ...] = ()
