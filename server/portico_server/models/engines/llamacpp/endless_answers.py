"""Ends answers that do not end by themselves: a default limit of their length, and a guard against repetition. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from portico_server.core.servable import is_small

MAX_SMALL_ANSWER_TOKENS: Final = 2_048
MIN_ANSWER_TOKENS: Final = 4_096
MAX_ANSWER_TOKENS: Final = 16_384
"""Limits of an answer for which the request sets none. Only the context limits an answer below the minimum."""

CHECK_INTERVAL_TOKENS: Final = 32

MIN_REPEATED_TOKENS: Final = 256
MIN_REPEATED_MARK_TOKENS: Final = 512
MIN_REPEAT_COUNT: Final = 4
"""An answer repeats itself if its end has this many tokens, more if they have no letters, and consists of this many
equal parts. Refrains, empty rows of tables and lists of zeros are shorter.
"""

MAX_PERIOD_TOKENS: Final = 256
"""Maximum length of the part that is repeated."""

MAX_CHECKED_TOKENS: Final = MIN_REPEAT_COUNT * MAX_PERIOD_TOKENS

REPETITION: Final = "repetition"
"""The ``stop_reason`` of a choice that ended because it repeated itself."""


def default_max_tokens(parameters: int | None, context_length: int | None, *, has_thoughts: bool) -> int:
    """Return the maximum number of tokens of an answer for which neither request nor model set a limit: half the
    context, within limits by the model's size. A small model that reasons first has the limits of a large model.
    """
    half = (context_length or 2 * MAX_ANSWER_TOKENS) // 2
    if is_small(parameters) and not has_thoughts:
        return min(half, MAX_SMALL_ANSWER_TOKENS)
    return max(MIN_ANSWER_TOKENS, min(half, MAX_ANSWER_TOKENS))


class RepetitionGuard:
    """Reads the frames of an answer, and reports when its end only repeats the same tokens."""

    def __init__(self) -> None:
        self.tokens = 0
        """Number of tokens read."""
        self._last_tokens: list[str] = []
        self._has_ended = False

    def read(self, frames: bytes) -> bool:
        """Return whether the answer must end after ``frames``. The answer is checked in intervals, not after each
        token.
        """
        checked_count = self.tokens // CHECK_INTERVAL_TOKENS
        for token in self._read_tokens(frames):
            self.tokens += 1
            self._last_tokens.append(token)
        if self._has_ended or self.tokens // CHECK_INTERVAL_TOKENS == checked_count:
            return False
        del self._last_tokens[:-MAX_CHECKED_TOKENS]
        return repeats(self._last_tokens)

    def _read_tokens(self, frames: bytes) -> Iterator[str]:
        for line in frames.split(b"\n"):
            if not line.startswith(b"data: {"):
                continue
            for choice in orjson.loads(line[6:]).get("choices") or ():
                self._has_ended = self._has_ended or bool(choice.get("finish_reason"))
                if text := choice.get("text") or _text_of(choice.get("delta") or {}):
                    yield text


def _text_of(delta: Mapping[str, Any]) -> str:
    """Return the new text in a delta, whatever it belongs to: the answer, the reasoning or a call."""
    text = delta.get("content") or delta.get("reasoning_content")
    if text:
        return str(text)
    return "".join(
        (call.get("function") or {}).get("arguments") or "" for call in delta.get("tool_calls") or ()
    )


def repeats(tokens: list[str]) -> bool:
    """Return whether the end of ``tokens`` repeats the same part, see `MIN_REPEAT_COUNT`."""
    for period in range(1, MAX_PERIOD_TOKENS + 1):
        size = max(MIN_REPEATED_TOKENS, MIN_REPEAT_COUNT * period)
        if size > len(tokens):
            return False
        if not _has_period(tokens, period, size):
            continue
        if any(map(str.isalpha, "".join(tokens[-period:]))) or _has_period(
            tokens, period, MIN_REPEATED_MARK_TOKENS
        ):
            return True
    return False


def _has_period(tokens: list[str], period: int, size: int) -> bool:
    """Return whether each of the last ``size`` tokens but the first ``period`` equals the one a period before."""
    if size > len(tokens) or tokens[-1] != tokens[-1 - period]:
        return False
    return tokens[len(tokens) - size + period :] == tokens[-size:-period]
