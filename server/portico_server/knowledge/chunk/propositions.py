"""Propositions: one fact each, to be understood alone (T. Chen et al., Dense X Retrieval, 2023)."""

from __future__ import annotations

from portico_server.knowledge.chunk.form import Form, lines
from portico_server.knowledge.part import Part

MOST = 40
"""Statements that are kept of one answer."""


def _read(answer: str, piece: Part) -> list[str]:
    return lines(answer)[:MOST]


FORM = Form(
    "Take the text apart into short statements that each say one fact. Each must be understood alone: write names "
    "instead of 'it', 'they' or 'this'. Leave no fact out and add none. Use the language of the text. Answer with one "
    "statement per line and nothing else.",
    800,
    _read,
)
