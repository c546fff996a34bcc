# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.stores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portico._async.group import Group
from portico._read import Page
from portico._request import at, by_id, check_path_name, without_none
from portico.schemas.chunks import ChunkGroup, FileChunk
from portico.schemas.store_guards import GuardQuestion, StoreReview
from portico.schemas.stores import (
    FileAccess,
    FileText,
    LinkedPassages,
    SkippedFiles,
    Store,
    StoreFile,
    StoreThemes,
    SyncPlan,
)


class Stores(Group):
    """Knowledge bases."""

    async def list(
        self, *, limit: int | None = None, after: str | None = None, query: str | None = None
    ) -> Sequence[Store]:
        """List the stores that the caller may read, oldest first; without ``limit`` all of them.

        If ``has_more`` is true, pass ``last_id`` as ``after`` to get the next page. ``query``: only stores
        whose names contain this text.
        """
        return await self._transport.request(
            "GET", "/api/stores", list[Store], query=without_none(limit=limit, after=after, query=query)
        )

    async def get(self, name: str) -> Store:
        """Return a store by name or id."""
        return await self._transport.request(
            "GET", at("api", "stores", check_path_name(name, "a store")), Store
        )

    async def add(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        source: str | Sequence[str] | None = None,
        embedding_model: str | None = None,
        description: str | None = None,
        app: bool | None = None,
        answers: str | None = None,
        keep_removed: bool | None = None,
        search: Mapping[str, Any] | None = None,
        links: bool | None = None,
        index: str | None = None,
        rights: str | Mapping[str, Sequence[str] | Mapping[str, Sequence[str]]] | None = None,
    ) -> Store:
        """Create a store. A store with a folder or a source also becomes an app, unless ``app`` is false.

        A store to create. With ``app``, the store also becomes a chat app, whose ``answers`` are ``auto``,
        ``write`` or ``quote``.

        With ``folder`` (on the daemon's machine) or ``source``, the store mirrors that location. A source is
        ``s3://BUCKET/PREFIX``, ``git+https://HOST/PATH[@REF][#subdirectory=FOLDER]``,
        ``webdav+https://HOST/PATH``, ``imaps://HOST/FOLDER``, the address of a sitemap, a feed, a list, a
        directory index or a document, or a list of document addresses.

        ``answers``: (default: ``auto``).

        ``index``: ``embedded`` | ``qdrant`` | ``pgvector`` (default: ``embedded``).

        ``rights``: (default: ``off``).
        """
        return await self._transport.request(
            "POST",
            "/api/stores",
            Store,
            json=without_none(
                name=name,
                folder=folder,
                source=source,
                embedding_model=embedding_model,
                description=description,
                app=app,
                answers=answers,
                keep_removed=keep_removed,
                search=search,
                links=links,
                index=index,
                rights=rights,
            ),
        )

    async def change(
        self,
        name: str,
        *,
        description: str | None = None,
        source: str | Sequence[str] | None = None,
        keep_removed: bool | None = None,
        search: Mapping[str, Any] | None = None,
        paused: bool | None = None,
        answers: str | None = None,
        embedding_model: str | None = None,
        vector_weight: float | None = None,
        guard: str | None = None,
        links: bool | None = None,
        index: str | None = None,
        rights: str | Mapping[str, Sequence[str] | Mapping[str, Sequence[str]]] | None = None,
    ) -> Store:
        """Change a store: its description, embedding model, vector weight, index, answer mode, or links between
        its passages. Or pause or resume following its source.

        Changes to a store; omitted fields stay unchanged.

        ``source`` replaces the previous source. ``embedding_model`` changes in the background; ``""`` means
        none. ``vector_weight`` is the weight of the vector score relative to the word score, as `calibrate`
        measures it. ``links`` are created or removed in the background. The vectors move to another ``index``
        in the background.

        ``index``: ``embedded`` | ``qdrant`` | ``pgvector``.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "stores", check_path_name(name, "a store")),
            Store,
            json=without_none(
                description=description,
                source=source,
                keep_removed=keep_removed,
                search=search,
                paused=paused,
                answers=answers,
                embedding_model=embedding_model,
                vector_weight=vector_weight,
                guard=guard,
                links=links,
                index=index,
                rights=rights,
            ),
        )

    async def remove(self, name: str) -> None:
        """Delete a store. Its folder and the uploaded files are kept."""
        return await self._transport.request(
            "DELETE", at("api", "stores", check_path_name(name, "a store")), None
        )

    async def sync(self, name: str) -> str:
        """Sync a store with its folder or source: add new files, update changed files and remove deleted files."""
        return await self._transport.request(
            "POST", at("api", "stores", check_path_name(name, "a store"), "sync"), str, key="run"
        )

    async def reindex(self, name: str, *, files: bool | None = None) -> str:
        """Rebuild the indexes of a store from scratch.

        ``files``: before rebuilding the indexes, read all files again.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", check_path_name(name, "a store"), "reindex"),
            str,
            json=without_none(files=files),
            key="run",
        )

    async def plan(self, name: str) -> SyncPlan:
        """Return the changes that a sync would make now, without making them."""
        return await self._transport.request(
            "GET", at("api", "stores", check_path_name(name, "a store"), "sync", "plan"), SyncPlan, slow=True
        )

    async def skipped(self, name: str) -> SkippedFiles:
        """List the files in a store's folder or source that are not read, with the reasons."""
        return await self._transport.request(
            "GET", at("api", "stores", check_path_name(name, "a store"), "skipped"), SkippedFiles
        )

    async def neighbours(
        self,
        name: str,
        *,
        chunk: int | None = None,
        file: str | None = None,
        start: int | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> LinkedPassages:
        """List the passages linked to a passage by shared terms.

        Specify the passage by ``chunk``, its number in the trace of a search, or by ``file`` and ``start``:
        the file's id and the position of a character in the passage. ``after`` skips that many passages.

        ``limit``: (default: ``20``).
        """
        return await self._transport.request(
            "GET",
            at("api", "stores", check_path_name(name, "a store"), "links"),
            LinkedPassages,
            query=without_none(chunk=chunk, file=file, start=start, after=after, limit=limit),
        )

    async def themes(self, name: str) -> StoreThemes:
        """Return what a store is about: its themes, and the names that its passages mention most often.

        They are computed from the words of at most 600 passages, without a language model.
        """
        return await self._transport.request(
            "GET", at("api", "stores", check_path_name(name, "a store"), "themes"), StoreThemes, slow=True
        )

    async def groups(self, name: str) -> Sequence[ChunkGroup]:
        """List the chunk groups of a store, its default group first."""
        return await self._transport.request(
            "GET", at("api", "stores", check_path_name(name, "a store"), "groups"), list[ChunkGroup]
        )

    async def add_group(
        self,
        name: str,
        group: str,
        *,
        chunking: Mapping[str, Any] | None = None,
        parent: str | None = None,
        embedding_model: str | None = None,
    ) -> str:
        """Add all files of the store to a new group in the background; meanwhile searches work as before.

        A group to create. For ``CoarseChunk``, ``MediumChunk`` and ``FineChunk``, the name is enough.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", check_path_name(name, "a store"), "groups"),
            str,
            json=without_none(
                name=group, chunking_strategy=chunking, parent=parent, embedding_model=embedding_model
            ),
            key="run",
        )

    async def remove_group(self, name: str, group: str) -> None:
        """Remove a group and its chunks."""
        return await self._transport.request(
            "DELETE",
            at(
                "api", "stores", check_path_name(name, "a store"), "groups", check_path_name(group, "a group")
            ),
            None,
            slow=True,
        )

    async def guards(self, name: str) -> Sequence[GuardQuestion]:
        """List the questions that guard a store, oldest first."""
        return await self._transport.request(
            "GET", at("api", "stores", check_path_name(name, "a store"), "guards"), list[GuardQuestion]
        )

    async def add_guards(self, name: str, questions: Sequence[Mapping[str, Any]]) -> Sequence[GuardQuestion]:
        """Add questions that guard a store: each change of its files is checked with them before searches use
        it.

        Questions to add. Each has a ``question``, and the ``file`` (its name) that answers it, with a
        ``passage`` quoted from the file, or the ``facts`` that the passages must contain.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", check_path_name(name, "a store"), "guards"),
            list[GuardQuestion],
            json=without_none(questions=questions),
            slow=True,
        )

    async def remove_guard(self, name: str, question_id: str) -> None:
        """Remove a question that guards a store."""
        return await self._transport.request(
            "DELETE",
            at("api", "stores", check_path_name(name, "a store"), "guards", by_id(question_id, "a question")),
            None,
        )

    async def review(self, name: str) -> StoreReview:
        """Return the last check of a change of a store's files: the questions whose answers it turns wrong, with
        both passages.
        """
        return await self._transport.request(
            "GET", at("api", "stores", check_path_name(name, "a store"), "review"), StoreReview
        )

    async def accept_change(self, name: str) -> StoreReview:
        """Accept the change that a store holds: from now on, searches use it."""
        return await self._transport.request(
            "POST", at("api", "stores", check_path_name(name, "a store"), "review", "accept"), StoreReview
        )

    async def reject_change(self, name: str) -> StoreReview:
        """Reject the change that a store holds: remove its new files, and keep the old files. A store that
        follows a source is paused, because the next sync would bring the change back.
        """
        return await self._transport.request(
            "POST", at("api", "stores", check_path_name(name, "a store"), "review", "reject"), StoreReview
        )

    async def retry_groups(self, name: str) -> Sequence[str]:
        """Retry the files that could not be added to a group. Text that a model already wrote about these files
        is reused.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", check_path_name(name, "a store"), "groups", "retry"),
            list[str],
            key="runs",
        )

    async def files(
        self, name: str, *, limit: int | None = None, after: str | None = None, status: str | None = None
    ) -> Page[StoreFile]:
        """List the files of a store in the order in which they were added.

        ``limit``: (default: ``10000``).

        ``status``: ``in_progress`` | ``completed`` | ``failed`` | ``cancelled``.
        """
        return await self._transport.request(
            "GET",
            at("api", "stores", check_path_name(name, "a store"), "files"),
            Page[StoreFile],
            query=without_none(limit=limit, after=after, status=status),
        )

    async def chunks(
        self,
        name: str,
        file_id: str,
        *,
        group: str | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> Page[FileChunk]:
        """List the chunks of a file in order, starting after number ``after``, with their positions in the file.

        ``group``: a chunk group of the store; by default the default group.

        ``after``: (default: ``-1``).

        ``limit``: (default: ``100``).
        """
        return await self._transport.request(
            "GET",
            at(
                "api", "stores", check_path_name(name, "a store"), "files", by_id(file_id, "a file"), "chunks"
            ),
            Page[FileChunk],
            query=without_none(group=group, after=after, limit=limit),
        )

    async def text(self, store_id: str, file_id: str) -> Sequence[FileText]:
        """Return the text extracted from a file."""
        return await self._transport.request(
            "GET",
            at(
                "v1",
                "vector_stores",
                by_id(store_id, "a store"),
                "files",
                by_id(file_id, "a file"),
                "content",
            ),
            list[FileText],
            slow=True,
        )

    async def access(self, name: str, file_id: str, *, key: str | None = None) -> FileAccess:
        """Return whether a key may read a file of a store, and which rule decides. ``key``: the id or name of a
        key or of a person who signs in; by default the caller's own. Only for admins.
        """
        return await self._transport.request(
            "GET",
            at(
                "api", "stores", check_path_name(name, "a store"), "files", by_id(file_id, "a file"), "access"
            ),
            FileAccess,
            query=without_none(key=key),
        )

    async def page(self, name: str, file_id: str, page: int, passage: str | None = None) -> bytes:
        """Draw a page of a PDF as a PNG image of at most 1,600 pixels on its longer side, with a passage marked
        at its position.

        A page of a file, counted from 1, and the passage to mark on it.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", check_path_name(name, "a store"), "files", by_id(file_id, "a file"), "page"),
            bytes,
            json=without_none(page=page, passage=passage),
            slow=True,
        )

    async def attach(
        self,
        store_id: str,
        file_id: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        chunking_strategy: Mapping[str, Any] | None = None,
    ) -> StoreFile:
        """Add a file to a vector store. It is indexed in the background.

        A file to add to a vector store.
        """
        return await self._transport.request(
            "POST",
            at("v1", "vector_stores", by_id(store_id, "a store"), "files"),
            StoreFile,
            json=without_none(file_id=file_id, attributes=attributes, chunking_strategy=chunking_strategy),
        )

    async def detach(self, store_id: str, file_id: str) -> None:
        """Remove a file from a vector store. The uploaded file is kept."""
        return await self._transport.request(
            "DELETE",
            at("v1", "vector_stores", by_id(store_id, "a store"), "files", by_id(file_id, "a file")),
            None,
        )
