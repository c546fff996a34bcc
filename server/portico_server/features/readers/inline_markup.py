"""Lines of reStructuredText and AsciiDoc as a reader sees them: cross-references by their text, and no lines that only
direct the formatter. Code stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_ROLE = re.compile(r":[a-zA-Z][\w.:+-]{0,40}:`(?P<text>[^`\n]{1,400})`")
_ROLE_TARGET = re.compile(r"(?P<title>.+?)\s*<[^<>]+>")
_LITERAL = re.compile(r"(``[^\n]{1,400}?``(?!`))")

_REFERENCE = re.compile(
    r"linkgit:(?P<page>[\w./-]{1,200})\[(?P<section>\d?\w{0,3})\]"
    r"|(?:link|xref):(?P<target>[^\s\[\]]{1,400})\[(?P<label>[^\[\]\n]{0,400})\]"
    r"|<<(?P<anchor>[^\s<>,][^<>,\n]{0,200})(?:,[ ]*(?P<title>[^<>\n]{1,400}))?>>"
)
_ATTRIBUTE = re.compile(r"\{([a-z]{2,10})\}")
_CHARACTERS: Final[Mapping[str, str]] = {
    "amp": "&",
    "apos": "'",
    "asterisk": "*",
    "backslash": "\\",
    "backtick": "`",
    "caret": "^",
    "empty": "",
    "endsb": "]",
    "gt": ">",
    "hash": "#",
    "litdd": "--",
    "lt": "<",
    "nbsp": " ",
    "plus": "+",
    "sp": " ",
    "startsb": "[",
    "tilde": "~",
    "vbar": "|",
}
"""Attributes of AsciiDoc that stand for characters, and ``litdd`` of git's manuals."""

_FORMATTER_LINE = re.compile(r"(?:ifdef|ifndef|ifeval|endif)::\S*\[.*\]\s*$|//(?!/).*$|\+\s*$")
"""A condition, a comment or the mark that continues a list item."""


def shown_line(line: str, suffix: str) -> str:
    """Return a line of a text with this suffix as it is shown; only a line break for a line that is not shown."""
    if suffix == "rst":
        return _with_role_texts(line) if ":`" in line else line
    if suffix != "adoc":
        return line
    if _FORMATTER_LINE.match(line):
        return "\n"
    if "[" in line or "<<" in line:
        line = _REFERENCE.sub(_reference_text, line)
    if "{" in line:
        line = _ATTRIBUTE.sub(lambda match: _CHARACTERS.get(match[1], match[0]), line)
    return line


def _with_role_texts(line: str) -> str:
    """Return a line with the texts of its roles, such as ``:ref:`text <label>```; literals stay."""
    pieces = _LITERAL.split(line)
    return "".join(
        piece if number % 2 else _ROLE.sub(_role_text, piece) for number, piece in enumerate(pieces)
    )


def _role_text(match: re.Match[str]) -> str:
    with_target = _ROLE_TARGET.fullmatch(match["text"])
    return with_target["title"] if with_target else match["text"].lstrip("~!")


def _reference_text(match: re.Match[str]) -> str:
    if match["page"]:
        return f"{match['page']}({match['section']})" if match["section"] else match["page"]
    return str(match["label"] or match["target"] or match["title"] or match["anchor"])
