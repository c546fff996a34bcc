# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.stores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portico._async.group import Group
from portico._read import Page
from portico._request import at, by_id, given, named
from portico.schemas.chunks import ChunkGroup, FileChunk
from portico.schemas.stores import LinkedPassages, SkippedFiles, Store, StoreFile, SyncPlan


class Stores(Group):
    """Knowledge bases."""

    async def list(self) -> Sequence[Store]:
        """All stores that the caller may read, oldest first."""
        return await self._transport.request("GET", "/api/stores", list[Store])

    async def get(self, name: str) -> Store:
        """One of them, by name or id."""
        return await self._transport.request("GET", at("api", "stores", named(name, "a store")), Store)

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
    ) -> Store:
        """A new store under a name of its own; one with a folder or a source is an app unless that is declined.

        A store to be made. With ``app`` it is a chat app, whose ``answers`` are ``auto``, ``write`` or
        ``quote``.

        With ``folder`` (of the daemon's machine) or ``source`` it mirrors that: ``s3://BUCKET/PREFIX``,
        ``git+https://HOST/PATH[@REF][#subdirectory=FOLDER]``, ``webdav+https://HOST/PATH``,
        ``imaps://HOST/FOLDER``, an address that is a sitemap, a feed, a list, a directory index or a
        document, or a list of documents by their addresses.

        ``answers``: (default: ``auto``).
        """
        return await self._transport.request(
            "POST",
            "/api/stores",
            Store,
            json=given(
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
        links: bool | None = None,
    ) -> Store:
        """Another description, embedding model, weight of its vectors or way to answer; links between its
        passages or none; pause or resume following.

        What is to change; what is left out stays. ``source`` takes the place of what was followed;
        ``embedding_model`` is changed in the background, ``""`` is none; ``vector_weight`` is what its
        vectors are worth beside the words, as `calibrate` measures it; ``links`` are made, or removed, in the
        background.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "stores", named(name, "a store")),
            Store,
            json=given(
                description=description,
                source=source,
                keep_removed=keep_removed,
                search=search,
                paused=paused,
                answers=answers,
                embedding_model=embedding_model,
                vector_weight=vector_weight,
                links=links,
            ),
        )

    async def remove(self, name: str) -> None:
        """Remove a store; its folder and uploaded files stay."""
        return await self._transport.request("DELETE", at("api", "stores", named(name, "a store")), None)

    async def sync(self, name: str) -> str:
        """Look at the folder or source again: add, change and remove what is new, changed and gone."""
        return await self._transport.request(
            "POST", at("api", "stores", named(name, "a store"), "sync"), str, key="run"
        )

    async def reindex(self, name: str, *, files: bool | None = None) -> str:
        """Build the indexes of a store from zero.

        ``files``: read all files again before.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", named(name, "a store"), "reindex"),
            str,
            json=given(files=files),
            key="run",
        )

    async def plan(self, name: str) -> SyncPlan:
        """What a sync would do now, without doing it."""
        return await self._transport.request(
            "GET", at("api", "stores", named(name, "a store"), "sync", "plan"), SyncPlan, slow=True
        )

    async def skipped(self, name: str) -> SkippedFiles:
        """What lies in the folder or source of a store and is not read, and why."""
        return await self._transport.request(
            "GET", at("api", "stores", named(name, "a store"), "skipped"), SkippedFiles
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
        """The passages that name what another names: a ``chunk``, as the trace of a search has it, or the one of
        a ``file`` (its id) that holds the character ``start``, as a passage's place has it. ``after`` so
        many.

        ``limit``: (default: ``20``).
        """
        return await self._transport.request(
            "GET",
            at("api", "stores", named(name, "a store"), "links"),
            LinkedPassages,
            query=given(chunk=chunk, file=file, start=start, after=after, limit=limit),
        )

    async def groups(self, name: str) -> Sequence[ChunkGroup]:
        """The groups of a store, its own first."""
        return await self._transport.request(
            "GET", at("api", "stores", named(name, "a store"), "groups"), list[ChunkGroup]
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
        """Make a group of all files, in the background; the store serves as before meanwhile.

        A group to be made. ``CoarseChunk``, ``MediumChunk`` and ``FineChunk`` need no more than their name.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", named(name, "a store"), "groups"),
            str,
            json=given(
                name=group, chunking_strategy=chunking, parent=parent, embedding_model=embedding_model
            ),
            key="run",
        )

    async def remove_group(self, name: str, group: str) -> None:
        """Remove a group with its chunks."""
        return await self._transport.request(
            "DELETE",
            at("api", "stores", named(name, "a store"), "groups", named(group, "a group")),
            None,
            slow=True,
        )

    async def retry_groups(self, name: str) -> Sequence[str]:
        """Try the files again that could not be in a group. What a model has written of them is kept."""
        return await self._transport.request(
            "POST", at("api", "stores", named(name, "a store"), "groups", "retry"), list[str], key="runs"
        )

    async def files(
        self, name: str, *, limit: int | None = None, after: str | None = None, status: str | None = None
    ) -> Page[StoreFile]:
        """The files of a store, in the order in which they came.

        ``limit``: (default: ``10000``).

        ``status``: ``in_progress`` | ``completed`` | ``failed`` | ``cancelled``.
        """
        return await self._transport.request(
            "GET",
            at("api", "stores", named(name, "a store"), "files"),
            Page[StoreFile],
            query=given(limit=limit, after=after, status=status),
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
        """The pieces into which a file was cut, in their order behind number ``after``, with where they stand in
        it.

        ``group``: one of the store's groups; left out, its own.

        ``after``: (default: ``-1``).

        ``limit``: (default: ``100``).
        """
        return await self._transport.request(
            "GET",
            at("api", "stores", named(name, "a store"), "files", by_id(file_id, "a file"), "chunks"),
            Page[FileChunk],
            query=given(group=group, after=after, limit=limit),
        )

    async def page(self, name: str, file_id: str, page: int, passage: str | None = None) -> bytes:
        """A page of a PDF as a picture (PNG, at most 1,600 dots long) with a passage marked where it stands.

        Which page of a file, counted from 1, and what is to be marked on it.
        """
        return await self._transport.request(
            "POST",
            at("api", "stores", named(name, "a store"), "files", by_id(file_id, "a file"), "page"),
            bytes,
            json=given(page=page, passage=passage),
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

        A file to be put into a vector store.
        """
        return await self._transport.request(
            "POST",
            at("v1", "vector_stores", by_id(store_id, "a store"), "files"),
            StoreFile,
            json=given(file_id=file_id, attributes=attributes, chunking_strategy=chunking_strategy),
        )

    async def detach(self, store_id: str, file_id: str) -> None:
        """Remove a file from a vector store. The file itself stays."""
        return await self._transport.request(
            "DELETE",
            at("v1", "vector_stores", by_id(store_id, "a store"), "files", by_id(file_id, "a file")),
            None,
        )
