"""The machine that the tests of this folder run on, and its equipment: see "Tests on a GPU" in ``CONTRIBUTING.md``.

``PORTICO_TEST_GPU_PYTHON`` has PyTorch, transformers and PEFT. ``PORTICO_TEST_VLLM`` and ``PORTICO_TEST_LMDEPLOY``
have vLLM and LMDeploy. ``PORTICO_TEST_GPU_MODEL`` is a folder with a small chat model as safetensors, used instead of
a tiny model with random weights. ``PORTICO_TEST_GPU_DEVICE=cpu`` runs the same path without a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.server.features.gpu_engines.transformers import environment

DEVICE = os.environ.get("PORTICO_TEST_GPU_DEVICE", "cuda")

GIVEN = os.environ.get("PORTICO_TEST_GPU_MODEL", "")

MARKS = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        DEVICE == "cuda" and not Path("/dev/nvidiactl").exists(), reason="there is no NVIDIA GPU here"
    ),
]


def python(engine: str) -> str:
    """Return an interpreter that has the engine; skip the test if none is named."""
    name = f"PORTICO_TEST_{engine.upper()}"
    interpreter = os.environ.get(name, "")
    if interpreter or engine in ("vllm", "lmdeploy"):
        return interpreter or pytest.skip(f"{name} names no interpreter that has {engine}")
    return environment.interpreter(engine)


def model() -> Path:
    """Return the folder of a chat model."""
    return Path(GIVEN) if GIVEN else environment.models() / "chat"
