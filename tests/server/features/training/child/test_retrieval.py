"""An embedding model and a reranker learn which passages answer: a few steps of real training on two cores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.transformers import environment
from tests.server.features.training.child.bases import Alone, task, trained, trainer

from portico_server.core.base_models import BaseModel
from portico_server.features.training.training_events import Checkpoint, Metrics, TrainedWeights, TrainLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAIRS = {
    "ships are closed": "red and green",
    "bread is baked": "the sky is bright",
    "weather in paris": "a word of the story",
    "set light": "the harbour is here",
    "count color": "tell me about the sea",
    "once upon a time": "functions parameters",
    "true or false": "city name arguments",
    "light house on the hill": "it will be sunny",
}


def rows() -> list[dict[str, Any]]:
    """Return questions whose answers no model with random weights can know."""
    answers = list(PAIRS.values())
    return [
        {"query": question, "positives": [answer], "negatives": [answers[number - 1], answers[number - 2]]}
        for number, (question, answer) in enumerate(PAIRS.items())
    ]


def base(name: str) -> BaseModel:
    path = environment.models() / name
    return BaseModel(name, path, "safetensors", "transformers", "bert", 30_000, 2, 32, 63, 64, 0)


@pytest.mark.parametrize(
    ("method", "name", "kind"),
    [
        ("embedding", "embedding-mean", "full"),
        ("embedding", "embedding-cls", "lora"),
        ("rerank", "reranker", "full"),
    ],
)
async def test_a_trained_search_model_improves_and_reports_its_evaluation(
    tmp_path: Path, method: Any, name: str, kind: str
) -> None:
    # A reranker with random weights learns these words slowly, so it is evaluated more often.
    steps, interval = (120, 10) if method == "rerank" else (40, 20)
    training_task = task(
        tmp_path,
        base(name),
        rows(),
        method=method,
        validation=rows(),
        kind=kind,
        steps=steps,
        eval_interval=interval,
        micro_batch=4,
        max_length=64,
        learning_rate=3e-3,
    )
    if method == "embedding" and kind == "full":  # interrupted after its first checkpoint, it continues
        await trained(trainer(tmp_path), training_task, until=Checkpoint)
    events = await trained(trainer(tmp_path), training_task)
    done = events[-1]
    assert isinstance(done, TrainedWeights)
    values = done.values
    assert values["ndcg_10"] > values["base_ndcg_10"], values
    assert values["recall_5"] >= values["base_recall_5"]
    assert values["held_back_questions"] == len(PAIRS)
    assert done.tokens > 0
    assert done.others == (), "checkpoints of an adapter that was merged are not models"
    measured = [
        e.values["valid_ndcg_10"] for e in events if isinstance(e, Metrics) and "valid_ndcg_10" in e.values
    ]
    assert max(measured) == pytest.approx(values["ndcg_10"]), "the best checkpoint is the result"
    config = json.loads((done.path / "config.json").read_bytes())
    assert (
        config["architectures"] == json.loads((base(name).path / "config.json").read_bytes())["architectures"]
    )
    assert not (done.path / "adapter_config.json").exists()
    assert (done.path / "1_Pooling" / "config.json").is_file() == (method == "embedding")
    messages = [event.message for event in events if isinstance(event, TrainLog)]
    assert any("The base on 8 questions" in words for words in messages) == (
        not (method == "embedding" and kind == "full")
    )
    assert [type(event) for event in await trained(trainer(tmp_path), training_task, Alone())] == [
        TrainedWeights
    ]
