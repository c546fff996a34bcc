"""Shared objects whose names are known before they are built."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from portico_server.core.dataclass import dataclass
from portico_server.core.servable import Kind, Servable


@dataclass(frozen=True, slots=True, eq=False)
class LateServables:
    """Shared objects of a kind that are built together, by the first lookup of one of them or the first list.

    ``build`` returns the objects of ``keys``. ``module`` is what it imports; a lookup that can wait imports it outside
    the event loop.
    """

    kind: Kind
    keys: frozenset[str]
    module: str
    build: Callable[[], Iterable[Servable]]
