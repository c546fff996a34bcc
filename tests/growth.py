"""Growing bodies: deep, wide, long, with patterns that backtrack and huge numbers, for every endpoint.

The test in tests/server/api/test_growth.py sends a few of each kind; bench/growth.py sends many larger ones.
"""

from __future__ import annotations

import http.client
import io
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args
from urllib.parse import quote, urlencode, urlsplit

import orjson

SLOW_PATTERN: Final = "^(([a-z])+.)+[A-Z]([a-z])+$"
ALIASES: Final = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{this}: &{this} [{','.join([f'*{before}'] * 9)}]\n"
    for before, this in zip("abcdefgh", "bcdefghi", strict=True)
)

STOPS: Final = {"/api/shutdown"}
"""Paths that stop the daemon."""

WAITS: Final = {"/api/questions/claim", "/api/workers/{worker}/claim"}
"""Paths that answer only when there is work."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A way to grow: the values that fields of each type get. Fields of other types keep a small value."""

    name: str
    text: str | None = None
    number: Any = None
    items: int = 0
    names: int = 0
    depth: int = 0


def growths(scale: int = 1) -> list[Growth]:
    """Return every way to grow, ``scale`` times as large as in the test."""
    return [
        Growth("long texts", text="a" * (200_000 * scale)),
        Growth("control characters", text="\x00\x1b\r\n\u202e" * 50),
        Growth("thousands of digits", text="9" * 5_000),
        Growth("digits that are no numbers", text="\u00b2\u0663"),
        Growth("patterns that backtrack", text=SLOW_PATTERN),
        Growth("yaml aliases", text=ALIASES),
        Growth("template of templates", text="{a}{{a}}" * (5_000 * scale)),
        Growth("huge numbers", number=10**18),
        Growth("numbers beyond 64 bits", number=10**300),
        Growth("negative numbers", number=-(2**63)),
        Growth("wide", items=2_000 * scale, names=2_000 * scale),
        Growth("deep", depth=90),
        Growth("too deep", depth=1_000),
    ]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API operation that accepts JSON. Its path has ``{name}`` for each parameter."""

    method: str
    path: str
    schema: Mapping[str, Any]
    components: Mapping[str, Any]

    def grown(self, how: Growth) -> Any:
        """Return a body in which every field has grown."""
        return _value(self.schema, self.components, how, 0)


def endpoints(document: Mapping[str, Any]) -> Iterator[Endpoint]:
    """Yield all endpoints that accept JSON, as the OpenAPI document of a daemon lists them."""
    components = document.get("components", {}).get("schemas", {})
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            if schema is not None and path not in STOPS:
                yield Endpoint(method.upper(), path, schema, components)


CONFIGURATION: Final = """
models:
  - {name: default, source: "fake://"}
  - {name: default-embedding, source: "fake://", task: embedding, parameters: {dimensions: 16}}
  - {name: painter, source: "fake://", task: image}
  - {name: voice, source: "fake://", task: speech}
  - {name: ear, source: "fake://", task: transcription}
agents:
  - {name: desk, portico_agent: 1, model: default}
