"""A conversation in a file, so that one command can continue where another one ended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portico.errors import InvalidRequest


def read(path: Path) -> list[Mapping[str, Any]]:
    """The messages in a file; none if it is not there yet. Raises `InvalidRequest` if it holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as a conversation: {error}.", param="history") from error
    if not isinstance(found, list) or not all(_is_message(item) for item in found):
        raise InvalidRequest(
            f"{path} holds no conversation: a list of objects with 'role' and 'content' is expected.",
            param="history",
        )
    return found


def write(path: Path, messages: Sequence[Mapping[str, Any]]) -> None:
    """Put a conversation into a file, in one step. Raises `InvalidRequest` if it cannot be written."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(json.dumps(messages, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.", param="history") from error


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)
    )
