"""Every field that a hot body declares is in ``/openapi.json``; an invalid value is refused and a valid one passes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons

from portico_server.api.openai.bodies import CHAT, COMPLETION, EMBEDDING
from portico_server.api.routes import HOT
from portico_server.core.fields import BodyField, RequestBody
from portico_server.features.anthropic.request import COUNTED, CREATED
from portico_server.features.media.audio import SPEECH, TRANSCRIPTION, TRANSLATION
from portico_server.features.media.image_bodies import EDIT, IMAGE, REFERRING_EDIT
from portico_server.features.responses.read import RESPONSE

MODELS = [
    {"name": "echo", "source": "fake://"},
    {"name": "vectors", "source": "fake://", "task": "embedding", "parameters": {"dimensions": 8}},
    {"name": "voice", "source": "fake://", "task": "speech"},
    {"name": "ear", "source": "fake://", "task": "transcription"},
    {"name": "painter", "source": "fake://", "task": "image"},
]
STORES = [{"name": "handbook", "embedding_model": "", "app": True}]
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PICTURE = f"data:image/png;base64,{PIXEL}"

BODIES: Mapping[str, tuple[RequestBody, Mapping[str, Any]]] = {
    "/v1/chat/completions": (CHAT, {"model": "echo", "messages": HELLO}),
    "/v1/completions": (COMPLETION, {"model": "echo", "prompt": "Hello"}),
    "/v1/embeddings": (EMBEDDING, {"model": "vectors", "input": "Hello"}),
    "/v1/responses": (RESPONSE, {"model": "echo", "input": "Hello"}),
    "/v1/audio/speech": (SPEECH, {"model": "voice", "input": "Hello", "response_format": "wav"}),
    "/v1/audio/transcriptions": (TRANSCRIPTION, {"model": "ear"}),
    "/v1/audio/translations": (TRANSLATION, {"model": "ear"}),
    "/v1/images/generations": (IMAGE, {"model": "painter", "prompt": "a cat", "size": "32x32"}),
    "/v1/images/edits": (EDIT, {"model": "painter", "prompt": "a cat", "size": "32x32"}),
    "/v1/images/edits as JSON": (
        REFERRING_EDIT,
        {"model": "painter", "prompt": "a cat", "size": "32x32", "images": [{"image_url": PICTURE}]},
    ),
    "/v1/images/variations": (RequestBody({}, {}), {}),
    "/v1/messages": (CREATED, {"model": "echo", "messages": HELLO, "max_tokens": 9}),
    "/v1/messages/count_tokens": (COUNTED, {"model": "echo", "messages": HELLO}),
}
"""The fields that each hot path accepts, and its smallest valid body. A suffix names the second form of a path."""

PASSED_ON = {"svg", "mask", "known_speaker_names", "known_speaker_references", "keywords", "languages"}
"""Typed fields that models check, not the daemon."""

LACKING = ("mp3", "opus", "aac", "flac", "jpeg", "webp", "gif", "svg", "diarized_json", ["logprobs"])
"""Values that the bodies allow but fake models do not support; fake models say so."""

TOGETHER: Mapping[str, Mapping[str, Any]] = {
    "stream_options": {"stream": True},
    "/v1/chat/completions top_logprobs": {"logprobs": True},
    "/v1/chat/completions unsupported": {"model": "handbook"},
    "partial_images": {"stream": True},
    "timestamp_granularities": {"response_format": "verbose_json"},
}
"""Fields that another field requires, at any path or at a given one."""

RIGHT: Mapping[str, Any] = {
    "messages": HELLO,
    "images": [{"image_url": PICTURE}] * 16,
    "prompt": ["one", "two"],
    "input": ["one", "two"],
    "/v1/responses input": [{"role": "user", "content": "Hello"}],
    "stop": ["a", "b", "c", "d"],
    "stream_options": {"include_usage": True},
    "logit_bias": {"7": 1},
    "chat_template_kwargs": {"enable_thinking": False},
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    "/v1/chat/completions tools": [{"type": "function", "function": {"name": "look"}}],
    "/v1/responses tools": [{"type": "function", "name": "look"}],
    "tool_choice": {"type": "auto"},
    "/v1/chat/completions tool_choice": "none",
    "/v1/responses tool_choice": "none",
    "response_format": {"type": "text"},
    "metadata": {"a": "b"},
    "voice": {"id": "default"},
    "size": "64x32",
    "system": [{"type": "text", "text": "Be brief."}],
    "thinking": {"type": "disabled"},
    "output_config": {"effort": "low"},
    "output_format": {"type": "json_schema", "schema": {"type": "object"}},
    "reasoning": {"effort": "low"},
    "text": {"verbosity": "low"},
    "context_management": [{"type": "compaction", "compact_threshold": 1_000}],
    "mcp_servers": [],
    "background_options": {"completion_window": "soonest"},
}
"""Valid values that a schema alone cannot generate, at any path or at a given one."""

STORED = {"previous_response_id", "conversation", "prompt"}
"""Fields of a response that name stored objects; in this test nothing is stored."""

FIELDS = [
    pytest.param(path, name, field, id=f"{path}-{name}")
    for path, (body, _least) in BODIES.items()
    for name, field in {**body.required, **body.optional}.items()
]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    home: Path = tmp_path_factory.mktemp("bodies")
    (home / "models.json").write_text(json.dumps({"models": MODELS, "stores": STORES}))
    with (
        daemons.running(home / "data", "--file", str(home / "models.json")) as daemon,
        httpx.Client(base_url=daemon.url, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    api_document: dict[str, Any] = http.get("/openapi.json").json()
    return api_document


@pytest.fixture(scope="module")
def wav(http: httpx.Client) -> bytes:
    return http.post("/v1/audio/speech", json=BODIES["/v1/audio/speech"][1]).content


@pytest.fixture(scope="module")
def png(http: httpx.Client) -> bytes:
    response = http.post("/v1/images/generations", json=BODIES["/v1/images/generations"][1]).json()
    return base64.b64decode(response["data"][0]["b64_json"])


def outside(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield values that a schema forbids."""
    if "enum" in schema:
        yield "no such word"
    if "oneOf" in schema or schema.get("type") in ("string", "boolean", "array", "object"):
        yield 7
    if schema.get("type") in ("number", "integer"):
        yield "much"
        yield from (schema[end] + step for end, step in (("minimum", -1), ("maximum", 1)) if end in schema)
    if schema.get("type") == "integer":
        yield 1.5
    for kind in (schema, *schema.get("oneOf", ())):
        if kind.get("minLength"):
            yield ""
        if kind.get("minItems"):
            yield []
        if "maxLength" in kind:
            yield "a" * (kind["maxLength"] + 1)
        if "maxItems" in kind:
            yield ["a"] * (kind["maxItems"] + 1)
    if "maxProperties" in schema:
        yield {str(number): "a" for number in range(schema["maxProperties"] + 1)}
        names, values = schema["propertyNames"], schema["additionalProperties"]
        yield {"a" * (names.get("maxLength", 0) + 1): "a"}
        if "maxLength" in values:
            yield {"a": "a" * (values["maxLength"] + 1)}
        yield from (
            {"7": values[end] + step} for end, step in (("minimum", -1), ("maximum", 1)) if end in values
        )
    if schema.get("type") == "array":
        yield from ([value] for value in outside(schema["items"]))
    for name, inner in schema.get("properties", {}).items():
        yield from ({name: value} for value in outside(inner))


