"""With many tools, a model sees a search over them and the tools it has found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.server.features.agents.agent_fixture import AgentFixture, Speaker, calls

from portico_server.core.errors import InvalidRequest
from portico_server.core.tool_search import MAX_FOUND_TOOLS, MAX_LISTED_TOOLS
from portico_server.features.agents.read import agent as read

NOUNS = ("invoice", "parcel", "meeting", "holiday", "lamp", "printer", "contract", "salary", "train", "hotel")
VERBS = ("cancel", "print")
TOOLS = [*(f"{verb}_{noun}" for verb in VERBS for noun in NOUNS), "refund_order", "draw_picture"]
FIND = calls(("find_tools", json.dumps({"query": "refund an order"})))
USE = calls(("refund_order", '{"id": "7"}'))


def shown(model: Speaker, number: int) -> list[str]:
    """Return the tools that the model received in one call."""
    return [tool["function"]["name"] for tool in model.options(number).get("tools", ())]


@pytest.fixture
def many(agent_fixture: AgentFixture) -> AgentFixture:
    """A registry with a few tools more than are listed."""
    assert len(TOOLS) > MAX_LISTED_TOOLS
    for name in TOOLS:
        agent_fixture.tool(name, lambda given: f"done {given['id']}", "id")
    return agent_fixture


async def test_tools_found_by_a_search_are_offered_to_the_model(many: AgentFixture) -> None:
    model = many.model(FIND, USE, "Refunded.")
    reply, events = await many.run("go", "s", tools=TOOLS)
    assert reply.content == "Refunded."
    assert shown(model, 0) == ["find_tools"]
    offered_tools = shown(model, 1)
    assert (
        "find_tools" in offered_tools
        and "refund_order" in offered_tools
        and len(offered_tools) <= 1 + MAX_FOUND_TOOLS
    )
    assert model.sent(1)[-1]["content"].splitlines()[:2] == [
        "These tools can be called now:",
        "- refund_order",
    ]
    assert model.sent(2)[-1]["content"] == "done 7"
    assert [event.name for event in events if event.type == "tool_called"] == ["find_tools", "refund_order"]

    # In a later turn, tools found earlier can be called at once.
    model.lines = [USE, "Again."]
    assert (await many.ask("again", "s", tools=TOOLS)).content == "Again."
    assert model.sent()[-1]["content"] == "done 7"
    assert shown(model, -1) == ["refund_order", "find_tools"]

    # The search finds only the agent's tools, and an unknown name does not list all names.
    model.lines = [calls(("find_tools", '{"query": "   "}'), ("refund", "{}")), "No."]
    await many.ask("more", "s", tools=TOOLS)
    empty, unknown = (message["content"] for message in model.sent()[-2:])
    assert "It needs 'query'" in empty
    assert "Tools are: find_tools." in unknown


async def test_tool_search_depends_on_its_setting_and_the_number_of_tools(many: AgentFixture) -> None:
    for spec, searches in (
        ({"tools": TOOLS[:MAX_LISTED_TOOLS]}, False),
        ({"tools": TOOLS, "tool_search": False}, False),
        ({"tools": TOOLS[:2], "tool_search": True}, True),
        ({"tools": TOOLS, "tool_search": "auto"}, True),
    ):
        model = many.model("Done.")
        await many.ask("go", **spec)  # type: ignore[arg-type]
        assert shown(model, 0) == (["find_tools"] if searches else spec["tools"]), spec

    plan = [{"id": "E1", "plan": "refund", "tool": "refund_order", "input": '{"id": "7"}'}]
    model = many.model(json.dumps({"value": plan}), "Done.")
    await many.ask("go", tools=TOOLS, strategy="rewoo")
    assert all(name in str(model.sent(0)) for name in TOOLS), "a plan of all calls needs all tools"


async def test_models_without_function_calling_get_the_found_tools_as_text(many: AgentFixture) -> None:
    lines: Mapping[str, list[str]] = {
        "text_tools": [
            '```tool\n{"name": "find_tools", "parameters": {"query": "refund an order"}}\n```',
            '```tool\n{"name": "refund_order", "parameters": {"id": "7"}}\n```',
        ],
        "react": [
            'Action: find_tools\nAction Input: {"query": "refund an order"}',
            'Action: refund_order\nAction Input: {"id": "7"}',
        ],
    }
    for strategy, replies in lines.items():
        model = many.model(*replies, "Final Answer: done")
        assert (await many.ask("go", tools=TOOLS, strategy=strategy)).content == "done"
        first, second, third = (str(model.sent(number)) for number in range(3))
        assert "find_tools" in first and "refund_order" not in first
        assert 'refund_order: Does refund_order. Parameters: {"type":"object"' in second
        assert "done 7" in third


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ({"tool_search": "always"}, "agent.tool_search"),
        ({"tool_search": True, "strategy": "rewoo"}, "agent.tool_search"),
        ({"tool_search": True, "tools": ["find_tools"]}, "agent"),
    ],
)
def test_an_invalid_tool_search_setting_is_refused_with_its_field(spec: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        read({"portico_agent": 1, **spec})
    assert wrong.value.param == param
