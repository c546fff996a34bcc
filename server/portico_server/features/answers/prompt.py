"""Conversion of a conversation and its passages into messages that fit a model's context. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, islice, pairwise
from typing import Any

from portico.wire import Passage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.passage import origin
from portico_server.core.prompts import builtin
from portico_server.core.request import Message
from portico_server.features.answers.client_text import without_client_text
from portico_server.features.answers.language import CJK, language
from portico_server.features.answers.relevance import excerpt, terms

DEFAULT_CONTEXT_TOKENS = 4096
"""Context length, in tokens, that is assumed for a model whose card does not state it."""

LONG_CONTEXT_TOKENS = 16_384
"""Context length, in tokens, that is assumed for models that read long prompts. If a model's context is shorter, the
model refuses the prompt, and the retry uses half of this length.
"""

MAX_PASSAGES = 50
"""Maximum number of passages in a prompt, which is the maximum number of results of a search."""

QUERY_LIMIT = 2_000
"""Number of characters of a question that are used for the search. A longer question contains pasted text, whose
beginning is sufficient.
"""

MIN_EXCERPT_TOKENS = 27
"""Minimum size of an excerpt, in tokens: 80 characters of English, or 27 Chinese characters."""

_MESSAGE_TOKENS = 8
_MARGIN_TOKENS = 64
_MIN_ANSWER_TOKENS = 64
_MEAN_PASSAGE_TOKENS = 160
_CJK = re.compile(rf"[{CJK}]")
_END_MARK = re.compile(r"\[(/\d+)\]")
_OMISSION_MARKS = {
    "": "\n[… {count:,} characters of the question are omitted …]\n",
    ".zh": "\n[……问题中间省略了 {count:,} 个字符……]\n",
}
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
        """Return how many passages the prompt contains at most. A small model gets few, because many passages confuse
        it.
        """
        return min(MAX_PASSAGES, max(3, self.passages // _MEAN_PASSAGE_TOKENS))

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

    A model that is not ``quick`` runs on this machine, possibly without a GPU. Its first word has to wait until the
    whole prompt is processed (two CPU cores process 170 to 300 tokens per second with a model of 135 M parameters), so
    it gets at most 1,600 tokens of passages. A ``tiny`` model also loses track in a long prompt and repeats itself in
    a long answer: it gets at most 200 tokens of passages, and is asked for one sentence.
    """
    context = context_length or (LONG_CONTEXT_TOKENS if quick else DEFAULT_CONTEXT_TOKENS)
    most_answer = 256 if tiny else 1_024
    most_passages = 200 if tiny else 8_192 if quick else 1_600
    answer = max_tokens or min(most_answer, context // 4)
    answer = max(_MIN_ANSWER_TOKENS, min(answer, context // 2))
    window = context // 4 if tiny else context - answer
    return PromptBudget(context, answer, min(most_passages, window), brief=tiny)


def language_suffix(question: str) -> str:
    """Return the suffix of the built-in prompts in the language of ``question``: ``.zh`` for Chinese, otherwise
    none.
    """
    return ".zh" if language(question).startswith("zh") else ""


def fitting(
    turns: Turns, passages: Mapping[int, Passage], share: PromptBudget, needed: Collection[int] = ()
) -> tuple[int, ...]:
    """Return the numbers of the passages that the prompt has room for, of the first, and of those in ``needed``.

    ``passages`` by their numbers are in the order of rank. The first passage that does not fit is cut. A passage after
    it must fit whole.
    """
    if share.brief:
        return tuple(passages)
    free_tokens = _free_tokens(turns, share, _frame(turns, share))
    return tuple(_passage_texts(passages, turns.question, free_tokens, {*islice(passages, 1), *needed}))


def compose(
    turns: Turns, passages: Sequence[Passage], share: PromptBudget, remark: str = ""
) -> tuple[Message, ...]:
    """Return the messages for the model: instructions and remark, the history that fits, the passages and the
    question.

    Passages are whole in the order of rank until the budget is used; of each other passage, the sentences nearest to
    the question remain. Each passage is a block that begins with its citation number and ends with a mark. The oldest
    turns are dropped first. A question longer than half of the context is cut in the middle. For a brief answer, every
    passage is cut to an equal share and shown without number, and the question is not cut.
    """
    if share.brief:
        passages_text = _equal_excerpts(passages, turns.question, share)
        system, asking = _frame(turns, share, passages=passages_text)
    else:
        free_tokens = _free_tokens(turns, share, _frame(turns, share, remark))
        numbered_passages = dict(enumerate(passages))
        texts = _passage_texts(numbered_passages, turns.question, free_tokens, numbered_passages)
        passages_text = "\n\n".join(_block(passages[number], text) for number, text in texts.items())
        system, asking = _frame(turns, share, remark, passages_text)
    messages = (system, asking, *turns.tail)
    remaining_tokens = share.context - share.answer - sum(map(_tokens_of, messages))
    kept_messages: list[Message] = []
    for turn in reversed(turns.history):
        remaining_tokens -= sum(map(_tokens_of, turn))
        if remaining_tokens < 0:
            break
        kept_messages[:0] = turn
    return (messages[0], *kept_messages, *messages[1:])


def _frame(
    turns: Turns, share: PromptBudget, remark: str = "", passages: str = ""
) -> tuple[Message, Message]:
    """Return the system message, and the message with the question and the text of the passages."""
    if share.brief:
        name, question, remark = "answer-brief", turns.question, ""
    else:
        name, question = f"answer{language_suffix(turns.question)}", _bounded_question(turns.question, share)
    rules = " ".join(filter(None, (builtin.system(name), remark)))
    system = f"{turns.system}\n\n{rules}" if turns.system else rules
    question_text = builtin.text(name, passages=passages, question=question)
    return (
        {"role": "system", "content": system},
        {**turns.last, "content": _content(turns.last, question_text)},
    )


def _free_tokens(turns: Turns, share: PromptBudget, frame: Sequence[Message]) -> int:
    """Return how many tokens the passages can have if ``frame`` are the messages without them.

    The latest turn of the history keeps its place if it has at most a quarter of the context: a follow-up needs it.
    """
    latest = sum(map(_tokens_of, turns.history[-1])) if turns.history else 0
    fixed = sum(map(_tokens_of, (*frame, *turns.tail))) + (latest if latest <= share.context // 4 else 0)
    return min(share.passages, share.context - share.answer - fixed - _MARGIN_TOKENS)


def _passage_texts(
    passages: Mapping[int, Passage], question: str, free_tokens: int, needed: Collection[int]
) -> dict[int, str]:
    """Return the texts of the passages for the prompt, whole or cut, by the passages' numbers.

    The passages ``needed`` have at least an excerpt, whose tokens are reserved. The first passage that does not fit is
    cut to the tokens that remain, and later ones are left out if they do not fit.
    """
    texts: dict[int, str] = {}
    heads = {number: tokens(_block(passage, "")) for number, passage in passages.items()}
    sizes = {number: tokens(passage.text) for number, passage in passages.items()}
    reserves = {number: heads[number] + min(sizes[number], MIN_EXCERPT_TOKENS) for number in needed}
    spare_tokens = free_tokens - sum(reserves.values())
    is_cut = False
    for number, passage in passages.items():
        room = spare_tokens + reserves.get(number, 0) - heads[number]
        text = passage.text.strip()
        if sizes[number] > room:
            if number not in reserves and (is_cut or room < MIN_EXCERPT_TOKENS):
                continue
            is_cut = True
            ratio = _characters_per_token(text)
            text = excerpt(text, question, int(max(room, MIN_EXCERPT_TOKENS) * ratio))
        texts[number] = text
        spare_tokens = room - tokens(text)
    return texts


def _block(passage: Passage, text: str) -> str:
    """Return a passage between its number, with its file and position except the line, and an end mark. End marks in
    its text lose their brackets, so that no text can end its block.
    """
    source = origin(replace(passage, place=replace(passage.place, line=None)))
    text = _END_MARK.sub(r"\1", text)
    return f"[{passage.rank}] {source}\n{text}\n[/{passage.rank}]"


def _equal_excerpts(passages: Sequence[Passage], question: str, share: PromptBudget) -> str:
    """Return the passages without numbers, each cut to an equal share of the budget.

    A tiny model mistakes the citation number of a passage for the answer.
    """
    ratio = _characters_per_token(" ".join(passage.text for passage in passages))
    head = _MESSAGE_TOKENS * 2
    excerpt_size = max(int(max(share.passages - head * len(passages), 0) / max(len(passages), 1) * ratio), 80)
    return "\n".join(excerpt(passage.text, question, excerpt_size) for passage in passages)


def _bounded_question(question: str, share: PromptBudget) -> str:
    """Return the question; if it is longer than half of the context, its beginning and its end.

    If the answer has more than a quarter of the context, the question gets less than half.
    """
    limit = min(share.context // 2, share.context - share.answer - share.context // 4)
    if tokens(question) <= limit:
        return question
    beginning = _beginning(question, limit // 2)
    end = _beginning(question[::-1], limit // 2)[::-1]
    mark = _OMISSION_MARKS[language_suffix(question)]
    return f"{beginning}{mark.format(count=len(question) - len(beginning) - len(end))}{end}"


def _beginning(text: str, limit: int) -> str:
    """Return the longest beginning of ``text`` with at most ``limit`` tokens."""
    thirds = accumulate(3 if _CJK.match(character) else 1 for character in text[: 3 * limit])
    return text[: sum(third <= 3 * limit for third in thirds)]


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
