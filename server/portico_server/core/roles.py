"""Roles: what the claims of somebody who signs in stand for, in the words that keys have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.limits import KeyLimits

ClaimValue: TypeAlias = str | int | bool

_WORDS: Final = frozenset({"scope", "scp"})
"""Claims that hold several values in one text, separated by spaces (RFC 8693, 4.2)."""


@dataclass(frozen=True, slots=True)
class Role:
    """Whoever has one of ``values`` in a ``claim`` gets ``scopes``, within ``limits`` and ``filters``.

    Without a ``claim`` it is everybody's who signs in. ``issuer``: of this issuer alone.
    """

    name: str
    scopes: tuple[str, ...]
    claim: str = ""
    values: tuple[ClaimValue, ...] = ()
    issuer: str = ""
    limits: KeyLimits = KeyLimits()
    filters: Mapping[str, Any] = field(default_factory=dict)


def role_of(roles: Iterable[Role], issuer: str, claims: Mapping[str, Any]) -> Role | None:
    """The first of the ``roles`` that the claims of an ``issuer`` meet."""
    for role in roles:
        if role.issuer in ("", issuer) and (not role.claim or _holds(claims, role)):
            return role
    return None


def _holds(claims: Mapping[str, Any], role: Role) -> bool:
    claim_values = _values(claims, role.claim)
    return any(
        type(claim_value) is type(value) and claim_value == value
        for claim_value in claim_values
        for value in role.values
    )


def _values(claims: Mapping[str, Any], claim: str) -> Sequence[Any]:
    """What a claim holds, one by one. A name that no claim has leads into objects, as in ``realm_access.roles``."""
    value: Any = claims.get(claim)
    if claim not in claims:
        value = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, list):
        return value
    if isinstance(value, str) and claim in _WORDS:
        return value.split()
    return () if value is None else (value,)
