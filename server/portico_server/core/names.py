"""Names of models, stores, tools, apps and keys: the same rules for all names, checked once on entry.

Names are shown in terminals, pages and logs, used in URLs and scopes, and sent to models. Therefore a name must not
contain characters that any of these interpret: control characters, overrides of the writing direction, invisible
characters, and the brackets and backticks of markup.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from typing import Final

from portico_server.core.errors import InvalidRequest

_MARKUP: Final = frozenset("[]<>`")
_JOINERS: Final = frozenset("\u200c\u200d")
"""Invisible joiners that shape Persian and Indic words and connect emoji."""

_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks without a visible shape: a name that contains them looks empty or like another name."""

_NAME: Final = re.compile(r"[^\s:/\\](?:[^:/\\]{0,126}[^\s:/\\])?", re.DOTALL)


MAX_TOOL_NAME_CHARS: Final = 64
"""Maximum length of a tool's name that all models and clients accept, in characters."""

TOOL_NAME: Final = f"[A-Za-z0-9_-]{{1,{MAX_TOOL_NAME_CHARS}}}"
"""The pattern of tool names that all models and clients accept."""

HASH_LENGTH: Final = 6
"""Number of hexadecimal digits that make a changed name unique."""


def callable_name(name: str) -> str:
    """Return the name under which models and clients call the tool ``name``: the name itself if it matches `TOOL_NAME`,
    otherwise the name that `hashed_name` returns.
    """
    return name if re.fullmatch(TOOL_NAME, name) else hashed_name(name, f"tool/{name}")


def hashed_name(name: str, key: str, digits: int = HASH_LENGTH) -> str:
    """Return a name that matches `TOOL_NAME` and resembles ``name``, followed by ``digits`` of a hash of ``key``, which
    make it differ from other names. The result depends on nothing else.
    """
    plain = re.sub("[^A-Za-z0-9_-]+", "_", name).strip("_")[: MAX_TOOL_NAME_CHARS - digits - 1]
    return f"{plain}_{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:digits]}".lstrip("_")


def may_begin_with(name: str, beginning: str) -> bool:
    """Return whether a name may begin with ``beginning``, before characters that models or Python do not accept were
    changed.
    """
    return _letters(name).startswith(_letters(beginning)[: MAX_TOOL_NAME_CHARS // 2])


def _letters(text: str) -> str:
    return re.sub("[^A-Za-z0-9]+", "_", text).lstrip("_")


def has_controls(text: str) -> bool:
    """Return whether a text contains characters that are forbidden in names and titles: line breaks, control or
    invisible characters, or surrogates.
    """
    return any(
        character in _BLANKS
        or (unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS)
        for character in text
    )


def is_plain(name: str) -> bool:
    """Return whether a name contains no control characters, no invisible characters and no markup."""
    return not _MARKUP.intersection(name) and not has_controls(name)


def has_dots(name: str) -> bool:
    """Return whether a name, or one of its parts between slashes, consists only of dots, because URLs interpret such
    parts as folders.
    """
    return any(part != "" and not part.strip(".") for part in name.split("/"))


def is_name(name: str) -> bool:
    """Return whether a name is valid in URLs, scopes and lists.

    A valid name has 1 to 128 plain characters in any script, none of ``: / \\``, and no white space at the ends. It is
    neither only dots nor ``*``, which matches any name in scopes.
    """
    return _NAME.fullmatch(name) is not None and is_plain(name) and not has_dots(name) and name != "*"


def check_plain(name: str, subject: str, param: str = "name") -> None:
    """Raise `InvalidRequest` unless `is_plain` is true for the name; ``subject`` is what has the name, such as "a
    key".
    """
    if not is_plain(name) or has_dots(name):
        raise InvalidRequest(
            f"'{excerpt(name)}' cannot be the name of {subject}: it contains a control character, an invisible "
            "character, one of [ ] < > `, or only dots.",
            code="invalid_name",
            param=param,
        )


def check_name(name: str, subject: str, param: str = "name") -> None:
    """Raise `InvalidRequest` unless `is_name` is true for the name."""
    if not is_name(name):
        raise InvalidRequest(
            f"'{excerpt(name)}' cannot be the name of {subject}: expected 1 to 128 characters, without control "
            "characters, any of : / \\ [ ] < > `, or a space at either end, and neither only dots nor *.",
            code="invalid_name",
            param=param,
        )


def excerpt(name: str) -> str:
    """Return an excerpt of any name that is safe to show in an error."""
    return name[:80].encode("unicode_escape").decode("ascii") if has_controls(name) else name[:80]
