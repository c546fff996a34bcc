"""Items converted to the messages that a model reads."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.features.responses.ids import ItemIds
from portico_server.features.responses.items import read
from portico_server.features.responses.messages import messages_of

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OTHER = {**CALL, "call_id": "c2", "name": "g"}
CALL_IDS = {"f": "c1", "g": "c2"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "one"}
SECOND = {**OUTPUT, "call_id": "c2", "output": "two"}
CODE = {
    "type": "code_interpreter_call",
    "id": "ci_1",
    "code": "1",
    "container_id": "cntr_1",
    "outputs": [{"type": "logs", "logs": "printed"}],
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def called(*names: str) -> dict[str, Any]:
    calls = [
        {"id": CALL_IDS[name], "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in names
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def tool(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        ("hello", [user("hello")]),
        (
            [user("a"), {"role": "assistant", "content": "b"}],
            [user("a"), {"role": "assistant", "content": "b"}],
        ),
        ([CALL, OUTPUT, OTHER, SECOND], [called("f"), tool("c1", "one"), called("g"), tool("c2", "two")]),
        ([CALL, OTHER, SECOND, OUTPUT], [called("f", "g"), tool("c1", "one"), tool("c2", "two")]),
        ([CALL, user("wait"), OUTPUT], [called("f"), tool("c1", "one"), user("wait")]),
        (
            [{"role": "assistant", "content": "let me"}, CALL, OUTPUT],
            [{**called("f"), "content": "let me"}, tool("c1", "one")],
        ),
        ([{"type": "reasoning", "summary": [], "id": "rs_1"}, user("a")], [user("a")]),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x", "detail": "low"}]}],
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}],
                }
            ],
        ),
    ],
)
def test_items_become_messages(items: Any, wanted: list[dict[str, Any]]) -> None:
    assert messages_of(read(items, ItemIds())) == wanted


def test_the_output_of_a_code_interpreter_call_becomes_a_tool_message() -> None:
    call, result = messages_of(read([CODE], ItemIds()))
    assert call["tool_calls"][0]["function"] == {"name": "code_interpreter", "arguments": '{"code":"1"}'}
    assert result == tool("ci_1", "printed")


def test_a_refused_mcp_call_becomes_a_tool_message_with_its_reason() -> None:
    request = {"type": "mcp_approval_request", "id": "r", "server_label": "s", "name": "f", "arguments": "{}"}
    response = {
        "type": "mcp_approval_response",
        "approval_request_id": "r",
        "approve": False,
        "reason": "No.",
    }
    _asked, result = messages_of(read([request, response], ItemIds()))
    assert result["content"] == "The user did not allow this call. No."
