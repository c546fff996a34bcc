# Made from portico/_async by scripts/twin: change it there.
"""Stores, files, chunkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portico._calls.knowledge import (
    chunk,
    chunkers_list,
    file_add,
    file_content,
    file_get,
    file_remove,
    files_list,
    group_add,
    group_remove,
    groups_list,
    groups_retry,
    search,
    store_add,
    store_attach,
    store_calibrate,
    store_change,
    store_detach,
    store_export,
    store_files,
    store_get,
    store_import,
    store_plan,
    store_reindex,
    store_remove,
    store_skipped,
    store_sync,
    stores_list,
)
from portico._sync.group import Group
from portico.values import (
    Chunker,
    ChunkGroup,
    Cut,
    File,
    Found,
    Page,
    Ranker,
    SkippedFiles,
    Store,
    StoreFile,
    SyncPlan,
)


class Stores(Group):
    """Knowledge bases."""

    def list(self) -> list[Store]:
        """All that this key may see."""
        return self._transport.send(stores_list())

    def get(self, name: str) -> Store:
        """One by name or id. Raises `NotFound`."""
        return self._transport.send(store_get(name))

    def add(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        source: str | Sequence[str] | None = None,
        embedding_model: str | None = None,
        description: str | None = None,
        app: bool | None = None,
        answers: str | None = None,
    ) -> Store:
        """Make a store. ``folder`` is a path on the daemon's machine that the store then mirrors; instead of it
        ``source`` may be ``s3://BUCKET/PREFIX``, the address of a sitemap, a list, a directory index or a document,
        or a list of documents by their addresses. ``answers``: how its app answers, ``auto``, ``write`` or ``quote``.
        """
        path = None if folder is None else str(folder)
        return self._transport.send(store_add(name, path, source, embedding_model, description, app, answers))

    def remove(self, name: str) -> None:
        """Delete a store and its indexes. A folder that it follows is left alone."""
        return self._transport.send(store_remove(name))

    def sync(self, name: str) -> str:
        """Bring a store up to date with its folder; the id of the run that does it."""
        return self._transport.send(store_sync(name))

    def reindex(self, name: str, *, files: bool = False) -> str:
        """Build the indexes of a store from zero, with ``files`` after reading all its files again; the id of the run
        that does it.
        """
        return self._transport.send(store_reindex(name, files))

    def search(
        self,
        store: str | Sequence[str],
        query: str,
        *,
        max_num_results: int = 10,
        filters: Mapping[str, Any] | None = None,
        score_threshold: float | None = None,
        ranker: Ranker | None = None,
        trace: bool = False,
        **options: Any,
    ) -> Found:
        """Ranked passages of one store, or of several together.

        ``filters`` are OpenAI's, ``score_threshold`` is in [0, 1].

        ``options`` are those of ``/api/search``: ``groups``, ``vector_weight``, ``rewrite`` with ``writer``,
        ``reranker``, ``diversity``, ``near_duplicates``, ``half_life_days`` with ``decay_by``, ``parents``,
        ``neighbours``; of several stores ``route`` too.
        """
        return self._transport.send(
            search(store, query, max_num_results, filters, score_threshold, ranker, trace, options)
        )

    def plan(self, name: str) -> SyncPlan:
        """What `sync` would do now, without doing it."""
        return self._transport.send(store_plan(name))

    def skipped(self, name: str) -> SkippedFiles:
        """What lies in the folder or source of a store and is not read, and why."""
        return self._transport.send(store_skipped(name))

    def change(
        self,
        name: str,
        *,
        description: str | None = None,
        source: str | Sequence[str] | None = None,
        embedding_model: str | None = None,
        paused: bool | None = None,
        answers: str | None = None,
    ) -> Store:
        """Another description; another source, see `add`, instead of what it follows; another embedding model, whose
        vectors are made in the background (``""``: none); pause following, or resume; how its app ``answers``.
        """
        return self._transport.send(store_change(name, description, source, embedding_model, paused, answers))

    def calibrate(
        self,
        name: str,
        questions: Sequence[Mapping[str, str]] | None = None,
        *,
        generate: int | None = None,
        model: str = "default",
        apply: bool = False,
    ) -> str:
        """Measure the search with more and less weight for the vectors; the id of the run, whose result has the scores.

        Each of ``questions`` has a ``question`` and the ``file`` (its name) or the ``passage`` that answers it;
        without them the chat ``model`` asks so many as ``generate`` says. ``apply``: use the best weight from now on.
        """
        return self._transport.send(store_calibrate(name, questions, generate, model, apply))

    def export_archive(self, name: str, to: Path, *, vectors: bool = True) -> int:
        """Write a store to a file that any daemon can import; its size in bytes. Nothing is left of a failed one."""
        return (self._transport.save(store_export(name, vectors), to))[0]

    def import_archive(self, archive: Path, *, name: str | None = None) -> Store:
        """Make a store of such a file, under its own name or another."""
        return self._transport.send(store_import(archive, name))

    def groups(self, name: str) -> Sequence[ChunkGroup]:
        """The ways in which the files of a store are cut, its own first."""
        return self._transport.send(groups_list(name))

    def add_group(
        self,
        name: str,
        group: str,
        *,
        chunking: Mapping[str, Any] | None = None,
        parent: str | None = None,
        embedding_model: str | None = None,
    ) -> str:
        """Cut the files of a store in one more way, in the background; the id of the run that does it.

        ``CoarseChunk``, ``MediumChunk`` and ``FineChunk`` need no ``chunking``, any other group has ``auto`` without.
        """
        return self._transport.send(group_add(name, group, chunking, parent, embedding_model))

    def remove_group(self, name: str, group: str) -> None:
        """Remove a group with its chunks."""
        return self._transport.send(group_remove(name, group))

    def retry_groups(self, name: str) -> Sequence[str]:
        """Try the files again that could not be in a group; the ids of the runs, none if nothing had failed."""
        return self._transport.send(groups_retry(name))

    def files(
        self, name: str, *, after: str | None = None, limit: int = 1000, status: str | None = None
    ) -> Page[StoreFile]:
        """One page of a store's files, oldest first, with the reason for each that failed.

        ``after`` is the ``last_id`` of the page before; ``status`` picks one, such as ``failed``.
        """
        return self._transport.send(store_files(name, after, limit, status))

    def attach(self, store_id: str, file_id: str) -> StoreFile:
        """Put an uploaded file into a store, by their ids."""
        return self._transport.send(store_attach(store_id, file_id))

    def detach(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store, by their ids. The file itself stays."""
        return self._transport.send(store_detach(store_id, file_id))


