"""The lists of models of every API say what each model can do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import ModelInfo
from tests.api_server import ApiServer, api_server
from tests.registry_fixture import ScriptedServable

from portico_server.core.servable import Card


async def answer(*_: Any) -> str:
    return "unused"


LENGTH = {"context_length": 4096}
TEXT = {"input": ["text"], "output": ["text"]}

MODELS: list[tuple[Card, dict[str, Any], set[str]]] = [
    # The card, what /v1/models says, and Ollama's words.
    (
        Card("writer", "model", capabilities=frozenset({"chat", "completions"}), labels=LENGTH),
        {
            "context_length": 4096,
            "max_output_tokens": 4096,
            "modalities": TEXT,
            "tools": True,
            "reasoning": False,
        },
        {"completion", "tools"},
    ),
    (
        Card("thinker", "model", capabilities=frozenset({"chat", "thoughts", "vision"})),
        {
            "context_length": None,
            "modalities": {"input": ["text", "image"], "output": ["text"]},
            "reasoning": True,
        },
        {"completion", "tools", "vision", "thinking"},
    ),
    (
        Card("elsewhere", "model", capabilities=frozenset({"chat", "hosted"})),
        {"tools": True, "reasoning": None},
        {"completion", "tools"},
    ),
    (
        Card("docs", "app", capabilities=frozenset({"chat"}), labels={"model": "writer", "store": "docs"}),
        {"context_length": 4096, "max_output_tokens": 4096, "tools": True},
        {"completion", "tools"},
    ),
    (
        Card("clerk", "app", capabilities=frozenset({"chat", "app"}), labels={"model": "fast"}),
        {"context_length": 4096, "tools": False},
        {"completion"},
    ),
    (
        Card("vectors", "model", capabilities=frozenset({"embeddings"}), labels=LENGTH),
        {
            "context_length": 4096,
            "max_output_tokens": None,
            "modalities": {"input": ["text"], "output": ["embedding"]},
            "tools": False,
        },
        {"embedding"},
    ),
    (
        Card("voice", "model", capabilities=frozenset({"speech"})),
        {"modalities": {"input": ["text"], "output": ["audio"]}},
        set(),
    ),
    (
        Card("painter", "model", capabilities=frozenset({"image", "image_edits"})),
        {"modalities": {"input": ["text", "image"], "output": ["image"]}},
        set(),
    ),
]


@pytest.fixture
async def listing(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as daemon:
        for card, _, _ in MODELS:
            daemon.add(ScriptedServable(card, answer))
        daemon.services.registry.aliases.set("fast", "writer")
        yield daemon


async def test_openai_lists_say_what_models_can_do(listing: ApiServer) -> None:
    models = {model["id"]: model for model in (await listing.client.get("/v1/models")).json()["data"]}
    for card, facts, _ in MODELS:
        assert models[card.name].items() >= facts.items(), card.name
    assert models["fast"].items() >= MODELS[0][1].items()
    assert (await listing.client.get("/v1/models/fast")).json().items() >= MODELS[0][1].items()


async def test_ollama_lists_say_what_models_can_do(listing: ApiServer) -> None:
    models = {model["name"]: model for model in (await listing.client.get("/api/tags")).json()["models"]}
    for card, facts, words in MODELS:
        card_details = (await listing.client.post("/api/show", json={"model": card.name})).json()
        assert set(models[card.name]["capabilities"]) == set(card_details["capabilities"]) == words, card.name
        if "context_length" in facts:
            assert models[card.name]["context_length"] == (facts["context_length"] or 0)
            assert card_details["model_info"].get(f"{card.kind}.context_length") == facts["context_length"]


async def test_anthropic_lists_say_what_models_can_do(listing: ApiServer) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    data = (await listing.client.get("/v1/models", headers=headers)).json()["data"]
    models = {model["id"]: ModelInfo.model_validate(model) for model in data}
    assert models.keys() == {"writer", "thinker", "elsewhere", "docs", "clerk", "fast"}
    assert (models["docs"].max_input_tokens, models["docs"].max_tokens) == (4096, 4096)
    writer, thinker, docs = (models[name].capabilities for name in ("writer", "thinker", "docs"))
    assert writer is not None and thinker is not None and docs is not None
    assert (writer.thinking.supported, thinker.thinking.supported) == (False, True)
    assert (writer.image_input.supported, thinker.image_input.supported) == (False, True)
    assert (writer.citations.supported, docs.citations.supported) == (False, True)
    assert thinker.effort.high.supported and not writer.server_tools.supported
