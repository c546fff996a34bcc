"""Conversion of rated answers to training examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.errors import InvalidRequest
from portico.schemas.ratings import Rating

COLLECT_METHODS = ("supervised", "dpo")

_DIGEST_VALUE_COUNT = 2**64


@dataclass(frozen=True, slots=True)
class CollectedExamples:
    """Lines to train on, and items of an evaluation. No line contains a question of an item. ``left_out`` is the
    number of rated answers that became neither, because they have no text, or because an earlier question in their
    conversation belongs to the evaluation.
    """

    examples: tuple[Mapping[str, Any], ...]
    items: tuple[Mapping[str, Any], ...]
    left_out: int


def collect_examples(
    ratings: Iterable[Rating], *, method: str = "supervised", held_back: float = 0.0
) -> CollectedExamples:
    """Convert rated answers to training lines for ``method``, and to items ``{"item": {"messages": […], "answer":
    "…"}}``.

    ``supervised`` learns good answers and corrections. ``dpo`` learns to prefer each of these to each bad or corrected
    answer to the same question. ``held_back`` is the share of the questions, from 0 to less than 1, that become items.
    A question is either always trained on or always an item. Raises `InvalidRequest`.
    """
    collector = ExampleCollector(method, held_back)
    for rating in ratings:
        collector.add(rating)
    return collector.collected()


class ExampleCollector:
    """`collect_examples` for ratings that arrive one after another. Only the data needed for examples is kept."""

    def __init__(self, method: str = "supervised", held_back: float = 0.0) -> None:
        if method not in COLLECT_METHODS:
            raise InvalidRequest(
                f"'method' is {' or '.join(COLLECT_METHODS)}, not '{method}'.", param="method"
            )
        if not 0 <= held_back < 1:
            raise InvalidRequest("'held_back' must be a share from 0 to less than 1.", param="held_back")
        self._pairs = method == "dpo"
        self._held_back = held_back
        self._conversations: dict[bytes, _RatedConversation] = {}
        self._left_out = 0

    def add(self, rating: Rating) -> None:
        """Add a rating."""
        messages = [{"role": m["role"], "content": _text(m["content"])} for m in rating.messages]
        answers = [_text(rating.answer)] + ([rating.correction] if rating.value == "corrected" else [])
        questions = [m["content"] for m in messages if m["role"] == "user"]
        held_back = [_share(question) < self._held_back for question in questions]
        if not questions or not all([*answers, *(m["content"] for m in messages)]) or any(held_back[:-1]):
            self._left_out += 1
            return
        key = hashlib.sha256(json.dumps(messages).encode()).digest()
        rated_conversation = self._conversations.setdefault(key, _RatedConversation(messages, held_back[-1]))
        (rated_conversation.wanted if rating.value == "good" else rated_conversation.unwanted).append(
            answers[0]
        )
        rated_conversation.wanted.extend(answers[1:])

    def collected(self) -> CollectedExamples:
        """Return the examples from all ratings added so far."""
        conversations = self._conversations.values()
        rated_conversations = [
            rated_conversation for rated_conversation in conversations if not rated_conversation.held_back
        ]
        lines = [
            line
            for rated_conversation in rated_conversations
            for line in (rated_conversation.pairs() if self._pairs else rated_conversation.examples())
        ]
        items = [
            {"item": {"messages": rated_conversation.messages, "answer": rated_conversation.wanted[-1]}}
            for rated_conversation in conversations
            if rated_conversation.held_back and rated_conversation.wanted
        ]
        return CollectedExamples(tuple(lines), tuple(items), self._left_out)


@dataclass(frozen=True, slots=True)
class _RatedConversation:
    """A conversation up to a question, and the rated answers to this question."""

    messages: Sequence[Mapping[str, Any]]
    held_back: bool
    wanted: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)

    def examples(self) -> list[Mapping[str, Any]]:
        """Return an example for each desired answer, without duplicates. Earlier answers in the conversation are only
        context: the model learns rated answers only.
        """
        before = [{**m, "weight": 0} if m["role"] == "assistant" else m for m in self.messages]
        return [{"messages": [*before, _assistant(text)]} for text in dict.fromkeys(self.wanted)]

    def pairs(self) -> list[Mapping[str, Any]]:
        return [
            {
                "input": {"messages": self.messages},
                "preferred_output": [_assistant(good)],
                "non_preferred_output": [_assistant(bad)],
            }
            for good in dict.fromkeys(self.wanted)
            for bad in dict.fromkeys(self.unwanted)
            if good != bad
        ]


def _assistant(text: str) -> Mapping[str, Any]:
    return {"role": "assistant", "content": text}


def _share(question: str) -> float:
    """Return a number from 0 to less than 1 that depends only on the text of the question."""
    return int.from_bytes(hashlib.sha256(question.encode()).digest()[:8]) / _DIGEST_VALUE_COUNT


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a message; empty if a part is not text."""
    if isinstance(content, str):
        return content.strip() and content
    texts = [text for part in content if isinstance(text := part.get("text"), str)]
    return "".join(texts) if len(texts) == len(content) else ""
