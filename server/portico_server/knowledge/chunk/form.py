"""What a chat model is asked to write about a piece of a document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from portico_server.knowledge.chunk.sentence import sentences
from portico_server.knowledge.part import Part

Read: TypeAlias = Callable[[str, Part], list[str]]
"""``(answer, piece) -> texts``: what is kept of a model's answer, a chunk each."""

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.S)
_LISTED = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)、])\s*")
"""What models put before the lines of a list."""


@dataclass(frozen=True, slots=True)
class Form:
    """``ask`` is the instruction, ``tokens`` the most that the answer may take, ``read`` what is made of it.

    ``around`` is how many characters of the rest of the document are shown with the piece.
    """

    ask: str
    tokens: int
    read: Read
    around: int = 0


def said(answer: str, *, cut: bool) -> str:
    """The answer without what a model thought aloud; of one that was ``cut`` at its limit the last whole sentence or
    line is the end.
    """
    text = _THOUGHT.sub("", answer).strip()
    if not cut or not text:
        return text
    last = max([start for start, _ in sentences(text)][-1], text.rfind("\n") + 1)
    return text[:last].rstrip() or text


def lines(answer: str) -> list[str]:
    """The lines of an answer without bullets and numbers, each once."""
    found = (" ".join(_LISTED.sub("", line).split()) for line in answer.splitlines())
    return list(dict.fromkeys(line for line in found if line))