"""
"""Configuration of a daemon whose endpoints grow."""

EXISTING: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "conversation_id": ("/v1/conversations", {}),
    "response_id": ("/v1/responses", {"model": "default", "input": "a"}),
    "completion_id": (
        "/v1/chat/completions",
        {"model": "default", "messages": [{"role": "user", "content": "a"}], "store": True},
    ),
    "session_id": ("/api/sessions", {"app": "desk"}),
    "eval_id": (
        "/v1/evals",
        {
            "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
            "testing_criteria": [
                {
                    "type": "string_check",
                    "name": "same",
                    "input": "{{item.a}}",
                    "reference": "a",
                    "operation": "eq",
                }
            ],
        },
    ),
    "store": ("/v1/vector_stores", {"name": "kept"}),
    "container_id": ("/v1/containers", {"name": "a"}),
    "upload_id": (
        "/v1/uploads",
        {"purpose": "user_data", "filename": "a.txt", "bytes": 1, "mime_type": "text/plain"},
    ),
    "schedule": ("/api/schedules", {"name": "a", "app": "desk", "every": "1h", "overlap": "allow"}),
    "webhook_endpoint_id": (
        "/v1/webhook_endpoints",
        {"name": "a", "url": "https://example.com/hook", "event_types": ["batch.completed"]},
    ),
}
"""For a name in a path: the endpoint and body that create the resource. Its fields grow one at a time."""

UNNAMED: Final = {
    *("artifact_id", "batch_id", "fact_id", "file_id", "group", "item_id", "job_id", "key_id", "name"),
    *("output_item_id", "path", "question_id", "run_id", "search_id", "seq", "skill_id", "version", "worker"),
    *("webhook_id", "delivery_id", "alias", "launcher", "node", "link_id", "secret", "improvement_id"),
}
"""Path parameters without an existing resource: the body grows whatever endpoint it is sent to."""

BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    **dict(EXISTING.values()),
    "/v1/responses/compact": {"model": "default", "input": "a"},
    "/v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "a"}]},
    "/api/sessions/{session_id}/messages": {"messages": ["a"]},
    "/v1/evals/{eval_id}/runs": {
        "data_source": {
            "type": "jsonl",
            "source": {"type": "file_content", "content": [{"item": {"a": "a"}}]},
        }
    },
    "/v1/images/generations": {"model": "painter", "prompt": "a"},
    "/v1/images/edits": {"model": "painter", "prompt": "a"},
    "/v1/audio/speech": {"model": "voice", "input": "a"},
    "/v1/audio/transcriptions": {"model": "ear"},
    "/v1/audio/translations": {"model": "ear"},
}
"""Accepted bodies, to which one grown field is added. Other endpoints get the required fields."""

ALONE: Final = (
    *(
        "/v1/conversations",
        "/v1/responses",
        "/v1/chat/",
        "/v1/evals",
        "/v1/images/",
        "/v1/audio/",
        "/v1/uploads",
        "/v1/webhook_endpoints",
        "/api/schedules",
    ),
    *("/v1/vector_stores", "/api/sessions"),
)
"""Prefixes of the paths whose fields grow one at a time."""


def at(path: str, existing: Mapping[str, str]) -> str:
    """Return a path with the ids of existing resources, and ids of nothing for the other parameters."""
    parts = path.split("/")
    return "/".join(existing.get(part[1:-1], "nothing") if part.startswith("{") else part for part in parts)


def fields_alone(endpoint: Endpoint, how: Growth) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield, for each field of an endpoint that can grow in this way, its name and an acceptable body in which only
    that field has grown.
    """
    schema = endpoint.schema
    if "$ref" in schema:
        schema = endpoint.components[schema["$ref"].rpartition("/")[2]]
    properties = schema.get("properties", {})
    least = BODIES.get(endpoint.path)
    if least is None:
        small = {name: properties[name] for name in schema.get("required", ()) if name in properties}
        least = {
            name: _value(field_schema, endpoint.components, Growth("small"), 1)
            for name, field_schema in small.items()
        }
    for name, field_schema in properties.items():
        value = _value(field_schema, endpoint.components, how, 1)
        if value != _value(field_schema, endpoint.components, Growth("small"), 1):
            yield name, {**least, name: value}
    for name in least.keys() - properties.keys():  # a body whose fields the document does not list
        yield name, {**least, name: _value(_schema_of(least[name]), {}, how, 1)}


def _schema_of(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"type": "array", "items": _schema_of(value[0]) if value else {}}
    if isinstance(value, dict):
        return {
            "type": "object",
            "properties": {name: _schema_of(field_value) for name, field_value in value.items()},
        }
    return {
        "type": "boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "string"
    }


@dataclass(frozen=True, slots=True)
class Form:
    """An operation that accepts a form with fields and files."""

    method: str
    path: str
    schema: Mapping[str, Any]

    def grown(self, how: Growth, file: bytes) -> tuple[dict[str, str], list[tuple[str, tuple[str, bytes]]]]:
        """Return the files and the fields; every field has grown except those that `BODIES` gives."""
        fields, files = {}, []
        for name, field_schema in self.schema["properties"].items():
            item = field_schema.get("items", field_schema)
            if item.get("format") == "binary":
                files.append((name, ((how.text or "a")[:200], file)))
                continue
            value = BODIES.get(self.path, {}).get(name, _value(field_schema, {}, how, 1))
            fields[name] = value if isinstance(value, str) else body(value).decode()
        return fields, files


