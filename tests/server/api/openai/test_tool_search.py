"""Tools of a response that the model must find: `tool_search`, `defer_loading`, namespaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from tests.api_server import api_server
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer
from tests.server.api.openai.following import followed
from tests.server.features.agents.agent_fixture import Speaker, calls

from portico_server.features.responses.request import model_name

SEARCH: Any = {"type": "tool_search"}
ORDER: Any = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}


def function(name: str, about: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "description": about, "parameters": ORDER, **more}


def deferred(name: str, about: str) -> dict[str, Any]:
    return function(name, about, defer_loading=True)


SHOP: Any = {
    "type": "namespace",
    "name": "shop",
    "description": "Orders of the shop.",
    "tools": [
        deferred("refund", "Give the money of an order back."),
        deferred("track", "Where a parcel is."),
        deferred("cancel", "Cancel an order before it is shipped."),
        function("list", "List all orders."),
    ],
}
OTHERS: Any = [deferred(f"paint_{colour}", f"Paint a wall {colour}.") for colour in ("red", "blue", "green")]


@pytest.mark.conformance("OpenAI", "Responses: tool_search", "openai")
def test_deferred_tools_are_found_by_search_and_called(client: OpenAI) -> None:
    events, first = followed(
        client.responses.create(
            model="clever", input="refund order 7", tools=[SEARCH, SHOP, *OTHERS], stream=True
        )
    )
    search, output, call = first.output
    assert search.type == "tool_search_call" and output.type == "tool_search_output"
    assert (search.execution, search.call_id, search.status) == ("server", None, "completed")
    assert search.arguments == {"query": "give money back for an order"}
    assert (output.execution, output.call_id, output.status) == ("server", None, "completed")
    [shop, *_rest] = output.tools
    assert shop.type == "namespace" and shop.name == "shop"
    assert shop.tools[0].name == "refund" and shop.tools[0].type == "function"
    assert shop.tools[0].defer_loading is True and shop.tools[0].parameters == ORDER
    assert "list" not in [tool.name for tool in shop.tools], (
        "what is not deferred is there without being found"
    )
    assert call.type == "function_call"
    assert (call.namespace, call.name, call.arguments) == ("shop", "refund", '{"order":"7"}')
    assert {event.type for event in events if "search" in event.type} == set(), "as at OpenAI, items alone"
    assert [tool.type for tool in first.tools][:2] == ["tool_search", "namespace"]

    answer = client.responses.create(
        model="clever",
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Done."}],
        tools=[SEARCH, SHOP],
    )
    assert answer.output_text == "Refunded."
    items = client.responses.input_items.list(answer.id).data
    assert [item.type for item in items] == ["function_call_output"]


def test_deferred_mcp_tools_are_found_only_by_keys_with_the_right(client: OpenAI, harbour: Daemon) -> None:
    odd: Any = {
        "type": "mcp",
        "server_label": "odd",
        "server_description": "Says things again.",
        "require_approval": "never",
        "defer_loading": True,
    }
    answer = client.responses.create(model="clever", input="recall hello", tools=[SEARCH, odd])
    tool_list, search, output, call, message = answer.output
    assert [item.type for item in (tool_list, search, message)] == [
        "mcp_list_tools",
        "tool_search_call",
        "message",
    ]
    assert output.type == "tool_search_output" and output.tools[0].type == "mcp"
    assert output.tools[0].server_label == "odd" and "echo" in (output.tools[0].allowed_tools or ())
    assert call.type == "mcp_call" and call.output == "hello"

    # A key without the right is told that the tool does not exist, and cannot find it.
    body = {"model": "clever", "input": "hello", "tools": [SEARCH, odd]}
    [listed_, *_more] = httpx.post(f"{harbour.url}/v1/responses", json=body, headers=bearer("one")).json()[
        "output"
    ]
    assert listed_["tools"] == [] and "no tool that this key may call" in listed_["error"]


def test_a_client_executed_tool_search_returns_tools_to_the_model(client: OpenAI) -> None:
    goal = {"type": "object", "properties": {"goal": {"type": "string"}}, "required": ["goal"]}
    search_tool: Any = {
        "type": "tool_search",
        "execution": "client",
        "description": "Ask.",
        "parameters": goal,
    }
    first = client.responses.create(model="clever", input="tides please", tools=[search_tool])
    [search] = first.output
    assert search.type == "tool_search_call" and search.execution == "client"
    assert search.arguments == {"goal": "tides"} and search.call_id

    missing = {"input": "And?", "previous_response_id": first.id}
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="clever", tools=[search_tool], **missing)  # type: ignore[call-overload]
    assert "No tool output found" in error.value.message

    search_output: Any = {
        "type": "tool_search_output",
        "call_id": search.call_id,
        "execution": "client",
        "status": "completed",
        "tools": [deferred("get_tides", "When the tide is high.")],
    }
    second = client.responses.create(
        model="clever", previous_response_id=first.id, input=[search_output], tools=[search_tool]
    )
    [call] = second.output
    assert call.type == "function_call" and call.name == "get_tides" and call.namespace is None
    last = client.responses.create(
        model="clever",
        previous_response_id=second.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Noon."}],
    )
    assert last.output_text == "High at noon."


async def test_the_model_is_sent_only_the_deferred_tools_it_found(tmp_path: Path) -> None:
    async with api_server(tmp_path) as api:
        find = calls(("tool_search", json.dumps({"query": "money back for an order"})))
        model = Speaker(find, calls(("shop__refund", '{"order": "7"}')), "Done.", name="voice")
        api.services.registry.add(model)
        tools = [deferred(f"tool_{number}", f"Does the thing number {number}.") for number in range(200)]
        body: dict[str, Any] = {"model": "voice", "input": "refund it", "tools": [SEARCH, SHOP, *tools]}
        answer = (await api.client.post("/v1/responses", json=body)).json()

        def shown(number: int) -> list[str]:
            return [tool["function"]["name"] for tool in model.options(number)["tools"]]

        assert shown(0) == ["shop__list", "tool_search"]
        assert "They belong to: shop: Orders of the shop." in str(model.options(0)["tools"][-1])
        assert "shop__refund" in shown(1) and len(shown(1)) == 2 + 5
        assert model.sent(1)[-1]["content"].startswith("These tools can be called now: shop__refund")
        call = answer["output"][-1]
        following = {
            **body,
            "input": [
                {"type": "message", "role": "user", "content": "refund it"},
                *answer["output"],
                {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"},
            ],
        }
        again = (await api.client.post("/v1/responses", json=following)).json()
        assert again["output"][0]["content"][0]["text"] == "Done."
        assert shown(2) == shown(1), "what was found stays, also where the client sends its items itself"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [deferred("one", "One.")]}, "tools[0].defer_loading"),
        ({"tools": [SEARCH, function("one", "One.", defer_loading="yes")]}, "tools[1].defer_loading"),
        ({"tools": [SEARCH, SEARCH]}, "tools[1]"),
        ({"tools": [{"type": "tool_search", "execution": "nowhere"}]}, "tools[0].execution"),
        ({"tools": [{"type": "tool_search", "parameters": 1}]}, "tools[0].parameters"),
        ({"tools": [{"type": "namespace", "name": "a b", "description": "x", "tools": []}]}, "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "a", "tools": []}]}, "tools[0].description"),
        ({"tools": [{"type": "namespace", "name": "a", "description": "x"}]}, "tools[0].tools"),
        (
            {"tools": [{"type": "namespace", "name": "a", "description": "x", "tools": [SEARCH]}]},
            "tools[0].tools[0].type",
        ),
        ({"tools": [SEARCH, *(deferred("one", "One.") for _ in range(2))]}, "tools"),
        ({"tools": [SEARCH, *(deferred(f"f{n}", "One.") for n in range(1_001))]}, "tools"),
        ({"tools": [function(f"f{n}", "One.") for n in range(1_001)]}, "tools"),
        ({"input": [{"type": "tool_search_output", "call_id": "c"}]}, "input[0].tools"),
        (
            {"input": [{"type": "tool_search_output", "call_id": "c", "tools": [{}]}]},
            "input[0].tools[0].type",
        ),
        ({"input": [{"type": "tool_search_output", "call_id": "c", "tools": []}]}, "input"),
        (
            {"input": [{"type": "tool_search_call", "execution": "client", "arguments": {}}]},
            "input[0].call_id",
        ),
    ],
)
def test_invalid_tool_search_requests_are_refused_with_the_parameter(
    client: OpenAI, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(**{"model": "echo", "input": "hello", **body})
    assert error.value.param == param


def test_a_name_in_a_namespace_has_the_characters_and_the_length_that_engines_take() -> None:
    assert model_name("", "get") == "get" and model_name("crm", "get") == "crm__get"
    long = {model_name("n" * 60, f"{'f' * 60}{number}") for number in range(3)}
    assert len(long) == 3 and {len(name) for name in long} == {64}
