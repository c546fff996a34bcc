"""Requests about keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico import _read as read
from portico._calls.call import Call, at, given, named
from portico.values import (
    Key,
    NewKey,
)


def keys_list() -> Call[list[Key]]:
    return Call("GET", "/api/keys", read.rows(read.key))


def key_add(
    name: str,
    scopes: Sequence[str],
    limits: Mapping[str, int] | None,
    filters: Mapping[str, Mapping[str, Any]] | None,
) -> Call[NewKey]:
    body = given(
        name=name,
        scopes=list(scopes),
        limits=dict(limits) if limits else None,
        filters={store: dict(item) for store, item in filters.items()} if filters else None,
    )
    return Call("POST", "/api/keys", read.new_key, json=body)


def key_revoke(key_id: str) -> Call[None]:
    return Call("DELETE", at("api", "keys", named(key_id, "a key")), read.nothing)
