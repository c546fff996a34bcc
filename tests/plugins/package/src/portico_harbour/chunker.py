"""A chunker for poems: one stanza per chunk."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico.plugin import ChunkingStrategy, Part, carve, cut

PORTICO_PLUGIN_API = 1


def chunk_stanzas(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return the blocks between empty lines; a larger stanza is split at a line, a comma or a space."""
    blocks: list[Part] = []
    for part in parts:
        for stanza in re.finditer(r"\S(?:.|\n(?!\s*\n))*", part.text):
            blocks += carve(part, cut(part.text, stanza.span(), size))
    return blocks


STANZA = ChunkingStrategy("stanza", chunk_stanzas, "A stanza each: poems", 500, 0)
