"""Tools of servers keep their names where models and clients accept them, and get unique, stable names otherwise."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import ApiServer, api_server
from tests.server.features.mcp_servers.test_host import Case, opened

from portico_server.core.errors import Forbidden, NotFound
from portico_server.core.principal import Principal
from portico_server.features.agents.read import agent as read_agent
from portico_server.features.mcp_servers.spec import ServerSpec, parse

SCRIPTED = str(Path(__file__).with_name("scripted.py"))
LONG = "create_confluence_page_with_attachments_and_permissions_for_team_"

NAMES = {
    "plain": "odd_plain",
    "UPPER": "odd_UPPER",
    "upper": "odd_upper",
    "with-dash_and_1": "odd_with-dash_and_1",
    "_inner_": "odd__inner_",
    "a_b": "odd_a_b",
    "a b": r"odd_a_b_[0-9a-f]{6}",
    "a/b": r"odd_a_b_[0-9a-f]{6}",
    "a.b": r"odd_a_b_[0-9a-f]{6}",
    "a:b": r"odd_a_b_[0-9a-f]{6}",
    "mail.read": r"odd_mail_read_[0-9a-f]{6}",
    "天气": r"odd_[0-9a-f]{6}",
    "日历": r"odd_[0-9a-f]{6}",
    "café": r"odd_caf_[0-9a-f]{6}",
    "🎵 play": r"odd__play_[0-9a-f]{6}",
    "..": r"odd_[0-9a-f]{6}",
    "-": "odd_-",
    "": "odd_",
    f"{LONG}alpha": rf"odd_{LONG[:53]}_[0-9a-f]{{6}}",
    f"{LONG}beta": rf"odd_{LONG[:53]}_[0-9a-f]{{6}}",
    "x" * 60: "odd_" + "x" * 60,
    "x" * 128: r"odd_x{53}_[0-9a-f]{6}",
}
"""For each name on the server, a pattern of its name in Portico."""


def scripted(folder: Path, script: dict[str, Any], name: str = "odd", **fields: Any) -> ServerSpec:
    """Return the spec of a server that answers as ``script`` says."""
    file = folder / f"{name}.script.json"
    file.write_text(json.dumps(script), encoding="utf-8")
    return parse({"name": name, "command": [sys.executable, SCRIPTED, str(file)], **fields})


def tools(*names: str) -> dict[str, Any]:
    return {"list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}}


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with opened(tmp_path) as case:
        yield case


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


async def originals(case: Case, names: tuple[str, ...]) -> dict[str, str]:
    """Return the name on the server of the tool that each of ``names`` calls."""
    return {name: (await case.use(name)).text.removesuffix(" {}") for name in names}


async def test_each_tool_has_a_name_of_its_own_that_calls_it(case: Case) -> None:
    info = await case.host.add(scripted(case.folder, tools(*NAMES)), None)
    assert (info.state, info.problems) == ("ready", ())
    by_name = await originals(case, info.tools)
    assert sorted(by_name.values()) == sorted(NAMES)
    assert [
        (original, name) for name, original in by_name.items() if not re.fullmatch(NAMES[original], name)
    ] == []
    assert [name for name in by_name if not re.fullmatch("[A-Za-z0-9_-]{1,64}", name)] == []


async def test_names_depend_neither_on_the_order_of_the_tools_nor_on_other_tools(case: Case) -> None:
    await case.host.add(scripted(case.folder, tools(*NAMES)), None)
    names = case.host.get("odd").tools
    await case.host.remove("odd")
    await case.host.add(scripted(case.folder, tools(*reversed(NAMES))), None)
    assert case.host.get("odd").tools == names
    await case.host.remove("odd")
    [alone] = (await case.host.add(scripted(case.folder, tools("天气")), None)).tools
    assert alone in names


async def test_of_two_different_tools_with_the_same_name_the_first_is_offered_and_the_second_named(
    case: Case,
) -> None:
    script = tools("same", "same", "same", "other")
    script["list"]["tools"][2]["description"] = "Another tool"
    info = await case.host.add(scripted(case.folder, script), None)
    assert info.tools == ("odd_other", "odd_same")
    assert info.problems == ("The server lists two tools named 'same'; only the first can be called.",)


async def test_tools_of_two_servers_that_would_have_one_name_both_stay(case: Case) -> None:
    await case.host.add(scripted(case.folder, tools("b_c"), "a"), None)
    info = await case.host.add(scripted(case.folder, tools("c"), "a_b"), None)
    [later_name] = info.tools
    assert re.fullmatch(r"a_b_c_[0-9a-f]{12}", later_name)
    assert await originals(case, ("a_b_c", later_name)) == {"a_b_c": "b_c", later_name: "c"}
    key = Principal("k", frozenset({"tools:a_b_c:call"}))
    assert [card.title for card in await case.daemon.registry.cards(key, "tool")] == ["b_c"]
    with pytest.raises(Forbidden):
        await case.use(later_name, key)


async def test_a_name_that_models_can_call_means_no_tool_of_another_name(case: Case) -> None:
    await case.host.add(scripted(case.folder, tools("plain")), None)
    with pytest.raises(NotFound):
        await case.use("plain")


async def test_a_tool_is_also_found_by_its_name_on_the_server(case: Case) -> None:
    await case.host.add(scripted(case.folder, tools("mail.read", "天气", f"{LONG}alpha")), None)
    for name in ("odd_mail.read", "mail.read", "天气", "odd_天气", f"{LONG}alpha", f"odd_{LONG}alpha"):
        assert (await case.use(name)).text.removesuffix(" {}") in name
    key = Principal("k", frozenset({"tools:odd_mail.read:call"}))
    assert (await case.use("odd_mail.read", key)).text == "mail.read {}"
    assert [card.title for card in await case.daemon.registry.cards(key, "tool")] == ["mail.read"]


async def test_a_name_that_two_servers_have_needs_the_servers_prefix(case: Case) -> None:
    await case.host.add(scripted(case.folder, tools("mail.read"), "a"), None)
    await case.host.add(scripted(case.folder, tools("mail.read"), "b"), None)
    assert (await case.use("b_mail.read")).text == "mail.read {}"
    with pytest.raises(NotFound):
        await case.use("mail.read")


def test_an_agent_lists_a_tool_by_any_name_and_the_model_sees_one_that_it_can_call() -> None:
    tool_names = ["mail.read", "天气", "日历", f"{LONG}alpha", {"tool": "a/b", "as": "ab"}, "plain"]
    agent = read_agent({"portico_agent": 1, "name": "a", "tools": tool_names})
    names = [use.name for use in agent.tools]
    assert names[-2:] == ["ab", "plain"] and len(set(names)) == 6
    assert [name for name in names if not re.fullmatch("[A-Za-z0-9_-]{1,64}", name)] == []


async def test_an_agent_over_http_calls_a_tool_that_it_lists_by_its_original_name(
    gateway: ApiServer, tmp_path: Path
) -> None:
    spec = scripted(tmp_path, tools("mail.read"))
    await gateway.client.post("/api/mcp/servers", json={"name": "odd", "command": list(spec.command)})
    response = await gateway.client.post("/api/tools/mail.read/call", json={"arguments": {}})
    assert response.json()["text"] == "mail.read {}"
