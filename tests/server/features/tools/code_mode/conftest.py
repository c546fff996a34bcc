"""A registry with objects of each kind, ``run_code``, and calls that are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.registry_fixture import FixedModel, FixedStore, RegistryFixture, open_registry, passage

from portico_server.core.context import Context
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.tools.builtin import run_code
from portico_server.features.tools.tool import Tool
from portico_server.features.tools.toolbox import Toolbox

ORDER = {
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
    "additionalProperties": False,
}


class CodeFixture:
    """The registry, and the arguments of each call of a tool that `add` has added."""

    def __init__(self, daemon: RegistryFixture) -> None:
        self.daemon = daemon
        self.toolbox = Toolbox(daemon.registry)
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    def add(self, name: str, work: Callable[[Mapping[str, Any]], ToolResult], **fields: Any) -> None:
        """Add a tool with the result of ``work``."""

        async def call(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
            self.calls.append((name, arguments))
            return work(arguments)

        self.toolbox.add(
            Tool(name, name, f"The tool {name}.", **{"input_schema": {"type": "object"}, **fields}, work=call)
        )

    async def run(self, code: str, caller: Principal = LOCAL) -> ToolResult:
        """Return the result of code."""
        result, _events = await self.daemon.call("tool/run_code", ToolCall({"code": code}), caller)
        assert isinstance(result, ToolResult)
        return result


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[CodeFixture]:
    light = LightSandbox(run_code.MAX_AT_ONCE)
    async with open_registry(tmp_path) as registry:
        fixture = CodeFixture(registry)
        fixture.toolbox.add(run_code.tool(registry.registry, light))
        registry.add(FixedStore("my-docs", [passage(1, "The port is 7419.")]), FixedModel("It is ", "7419."))
        fixture.add(
            "refund",
            lambda arguments: ToolResult("Refunded.", {"id": arguments["id"], "amount": 9.5}),
            input_schema=ORDER,
        )
        fixture.add("greet", lambda arguments: ToolResult(f"Hello {arguments.get('name')}."))
        fixture.add("fail", lambda _arguments: ToolResult("The disk is full.", is_error=True))
        try:
            yield fixture
        finally:
            await light.close()
