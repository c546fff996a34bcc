"""The requests of long-term memory, and how to read what comes back. See `portico._calls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from portico import _read as read
from portico._calls.call import Call
from portico.errors import InvalidRequest
from portico.values import Fact, FactSource


def facts_list(store: str | None, agent: str | None, session_id: str | None, limit: int) -> Call[list[Fact]]:
    given: dict[str, Any] = {"store": store, "agent": agent, "limit": limit}
    query = {key: value for key, value in given.items() if value is not None}
    if session_id is None:
        return Call("GET", "/api/facts", read.rows(fact), query=query)
    if store is not None or agent is not None:
        raise InvalidRequest("Ask for the facts of a session, or of a store and an agent.", param="session")
    path = f"/api/sessions/{quote(session_id, safe='')}/facts"
    return Call("GET", path, read.rows(fact), query=query)


def fact_change(fact_id: str, text: str) -> Call[Fact]:
    return Call("PATCH", _path(fact_id), fact, json={"text": text})


def fact_remove(fact_id: str) -> Call[None]:
    return Call("DELETE", _path(fact_id), read.nothing)


def fact(value: Any) -> Fact:
    source = value.get("source") if isinstance(value, Mapping) else None
    return read.value_of(Fact, value, source=read.value_of(FactSource, source or {}))


def _path(fact_id: str) -> str:
    if fact_id in ("", ".", ".."):
        raise InvalidRequest("Name a fact by its id.", param="id")
    return f"/api/facts/{quote(fact_id, safe='')}"
