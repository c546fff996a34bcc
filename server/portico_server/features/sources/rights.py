"""Who may read the files of a followed source: by the rights that the source itself has, or by the names of the files.

The readers of a file are sets of groups. A caller needs a group of each set, such as one for a folder and one for the
file. A file without sets is for every reader of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from portico.spelling import nearest
from portico_server.core.errors import InvalidRequest
from portico_server.core.names import is_plain

Readers: TypeAlias = list[list[str]]
GroupsByName: TypeAlias = Mapping[str, Sequence[str]]
Rights: TypeAlias = str | GroupsByName | Mapping[str, GroupsByName]

SOURCE: Final = "source"
"""The rights of a store whose source itself states who may read a file. An object with only this key and an object as
its value also maps the names of the source to groups: ``{"source": {"staff": ["employees"]}}``.
"""

EVERYBODY: Final = "*"
"""The group of all readers of a store."""

UNKNOWN_RIGHTS: Final = (
    "Nobody but an admin and the owner of the store sees these files. Let the daemon's login read the rights "
    "(WebDAV: the privilege DAV:read-acl), or set 'rights' to groups by the beginnings of file names."
)
"""What the unknown rights of files mean, and what to do."""

MAX_PREFIXES: Final = 1_000
MAX_GROUPS: Final = 1_000
MAX_CHARS: Final = 1_024
"""Maximum length, in characters, of a prefix, of a name of a source, or of a group."""


def check_rights(value: Any, *, has_rights: bool) -> Rights | None:
    """Return the rights of a store in the form of its row. ``has_rights`` states whether its source has rights of its
    own. Raises `InvalidRequest`.
    """
    if value == "off":
        return None
    is_mapped = isinstance(value, Mapping) and any(isinstance(groups, Mapping) for groups in value.values())
    if (value == SOURCE or is_mapped) and not has_rights:
        raise InvalidRequest(
            "Only a folder of the daemon's machine and a WebDAV folder have rights that a store can adopt. For another "
            'source, map the beginnings of file names to groups, such as {"finance/": ["finance"]}.',
            param="rights",
        )
    if value == SOURCE:
        return SOURCE
    if is_mapped:
        return {SOURCE: _check_names(value)}
    if not isinstance(value, Mapping) or not value:
        raise InvalidRequest(
            "'rights' must be 'source', 'off', or an object that maps the beginnings of file names to lists of "
            'groups, such as {"finance/": ["finance"], "": ["*"]}.',
            param="rights",
        )
    return _check_groups(value)


def _check_names(value: Mapping[str, Any]) -> GroupsByName:
    """Return the groups by the names of a source."""
    for field in value:
        if field != SOURCE:
            raise InvalidRequest(
                f"'{str(field)[:80]}' in 'rights' cannot occur with names of a source."
                f"{nearest(str(field), [SOURCE])} "
                'Expected only "source", such as {"source": {"staff": ["employees"]}}.',
                param="rights",
            )
    names = value[SOURCE]
    if not names or EVERYBODY in names:
        raise InvalidRequest(
            "'source' in 'rights' must map at least one name of a user or group to groups; '*' cannot be mapped.",
            param="rights",
        )
    return _check_groups(names)


def _check_groups(value: Mapping[str, Any]) -> GroupsByName:
    if len(value) > MAX_PREFIXES:
        raise InvalidRequest(
            f"'rights' has {len(value):,} entries; at most {MAX_PREFIXES:,} are allowed.", param="rights"
        )
    for prefix, groups in value.items():
        if not isinstance(groups, list | tuple) or not 1 <= len(groups) <= MAX_GROUPS:
            raise InvalidRequest(
                f"'rights' must give '{str(prefix)[:80]}' a list of 1 to {MAX_GROUPS:,} groups.",
                param="rights",
            )
        for text in (prefix, *groups):
            if not isinstance(text, str) or len(text) > MAX_CHARS or not is_plain(text or "-"):
                raise InvalidRequest(
                    f"'{str(text)[:80]}' in 'rights' must be a text of at most {MAX_CHARS:,} characters without "
                    "control characters.",
                    param="rights",
                )
    return {prefix: list(groups) for prefix, groups in value.items()}


def adopts_source(rights: Rights | None) -> bool:
    """Return whether a store adopts the rights that its source has."""
    return rights == SOURCE or source_names(rights) is not None


def source_names(rights: Rights | None) -> GroupsByName | None:
    """Return the groups by the names of the source, or ``None`` if the names are the groups."""
    names = rights.get(SOURCE) if isinstance(rights, Mapping) else None
    return names if isinstance(names, Mapping) else None


def prefixes(rights: Rights | None) -> GroupsByName | None:
    """Return the groups by the beginnings of file names, or ``None`` if these do not decide."""
    if not isinstance(rights, Mapping) or adopts_source(rights):
        return None
    return cast("GroupsByName", rights)


def to_groups(names: Sequence[str], groups_by_name: GroupsByName | None) -> Sequence[str]:
    """Return the groups of the names of a source. With a mapping, a name without an entry has none; everybody stays
    everybody.
    """
    if groups_by_name is None or EVERYBODY in names:
        return names
    return [group for name in names for group in groups_by_name.get(name, ())]


def readers_by_name(name: str, rights: Mapping[str, Sequence[str]]) -> Readers:
    """Return the readers of a file by the longest of the prefixes with which its name begins; without one, nobody."""
    prefix = deciding_prefix(name, rights)
    return readers([() if prefix is None else rights[prefix]])


def deciding_prefix(name: str, rights: Mapping[str, Sequence[str]]) -> str | None:
    """Return the longest of the prefixes with which the name of a file begins, or ``None`` if none does."""
    return max((prefix for prefix in rights if name.startswith(prefix)), key=len, default=None)


def readers(sets: Sequence[Sequence[str]]) -> Readers:
    """Return the sets of groups, each once. A set with `EVERYBODY` limits nobody and is left out."""
    distinct = {tuple(sorted(set(groups))) for groups in sets if EVERYBODY not in groups}
    return [list(groups) for groups in sorted(distinct)]
