"""Questions: what a section answers, each question with its answer, written as people ask it."""

from __future__ import annotations

import re

from portico_server.knowledge.chunk.form import Form
from portico_server.knowledge.part import Part

MOST = 10
"""Pairs that are kept of one answer."""

_PAIR = re.compile(
    r"^\W*(?:\d{1,2}\W+)?(?:Q|Question|问|問|问题|問題)\W{0,3}\d{0,2}\W{0,3}[:：]\W*?(?P<question>\w[^\n]*)\n+"
    r"\W*(?:A|Answer|答|答案)\W{0,3}\d{0,2}\W{0,3}[:：][ \t*]*(?P<answer>[^\n]+)",
    re.M | re.I,
)


def _read(answer: str, piece: Part) -> list[str]:
    pairs = ((match["question"].strip(" *"), match["answer"].strip(" *")) for match in _PAIR.finditer(answer))
    found = (f"Q: {question}\nA: {said}" for question, said in pairs if question and said)
    return list(dict.fromkeys(found))[:MOST]


FORM = Form(
    "Write the questions that this text answers, five at most, each with its answer from the text. The questions must "
    "be clear to somebody who does not have the text. Use the language of the text. Write each as two lines, the first "
    "beginning with 'Q: ', the second with 'A: ', and nothing else.",
    640,
    _read,
)
