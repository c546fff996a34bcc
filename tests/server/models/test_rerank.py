"""Rerankers: by script, by llama.cpp with a tiny model made by the test, and over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon
from tests.server.models.model_files import tiny_bert

from portico.testing.model_fixture import ModelFixture
from portico.wire import Usage
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Ranked, Rerank
from portico_server.models.engines.openai_client.client import ranking_of
from portico_server.models.spec import ModelSpec

RANK = 4
"""The pooling of rerankers in GGUF."""

TEXTS = ("bread is baked", "the harbour is closed", "ships in the harbour")


async def test_the_fake_engine_ranks_by_shared_words(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("r", "fake://", task="rerank"))
    result = await models.runner.call("rerank", "r", Rerank("ships in the harbour", TEXTS, 2), LOCAL)
    assert isinstance(result, Ranked) and result.model == "r"
    assert result.results == ((2, 1.0), (1, 0.5)) and result.usage.prompt_tokens > 0
    assert (await models.runner.call("rerank", "r", Rerank("x", ()), LOCAL)).results == ()
    with pytest.raises(InvalidRequest, match="rerank"):
        await models.ask("r", {"messages": []})


async def test_llamacpp_ranks_with_a_model_that_says_it_is_a_reranker(
    models: ModelFixture, tmp_path: Path
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(tiny_bert(pooling=RANK))
    await models.models.add(ModelSpec("r", str(tmp_path / "tiny.gguf")))
    assert models.models.get("r").task == "rerank", "known before it is loaded"
    result = await models.runner.call("rerank", "r", Rerank("ships", TEXTS), LOCAL)
    assert isinstance(result, Ranked)
    assert sorted(index for index, _ in result.results) == [0, 1, 2]
    assert all(0 <= score <= 1 for _, score in result.results)


def test_logits_become_scores_and_scores_stay() -> None:
    def scores(*given: float) -> list[tuple[int, float]]:
        rows = ranking_of(list(enumerate(given)), "m", Usage())["results"]
        return [(row["index"], round(row["relevance_score"], 3)) for row in rows]

    assert scores(-2.0, 3.0, 0.5) == [(1, 0.953), (2, 0.622), (0, 0.119)]
    assert scores(0.2, 0.9) == [(1, 0.9), (0, 0.2)]
    assert scores(1e9, -1e9) == [(0, 1.0), (1, 0.0)]


def test_the_rerank_endpoint_ranks_documents_and_refuses_invalid_requests(daemon: Daemon) -> None:
    body: dict[str, Any] = {"model": "ranker", "query": "ships in the harbour", "documents": list(TEXTS)}
    with httpx.Client(base_url=daemon.url) as client:
        client.post("/api/deployments", json={"name": "ranker", "source": "fake://", "task": "rerank"})
        plain = client.post("/v1/rerank", json=body).json()
        objects = [{"text": text} for text in TEXTS]
        body_with_options = {**body, "documents": objects, "top_n": 1, "return_documents": True}
        top_answer = client.post("/v1/rerank", json=body_with_options).json()
        wrong = client.post("/v1/rerank", json={**body, "documents": [{"title": "x"}]})
        chat = client.post("/v1/rerank", json={**body, "model": "echo"})
        client.delete("/api/deployments/ranker")
    assert [row["index"] for row in plain["results"]] == [2, 1, 0] and "document" not in plain["results"][0]
    assert top_answer["results"] == [{"index": 2, "relevance_score": 1.0, "document": {"text": TEXTS[2]}}]
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "documents[0]"
    assert chat.status_code == 400 and "ranker" in chat.json()["error"]["message"]
