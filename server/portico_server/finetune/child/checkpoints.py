"""Checkpoints on disk: whole ones have a mark, which is written last; the others are deleted."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

MARK = "whole.json"
"""The file that makes a checkpoint one; what was measured is in it."""

_NAME = re.compile(r"checkpoint-(\d+)")


def mark(checkpoint: Path, values: dict[str, float]) -> None:
    """Everything of ``checkpoint`` is on disk: say so."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    draft = checkpoint / f".{MARK}"
    draft.write_text(json.dumps(values), encoding="utf-8")
    draft.replace(checkpoint / MARK)


def named(folder: Path, base: str) -> None:
    """Let an adapter say by name what it was trained on, and not where that lay."""
    config = folder / "adapter_config.json"
    if config.is_file():
        document = json.loads(config.read_text(encoding="utf-8"))
        document["base_model_name_or_path"] = base
        config.write_text(json.dumps(document, indent=2), encoding="utf-8")


def marked(checkpoint: Path) -> dict[str, Any] | None:
    """What was measured at a whole checkpoint."""
    try:
        values = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def step_of(checkpoint: Path) -> int:
    """The step after which it was made."""
    found = _NAME.fullmatch(checkpoint.name)
    return int(found[1]) if found else -1


def last(folder: Path) -> Path | None:
    """The last whole one, after deleting those that a killed process left half."""
    found = []
    for checkpoint in folder.glob("checkpoint-*"):
        if step_of(checkpoint) >= 0 and marked(checkpoint) is not None:
            found.append(checkpoint)
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(found, key=step_of, default=None)
