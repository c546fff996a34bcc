"""``/openapi.json`` is valid and describes the answers of models: real answers match their schemas.

Models answer with the fake engine, and the small model that Portico ships answers itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
import pytest
from jsonschema import Draft202012Validator
from tests import daemon as daemons

SMALL_MODEL: Final = "smollm2-135m-instruct"
LOOK: Final = {"name": "look", "arguments": {"place": "here"}}
PARAMETERS: Final = {"type": "object", "properties": {"place": {"type": "string"}}}

CONFIGURATION: Final = {
    "models": [
        {"name": "echo", "source": "fake://"},
        {
            "name": "caller",
            "source": "fake://",
            "parameters": {"script": {"replies": [{"match": "", "tool_calls": [LOOK]}]}},
        },
        {"name": "vectors", "source": "fake://", "task": "embedding", "parameters": {"dimensions": 8}},
        {"name": "voice", "source": "fake://", "task": "speech"},
        {"name": "ear", "source": "fake://", "task": "transcription"},
        {"name": "painter", "source": "fake://", "task": "image"},
    ],
}

HELLO: Final = [{"role": "user", "content": "Hello"}]
FUNCTION: Final = {"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}
CHAT_FIELDS: Final = {"messages": HELLO, "max_tokens": 4}
STORED: Final = {**CHAT_FIELDS, "model": "echo", "store": True}
SIZE: Final = {"size": "32x32"}

POSTS: Final[list[tuple[str, Mapping[str, Any]]]] = [
    *(
        request
        for model in ("echo", SMALL_MODEL)
        for request in (
            ("/v1/chat/completions", {"model": model, **CHAT_FIELDS}),
            ("/v1/chat/completions", {"model": model, **CHAT_FIELDS, "logprobs": True, "top_logprobs": 2}),
            ("/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": 4, "logprobs": 1}),
            ("/v1/messages", {"model": model, **CHAT_FIELDS}),
            ("/v1/messages/count_tokens", {"model": model, "messages": HELLO}),
            ("/v1/responses", {"model": model, "input": "Hello", "max_output_tokens": 16}),
            ("/v1/responses/input_tokens", {"model": model, "input": "Hello"}),
            ("/api/chat", {"model": model, "messages": HELLO, "options": {"num_predict": 4}}),
            ("/api/generate", {"model": model, "prompt": "Hello", "options": {"num_predict": 4}}),
            ("/api/show", {"model": model}),
        )
    ),
    ("/v1/chat/completions", {"model": "caller", **CHAT_FIELDS, "tools": [FUNCTION]}),
    (
        "/v1/messages",
        {"model": "caller", **CHAT_FIELDS, "tools": [{"name": "look", "input_schema": PARAMETERS}]},
    ),
    (
        "/v1/responses",
        {"model": "caller", "input": "Hello", "tools": [{"type": "function", "name": "look"}]},
    ),
    ("/api/chat", {"model": "caller", "messages": HELLO, "tools": [FUNCTION]}),
    ("/v1/responses", {"model": "echo", "input": "Hello", "instructions": "Be brief.", "background": True}),
    ("/v1/responses/compact", {"model": "echo", "input": "Hello"}),
    ("/v1/embeddings", {"model": "vectors", "input": ["Hello", "you"]}),
    ("/v1/embeddings", {"model": "vectors", "input": "Hello", "encoding_format": "base64"}),
    ("/api/embed", {"model": "vectors", "input": "Hello"}),
    ("/api/embeddings", {"model": "vectors", "prompt": "Hello"}),
    ("/v1/images/generations", {"model": "painter", "prompt": "a cat", **SIZE}),
    ("/v1/conversations", {"items": HELLO, "metadata": {"topic": "tea"}}),
]
"""Requests and their bodies. Ollama's paths get ``stream: false``."""

FREE: Final = {
    "create_image_variation",
    "ollama_delete",
    "agent_schema",
    "flow_schema",
    "session_state",
    "retrieve_recording",
    "get_protected_resource",
    "get_protected_endpoint",
}
"""Operations whose answers have no fixed fields: JSON schemas, states, metadata of other standards, and nothing."""

