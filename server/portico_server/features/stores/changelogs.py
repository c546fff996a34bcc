"""Passages of changelogs, archives and tests, which rank after the documentation unless a question asks about changes.

They repeat the words of every subject and explain none. Pure functions.
"""

from __future__ import annotations

import re

_CHANGELOG = re.compile(
    r"(?:^|[/_.-])(?:rel(?:ease)?[-_]?notes?|change[-_]?logs?|what[-_]?s[-_]?new|porting[-_]guides?|archives?)(?:[/_.-]|$)"
    r"|(?:^|/)(?:releases|tests?)/|(?:^|/)release[-_]v?\d",
    re.IGNORECASE,
)
_CHANGELOG_NAME = re.compile(r"(?:^|/)(?:CHANGES|HISTORY|NEWS)(?:\.\w+)?$")
"""Only in capitals: in lower case, the same words name a document about a history or about news."""

_ASKS = re.compile(
    r"\d+\.\d|\bv\d|(?<!\d)20\d\d(?!\d)"
    r"|\b(?:releases?d?|change(?:s|d|logs?)?|versions?|upgrad\w+|deprecated|removed|(?:new|added|fixed) in)\b"
    r"|版本|发布|發布|更新|升级|升級|变更|變更|新增|废弃|修复|修復",
    re.IGNORECASE,
)


def asks_about_changes(question: str) -> bool:
    """Return whether a question names a version, a date or a change, so that a changelog may answer it."""
    return bool(_ASKS.search(question))


def is_changelog(filename: str) -> bool:
    """Return whether a file with this path is a changelog, release notes, an archive or part of a test."""
    return bool(_CHANGELOG.search(filename) or _CHANGELOG_NAME.search(filename))
