"""How a noun is addressed, and what can be done to it. `scripts/sdk` writes the plain methods of the SDK from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
class Resource:
    """A group of calls, which the SDK has as a class called ``name``. ``nouns`` says what a parameter in a path names,
    for errors: ``{"schedule": "a schedule"}``.
    """

    name: str
    path: str
    doc: str
    nouns: Mapping[str, str]
    verbs: tuple[Verb, ...]
