"""Summaries: two or three sentences in place of a section, for questions about what a document is about."""

from __future__ import annotations

from portico_server.knowledge.chunk.form import Form
from portico_server.knowledge.part import Part


def _read(answer: str, piece: Part) -> list[str]:
    text = " ".join(answer.split())
    return [text] if text else []


FORM = Form(
    "Summarise the text in two or three sentences: what it is about and what it says, with its names and numbers. "
    "Use the language of the text. Answer with the summary alone.",
    256,
    _read,
)
