"""Our tools pass the checks of `portico.testing.tools`; tools that use the network are not called."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from portico.testing.tools import TOOL_CHECKS, ToolCase, ToolCheck, a_model_can_read_what_it_is_for
from portico_server.core.registry import Registry
from portico_server.features.tools.builtin import BUILTIN, outward
from portico_server.features.tools.tool import Tool
from portico_server.settings import Settings

CALLS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "current_time": {
        "good": [{}, {"timezone": "Asia/Shanghai"}],
        "bad": [{"timezone": "Mars/Olympus"}],
        "wrong": [{"timezone": 7}, {"zone": "UTC"}],
    },
    "ask_model": {
        "good": [],
        "bad": [{"input": "Good morning", "model": "nobody"}],
        "wrong": [{}, {"input": ""}, {"input": "x", "temperature": 3}, {"question": "x"}],
    },
    "list_stores": {"good": [{}], "wrong": [{"x": 1}]},
    "search": {"good": [], "bad": [{"store": "none", "query": "x"}], "wrong": [{"query": "x"}]},
    "files": {
        "good": [{"path": "folder"}, {"path": "folder/notes.txt"}],
        "bad": [{"path": "folder/absent.txt"}, {"path": "folder/../secret"}],
        "wrong": [{}, {"path": "folder", "start": -1}],
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shared_folder = tmp_path / "folder"
    shared_folder.mkdir()
    (shared_folder / "notes.txt").write_text("A note.\n", encoding="utf-8")
    sqlite3.connect(shared_folder / "boats.db").close()
    return shared_folder


def made(folder: Path) -> dict[str, Any]:
    """Return the functions that build our tools, by function name."""
    tools = {make(Registry()).name: make for make in BUILTIN}
    for tool in outward(Settings(tool_folders=str(folder))):
        tools[tool.name] = lambda _registry, tool=tool: tool
    return tools


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("check", TOOL_CHECKS, ids=lambda check: check.__name__)
async def test_every_tool_passes_each_tool_check(name: str, check: ToolCheck, folder: Path) -> None:
    await check(ToolCase(made(folder)[name], **CALLS[name]))


async def test_every_tool_has_a_description_for_models(folder: Path) -> None:
    for make in made(folder).values():
        assert isinstance(make(Registry()), Tool)
        await a_model_can_read_what_it_is_for(ToolCase(make, []))
