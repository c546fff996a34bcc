"""vLLM, LMDeploy and transformers on a real GPU: ``PORTICO_TEST_VLLM``, ``PORTICO_TEST_LMDEPLOY`` and
``PORTICO_TEST_TRANSFORMERS`` are interpreters that have them, ``PORTICO_TEST_GPU_MODEL`` a folder with a small chat
model as safetensors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.server.engines.bench import bench, user

from portico_server.engines.spec import ModelSpec

MODEL = os.environ.get("PORTICO_TEST_GPU_MODEL", "")

SCHEMA = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="there is no NVIDIA GPU here"),
    pytest.mark.skipif(not MODEL, reason="PORTICO_TEST_GPU_MODEL names no model"),
]


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy", "transformers"])
async def test_a_chat_on_the_gpu(tmp_path: Path, engine: str) -> None:
    python = os.environ.get(f"PORTICO_TEST_{engine.upper()}")
    if not python:
        pytest.skip(f"PORTICO_TEST_{engine.upper()} names no interpreter that has {engine}")
    async with bench(tmp_path, load_timeout=600.0) as house:
        parameters = {"python": python, "context_length": 2048}
        if engine != "transformers":
            parameters["memory_share"] = 0.3
        await house.models.add(ModelSpec("m", MODEL, engine=engine, parameters=parameters))
        await house.models.load("m")  # longer than a call may take
        got = await house.ask("m", {"messages": user("Say yes."), "max_tokens": 8})
        assert got["choices"][0]["message"]["content"]
        assert len(house.models.get("m").gpus) == 1
        tool = {"type": "function", "function": {"name": "light", "parameters": SCHEMA}}
        body = {"messages": user("Light on!"), "tools": [tool], "tool_choice": "required", "max_tokens": 64}
        [choice] = (await house.ask("m", body))["choices"]
        [call] = choice["message"]["tool_calls"]
        assert isinstance(json.loads(call["function"]["arguments"])["on"], bool)
        streamed = await house.stream("m", {"messages": user("Count to five."), "max_tokens": 16})
        assert streamed.done and streamed.usage.completion_tokens > 0
