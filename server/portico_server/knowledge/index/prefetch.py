"""Terms of texts that are about to be indexed, computed by the processes that read documents."""

from __future__ import annotations

import threading

MAX_TEXTS = 8_192
"""Texts of which the terms are kept …"""

MAX_TERM_CHARS = 16_000_000
"""… and the characters of these terms, at most."""

JoinedTerms = tuple[str, str]
"""Words and bigrams, each with spaces between."""


class TermPrefetch:
    """Terms by their text. What nobody has fetched in time makes room: it is worked out again. For any thread."""

    def __init__(self) -> None:
        self._terms: dict[str, JoinedTerms] = {}
        self._wide = 0
        self._lock = threading.Lock()

    def put(self, text: str, terms: JoinedTerms) -> None:
        """Keep the terms of a text for a while."""
        with self._lock:
            self._forget(text)
            self._terms[text] = terms
            self._wide += len(terms[0]) + len(terms[1])
            while len(self._terms) > MAX_TEXTS or self._wide > MAX_TERM_CHARS:
                self._forget(next(iter(self._terms)))

    def take(self, text: str) -> JoinedTerms | None:
        """The terms of a text, once."""
        with self._lock:
            return self._forget(text)

    def clear(self) -> None:
        """Forget what nobody has fetched."""
        with self._lock:
            self._terms.clear()
            self._wide = 0

    def _forget(self, text: str) -> JoinedTerms | None:
        terms = self._terms.pop(text, None)
        if terms is not None:
            self._wide -= len(terms[0]) + len(terms[1])
        return terms
