"""Third-party clients against a whole daemon: list, call, read, watch, fill in, cancel."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    CreateMessageResultWithTools,
    SamplingCapability,
    SamplingToolsCapability,
    TextContent,
    TextResourceContents,
    ToolResultContent,
    ToolUseContent,
)
from tests import daemon as daemons
from tests.daemon import Daemon

BREAD = "portico://stores/handbook/files/bread.txt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Path:
    """A copy of the handbook that tests may change."""
    copy = tmp_path_factory.mktemp("watched") / docs.name
    shutil.copytree(docs, copy)
    return copy


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, folder: Path, settled: Path) -> Iterator[Daemon]:
    """A daemon with a prompt, a slow tool, and an app that uses its caller's own model."""
    home = tmp_path_factory.mktemp("home")
    with daemons.running(home, "--file", str(settled / "test.yaml"), "--docs", str(folder)) as running:
        running.settle()
        _furnish(running)
        yield running


def _furnish(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        prompt = {"name": "greet", "arguments": ["name"], "messages": "Say hello to {name}."}
        nap = {"name": "nap", "command": ["sleep", "30"], "description": "Sleeps.", "read_only": True}
        poet = {"portico_flow": 1, "step": {"op": "llm", "model": "client"}}
        app = {"name": "poet", "spec": poet}
        agent = {"portico_agent": 1, "model": "client", "tools": ["calculator"]}
        agent_app = {"name": "reckoner", "kind": "agent", "spec": agent}
        for path, body in (
            ("/api/prompts", prompt),
            ("/api/tool-sources", nap),
            ("/api/apps", app),
            ("/api/apps", agent_app),
        ):
            assert http.post(path, json=body).status_code == 200


def naps_of(served: Daemon) -> list[str]:
    """Return the statuses of all naps."""
    runs = httpx.get(f"{served.url}/api/runs", params={"limit": 500}, timeout=60).json()["data"]
    return [run["status"] for run in runs if run["name"] == "tool/nap"]


def ended_naps(served: Daemon, count: int) -> list[str]:
    """Return the statuses of the naps once ``count`` were cut short, or when a cancellation has had time to arrive."""
    until = time.monotonic() + 60
    while (naps := naps_of(served)).count("cancelled") < count and time.monotonic() < until:
        assert "completed" not in naps
    return naps


@pytest.mark.conformance(
    "MCP", "Tools, resources and changes, protocol of 2026", "@modelcontextprotocol/client"
)
@pytest.mark.conformance("MCP", "Tools, resources and changes", "@modelcontextprotocol/sdk")
@pytest.mark.slow
@pytest.mark.parametrize(("way", "naps"), [("sdk", 1), ("legacy", 2), ("modern", 3)])
def test_the_typescript_sdk_uses_tools_resources_prompts_and_sampling(
    served: Daemon, folder: Path, packages: Path, way: str, naps: int
) -> None:
    script = Path(__file__).with_name("typescript.mjs")
    command = [
        "node",
        str(script),
        str(packages),
        way,
        f"{served.url}/mcp",
        str(folder / "bread.txt"),
        "greet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert {"handbook", "search_handbook", "nap"} < set(report["tools"])
    assert report["found"] == "port.md" and "7419" in report["text"]
    assert BREAD in report["resources"] and report["changed"] == BREAD
    assert report["lent"] == "A rhyme!"
    assert "greet" in report["prompts"] and report["prompt"] == "Say hello to Ann."
    assert report["completed"] == ["handbook"] and report["cancelled"] is True
    assert ended_naps(served, naps).count("cancelled") == naps


@pytest.mark.conformance("MCP", "Resource changes", "mcp")
async def test_the_python_sdk_watches_a_file_of_a_folder(served: Daemon, folder: Path) -> None:
    async with asyncio.timeout(60), Client(f"{served.url}/mcp") as client:
        async with client.listen(resource_subscriptions=[BREAD]) as changes:
            await asyncio.to_thread((folder / "bread.txt").write_text, "Bread is baked at 240 degrees.\n")
            assert getattr(await anext(changes), "uri", None) == BREAD
        content = (await client.read_resource(BREAD, cache_mode="bypass")).contents[0]
        assert isinstance(content, TextResourceContents) and "240" in content.text


@pytest.mark.conformance("MCP", "Forms", "mcp")
async def test_the_python_sdk_fills_in_prompts(served: Daemon) -> None:
    async with asyncio.timeout(60), Client(f"{served.url}/mcp") as client:
        [prompt] = [entry for entry in (await client.list_prompts()).prompts if entry.name == "greet"]
        prompt_result = await client.get_prompt(prompt.name, {"name": "Ann"})
        content = prompt_result.messages[0].content
        assert isinstance(content, TextContent) and content.text == "Say hello to Ann."


async def lent(context: Any, params: CreateMessageRequestParams) -> CreateMessageResult:
    """A client's own model, which repeats the text it is asked."""
    (block,) = params.messages[0].content_as_list
    assert isinstance(block, TextContent)
    content = TextContent(type="text", text=f"{block.text}!")
    return CreateMessageResult(role="assistant", model="echo", content=content)


@pytest.mark.conformance("MCP", "Sampling", "mcp")
@pytest.mark.parametrize("way", ["legacy", "auto", "bridge"])
async def test_the_python_sdk_answers_sampling_requests_with_its_model(served: Daemon, way: str) -> None:
    program = "import sys; from portico.cli import main; sys.exit(main())"
    bridge = StdioServerParameters(command=sys.executable, args=["-c", program, "--url", served.url, "mcp"])
    server = bridge if way == "bridge" else f"{served.url}/mcp"
    mode = "legacy" if way == "legacy" else "auto"
    question_kinds: list[str] = []

    async def speak(context: Any, params: CreateMessageRequestParams) -> CreateMessageResult:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            questions = (await http.get("/api/questions", params={"status": "pending"})).json()["data"]
        question_kinds.extend(question["kind"] for question in questions)
        return await lent(context, params)

    async with asyncio.timeout(60), Client(server, mode=mode, sampling_callback=speak) as client:
        tool_result = await client.call_tool("poet", {"message": "A rhyme"})
    assert question_kinds == ["chat"]
    assert tool_result.structured_content == {
        "answer": "A rhyme!",
        "citations": [],
        "cited": [],
        "claims": [],
    }
    body = {"model": "poet", "messages": [{"role": "user", "content": "A rhyme"}]}
    async with httpx.AsyncClient(timeout=60) as http:
        response = await http.post(f"{served.url}/v1/chat/completions", json=body)
    assert response.status_code == 400 and response.json()["error"]["code"] == "no_model_lent"


async def reckoning(context: Any, params: CreateMessageRequestParams) -> CreateMessageResultWithTools:
    """A client's own model, which calls the first tool it is given and then repeats that tool's result."""
    (block,) = params.messages[-1].content_as_list
    if isinstance(block, ToolResultContent):
        content_block: Any = block.content[0]
        return CreateMessageResultWithTools(
            role="assistant", model="echo", content=content_block, stop_reason="endTurn"
        )
    assert params.tools is not None
    use = ToolUseContent(id="c1", name=params.tools[0].name, input={"expression": "40 + 2"})
    return CreateMessageResultWithTools(role="assistant", model="echo", content=[use], stop_reason="toolUse")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_agent_with_the_model_of_its_caller_uses_its_own_tools(served: Daemon, mode: str) -> None:
    tools = SamplingCapability(tools=SamplingToolsCapability())
    client = Client(f"{served.url}/mcp", mode=mode, sampling_callback=reckoning, sampling_capabilities=tools)
    async with asyncio.timeout(60), client:
        tool_result: Any = await client.call_tool("reckoner", {"question": "What is 40 + 2?"})
    assert "42" in tool_result.structured_content["answer"]


@pytest.mark.conformance("MCP", "Cancellation", "mcp")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_python_sdk_cancels(served: Daemon, mode: str) -> None:
    count = (await asyncio.to_thread(naps_of, served)).count("cancelled")
    async with asyncio.timeout(60), Client(f"{served.url}/mcp", mode=mode) as client:
        napping = asyncio.create_task(client.call_tool("nap"))
        while "running" not in await asyncio.to_thread(naps_of, served):
            assert not napping.done()
        napping.cancel()
        await asyncio.wait([napping])
        assert (await asyncio.to_thread(ended_naps, served, count + 1)).count("cancelled") == count + 1


@pytest.mark.slow
async def test_a_hundred_parallel_clients_are_all_answered(served: Daemon) -> None:
    async def one(number: int) -> int:
        async with Client(f"{served.url}/mcp", mode="legacy" if number % 2 else "auto") as client:
            assert (await client.list_tools()).tools
            results = await client.call_tool("search_handbook", {"query": "Lighthouse port"})
            return len(results.structured_content["passages"])

    async with asyncio.timeout(110):
        results = await asyncio.gather(*(one(number) for number in range(100)))
    assert min(results) >= 1
