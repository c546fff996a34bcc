"""Names of models, stores, tools, apps and keys: one rule for all, checked once on entry.

A name is shown by terminals, pages and logs, put into addresses and scopes, and read out to models. So none holds a
character that one of them obeys: control characters, overrides of the writing direction, characters that nobody
sees, and the brackets and ticks of markup.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from portico_server.core.errors import InvalidRequest

_MARKUP: Final = frozenset("[]<>`")
_JOINERS: Final = frozenset("\u200c\u200d")
"""They shape Persian and Indic words and hold emoji together."""

_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that show nothing: a name of them looks empty, or like another one."""

_NAME: Final = re.compile(r"[^\s:/\\](?:[^:/\\]{0,126}[^\s:/\\])?", re.DOTALL)


def has_controls(text: str) -> bool:
    """Whether a text holds what no name and no title may: line breaks, control, unseen or half characters."""
    return any(
        character in _BLANKS
        or (unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS)
        for character in text
    )


def is_plain(name: str) -> bool:
    """Whether nobody takes the name for more than text: no controls, no markup."""
    return not _MARKUP.intersection(name) and not has_controls(name)


def has_dots(name: str) -> bool:
    """Whether a name, or a part of it between slashes, is dots alone: an address means another folder by it."""
    return any(part != "" and not part.strip(".") for part in name.split("/"))


def is_name(name: str) -> bool:
    """Whether addresses, scopes and lists can carry this name: 1 to 128 plain characters in any script, none of
    ``: / \\``, no white space at the ends, not dots alone, and not ``*``, which stands for any name in scopes.
    """
    return _NAME.fullmatch(name) is not None and is_plain(name) and not has_dots(name) and name != "*"


def check_plain(name: str, subject: str, param: str = "name") -> None:
    """Raise `InvalidRequest` unless `is_plain`; ``subject`` is whose name it is, such as "a key"."""
    if not is_plain(name) or has_dots(name):
        raise InvalidRequest(
            f"'{shown(name)}' cannot be the name of {subject}: it holds a control character, one that "
            "cannot be seen, one "
            "of [ ] < > `, or dots alone.",
            code="invalid_name",
            param=param,
        )


def check_name(name: str, subject: str, param: str = "name") -> None:
    """Raise `InvalidRequest` unless `is_name`."""
    if not is_name(name):
        raise InvalidRequest(
            f"'{shown(name)}' cannot be the name of {subject}: 1 to 128 characters were expected, without control "
            "characters and none of : / \\ [ ] < > `, no space at either end, and neither dots nor * alone.",
            code="invalid_name",
            param=param,
        )


def shown(name: str) -> str:
    """A name that may be anything, as an error shows it."""
    return name[:80].encode("unicode_escape").decode("ascii") if has_controls(name) else name[:80]
