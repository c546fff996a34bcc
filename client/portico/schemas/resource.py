"""Descriptions of resources: their paths and operations. `scripts/sdk` generates the plain methods of the SDK from
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Verb:
    """An operation of a resource: the SDK's method ``name`` sends ``route``, such as ``POST {schedule}/pause``.

    A route that begins with ``/`` is the whole path; any other route is relative to the path of the resource. The
    placeholders in braces become the first parameters of the method. The others are generated from the API document:
    required fields are positional, and all others are keywords, except those in ``positional``. ``aliases`` maps names
    of parameters in the SDK to names in the API.

    ``returns`` is a class of `portico.schemas`, a list or page of them, or ``None``; ``key`` is the member of the
    response to return. ``slow`` operations run a model. ``doc`` replaces the API's description.
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
    """A column of a listing: the heading, and the attribute that its cells show, such as ``file_counts.failed``.

    ``attribute`` defaults to the heading in lowercase. If ``width`` is set, texts are shortened to that many
    characters. ``kind`` defines how a value is printed:

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
    """A group of operations, which the SDK offers as a class named ``name``. ``nouns`` describes path parameters in
    error messages: ``{"schedule": "a schedule"}``. ``columns`` are the columns of its listing on the command line.
    """

    name: str
    path: str
    doc: str
    nouns: Mapping[str, str]
    verbs: tuple[Verb, ...]
    columns: tuple[Column, ...] = ()
