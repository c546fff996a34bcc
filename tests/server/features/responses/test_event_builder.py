"""The events of a response: a model's output in, the events that every client relies on out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from portico.wire import Usage
from portico_server.core.errors import EngineFailed
from portico_server.features.responses.answer_reader import AnswerReader
from portico_server.features.responses.event_builder import EventBuilder
from portico_server.features.responses.ids import ItemIds, response_of
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.read import read
from portico_server.features.responses.skeleton import skeleton
from portico_server.features.responses.stream_reader import (
    CallPiece,
    EndPiece,
    Piece,
    RefusalPiece,
    TextPiece,
    ThoughtPiece,
    pieces,
    read_whole,
)

STREAM: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
RESPONSE = "resp_" + "0" * 32

A_MESSAGE = ["output_item.added", "content_part.added"]
ITS_END = ["content_part.done", "output_item.done"]
A_CALL = ["output_item.added", "function_call_arguments.delta"]
ITS_DONE = ["function_call_arguments.done", "output_item.done"]

CASES: dict[str, tuple[Sequence[Piece], list[str]]] = {
    "nothing": ([], [*A_MESSAGE, "output_text.delta", "output_text.done", *ITS_END]),
    "words": (
        [TextPiece("one"), TextPiece(" two")],
        [*A_MESSAGE, *["output_text.delta"] * 2, "output_text.done", *ITS_END],
    ),
    "thoughts first": (
        [ThoughtPiece("hm"), TextPiece("one")],
        [
            *[*A_MESSAGE, "reasoning_text.delta", "reasoning_text.done", *ITS_END],
            *[*A_MESSAGE, "output_text.delta", "output_text.done", *ITS_END],
        ],
    ),
    "a refusal": ([RefusalPiece("no")], [*A_MESSAGE, "refusal.delta", "refusal.done", *ITS_END]),
    "words and a call in pieces": (
        [
            TextPiece("one"),
            CallPiece(0, "c1", "f", ""),
            CallPiece(0, "", "", '{"a"'),
            CallPiece(0, "", "", ": 1}"),
        ],
        [
            *[*A_MESSAGE, "output_text.delta", "output_text.done", *ITS_END],
            *[*A_CALL, "function_call_arguments.delta", *ITS_DONE],
        ],
    ),
    "two calls whose pieces are mixed": (
        [
            CallPiece(0, "c", "f", "{"),
            CallPiece(1, "c", "g", "{"),
            CallPiece(0, "", "", "}"),
            CallPiece(1, "", "", "}"),
        ],
        [*A_CALL, *A_CALL, *["function_call_arguments.delta"] * 2, *ITS_DONE, *ITS_DONE],
    ),
    "a call whose name comes late": (
        [CallPiece(0, "c", "", "{"), CallPiece(0, "", "f", "}")],
        [*A_CALL, *ITS_DONE],
    ),
    "words after a call": (
        [CallPiece(0, "c", "f", "{}"), TextPiece("one")],
        [*A_CALL, *ITS_DONE, *A_MESSAGE, "output_text.delta", "output_text.done", *ITS_END],
    ),
}


def begun(**more: Any) -> EventBuilder:
    mint = ItemIds(RESPONSE)
    return EventBuilder(skeleton(read({"model": "m", "input": "x", **more}, mint), RESPONSE), mint)


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_answer_produces_valid_events_in_order(name: str) -> None:
    pieces, event_kinds = CASES[name]
    machine = begun()
    events = machine.begin()
    hearing = AnswerReader(machine)
    for piece in pieces:
        events += hearing.hear(piece)
    events += machine.end(hearing.reason, Usage(3, 2))
    assert kinds(events) == ["created", "in_progress", *event_kinds, "completed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        STREAM.validate_python(event, strict=False)
    final = Response.model_validate(events[-1]["response"])
    ends = {event["output_index"]: event["item"] for event in events if "item" in event}
    assert [item.to_dict() for item in final.output] == [ends[number] for number in range(len(final.output))]
    assert len({item["id"] for item in ends.values()}) == len(ends)
    assert all(response_of(item["id"]) == RESPONSE for item in ends.values())
    assert final.usage is not None
    assert final.usage.total_tokens == 5


def test_calls_with_the_same_id_get_unique_ids() -> None:
    machine = begun()
    hearing = AnswerReader(machine)
    for key in (0, 1, 2):
        hearing.hear(CallPiece(key, "same" if key < 2 else "", "f", "{}"))
    machine.end("tool_calls", Usage())
    ids = [item["call_id"] for item in machine.output]
    assert ids[0] == "same"
    assert len(set(ids)) == 3


def test_calls_of_tools_run_by_the_daemon_are_not_sent_to_the_client() -> None:
    hearing = AnswerReader(begun(), {"look"})
    assert hearing.hear(CallPiece(0, "c", "look", "{")) == []
    assert hearing.hear(CallPiece(0, "", "", "}")) == []
    [call] = hearing.daemon_calls
    assert (call.id, call.name, call.arguments) == ("c", "look", "{}")
    assert not hearing.asks_client


@pytest.mark.parametrize(
    ("reason", "status", "told"),
    [("length", "incomplete", "max_output_tokens"), ("content_filter", "incomplete", "content_filter")],
)
def test_an_incomplete_response_has_the_reason_of_its_end(reason: str, status: str, told: str) -> None:
    machine = begun()
    hearing = AnswerReader(machine)
    hearing.hear(TextPiece("one"))
    hearing.hear(EndPiece(reason))
    events = machine.end(hearing.reason, Usage())
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": told}
    assert events[-1]["response"]["output"][0]["status"] == status


@pytest.mark.parametrize(
    ("arguments", "status"), [("", "incomplete"), ('{"a": ', "incomplete"), ("{}", "completed")]
)
def test_a_call_cut_off_by_text_is_marked_incomplete(arguments: str, status: str) -> None:
    machine = begun()
    hearing = AnswerReader(machine)
    hearing.hear(CallPiece(0, "c", "f", arguments))
    hearing.hear(TextPiece("A guard has stopped this."))
    hearing.hear(EndPiece("content_filter"))
    machine.end(hearing.reason, Usage())
    assert [item["status"] for item in machine.output] == [status, "incomplete"]


def test_a_failure_closes_open_items_and_sends_failed_and_error() -> None:
    machine = begun()
    events = [*machine.begin(), *machine.text("one")]
    events += machine.fail(EngineFailed("It broke.", param="model"))
    assert kinds(events)[-4:] == [*ITS_END, "failed", "error"]
    failure, error = events[-2:]
    assert failure["response"]["error"] == {"code": "server_error", "message": "It broke."}
    assert failure["response"]["output"][0]["status"] == "incomplete"
    assert (error["code"], error["message"], error["param"]) == ("engine_failed", "It broke.", "model")
    for event in events:
        STREAM.validate_python(event)


def test_search_results_are_included_only_if_the_request_includes_them() -> None:
    item = {
        "id": "fs_1",
        "type": "file_search_call",
        "status": "in_progress",
        "queries": ["x"],
        "results": None,
    }
    for include, results in (
        (frozenset[str](), None),
        (frozenset({"file_search_call.results"}), [{"score": 1.0}]),
    ):
        machine = begun()
        machine = EventBuilder(machine.response, machine.mint, include)
        index, _events = machine.add(dict(item))
        done = machine.finish(index, status="completed", results=[{"score": 1.0}], _told="[1] x")
        assert done["item"]["results"] == results
        assert "_told" not in done["item"]
        assert machine.document()["output"][0]["results"] == [{"score": 1.0}]
        assert "_told" in machine.draft()["output"][0]


# --- engine output --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "wanted"),
    [
        (b": ping\n\n", []),
        (b"data: [DONE]\n\n", []),
        (b'data: {"error": {"message": "x"}}\n\n', []),
        (b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\n', []),
        (b'data: {"choices": [{"index": 1, "delta": {"content": "x"}}]}\n\n', []),
        (b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n', []),
        (
            b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"choices": [{"delta": {"content": "b"}}]}\n\n',
            [TextPiece("ab")],
        ),
        (b'data: {"choices": [{"delta": {"reasoning_content": "a"}}]}\n\n', [ThoughtPiece("a")]),
        (
            b'data: {"choices": [{"delta": {"reasoning": "a", "content": "b"}}]}\n\n',
            [ThoughtPiece("a"), TextPiece("b")],
        ),
        (b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\n', [EndPiece("length")]),
        (
            b'data: {"choices": [{"delta": {"tool_calls": [{"index": 1, "id": "c", "function": {"name": "f"}}]}}]}\n\n',
            [CallPiece(1, "c", "f", "")],
        ),
    ],
)
def test_stream_chunks_are_parsed_into_pieces(chunk: bytes, wanted: list[Piece]) -> None:
    assert pieces(chunk) == wanted


def test_a_complete_response_body_is_parsed_into_pieces() -> None:
    calls = b'[{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]'
    message = b'{"role": "assistant", "content": "a", "reasoning_content": "r", "tool_calls": ' + calls + b"}"
    data = b'{"choices": [{"index": 0, "message": ' + message + b', "finish_reason": "tool_calls"}]}'
    assert read_whole(data) == [
        ThoughtPiece("r"),
        TextPiece("a"),
        CallPiece(0, "c", "f", "{}"),
        EndPiece("tool_calls"),
    ]
    with pytest.raises(EngineFailed):
        read_whole(b"no")
