"""How far the answer of one model agrees with the answer of another model to the same question. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

from portico_server.features.grading.similarity import fuzzy, words

MAX_LABEL_WORDS: Final = 12
"""Maximum number of words of an answer that must be equal; longer answers are compared by their similarity."""


def agreement(answer: str, reference: str) -> float:
    """Return the agreement of an answer with a reference, from 0 to 1.

    JSON agrees if all fields are equal, and a label if its words are equal. The agreement of longer texts is their
    similarity.
    """
    fields = _json_fields(reference)
    if fields is not None:
        return float(_json_fields(answer) == fields)
    reference_words = words(reference)
    if len(reference_words) > MAX_LABEL_WORDS:
        return fuzzy(answer, reference)
    if not reference_words:
        return float(answer.strip() == reference.strip())
    return float(words(answer) == reference_words)


def _json_fields(text: str) -> Any:
    """Return the object or list in a text, also within a Markdown code block; ``None`` for any other text."""
    inner = text.strip().removeprefix("```json").strip("`").strip()
    if not inner.startswith(("{", "[")):
        return None
    try:
        return orjson.loads(inner)
    except orjson.JSONDecodeError:
        return None
