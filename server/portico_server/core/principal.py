"""Who is calling, and what that caller may do."""

from __future__ import annotations

import re

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, InvalidRequest
from portico_server.core.request import Filter

SCOPES_HELP = (
    "admin, chat, models:read, stores:{name}:read|write|manage, apps:{name}:call|deploy, "
    "tools:{name}:call, finetune; * stands for any name"
)

_SCOPE = re.compile(
    r"admin|chat|finetune|models:read"
    r"|stores:[^:\s]+:(?:read|write|manage)"
    r"|apps:[^:\s]+:(?:call|deploy)"
    r"|tools:[^:\s]+:call"
)

# A right that holds another: who may manage may write, who may write may read.
_IMPLIED = {"read": ("write", "manage"), "write": ("manage",), "call": ("deploy",)}


def parse_scope(text: str) -> str:
    """The scope itself, if it is one of those that exist; otherwise `InvalidRequest` that lists them."""
    if not _SCOPE.fullmatch(text):
        raise InvalidRequest(
            f"'{text}' is not a scope. Scopes are: {SCOPES_HELP}.", code="invalid_scope", param="scopes"
        )
    return text


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: the id of its key (``local`` on a loopback daemon without keys, ``system`` for the daemon itself).

    ``filters``: which files of a store it may read, as (id or name of the store, or ``*``; condition on the attributes
    of a file). A principal that is made of another one keeps them.
    """

    id: str
    scopes: frozenset[str]
    filters: tuple[tuple[str, Filter], ...] = ()

    @property
    def admin(self) -> bool:
        return "admin" in self.scopes

    def allows(self, scope: str) -> bool:
        """Whether this caller holds ``scope``, by name, by wildcard, by a stronger right or as ``admin``."""
        if self.admin or scope in self.scopes:
            return True
        parts = scope.split(":")
        if len(parts) != 3:
            return False
        kind, name, action = parts
        actions = (action, *_IMPLIED.get(action, ()))
        return any(f"{kind}:{n}:{a}" in self.scopes for n in (name, "*") for a in actions)

    def allows_some(self, kind: str, action: str) -> bool:
        """Whether this caller may do ``action`` with at least one ``kind`` of thing, whatever its name."""
        actions = (action, *_IMPLIED.get(action, ()))
        return self.admin or any(
            scope.startswith(f"{kind}:") and scope.rpartition(":")[2] in actions for scope in self.scopes
        )

    def sees(self, owner: str | None) -> bool:
        """Whether things of ``owner`` exist for this caller. ``None`` means the daemon's own, seen by all."""
        return self.admin or owner is None or owner == self.id

    def owns(self, owner: str | None) -> bool:
        """Whether the caller may read what things of ``owner`` are made of. What is the daemon's own is an admin's."""
        return self.admin or owner == self.id

    def condition(self, store_id: str, name: str, owner: str | None) -> Filter | None:
        """What a file of a store must meet for this caller to read it; ``None``: all of them are permitted.

        All entries that name the store hold together. What the caller owns is its own, and an admin sees everything.
        """
        if self.admin or not self.filters or owner == self.id:
            return None
        filters = tuple(condition for store, condition in self.filters if store in (store_id, name, "*"))
        if len(filters) < 2:
            return filters[0] if filters else None
        return Filter("and", filters=filters)

    def require(self, scope: str) -> None:
        """Raise `Forbidden` that names the missing scope."""
        if not self.allows(scope):
            raise Forbidden(f"This key lacks the scope '{scope}'. Ask the operator for a key that has it.")


LOCAL = Principal("local", frozenset({"admin"}))
"""Whoever reaches a loopback daemon that has no keys."""

SYSTEM = Principal("system", frozenset({"admin"}))
"""The daemon itself: start-up work, folder following, retention."""
