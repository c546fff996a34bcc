"""Servers from npm and PyPI, hosted by a complete daemon and offered again through its own MCP endpoint."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from tests import daemon as daemons

EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"
TIME = "mcp-server-time==2026.10.19"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
async def test_a_server_from_npm_is_hosted_and_can_sample(tmp_path: Path) -> None:
    configuration = tmp_path / "portico.yaml"
    configuration.write_text(
        'models:\n  - {name: echo, source: "fake://"}\n'
        f'mcp:\n  - {{name: all, command: [npx, -y, "{EVERYTHING}"], approval: never, sampling: {{model: echo}}}}\n',
        encoding="utf-8",
    )
    with daemons.running(tmp_path / "home", "--file", str(configuration)) as daemon:
        await offered(daemon.url, "all", "all_echo", {"message": "hello"}, "hello")
        async with Client(f"{daemon.url}/mcp") as client:
            # The server offers this tool to clients that have declared sampling.
            arguments = {"prompt": "A rhyme", "maxTokens": 20}
            result: Any = await client.call_tool("all_trigger-sampling-request", arguments)
        assert '"model": "echo"' in result.content[0].text and "A rhyme" in result.content[0].text


@pytest.fixture
def clock(tmp_path: Path) -> str:
    """Return the program of a server from PyPI, in its own environment."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", TIME]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"{TIME} cannot be installed: {installed.stderr[-200:]}")
    return str(environment / "bin" / "mcp-server-time")


async def test_a_server_from_pypi_is_hosted_and_its_tool_is_called(tmp_path: Path, clock: str) -> None:
    with daemons.running(tmp_path / "home") as daemon:
        async with httpx.AsyncClient(base_url=daemon.url, timeout=120) as http:
            response = await http.post("/api/mcp/servers", json={"name": "clock", "command": [clock]})
        assert response.json()["state"] == "ready", response.text
        arguments = {"timezone": "Asia/Shanghai"}
        await offered(daemon.url, "clock", "clock_get_current_time", arguments, "+08:00")


async def offered(url: str, server: str, tool: str, arguments: dict[str, str], expected: str) -> None:
    """Wait until the server is ready; then list and call its tool through our own endpoint."""
    async with Client(f"{url}/mcp") as client, httpx.AsyncClient(base_url=url, timeout=150) as http:
        async with client.listen(tools_list_changed=True) as changes:
            state = (await http.get(f"/api/mcp/servers/{server}")).json()
            while state["state"] != "ready":
                await anext(changes)
                state = (await http.get(f"/api/mcp/servers/{server}")).json()
        assert tool in {offer.name for offer in (await client.list_tools()).tools}
        result = await client.call_tool(tool, arguments)
        assert not result.is_error and expected in result.content[0].text
