"""Keywords: the terms by which a section would be looked up."""

from __future__ import annotations

import re

from portico_server.knowledge.chunk.form import Form, lines
from portico_server.knowledge.part import Part

MOST = 20
"""Terms that are kept of one answer."""

_BETWEEN = re.compile(r"\s*[,，、;；]\s*")


def _read(answer: str, piece: Part) -> list[str]:
    """The terms in one text. Some models write them with commas though lines were asked for."""
    found = [term.strip(" .。\"'") for line in lines(answer) for term in _BETWEEN.split(line)]
    terms = list(dict.fromkeys(term for term in found if term))[:MOST]
    return [", ".join(terms)] if terms else []


FORM = Form(
    "Name the five to ten terms by which somebody would look this text up: names, things, technical terms. Use the "
    "language of the text. Answer with one term per line and nothing else.",
    160,
    _read,
)
