"""What a chat model is asked to write about a piece of a document, and what is kept of its answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.prompts import builtin
from portico_server.core.words import without_thought
from portico_server.knowledge.chunk.sentences import sentences
from portico_server.knowledge.document import Part

ReadAnswer: TypeAlias = Callable[[str, Part], list[str]]
"""``(answer, piece) -> texts``: what is kept of a model's answer, a chunk each."""

_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)、])\s*")
"""What models put before the lines of a list."""


@dataclass(frozen=True, slots=True)
class ChunkPrompt:
    """``task``: the prompt that comes with Portico; ``max_tokens`` of its answer, ``read``: what is kept of that.

    ``around`` is how many characters of the rest of the document are shown with the piece.
    """

    task: str
    max_tokens: int
    read: ReadAnswer
    context_chars: int = 0

    @property
    def instruction(self) -> str:
        """What the model is told."""
        return builtin.system(self.task)


def answer_text(answer: str, *, cut: bool) -> str:
    """The answer without what a model thought aloud; of one that was ``cut`` at its limit the last whole sentence or
    line is the end.
    """
    text = without_thought(answer)
    if not cut or not text:
        return text
    last = max([start for start, _ in sentences(text)][-1], text.rfind("\n") + 1)
    return text[:last].rstrip() or text


def answer_lines(answer: str) -> list[str]:
    """The lines of an answer without bullets and numbers, each once."""
    clean_lines = (" ".join(_BULLET.sub("", line).split()) for line in answer.splitlines())
    return list(dict.fromkeys(line for line in clean_lines if line))


def _read_summary(answer: str, piece: Part) -> list[str]:
    text = " ".join(answer.split())
    return [text] if text else []


SUMMARY = ChunkPrompt(
    "summarise",
    256,
    _read_summary,
)


MAX_KEYWORDS = 20
"""Terms that are kept of one answer."""

_KEYWORD_SEPARATOR = re.compile(r"\s*[,，、;；]\s*")


def _read_keywords(answer: str, piece: Part) -> list[str]:
    """The terms in one text. Some models write them with commas though lines were asked for."""
    keywords = [
        term.strip(" .。\"'") for line in answer_lines(answer) for term in _KEYWORD_SEPARATOR.split(line)
    ]
    terms = list(dict.fromkeys(term for term in keywords if term))[:MAX_KEYWORDS]
    return [", ".join(terms)] if terms else []


KEYWORDS = ChunkPrompt(
    "keywords",
    160,
    _read_keywords,
)


MAX_QUESTIONS = 10
"""Pairs that are kept of one answer."""

_PAIR = re.compile(
    r"^\W*(?:\d{1,2}\W+)?(?:Q|Question|问|問|问题|問題)\W{0,3}\d{0,2}\W{0,3}[:：]\W*?(?P<question>\w[^\n]*)\n+"
    r"\W*(?:A|Answer|答|答案)\W{0,3}\d{0,2}\W{0,3}[:：][ \t*]*(?P<answer>[^\n]+)",
    re.M | re.I,
)


def _read_questions(answer: str, piece: Part) -> list[str]:
    pairs = ((match["question"].strip(" *"), match["answer"].strip(" *")) for match in _PAIR.finditer(answer))
    pairs_text = (f"Q: {question}\nA: {said}" for question, said in pairs if question and said)
    return list(dict.fromkeys(pairs_text))[:MAX_QUESTIONS]


QUESTIONS = ChunkPrompt(
    "question-answer-pairs",
    640,
    _read_questions,
)


MAX_PROPOSITIONS = 40
"""Statements that are kept of one answer."""


def _read_propositions(answer: str, piece: Part) -> list[str]:
    return answer_lines(answer)[:MAX_PROPOSITIONS]


PROPOSITIONS = ChunkPrompt(
    "propositions",
    800,
    _read_propositions,
)
"""One fact each, to be understood alone. Source: T. Chen et al., Dense X Retrieval, 2023."""


# Contextual: each passage below a sentence that says where in its document it stands.
#
# Contextual Retrieval, Anthropic, 2024: a passage that says "it rose by 3 %" is found by the name of the company.


MAX_CONTEXT_CHARS = 400
"""Characters of the sentence."""


def _read_context(answer: str, piece: Part) -> list[str]:
    """The passage itself is kept in any case."""
    prefix = " ".join(answer.split())[:MAX_CONTEXT_CHARS]
    return [f"{prefix}\n\n{piece.text}" if prefix else piece.text]


CONTEXTUAL = ChunkPrompt(
    "passage-context",
    120,
    _read_context,
    context_chars=8_000,
)
