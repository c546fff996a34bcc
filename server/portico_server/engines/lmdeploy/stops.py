"""Texts that end an answer, looked for in what comes: LMDeploy (0.18) knows only stops that are one token, and takes
any token for one that has the text somewhere in it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Passes text on up to the first of ``texts``; what may be the beginning of one is held back."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text]
        self._held = ""
        self.hit = False

    @property
    def holds(self) -> bool:
        """Whether text is held back."""
        return bool(self._held)

    def feed(self, text: str) -> str:
        """What may be shown now."""
        if self.hit:
            return ""
        seen = self._held + text
        ends = [place for stop in self._texts if (place := seen.find(stop)) >= 0]
        if ends:
            self.hit, self._held = True, ""
            return seen[: min(ends)]
        keep = max((_overlap(seen, stop) for stop in self._texts), default=0)
        self._held = seen[len(seen) - keep :]
        return seen[: len(seen) - keep]

    def rest(self) -> str:
        """What was held back, once no more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How much of the end of ``text`` is a beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
