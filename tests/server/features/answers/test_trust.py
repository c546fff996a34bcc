"""Which models write answers and which are quoted: a test decides this once, or an explicit setting does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.registry_fixture import FixedStore, RegistryFixture, open_registry, passage

from portico.wire import Delta
from portico_server.core.context import Context
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat, ChatReply, Request
from portico_server.core.servable import Card
from portico_server.db import answer_tests
from portico_server.features.answers.store_apps import StoreApps
from portico_server.features.answers.trust import TRIALS, TrustQuestion, identity_of

PORT = passage(1, "The daemon listens on port 7419.")


def reader(request: Chat) -> str:
    """Answer as a model that can read: the answers of the test, and `7419` to anything else."""
    prompt = str(request.messages[-1]["content"])
    answers = {
        "When was the mill built?": "The mill was built in 1743 [1].",
        "Who repairs the boats?": "Jonas Lindqvist repairs them.",
        "How much does the ferry cost?": "That is not in these documents.",
        "图书馆几点关门？": "图书馆晚上六点关门。",
        "谁管理果园？": "陈志远。",
        "茶馆是哪一年开的？": "这些文档没有提到。",
    }
    return next((answer for question, answer in answers.items() if question in prompt), "Written: 7419 [1].")


def babbler(request: Chat) -> str:
    """Answer as a tiny model does: always the same."""
    return "The mill was built in 1743, and the ferry costs 9 euros."


class Model:
    """A chat model that answers through a function and counts its calls."""

    def __init__(self, say: Any, **labels: Any) -> None:
        self.card = Card(
            "voice", "model", capabilities=frozenset({"chat"}), labels={"source": "hf://a/b", **labels}
        )
        self.say = say
        self.asked = 0

    async def call(self, request: Request, context: Context) -> ChatReply:
        assert isinstance(request, Chat)
        self.asked += 1
        text = self.say(request)
        await context.emit(Delta(text))
        return ChatReply(text, model="voice")


@asynccontextmanager
async def working(folder: Path, model: Model) -> AsyncIterator[RegistryFixture]:
    """A registry with a running scheduler."""
    async with open_registry(folder) as daemon:
        daemon.add(FixedStore("docs", [PORT]), model)
        task = asyncio.create_task(daemon.scheduler.run(is_alone=True))
        try:
            yield daemon
        finally:
            task.cancel()
            await asyncio.wait({task})


async def ask(daemon: RegistryFixture) -> str:
    question = Chat(({"role": "user", "content": "Which port does the daemon listen on?"},))
    result, _events = await daemon.call("docs", question, LOCAL)
    assert isinstance(result, ChatReply)
    return result.content


QUOTED = "> The daemon listens on port 7419. [1]"


@pytest.mark.parametrize(("say", "then"), [(reader, "Written: 7419 [1]."), (babbler, QUOTED)])
async def test_answers_are_quotations_until_the_model_passes_its_test(
    tmp_path: Path, say: Any, then: str
) -> None:
    model = Model(say)
    async with working(tmp_path, model) as daemon:
        assert await ask(daemon) == QUOTED
        await until_known(daemon, model)
        call_count = model.asked
        assert call_count == len(TRIALS)
        assert await ask(daemon) == then
        assert await ask(daemon) == then
        row = await daemon.database.read(answer_tests.answer_test, identity_of(model.card))
        assert row is not None and (row.model, row.total) == ("voice", len(TRIALS))


async def until_known(daemon: RegistryFixture, model: Model) -> None:
    """Wait for the end of the test, which takes as long as the model takes."""
    async with asyncio.timeout(60):
        while await daemon.trust.verdict(model.card) is None:  # noqa: ASYNC110  # a row tells it, no event
            await asyncio.sleep(0.01)


async def test_a_model_is_tested_once(tmp_path: Path) -> None:
    async with working(tmp_path, model := Model(reader)) as daemon:
        await ask(daemon)
        await until_known(daemon, model)
    async with working(tmp_path, again := Model(reader)) as daemon:
        assert await ask(daemon) == "Written: 7419 [1]."
        assert again.asked == 1


@pytest.mark.parametrize(("say", "way", "expected"), [(babbler, "write", "1743"), (reader, "quote", QUOTED)])
async def test_an_explicit_answers_setting_of_a_model_skips_its_test(
    tmp_path: Path, say: Any, way: str, expected: str
) -> None:
    async with working(tmp_path, model := Model(say, answers=way)) as daemon:
        assert expected in await ask(daemon)
        assert await daemon.database.read(answer_tests.answer_test, identity_of(model.card)) is None


async def test_a_model_of_the_same_name_with_another_source_is_another_model(tmp_path: Path) -> None:
    assert identity_of(Model(reader).card) != identity_of(Model(reader, source="hf://a/c").card)


@pytest.mark.parametrize(
    ("trial", "answer", "right"),
    [
        (TRIALS[0], "In 1743.", True),
        (TRIALS[0], "In 1743 or 1987.", False),
        (TRIALS[2], "<think>It may cost 9.</think>The passages do not say.", True),
        (TRIALS[2], "The ferry does not cost more than 9 euros.", False),
        (TRIALS[3], "晚上六点。", True),
        (TRIALS[3], "晚上九点。", False),
        (TRIALS[5], "文档中没有说明。", True),
        (TRIALS[5], "", False),
    ],
)
def test_the_answers_of_a_model_test_are_graded_correctly(
    trial: TrustQuestion, answer: str, right: bool
) -> None:
    assert trial.is_right(answer) is right


@pytest.mark.parametrize(
    ("labels", "say", "quotes_untested", "quotes_tested"),
    [
        ({"answers": "quote"}, reader, True, True),
        ({"answers": "write", "parameters": 135_000_000}, babbler, False, False),
        ({"parameters": 135_000_000}, reader, True, False),
        ({"parameters": 135_000_000}, babbler, True, True),
        ({"parameters": 7_000_000_000}, reader, False, False),
        ({"parameters": 7_000_000_000}, babbler, False, True),
        ({}, babbler, False, True),
    ],
)
async def test_the_size_of_a_model_decides_whether_it_searches_until_its_test_ends(
    tmp_path: Path, labels: dict[str, Any], say: Any, quotes_untested: bool, quotes_tested: bool
) -> None:
    model = Model(say, **labels)
    async with working(tmp_path, model) as daemon:
        apps = StoreApps(daemon.registry, daemon.trust)
        assert await apps.quotes(model.card) is quotes_untested
        await until_known(daemon, model)
        assert await apps.quotes(model.card) is quotes_tested
