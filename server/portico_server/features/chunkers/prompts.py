"""The prompts with which a chat model writes chunks for a piece of a document, and functions that parse the answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.words import without_thought
from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.sentences import sentences

ReadAnswer: TypeAlias = Callable[[str, Part], list[str]]
"""``(answer, piece) -> texts``: returns the chunks in a model's answer."""

_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)、])\s*")
"""Bullets and numbers that models write before list items."""


@dataclass(frozen=True, slots=True)
class ChunkPrompt:
    """A prompt for writing chunks. ``task`` is the name of the built-in prompt.

    ``max_tokens`` limits the answer, and ``read`` returns the chunks in the answer. The prompt shows ``context_chars``
    characters of the surrounding document in addition to the piece.
    """

    task: str
    max_tokens: int
    read: ReadAnswer
    context_chars: int = 0

    @property
    def instruction(self) -> str:
        """The system message for the model."""
        # Imported here, because a process that reads documents sends nothing to a model.
        from portico_server.core.prompts import builtin

        return builtin.system(self.task)


def answer_text(answer: str, *, cut: bool) -> str:
    """Return the answer without the model's reasoning. If the answer was ``cut`` off at the token limit, its
    incomplete last sentence or line is removed.
    """
    text = without_thought(answer)
    if not cut or not text:
        return text
    last = max([start for start, _ in sentences(text)][-1], text.rfind("\n") + 1)
    return text[:last].rstrip() or text


def answer_lines(answer: str) -> list[str]:
    """Return the lines of an answer without bullets and numbers, and without duplicates."""
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
"""Maximum number of keywords kept from one answer."""

_KEYWORD_SEPARATOR = re.compile(r"\s*[,，、;；]\s*")


def _read_keywords(answer: str, piece: Part) -> list[str]:
    """Return the keywords as one text. Models may separate keywords with commas although the prompt asks for lines."""
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
"""Maximum number of question-answer pairs kept from one answer."""

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
"""Maximum number of statements kept from one answer."""


def _read_propositions(answer: str, piece: Part) -> list[str]:
    return answer_lines(answer)[:MAX_PROPOSITIONS]


PROPOSITIONS = ChunkPrompt(
    "propositions",
    800,
    _read_propositions,
)
"""One self-contained fact per chunk. Source: T. Chen et al., Dense X Retrieval, 2023."""


# Contextual: each passage is preceded by a sentence about its place in the document. Source: Contextual
# Retrieval, Anthropic, 2024. A search for the name of the company then finds a passage that says only "it
# rose by 3 %".


MAX_CONTEXT_CHARS = 400
"""Maximum length of the context sentence in characters."""


def _read_context(answer: str, piece: Part) -> list[str]:
    """Return the context followed by the passage. If the answer is empty, return the passage alone."""
    prefix = " ".join(answer.split())[:MAX_CONTEXT_CHARS]
    return [f"{prefix}\n\n{piece.text}" if prefix else piece.text]


CONTEXTUAL = ChunkPrompt(
    "passage-context",
    120,
    _read_context,
    context_chars=8_000,
)
