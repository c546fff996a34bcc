"""MCP against a whole daemon over real files, through the Python client, `portico mcp` and the inspector's command."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from typing import Any

import httpx
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from tests.daemon import Daemon

INSPECTOR = "@modelcontextprotocol/inspector@0.15.0"
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
QUESTION = "Which port does the Lighthouse daemon listen on?"


@pytest.fixture(scope="module")
def indexed(daemon: Daemon) -> Daemon:
    """The daemon, once its folder is indexed."""
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        for run in http.get("/api/status").json()["startup"]:
            assert "event: finished" in http.get(f"/api/runs/{run}/events").text
    return daemon


def connected(daemon: Daemon, way: str) -> Client:
    """Open a client over HTTP in either protocol era, or over the bridge."""
    if way == "bridge":
        program = "import sys; from portico.cli import main; sys.exit(main())"
        command = StdioServerParameters(
            command=sys.executable, args=["-c", program, "--url", daemon.url, "mcp"]
        )
        return Client(command)
    return Client(f"{daemon.url}/mcp", mode="legacy" if way == "sessions" else "auto")


@pytest.mark.conformance("MCP", "Tools, resources and prompts", "mcp")
@pytest.mark.parametrize("way", ["sessions", "stateless", "bridge"])
async def test_tools_and_resources_work_over_sessions_stateless_http_and_the_bridge(
    indexed: Daemon, way: str
) -> None:
    async with connected(indexed, way) as client:
        assert {"handbook", "search_handbook"} < {tool.name for tool in (await client.list_tools()).tools}

        result = await client.call_tool("search_handbook", {"query": "Lighthouse port", "max_num_results": 1})
        assert result.structured_content["passages"][0]["filename"] == "port.md"

        answer = await client.call_tool("handbook", {"question": QUESTION})
        assert answer.structured_content["citations"][0]["filename"] == "port.md"
        assert "7419" in answer.structured_content["answer"]

        names = {resource.title: resource.uri for resource in (await client.list_resources()).resources}
        assert set(names) == {"Themes of handbook", "bread.txt", "gaoshan.md", "port.md"}
        content = (await client.read_resource(names["gaoshan.md"])).contents[0]
        assert isinstance(content, types.TextResourceContents) and "雪莲花" in content.text


async def test_skills_are_resources_and_listed_with_their_digests(indexed: Daemon) -> None:
    text = "---\nname: pdf-forms\ndescription: Fills forms.\n---\nRead references/FORMS.md"
    files = [("files", ("pdf-forms/SKILL.md", text)), ("files", ("pdf-forms/references/A b.md", "# Forms"))]
    async with httpx.AsyncClient(base_url=indexed.url) as http, connected(indexed, "stateless") as client:

        async def asked(method: str, **params: Any) -> dict[str, Any]:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
            headers = {"accept": "application/json", "mcp-protocol-version": MODERN, "mcp-method": method}
            answer: dict[str, Any] = (await http.post("/mcp", json=body, headers=headers)).json()
            return answer

        created_skill = (await http.post("/v1/skills", files=files)).raise_for_status().json()
        try:
            [skill] = [
                resource
                for resource in (await client.list_resources()).resources
                if resource.uri.startswith("skill:")
            ]
            assert (skill.uri, skill.description) == ("skill://pdf-forms/SKILL.md", "Fills forms.")
            templates = (await client.list_resource_templates()).resource_templates
            assert "skill://{skill}/{+path}" in [resource.uri_template for resource in templates]
            [content] = (await client.read_resource("skill://pdf-forms/references/A%20b.md")).contents
            assert isinstance(content, types.TextResourceContents) and content.text == "# Forms"
            for absent in ("skill://pdf-forms/absent", "skill://other/SKILL.md"):
                with pytest.raises(MCPError):
                    await client.read_resource(absent)

            [entry] = (await asked("skills/list"))["result"]["skills"]
            assert entry["frontmatter"] == {"name": "pdf-forms", "description": "Fills forms."}
            digest = hashlib.sha256(text.encode()).hexdigest()
            assert entry["resources"][0] == {"uri": skill.uri, "digest": f"sha256:{digest}"}
            assert entry["resources"][1]["uri"] == "skill://pdf-forms/references/A%20b.md"
            assert (await asked("skills/get", uri=skill.uri))["result"]["skill"] == entry
            assert (await asked("skills/get", uri="skill://other/SKILL.md"))["error"][
                "code"
            ] == types.INVALID_PARAMS
            extensions = (await asked("server/discover"))["result"]["capabilities"]["extensions"]
            assert "io.modelcontextprotocol/skills" in extensions
        finally:
            (await http.delete(f"/v1/skills/{created_skill['id']}")).raise_for_status()


async def test_a_chinese_question_finds_the_chinese_file(indexed: Daemon) -> None:
    async with connected(indexed, "stateless") as client:
        answer = await client.call_tool("handbook", {"question": "雪莲花的花期是几月？"})
    assert answer.structured_content["citations"][0]["filename"] == "gaoshan.md"


async def test_a_question_without_an_answer_in_the_files_is_declined(indexed: Daemon) -> None:
    async with connected(indexed, "stateless") as client:
        answer = await client.call_tool("handbook", {"question": "Who won the chess olympiad?"})
    assert answer.structured_content == {
        "answer": "This is not in these documents.",
        "citations": [],
        "cited": [],
        "claims": [],
    }


async def test_files_outside_the_stores_cannot_be_read(indexed: Daemon) -> None:
    async with connected(indexed, "stateless") as client:
        for path, words in (
            ("handbook/files/nothing.md", "The store 'handbook' has no file 'nothing.md'"),
            ("nowhere/files/port.md", "Store 'nowhere' not found"),
        ):
            with pytest.raises(MCPError, match=words):
                await client.read_resource(f"portico://stores/{path}")


def test_a_wrong_key_is_refused_at_the_door(indexed: Daemon) -> None:
    response = httpx.post(f"{indexed.url}/mcp", json={}, headers={"authorization": "Bearer pk-wrong"})
    assert response.status_code == 401 and response.json()["error"]["data"]["code"] == "invalid_api_key"


@pytest.mark.conformance("MCP", "Tools", "@modelcontextprotocol/inspector")
@pytest.mark.slow
def test_the_inspector_does_the_round_trip(indexed: Daemon) -> None:
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("the MCP inspector needs npx, which is not installed")

    def inspect(*arguments: str) -> Any:
        command = [npx, "--yes", INSPECTOR, "--cli", f"{indexed.url}/mcp", "--transport", "http"]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    tools = inspect("--method", "tools/list")["tools"]
    assert {"handbook", "search_handbook"} < {tool["name"] for tool in tools}
    call = inspect("--method", "tools/call", "--tool-name", "handbook", "--tool-arg", f"question={QUESTION}")
    assert call["structuredContent"]["citations"][0]["filename"] == "port.md"
