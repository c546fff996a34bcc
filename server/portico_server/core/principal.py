"""The caller of a request, and what the caller may do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, InvalidRequest
from portico_server.core.request import Filter

SCOPES_HELP = (
    "admin, chat, models:read, stores:{name}:read|write|manage, apps:{name}:call|deploy, tools:{name}:call, "
    "finetune; * matches any name"
)

_SCOPE = re.compile(
    r"admin|chat|finetune|models:read"
    r"|stores:[^:\s]+:(?:read|write|manage)"
    r"|apps:[^:\s]+:(?:call|deploy)"
    r"|tools:[^:\s]+:call"
)

# Maps permissions to the stronger permissions that include them: write includes read, and manage includes
# write.
_IMPLIED = {"read": ("write", "manage"), "write": ("manage",), "call": ("deploy",)}


def parse_scope(text: str) -> str:
    """Return the scope if it is valid; otherwise raise an `InvalidRequest` that lists the scopes."""
    if not _SCOPE.fullmatch(text):
        raise InvalidRequest(
            f"'{text}' is not a scope. Scopes are: {SCOPES_HELP}.", code="invalid_scope", param="scopes"
        )
    return text


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, identified by the id of its key (``local`` on a loopback daemon without keys, ``system`` for the
    daemon itself).

    ``filters`` limit the files that the caller may read in a store, as (id or name of the store, or ``*``; condition
    on the attributes of a file). ``groups`` are the caller's groups at the sources of stores. A principal derived from
    another principal keeps its filters and groups.
    """

    id: str
    scopes: frozenset[str]
    filters: tuple[tuple[str, Filter], ...] = ()
    groups: frozenset[str] = frozenset()

    @property
    def admin(self) -> bool:
        return "admin" in self.scopes

    def allows(self, scope: str) -> bool:
        """Return whether this caller has ``scope``: by name, by wildcard, by a stronger permission or as ``admin``."""
        if self.admin or scope in self.scopes:
            return True
        parts = scope.split(":")
        if len(parts) != 3:
            return False
        kind, name, action = parts
        actions = (action, *_IMPLIED.get(action, ()))
        return any(f"{kind}:{n}:{a}" in self.scopes for n in (name, "*") for a in actions)

    def allows_some(self, kind: str, action: str) -> bool:
        """Return whether this caller may do ``action`` with at least one object of ``kind``, whatever its name."""
        actions = (action, *_IMPLIED.get(action, ()))
        return self.admin or any(
            scope.startswith(f"{kind}:") and scope.rpartition(":")[2] in actions for scope in self.scopes
        )

    def sees(self, owner: str | None) -> bool:
        """Return whether this caller can see the objects of ``owner``. ``None`` means shared objects, which all
        callers can see.
        """
        return self.admin or owner is None or owner == self.id

    def owns(self, owner: str | None) -> bool:
        """Return whether the caller may read the definitions of ``owner``'s objects. Shared objects require an
        admin.
        """
        return self.admin or owner == self.id

    def condition(
        self,
        store_id: str,
        name: str,
        owner: str | None,
        *,
        has_rights: bool = False,
        facts_of: str | None = None,
    ) -> Filter | None:
        """Return the condition that the files of a store must meet for this caller; ``None`` permits all files.

        All entries for the store must be met together, and in a store with rights, the readers of the file. They do not
        apply to the caller's own stores, or to an admin. ``facts_of`` is the key whose facts the store holds, see
        `portico_server.db.stores.StoreRow`. Facts of other keys are hidden in the caller's own stores too.
        """
        has_facts_of_others = facts_of not in (None, self.id)
        if self.admin or not (self.filters or has_rights or has_facts_of_others):
            return None
        filters: tuple[Filter, ...] = ()
        if owner != self.id:
            filters = tuple(condition for store, condition in self.filters if store in (store_id, name, "*"))
            if has_rights:
                filters += (Filter("readers", value=self.groups),)
        if has_facts_of_others:
            filters += (Filter("facts", value=self.id),)
        if len(filters) < 2:
            return filters[0] if filters else None
        return Filter("and", filters=filters)

    def allows_any(self, scopes: Sequence[str]) -> bool:
        """Return whether this caller has one of the scopes."""
        return any(map(self.allows, scopes))

    def require(self, *scopes: str) -> None:
        """Raise a `Forbidden` that names the first scope, unless the caller has one of the scopes or none is given."""
        if scopes and not self.allows_any(scopes):
            raise Forbidden(
                f"This key lacks the scope '{scopes[0]}'. Ask the operator for a key with that scope."
            )


LOCAL = Principal("local", frozenset({"admin"}))
"""The caller of a loopback daemon without keys."""

SYSTEM = Principal("system", frozenset({"admin"}))
"""The daemon itself: start-up work, folder following, retention."""
