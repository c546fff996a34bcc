"""Turns tokens into text as they come: whole characters, and nothing that may become a stop sequence. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT_CHARACTER = "\ufffd"
"""What a character looks like while some of its bytes are missing."""


class TextAssembler:
    """Decodes a growing list of tokens, each one's text once.

    Tokenizers put spaces by what comes before, so that a few earlier tokens are decoded with each new one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._context = 0
        self._read = 0

    def feed(self, token: int) -> str:
        """The text that ``token`` completes; empty while a character is not whole."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._context : self._read])
        now = self._decode(self._tokens[self._context :])
        if len(now) <= len(before) or now.endswith(REPLACEMENT_CHARACTER):
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return now[len(before) :]

    def rest(self) -> str:
        """What is left when nothing more comes, broken or not."""
        before = self._decode(self._tokens[self._context : self._read])
        now = self._decode(self._tokens[self._context :])
        self._context = self._read = len(self._tokens)
        return now[len(before) :]


class StopFilter:
    """Holds back text that may be the beginning of a stop sign."""

    def __init__(self, signs: Sequence[str]) -> None:
        self._signs = tuple(signs)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that may be said, and whether a sign has come; nothing after a sign is said."""
        self._held += text
        positions = [at for sign in self._signs if (at := self._held.find(sign)) >= 0]
        if positions:
            return self._held[: min(positions)], True
        keep = max((_overlap(self._held, sign) for sign in self._signs), default=0)
        ready = self._held[: len(self._held) - keep]
        self._held = self._held[len(ready) :]
        return ready, False

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        held_text, self._held = self._held, ""
        return held_text


def _overlap(text: str, sign: str) -> int:
    """How many characters at the end of ``text`` begin ``sign``."""
    return next(
        (size for size in range(min(len(text), len(sign) - 1), 0, -1) if text.endswith(sign[:size])), 0
    )
