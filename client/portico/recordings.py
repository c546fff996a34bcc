"""Recorded runs as files: read, written, and converted to items of evaluations and examples for training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portico.errors import InvalidRequest

MAX_FILE_BYTES = 64 * 2**20
"""Maximum size of a recording's file, in bytes."""


def read_recording(path: Path) -> dict[str, Any]:
    """Return the recording in a file. Raises `InvalidRequest` if the file contains none."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InvalidRequest(
                f"{path} has {size:,} bytes; a recording has at most {MAX_FILE_BYTES:,}.", param="file"
            )
        recording = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} cannot be read as a recording: {error}.", param="file") from error
    if not isinstance(recording, dict) or "steps" not in recording:
        raise InvalidRequest(
            f"{path} is not a recording. Write one: portico runs save RUN {path.name}", param="file"
        )
    return recording


def to_eval_item(recording: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded run as an item of an evaluation: the input and the output of the app, as texts. Raises
    `InvalidRequest` if the run failed.
    """
    return {"item": {"input": _question(recording), "output": _answer(recording)}}


def to_training_example(recording: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded run as an example for training: the conversation with the app, and its answer. Raises
    `InvalidRequest` if the run failed.
    """
    messages = recording["request"]["value"].get("messages")
    if messages is None:
        messages = [{"role": "user", "content": _question(recording)}]
    return {"messages": [*messages, {"role": "assistant", "content": _answer(recording)}]}


def _question(recording: Mapping[str, Any]) -> str:
    request = recording["request"]["value"]
    messages = request.get("messages")
    return _text(messages[-1]) if messages else _text(request.get("value"))


def _answer(recording: Mapping[str, Any]) -> str:
    error = recording.get("error")
    if error:
        raise InvalidRequest(
            f"The run {recording['run']['id']} failed, so it has no answer: {error['message']}", param="run"
        )
    return _text(recording.get("result"))


def _text(value: Any) -> str:
    """Return a value as text: the content of a message, otherwise its JSON."""
    if isinstance(value, Mapping) and isinstance(value.get("content"), str):
        value = value["content"]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
