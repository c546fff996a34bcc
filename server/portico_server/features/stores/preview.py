"""Shows how a document would be chunked before anything is indexed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from portico.schemas.chunks import Chunk, Cut
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.features.chunkers.chunkers import check_chunking, is_late, needs_model
from portico_server.features.chunkers.document import Part, Unreadable
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.stores.generated import ChunkWriter, chunk_prompt
from portico_server.features.stores.model_check import check_model
from portico_server.features.stores.semantic_chunks import semantic_chunks
from portico_server.runs.runner import Runner

DEFAULT_EMBEDDING_MODEL = "default-embedding"
"""The model that finds topic changes if the strategy names no model."""

MAX_PREVIEW_PIECES = 8
"""Maximum number of pieces in a preview for which a chat model writes chunks, one call per piece."""

MAX_PREVIEW_SENTENCES = 5_000
"""Maximum number of sentences in a preview in which topic changes are found. Later sentences are left out."""

MAX_PREVIEW_STRATEGIES = 10
"""Maximum number of strategies in a preview."""


class Previews:
    """Previews chunks. Documents are read with the workers of the stores, within the same limits. Models are called
    with the caller's rights.
    """

    def __init__(self, readers: ReaderPool, runner: Runner, registry: Registry) -> None:
        self._readers = readers
        self._runner = runner
        self._registry = registry

    async def cut(
        self,
        path: Path,
        filename: str,
        strategies: Sequence[Mapping[str, Any]],
        caller: Principal,
        *,
        limit: int,
    ) -> list[Cut]:
        """Return the first ``limit`` chunks of a file for each of the validated ``strategies``.

        If a chat model writes the chunks, it does so only for the first `MAX_PREVIEW_PIECES` pieces, and ``total`` is
        the number of pieces. Raises `InvalidRequest` if the file cannot be read, and the errors of models that create
        chunks.
        """
        for strategy in strategies:
            if _asks(strategy):
                await check_model(strategy, DEFAULT_EMBEDDING_MODEL, self._registry, caller)
        return [
            await self._generated(path, filename, strategy, caller, limit)
            if _asks(strategy)
            else _cut(strategy, *await self._pieces(path, filename, strategy, limit))
            for strategy in strategies
        ]

    async def _generated(
        self, path: Path, filename: str, strategy: Mapping[str, Any], caller: Principal, limit: int
    ) -> Cut:
        """Return the chunks of a file by a strategy that calls a model."""
        form = chunk_prompt(strategy)
        pieces, piece_lengths = await self._pieces(
            path, filename, strategy, MAX_PREVIEW_SENTENCES if form is None else MAX_PREVIEW_PIECES
        )

        async def work(context: Context) -> list[Part]:
            if form is None:
                model = strategy["model"] or DEFAULT_EMBEDDING_MODEL
                return await semantic_chunks(pieces, strategy["size"], strategy["percentile"], model, context)
            parts: list[Part] = []
            writing = ChunkWriter(pieces, filename, form, strategy["model"])
            async with aclosing(writing.chunks(context)) as runs:
                async for _, chunks in runs:
                    parts.extend(chunks)
            return parts

        run = await self._runner.begin("chunk", filename, caller, work)
        chunks: list[Part] = await self._runner.wait(run)
        cut = _cut(strategy, chunks[:limit], [len(part.text) for part in chunks])
        return cut if form is None else replace(cut, total=max(len(piece_lengths), cut.total))

    async def _pieces(
        self, path: Path, filename: str, strategy: Mapping[str, Any], limit: int
    ) -> tuple[list[Part], list[int]]:
        """Return the first ``limit`` chunks of a file, and the lengths of all chunks."""
        parts: list[Part] = []
        lengths: list[int] = []
        try:
            async with aclosing(self._readers.read(path, filename, strategy)) as runs:
                async for run in runs:
                    parts.extend(run[: limit - len(parts)])
                    lengths += [len(chunk.text) for chunk in run]
        except Unreadable as error:
            raise InvalidRequest(f"{filename} {error.message}", code=error.code, param="file") from error
        return parts, lengths


def _cut(strategy: Mapping[str, Any], chunks: Sequence[Part], lengths: Sequence[int]) -> Cut:
    return Cut(
        strategy=dict(strategy),
        total=len(lengths),
        shortest=min(lengths, default=0),
        longest=max(lengths, default=0),
        chunks=tuple(Chunk(part.text, part.place) for part in chunks),
    )


def _asks(strategy: Mapping[str, Any]) -> bool:
    """Return whether a strategy calls a model to determine the chunks. For ``late``, a model computes only the vectors
    of the chunks.
    """
    return needs_model(strategy) and not is_late(strategy)


def check_strategies(value: Any) -> list[dict[str, Any]]:
    """Return validated strategies in their full form. ``value`` is a list of names or ``chunking_strategy`` objects;
    the default is ``auto``.
    """
    if value is None:
        value = ["auto"]
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PREVIEW_STRATEGIES:
        raise InvalidRequest(
            f"'strategies' must be a list of 1 to {MAX_PREVIEW_STRATEGIES}.", param="strategies"
        )
    return [
        check_chunking({"type": item} if isinstance(item, str) else item, by_model=True) for item in value
    ]
