# Generated from portico._async by scripts/sdk: change it there.
"""Stores, files, chunkers."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from portico._request import Upload, at, by_id, check_path_name, without_none
from portico._sync.calls import chunks as calls_chunks
from portico._sync.calls import files as calls_files
from portico._sync.calls import stores as calls_stores
from portico.errors import InvalidRequest, NotFound
from portico.schemas.chunks import Cut
from portico.schemas.files import File, FilePart, FileUpload
from portico.schemas.search import Found, Ranker
from portico.schemas.stores import Store

PART_BYTES = 16 * 1024 * 1024
"""Size of one part of an upload, in bytes."""


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """Yield the content of a file in pieces of ``size`` bytes. Raises `InvalidRequest` if the file cannot be read."""
    try:
        with path.open("rb") as source:
            while piece := source.read(size):
                yield piece
    except OSError as error:
        raise InvalidRequest(f"Cannot read '{path}': {error.strerror}.", param="file") from error


def _announced(path: Path) -> dict[str, Any]:
    """Return the request fields that describe the file of an upload: name, size and type."""
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
        """Return ranked passages of one store, or of several stores combined.

        ``filters`` are in OpenAI's format, ``score_threshold`` is in [0, 1].

        ``options`` are those of ``/api/search``: ``groups``, ``vector_weight``, ``rewrite`` with ``writer``,
        ``reranker``, ``diversity``, ``near_duplicates``, ``half_life_days`` with ``decay_by``, ``parents``,
        ``neighbours``, ``infer_filters``, ``links``, ``steps`` with ``steps_model``; for several stores also
        ``route``.
        """
        body = without_none(
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
        """Write the passages of a store and the terms that link them to a GraphML file. Return its size in bytes."""
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
        """Measure search quality with different vector weights. Return the id of the run, whose result contains the
        scores.

        Each of ``questions`` has a ``question`` and the ``file`` (its name) or the ``passage`` that answers it. If
        ``questions`` is omitted, the chat ``model`` writes ``generate`` questions. ``apply``: use the best weight from
        now on.
        """
        labelled_questions = None if questions is None else [dict(question) for question in questions]
        body = without_none(questions=labelled_questions, generate=generate, model=model, apply=apply)
        return self._transport.request("POST", self._at(name, "calibrate"), str, json=body, key="run")

    def export_archive(self, name: str, to: Path, *, vectors: bool = True) -> int:
        """Export a store to a file that any daemon can import. Return its size in bytes. If the export fails, the file
        is removed.
        """
        query = {"vectors": str(vectors).lower()}
        saved_file = self._transport.save("GET", self._at(name, "export"), to, query=query, slow=True)
        return saved_file[0]

    def import_archive(self, archive: Path, *, name: str | None = None) -> Store:
        """Create a store from an exported archive, under its original name or under ``name``."""
        upload = Upload.of(archive, name=name)
        path = "/api/stores/import"
        return self._transport.request("POST", path, Store, upload=upload, slow=True, key="store")

    def wait(
        self, name: str, *, timeout: float | None = None, progress: Callable[[Store], object] | None = None
    ) -> Store:
        """Wait until each file of the store is searchable or has failed, and return the store; see ``file_counts``.

        The wait survives lost connections. ``progress`` is called with the store after each poll. Raises
        `DeadlineExceeded` after ``timeout`` seconds; the work continues.
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
        return at("api", "stores", check_path_name(name, "a store"), *parts)


class Files(calls_files.Files):
    """Uploaded files."""

    def add(self, content: Path | bytes, *, filename: str | None = None, purpose: str = "assistants") -> File:
        """Upload a file from disk (streamed) or from memory (``filename`` is then required)."""
        upload = Upload.of(content, filename, purpose=purpose)
        return self._transport.request("POST", "/v1/files", File, upload=upload, slow=True)

    def begin_upload(self, content: Path, *, purpose: str = "assistants") -> FileUpload:
        """Start uploading a large file from disk in parts. `continue_upload` must complete the upload within an
        hour.
        """
        body = {**_announced(content), "purpose": purpose}
        return self._transport.request("POST", "/v1/uploads", FileUpload, json=body)

    def continue_upload(self, upload_id: str, content: Path) -> File:
        """Send the missing parts of an upload, even after an interruption, and complete it."""
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
        completed_upload = self._transport.request(
            "POST", f"{path}/complete", FileUpload, json=body, slow=True
        )
        if completed_upload.file is None:
            raise NotFound(
                "The file created by this upload has been removed.", code="file_not_found", param="upload_id"
            )
        return completed_upload.file

    def _at(self, file_id: str, *parts: str) -> str:
        return at("v1", "files", check_path_name(file_id, "a file"), *parts)


class Chunkers(calls_chunks.Chunkers):
    """Strategies for splitting documents into chunks."""

    def preview(
        self,
        content: str | Path | bytes,
        *strategies: str | Mapping[str, Any],
        filename: str | None = None,
        limit: int = 100,
    ) -> Sequence[Cut]:
        """Return how each strategy (``auto`` if none is given) would split a document: the first ``limit`` chunks.

        A ``str`` is the text itself, a ``Path`` a local file; ``filename`` gives the format. Nothing is stored.
        """
        if isinstance(content, str):
            filename = filename or "text.txt"
        data = bytes(content, "utf-8") if isinstance(content, str) else content
        fields = {"strategies": json.dumps(list(strategies) or ["auto"]), "limit": str(limit)}
        upload = Upload.of(data, filename, **fields)
        return self._transport.request("POST", "/api/chunk", list[Cut], upload=upload, slow=True)
