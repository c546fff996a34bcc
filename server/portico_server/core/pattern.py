"""External regular expressions, searched in time linear in the text, because a search with Python's engine may take
hours.

No linear search exists for look-around and back references, so patterns with them are rejected. ``\\d``, ``\\w``,
``\\s`` and ``\\b`` mean ASCII, as in JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from portico_server.core.errors import InvalidRequest

MAX_PATTERN_LENGTH: Final = 1_000
"""Maximum length of a pattern, in characters."""

MAX_PROGRAM_SIZE: Final = 10_000
"""Maximum number of instructions in a compiled pattern."""

MAX_SEARCH_STEPS: Final = 200_000_000
"""Maximum product of a pattern's instructions and a text's bytes, which bounds the cost of a search: a few tenths of a
second.
"""

_UNICODE: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u([0-9A-Fa-f]{4})|(Z))")


class UnsupportedPattern(InvalidRequest):
    """The linear engine does not support the pattern, or the text is too long for it."""


class LinearPattern:
    """A compiled pattern."""

    __slots__ = ("_compiled", "_size", "_text")

    def __init__(self, text: str) -> None:
        """Compile a pattern. Raises `UnsupportedPattern`, with the reason, if it cannot be used."""
        if len(text) > MAX_PATTERN_LENGTH:
            raise _refusal(text, f"it is longer than {MAX_PATTERN_LENGTH:,} characters")
        import re2  # the library is imported only if a pattern is used

        options = re2.Options()
        options.log_errors = False
        try:
            self._compiled = re2.compile(_UNICODE.sub(_translated, text).encode(), options)
        except (re2.error, UnicodeEncodeError) as error:
            raise _refusal(text, _reason(error)) from error
        self._text = text
        self._size = int(self._compiled.programsize)
        if self._size > MAX_PROGRAM_SIZE:
            raise _refusal(text, "its repetitions make it too large")

    def found_in(self, text: str) -> bool:
        """Return whether the pattern occurs in a text. Raises `UnsupportedPattern` if the text is too long for the
        pattern.
        """
        data = text.encode("utf-8", "replace")
        self.require_affordable(data)
        return self._compiled.search(data) is not None

    def require_affordable(self, data: bytes) -> None:
        """Raise `UnsupportedPattern` if a UTF-8 text is too long to be searched for the pattern."""
        if self._size * len(data) > MAX_SEARCH_STEPS:
            raise UnsupportedPattern(
                f"A text of {len(data):,} bytes is too long to be searched for the pattern "
                f"{_excerpt(self._text)}: simplify the pattern or shorten the text.",
                code="pattern_too_costly",
            )

    def spans(self, data: bytes, group: int = 0) -> Iterator[tuple[int, int]]:
        """Yield the byte offsets (start, end) of a group's matches in a UTF-8 text, from left to right; empty matches
        are skipped.
        """
        for match in self._compiled.finditer(data):
            start, end = match.span(group)
            if end > start:
                yield start, end


@lru_cache(maxsize=128)
def linear(text: str) -> LinearPattern:
    """Return a compiled pattern from a cache. Raises `UnsupportedPattern`."""
    return LinearPattern(text)


def require_python_pattern(text: str, param: str, subject: str | None = None) -> None:
    """Raise `InvalidRequest` with ``param`` unless a pattern, which the sandbox or an engine will use, has valid
    Python syntax.

    ``subject`` names the pattern in the error; the default is ``param``.
    """
    subject = subject or f"'{param}'"
    if len(text) > MAX_PATTERN_LENGTH:
        raise InvalidRequest(
            f"{subject} is longer than {MAX_PATTERN_LENGTH:,} characters.",
            code="invalid_pattern",
            param=param,
        )
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidRequest(
            f"{subject} is not a regular expression: {str(error)[:200]}.", code="invalid_pattern", param=param
        ) from error


def _translated(match: re.Match[str]) -> str:
    """Translate an escape of Python or JavaScript, for a character or for the end of a text, to RE2."""
    return f"{match[1]}\\x{{{match[2]}}}" if match[2] else f"{match[1]}\\z"


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    reason = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    if "perl operator" in reason or "escape sequence: \\" in reason:
        return f"{reason}; look-around and back references are not supported"
    return reason


def _refusal(text: str, reason: str) -> UnsupportedPattern:
    return UnsupportedPattern(
        f"The pattern {_excerpt(text)} cannot be used: {reason}.", code="invalid_pattern"
    )


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
