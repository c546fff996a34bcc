"""Reads the daemon's JSON into frozen values: unknown fields are left out, missing ones are an error."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from portico.errors import NotPortico
from portico.values import (
    App,
    Artifact,
    BetterModel,
    Chunk,
    Chunker,
    ChunkGroup,
    Cut,
    Deployment,
    Embeddings,
    Engine,
    File,
    FileCounts,
    Finding,
    Found,
    Key,
    McpServer,
    Model,
    NewKey,
    Page,
    Plan,
    Problem,
    Pruned,
    Recommendation,
    Replica,
    Run,
    Setting,
    SkippedFile,
    SkippedFiles,
    SmallModel,
    Status,
    Store,
    StoreFile,
    SyncPlan,
    Tool,
    ToolResult,
    ToolSource,
    TraceStage,
    TriedSource,
    Vacuumed,
)
from portico.wire import ErrorBody, Usage, passage_from_json, place_from_json

T = TypeVar("T")


def value_of(cls: type[T], value: Any, /, **replaced: Any) -> T:
    """``value`` as a ``cls``, with fields ``replaced`` that were read already. Raises `NotPortico`."""
    if not isinstance(value, Mapping):
        raise NotPortico(f"The daemon answered {type(value).__name__} where a {cls.__name__} was expected.")
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]  # only dataclasses are passed
    data = {name: item for name, item in value.items() if name in known and item is not None}
    try:
        return cls(**{**data, **replaced})
    except TypeError as error:
        raise NotPortico(
            f"The daemon's {cls.__name__} lacks a field ({error}). Are client and daemon of one version?"
        ) from error


def rows(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    """A reader for ``{"data": […]}``."""

    def listed(value: Any) -> list[T]:
        return [read(item) for item in _data(value)]

    return listed


def page(read: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    """A reader for OpenAI's list envelope."""

    def paged(value: Any) -> Page[T]:
        data = _data(value)
        last = data[-1].get("id") if data else None
        return Page(tuple(read(item) for item in data), bool(value.get("has_more")), last)

    return paged


def _data(value: Any) -> list[Any]:
    data = value.get("data") if isinstance(value, Mapping) else None
    if not isinstance(data, list):
        raise NotPortico("The answer holds no list 'data'. Is there a Portico daemon at this URL?")
    return data


def texts_of(name: str) -> Callable[[Any], list[str]]:
    """A reader for a list of strings in a JSON object."""

    def read(value: Any) -> list[str]:
        found = value.get(name) if isinstance(value, Mapping) else None
        if not isinstance(found, list):
            raise NotPortico(f"The answer lacks '{name}'. Is there a Portico daemon at this URL?")
        return [str(item) for item in found]

    return read


def text_of(name: str) -> Callable[[Any], str]:
    """A reader for one string of a JSON object."""

    def read(value: Any) -> str:
        found = value.get(name) if isinstance(value, Mapping) else None
        if not isinstance(found, str):
            raise NotPortico(f"The answer lacks '{name}'. Is there a Portico daemon at this URL?")
        return found

    return read


def nothing(_value: Any) -> None:
    """For calls whose answer says nothing beyond its status."""


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object as it is."""
    if not isinstance(value, dict):
        raise NotPortico("The answer is not a JSON object. Is there a Portico daemon at this URL?")
    return value


def model(value: Any) -> Model:
    return value_of(Model, value, capabilities=tuple(value.get("capabilities") or ()))


def deployment(value: Any) -> Deployment:
    return value_of(
        Deployment,
        value,
        aliases=tuple(value.get("aliases") or ()),
        replicas=tuple(value_of(Replica, item) for item in value.get("replicas") or ()),
        gpus=tuple(value.get("gpus") or ()),
    )


def plan(value: Any) -> Plan:
    return value_of(Plan, value, reasons=tuple(value.get("reasons") or ()))


def engine(value: Any) -> Engine:
    return value_of(Engine, value)


def finding(value: Any) -> Finding:
    return value_of(Finding, value)


def store(value: Any) -> Store:
    source = value.get("source")
    return value_of(
        Store,
        value,
        source=tuple(source) if isinstance(source, list) else source,
        file_counts=value_of(FileCounts, value.get("file_counts") or {}),
    )


def imported_store(value: Any) -> Store:
    return store(value["store"])


def chunk_group(value: Any) -> ChunkGroup:
    errors = tuple((pair[0], pair[1]) for pair in value.get("errors") or ())
    return value_of(ChunkGroup, value, errors=errors)


def sync_plan(value: Any) -> SyncPlan:
    lists = {name: tuple(value.get(name) or ()) for name in ("added", "changed", "removed")}
    moved = tuple((pair[0], pair[1]) for pair in value.get("moved") or ())
    return value_of(SyncPlan, value, moved=moved, **lists)


def skipped_files(value: Any) -> SkippedFiles:
    return value_of(
        SkippedFiles, value, files=tuple(value_of(SkippedFile, item) for item in value.get("data") or ())
    )


def store_file(value: Any) -> StoreFile:
    """Our own shape or OpenAI's ``vector_store.file`` with its ``last_error: {code, message}``."""
    failure = value.get("error") or value.get("last_error")
    error = failure.get("message") if isinstance(failure, Mapping) else failure
    return value_of(
        StoreFile,
        value,
        id=str(value.get("file_id") or value.get("id") or ""),
        filename=str(value.get("filename") or value.get("id") or ""),
        error=error,
    )