class Files(Group):
    """Uploaded files."""

    def list(self, *, after: str | None = None, limit: int = 100) -> Page[File]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        return self._transport.send(files_list(after, limit))

    def get(self, file_id: str) -> File:
        """One by id. Raises `NotFound`."""
        return self._transport.send(file_get(file_id))

    def add(self, content: Path | bytes, *, filename: str | None = None, purpose: str = "assistants") -> File:
        """Upload a file from disk (streamed) or from memory (then with a ``filename``)."""
        return self._transport.send(file_add(content, filename, purpose))

    def remove(self, file_id: str) -> None:
        """Delete a file, from every store too."""
        return self._transport.send(file_remove(file_id))

    def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        return self._transport.send(file_content(file_id))


class Chunkers(Group):
    """Ways to cut documents."""

    def list(self) -> list[Chunker]:
        """All of them."""
        return self._transport.send(chunkers_list())

    def preview(
        self,
        content: str | Path | bytes,
        *strategies: str | Mapping[str, Any],
        filename: str | None = None,
        limit: int = 100,
    ) -> Sequence[Cut]:
        """How a document would be cut, by each strategy (``auto`` if none is named): the first ``limit`` chunks.

        A ``str`` is the text itself, a ``Path`` a file here; ``filename`` tells the format. Nothing is kept.
        """
        return self._transport.send(chunk(content, strategies, filename, limit))
