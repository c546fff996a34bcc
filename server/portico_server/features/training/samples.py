"""Answers of the base model and of the trained model to the same questions, for people to compare."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.request import Chat, ChatReply
from portico_server.db.tuning import NewEvent
from portico_server.features.training.spec import PreparedData

MAX_SAMPLES: Final = 3
MAX_ANSWER_TOKENS: Final = 64
TIMEOUT_S: Final = 60.0
"""Maximum seconds for all samples together."""

MAX_SHOWN_CHARACTERS: Final = 100
"""Characters of a question or an answer in the message of an event; its data contains the whole text."""


@dataclass(frozen=True, slots=True)
class _Question:
    """The messages before an answer, and the tools of the conversation."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, example: Mapping[str, Any]) -> _Question:
        """Return the question of an example in the form that training reads."""
        messages = example["messages"][:-1] if "messages" in example else example["prompt"]
        messages = [{name: message[name] for name in message if name != "weight"} for message in messages]
        return cls(messages, example.get("tools") or ())

    @property
    def text(self) -> str:
        """The text of the last message."""
        content = self.messages[-1].get("content") if self.messages else ""
        return content if isinstance(content, str) else orjson.dumps(content).decode()

    def without_app(self) -> _Question:
        """Return the last message alone, without what an app adds to it."""
        return _Question(self.messages[-1:], ())

    async def answer(self, model: str, context: Context) -> str:
        options: dict[str, Any] = {"temperature": 0, "max_tokens": MAX_ANSWER_TOKENS}
        if self.tools:
            options["tools"] = list(self.tools)
        reply = await context.call(model, Chat(tuple(self.messages), options))
        if not isinstance(reply, ChatReply):
            return ""
        return reply.content or ", ".join(f"{call.name}({call.arguments})" for call in reply.tool_calls)


async def compare_answers(
    data: PreparedData, base: str, model: str, context: Context, *, has_app: bool
) -> list[NewEvent]:
    """Let both models answer some questions, held-back ones if there are any. Return an event for each question.

    With ``has_app``, the questions contain the prompt of an app; the new model then answers the question without that
    prompt too. A model that cannot answer, or not in `TIMEOUT_S`, ends the comparison without an error.
    """
    questions = await pools.TRAINING.run(_read_questions, data.validation or data.training)
    events: list[NewEvent] = []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for question in questions:
                answers = {
                    "question": question.text,
                    "before": await question.answer(base, context),
                    "after": await question.answer(model, context),
                }
                if has_app:
                    answers["without_prompt"] = await question.without_app().answer(model, context)
                events.append(NewEvent("message", _describe(answers), data=answers))
    except (TimeoutError, PorticoError) as error:
        reason = (
            error.message if isinstance(error, PorticoError) else f"They took longer than {TIMEOUT_S:.0f} s."
        )
        events.append(NewEvent("message", f"The answers before and after cannot be compared: {reason}"))
    return events


def _read_questions(path: Path) -> list[_Question]:
    with path.open("rb") as lines:
        return [_Question.of(orjson.loads(line)) for line in islice(lines, MAX_SAMPLES)]


def _describe(answers: Mapping[str, str]) -> str:
    short = {name: _shorten(text) for name, text in answers.items()}
    words = (
        f"To '{short['question']}', the base answers '{short['before']}' and the new model '{short['after']}'"
    )
    if "without_prompt" in short:
        words += f"; without the app's prompt, it answers '{short['without_prompt']}'"
    return words


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN_CHARACTERS else f"{line[: MAX_SHOWN_CHARACTERS - 1]}…"
