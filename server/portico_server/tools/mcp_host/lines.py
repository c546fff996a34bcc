"""What a program says on standard output, as text whose lines have an end.

The ``mcp`` package collects a line until it is whole, however long it is; the one thing of its reader that is ours to
choose is the encoding. So this is UTF-8 whose decoder ends a line that is too long and drops the rest of it: the
package reads a message that is no JSON, and goes on with the next.
"""

from __future__ import annotations

import codecs
from typing import Final

ENCODING: Final = "portico_utf8_lines"

LONGEST: Final = 16 * 1024 * 1024
"""Characters of a line."""


class _Decoder(codecs.IncrementalDecoder):
    """UTF-8 in pieces."""

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._text = codecs.getincrementaldecoder("utf-8")(errors)
        self._length = 0
        """Characters of the line that has begun."""

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]  # any buffer of bytes
        kept = []
        first, *more = self._text.decode(data, final).split("\n")
        kept.append(self._bounded(first))
        for line in more:
            kept.append("" if self._length > LONGEST else "\n")
            self._length = 0
            kept.append(self._bounded(line))
        return "".join(kept)

    def _bounded(self, piece: str) -> str:
        before, self._length = self._length, self._length + len(piece)
        if self._length <= LONGEST:
            return piece
        return piece[: LONGEST - before] + "\n" if before <= LONGEST else ""

    def reset(self) -> None:
        self._text.reset()
        self._length = 0


def _search(name: str) -> codecs.CodecInfo | None:
    if name != ENCODING:
        return None
    plain = codecs.lookup("utf-8")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        plain.streamreader,
        plain.streamwriter,
        plain.incrementalencoder,
        _Decoder,
        ENCODING,
    )


codecs.register(_search)
