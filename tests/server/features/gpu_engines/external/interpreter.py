"""An interpreter in which ``vllm`` and ``lmdeploy`` are the stand-ins, and a folder that looks like a model."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

STANDIN = Path(__file__).with_name("standin")


def interpreter(folder: Path, story: str = "", script: Any = ()) -> str:
    """Return the path of a ``python`` that finds the stand-ins first."""
    path = folder / f"python-{story or 'plain'}"
    path.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH={shlex.quote(str(STANDIN))} STANDIN_STORY={shlex.quote(story)}\n"
        f"export STANDIN_SCRIPT={shlex.quote(json.dumps(list(script)))}\n"
        f'exec {shlex.quote(sys.executable)} "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return str(path)


def model(folder: Path, **configuration: Any) -> str:
    """Return a folder with a configuration and (empty) weights."""
    model_folder = folder / "model"
    model_folder.mkdir(exist_ok=True)
    (model_folder / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, **configuration}))
    (model_folder / "model.safetensors").write_bytes(b"")
    return str(model_folder)
