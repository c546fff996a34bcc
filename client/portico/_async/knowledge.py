"""Stores, files, chunkers."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from portico._async.group import Group
from portico._read import Page
from portico._request import Upload, at, by_id, given, named
from portico.errors import InvalidRequest, NotFound
from portico.schemas.chunks import Chunker, ChunkGroup, Cut, FileChunk
from portico.schemas.files import File, FilePart, FileUpload
from portico.schemas.search import Found, Ranker
from portico.schemas.stores import LinkedPassages, SkippedFiles, Store, StoreFile, SyncPlan

PART_BYTES = 16 * 1024 * 1024
"""Bytes of one part of an upload."""


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """The content of a file in pieces of ``size`` bytes. `InvalidRequest` if it cannot be read."""
    try:
        with path.open("rb") as source:
            while piece := source.read(size):
                yield piece
    except OSError as error:
        raise InvalidRequest(f"Cannot read '{path}': {error.strerror}.", param="file") from error


def _announced(path: Path) -> dict[str, Any]:
    """What an upload says of its file."""
    name = Upload.of(path).filename
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {"filename": name, "bytes": path.stat().st_size, "mime_type": kind}


class Stores(Group):
    """Knowledge bases."""

    async def list(self) -> list[Store]:
        """All that this key may see."""
        return await self._transport.request("GET", "/api/stores", list[Store])

    async def get(self, name: str) -> Store:
        """One by name or id. Raises `NotFound`."""
        return await self._transport.request("GET", self._at(name), Store)

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
        links: bool | None = None,
        keep_removed: bool | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> Store:
        """Make a store. ``folder`` is a path on the daemon's machine that the store then mirrors; instead of it
        ``source`` may be ``s3://BUCKET/PREFIX``, ``git+https://HOST/PATH[@REF][#subdirectory=FOLDER]``,
        ``webdav+https://HOST/PATH``, ``imaps://HOST/FOLDER``, the address of a sitemap, a feed, a list, a directory
        index or a document, or a list of documents by their addresses.
        ``answers``: how its app answers, ``auto``, ``write`` or ``quote``. ``links``: link its passages by what they
        name. ``keep_removed``: files stay that are gone from what it follows. ``search``: how its app
        searches, such as ``{"steps": "auto"}``.
        """
        body = given(
            name=name,
            folder=None if folder is None else str(folder),
            source=_source(source),
            embedding_model=embedding_model,
            description=description,
            app=app,
            answers=answers,
            links=links,
            keep_removed=keep_removed,
            search=search,
        )
        return await self._transport.request("POST", "/api/stores", Store, json=body)

    async def remove(self, name: str) -> None:
        """Delete a store and its indexes. A folder that it follows is left alone."""
        return await self._transport.request("DELETE", self._at(name), None)

    async def sync(self, name: str) -> str:
        """Bring a store up to date with its folder; the id of the run that does it."""
        return await self._transport.request("POST", self._at(name, "sync"), str, key="run")

    async def reindex(self, name: str, *, files: bool = False) -> str:
        """Build the indexes of a store from zero, with ``files`` after reading all its files again; the id of the run
        that does it.
        """
        path, body = self._at(name, "reindex"), {"files": files}
        return await self._transport.request("POST", path, str, json=body, key="run")

    async def search(
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
        ``neighbours``, ``infer_filters``, ``links``, ``steps`` with ``steps_model``; of several stores ``route`` too.
        """
        body = given(
            query=query,
            max_num_results=max_num_results,
            filters=dict(filters) if filters else None,
            score_threshold=score_threshold,
            ranker=ranker,
            trace=trace or None,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        )
        if isinstance(store, str):
            path = self._at(store, "search")
        else:
            path, body = "/api/search", {"stores": list(store), **body}
        return await self._transport.request("POST", path, Found, json=body, slow=True)

    async def plan(self, name: str) -> SyncPlan:
        """What `sync` would do now, without doing it."""
        return await self._transport.request("GET", self._at(name, "sync", "plan"), SyncPlan, slow=True)

    async def skipped(self, name: str) -> SkippedFiles:
        """What lies in the folder or source of a store and is not read, and why."""
        return await self._transport.request("GET", self._at(name, "skipped"), SkippedFiles)

    async def neighbours(
        self,
        name: str,
        *,
        chunk: int | None = None,
        file: str | None = None,
        start: int = 0,
        after: int = 0,
        limit: int = 20,
    ) -> LinkedPassages:
        """The passages of a store with links that name what another does: a ``chunk``, as the trace of a search has it,
        or the one of the ``file`` of that id in which the character ``start`` lies, as a passage's place has it.

        At most ``limit`` (up to 100) behind the first ``after``. Raises `NotFound`.
        """
        query = given(chunk=chunk, file=file, start=start or None, after=after or None, limit=limit)
        return await self._transport.request("GET", self._at(name, "links"), LinkedPassages, query=query)

    async def export_graph(self, name: str, to: Path) -> int:
        """Write the passages of a store and the terms that link them to a file, as GraphML; its size in bytes."""
        saved = await self._transport.save("GET", self._at(name, "graph"), to, slow=True)
        return saved[0]

    async def change(
        self,
        name: str,
        *,
        description: str | None = None,
        source: str | Sequence[str] | None = None,
        embedding_model: str | None = None,
        paused: bool | None = None,
        answers: str | None = None,
        vector_weight: float | None = None,
        links: bool | None = None,
        keep_removed: bool | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> Store:
        """Another description; another source, see `add`, instead of what it follows; another embedding model, whose
        vectors are made in the background (``""``: none); pause following, or resume; how its app ``answers``; what
        its vectors are worth beside the words, from 0 to 1, as `calibrate` measures it; ``links`` between its passages,
        which are made or removed in the background; ``keep_removed``, ``search``, see
        `add`.
        """
        body = given(
            vector_weight=vector_weight,
            links=links,
            description=description,
            source=_source(source),
            embedding_model=embedding_model,
            paused=paused,
            answers=answers,
            keep_removed=keep_removed,
            search=search,
        )
        return await self._transport.request("PATCH", self._at(name), Store, json=body)

    async def calibrate(
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
        labelled = None if questions is None else [dict(question) for question in questions]
        body = given(questions=labelled, generate=generate, model=model, apply=apply)
        return await self._transport.request("POST", self._at(name, "calibrate"), str, json=body, key="run")

    async def export_archive(self, name: str, to: Path, *, vectors: bool = True) -> int:
        """Write a store to a file that any daemon can import; its size in bytes. Nothing is left of a failed one."""
        query = {"vectors": str(vectors).lower()}
        saved = await self._transport.save("GET", self._at(name, "export"), to, query=query, slow=True)
        return saved[0]

    async def import_archive(self, archive: Path, *, name: str | None = None) -> Store:
        """Make a store of such a file, under its own name or another."""
        upload = Upload.of(archive, name=name)
        path = "/api/stores/import"
        return await self._transport.request("POST", path, Store, upload=upload, slow=True, key="store")

    async def groups(self, name: str) -> Sequence[ChunkGroup]:
        """The ways in which the files of a store are cut, its own first."""
        return await self._transport.request("GET", self._at(name, "groups"), list[ChunkGroup])

    async def add_group(
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
        body = given(
            name=group,
            chunking_strategy=dict(chunking) if chunking else None,
            parent=parent,
            embedding_model=embedding_model,
        )
        return await self._transport.request("POST", self._at(name, "groups"), str, json=body, key="run")

    async def remove_group(self, name: str, group: str) -> None:
        """Remove a group with its chunks."""
        path = self._at(name, "groups", named(group, "a group"))
        return await self._transport.request("DELETE", path, None, slow=True)

    async def retry_groups(self, name: str) -> Sequence[str]:
        """Try the files again that could not be in a group; the ids of the runs, none if nothing had failed."""
        return await self._transport.request("POST", self._at(name, "groups", "retry"), list[str], key="runs")

    async def files(
        self, name: str, *, after: str | None = None, limit: int = 1000, status: str | None = None
    ) -> Page[StoreFile]:
        """One page of a store's files, oldest first, with the reason for each that failed.

        ``after`` is the ``last_id`` of the page before; ``status`` picks one, such as ``failed``.
        """
        query = given(after=after, limit=limit, status=status)
        return await self._transport.request("GET", self._at(name, "files"), Page[StoreFile], query=query)

    async def chunks(
        self, name: str, file_id: str, *, group: str | None = None, after: int | None = None, limit: int = 100
    ) -> Page[FileChunk]:
        """The pieces into which a file of a store was cut, in their order, up to 1,000: in its ``group``, or the
        store's own. ``after``: behind the piece with this ``number``.
        """
        query = given(group=group, after=after, limit=limit)
        path = self._at(name, "files", file_id, "chunks")
        return await self._transport.request("GET", path, Page[FileChunk], query=query)

    async def page(self, name: str, file_id: str, page: int, passage: str = "") -> bytes:
        """A page of a PDF, counted from 1, as a PNG with ``passage`` marked where it stands."""
        path, body = self._at(name, "files", file_id, "page"), {"page": page, "passage": passage}
        return await self._transport.request("POST", path, bytes, json=body, slow=True)

    async def attach(
        self, store_id: str, file_id: str, *, attributes: Mapping[str, str | float | bool] | None = None
    ) -> StoreFile:
        """Put an uploaded file into a store, by their ids, with ``attributes`` to filter by."""
        path = at("v1", "vector_stores", named(store_id, "a store"), "files")
        body = given(file_id=file_id, attributes=dict(attributes) if attributes else None)
        return await self._transport.request("POST", path, StoreFile, json=body)

    async def wait(
        self, name: str, *, timeout: float | None = None, progress: Callable[[Store], object] | None = None
    ) -> Store:
        """The store once each of its files can be found or has failed, see ``file_counts``; through lost connections.
        ``progress`` is called with it now and then.

        Raises `DeadlineExceeded` after ``timeout`` seconds; the work continues then.
        """
        store: Store = await self._wait(
            lambda: self.get(name),
            lambda found: not found.file_counts.in_progress,
            f"Reading the files of the store '{name}'",
            timeout,
            progress,
        )
        return store

    async def detach(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store, by their ids. The file itself stays."""
        path = at("v1", "vector_stores", named(store_id, "a store"), "files", named(file_id, "a file"))
        return await self._transport.request("DELETE", path, None)

    def _at(self, name: str, *more: str) -> str:
        return at("api", "stores", named(name, "a store"), *more)


def _source(source: str | Sequence[str] | None) -> str | list[str] | None:
    return source if source is None or isinstance(source, str) else list(source)


class Files(Group):
    """Uploaded files."""

    async def list(self, *, after: str | None = None, limit: int = 100) -> Page[File]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        query = given(after=after, limit=limit)
        return await self._transport.request("GET", "/v1/files", Page[File], query=query)

    async def get(self, file_id: str) -> File:
        """One by id. Raises `NotFound`."""
        return await self._transport.request("GET", self._at(file_id), File)

    async def add(
        self, content: Path | bytes, *, filename: str | None = None, purpose: str = "assistants"
    ) -> File:
        """Upload a file from disk (streamed) or from memory (then with a ``filename``)."""
        upload = Upload.of(content, filename, purpose=purpose)
        return await self._transport.request("POST", "/v1/files", File, upload=upload, slow=True)

    async def begin_upload(self, content: Path, *, purpose: str = "assistants") -> FileUpload:
        """Begin to upload a large file from disk in parts, within an hour: `continue_upload` sends them."""
        body = {**_announced(content), "purpose": purpose}
        return await self._transport.request("POST", "/v1/uploads", FileUpload, json=body)

    async def continue_upload(self, upload_id: str, content: Path) -> File:
        """Send those parts of an upload that have not arrived, also after it was broken off, and complete it."""
        path = at("v1", "uploads", by_id(upload_id, "an upload"))
        begun = await self._transport.request("GET", path, FileUpload)
        if begun.file is not None:
            return begun.file
        arrived = {part.sha256: part.id for part in begun.parts}
        ids: list[str] = []
        for piece in _pieces(content, PART_BYTES):
            digest = hashlib.sha256(piece).hexdigest()
            part_id = arrived.pop(digest, None)
            if part_id is None:
                upload = Upload(content.name, piece, name="data")
                part = await self._transport.request(
                    "POST", f"{path}/parts", FilePart, upload=upload, slow=True
                )
                part_id = part.id
            ids.append(part_id)
        body = {"part_ids": ids}
        done = await self._transport.request("POST", f"{path}/complete", FileUpload, json=body, slow=True)
        if done.file is None:
            raise NotFound("The file of this upload was removed.", code="file_not_found", param="upload_id")
        return done.file

    async def cancel_upload(self, upload_id: str) -> FileUpload:
        """End an upload and forget its parts."""
        path = at("v1", "uploads", by_id(upload_id, "an upload"), "cancel")
        return await self._transport.request("POST", path, FileUpload)

    async def remove(self, file_id: str) -> None:
        """Delete a file, from every store too."""
        return await self._transport.request("DELETE", self._at(file_id), None)

    async def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        return await self._transport.request("GET", self._at(file_id, "content"), bytes, slow=True)

    def _at(self, file_id: str, *more: str) -> str:
        return at("v1", "files", named(file_id, "a file"), *more)


class Chunkers(Group):
    """Ways to cut documents."""

    async def list(self) -> list[Chunker]:
        """All of them."""
        return await self._transport.request("GET", "/api/chunkers", list[Chunker])

    async def preview(
        self,
        content: str | Path | bytes,
        *strategies: str | Mapping[str, Any],
        filename: str | None = None,
        limit: int = 100,
    ) -> Sequence[Cut]:
        """How a document would be cut, by each strategy (``auto`` if none is named): the first ``limit`` chunks.

        A ``str`` is the text itself, a ``Path`` a file here; ``filename`` says which format it has. Nothing is kept.
        """
        if isinstance(content, str):
            filename = filename or "text.txt"
        data = bytes(content, "utf-8") if isinstance(content, str) else content
        fields = {"strategies": json.dumps(list(strategies) or ["auto"]), "limit": str(limit)}
        upload = Upload.of(data, filename, **fields)
        return await self._transport.request("POST", "/api/chunk", list[Cut], upload=upload, slow=True)
