"""Contextual: each passage below a sentence that says where in its document it stands.

Contextual Retrieval, Anthropic, 2024: a passage that says "it rose by 3 %" is found by the name of the company.
"""

from __future__ import annotations

from portico_server.knowledge.chunk.form import Form
from portico_server.knowledge.part import Part

LONGEST = 400
"""Characters of the sentence."""


def _read(answer: str, piece: Part) -> list[str]:
    """The passage itself is kept in any case."""
    prefix = " ".join(answer.split())[:LONGEST]
    return [f"{prefix}\n\n{piece.text}" if prefix else piece.text]


FORM = Form(
    "You are shown parts of a document, and then one passage of it. Write one short sentence that says what the "
    "passage is about and where in the document it stands, with the names that the passage leaves out, so that a "
    "search finds it. Use the language of the passage. Answer with that sentence alone.",
    120,
    _read,
    around=8_000,
)
