"""The parts of the worker that need neither its environment nor a model."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from portico_server.features.gpu_engines.transformers.worker import folder
from portico_server.features.gpu_engines.transformers.worker.errors import (
    CallerGone,
    Refusal,
    UnusableModel,
)
from portico_server.features.gpu_engines.transformers.worker.model_queue import ModelQueue
from portico_server.features.gpu_engines.transformers.worker.options import read_options
from portico_server.features.gpu_engines.transformers.worker.streamed_text import StopFilter, TextAssembler


def put(path: Path, config: dict[str, Any], **files: Any) -> folder.ModelFolder:
    (path / "config.json").write_text(json.dumps(config))
    for name, value in files.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    return folder.read_folder(path)


@pytest.mark.parametrize(
    ("config", "files", "task", "sees", "context"),
    [
        ({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192}, {}, "chat", False, 8192),
        ({"architectures": ["BertModel"], "max_position_embeddings": 512}, {}, "embedding", False, 512),
        (
            {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 32768},
            {"modules": [], "sentence_bert_config": {"max_seq_length": 8192}},
            "embedding",
            False,
            8192,
        ),
        (
            {"architectures": ["XLMRobertaForSequenceClassification"], "model_type": "xlm-roberta",
             "max_position_embeddings": 514},
            {"tokenizer_config": {"model_max_length": 1e30}},
            "rerank", False, 512,
        ),
        ({"architectures": ["HF_ColBERT"], "model_type": "bert"}, {}, "rerank", False, 0),
        ({"architectures": ["BertModel"]}, {"modules": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Dense", "type": "pylate.models.Dense.Dense"}]}, "rerank", False, 0),
        ({"architectures": ["BertModel"]}, {"modules": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]}, "embedding", False, 0),
        ({"architectures": ["BertForMaskedLM"]}, {"modules": [
            {"path": "", "type": "sentence_transformers.sparse_encoder.models.MLMTransformer"},
            {"path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.models.SpladePooling"}]},
            "rerank", False, 0),
        ({"architectures": ["BertForMaskedLM"]}, {}, "embedding", False, 0),
        ({"architectures": ["WhisperForConditionalGeneration"]}, {}, "transcription", False, 0),
        ({"architectures": ["Wav2Vec2ForCTC"], "hidden_size": 16}, {}, "transcription", False, 0),
        ({"architectures": ["VitsModel"], "hidden_size": 16}, {}, "speech", False, 0),
        ({"architectures": ["MusicgenForConditionalGeneration"]}, {}, "speech", False, 0),
        (
            {"architectures": ["LlavaForConditionalGeneration"], "vision_config": {},
             "text_config": {"max_position_embeddings": 4096}},
            {},
            "chat", True, 4096,
        ),
    ],
)  # fmt: skip
def test_the_task_of_a_model_folder_is_read_from_its_files(
    tmp_path: Path, config: dict[str, Any], files: dict[str, Any], task: str, sees: bool, context: int
) -> None:
    model_facts = put(tmp_path, config, **files)
    assert (model_facts.task, model_facts.sees, model_facts.context_length) == (task, sees, context)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "x.pkl"])
def test_a_pickle_is_never_taken_for_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnusableModel, match=f"pickle \\({name}\\)"):
        folder.check_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    folder.check_weights(tmp_path)


def test_streamed_tokens_are_joined_into_whole_characters_with_spaces() -> None:
    data = ["雪".encode()[:1], "雪".encode()[1:], b" is", b" snow", b"\xff"]

    def decode(tokens: Any) -> str:
        return b"".join(data[token] for token in tokens).decode("utf-8", "replace")

    spelling = TextAssembler(decode)
    assert [spelling.feed(token) for token in range(5)] == ["", "雪", " is", " snow", ""]
    assert spelling.rest() == "\ufffd" and spelling.rest() == ""


def test_text_that_may_begin_a_stop_sequence_is_held_back() -> None:
    stops = StopFilter(["END", "\n\n"])
    assert stops.feed("a E") == ("a ", False)
    assert stops.feed("N") == ("", False)
    assert stops.feed("x\n") == ("ENx", False)
    assert stops.feed("\nmore") == ("", True)
    assert StopFilter([]).feed("all") == ("all", False)
    late = StopFilter(["END"])
    assert late.feed("EN") == ("", False) and late.rest() == "EN"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_invalid_options_are_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as error_info:
        read_options(body, chat=True)
    assert error_info.value.param == param and error_info.value.body()["error"]["param"] == param


def test_the_model_queue_is_ordered_bounded_and_skips_disconnected_callers() -> None:
    turns = ModelQueue(1)
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with turns.turn(lambda: False):
            inside.set()
            leave.wait(60)
            order.append("first")

    def second() -> None:
        with turns.turn(lambda: False):
            order.append("second")

    first_thread = threading.Thread(target=first)
    first_thread.start()
    assert inside.wait(60) and turns.busy
    with pytest.raises(CallerGone), turns.turn(lambda: True):
        raise AssertionError("it is not its turn")
    two = threading.Thread(target=second)
    two.start()
    while len(turns._line) < 2:
        threading.Event().wait(0.001)
    with pytest.raises(Refusal) as error_info, turns.turn(lambda: False):
        raise AssertionError("the line is full")
    assert error_info.value.status == 429
    leave.set()
    first_thread.join(60)
    two.join(60)
    assert order == ["first", "second"] and not turns.busy
