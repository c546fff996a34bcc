"""Unpacks a GGUF file into a folder of safetensors for training.

The engine's environment creates the folder once, and the folder is kept.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest
from portico_server.environments.uv import StepFailedError, StepReport, run_step
from portico_server.models.gguf_conversion import CONVERTER, CONVERTER_PATH
from portico_server.subprocesses import OFFLINE_ENVIRONMENT, run_module


async def unpack_gguf(gguf: Path, folder: Path, python: Path, report: StepReport) -> Path:
    """Return the folder for ``gguf`` below ``folder``, named after the file's content.

    ``python`` is the interpreter of the engine's environment. The weights are in 16 bits: a model with a billion
    parameters needs 2 GB. Raise `InvalidRequest` for a file that cannot be read. If cancelled, delete the unfinished
    folder.
    """
    target = folder / f"{gguf.stem}-{await pools.MODELS.run(_digest, gguf)}"
    if (target / "config.json").is_file():
        return target
    await pools.MODELS.run(folder.mkdir, parents=True, exist_ok=True)
    command = run_module(CONVERTER, "dequantise", str(gguf), str(target), python=python)
    environment = {
        **OFFLINE_ENVIRONMENT,
        "PYTHONPATH": str(CONVERTER_PATH),
    }
    try:
        await run_step(command, "unpack", report, folder=folder, env=environment)
    except StepFailedError as error:
        if (target / "config.json").is_file():  # another process was faster
            return target
        raise InvalidRequest(
            f"The model file {gguf} could not be unpacked: {error.message}",
            code="model_file_invalid",
            param="source",
        ) from error
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
