"""Lines of Markdown as a reader sees them: without comments, ids of headings and tags of HTML. Code stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from portico_server.features.chunkers.document import SourceDocument, Unreadable

MAX_BLOCK_CHARS: Final = 256 * 1024
"""Maximum length of a table in HTML, and of a comment, in characters. A longer one is read as text."""

_TAGS = (
    "a|abbr|b|big|blockquote|br|center|cite|code|dd|del|details|div|dl|dt|em|figcaption|figure|font|h[1-6]|hr|i|img|ins|"
    "kbd|li|mark|ol|p|picture|pre|q|s|samp|small|source|span|strike|strong|sub|summary|sup|tt|u|ul|var|video|wbr"
)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ALTERNATIVE_TEXT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_CODE = re.compile(r"(``[^`]*``|`[^`]*`)")
_HEADING = re.compile(r"\s*<h([1-6])(?:\s[^<>]*)?>(.*)</h\1>\s*$", re.IGNORECASE)
_EMBEDDED_PICTURE = re.compile(r"\(data:[\w.+/-]{1,100};base64,[^()\s]*\)")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_COMMENT_REFERENCE = re.compile(r" {0,3}\[(?://|comment)\]:\s*(?:#|<>)\s*[(\"']")
_ADMONITION = re.compile(r"( *)(?:!!!|\?\?\?\+?)\s+([\w-]+)(?:[ \t]+\"([^\"]*)\")?\s*$")
_TABLE = re.compile(r"\s*<table\b", re.IGNORECASE)
_TABLE_END = re.compile(r"</table\s*>", re.IGNORECASE)
_MARK_BEGINNINGS = frozenset(" !?[")
"""First characters of the lines that may be notes or comments."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class ShownLines:
    """The lines of a text. A table in HTML becomes a line for each row; the tags of other elements are removed.

    After each line, ``line_count`` is the number of lines of the source that it stands for, and ``is_code`` says
    whether it belongs to a block of code.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._source = iter(lines)
        self.line_count = 1
        self.is_code = False

    def __iter__(self) -> Iterator[str]:
        fence = ""
        for line in self._source:
            mark = _FENCE.match(line) if "```" in line or "~~~" in line else None
            if mark is not None and not fence:
                fence = mark[1]
                self.is_code = True
            elif mark is not None and line.strip().startswith(fence) and not line.strip(" \t\n" + fence[0]):
                fence = ""
            elif not fence:
                self.is_code = False
                if "<" in line:
                    self.line_count = 1
                    yield self._without_html(line)
                    self.line_count = 1
                elif line[0] in _MARK_BEGINNINGS or line.endswith("\\\n") or "(data:" in line:
                    yield _without_marks(line)
                else:
                    yield line
                continue
            yield line

    def _without_html(self, line: str) -> str:
        if "<!--" in line:
            return self._without_comments(line)
        return self._table(line) if _TABLE.match(line) else _without_tags(line)

    def _without_comments(self, line: str) -> str:
        """Return a line without its comments, of which the last may end in a later line."""
        block = line
        while (begin := block.rfind("<!--")) > block.rfind("-->") and len(block) < MAX_BLOCK_CHARS:
            length = len(block)
            block = block[:begin] + self._collect(block[begin:], "-->")
            if len(block) == length:
                break
        end = block.rfind("-->") + len("-->")
        # Each comment before the last end has an end, so each character is read once.
        text = block if "-->" not in block else _COMMENT.sub("", block[:end]) + block[end:]
        return _without_tags(text) if text.strip() else "\n"

    def _table(self, line: str) -> str:
        from portico_server.features.readers import html  # takes 30 ms

        block = self._collect(line, "</table")
        end = _TABLE_END.search(block)
        if end is None:
            return block
        try:
            sections = html.sections(SourceDocument("table.html", block[: end.end()].encode()))
            text = "\n\n".join(text for _, text in sections)
        except Unreadable:
            text = ""
        return f"{text}{_without_tags(block[end.end() :]) or chr(10)}"

    def _collect(self, block: str, end: str) -> str:
        """Return a block up to the line with ``end``."""
        lines = [block]
        length = len(block)
        while end not in lines[-1].lower() and length < MAX_BLOCK_CHARS:
            line = next(self._source, None)
            if line is None:
                break
            lines.append(line)
            length += len(line)
            self.line_count += 1
        return "".join(lines)


def without_attributes(heading: str) -> str:
    """Return a heading without its id and classes, as in ``Fees {#fees .wide}``."""
    text, _, attributes = heading.rpartition("{")
    is_attributes = attributes.rstrip().endswith("}") and attributes[0] in "#.:" and text[-1:].isspace()
    return text.rstrip() if is_attributes else heading


def _without_marks(line: str) -> str:
    """Return a line without what only programs read."""
    if "(data:" in line:
        return _EMBEDDED_PICTURE.sub("()", line)
    if line.endswith("\\\n") and not line.endswith("\\\\\n"):
        return f"{line[:-2]}\n"
    begin = line.lstrip()[:3]
    if begin in ("!!!", "???") and (note := _ADMONITION.match(line)) is not None:
        return f"{note[1]}{note[3] or note[2].capitalize()}:\n"
    return "\n" if begin.startswith("[") and _COMMENT_REFERENCE.match(line) else line


def _without_tags(line: str) -> str:
    """Return a line without tags, except within code; a heading becomes one of Markdown."""
    if (heading := _HEADING.match(line)) is not None:
        return f"{'#' * int(heading[1])} {_without_tags(heading[2]).strip()}\n"
    pieces = _CODE.split(line)
    pieces[::2] = (_TAG.sub(_text_of_tag, piece) for piece in pieces[::2])
    text = _without_marks("".join(pieces))
    return text if text.strip() or not line.strip() else "\n"


def _text_of_tag(tag: re.Match[str]) -> str:
    name = tag[0].lower()
    if name.startswith("<br"):
        return " "
    words = _ALTERNATIVE_TEXT.search(tag[0]) if name.startswith("<img") else None
    return "" if words is None else words[1] or words[2] or ""
