"""The contract of every chat engine: checks for authors of engines. Portico's own engines pass them too.

A check is a coroutine function that accepts a `ModelFixture` with a chat model named ``m``, as ``docs/plugins.md``
shows. It raises `AssertionError` for a violation.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from portico.testing.model_fixture import ModelFixture, Streamed, user
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.models.answers import close_chunks
from portico_server.models.deployment import Deployment

__all__ = ["CHAT_CHECKS", "GENERATION_CHECKS", "EngineCheck"]

EngineCheck: TypeAlias = Callable[[ModelFixture], Awaitable[None]]

MAX_KILLS = 5
"""Maximum number of times that an engine is killed until one kill comes during a stream."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Berlin"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
LIGHT = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Switch the light",
        "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "green"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["color", "count"],
    "additionalProperties": False,
}


def _ask(**options: Any) -> dict[str, Any]:
    return {"messages": user("Tell me about the sea and the sky."), "max_tokens": 6, **options}


async def plain(daemon: ModelFixture) -> None:
    answer = await daemon.ask("m", _ask())
    [choice] = answer["choices"]
    assert (
        answer["object"] == "chat.completion"
        and answer["model"] == "m"
        and answer["id"].startswith("chatcmpl-")
    )
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 6 and usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + 6


async def a_stream_has_one_id_and_one_created_and_ends_with_done(daemon: ModelFixture) -> None:
    stream = await daemon.stream("m", _ask())
    assert stream.done and stream.error is None and stream.text()
    assert len({(d["id"], d["created"], d["object"], d["model"]) for d in stream.documents}) == 1
    assert stream.documents[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["delta"].get("role") for d in stream.documents[1:] for c in d["choices"]].count(
        "assistant"
    ) == 0
    assert stream.finishes() == {0: "length"}
    assert all(document["choices"] for document in stream.documents)
    assert stream.usage.completion_tokens == 6


async def usage_of_a_stream_only_if_asked_for(daemon: ModelFixture) -> None:
    stream = await daemon.stream("m", _ask(stream_options={"include_usage": True}))
    assert stream.documents[-1]["choices"] == []
    assert stream.documents[-1]["usage"]["completion_tokens"] == 6 == stream.usage.completion_tokens
    stream = await daemon.stream("m", _ask(stream_options={"include_usage": False}))
    assert not any(document.get("usage") for document in stream.documents)


async def several_choices(daemon: ModelFixture) -> None:
    answer = await daemon.ask("m", _ask(n=3, temperature=0.1, seed=7))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert all(choice["message"]["content"] for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] == 18
    stream = await daemon.stream("m", _ask(n=2, temperature=0.1, seed=7))
    assert stream.finishes() == {0: "length", 1: "length"} and stream.text(0) and stream.text(1)
    assert stream.usage.completion_tokens == 12


async def a_seed_repeats(daemon: ModelFixture) -> None:
    first, second = [await daemon.ask("m", _ask(seed=7, temperature=1.0)) for _ in range(2)]
    assert first["choices"][0]["message"] == second["choices"][0]["message"]


async def stop(daemon: ModelFixture) -> None:
    full_text = (await daemon.ask("m", _ask(temperature=0)))["choices"][0]["message"]["content"]
    stop = full_text.split()[2]
    answer = (await daemon.ask("m", _ask(temperature=0, stop=[stop])))["choices"][0]
    assert stop not in answer["message"]["content"] and full_text.startswith(answer["message"]["content"])
    assert answer["finish_reason"] == "stop"
    assert answer.get("stop_reason", stop) == stop


async def max_completion_tokens(daemon: ModelFixture) -> None:
    answer = await daemon.ask(
        "m", {"messages": user("Tell me about the wide sea."), "max_completion_tokens": 2}
    )
    assert answer["usage"]["completion_tokens"] == 2


async def a_required_tool_is_called(daemon: ModelFixture) -> None:
    body = _ask(tools=[WEATHER], tool_choice="required", max_tokens=200, temperature=0)
    [choice] = (await daemon.ask("m", body))["choices"]
    [call] = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    assert call["id"].startswith("call_") and call["type"] == "function"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Berlin")


async def a_named_tool_is_called_and_streamed_in_pieces(daemon: ModelFixture) -> None:
    tool_choice = {"type": "function", "function": {"name": "set_light"}}
    stream = await daemon.stream(
        "m", _ask(tools=[WEATHER, LIGHT], tool_choice=tool_choice, max_tokens=200, temperature=0)
    )
    parts = [
        part for d in stream.documents for c in d["choices"] for part in c["delta"].get("tool_calls", ())
    ]
    assert stream.finishes() == {0: "tool_calls"} and stream.text() == ""
    assert {part["index"] for part in parts} == {0}
    assert parts[0]["id"].startswith("call_") and parts[0]["function"]["name"] == "set_light"
    assert not any("id" in part or "name" in part["function"] for part in parts[1:])
    assert isinstance(json.loads("".join(part["function"]["arguments"] for part in parts))["on"], bool)


async def no_tool_is_called_against_the_choice(daemon: ModelFixture) -> None:
    answer = await daemon.ask("m", _ask(tools=[WEATHER], tool_choice="none"))
    assert answer["choices"][0]["message"]["content"] and "tool_calls" not in answer["choices"][0]["message"]


