"""Holds back streamed text until it is certain that nothing in it must be masked or blocked."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from portico_server.core.detectors import Detection, find
from portico_server.core.look_alikes import last_read, without_unread
from portico_server.features.guards.call_guards import Guards
from portico_server.features.guards.guard import ContentGuard

MAX_HELD_CHARS: Final = 8_192
"""Maximum number of characters of an unfinished match, such as a long key, that are held back. Of a longer match, only
the first `_KEPT_CHARS` characters stay in memory. Longer runs of zero-width characters are dropped.
"""

MAX_FED_CHARS: Final = 16_384
"""Maximum number of characters searched at a time; longer pieces are searched in parts."""

_KEPT_CHARS: Final = 512
_CONTEXT_CHARS: Final = 96
_STEP_CHARS: Final = 16
"""Number of new characters after which the text is searched again."""


class TextBlocked(Exception):
    """A guard blocked a streamed text. ``sent`` is the text before the match, which may still be sent."""

    def __init__(self, guard: ContentGuard, kinds: Counter[str], sent_text: str) -> None:
        super().__init__(guard.name)
        self.guard = guard
        self.kinds = kinds
        self.sent = sent_text


class HeldText:
    """A streamed text and one guard. Holds back at most as many characters as the guard's reach, and any match that
    may still grow.
    """

    def __init__(self, guard: ContentGuard) -> None:
        self.guard = guard
        self.found: Counter[str] = Counter()
        self._context = ""
        """The end of the text that has passed."""
        self._pending_text = ""
        self._looked = 0
        self._open = False
        """True if the held text begins with a match whose label has already been sent."""

    def feed(self, text: str) -> str:
        """Add ``text`` and return the text that may pass now. Raises `TextBlocked`."""
        self._pending_text += text
        if (
            len(self._pending_text) < self.guard.reach + _STEP_CHARS
            or len(self._pending_text) < self._looked + _STEP_CHARS
        ):
            return ""
        passed_text = self._pass(final=False)
        self._looked = len(self._pending_text)
        return passed_text

    def end(self) -> str:
        """Return the remaining text. Raises `TextBlocked`."""
        return self._pass(final=True)

    def _pass(self, *, final: bool) -> str:
        text, begin = self._context + self._pending_text, len(self._context)
        hits = [hit for hit in find(text, self.guard.detectors) if hit.end > begin]
        limit = len(text) if final else max(begin, last_read(text, self.guard.reach))
        if not final:
            for hit in reversed(hits):
                if hit.end >= len(text) or hit.start < limit < hit.end:
                    limit = min(limit, max(begin, hit.start))  # further text may extend the match
        if limit == begin and not final and len(self._pending_text) > MAX_HELD_CHARS:
            if hits:
                return self._shorten(text, hits[0], begin)
            self._pending_text = without_unread(self._pending_text)
            return ""
        return self._pass_text(text, hits, begin, limit)

    def _pass_text(self, text: str, hits: list[Detection], begin: int, limit: int) -> str:
        parts, at = [], begin
        for hit in hits:
            if hit.start >= limit:
                break
            start = max(begin, hit.start)
            parts.append(text[at:start])
            at = hit.end
            if self._open and start == begin:
                continue  # the label of this match has already been sent
            self.found[hit.kind] += 1
            if self.guard.action == "block":
                raise TextBlocked(self.guard, self.found, "".join(parts))
            parts.append(self.guard.label(hit.kind) if self.guard.action == "mask" else text[start : hit.end])
        parts.append(text[at:limit])
        if limit > begin:
            self._open = False
        self._context = text[max(0, limit - _CONTEXT_CHARS) : limit]
        self._pending_text = text[limit:]
        self._looked = min(self._looked, len(self._pending_text))
        return "".join(parts)

    def _shorten(self, text: str, hit: Detection, begin: int) -> str:
        """Shorten a match that is too long to hold: send its label now and discard the rest of the match."""
        start = max(begin, hit.start)
        sent_text = "" if self._open else text[begin:start]
        if not self._open:
            self.found[hit.kind] += 1
            if self.guard.action == "block":
                raise TextBlocked(self.guard, self.found, sent_text)
            sent_text += self.guard.label(hit.kind) if self.guard.action == "mask" else ""
        if self.guard.action != "mask":
            sent_text += text[start : hit.end - _KEPT_CHARS]
        self._open = self.guard.action == "mask"
        self._context = ""
        self._pending_text = text[start : start + _KEPT_CHARS] + text[hit.end :]
        self._looked = 0
        return sent_text


class HeldTexts:
    """A streamed text that passes through several guards in sequence."""

    def __init__(self, guards: Guards, place: str) -> None:
        self._chain = [HeldText(guard) for guard in guards.guards if place in guard.where]
        self.place = place

    @property
    def found(self) -> list[tuple[ContentGuard, Counter[str]]]:
        """The number of detections of each kind, for each guard that detected something."""
        return [(text.guard, text.found) for text in self._chain if text.found]

    def feed(self, text: str) -> str:
        """See `HeldText.feed`. Raises `TextBlocked`."""
        for held_text in self._chain:
            text = held_text.feed(text)
        return text

    async def take(self, text: str) -> str:
        """Apply `feed` to a piece of any size without blocking the event loop. Raises `TextBlocked`."""
        if len(text) <= MAX_FED_CHARS:
            return self.feed(text)
        passed_texts = []
        for at in range(0, len(text), MAX_FED_CHARS):
            try:
                passed_texts.append(self.feed(text[at : at + MAX_FED_CHARS]))
            except TextBlocked as text_blocked:
                text_blocked.sent = "".join([*passed_texts, text_blocked.sent])
                raise
            await asyncio.sleep(0)
        return "".join(passed_texts)

    def end(self) -> str:
        """See `HeldText.end`. Raises `TextBlocked`."""
        remainder = ""
        for text in self._chain:
            remainder = text.feed(remainder) + text.end() if remainder else text.end()
        return remainder
