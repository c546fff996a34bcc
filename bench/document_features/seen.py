"""Whether a text that a reader made of a document shows what a person sees in it."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator

from document_features.case import Feature

_BLOCK = re.compile(
    r"</(?:p|div|h[1-6]|li|dt|dd|pre|figcaption|caption|blockquote|summary)>|<br[^>]*>|<hr[^>]*>", re.I
)
_ROW = re.compile(r"<tr\b.*?</tr>", re.I | re.S)
_TAG = re.compile(r"<(?:/?[a-zA-Z][^<>]*|!--.*?--)>", re.S)
_CELL = re.compile(r"</t[dh]>", re.I)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_EMPHASIS = re.compile(r"\*{1,3}|~~|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)|`")
_FIRST_CJK = 0x2E80


def text_of_html(text: str) -> str:
    """Return the text of HTML that a reader printed, with a line for each block and row of a table."""

    def in_a_line(row: re.Match[str]) -> str:
        return "\n" + " ".join(_TAG.sub(" ", _CELL.sub(" | ", _BLOCK.sub(" ", row[0]))).split()) + "\n"

    previous = ""
    while previous != text:
        previous, text = text, _ROW.sub(in_a_line, text)
    return html.unescape(_TAG.sub("", _BLOCK.sub("\n", text)))


def lost(text: str, feature: Feature) -> Iterator[str]:
    """Yield what is wrong in the text: words that are missing or out of order, rows torn apart, hidden words."""
    lines = [_plain(line) for line in text.splitlines()]
    whole = " ".join(filter(None, lines))
    end = 0
    for words in feature.shown:
        found = _find(whole, _plain(words), end)
        if found < 0:
            yield f"{'out of order' if _find(whole, _plain(words), 0) >= 0 else 'missing'}: {words}"
        else:
            end = found
    for row in feature.rows:
        if not any(all(_find(line, _plain(words), 0) >= 0 for words in row) for line in lines):
            yield f"not in one row: {' | '.join(row)}"
    yield from (f"not hidden: {words}" for words in feature.hidden if _begins(whole, _plain(words)))


def _plain(text: str) -> str:
    """Return the text without marks of Markdown, soft hyphens and differences of white space."""
    text = unicodedata.normalize("NFC", html.unescape(text)).replace("\u00ad", "").replace("\u2011", "-")
    return " ".join(_EMPHASIS.sub("", _ESCAPE.sub(r"\1", text)).split())


def _find(text: str, words: str, start: int) -> int:
    """Return where the words end in the text, or -1. Latin words do not continue before or behind."""
    while (at := text.find(words, start)) >= 0:
        end = at + len(words)
        if not _continues(text, at) and not _continues(text, end):
            return end
        start = at + 1
    return -1


def _begins(text: str, words: str) -> bool:
    """Return whether the words, or words that begin like them, are in the text."""
    at = text.find(words)
    while at >= 0 and _continues(text, at):
        at = text.find(words, at + 1)
    return at >= 0


def _continues(text: str, at: int) -> bool:
    return 0 < at < len(text) and all(
        letter.isalnum() and ord(letter) < _FIRST_CJK for letter in text[at - 1 : at + 1]
    )