async def a_schema_is_kept_to(daemon: ModelFixture) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    answer = await daemon.ask("m", _ask(response_format=response_format, max_tokens=200, temperature=0))
    value = json.loads(answer["choices"][0]["message"]["content"])
    assert value["color"] in ("red", "green") and 0 <= value["count"] <= 9


async def log_probabilities(daemon: ModelFixture) -> None:
    answer = await daemon.ask("m", _ask(logprobs=True, top_logprobs=1, temperature=0))
    entries = answer["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == answer["choices"][0]["message"]["content"]
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 1 for entry in entries)
    assert set(entries[0]) == {"token", "logprob", "bytes", "top_logprobs"}
    stream = await daemon.stream("m", _ask(logprobs=True, top_logprobs=1))
    assert sum(bool(c["logprobs"]) for d in stream.documents for c in d["choices"]) == 6


async def a_prompt_longer_than_the_context_names_both_lengths(daemon: ModelFixture) -> None:
    """Check that the error for a prompt that is too long contains both lengths, with and without streaming. Only for
    models with a ``context_length``.
    """
    length = (await daemon.registry.resolve("m", LOCAL)).card.labels.get("context_length")
    if not isinstance(length, int):
        return
    for stream in (False, True):
        try:
            await daemon.relay("m", {"messages": user("word " * (length + 188)), "stream": stream})
        except PorticoError as error:
            assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
            numbers = [int(number) for number in re.findall(r"\d+", error.message)]
            assert length in numbers and max(numbers) > length
        else:
            raise AssertionError("a prompt longer than the context was accepted")


async def roles_and_contents_that_real_clients_send(daemon: ModelFixture) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is the weather?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "And now tell me more about it?"},
    ]
    extra = {"store": True, "metadata": {"a": "b"}, "user": "u", "unknown_field": 1, "temperature": None}
    answer = await daemon.ask("m", {"messages": messages, "max_tokens": 4, **extra})
    assert 1 <= answer["usage"]["completion_tokens"] <= 4


async def completions(daemon: ModelFixture) -> None:
    answer = await daemon.ask("m", {"prompt": ["Once upon a time there was"], "max_tokens": 3}, "completions")
    assert answer["object"] == "text_completion" and answer["choices"][0]["text"]
    stream = await daemon.stream(
        "m", {"prompt": "Once upon a time there was", "max_tokens": 3}, "completions"
    )
    assert stream.text() and stream.done and stream.finishes() == {0: "length"}


async def leaving_a_stream_frees_the_engine(daemon: ModelFixture) -> None:
    """Start more calls than there are slots, and stop reading each after its first word. The next call must be
    answered immediately.
    """
    for _ in range(4):
        relay_response = await daemon.relay(
            "m", {"messages": user("Count up for ever. " * 3), "stream": True}
        )
        async for _chunk in relay_response.chunks:
            break
        await close_chunks(relay_response.chunks)
    async with asyncio.timeout(20):
        assert (await daemon.ask("m", _ask()))["choices"]


async def streams_side_by_side(daemon: ModelFixture) -> None:
    streameds = await asyncio.gather(*(daemon.stream("m", _ask()) for _ in range(6)))
    assert all(stream.done and stream.text() for stream in streameds)


async def a_killed_engine_is_one_error_frame_and_the_next_call_works(daemon: ModelFixture) -> None:
    """Kill the child process of an engine during a stream. Engines without a child process pass."""
    for _attempt in range(MAX_KILLS):
        servable = daemon.registry.get("m")
        assert isinstance(servable, Deployment) and servable.running is not None
        if servable.running.process is None or (pid := servable.running.process.pid) is None:
            return
        relay_response = await daemon.relay(
            "m", {"messages": user("Tell a long story. " * 20), "stream": True}
        )
        os.kill(pid, signal.SIGSTOP)  # so that the engine cannot finish before it is killed
        first = await anext(relay_response.chunks)
        os.kill(pid, signal.SIGKILL)
        stream = await Streamed.of(relay_response)
        if not stream.done:
            break
        # On a busy machine, the engine had finished before it was stopped: it is started again.
        with suppress(EngineFailed):
            await daemon.ask("m", _ask())
        await daemon.ask("m", _ask())
    errors = [document["error"] for document in stream.documents if "error" in document]
    assert first and isinstance(stream.error, EngineFailed) and not stream.done
    assert [error["code"] for error in errors] == ["engine_crashed"]
    assert (await daemon.ask("m", _ask()))["choices"]


CHAT_CHECKS: Final[tuple[EngineCheck, ...]] = (
    plain,
    a_stream_has_one_id_and_one_created_and_ends_with_done,
    usage_of_a_stream_only_if_asked_for,
    stop,
    max_completion_tokens,
    a_prompt_longer_than_the_context_names_both_lengths,
    roles_and_contents_that_real_clients_send,
    leaving_a_stream_frees_the_engine,
    streams_side_by_side,
    a_killed_engine_is_one_error_frame_and_the_next_call_works,
)
"""Checks of behavior that clients expect from every chat model."""

GENERATION_CHECKS: Final[tuple[EngineCheck, ...]] = (
    several_choices,
    a_seed_repeats,
    a_required_tool_is_called,
    a_named_tool_is_called_and_streamed_in_pieces,
    no_tool_is_called_against_the_choice,
    a_schema_is_kept_to,
    log_probabilities,
    completions,
)
"""Checks of additional behavior, for engines that control generation token by token."""
