"""Converts data sets in other tools' formats to chat lines for fine-tuning, one example at a time. Standard library
only.

``alpaca``: ``instruction``, ``input``, ``output``, with optional ``history`` and ``system``; examples with ``chosen``
and ``rejected`` instead of ``output`` become preference pairs. ``lazyllm``: the fields of ``alpaca``, or ``context``,
``question`` and ``answer``. ``sharegpt``: ``conversations``, a list of objects with ``from`` and ``value``. ``csv``:
columns that a mapping assigns.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from portico.errors import InvalidRequest

Example = dict[str, Any]

_CHUNK_BYTES: Final = 1024 * 1024

_MAX_OBJECT_CHARS: Final = 64 * 1024 * 1024
"""Maximum length of an object in a JSON array, in characters."""

_SPEAKERS: Final = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function"), "tool"),
}


def convert(path: Path, format: str, mapping: Mapping[str, str] | None = None) -> Iterator[Example]:
    """Yield the examples in ``path``, in order. ``mapping`` assigns the columns of a CSV file: ``user`` and
    ``assistant``, optionally ``system``; or ``user``, ``chosen`` and ``rejected``.

    If an example does not match the format, raise `InvalidRequest` with the example's number.
    """
    if format == "csv":
        rows: Iterator[Mapping[str, Any]] = _rows(path)
        read: Callable[[Mapping[str, Any]], Example] = _columns(mapping or {})
    else:
        if format not in _READERS:
            raise InvalidRequest(
                f"'{format}' is not a format. Formats are {', '.join(FORMATS)}.", param="format"
            )
        rows, read = _objects(path), _READERS[format]
    for number, row in enumerate(rows, 1):
        try:
            yield read(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise InvalidRequest(
                f"Example {number} of {path.name} does not match the format '{format}': {reason}.",
                param="file",
            ) from error


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except UnicodeDecodeError as error:
        raise _encoding(path) from error


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a JSON array, or of a file with one object per line, without loading all of them into
    memory.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.read(1)
            while first and first.isspace():
                first = file.read(1)
            if first == "[":
                yield from _array(file.read, path)
                return
            line = first + file.readline()
            while line:
                if line.strip():
                    yield json.loads(line)
                line = file.readline()
    except UnicodeDecodeError as error:
        raise _encoding(path) from error
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{path.name} is not JSON: {error}.", param="file") from error


def _array(read: Callable[[int], str], path: Path) -> Iterator[Mapping[str, Any]]:
    decoder, text = json.JSONDecoder(), ""
    while True:
        text = text.lstrip(" \t\r\n,")
        if text.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(text)
        except json.JSONDecodeError as error:
            chunk = read(_CHUNK_BYTES)
            if not chunk or len(text) > _MAX_OBJECT_CHARS:
                raise InvalidRequest(
                    f"{path.name} is not a complete JSON array: {error}.", param="file"
                ) from error
            text += chunk
            continue
        yield value
        text = text[end:]


def _encoding(path: Path) -> InvalidRequest:
    return InvalidRequest(f"{path.name} is not UTF-8. Save it as UTF-8.", param="file")


def _turn(role: str, text: Any) -> dict[str, str]:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the text of the {role} is empty")
    return {"role": role, "content": text}


def _alpaca(row: Mapping[str, Any]) -> Example:
    messages = [_turn("system", row["system"])] if row.get("system") else []
    for question_text, answer in row.get("history") or ():
        messages += [_turn("user", question_text), _turn("assistant", answer)]
    extra_input = row.get("input")
    question = (
        f"{row['instruction']}\n{extra_input}"
        if row["instruction"] and extra_input
        else row["instruction"] or extra_input
    )
    messages.append(_turn("user", question))
    if "chosen" in row:
        return _pair(messages, row["chosen"], row["rejected"])
    return {"messages": [*messages, _turn("assistant", row["output"])]}


def _lazyllm(row: Mapping[str, Any]) -> Example:
    if "question" not in row:
        return _alpaca(row)
    context = row.get("context")
    question = f"{context}\n\n{row['question']}" if context else row["question"]
    answer = row["answer"] if "answer" in row else row["answers"]
    if isinstance(answer, Mapping):  # an answer in the format of SQuAD and CMRC
        answer = answer["text"]
    return {
        "messages": [
            _turn("user", question),
            _turn("assistant", answer[0] if isinstance(answer, list) else answer),
        ]
    }


def _sharegpt(row: Mapping[str, Any]) -> Example:
    messages = [_turn("system", row["system"])] if row.get("system") else []
    messages += [_message(turn) for turn in row["conversations"]]
    if "chosen" in row:
        return _pair(messages, row["chosen"]["value"], row["rejected"]["value"])
    return {"messages": messages}


def _message(turn: Mapping[str, Any]) -> dict[str, str]:
    speaker = str(turn["from"])
    if speaker not in _SPEAKERS:
        raise ValueError(f"the conversation has an unknown speaker '{speaker}'")
    return _turn(_SPEAKERS[speaker], turn["value"])


def _pair(messages: list[dict[str, str]], chosen_answer: Any, rejected_answer: Any) -> Example:
    return {
        "input": {"messages": messages},
        "preferred_output": [_turn("assistant", chosen_answer)],
        "non_preferred_output": [_turn("assistant", rejected_answer)],
    }


def _columns(mapping: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Example]:
    known_columns = {"system", "user", "assistant", "chosen", "rejected"}
    pairs = {"user", "chosen", "rejected"} <= mapping.keys()
    if mapping.keys() - known_columns or not (pairs or {"user", "assistant"} <= mapping.keys()):
        raise InvalidRequest(
            "Assign the columns: --map user=QUESTION --map assistant=ANSWER, or chosen and rejected instead "
            "of assistant; also system if there is such a column.",
            param="map",
        )

    def read(row: Mapping[str, Any]) -> Example:
        system = row[mapping["system"]] if "system" in mapping else ""
        messages = [_turn("system", system)] if system else []
        messages.append(_turn("user", row[mapping["user"]]))
        if pairs:
            return _pair(messages, row[mapping["chosen"]], row[mapping["rejected"]])
        return {"messages": [*messages, _turn("assistant", row[mapping["assistant"]])]}

    return read


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Example]]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "lazyllm": _lazyllm,
}

FORMATS: Final = (*_READERS, "csv")
"""Formats that `convert` reads."""
