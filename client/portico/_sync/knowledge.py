# Generated from portico._async by scripts/sdk: change it there.
"""Stores, files, chunkers."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from portico._request import Upload, at, by_id, given, named
from portico._sync.calls import chunks as calls_chunks
from portico._sync.calls import files as calls_files
from portico._sync.calls import stores as calls_stores
from portico.errors import InvalidRequest, NotFound
from portico.schemas.chunks import Cut
from portico.schemas.files import File, FilePart, FileUpload
from portico.schemas.search import Found, Ranker
from portico.schemas.stores import Store

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


class Stores(calls_stores.Stores):
    """Knowledge bases."""

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
        return self._transport.request("POST", path, Found, json=body, slow=True)

    def export_graph(self, name: str, to: Path) -> int:
        """Write the passages of a store and the terms that link them to a file, as GraphML; its size in bytes."""
        saved_file = self._transport.save("GET", self._at(name, "graph"), to, slow=True)
        return saved_file[0]

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
        labelled_questions = None if questions is None else [dict(question) for question in questions]
        body = given(questions=labelled_questions, generate=generate, model=model, apply=apply)
        return self._transport.request("POST", self._at(name, "calibrate"), str, json=body, key="run")

    def export_archive(self, name: str, to: Path, *, vectors: bool = True) -> int:
        """Write a store to a file that any daemon can import; its size in bytes. Nothing is left of a failed one."""
        query = {"vectors": str(vectors).lower()}
        saved_file = self._transport.save("GET", self._at(name, "export"), to, query=query, slow=True)
        return saved_file[0]

    def import_archive(self, archive: Path, *, name: str | None = None) -> Store:
        """Make a store of such a file, under its own name or another."""
        upload = Upload.of(archive, name=name)
        path = "/api/stores/import"
        return self._transport.request("POST", path, Store, upload=upload, slow=True, key="store")

    def wait(
        self, name: str, *, timeout: float | None = None, progress: Callable[[Store], object] | None = None
    ) -> Store:
        """The store once each of its files can be found or has failed, see ``file_counts``; through lost connections.
        ``progress`` is called with it now and then.

        Raises `DeadlineExceeded` after ``timeout`` seconds; the work continues then.
        """
        store: Store = self._wait(
            lambda: self.get(name),
            lambda batch: not batch.file_counts.in_progress,
            f"Reading the files of the store '{name}'",
            timeout,
            progress,
        )
        return store

    def _at(self, name: str, *parts: str) -> str:
        return at("api", "stores", named(name, "a store"), *parts)


class Files(calls_files.Files):
    """Uploaded files."""

    def add(self, content: Path | bytes, *, filename: str | None = None, purpose: str = "assistants") -> File:
        """Upload a file from disk (streamed) or from memory (then with a ``filename``)."""
        upload = Upload.of(content, filename, purpose=purpose)
        return self._transport.request("POST", "/v1/files", File, upload=upload, slow=True)

    def begin_upload(self, content: Path, *, purpose: str = "assistants") -> FileUpload:
        """Begin to upload a large file from disk in parts, within an hour: `continue_upload` sends them."""
        body = {**_announced(content), "purpose": purpose}
        return self._transport.request("POST", "/v1/uploads", FileUpload, json=body)

    def continue_upload(self, upload_id: str, content: Path) -> File:
        """Send those parts of an upload that have not arrived, also after it was broken off, and complete it."""
        path = at("v1", "uploads", by_id(upload_id, "an upload"))
        file_upload = self._transport.request("GET", path, FileUpload)
        if file_upload.file is not None:
            return file_upload.file
        arrived_parts = {part.sha256: part.id for part in file_upload.parts}
        ids: list[str] = []
        for piece in _pieces(content, PART_BYTES):
            digest = hashlib.sha256(piece).hexdigest()
            part_id = arrived_parts.pop(digest, None)
            if part_id is None:
                upload = Upload(content.name, piece, name="data")
                part = self._transport.request("POST", f"{path}/parts", FilePart, upload=upload, slow=True)
                part_id = part.id
            ids.append(part_id)
        body = {"part_ids": ids}
        done = self._transport.request("POST", f"{path}/complete", FileUpload, json=body, slow=True)
        if done.file is None:
            raise NotFound("The file of this upload was removed.", code="file_not_found", param="upload_id")
        return done.file

    def _at(self, file_id: str, *parts: str) -> str:
        return at("v1", "files", named(file_id, "a file"), *parts)


class Chunkers(calls_chunks.Chunkers):
    """Ways to cut documents."""

    def preview(
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
        return self._transport.request("POST", "/api/chunk", list[Cut], upload=upload, slow=True)
