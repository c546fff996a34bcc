"""The machine behind a streamed message, which turns the chunks of a chat into events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.registry_fixture import passage

from portico.wire import Usage
from portico_server.core.errors import EngineFailed
from portico_server.features.anthropic.answer import Head, of_completion
from portico_server.features.anthropic.stream import Stream

USAGE = Usage(10, 2, 4)


def delta(finish: str | None = None, *, hit: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish, "stop_reason": hit}]}


def part(index: int, arguments: str = "", name: str | None = None) -> dict[str, Any]:
    name_fields = {} if name is None else {"id": f"call_{name}"}
    return {"index": index, **name_fields, "function": {"name": name, "arguments": arguments}}


def calls(*parts: dict[str, Any]) -> dict[str, Any]:
    return delta(tool_calls=list(parts))


def events(frames: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, each announced by its own name."""
    parsed_events = []
    for frame in frames.decode().strip().split("\n\n"):
        first, second = frame.split("\n")
        event = json.loads(second.removeprefix("data: "))
        assert first == f"event: {event['type']}"
        parsed_events.append(event)
    return parsed_events


def told(*chunks: dict[str, Any], stops: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    stream = Stream(Head("m", stops))
    return events(b"".join(stream.chunk(chunk) for chunk in chunks) + stream.end(USAGE))


def blocks(found: list[dict[str, Any]]) -> list[str]:
    """Return the blocks of a stream as short texts; they must be numbered without gaps and arrive one at a time."""
    block_texts: list[str] = []
    is_open = False
    for event in found[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not is_open and event["index"] == len(block_texts)
                is_open = True
                block = event["content_block"]
                block_texts.append(
                    {"tool_use": f"{block.get('name')}:"}.get(block["type"], f"{block['type']}:")
                )
            case "content_block_delta":
                assert is_open and event["index"] == len(block_texts) - 1
                change = event["delta"]
                block_texts[-1] += (
                    change.get("text") or change.get("thinking") or change.get("partial_json") or "+"
                )
            case "content_block_stop":
                assert is_open and event["index"] == len(block_texts) - 1
                is_open = False
    assert not is_open
    assert [event["type"] for event in (found[0], *found[-2:])] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    return block_texts


@pytest.mark.parametrize(
    ("chunks", "shown", "reason"),
    [
        (
            [delta(role="assistant", content=""), delta(content="a"), delta("stop", content="b")],
            ["text:ab"],
            "end_turn",
        ),
        ([delta("stop")], ["text:"], "end_turn"),
        ([], ["text:"], "end_turn"),
        ([delta("length", content="a")], ["text:a"], "max_tokens"),
        ([delta("content_filter", refusal="No.")], ["text:No."], "refusal"),
        (
            [delta(reasoning_content="Hm"), delta(reasoning="m."), delta("stop", content="a")],
            ["thinking:Hmm.", "text:a"],
            "end_turn",
        ),
        (
            [
                delta(content="I look."),
                calls(part(0, "", "look")),
                calls(part(0, '{"x":')),
                calls(part(0, "1}")),
            ],
            ["text:I look.", 'look:{"x":1}'],
            "tool_use",
        ),
        ([calls(part(0, '{"x":', "look")), delta("length")], ['look:{"x":'], "max_tokens"),
        # Some engines report such an end as a stop, and some tools need no arguments.
        ([calls(part(0, "", "now")), delta("stop")], ["now:"], "tool_use"),
        (
            [calls(part(0, "{}", "a"), part(1, "{}", "b")), delta("tool_calls")],
            ["a:{}", "b:{}"],
            "tool_use",
        ),
        # If two calls are written at once, the second waits until the first is complete.
        (
            [
                calls(part(0, '{"x"', "a")),
                calls(part(1, '{"y"', "b")),
                calls(part(0, ":1}")),
                calls(part(1, ":2}")),
            ],
            ['a:{"x":1}', 'b:{"y":2}'],
            "tool_use",
        ),
        ([calls(part(0, "{}", "a")), delta(content="Done.")], ["a:{}", "text:Done."], "tool_use"),
    ],
)
def test_chunks_become_blocks(chunks: list[Any], shown: list[str], reason: str) -> None:
    stream_events = told(*chunks)
    assert blocks(stream_events) == shown
    assert stream_events[-2]["delta"] == {"stop_reason": reason, "stop_sequence": None}


def test_a_stop_sequence_is_named_if_the_engine_says_which_it_was() -> None:
    stream_events = told(delta("stop", hit="END", content="a"), stops=("END",))
    assert stream_events[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert told(delta("stop", hit="</s>", content="a"))[-2]["delta"]["stop_reason"] == "end_turn"


def test_token_counts_are_sent_in_the_message_delta() -> None:
    assert told(delta("stop", content="a"))[-2]["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 2,
    }


def test_the_message_begins_with_the_first_sign_of_an_answer() -> None:
    [start] = events(Stream(Head("m", prompt_tokens=12)).chunk(delta(role="assistant")))
    assert start["message"]["usage"]["input_tokens"] == 12
    assert start["message"]["model"] == "m" and start["message"]["content"] == []
    assert start["message"]["id"].startswith("msg_")


def test_citations_belong_to_the_text() -> None:
    stream = Stream(Head("m"))
    stream_events = events(
        stream.text("a [1]") + stream.citation_frames([passage(1, "The port is 7419.")]) + stream.end(USAGE)
    )
    assert blocks(stream_events) == ["text:a [1]+"]
    assert stream_events[3]["delta"]["citation"]["cited_text"] == "The port is 7419."


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"x":1}', {"x": 1}),
        ("", {}),
        ("null", {}),
        ('{"x":', {"INVALID_JSON": '{"x":'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_the_arguments_of_a_whole_answer_are_an_object(arguments: str, given: Any) -> None:
    answer_message = {"content": None, "reasoning_content": "Hm.", "tool_calls": [part(0, arguments, "look")]}
    message = of_completion(
        {"choices": [{"message": answer_message, "finish_reason": "tool_calls"}]}, Head("m"), Usage(3, 2)
    )
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "tool_use", "id": "call_look", "name": "look", "input": given},
    ]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize("document", [{}, [], {"choices": []}])
def test_an_invalid_completion_document_is_an_engine_failure(document: Any) -> None:
    with pytest.raises(EngineFailed):
        of_completion(document, Head("m"), Usage())
