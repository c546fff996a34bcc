"""vLLM, LMDeploy and transformers on a real GPU, as far as the machine has them."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.gpu.machine import DEVICE, MARKS, model, python
from tests.server.features.gpu_engines.transformers import environment

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.media import Draw, GeneratedImages
from portico_server.core.principal import LOCAL
from portico_server.models.spec import ModelSpec

SCHEMA = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}

TEXTS = ["the sea is bright", "bread is baked here", "ships in the harbour once upon a time"]

pytestmark = MARKS


async def add(
    daemon: ModelFixture, name: str, folder: Path, engine: str = "transformers", **more: Any
) -> None:
    """Add and load a model on the GPU."""
    parameters = {"python": python(engine), **more}
    if engine == "transformers":
        parameters.setdefault("device", DEVICE)
    else:
        parameters["memory_share"] = 0.3
    await daemon.models.add(ModelSpec(name, str(folder), engine=engine, parameters=parameters))
    await daemon.models.load(name)  # takes longer than a call may take
    gpu_count = 1 if str(parameters.get("device", "cuda")).startswith("cuda") else 0
    assert len(daemon.models.get(name).gpus) == gpu_count


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy", "transformers"])
async def test_chat_tools_and_streaming_work_on_the_gpu(tmp_path: Path, engine: str) -> None:
    python(engine)
    async with model_fixture(tmp_path, load_timeout=600.0) as daemon:
        await add(daemon, "m", model(), engine, context_length=512)
        completion = await daemon.ask("m", {"messages": user("Say yes."), "max_tokens": 8})
        assert completion["choices"][0]["message"]["content"]
        tool = {"type": "function", "function": {"name": "light", "parameters": SCHEMA}}
        body = {"messages": user("Light on!"), "tools": [tool], "tool_choice": "required", "max_tokens": 64}
        [choice] = (await daemon.ask("m", body))["choices"]
        [call] = choice["message"]["tool_calls"]
        assert isinstance(json.loads(call["function"]["arguments"])["on"], bool)
        streamed = await daemon.stream("m", {"messages": user("Count to five."), "max_tokens": 16})
        assert streamed.done and streamed.usage.completion_tokens > 0
        logprob_response = await daemon.ask(
            "m", {"messages": user("hi"), "max_tokens": 4, "logprobs": True, "top_logprobs": 2}
        )
        assert all(
            len(token_data["top_logprobs"]) == 2
            for token_data in logprob_response["choices"][0]["logprobs"]["content"]
        )


async def test_the_gpu_computes_what_the_processor_does(tmp_path: Path) -> None:
    model_folder = environment.models()
    exact = {"dtype": "float32"}
    async with model_fixture(tmp_path, load_timeout=600.0) as daemon:
        await add(daemon, "vectors", model_folder / "embedding-mean", **exact)
        await add(daemon, "judge", model_folder / "reranker", **exact)
        await add(daemon, "chat", model_folder / "chat", context_length=512, **exact)
        await add(daemon, "here", model_folder / "chat", context_length=512, device="cpu", **exact)
        rows = (await daemon.ask("vectors", {"input": TEXTS}, "embeddings"))["data"]
        expected_vectors = json.loads((model_folder / "expected.json").read_text())["mean"]
        for row, vector in zip(rows, expected_vectors, strict=True):
            assert math.dist(row["embedding"], vector) < 0.01
        reranking = await daemon.ask("judge", {"query": "the sea", "documents": TEXTS}, "rerank")
        assert sorted(entry["index"] for entry in reranking["results"]) == [0, 1, 2]
        body = {
            "messages": user("Tell me about the sea."),
            "max_tokens": 8,
            "temperature": 0,
            "logprobs": True,
        }
        gpu_logprobs, cpu_logprobs = [
            [
                entry["logprob"]
                for entry in (await daemon.ask(name, body))["choices"][0]["logprobs"]["content"]
            ]
            for name in ("chat", "here")
        ]
        assert gpu_logprobs == pytest.approx(cpu_logprobs, abs=0.05)


async def test_an_adapter_changes_the_answers_on_the_gpu(tmp_path: Path) -> None:
    model_folder = environment.models()
    async with model_fixture(tmp_path, load_timeout=600.0) as daemon:
        await add(daemon, "m", model_folder / "chat", context_length=512, dtype="float32")
        await daemon.models.adapters.add("m", model_folder / "adapter", "a")
        body = {
            "messages": user("Tell me."),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 3,
        }
        base, adapted = [(await daemon.ask(name, body))["choices"][0]["logprobs"] for name in ("m", "a")]
        assert base != adapted


@pytest.mark.parametrize("pipeline", ["diffusion", "flux"])
async def test_the_gpu_draws_what_the_processor_does(tmp_path: Path, pipeline: str) -> None:
    folder = environment.pictures() / pipeline
    async with model_fixture(tmp_path, load_timeout=600.0) as daemon:
        await add(daemon, "there", folder, dtype="float32")
        await add(daemon, "here", folder, dtype="float32", device="cpu")
        request = Draw("a cat", size="32x32", options={"seed": 7, "steps": 2})
        pixels = []
        for name in ("there", "here"):
            result = await daemon.runner.call("images/generations", name, request, LOCAL)
            assert isinstance(result, GeneratedImages)
            pixels.append(np.asarray(Image.open(io.BytesIO(result.images[0].data)), dtype=float))
        assert np.abs(pixels[0] - pixels[1]).max() <= 2  # of 255