FREE_KEYWORDS: Final = {"type", "additionalProperties", "title"}
"""The keywords of a schema that names no fields."""


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    home = tmp_path_factory.mktemp("shapes")
    (home / "models.json").write_text(json.dumps(CONFIGURATION))
    with (
        daemons.running(home / "data", "--file", str(home / "models.json")) as daemon,
        httpx.Client(base_url=daemon.url, timeout=120) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> Mapping[str, Any]:
    api_document: Mapping[str, Any] = http.get("/openapi.json").raise_for_status().json()
    return api_document


def answer_schemas(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the id of each operation that answers with JSON, and the schema of its answer."""
    for path_item in document["paths"].values():
        for operation in path_item.values():
            content = operation["responses"].get("200", {}).get("content", {}).get("application/json")
            if content is not None:
                yield operation["operationId"], content["schema"]


def matching_answer(document: Mapping[str, Any], path: str, response: httpx.Response) -> Any:
    """Return the answer of an operation. It must match the operation's schema."""
    assert response.status_code == 200, response.text
    operation = document["paths"][path][response.request.method.lower()]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answer = response.json()
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(answer)] == []
    return answer


def schemas_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the values of all fields ``schema``, and the components."""
    if isinstance(value, list):
        for item in value:
            yield from schemas_in(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "schema" and isinstance(item, dict):
                yield item
            elif name == "schemas":
                yield from item.values()
            else:
                yield from schemas_in(item)


def test_every_schema_is_valid_and_every_reference_resolves(document: Mapping[str, Any]) -> None:
    for schema in schemas_in(document):
        Draft202012Validator.check_schema(schema)
    text = json.dumps(document)
    names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= document["components"]["schemas"].keys()
    assert text.count('"$ref": "') == text.count('"$ref": "#/components/schemas/')


def test_only_answers_without_fixed_fields_are_free_objects(document: Mapping[str, Any]) -> None:
    free = {name for name, schema in answer_schemas(document) if not schema.keys() - FREE_KEYWORDS}
    assert free == FREE


@pytest.mark.parametrize(
    ("path", "body"),
    [pytest.param(*request, id=f"{request[0]}-{number}") for number, request in enumerate(POSTS)],
)
def test_an_answer_matches_its_schema(
    http: httpx.Client, document: Mapping[str, Any], path: str, body: Mapping[str, Any]
) -> None:
    streamed = {"stream": False} if path.startswith("/api/") else {}
    matching_answer(document, path, http.post(path, json={**body, **streamed}))


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/version"])
def test_a_list_of_ollama_matches_its_schema(
    http: httpx.Client, document: Mapping[str, Any], path: str
) -> None:
    matching_answer(document, path, http.get(path))


@pytest.mark.parametrize("response_format", ["json", "verbose_json"])
def test_a_transcript_matches_its_schema(
    http: httpx.Client, document: Mapping[str, Any], response_format: str
) -> None:
    speech = {"model": "voice", "input": "Hello", "response_format": "wav"}
    recording = http.post("/v1/audio/speech", json=speech).content
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations"):
        form = {"model": "ear", "response_format": response_format}
        matching_answer(document, path, http.post(path, data=form, files={"file": ("a.wav", recording)}))


def test_the_life_of_a_stored_chat_matches_its_schemas(
    http: httpx.Client, document: Mapping[str, Any]
) -> None:
    chat = http.post("/v1/chat/completions", json={**STORED, "metadata": {"topic": "tea"}}).json()["id"]
    path = "/v1/chat/completions/{completion_id}"
    address = f"/v1/chat/completions/{chat}"
    matching_answer(document, "/v1/chat/completions", http.get("/v1/chat/completions"))
    matching_answer(document, path, http.get(address))
    matching_answer(document, f"{path}/messages", http.get(f"{address}/messages"))
    matching_answer(document, path, http.post(address, json={"metadata": {"topic": "cake"}}))
    matching_answer(document, path, http.delete(address))


def test_the_life_of_a_response_matches_its_schemas(http: httpx.Client, document: Mapping[str, Any]) -> None:
    response = http.post("/v1/responses", json={"model": "caller", "input": HELLO}).json()["id"]
    path, address = "/v1/responses/{response_id}", f"/v1/responses/{response}"
    matching_answer(document, path, http.get(address))
    matching_answer(document, f"{path}/input_items", http.get(f"{address}/input_items"))
    matching_answer(document, path, http.delete(address))


def test_the_life_of_a_conversation_matches_its_schemas(
    http: httpx.Client, document: Mapping[str, Any]
) -> None:
    conversation = http.post("/v1/conversations", json={"items": HELLO}).json()["id"]
    path, address = "/v1/conversations/{conversation_id}", f"/v1/conversations/{conversation}"
    items = [
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "a cat"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "A cat."}]},
    ]
    matching_answer(document, path, http.get(address))
    page = matching_answer(document, f"{path}/items", http.post(f"{address}/items", json={"items": items}))
    matching_answer(document, f"{path}/items", http.get(f"{address}/items"))
    item = f"{address}/items/{page['data'][0]['id']}"
    matching_answer(document, f"{path}/items/{{item_id}}", http.get(item))
    matching_answer(document, f"{path}/items/{{item_id}}", http.delete(item))
    matching_answer(document, path, http.delete(address))
