"""Chunkers that fail on every document."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from portico.plugin import ChunkingStrategy, Part

PORTICO_PLUGIN_API = 1


def _raise(_parts: Iterable[Part], _size: int, _overlap: int) -> list[Part]:
    raise RuntimeError("the password is swordfish")


def _exit(_parts: Iterable[Part], _size: int, _overlap: int) -> list[Part]:
    raise SystemExit(3)


def _repeat(parts: Iterable[Part], _size: int, _overlap: int) -> Iterator[Part]:
    yield from itertools.cycle(parts)


def _count(_parts: Iterable[Part], _size: int, _overlap: int) -> Any:
    return [1, 2, 3]


def _nothing(_parts: Iterable[Part], _size: int, _overlap: int) -> Any:
    return None


RAISES = ChunkingStrategy("chunker-raises", _raise, "Raises.")
EXITS = ChunkingStrategy("chunker-exits", _exit, "Exits.")
ENDLESS = ChunkingStrategy("chunker-endless", _repeat, "Never ends.")  # type: ignore[arg-type]
NUMBERS = ChunkingStrategy("chunker-numbers", _count, "Returns numbers.")
NONE = ChunkingStrategy("chunker-none", _nothing, "Returns nothing.")
