"""vLLM, LMDeploy and transformers on a real GPU, as far as the machine has them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.gpu.machine import DEVICE, MARKS, model, python
from tests.server.engines.bench import Bench, bench, user
from tests.server.engines.transformers import environment

from portico_server.models.spec import ModelSpec

SCHEMA = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}

TEXTS = ["the sea is bright", "bread is baked here", "ships in the harbour once upon a time"]

pytestmark = MARKS


async def add(house: Bench, name: str, folder: Path, engine: str = "transformers", **more: Any) -> None:
    """A model on the GPU, loaded."""
    parameters = {"python": python(engine), **more}
    if engine == "transformers":
        parameters.setdefault("device", DEVICE)
    else:
        parameters["memory_share"] = 0.3
    await house.models.add(ModelSpec(name, str(folder), engine=engine, parameters=parameters))
    await house.models.load(name)  # longer than a call may take
    wanted = 1 if str(parameters.get("device", "cuda")).startswith("cuda") else 0
    assert len(house.models.get(name).gpus) == wanted


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy", "transformers"])
async def test_a_chat_on_the_gpu(tmp_path: Path, engine: str) -> None:
    python(engine)
    async with bench(tmp_path, load_timeout=600.0) as house:
        await add(house, "m", model(), engine, context_length=512)
        got = await house.ask("m", {"messages": user("Say yes."), "max_tokens": 8})
        assert got["choices"][0]["message"]["content"]
        tool = {"type": "function", "function": {"name": "light", "parameters": SCHEMA}}
        body = {"messages": user("Light on!"), "tools": [tool], "tool_choice": "required", "max_tokens": 64}
        [choice] = (await house.ask("m", body))["choices"]
        [call] = choice["message"]["tool_calls"]
        assert isinstance(json.loads(call["function"]["arguments"])["on"], bool)
        streamed = await house.stream("m", {"messages": user("Count to five."), "max_tokens": 16})
        assert streamed.done and streamed.usage.completion_tokens > 0
        told = await house.ask(
            "m", {"messages": user("hi"), "max_tokens": 4, "logprobs": True, "top_logprobs": 2}
        )
        assert all(len(one["top_logprobs"]) == 2 for one in told["choices"][0]["logprobs"]["content"])


async def test_the_gpu_computes_what_the_processor_does(tmp_path: Path) -> None:
    made = environment.models()
    exact = {"dtype": "float32"}
    async with bench(tmp_path, load_timeout=600.0) as house:
        await add(house, "vectors", made / "embedding-mean", **exact)
        await add(house, "judge", made / "reranker", **exact)
        await add(house, "chat", made / "chat", context_length=512, **exact)
        await add(house, "here", made / "chat", context_length=512, device="cpu", **exact)
        rows = (await house.ask("vectors", {"input": TEXTS}, "embeddings"))["data"]
        expected = json.loads((made / "expected.json").read_text())["mean"]
        for row, vector in zip(rows, expected, strict=True):
            assert math.dist(row["embedding"], vector) < 0.01
        ranked = await house.ask("judge", {"query": "the sea", "documents": TEXTS}, "rerank")
        assert sorted(one["index"] for one in ranked["results"]) == [0, 1, 2]
        body = {
            "messages": user("Tell me about the sea."),
            "max_tokens": 8,
            "temperature": 0,
            "logprobs": True,
        }
        there, here = [
            [one["logprob"] for one in (await house.ask(name, body))["choices"][0]["logprobs"]["content"]]
            for name in ("chat", "here")
        ]
        assert there == pytest.approx(here, abs=0.05)


async def test_adapters_on_the_gpu(tmp_path: Path) -> None:
    made = environment.models()
    async with bench(tmp_path, load_timeout=600.0) as house:
        await add(house, "m", made / "chat", context_length=512, dtype="float32")
        await house.models.adapters.add("m", made / "adapter", "a")
        body = {
            "messages": user("Tell me."),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 3,
        }
        base, adapted = [(await house.ask(name, body))["choices"][0]["logprobs"] for name in ("m", "a")]
        assert base != adapted
