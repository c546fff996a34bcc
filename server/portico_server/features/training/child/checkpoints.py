"""Checkpoints on disk. A complete checkpoint has a marker file, which is written last; incomplete checkpoints are
deleted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

COMPLETE_MARK = "whole.json"
"""The marker file of a complete checkpoint, which contains its measurements."""

_NAME = re.compile(r"checkpoint-(\d+)")


def mark_complete(checkpoint: Path, values: dict[str, float]) -> None:
    """Flush the files of ``checkpoint`` to disk, then mark it as complete."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    draft = checkpoint / f".{COMPLETE_MARK}"
    draft.write_text(json.dumps(values), encoding="utf-8")
    draft.replace(checkpoint / COMPLETE_MARK)


def checkpoint_named(folder: Path, base: str) -> None:
    """Record the name of the base model in an adapter, instead of a local path."""
    config = folder / "adapter_config.json"
    if config.is_file():
        document = json.loads(config.read_text(encoding="utf-8"))
        document["base_model_name_or_path"] = base
        config.write_text(json.dumps(document, indent=2), encoding="utf-8")


def finish(draft: Path, target: Path) -> None:
    """Move a complete result to its final folder."""
    for name in ("training_args.bin", "README.md"):  # these files are of no use to the recipient
        (draft / name).unlink(missing_ok=True)
    if target.exists():  # left by an attempt that was interrupted before it wrote its result file
        target.rename(target.with_suffix(f".{os.getpid()}.old"))
    draft.rename(target)


def complete_checkpoints(checkpoint: Path) -> dict[str, Any] | None:
    """Return the measurements of a complete checkpoint, or ``None`` if the checkpoint is incomplete."""
    try:
        values = json.loads((checkpoint / COMPLETE_MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was made."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def last_checkpoint(folder: Path) -> Path | None:
    """Delete the incomplete checkpoints of a killed process, and return the last complete checkpoint, or ``None``."""
    paths = []
    for checkpoint in folder.glob("checkpoint-*"):
        if step_of(checkpoint) >= 0 and complete_checkpoints(checkpoint) is not None:
            paths.append(checkpoint)
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(paths, key=step_of, default=None)
