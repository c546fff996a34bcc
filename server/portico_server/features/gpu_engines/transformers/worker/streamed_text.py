"""Turns tokens into text as they arrive: whole characters, and nothing that could become a stop sequence. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT_CHARACTER = "\ufffd"
"""Placeholder for a character while some of its bytes are missing."""


class TextAssembler:
    """Decodes a growing list of tokens and returns the text of each token once.

    Tokenizers place spaces depending on the context, so a few earlier tokens are decoded with each new one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._context = 0
        self._read = 0

    def feed(self, token: int) -> str:
        """Return the text that ``token`` completes; empty while a character is incomplete."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._context : self._read])
        now = self._decode(self._tokens[self._context :])
        if len(now) <= len(before) or now.endswith(REPLACEMENT_CHARACTER):
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return now[len(before) :]

    def rest(self) -> str:
        """Return the remaining text at the end, even if its last character is incomplete."""
        before = self._decode(self._tokens[self._context : self._read])
        now = self._decode(self._tokens[self._context :])
        self._context = self._read = len(self._tokens)
        return now[len(before) :]


class StopFilter:
    """A filter that holds back text that could be the beginning of a stop sequence."""

    def __init__(self, signs: Sequence[str]) -> None:
        self._signs = tuple(signs)
        self._pending_text = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Return the text that can be sent, and whether a stop sequence has occurred; text after it is dropped."""
        self._pending_text += text
        positions = [at for sign in self._signs if (at := self._pending_text.find(sign)) >= 0]
        if positions:
            return self._pending_text[: min(positions)], True
        keep = max((_overlap(self._pending_text, sign) for sign in self._signs), default=0)
        ready = self._pending_text[: len(self._pending_text) - keep]
        self._pending_text = self._pending_text[len(ready) :]
        return ready, False

    def rest(self) -> str:
        """Return the text that was held back, at the end of the input."""
        held_text, self._pending_text = self._pending_text, ""
        return held_text


def _overlap(text: str, sign: str) -> int:
    """Return how many characters at the end of ``text`` are also the beginning of ``sign``."""
    return next(
        (size for size in range(min(len(text), len(sign) - 1), 0, -1) if text.endswith(sign[:size])), 0
    )
