"""Conversion of a conversation and its passages into messages that fit a model's context. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from portico.wire import Passage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.passage import origin
from portico_server.core.prompts import builtin
from portico_server.core.request import Message
from portico_server.features.answers.client_text import without_client_text
from portico_server.features.answers.language import CJK
from portico_server.features.answers.relevance import excerpt, terms

DEFAULT_CONTEXT_TOKENS = 4096
"""Context length, in tokens, that is assumed for a model whose card does not state it."""

LONG_CONTEXT_TOKENS = 16_384
"""Context length, in tokens, that is assumed for models that read long prompts. If a model's context is shorter, the
model refuses the prompt, and the retry uses half of this length.
"""

QUERY_LIMIT = 2_000
"""Number of characters of a question that are used for the search. A longer question contains pasted text, whose
beginning is sufficient.
"""

_MESSAGE_TOKENS = 8
_MIN_ANSWER_TOKENS = 64
_MAX_SEARCHED_WORDS = 8
_CJK = re.compile(rf"[{CJK}]")
_REFERS_BACK = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|there|he|she|his|her|one|ones|another|same|also|else|"
    r"what about|how about|and|then|again)\b|[它他她这這那其该該呢]|还有|還有|为什么呢|これ|それ|その",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Turns:
    """A conversation, split at its last user message.

    ``system`` are the caller's instructions, joined; ``history`` are the earlier turns, each beginning with a user
    message; ``last`` is the last user message, ``question`` its text, ``earlier`` the text of the user message before
    it; ``tail`` are the messages after it (tool calls and their results).
    """

    system: str
    history: tuple[tuple[Message, ...], ...]
    last: Message
    question: str
    earlier: str
    tail: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class PromptBudget:
    """How the context of a model is divided, in tokens: the total, the share for the answer, and the share for the
    passages.

    ``brief``: the model is asked to answer in one sentence.
    """

    context: int
    answer: int
    passages: int
    brief: bool = False

    @property
    def count(self) -> int:
        """Return how many passages the prompt contains. A small model gets few, because many passages confuse it."""
        return min(_MAX_SEARCHED_WORDS, max(3, self.passages // 160))

    def halved(self) -> PromptBudget:
        """Return half the budget, for a prompt that turned out to have more tokens than estimated."""
        return replace(self, context=self.context // 2, passages=self.passages // 2)


def split(messages: Sequence[Message]) -> Turns:
    """Split a conversation into turns, without the text that editors and agents add to the person's question.

    Raise `InvalidRequest` if it has no user message with text.
    """
    messages = without_client_text(messages)
    system = "\n\n".join(
        text_of(message) for message in messages if message.get("role") in ("system", "developer")
    )
    talk = [message for message in messages if message.get("role") not in ("system", "developer")]
    questions = [index for index, message in enumerate(talk) if message.get("role") == "user"]
    question = text_of(talk[questions[-1]]).strip() if questions else ""
    if not question:
        raise InvalidRequest(
            "There is no question to answer: 'messages' must contain a message with the role 'user' and some "
            "text.",
            param="messages",
        )
    history = tuple(tuple(talk[start:end]) for start, end in pairwise(questions))
    return Turns(
        system=system.strip(),
        history=history,
        last=talk[questions[-1]],
        question=question,
        earlier=text_of(talk[questions[-2]]).strip() if len(questions) > 1 else "",
        tail=tuple(talk[questions[-1] + 1 :]),
    )


def search_query(turns: Turns) -> str:
    """Return the search query: the question. A short follow-up is preceded by the previous question.

    A short follow-up has at most one meaningful term (``why?``, ``and on Linux?``), or has up to five terms and refers
    back (``how do I stop it?``).
    """
    question = turns.question
    meaning = len(terms(question))
    follows = meaning <= 1 or (meaning <= 5 and _REFERS_BACK.search(question) is not None)
    query = f"{turns.earlier}\n{question}" if turns.earlier and follows else question
    return query[-QUERY_LIMIT:] if follows else query[:QUERY_LIMIT]


def budget(
    context_length: int | None, max_tokens: int | None, *, quick: bool = False, tiny: bool = False
) -> PromptBudget:
    """Divide a context of ``context_length`` tokens (``None`` if unknown). ``max_tokens``, if given, is the maximum
    for the answer.

    Passages get at most a quarter of the context. A model that is not ``quick`` runs on this machine, possibly without
    a GPU. Its first word has to wait until the whole prompt is processed (two CPU cores process 170 to 300 tokens per
    second with a model of 135 M parameters), so it gets at most 1,600 tokens of passages. A ``tiny`` model also loses
    track in a long prompt and repeats itself in a long answer: it gets at most 200 tokens of passages, and is asked
    for one sentence.
    """
    context = context_length or (LONG_CONTEXT_TOKENS if quick else DEFAULT_CONTEXT_TOKENS)
    most_answer = 256 if tiny else 1_024
    most_passages = 200 if tiny else 8_192 if quick else 1_600
    answer = max_tokens or min(most_answer, context // 4)
    answer = max(_MIN_ANSWER_TOKENS, min(answer, context // 2))
    return PromptBudget(context, answer, min(most_passages, context // 4), brief=tiny)


def compose(
    turns: Turns, passages: Sequence[Passage], share: PromptBudget, remark: str = ""
) -> tuple[Message, ...]:
    """Return the messages for the model: instructions and remark, the history that fits, the passages and the
    question.

    Every passage is cut to the sentences nearest to the question and shown with its citation number; for a brief
    answer, without the number. The oldest turns are dropped first. The question itself is never cut: if it is too long
    for the model, the model reports an error.
    """
    question = turns.question
    ratio = _characters_per_token(" ".join(passage.text for passage in passages))
    head = _MESSAGE_TOKENS * 2
    excerpt_size = max(int(max(share.passages - head * len(passages), 0) / max(len(passages), 1) * ratio), 80)
    if share.brief:
        # A tiny model mistakes the citation number of a passage for the answer.
        prompt = "answer-brief"
        passages_text = "\n".join(excerpt(passage.text, question, excerpt_size) for passage in passages)
    else:
        prompt = "answer"
        passages_text = "\n\n".join(
            f"[{passage.rank}] {origin(passage)}\n{excerpt(passage.text, question, excerpt_size)}"
            for passage in passages
        )
    rules = " ".join(filter(None, (builtin.system(prompt), "" if share.brief else remark)))
    system = f"{turns.system}\n\n{rules}" if turns.system else rules
    question_text = builtin.text(prompt, passages=passages_text, question=question)
    asking = {**turns.last, "content": _content(turns.last, question_text)}
    messages: tuple[Message, ...] = ({"role": "system", "content": system}, asking, *turns.tail)
    remaining_tokens = share.context - share.answer - sum(map(_tokens_of, messages))
    kept_messages: list[Message] = []
    for turn in reversed(turns.history):
        remaining_tokens -= sum(map(_tokens_of, turn))
        if remaining_tokens < 0:
            break
        kept_messages[:0] = turn
    return (messages[0], *kept_messages, *messages[1:])


def tokens(text: str) -> int:
    """Estimate the number of tokens in ``text`` conservatively: one per CJK character and one per three other
    characters.
    """
    cjk = len(_CJK.findall(text))
    return cjk + math.ceil((len(text) - cjk) / 3)


def text_of(message: Message) -> str:
    """Return the text of a message whose content is a string, a list of parts or absent."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if _is_text(part))
    return ""


def _content(message: Message, text: str) -> str | list[Any]:
    content = message.get("content")
    other_parts = [part for part in content if not _is_text(part)] if isinstance(content, list) else []
    return [{"type": "text", "text": text}, *other_parts] if other_parts else text


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _tokens_of(message: Message) -> int:
    calls = message.get("tool_calls")
    return _MESSAGE_TOKENS + tokens(text_of(message)) + (tokens(str(calls)) if calls else 0)


def _characters_per_token(text: str) -> float:
    return len(text) / max(tokens(text), 1) if text else 3.0