def inside(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield values at the limits of a schema; none if the schema alone cannot generate one."""
    if "enum" in schema:
        yield from schema["enum"]
    match schema.get("type"):
        case "number" | "integer":
            yield from (schema[keyword] for keyword in ("minimum", "maximum") if keyword in schema)
            yield schema.get("maximum", 7)
        case "boolean":
            yield from (False, True)
        case "string":
            if "pattern" not in schema:
                yield "a" * schema.get("maxLength", 1)
        case "array":
            if items := [*inside(schema["items"])]:
                yield items


def at(table: Mapping[str, Any], path: str, name: str) -> Any:
    return table.get(f"{path} {name}", table.get(name))


def sent(http: httpx.Client, path: str, body: Mapping[str, Any], wav: bytes, png: bytes) -> httpx.Response:
    declaration = BODIES[path][0]
    if not declaration.files:
        return http.post(path.partition(" ")[0], json=body)
    files = (
        {"image": ("a.png", png, "image/png")} if "image" in declaration.files else {"file": ("a.wav", wav)}
    )
    data = {
        f"{name}[]" if isinstance(value, list) else name: value
        if isinstance(value, str | list)
        else json.dumps(value)
        for name, value in body.items()
    }
    return http.post(path, data=data, files=files)


def is_refused(response: httpx.Response, name: str) -> bool:
    """Return whether the answer says that this field is invalid."""
    return response.status_code == 400 and f"'{name}" in response.json()["error"]["message"]


def test_every_hot_path_declares_its_body() -> None:
    assert {path.partition(" ")[0] for path in BODIES} == HOT.keys()


@pytest.mark.parametrize(("path", "name", "field"), FIELDS)
def test_a_declared_field_is_documented(
    document: Mapping[str, Any], path: str, name: str, field: BodyField
) -> None:
    declaration = BODIES[path][0]
    content = document["paths"][path.partition(" ")[0]]["post"]["requestBody"]["content"]
    schema = content["multipart/form-data" if declaration.files else "application/json"]["schema"]
    is_list = declaration.files and field.schema.get("type") == "array"
    assert schema["properties"][f"{name}[]" if is_list else name] == json.loads(json.dumps(field.schema))
    assert schema["required"] == [*declaration.required, *declaration.files]


@pytest.mark.parametrize(("path", "name", "field"), FIELDS)
def test_an_invalid_value_is_refused_naming_its_field(
    http: httpx.Client, wav: bytes, png: bytes, path: str, name: str, field: BodyField
) -> None:
    declaration, least = BODIES[path]
    if name in PASSED_ON:
        return
    values = [*outside(field.schema)]
    if (
        declaration.files
    ):  # a form holds texts and lists: 7 is an ordinary text, and an empty list counts as absent
        boolean = field.schema.get("type") == "boolean"
        values = [value for value in values if value != [] and (value != 7 or boolean)]
    for value in values:
        body = {**least, **(at(TOGETHER, path, name) or {}), name: value}
        response = sent(http, path, body, wav, png)
        assert is_refused(response, name), (value if len(str(value)) < 200 else "…", response.text)


@pytest.mark.parametrize(("path", "name", "field"), FIELDS)
def test_valid_values_of_every_declared_field_are_accepted(
    http: httpx.Client, wav: bytes, png: bytes, path: str, name: str, field: BodyField
) -> None:
    least = BODIES[path][1]
    if name == "model" or name in PASSED_ON or not field.schema.keys() - {"description"}:
        return
    if path == "/v1/responses" and name in STORED:
        return
    values = [*inside(field.schema)] or [at(RIGHT, path, name)]
    assert values != [None], f"RIGHT lacks a value for {name}"
    for value in values:
        response = sent(http, path, {**least, **(at(TOGETHER, path, name) or {}), name: value}, wav, png)
        if value in LACKING:
            assert "model" in response.json()["error"]["message"]
        else:
            assert response.status_code == 200, (value, response.text)
