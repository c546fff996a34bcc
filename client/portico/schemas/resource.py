"""Addresses and operations of a resource. `scripts/sdk` generates the plain methods of the SDK from this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Verb:
    """A call: the SDK's method ``name`` sends ``route``, such as ``POST {schedule}/pause``.

    A route that begins with ``/`` is the whole path; any other route is below the path of its resource. The
    placeholders in braces are the first parameters. The others come from the API document: required fields are
    positional, the rest are keywords, except those in ``positional``. ``aliases`` renames them: the SDK's name for the
    API's.

    ``returns`` is a class of `portico.schemas`, a list or page of them, or ``None``; ``key`` is the relevant member of
    the response. ``slow`` calls run a model. ``doc`` replaces the API's description.
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
    """A column of a listing: the heading, and the attribute shown in its cells, such as ``file_counts.failed``.

    Without an ``attribute``, it is the heading in lowercase. A ``width`` shortens texts to that many characters.
    ``kind`` defines how a value is printed:

    - ``bytes``: ``98.3 MB``; ``moment``: seconds since 1970 as local time; ``share``: ``12.5%``; ``number``: ``0.5``.
    - ``count``: empty for 0; ``size``: the number of items; ``names``: the name of each item.
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
    """A group of calls, which the SDK offers as a class named ``name``. ``nouns`` gives the meaning of path parameters
    for errors: ``{"schedule": "a schedule"}``. ``columns`` are those of its listing on the command line.
    """

    name: str
    path: str
    doc: str
    nouns: Mapping[str, str]
    verbs: tuple[Verb, ...]
    columns: tuple[Column, ...] = ()
