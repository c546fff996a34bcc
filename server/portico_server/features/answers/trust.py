"""A short self-test, run once per model, that decides whether the model answers from passages in its own words.

The test asks about a few tiny passages, as in a real answer, in English and in Chinese. In each language, the passages
do not answer one of the questions. A model that answers correctly and admits when passages do not answer writes its
own answers; all other models only quote.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from portico.wire import JSON, Passage, Place, Progressed
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, ChatReply
from portico_server.core.servable import Card, is_small
from portico_server.core.words import without_thought
from portico_server.db import answer_tests
from portico_server.db.database import Database
from portico_server.runs.scheduler import Scheduler

logger = logging.getLogger(__name__)

Way: TypeAlias = Literal["write", "quote"]

KIND: Final = "answer test"
"""Kind of the runs that test a model."""

VERSION: Final = 1
"""Version of the test. It is incremented when the questions or the judgement change; results of earlier versions no
longer count.
"""

MAX_MISSES: Final = 1
"""Maximum number of wrong answers with which a model passes the test."""

TEST_TIMEOUT_S: Final = 180.0
"""Time limit for all questions together, including loading the model, in seconds. Unanswered questions count as
wrong.
"""

MAX_ANSWER_TOKENS: Final = 80

_LABELS: Final = ("source", "engine", "revision", "parameters")


@dataclass(frozen=True, slots=True)
class TrustQuestion:
    """A question about ``texts``. The answer must match the pattern ``wanted`` and must not match the pattern
    ``wrong``.
    """

    question: str
    texts: tuple[str, ...]
    wanted: str
    wrong: str = r"(?!)"

    def is_right(self, answer: str) -> bool:
        text = without_thought(answer)
        return bool(re.search(self.wanted, text, re.IGNORECASE)) and not re.search(
            self.wrong, text, re.IGNORECASE
        )


_ABSENT = (
    r"\bnot?\b|n't\b|\bnone\b|unknown|unclear|unable|cannot"
    r"|没有|沒有|未|无法|無法|不(?:在|包含|清楚|知道|能|详)|并无"
)

TRIALS: Final = (
    TrustQuestion(
        "When was the mill built?",
        (
            "The mill on the Aller was built in 1743. It has two wheels.",
            "The bakery next door opened in 1987 and sells rye bread.",
        ),
        r"1743",
        r"1987",
    ),
    TrustQuestion(
        "Who repairs the boats?",
        (
            "Greta Olsen sells the tickets for the ferry. The boats are repaired by Jonas Lindqvist.",
            "The harbour closes at nine. The harbour master is Per Dahl.",
        ),
        r"Lindqvist",
        r"Olsen|Dahl",
    ),
    TrustQuestion(
        "How much does the ferry cost?",
        ("The ferry leaves every hour from the north pier.", "The museum on the island is open on Sundays."),
        _ABSENT,
        r"\d|[$€£]",
    ),
    TrustQuestion(
        "图书馆几点关门？",
        ("图书馆早上八点开门，晚上六点关门。", "食堂晚上九点关门，周末休息。"),
        r"六点|六點|6\s*[点:：]|18[:：]00",
        r"九点|9\s*点",
    ),
    TrustQuestion(
        "谁管理果园？",
        ("果园由陈志远管理，他在村里住了三十年。", "学校的校长是刘梅。"),
        r"陈志远",
        r"刘梅|[A-Za-z]{12,}",
    ),
    TrustQuestion(
        "茶馆是哪一年开的？",
        ("茶馆卖绿茶和红茶，每天都有人下棋。", "桥边的书店有两层。"),
        _ABSENT,
        r"\d{4}|一九|二〇",
    ),
)


class ReaderTest:
    """Tests models in the background and stores the results in the database."""

    def __init__(self, database: Database, registry: Registry, scheduler: Scheduler) -> None:
        self._database = database
        self._registry = registry
        self._scheduler = scheduler
        self._verdicts: dict[str, Way] = {}
        self._running_tests: set[str] = set()
        scheduler.handle(KIND, self._test)

    async def way(self, card: Card) -> Way:
        """Return how a model answers: it writes or quotes. An untested model quotes, and its test starts."""
        identity = identity_of(card)
        verdict = await self.verdict(card)
        if verdict is None and identity not in self._running_tests:
            self._running_tests.add(identity)
            await self._scheduler.ensure(KIND, card.name, {"model": card.name, "identity": identity})
        return verdict or "quote"

    async def verdict(self, card: Card) -> Way | None:
        """Return how a model answers, from the model's card or from its test; ``None`` if neither decides."""
        if (label := card.labels.get("answers")) in ("write", "quote"):
            return "write" if label == "write" else "quote"
        identity = identity_of(card)
        if identity not in self._verdicts:
            row = await self._database.read(answer_tests.answer_test, identity)
            if row is None:
                return None
            self._verdicts[identity] = "write" if row.correct + MAX_MISSES >= row.total else "quote"
        return self._verdicts[identity]

    async def _test(self, payload: Mapping[str, Any], context: Context) -> JSON:
        """Ask a model all test questions, store the score and return it with the answers. If a call fails, store
        nothing, so that the model is tested again later.
        """
        name, identity = str(payload["model"]), str(payload["identity"])
        answers: list[str] = []
        try:
            async with asyncio.timeout(TEST_TIMEOUT_S) as limit:
                for number, trial in enumerate(TRIALS, 1):
                    answers.append(await _ask(trial, name, context))
                    await context.emit(
                        Progressed("test", name, done=number, total=len(TRIALS), unit="questions")
                    )
        except TimeoutError:
            if not limit.expired():
                raise
        except PorticoError:
            self._running_tests.discard(identity)
            raise
        answers += [""] * (len(TRIALS) - len(answers))
        right = [trial.is_right(answer) for trial, answer in zip(TRIALS, answers, strict=True)]
        await self._database.write(answer_tests.put_answer_test, identity, name, sum(right), len(right))
        self._verdicts.pop(identity, None)
        way: Way = "write" if sum(right) + MAX_MISSES >= len(right) else "quote"
        logger.info("%s answered %d of %d test questions correctly: %s", name, sum(right), len(right), way)
        return {
            "model": name,
            "answers": way,
            "right": sum(right),
            "total": len(right),
            "questions": [
                {"question": trial.question, "answer": answer[:400], "right": ok}
                for trial, answer, ok in zip(TRIALS, answers, right, strict=True)
            ],
        }


def is_tiny(card: Card) -> bool:
    """Return whether a model is too small for a long prompt; false if its size is unknown."""
    return is_small(card.labels.get("parameters"))


def identity_of(card: Card) -> str:
    """Return a value that identifies a model by its source and its engine."""
    labels = {name: card.labels.get(name) for name in _LABELS if card.labels.get(name)}
    text = json.dumps([VERSION, labels or card.name], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


async def _ask(trial: TrustQuestion, model: str, context: Context) -> str:
    passages = [
        Passage(rank, 1.0, text, f"test-{rank}", f"notes-{rank}.txt", Place())
        for rank, text in enumerate(trial.texts, 1)
    ]
    from portico_server.features.answers import prompt  # imported only for a test

    turns = prompt.split(({"role": "user", "content": trial.question},))
    messages = prompt.compose(turns, passages, prompt.budget(None, MAX_ANSWER_TOKENS))
    options = {"temperature": 0, "max_tokens": MAX_ANSWER_TOKENS}
    reply = await context.call(model, Chat(messages, options))
    return reply.content if isinstance(reply, ChatReply) else ""
