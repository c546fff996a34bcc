"""Requests about stores, files and chunkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import Any

from portico import _read as read
from portico._calls.call import Call, Upload, at, given, named
from portico.errors import InvalidRequest
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


def stores_list() -> Call[list[Store]]:
    return Call("GET", "/api/stores", read.rows(read.store))


def store_get(name: str) -> Call[Store]:
    return Call("GET", at("api", "stores", named(name, "a store")), read.store)


def store_add(
    name: str,
    folder: str | None,
    source: str | Sequence[str] | None,
    embedding_model: str | None,
    description: str | None,
    app: bool | None,
    answers: str | None,
) -> Call[Store]:
    body = given(
        name=name,
        folder=folder,
        source=_source(source),
        embedding_model=embedding_model,
        description=description,
        app=app,
        answers=answers,
    )
    return Call("POST", "/api/stores", read.store, json=body)


def _source(given: str | Sequence[str] | None) -> str | list[str] | None:
    return given if given is None or isinstance(given, str) else list(given)


def store_remove(name: str) -> Call[None]:
    return Call("DELETE", at("api", "stores", named(name, "a store")), read.nothing)


def store_sync(name: str) -> Call[str]:
    return Call("POST", at("api", "stores", named(name, "a store"), "sync"), read.text_of("run"))


def store_reindex(name: str, files: bool) -> Call[str]:
    path = at("api", "stores", named(name, "a store"), "reindex")
    return Call("POST", path, read.text_of("run"), json={"files": files})


def store_plan(name: str) -> Call[SyncPlan]:
    path = at("api", "stores", named(name, "a store"), "sync", "plan")
    return Call("GET", path, read.sync_plan, slow=True)


def store_skipped(name: str) -> Call[SkippedFiles]:
    path = at("api", "stores", named(name, "a store"), "skipped")
    return Call("GET", path, read.skipped_files)


def store_change(
    name: str,
    description: str | None,
    source: str | Sequence[str] | None,
    embedding_model: str | None,
    paused: bool | None,
    answers: str | None,
) -> Call[Store]:
    body = given(
        description=description,
        source=_source(source),
        embedding_model=embedding_model,
        paused=paused,
        answers=answers,
    )
    return Call("PATCH", at("api", "stores", named(name, "a store")), read.store, json=body)


def store_calibrate(
    name: str, questions: Sequence[Mapping[str, str]] | None, generate: int | None, model: str, apply: bool
) -> Call[str]:
    asked = None if questions is None else [dict(question) for question in questions]
    body = given(questions=asked, generate=generate, model=model, apply=apply)
    return Call(
        "POST", at("api", "stores", named(name, "a store"), "calibrate"), read.text_of("run"), json=body
    )


def store_export(name: str, vectors: bool) -> Call[bytes]:
    path = at("api", "stores", named(name, "a store"), "export")
    return Call("GET", path, bytes, query={"vectors": str(vectors).lower()}, raw=True, slow=True)


def store_import(archive: Path, name: str | None) -> Call[Store]:
    upload = Upload(_file_name(archive, None), archive, given(name=name))
    return Call("POST", "/api/stores/import", read.imported_store, upload=upload, slow=True)


def groups_list(name: str) -> Call[list[ChunkGroup]]:
    return Call("GET", _groups(name), read.rows(read.chunk_group))


def group_add(
    name: str,
    group: str,
    chunking: Mapping[str, Any] | None,
    parent: str | None,
    embedding_model: str | None,
) -> Call[str]:
    body = given(
        name=group,
        chunking_strategy=dict(chunking) if chunking else None,
        parent=parent,
        embedding_model=embedding_model,
    )
    return Call("POST", _groups(name), read.text_of("run"), json=body)


def group_remove(name: str, group: str) -> Call[None]:
    return Call("DELETE", _groups(name, named(group, "a group")), read.nothing, slow=True)


def groups_retry(name: str) -> Call[list[str]]:
    return Call("POST", _groups(name, "retry"), read.texts_of("runs"))


def _groups(name: str, *more: str) -> str:
    return at("api", "stores", named(name, "a store"), "groups", *more)


def store_files(name: str, after: str | None, limit: int, status: str | None) -> Call[Page[StoreFile]]:
    path = at("api", "stores", named(name, "a store"), "files")
    query = given(after=after, limit=limit, status=status)
    return Call("GET", path, read.page(read.store_file), query=query)


def store_attach(store_id: str, file_id: str) -> Call[StoreFile]:
    path = at("v1", "vector_stores", named(store_id, "a store"), "files")
    return Call("POST", path, read.store_file, json={"file_id": file_id})


def store_detach(store_id: str, file_id: str) -> Call[None]:
    path = at("v1", "vector_stores", named(store_id, "a store"), "files", named(file_id, "a file"))
    return Call("DELETE", path, read.nothing)


def search(
    store: str | Sequence[str],
    query: str,
    max_num_results: int,
    filters: Mapping[str, Any] | None,
    score_threshold: float | None,
    ranker: Ranker | None,
    trace: bool,
    options: Mapping[str, Any],
) -> Call[Found]:
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
        path = at("api", "stores", named(store, "a store"), "search")
    else:
        path, body = "/api/search", {"stores": list(store), **body}
    return Call("POST", path, read.found, json=body, slow=True)


def files_list(after: str | None, limit: int) -> Call[Page[File]]:
    return Call("GET", "/v1/files", read.page(read.file), query=given(after=after, limit=limit))


def file_get(file_id: str) -> Call[File]:
    return Call("GET", at("v1", "files", named(file_id, "a file")), read.file)


def file_add(content: Path | bytes, filename: str | None, purpose: str) -> Call[File]:
    """`InvalidRequest` if bytes come without a name or the path is not a readable file."""
    upload = Upload(_file_name(content, filename), content, {"purpose": purpose})
    return Call("POST", "/v1/files", read.file, upload=upload, slow=True)


def _file_name(content: Path | bytes, filename: str | None) -> str:
    if isinstance(content, Path):
        if not content.is_file():
            raise InvalidRequest(f"There is no file at '{content}'.", param="file")
        filename = filename or content.name
    if not filename:
        raise InvalidRequest("Bytes need a file name: pass filename=…", param="filename")
    return filename


def file_remove(file_id: str) -> Call[None]:
    return Call("DELETE", at("v1", "files", named(file_id, "a file")), read.nothing)


def file_content(file_id: str) -> Call[bytes]:
    return Call("GET", at("v1", "files", named(file_id, "a file"), "content"), bytes, raw=True, slow=True)


def chunkers_list() -> Call[list[Chunker]]:
    return Call("GET", "/api/chunkers", read.rows(read.chunker))


def chunk(
    content: str | Path | bytes,
    strategies: Sequence[str | Mapping[str, Any]],
    filename: str | None,
    limit: int,
) -> Call[list[Cut]]:
    """A ``str`` is the text itself. `InvalidRequest` if bytes come without a name or the path is not a readable
    file.
    """
    if isinstance(content, str):
        content, filename = content.encode(), filename or "text.txt"
    fields = {"strategies": dumps(list(strategies) or ["auto"]), "limit": str(limit)}
    upload = Upload(_file_name(content, filename), content, fields)
    return Call("POST", "/api/chunk", read.rows(read.cut), upload=upload, slow=True)
