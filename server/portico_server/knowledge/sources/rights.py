"""Who may read the files of a followed source: by the rights that the source itself has, or by the names of the files.

The readers of a file are sets of groups. A caller needs a group of each set, such as one for a folder and one for the
file. A file without sets is for every reader of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from portico_server.core.errors import InvalidRequest
from portico_server.core.names import is_plain

Readers: TypeAlias = list[list[str]]
Rights: TypeAlias = str | Mapping[str, Sequence[str]]

SOURCE: Final = "source"
"""The rights of a store whose source itself states who may read a file."""

EVERYBODY: Final = "*"
"""The group of all readers of a store."""

MAX_PREFIXES: Final = 1_000
MAX_GROUPS: Final = 1_000
MAX_CHARS: Final = 1_024
"""Maximum length, in characters, of a prefix or of a group."""


def check_rights(value: Any, *, has_rights: bool) -> Rights | None:
    """Return the rights of a store in the form of its row. ``has_rights`` states whether its source has rights of its
    own. Raises `InvalidRequest`.
    """
    if value == "off":
        return None
    if value == SOURCE:
        if not has_rights:
            raise InvalidRequest(
                "Only a folder of the daemon's machine has rights that a store can adopt. For another source, map the "
                'beginnings of file names to groups, such as {"finance/": ["finance"]}.',
                param="rights",
            )
        return SOURCE
    if not isinstance(value, Mapping) or not value:
        raise InvalidRequest(
            "'rights' must be 'source', 'off', or an object that maps the beginnings of file names to lists of "
            'groups, such as {"finance/": ["finance"], "": ["*"]}.',
            param="rights",
        )
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
