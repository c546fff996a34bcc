"""Rerankers: by script, by llama.cpp with a tiny model made by the test, and over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon
from tests.server.models.model_files import Value, gguf

from portico.testing.model_fixture import ModelFixture
from portico.wire import Usage
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Ranked, Rerank
from portico_server.models.engines.openai_client.client import ranking_of
from portico_server.models.spec import ModelSpec

TEXTS = ("bread is baked", "the harbour is closed", "ships in the harbour")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁ships", "▁harbour", "▁bread", "▁in", "▁the", "▁is"]

HEADER: dict[str, Value] = {
    "general.architecture": "bert",
    "general.name": "Tiny",
    "bert.context_length": 64,
    "bert.embedding_length": 32,
    "bert.feed_forward_length": 64,
    "bert.block_count": 1,
    "bert.attention.head_count": 2,
    "bert.attention.layer_norm_epsilon": 1e-12,
    "bert.attention.causal": False,
    "bert.pooling_type": 4,
    "tokenizer.ggml.model": "bert",
    "tokenizer.ggml.token_type_count": 2,
    "tokenizer.ggml.tokens": WORDS,
    "tokenizer.ggml.unknown_token_id": 1,
    "tokenizer.ggml.bos_token_id": 2,
    "tokenizer.ggml.cls_token_id": 2,
    "tokenizer.ggml.eos_token_id": 3,
    "tokenizer.ggml.seperator_token_id": 3,  # GGUF spells it this way
    "tokenizer.ggml.padding_token_id": 0,
}


def tiny_reranker() -> bytes:
    """Return a BERT of one layer with a scoring head. All its weights are 0.0, so every score is 0.0 too."""
    layer = {
        "attn_q": (32, 32), "attn_k": (32, 32), "attn_v": (32, 32), "attn_output": (32, 32),
        "ffn_up": (32, 64), "ffn_down": (64, 32),
    }  # fmt: skip
    tensors: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (32, len(WORDS)), 0),
        ("token_types.weight", (32, 2), 0),
        ("position_embd.weight", (32, 64), 0),
        ("token_embd_norm.weight", (32,), 0),
        ("token_embd_norm.bias", (32,), 0),
        ("cls.weight", (32, 32), 0),
        ("cls.bias", (32,), 0),
        ("cls.output.weight", (32, 1), 0),
        ("cls.output.bias", (1,), 0),
    ]
    for name, shape in layer.items():
        tensors.append((f"blk.0.{name}.weight", shape, 0))
        tensors.append((f"blk.0.{name}.bias", shape[1:], 0))
    for norm in ("attn_output_norm", "layer_output_norm"):
        tensors += [(f"blk.0.{norm}.weight", (32,), 0), (f"blk.0.{norm}.bias", (32,), 0)]
    return gguf(HEADER, tensors)


async def test_a_script_ranks_by_words(models: ModelFixture) -> None:
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
    (tmp_path / "tiny.gguf").write_bytes(tiny_reranker())
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


def test_rerank_over_http(daemon: Daemon) -> None:
    body: dict[str, Any] = {"model": "ranker", "query": "ships in the harbour", "documents": list(TEXTS)}
    with httpx.Client(base_url=daemon.url) as client:
        client.post("/api/deployments", json={"name": "ranker", "source": "fake://", "task": "rerank"})
        plain = client.post("/v1/rerank", json=body).json()
        objects = [{"text": text} for text in TEXTS]
        more = {**body, "documents": objects, "top_n": 1, "return_documents": True}
        one = client.post("/v1/rerank", json=more).json()
        wrong = client.post("/v1/rerank", json={**body, "documents": [{"title": "x"}]})
        chat = client.post("/v1/rerank", json={**body, "model": "echo"})
        client.delete("/api/deployments/ranker")
    assert [row["index"] for row in plain["results"]] == [2, 1, 0] and "document" not in plain["results"][0]
    assert one["results"] == [{"index": 2, "relevance_score": 1.0, "document": {"text": TEXTS[2]}}]
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "documents[0]"
    assert chat.status_code == 400 and "ranker" in chat.json()["error"]["message"]