def forms(document: Mapping[str, Any]) -> Iterator[Form]:
    """Yield all operations that accept a form, as the OpenAPI document of a daemon lists them."""
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "multipart/form-data" in content:
                yield Form(method.upper(), path, content["multipart/form-data"]["schema"])


def files_that_grow(scale: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield file contents, including archives that expand when they are read."""
    yield "text", b"a" * (200_000 * scale)
    yield "nothing", b""
    yield "brackets", b"[" * (200_000 * scale)
    wav = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\xff\xff\xff\xff\xff\x7f" + b"\xff" * 20
    yield "a sound whose head lies", wav
    size = (2**31 - 1).to_bytes(4, "big")
    yield (
        "a picture whose head lies",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size * 2 + b"\x08\x06\0\0\0" + b"a" * 8,
    )
    for name, members in {
        "an archive that is large inside": [("portico-store.json", b"\0" * (25_000_000 * scale**2))],
        "an archive of many files": [(f"files/{number}", b"a") for number in range(5_000 * scale**2)],
        "an archive of long names": [("a/" * 30_000, b"a")],
        "an archive that leaves its folder": [("../../a", b"a"), ("/etc/a", b"a")],
    }.items():
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members:
                archive.writestr(member, content)
        yield name, data.getvalue()


MCP_VERSION: Final = "2026-07-28"
MCP_HEADERS: Final = {"accept": "application/json, text/event-stream", "mcp-protocol-version": MCP_VERSION}


def messages(how: Growth) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every request that an MCP client can send, and its answers to the server's requests, with everything
    grown.
    """
    import mcp_types as types  # takes half a second, and only some tests need it

    answers = {
        "elicitation": {"action": "accept", "content": _value({}, {}, how, 0)},
        "sampling": _grown(types.CreateMessageResult, how),
        "roots": _grown(types.ListRootsResult, how),
    }
    for kind in (*get_args(types.ClientRequest), types.GetTaskRequest, types.CancelTaskRequest):
        method = kind.model_fields["method"].default or get_args(kind.model_fields["method"].annotation)[0]
        params = _grown(kind, how).get("params") or {}
        if method == "tools/call":
            params |= {"name": "nothing", "arguments": _value({}, {}, how, 0), "inputResponses": answers}
            yield f"{method} with answers", _rpc(method, {**params, "requestState": how.text or "nothing"})
            params = {name: item for name, item in params.items() if name != "requestState"}
        yield method, _rpc(method, params)
    for name, answer in answers.items():
        yield f"an answer of {name}", {"jsonrpc": "2.0", "id": 1, "result": answer}


def _grown(kind: Any, how: Growth) -> dict[str, Any]:
    schema = kind.model_json_schema(by_alias=True)
    grown_value: dict[str, Any] = _value(schema, schema.get("$defs", {}), how, 0)
    return grown_value


def _rpc(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MCP_VERSION,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


@dataclass(frozen=True, slots=True)
class Address:
    """An operation and its parameters, with names and types; path parameters come first."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]

    def grown(self, text: str, number: str) -> str:
        """Return the address with every part grown."""
        parts = [quote(text[:2_000], safe="") if "{" in part else part for part in self.path.split("/")]
        values = {
            name: number if kind in ("integer", "number") else text[:2_000] for name, kind in self.query
        }
        return "/".join(parts) + (f"?{urlencode(values)}" if values else "")


def addresses(document: Mapping[str, Any]) -> Iterator[Address]:
    """Yield all operations with parameters, as the OpenAPI document of a daemon lists them."""
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            query_parameters = tuple(
                (parameter["name"], _kind(parameter.get("schema", {})))
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "query"
            )
            if (query_parameters or "{" in path) and path not in STOPS:
                yield Address(method.upper(), path, query_parameters)


def _kind(schema: Mapping[str, Any]) -> str:
    for alternative in (schema, *schema.get("anyOf", ())):
        if alternative.get("type") not in (None, "null"):
            return str(alternative["type"])
    return "string"


def _value(schema: Mapping[str, Any], components: Mapping[str, Any], how: Growth, level: int) -> Any:
    if "$ref" in schema:
        return _value(components[schema["$ref"].rpartition("/")[2]], components, how, level)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            kinds = [alternative for alternative in schema[several] if alternative.get("type") != "null"]
            return _value(kinds[0] if kinds else {}, components, how, level)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema.get("type"):
        case "string":
            return how.text if how.text is not None else "a"
        case "integer" | "number":
            return how.number if how.number is not None else 1
        case "boolean":
            return True
        case "array":
            if level > 6:
                return []
            item = _value(schema.get("items", {}), components, how, level + 1)
            # Many large items would make a large body, which is refused for its size alone.
            return [item] * (how.items if how.items and _is_small(item) else 1)
        case _:
            return _object(schema, components, how, level)


def _object(schema: Mapping[str, Any], components: Mapping[str, Any], how: Growth, level: int) -> Any:
    properties = schema.get("properties", {})
    if properties and level <= 6:
        return {name: _value(inner, components, how, level + 1) for name, inner in properties.items()}
    if how.depth:
        return nested(how.depth)
    if how.names:
        return {f"name{number}": number for number in range(how.names)}
    if how.number is not None:
        return {"a": how.number}
    return {"a": how.text} if how.text is not None else {}


def nested(depth: int) -> Any:
    """Return an object of that depth."""
    value: Any = {}
    for _level in range(depth):
        value = {"a": value}
    return value


def _is_small(value: Any) -> bool:
    return len(body(value)) < 200


def body(value: Any) -> bytes:
    """Serialize a value of any nesting depth as JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:  # too deep, or a number of more than 64 bits
        return _deep(value)


def _deep(value: Any) -> bytes:
    """Serialize without recursion, since JSON writers stop at some hundred levels."""
    out: list[bytes] = []
    stack: list[Any] = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, bytes):
            out.append(node)
        elif isinstance(node, dict | list):
            opening, closing = (b"{", b"}") if isinstance(node, dict) else (b"[", b"]")
            out.append(opening)
            items: list[Any] = []
            pairs = node.items() if isinstance(node, dict) else ((None, item) for item in node)
            for number, (name, item) in enumerate(pairs):
                separator = b"," if number else b""
                items += [separator if name is None else separator + orjson.dumps(name) + b":", item]
            stack += [closing, *reversed(items)]
        else:
            out.append(str(node).encode() if type(node) is int else orjson.dumps(node))
    return b"".join(out)


@dataclass(slots=True)
class Health:
    """Polls ``/health`` on its own connection during a ``with`` block."""

    url: str
    pause_s: float = 0.02
    slowest_s: float = 0.0
    asked: int = 0
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Health:
        self._thread = threading.Thread(target=self._ask, name="health", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join(60)

    def since(self) -> float:
        """Return the slowest answer since the last call, in seconds."""
        slowest, self.slowest_s = self.slowest_s, 0.0
        return slowest

    def _ask(self) -> None:
        host = urlsplit(self.url)
        connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=60)
        while not self._over.is_set():
            started_at = time.perf_counter()
            try:
                connection.request("GET", "/health")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(f"status {answer.status}")
            except OSError as error:
                self.failures.append(repr(error))
                connection.close()
            self.slowest_s = max(self.slowest_s, time.perf_counter() - started_at)
            self.asked += 1
            self._over.wait(self.pause_s)
        connection.close()


def _same(name: str, value: Any) -> dict[str, Any]:
    """Return a flow step whose output is the value of an expression."""
    never = {"$eq": [1, 2]}
    inner = {"op": "code", "source": "lambda x: x"}
    return {"op": "branch", "name": name, "input": value, "condition": never, "then": inner}


def _echo(text: str, form: Any) -> dict[str, Any]:
    """Return a model step that echoes the text, parsed as a format."""
    return {"op": "llm", "name": "m", "user": {"$literal": text}, "format": form}


def _nested_steps(depth: int) -> dict[str, Any]:
    step: dict[str, Any] = {"op": "code", "name": "c", "source": "lambda x: x"}
    for level in range(depth):
        step = {"op": "pipeline", "name": f"p{level}", "steps": [step]}
    return step


def flows(scale: int = 1) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield growing flows: name, step and input."""
    ref = {"$ref": "value"}
    rounds = range(40)
    twice: Mapping[str, Any] = {
        "texts": {"$template": "{a}{a}", "$with": {"a": ref}},
        "lists": [ref, ref],
        "objects": {"a": ref, "b": ref},
    }
    for name, value in twice.items():
        yield f"{name} that double", _pipeline([_same(f"s{n}", value) for n in rounds]), "x" * 16
    for join in ("sum", "text", "list", "dict", "zip"):
        pair = [_same("a", ref), _same("b", ref)]
        steps = [{"op": "parallel", "name": f"p{n}", "join": join, "steps": pair} for n in rounds]
        yield f"joins by {join} that double", _pipeline(steps), ["x" * 16] if join == "zip" else "x" * 16
    yield "yaml aliases", _echo(ALIASES, "yaml"), "x"
    yield "deep yaml", _echo("[" * 20_000, "yaml"), "x"
    yield "deep json", _echo("[" * 20_000, "json"), "x"
    yield "a long number in yaml", _echo("a: " + "1:" * 50_000 + "1", "yaml"), "x"
    pattern = {"type": "regex", "pattern": "(a+)+$", "attempts": 1}
    yield "a format whose pattern backtracks", _echo("a" * 40 + "!", pattern), "x"
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": SLOW_PATTERN}}}
    answer = {"type": "json", "schema": slow, "attempts": 1}
    yield "a schema whose pattern backtracks", _echo('{"a": "' + "a" * 60 + '!"}', answer), "x"
    definitions = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in rounds}
    doubling = {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{len(rounds)}": {}}}
    yield "a schema that doubles", {**_same("s", ref), "output_schema": doubling, "retry": {"times": 1}}, "x"
    item = {"op": "code", "name": "c", "source": "lambda x: x"}
    yield "a warp over many", {"op": "warp", "name": "w", "over": ref, "step": item}, [1] * (5_000 * scale)
    yield (
        "a loop of many rounds",
        {"op": "loop", "name": "l", "limit": 2_000 * scale, "step": _same("s", ref)},
        1,
    )
    yield from _each(scale)
    yield "many steps", _pipeline([_same(f"s{n}", ref) for n in range(300 * scale)]), 1
    yield "deep steps", _nested_steps(40), 1
    for name, source in {
        "a number without end": "lambda x: 10 ** (10 ** 9)",
        "a text without end": "lambda x: 'a' * (10 ** 11)",
        "a list without end": "lambda x: [0] * (10 ** 11)",
        "a loop without end": "def f(x):\n    while True:\n        pass",
        "a list in itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
        "a large number": "lambda x: 10 ** 1000",
    }.items():
        yield f"code that makes {name}", {"op": "code", "name": "c", "source": source, "timeout": 0.5}, 1


def _each(scale: int) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield the other operations, each with a long text and with many values."""
    ref = {"$ref": "value"}
    count = 200 * scale
    inner = [_same(f"s{n}", ref) for n in range(count)]
    steps: list[dict[str, Any]] = [
        {"op": "embed", "text": ref},
        {"op": "emit", "text": ref},
        {"op": "agent", "agent": "nothing", "message": ref},
        {"op": "tool", "tool": "python_light", "arguments": {"code": ref}},
        {"op": "retrieve", "store": "nothing", "query": ref},
        {"op": "rerank", "model": "default", "query": ref, "documents": ref},
        {"op": "intent", "text": ref, "intents": {f"i{n}": "a" * 100 for n in range(count)}},
        {
            "op": "http",
            "url": {"$template": "http://127.0.0.1:1/{a}", "$with": {"a": ref}},
            "headers": {"a": ref},
        },
        {"op": "client", "function": "nothing", "args": [ref, ref], "limit": 0.01},
        {"op": "approve", "message": ref, "limit": 0.01},
        {"op": "subflow", "step": _same("s", [ref, ref])},
        {"op": "switch", "on": ref, "cases": [{"equals": ref, "step": step} for step in inner]},
        {"op": "diverter", "join": "list", "steps": inner},
        {"op": "graph", "steps": inner, "after": {f"s{n}": [f"s{n + 1}"] for n in range(count - 1)}},
    ]
    for step in steps:
        yield f"{step['op']} of a long text", {"name": "x", **step}, "a" * (200_000 * scale)
        yield f"{step['op']} of many values", {"name": "x", **step}, [{"a": "b"}] * (2_000 * scale)


def _pipeline(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"op": "pipeline", "name": "p", "steps": steps}
