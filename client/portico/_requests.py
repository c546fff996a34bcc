"""Every request the SDK can make, built without I/O: what to send, and how to read what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from portico import _read as read
from portico._events import ChatEvents, RunEvents
from portico._sse import ServerEvent
from portico.errors import InvalidRequest
from portico.values import (
    App,
    Artifact,
    Chunker,
    ChunkGroup,
    Cut,
    Deployment,
    Embeddings,
    Engine,
    File,
    Finding,
    Found,
    Key,
    McpServer,
    Model,
    NewKey,
    Page,
    Plan,
    Pruned,
    Ranker,
    Run,
    RunEvent,
    Setting,
    Status,
    Store,
    StoreFile,
    SyncPlan,
    Tool,
    ToolResult,
    ToolSource,
)

T = TypeVar("T")
Item = TypeVar("Item", covariant=True)
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send as multipart: a path, which is streamed, or bytes."""

    filename: str
    content: Path | bytes
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request with one answer, and its reader. ``raw`` hands bytes to the reader instead of JSON.

    ``slow`` calls have a model at work behind them and may take as long as the client's ``timeout``.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    upload: Upload | None = None
    slow: bool = False
    raw: bool = False


class Reader(Protocol[Item]):
    """Turns server-sent events into what they mean. ``done``: the one that ends the stream has come."""

    done: bool

    def feed(self, item: ServerEvent) -> Sequence[Item]: ...