def chunker(value: Any) -> Chunker:
    return value_of(Chunker, value, formats=tuple(value.get("formats") or ()))


def cut(value: Any) -> Cut:
    chunks = tuple(Chunk(str(item["text"]), place_from_json(item["place"])) for item in value["chunks"])
    return value_of(Cut, value, chunks=chunks)


def file(value: Any) -> File:
    return value_of(File, value)


def pruned(value: Any) -> Pruned:
    return value_of(Pruned, value)


def run(value: Any) -> Run:
    failure = value.get("error")
    return value_of(
        Run,
        value,
        error=error_body(failure) if failure else None,
        usage=usage(value.get("usage")),
        last_event=int(value.get("last_event") or 0),
    )


def error_body(value: Any) -> ErrorBody:
    """An error object, with or without its envelope ``{"error": …}``."""
    inner = value.get("error", value) if isinstance(value, Mapping) else value
    if not isinstance(inner, Mapping):
        return ErrorBody(str(inner), "server_error")
    code = inner.get("code")
    return ErrorBody(
        str(inner.get("message") or "The daemon gave no reason."),
        str(inner.get("type") or "server_error"),
        None if code is None else str(code),
        inner.get("param"),
    )


def usage(value: Any) -> Usage:
    """Tokens, in our words or OpenAI's."""
    if not isinstance(value, Mapping):
        return Usage()
    details = value.get("prompt_tokens_details") or {}
    return Usage(
        int(value.get("prompt_tokens") or 0),
        int(value.get("completion_tokens") or 0),
        int(value.get("cached_tokens") or details.get("cached_tokens") or 0),
        value.get("cost"),
    )


def key(value: Any) -> Key:
    return value_of(Key, value, scopes=tuple(value.get("scopes") or ()))


def new_key(value: Any) -> NewKey:
    return value_of(NewKey, value, scopes=tuple(value.get("scopes") or ()))


def app(value: Any) -> App:
    return value_of(App, value)


def tool(value: Any) -> Tool:
    return value_of(Tool, value)


def tool_source(value: Any) -> ToolSource:
    return value_of(ToolSource, value, tools=tuple(value.get("tools") or ()))


def tool_result(value: Any) -> ToolResult:
    made = tuple(artifact(item) for item in value.get("artifacts") or ())
    return value_of(ToolResult, value, artifacts=made)


def artifact(value: Any) -> Artifact:
    return value_of(Artifact, value)


def mcp_server(value: Any) -> McpServer:
    lists = {name: tuple(value.get(name) or ()) for name in ("command", "env", "headers", "tools")}
    return value_of(McpServer, value, **lists)


def vacuumed(value: Any) -> Vacuumed:
    return value_of(Vacuumed, value)


def setting(value: Any) -> Setting:
    return value_of(Setting, value, value=value.get("value"))


def found(value: Any) -> Found:
    stages = tuple(
        value_of(TraceStage, item, candidates=tuple((c[0], c[1]) for c in item.get("candidates") or ()))
        for item in (value.get("trace") if isinstance(value, Mapping) else None) or ()
    )
    return Found(tuple(passage_from_json(item) for item in _data(value)), stages)


def recommendation(value: Any) -> Recommendation | None:
    """The daemon's advice; ``None`` if it has none."""
    if not isinstance(value, Mapping):
        return None
    return Recommendation(
        name=str(value.get("name") or ""),
        source=str(value.get("source") or ""),
        size_gb=value.get("size_gb"),
        reason=str(value.get("reason") or ""),
        raw=dict(value),
    )


def status(value: Any) -> Status:
    return value_of(
        Status,
        value,
        startup=tuple(value.get("startup") or ()),
        models=tuple(deployment(item) for item in value.get("models") or ()),
        stores=tuple(store(item) for item in value.get("stores") or ()),
        apps=tuple(
            str(item["name"]) if isinstance(item, Mapping) else str(item) for item in value.get("apps") or ()
        ),
        recommended=recommendation(value.get("recommended")),
        problems=tuple(value_of(Problem, item) for item in value.get("problems") or ()),
        small_model=small_model(value.get("small_model")),
    )


def small_model(value: Any) -> SmallModel | None:
    """The tiny model, if ``default`` means it."""
    if not isinstance(value, Mapping):
        return None
    return SmallModel(
        tuple(value.get("names") or ()), str(value.get("hint") or ""), tuple(value.get("apps") or ())
    )


def better_model(value: Any) -> BetterModel:
    return value_of(
        BetterModel, value, tried=tuple(value_of(TriedSource, item) for item in value.get("tried") or ())
    )


def decided(value: Any) -> str | None:
    """The run that fetches the better model; ``None`` if it was declined."""
    return None if value.get("run") is None else str(value["run"])


def embeddings(value: Any) -> Embeddings:
    """Vectors in the order of their texts, from base64 (little-endian float32) or from lists of numbers."""
    data = sorted(_data(value), key=lambda item: int(item["index"]))
    return Embeddings(
        tuple(_vector(item["embedding"]) for item in data),
        str(value.get("model") or ""),
        usage(value.get("usage")),
    )


def _vector(value: str | list[float]) -> tuple[float, ...]:
    if isinstance(value, str):
        raw = base64.b64decode(value)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    return tuple(value)
