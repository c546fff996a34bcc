"""Deployed flows as MCP tools and as operations of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import mcp_types as types
import pytest
from mcp import Client as McpClient
from tests.daemon import Daemon

from portico import Client
from portico.flow import Step, code, flow, llm, pipeline, warp


def add(pair: dict[str, int]) -> dict[str, int]:
    return {"sum": pair["left"] + pair["right"]}


PAIR = {
    "type": "object",
    "properties": {"left": {"type": "integer"}, "right": {"type": "integer"}},
    "required": ["left", "right"],
    "additionalProperties": False,
}
SUM = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}


@pytest.fixture(scope="module")
def apps(daemon: Daemon) -> Iterator[Client]:
    """A daemon with four apps: with both schemas, over a list, without a schema, and a failing one."""
    with Client(daemon.url) as client:
        client.apps.deploy(
            "adds", flow(step(add), input=PAIR, output=SUM, title="Adds", description="Adds two.")
        )
        client.apps.deploy("doubles", flow(warp(code("lambda x: 2 * x")), input=list[int], output=list[int]))
        client.apps.deploy("talks", pipeline(first=llm("echo"), second=llm("echo")))
        client.apps.deploy("typed", flow(code("lambda text: [text, len(text)]"), output=list[Any]))
        client.apps.deploy("breaks", code("lambda x: 1 / 0"))
        yield client


def step(function: Any) -> Step:
    return code(function)


def mcp(daemon: Daemon, path: str = "/mcp") -> McpClient:
    return McpClient(f"{daemon.url}{path}")


async def tools(client: McpClient) -> dict[str, types.Tool]:
    return {tool.name: tool for tool in (await client.list_tools()).tools}


@pytest.mark.usefixtures("apps")
class TestAsTools:
    async def test_an_app_has_its_own_schemas(self, daemon: Daemon) -> None:
        async with mcp(daemon) as client:
            tool = (await tools(client))["adds"]
        assert tool.input_schema == PAIR
        assert tool.output_schema == SUM
        assert tool.title == "Adds"
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is False

    async def test_a_call_returns_structured_content(self, daemon: Daemon) -> None:
        async with mcp(daemon) as client:
            answer = await client.call_tool("adds", {"left": 2, "right": 3})
        assert answer.structured_content == {"sum": 5}
        assert answer.content[0].text == '{"sum": 5}'

    async def test_inputs_and_outputs_that_are_not_objects_are_wrapped(self, daemon: Daemon) -> None:
        async with mcp(daemon) as client:
            tool = (await tools(client))["doubles"]
            answer = await client.call_tool("doubles", {"input": [1, 2]})
        assert tool.input_schema["required"] == ["input"]
        assert answer.structured_content == {"result": [2, 4]}

    async def test_an_app_without_schemas_accepts_a_message(self, daemon: Daemon) -> None:
        async with mcp(daemon) as client:
            tool = (await tools(client))["talks"]
            answer = await client.call_tool("talks", {"input": "Hello."})
            assert await client.call_tool("talks", {"message": "Hello."}) == answer, (
                "what it was called before"
            )
        assert tool.input_schema["required"] == ["input"]
        output = {"answer": "Hello.", "citations": [], "cited": [], "claims": []}
        assert answer.structured_content == output

    async def test_a_message_may_have_a_structured_answer(self, daemon: Daemon) -> None:
        async with mcp(daemon) as client:
            answer = await client.call_tool("typed", {"input": "four"})
        assert answer.structured_content == {"result": ["four", 4]}

    @pytest.mark.parametrize("arguments", [{}, {"left": "a", "right": 1}, {"left": 1, "right": 1, "more": 1}])
    async def test_invalid_arguments_return_an_error_that_names_the_app(
        self, daemon: Daemon, arguments: dict[str, Any]
    ) -> None:
        async with mcp(daemon) as client:
            answer = await client.call_tool("adds", arguments)
        assert answer.is_error
        assert "adds" in answer.content[0].text

    async def test_a_failing_step_returns_its_exception_as_error(self, daemon: Daemon) -> None:
        async with mcp(daemon) as client:
            answer = await client.call_tool("breaks", {"message": "x"})
        assert answer.is_error
        assert "ZeroDivisionError" in answer.content[0].text

    async def test_progress_tells_of_the_steps(self, daemon: Daemon) -> None:
        messages: list[str] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            messages.append(message or "")

        async with mcp(daemon) as client:
            await client.call_tool("talks", {"message": "Hello."}, progress_callback=hear)
        assert any(message.endswith(".first") for message in messages)
        assert any(".second: done in " in message for message in messages)

    async def test_an_endpoint_shows_one_app_alone(self, daemon: Daemon) -> None:
        async with mcp(daemon, "/mcp/apps/adds") as client:
            assert set(await tools(client)) == {"adds"}
            answer = await client.call_tool("adds", {"left": 1, "right": 1})
        assert answer.structured_content == {"sum": 2}


@pytest.mark.usefixtures("apps")
class TestAsOperations:
    def test_an_app_is_an_operation_with_its_schemas(self, daemon: Daemon) -> None:
        document = httpx.get(f"{daemon.url}/openapi.json").json()
        operation = document["paths"]["/api/apps/adds/run"]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert operation["operationId"] == "run_app_adds"
        assert body["properties"]["input"]["required"] == ["left", "right"]
        assert answer["properties"]["output"]["properties"] == SUM["properties"]

    def test_an_app_operation_answers_as_documented(self, daemon: Daemon) -> None:
        answer = httpx.post(
            f"{daemon.url}/api/apps/adds/run",
            params={"stream": "false"},
            json={"input": {"left": 2, "right": 2}},
        )
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["output"] == {"sum": 4}
        response = httpx.post(f"{daemon.url}/api/apps/breaks/run?stream=false", json={"input": 1})
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "code_failed"

    def test_a_removed_app_is_not_in_the_openapi_document(self, daemon: Daemon, apps: Client) -> None:
        apps.apps.deploy("passing", code("lambda x: x"))
        apps.apps.remove("passing")
        assert "/api/apps/passing/run" not in httpx.get(f"{daemon.url}/openapi.json").json()["paths"]
