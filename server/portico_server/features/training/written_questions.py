"""Questions written by a person, in a file with one question per line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.errors import InvalidRequest
from portico_server.features.training.data import (
    MAX_EXAMPLE_BYTES,
    MAX_LISTED_ERRORS,
    content_missing,
    read_line,
)
from portico_server.features.training.questions import MAX_QUESTION_CHARS, MAX_QUESTIONS, StoreQuestion


def read_questions(path: Path) -> list[StoreQuestion]:
    """Return the questions of a file. Raise `InvalidRequest` with the numbers of invalid lines. Blocks the calling
    thread.
    """
    store_questions: list[StoreQuestion] = []
    wrong: list[str] = []
    wrong_count = number = 0
    try:
        with path.open("rb") as source:
            while data := read_line(source, first=not number):
                number += 1
                if not data.strip():
                    continue
                try:
                    store_questions.append(_question(data, number))
                except ValueError as error:
                    wrong_count += 1
                    if len(wrong) < MAX_LISTED_ERRORS:
                        wrong.append(f"line {number:,}: {error}")
                if len(store_questions) > MAX_QUESTIONS:
                    raise _invalid(
                        f"The file has more than {MAX_QUESTIONS:,} questions. Remove some of them."
                    )
    except FileNotFoundError as error:
        raise content_missing("training_file") from error
    if wrong_count:
        extra_count = wrong_count - len(wrong)
        problem_list = "; ".join(wrong) + (f"; and {extra_count:,} more" if extra_count else "")
        raise _invalid(f"{wrong_count:,} of {number:,} lines cannot be trained on: {problem_list}.")
    if not store_questions:
        raise _invalid("The file contains no questions; expected one JSON object per line.")
    return store_questions


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_training_file", param="training_file")


def _question(data: bytes, number: int) -> StoreQuestion:
    """Parse a line into a question. Raises `ValueError`.

    A line is an object with ``question`` and ``file``, ``passage`` or ``answer``. It can also be a conversation or an
    evaluation item whose last question has an answer.
    """
    if len(data) > MAX_EXAMPLE_BYTES:
        raise ValueError("it is too long")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError("it is not JSON; each line must contain one object") from error
    if isinstance(document, dict) and isinstance(document.get("item"), dict):
        document = document["item"]
    if not isinstance(document, dict):
        raise ValueError("it is JSON, but not an object")
    values = {name: document.get(name, "") for name in ("question", "file", "passage", "answer")}
    if "messages" in document:
        values |= _rated(document["messages"], values["answer"])
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"'{name}' must be text")
    if not values["question"].strip():
        raise ValueError("'question' is missing")
    if len(values["question"]) > MAX_QUESTION_CHARS:
        raise ValueError(f"its 'question' has more than {MAX_QUESTION_CHARS:,} characters")
    if not any(values[name].strip() for name in ("file", "passage", "answer")):
        raise ValueError("it needs a 'file', 'passage' or 'answer' in addition to 'question'")
    return StoreQuestion(number, **{name: value.strip() for name, value in values.items()})


def _rated(messages: Any, answer: Any) -> dict[str, Any]:
    """Return the last question of a conversation, and the expected answer."""
    message_list = (
        [message for message in messages if isinstance(message, Mapping)]
        if isinstance(messages, list)
        else []
    )
    answers = [
        message
        for message in message_list
        if message.get("role") == "assistant" and message.get("weight", 1) != 0
    ]
    questions = [message for message in message_list if message.get("role") == "user"]
    if not questions:
        raise ValueError("'messages' contains no user question")
    return {
        "question": questions[-1].get("content"),
        "answer": answer or (answers[-1].get("content") if answers else ""),
    }
