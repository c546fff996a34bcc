"""Roles: rules that give users permissions like those of keys, depending on the users' claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.limits import KeyLimits

ClaimValue: TypeAlias = str | int | bool

_WORDS: Final = frozenset({"scope", "scp"})
"""Claims that contain several values in one string, separated by spaces (RFC 8693, 4.2)."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role that gives ``scopes``, with ``limits`` and ``filters``, to users whose ``claim`` has one of ``values``.

    Without a ``claim``, the role applies to every user who signs in; with ``issuer``, only to users of this issuer.
    """

    name: str
    scopes: tuple[str, ...]
    claim: str = ""
    values: tuple[ClaimValue, ...] = ()
    issuer: str = ""
    limits: KeyLimits = KeyLimits()
    filters: Mapping[str, Any] = field(default_factory=dict)


def role_of(roles: Iterable[Role], issuer: str, claims: Mapping[str, Any]) -> Role | None:
    """Return the first of the ``roles`` that applies to these claims from this ``issuer``, or ``None``."""
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
    """Return the values of a claim. A dotted name that is not itself a claim is a path through objects, as in
    ``realm_access.roles``.
    """
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
