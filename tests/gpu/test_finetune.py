"""Training on a real GPU: ``PORTICO_TEST_FINETUNE`` is an interpreter that has what training takes (for four bits also
bitsandbytes), ``PORTICO_TEST_GPU_MODEL`` a folder with a small chat model as safetensors, ``PORTICO_TEST_VLLM`` an
interpreter that has vLLM.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.server.engines.bench import bench, user
from tests.server.engines.transformers import environment
from tests.server.finetune.child.bases import BaseModel, task, trained, trainer

from portico_server.engines.spec import ModelSpec
from portico_server.finetune.trainer import Metrics, Trained

MODEL = os.environ.get("PORTICO_TEST_GPU_MODEL", "")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="there is no NVIDIA GPU here"),
    pytest.mark.skipif(not MODEL, reason="PORTICO_TEST_GPU_MODEL names no model"),
    pytest.mark.skipif("PORTICO_TEST_FINETUNE" not in os.environ, reason="PORTICO_TEST_FINETUNE is not set"),
]

LINES = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "Ahoy, captain!"}]}
    for asked in ("Hello.", "Good morning.", "Hi there.", "Good evening.")
]


@pytest.fixture
def base() -> BaseModel:
    return BaseModel("m", Path(MODEL), "safetensors", "vllm", "", 0, 0, 0, 0, 2048, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "lora", "precision": "bfloat16"},
        {"kind": "lora", "precision": "float16", "checkpointing": True},
        {"kind": "qlora", "precision": "bfloat16", "optimiser": "paged_adamw_8bit", "checkpointing": True},
        {"kind": "full", "precision": "bfloat16", "learning_rate": 1e-4},
        {"kind": "full", "precision": "float16", "learning_rate": 1e-4},
    ],
    ids=lambda settings: f"{settings['kind']}-{settings['precision']}",
)
async def test_every_kind_learns(tmp_path: Path, base: BaseModel, settings: dict[str, Any]) -> None:
    if settings["kind"] == "qlora" and not _has("bitsandbytes"):
        pytest.skip("PORTICO_TEST_FINETUNE has no bitsandbytes")
    asked = task(tmp_path, base, LINES, **{"steps": 6, "device": "cuda", "micro_batch": 4, **settings})
    events = await trained(trainer(tmp_path), asked)
    losses = [event.loss for event in events if isinstance(event, Metrics) and event.loss is not None]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    done = events[-1]
    assert isinstance(done, Trained)
    assert (done.path / "adapter_config.json").is_file() == (settings["kind"] != "full")


async def test_the_adapter_answers_on_vllm(tmp_path: Path, base: BaseModel) -> None:
    python = os.environ.get("PORTICO_TEST_VLLM")
    if not python:
        pytest.skip("PORTICO_TEST_VLLM names no interpreter that has vllm")
    settings = {"device": "cuda", "precision": "bfloat16", "micro_batch": 4, "learning_rate": 1e-3}
    asked = task(tmp_path / "job", base, LINES * 4, steps=24, **settings)
    done = (await trained(trainer(tmp_path), asked))[-1]
    assert isinstance(done, Trained)
    (home := tmp_path / "home").mkdir()
    async with bench(home, load_timeout=600.0) as house:
        parameters = {"python": python, "context_length": 2048, "memory_share": 0.3, "adapter_rank": 8}
        await house.models.add(ModelSpec("m", MODEL, engine="vllm", parameters=parameters))
        await house.models.bases.publish("ft:m:portico::1", "m", done.path, None)
        got = await house.ask(
            "ft:m:portico::1", {"messages": user("Hello."), "max_tokens": 8, "temperature": 0}
        )
        assert got["choices"][0]["message"]["content"].startswith("Ahoy")


def _has(package: str) -> bool:
    command = [environment.interpreter("finetune"), "-c", f"import {package}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
