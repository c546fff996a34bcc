"""Training on a real GPU; the trained model answers on that GPU. Four-bit training also needs bitsandbytes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.gpu.machine import DEVICE, GIVEN, MARKS, model, python
from tests.server.features.training.child import bases
from tests.server.features.training.child.bases import BaseModel, task, trained, trainer

from portico.testing.model_fixture import model_fixture, user
from portico_server.features.training.training_events import Metrics, TrainedWeights
from portico_server.models.spec import ModelSpec

pytestmark = MARKS

LINES = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "Ahoy, captain!"}]}
    for asked in ("Hello.", "Good morning.", "Hi there.", "Good evening.")
]


@pytest.fixture
def base() -> BaseModel:
    python("finetune")
    if GIVEN:
        return BaseModel("m", model(), "safetensors", "vllm", "", 0, 0, 0, 0, 2048, 0)
    return bases.tiny()


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
async def test_every_kind_of_training_reduces_the_loss(
    tmp_path: Path, base: BaseModel, settings: dict[str, Any]
) -> None:
    if settings["kind"] == "qlora" and not _has("bitsandbytes"):
        pytest.skip("PORTICO_TEST_FINETUNE has no bitsandbytes")
    if settings["precision"] == "float16" and DEVICE == "cpu":
        pytest.skip("float16 is trained in on GPUs alone")
    if not GIVEN:
        settings = {**settings, "learning_rate": 3e-3}  # random weights need a larger step
    training_task = task(
        tmp_path, base, LINES, **{"steps": 6, "device": DEVICE, "micro_batch": 4, **settings}
    )
    events = await trained(trainer(tmp_path), training_task)
    losses = [event.loss for event in events if isinstance(event, Metrics) and event.loss is not None]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    done = events[-1]
    assert isinstance(done, TrainedWeights)
    assert (done.path / "adapter_config.json").is_file() == (settings["kind"] != "full")


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
async def test_a_trained_adapter_answers_differently_from_its_base(
    tmp_path: Path, base: BaseModel, engine: str
) -> None:
    parameters: dict[str, Any] = {"python": python(engine), "context_length": 512}
    parameters |= {"memory_share": 0.3, "adapter_rank": 8} if engine == "vllm" else {"device": DEVICE}
    settings = {
        "device": DEVICE,
        "precision": "bfloat16",
        "micro_batch": 4,
        "learning_rate": 1e-3,
        "steps": 24,
    }
    if not GIVEN:
        settings |= {"learning_rate": 0.02, "precision": "float32"}
    training_task = task(tmp_path / "job", base, LINES * 4, **settings)
    done = (await trained(trainer(tmp_path), training_task))[-1]
    assert isinstance(done, TrainedWeights)
    (home := tmp_path / "home").mkdir()
    async with model_fixture(home, load_timeout=600.0) as daemon:
        await daemon.models.add(ModelSpec("m", str(base.path), engine=engine, parameters=parameters))
        await daemon.models.load("m")
        await daemon.models.bases.publish("ft:m:portico::1", "m", done.path, None)
        body = {"messages": user("Hello."), "max_tokens": 8, "temperature": 0}
        plain, learnt = [
            (await daemon.ask(name, body))["choices"][0]["message"]["content"]
            for name in ("m", "ft:m:portico::1")
        ]
        assert learnt != plain
        assert learnt.startswith("Ahoy") or not GIVEN, "random weights do not learn words so soon"


def _has(package: str) -> bool:
    command = [python("finetune"), "-c", f"import {package}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