@dataclass(frozen=True, slots=True)
class EventCall(Generic[T]):
    """A request that is answered by a stream of events; ``reader`` makes one reader per attempt."""

    method: str
    path: str
    reader: Callable[[], Reader[T]]
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def _at(*parts: str) -> str:
    """A path of literal segments and names; names are quoted, so that none can leave its place."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _named(name: str, what: str) -> str:
    # An empty name, "." or ".." would ask for another path than the one that was meant.
    if name in ("", ".", ".."):
        raise InvalidRequest(f"'{name}' is not a name for {what}.", param="name", code="invalid_value")
    return name


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# --- the daemon ---------------------------------------------------------------------------------------------


def health() -> Call[dict[str, Any]]:
    return Call("GET", "/health", read.mapping)


def status() -> Call[Status]:
    return Call("GET", "/api/status", read.status)


def settings() -> Call[list[Setting]]:
    return Call("GET", "/api/settings", read.rows(read.setting))


def usage(since: float | None) -> Call[list[dict[str, Any]]]:
    return Call("GET", "/api/usage", read.rows(read.mapping), query=_given(since=since))


def shutdown() -> Call[None]:
    return Call("POST", "/api/shutdown", read.nothing)


# --- models and deployments ---------------------------------------------------------------------------------


def models_list() -> Call[list[Model]]:
    return Call("GET", "/v1/models", read.rows(read.model))


def models_pull(source: str) -> Call[str]:
    return Call("POST", "/api/models/pull", read.text_of("run"), json={"source": source})


def models_plan(model: str, hardware: str | None, parameters: Mapping[str, Any] | None) -> Call[Plan]:
    body = _given(model=model, hardware=hardware, parameters=dict(parameters) if parameters else None)
    return Call("POST", "/api/models/plan", read.plan, json=body)


def models_alias(name: str, target: str) -> Call[None]:
    return Call("PUT", _at("api", "aliases", _named(name, "an alias")), read.nothing, json={"target": target})


def deployments_list() -> Call[list[Deployment]]:
    return Call("GET", "/api/deployments", read.rows(read.deployment))


def deployment(method: str, name: str) -> Call[Deployment]:
    return Call(method, _at("api", "deployments", _named(name, "a model")), read.deployment)


def deployment_add(
    name: str,
    source: str,
    engine: str | None,
    task: str | None,
    parameters: Mapping[str, Any] | None,
    api_key: str | None,
    aliases: Sequence[str],
    **more: Any,
) -> Call[Deployment]:
    body = _given(
        name=name,
        source=source,
        engine=engine,
        task=task,
        parameters=dict(parameters) if parameters else None,
        api_key=api_key,
        aliases=list(aliases) or None,
        **more,
    )
    return Call("POST", "/api/deployments", read.deployment, json=body)


def deployment_remove(name: str) -> Call[None]:
    return Call("DELETE", _at("api", "deployments", _named(name, "a model")), read.nothing)


def deployment_turn(name: str, action: str) -> Call[Deployment]:
    path = _at("api", "deployments", _named(name, "a model"), action)
    return Call("POST", path, read.deployment, slow=True)


def deployment_logs(name: str, lines: int) -> Call[list[str]]:
    path = _at("api", "deployments", _named(name, "a model"), "logs")
    return Call("GET", path, read.rows(str), query={"lines": lines})


def engines_list() -> Call[list[Engine]]:
    return Call("GET", "/api/engines", read.rows(read.engine))


def engine_install(name: str, rebuild: bool) -> Call[str]:
    path = _at("api", "engines", _named(name, "an engine"), "install")
    return Call("POST", path, read.text_of("run"), json={"rebuild": rebuild})


def engine_doctor(name: str) -> Call[list[Finding]]:
    path = _at("api", "engines", _named(name, "an engine"), "doctor")
    return Call("POST", path, read.rows(read.finding), slow=True)


def engine_remove(name: str) -> Call[None]:
    return Call("DELETE", _at("api", "engines", _named(name, "an engine")), read.nothing, slow=True)


def embed(texts: str | Sequence[str], model: str, dimensions: int | None) -> Call[Embeddings]:
    body = _given(
        model=model,
        input=[texts] if isinstance(texts, str) else list(texts),
        dimensions=dimensions,
        encoding_format="base64",
    )
    return Call("POST", "/v1/embeddings", read.embeddings, json=body, slow=True)


# --- conversations ------------------------------------------------------------------------------------------


def messages_of(said: str | Sequence[Message], history: Sequence[Message] = ()) -> list[dict[str, Any]]:
    """A question, or a whole conversation, after what was said before."""
    asked: Sequence[Message] = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return [dict(message) for message in (*history, *asked)]


def chat(messages: str | Sequence[Message], model: str, options: Mapping[str, Any]) -> EventCall[RunEvent]:
    if "stream" in options:
        raise InvalidRequest(
            "A chat always streams: for the whole answer, call read() on it.", param="stream"
        )
    body = {
        "model": model,
        "messages": messages_of(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        **options,
    }
    return EventCall("POST", "/v1/chat/completions", ChatEvents, json=body)


def app_run(
    app: str, question: str | Sequence[Message], history: Sequence[Message], options: Mapping[str, Any]
) -> EventCall[RunEvent]:
    path = _at("api", "apps", _named(app, "an app"), "run")
    return EventCall("POST", path, RunEvents, json={"messages": messages_of(question, history), **options})


def apps_list() -> Call[list[App]]:
    return Call("GET", "/api/apps", read.rows(read.app))


def the_only(apps: Sequence[App]) -> str:
    """The app to ask when none was named; `InvalidRequest` that lists them unless there is exactly one."""
    if len(apps) == 1:
        return apps[0].name
    if not apps:
        raise InvalidRequest(
            "There is no app to ask yet. Add a folder of documents: portico stores add ./docs", param="app"
        )
    names = ", ".join(app.name for app in apps)
    raise InvalidRequest(f"There are several apps: {names}. Say which one to ask.", param="app")


# --- knowledge ----------------------------------------------------------------------------------------------


def stores_list() -> Call[list[Store]]:
    return Call("GET", "/api/stores", read.rows(read.store))


def store_get(name: str) -> Call[Store]:
    return Call("GET", _at("api", "stores", _named(name, "a store")), read.store)


def store_add(
    name: str,
    folder: str | None,
    source: str | Sequence[str] | None,
    embedding_model: str | None,
    description: str | None,
    app: bool | None,
) -> Call[Store]:
    body = _given(
        name=name,
        folder=folder,
        source=_source(source),
        embedding_model=embedding_model,
        description=description,
        app=app,
    )
    return Call("POST", "/api/stores", read.store, json=body)


def _source(given: str | Sequence[str] | None) -> str | list[str] | None:
    return given if given is None or isinstance(given, str) else list(given)


def store_remove(name: str) -> Call[None]:
    return Call("DELETE", _at("api", "stores", _named(name, "a store")), read.nothing)


def store_sync(name: str) -> Call[str]:
    return Call("POST", _at("api", "stores", _named(name, "a store"), "sync"), read.text_of("run"))


def store_plan(name: str) -> Call[SyncPlan]:
    path = _at("api", "stores", _named(name, "a store"), "sync", "plan")
    return Call("GET", path, read.sync_plan, slow=True)


def store_change(
    name: str,
    description: str | None,
    source: str | Sequence[str] | None,
    embedding_model: str | None,
    paused: bool | None,
) -> Call[Store]:
    body = _given(
        description=description, source=_source(source), embedding_model=embedding_model, paused=paused
    )
    return Call("PATCH", _at("api", "stores", _named(name, "a store")), read.store, json=body)


def store_calibrate(
    name: str, questions: Sequence[Mapping[str, str]] | None, generate: int | None, model: str, apply: bool
) -> Call[str]:
    asked = None if questions is None else [dict(question) for question in questions]
    body = _given(questions=asked, generate=generate, model=model, apply=apply)
    return Call(
        "POST", _at("api", "stores", _named(name, "a store"), "calibrate"), read.text_of("run"), json=body
    )


def store_export(name: str, vectors: bool) -> Call[bytes]:
    path = _at("api", "stores", _named(name, "a store"), "export")
    return Call("GET", path, bytes, query={"vectors": str(vectors).lower()}, raw=True, slow=True)


def store_import(archive: Path, name: str | None) -> Call[Store]:
    upload = Upload(_file_name(archive, None), archive, _given(name=name))
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
    body = _given(
        name=group,
        chunking_strategy=dict(chunking) if chunking else None,
        parent=parent,
        embedding_model=embedding_model,
    )
    return Call("POST", _groups(name), read.text_of("run"), json=body)


def group_remove(name: str, group: str) -> Call[None]:
    return Call("DELETE", _groups(name, _named(group, "a group")), read.nothing, slow=True)


def groups_retry(name: str) -> Call[list[str]]:
    return Call("POST", _groups(name, "retry"), read.texts_of("runs"))


def _groups(name: str, *more: str) -> str:
    return _at("api", "stores", _named(name, "a store"), "groups", *more)


def store_files(name: str, after: str | None, limit: int, status: str | None) -> Call[Page[StoreFile]]:
    path = _at("api", "stores", _named(name, "a store"), "files")
    query = _given(after=after, limit=limit, status=status)
    return Call("GET", path, read.page(read.store_file), query=query)


def store_attach(store_id: str, file_id: str) -> Call[StoreFile]:
    path = _at("v1", "vector_stores", _named(store_id, "a store"), "files")
    return Call("POST", path, read.store_file, json={"file_id": file_id})


def store_detach(store_id: str, file_id: str) -> Call[None]:
    path = _at("v1", "vector_stores", _named(store_id, "a store"), "files", _named(file_id, "a file"))
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
    body = _given(
        query=query,
        max_num_results=max_num_results,
        filters=dict(filters) if filters else None,
        score_threshold=score_threshold,
        ranker=ranker,
        trace=trace or None,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
    )
    if isinstance(store, str):
        path = _at("api", "stores", _named(store, "a store"), "search")
    else:
        path, body = "/api/search", {"stores": list(store), **body}
    return Call("POST", path, read.found, json=body, slow=True)


def files_list(after: str | None, limit: int) -> Call[Page[File]]:
    return Call("GET", "/v1/files", read.page(read.file), query=_given(after=after, limit=limit))


def file_get(file_id: str) -> Call[File]:
    return Call("GET", _at("v1", "files", _named(file_id, "a file")), read.file)


def file_add(content: Path | bytes, filename: str | None, purpose: str) -> Call[File]:
    """`InvalidRequest` if bytes come without a name or the path is no readable file."""
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
    return Call("DELETE", _at("v1", "files", _named(file_id, "a file")), read.nothing)


def file_content(file_id: str) -> Call[bytes]:
    return Call("GET", _at("v1", "files", _named(file_id, "a file"), "content"), bytes, raw=True, slow=True)


def chunkers_list() -> Call[list[Chunker]]:
    return Call("GET", "/api/chunkers", read.rows(read.chunker))


def chunk(
    content: str | Path | bytes,
    strategies: Sequence[str | Mapping[str, Any]],
    filename: str | None,
    limit: int,
) -> Call[list[Cut]]:
    """A ``str`` is the text itself. `InvalidRequest` if bytes come without a name or the path is no readable file."""
    if isinstance(content, str):
        content, filename = content.encode(), filename or "text.txt"
    fields = {"strategies": dumps(list(strategies) or ["auto"]), "limit": str(limit)}
    upload = Upload(_file_name(content, filename), content, fields)
    return Call("POST", "/api/chunk", read.rows(read.cut), upload=upload, slow=True)


# --- runs, keys, tools --------------------------------------------------------------------------------------


def runs_list(limit: int) -> Call[list[Run]]:
    return Call("GET", "/api/runs", read.rows(read.run), query={"limit": limit})


def run_get(run_id: str) -> Call[Run]:
    return Call("GET", _at("api", "runs", _named(run_id, "a run")), read.run)


def run_cancel(run_id: str) -> Call[None]:
    return Call("POST", _at("api", "runs", _named(run_id, "a run"), "cancel"), read.nothing)


def runs_prune(days: float | None, dry_run: bool) -> Call[Pruned]:
    body = _given(days=days, dry_run=dry_run)
    return Call("POST", "/api/runs/prune", read.pruned, json=body, slow=True)


def run_events(run_id: str, after: int) -> EventCall[RunEvent]:
    headers = {"last-event-id": str(after)} if after else {}
    path = _at("api", "runs", _named(run_id, "a run"), "events")
    return EventCall("GET", path, RunEvents, headers=headers)


def keys_list() -> Call[list[Key]]:
    return Call("GET", "/api/keys", read.rows(read.key))


def key_add(name: str, scopes: Sequence[str], limits: Mapping[str, int] | None) -> Call[NewKey]:
    body = _given(name=name, scopes=list(scopes), limits=dict(limits) if limits else None)
    return Call("POST", "/api/keys", read.new_key, json=body)


def key_revoke(key_id: str) -> Call[None]:
    return Call("DELETE", _at("api", "keys", _named(key_id, "a key")), read.nothing)


def tools_list(group: str | None, search: str | None) -> Call[list[Tool]]:
    return Call("GET", "/api/tools", read.rows(read.tool), query=_given(group=group, search=search))


def tool_get(name: str) -> Call[Tool]:
    return Call("GET", _at("api", "tools", _named(name, "a tool")), read.tool)


def tool_sources() -> Call[list[ToolSource]]:
    return Call("GET", "/api/tool-sources", read.rows(read.tool_source))


def tool_source(name: str) -> Call[ToolSource]:
    return Call("GET", _at("api", "tool-sources", _named(name, "a tool")), read.tool_source)


def tool_add(name: str, spec: Mapping[str, Any]) -> Call[ToolSource]:
    return Call("POST", "/api/tool-sources", read.tool_source, json={"name": name, **spec}, slow=True)


def tool_remove(name: str) -> Call[None]:
    return Call("DELETE", _at("api", "tool-sources", _named(name, "a tool")), read.nothing)


def tool_start(name: str, arguments: Mapping[str, Any]) -> Call[str]:
    path = _at("api", "tools", _named(name, "a tool"), "call")
    return Call(
        "POST", path, read.text_of("run"), query={"wait": "false"}, json={"arguments": dict(arguments)}
    )


def tool_call(name: str, arguments: Mapping[str, Any]) -> Call[ToolResult]:
    path = _at("api", "tools", _named(name, "a tool"), "call")
    return Call("POST", path, read.tool_result, json={"arguments": dict(arguments)}, slow=True)


def artifacts_list(run: str | None, limit: int) -> Call[list[Artifact]]:
    return Call("GET", "/api/artifacts", read.rows(read.artifact), query=_given(run=run, limit=limit))


def artifact_get(artifact_id: str) -> Call[Artifact]:
    return Call("GET", _at("api", "artifacts", _named(artifact_id, "an artifact")), read.artifact)


def artifact_content(artifact_id: str) -> Call[bytes]:
    path = _at("api", "artifacts", _named(artifact_id, "an artifact"), "content")
    return Call("GET", path, bytes, raw=True, slow=True)


def artifact_remove(artifact_id: str) -> Call[None]:
    return Call("DELETE", _at("api", "artifacts", _named(artifact_id, "an artifact")), read.nothing)


# --- MCP servers of other people ----------------------------------------------------------------------------


def mcp_list() -> Call[list[McpServer]]:
    return Call("GET", "/api/mcp/servers", read.rows(read.mcp_server))


def mcp_get(name: str) -> Call[McpServer]:
    return Call("GET", _server(name), read.mcp_server)


def mcp_add(
    name: str, command: Sequence[str], url: str | None, options: Mapping[str, Any]
) -> Call[McpServer]:
    body = {"name": name, "command": list(command), "url": url or "", **options}
    return Call("POST", "/api/mcp/servers", read.mcp_server, json=body, slow=True)


def mcp_remove(name: str) -> Call[None]:
    return Call("DELETE", _server(name), read.nothing, slow=True)


def mcp_restart(name: str) -> Call[McpServer]:
    return Call("POST", _server(name, "restart"), read.mcp_server)


def mcp_logs(name: str, lines: int) -> Call[list[str]]:
    return Call("GET", _server(name, "logs"), read.rows(str), query={"lines": lines})


def _server(name: str, *more: str) -> str:
    return _at("api", "mcp", "servers", _named(name, "an MCP server"), *more)
