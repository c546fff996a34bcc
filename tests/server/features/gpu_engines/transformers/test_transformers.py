"""The engine `transformers`, with its real worker and tiny models: what it computes, accepts and refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import shutil
import struct
import zlib
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from tests.server.features.gpu_engines.transformers import environment
from tests.server.models.adapters.peft_files import smollm

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.core.relay import AdapterScale, Relay
from portico_server.core.request import (
    Detokenize,
    Detokenized,
    Embed,
    Ranked,
    Rerank,
    Tokenize,
    TokenizedText,
    Vectors,
)
from portico_server.features.gpu_engines.transformers.engine import Transformers
from portico_server.models.protocol import AttachesAdapters, TriesAdapters
from portico_server.models.spec import ModelSpec

# the first run builds the environment
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

TEXTS = ["the sea is bright", "bread is baked here", "ships in the harbour once upon a time"]


def spec(name: str, folder: Path, **more: Any) -> ModelSpec:
    parameters = {"threads": 1, "python": environment.interpreter(), **more.pop("parameters", {})}
    return ModelSpec(name, str(folder), engine="transformers", parameters=parameters, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelFixture]:
    models_folder = environment.models()
    async with model_fixture(tmp_path_factory.mktemp("home"), install_engines=False) as fixture:
        await fixture.models.add(spec("vectors", models_folder / "embedding-mean"))
        await fixture.models.add(spec("judge", models_folder / "reranker"))
        for layout in ("colbert", "pylate"):
            await fixture.models.add(spec(f"late-{layout}", models_folder / f"late-{layout}"))
        await fixture.models.add(spec("sparse", models_folder / "sparse"))
        await fixture.models.add(spec("eyes", models_folder / "vision"))
        await fixture.models.add(spec("chat", models_folder / "chat"))
        yield fixture


def expected(what: str) -> Any:
    """Return what plain transformers computes from `TEXTS`."""
    return json.loads((environment.models() / "expected.json").read_text())[what]


def close(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) < 1e-4 for a, b in zip(one, other, strict=True))


# --- embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_batched_embeddings_match_the_models_reference_vectors(models: ModelFixture) -> None:
    answer = await models.ask("vectors", {"input": TEXTS}, "embeddings")
    # A batch of texts of different lengths must give the same vectors as each text alone.
    assert all(
        close(row["embedding"], vector) for row, vector in zip(answer["data"], expected("mean"), strict=True)
    )
    assert models.models.get("vectors").dimensions == 32
    assert answer["usage"] == {"prompt_tokens": 22, "total_tokens": 22}


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "pooling"), [("", "cls"), ("last", "last")])
async def test_the_files_say_how_vectors_are_pooled_and_a_parameter_says_otherwise(
    models: ModelFixture, asked: str, pooling: str
) -> None:
    parameters = {"pooling": asked} if asked else {}
    await models.models.add(spec("other", environment.models() / "embedding-cls", parameters=parameters))
    answer = await models.ask("other", {"input": TEXTS}, "embeddings")
    await models.models.remove("other")
    assert all(
        close(row["embedding"], vector) for row, vector in zip(answer["data"], expected(pooling), strict=True)
    )


async def test_vectors_are_cut_and_of_length_one_again(models: ModelFixture) -> None:
    full_vector = (await models.ask("vectors", {"input": TEXTS[0]}, "embeddings"))["data"][0]["embedding"]
    body = {"input": TEXTS[0], "dimensions": 8, "encoding_format": "base64"}
    encoded_vector = (await models.ask("vectors", body, "embeddings"))["data"][0]["embedding"]
    vector = array("f", base64.b64decode(encoded_vector)).tolist()
    length = math.sqrt(sum(x * x for x in full_vector[:8]))
    assert close(vector, [x / length for x in full_vector[:8]])
    with pytest.raises(InvalidRequest, match="at most 32"):
        await models.ask("vectors", {"input": "x", "dimensions": 33}, "embeddings")
    result = await models.runner.call("embeddings", "vectors", Embed(tuple(TEXTS)), LOCAL)
    assert isinstance(result, Vectors) and len(result.data) == 3


async def test_a_text_beyond_the_context_is_refused_by_its_index(models: ModelFixture) -> None:
    with pytest.raises(PorticoError) as error_info:
        await models.ask("vectors", {"input": ["sea", "sea " * 100]}, "embeddings")
    error = error_info.value
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "input[1]")
    assert "102 tokens" in error.message and "64" in error.message


# --- reranking ----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_scores_are_those_of_the_model_best_first(models: ModelFixture) -> None:
    scores = expected("scores")
    result = await models.runner.call("rerank", "judge", Rerank("ships", tuple(TEXTS)), LOCAL)
    assert isinstance(result, Ranked)
    assert [index for index, _ in result.results] == sorted(range(3), key=lambda index: -scores[index])
    assert close([score for _, score in sorted(result.results)], scores)
    top = await models.runner.call("rerank", "judge", Rerank("ships", tuple(TEXTS), 1), LOCAL)
    assert isinstance(top, Ranked) and len(top.results) == 1
    assert models.models.get("judge").task == "rerank"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scores"),
    [("late-colbert", "late_scores"), ("late-pylate", "late_scores"), ("sparse", "sparse_scores")],
)
async def test_late_interaction_and_learned_sparse_vectors_score_as_their_papers_say(
    models: ModelFixture, name: str, scores: str
) -> None:
    reference_scores = expected(scores)
    assert len(set(reference_scores)) == 3
    result = await models.runner.call("rerank", name, Rerank("ships", tuple(TEXTS)), LOCAL)
    assert isinstance(result, Ranked)
    assert close([score for _, score in sorted(result.results)], reference_scores)
    assert [index for index, _ in result.results] == sorted(
        range(3), key=lambda index: -reference_scores[index]
    )
    long_request = Rerank("ships " * 200, (*("sea " * 500, "", ". . ."), *TEXTS * 30), 5)
    result = await models.runner.call("rerank", name, long_request, LOCAL)
    assert isinstance(result, Ranked) and len(result.results) == 5
    assert all(0 <= score <= 1 for _, score in result.results)
    assert models.models.get(name).task == "rerank"


async def test_a_long_document_is_cut_and_a_long_question_is_not(models: ModelFixture) -> None:
    result = await models.runner.call("rerank", "judge", Rerank("ships", ("sea " * 500,)), LOCAL)
    assert isinstance(result, Ranked) and result.usage.prompt_tokens == 64
    with pytest.raises(PorticoError) as error_info:
        await models.runner.call("rerank", "judge", Rerank("ships " * 80, ("sea",)), LOCAL)
    assert (error_info.value.code, error_info.value.param) == ("context_length_exceeded", "query")


# --- images -------------------------------------------------------------------------------------------------


def png(width: int, height: int, grey: int, second: bytes = b"IDAT") -> str:
    """Return an image of one shade as a data: URL, with image data as small as possible, in two chunks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes([grey]) * width
    pixels = zlib.compress(row * (height if width * height < 10**6 else 1))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels[:5])
    data += chunk(second, pixels[5:]) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def seeing(url: str, text: str = "What is in the harbour?") -> dict[str, Any]:
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    return {
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": 1,
        "logprobs": True,
        "temperature": 0,
    }


@pytest.mark.slow
async def test_the_answer_of_a_vision_model_depends_on_the_image(models: ModelFixture) -> None:
    image_logprobs = []
    for grey in (0, 0, 255):
        answer = await models.ask("eyes", seeing(png(32, 32, grey)))
        image_logprobs.append(answer["choices"][0]["logprobs"]["content"][0]["logprob"])
    assert image_logprobs[0] == image_logprobs[1] != image_logprobs[2], "the image decides, and nothing else"
    words = {"messages": user("What is in the harbour?"), "max_tokens": 1}
    blind = await models.ask("eyes", words)
    assert answer["usage"]["prompt_tokens"] > blind["usage"]["prompt_tokens"] + 4, "the image takes tokens"
    streamed = await models.stream("eyes", {**seeing(png(8, 8, 9)), "max_tokens": 3})
    assert streamed.done and streamed.usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/x.png", "must be embedded in the message"),
        ("data:text/plain;base64,eA==", "must be embedded in the message"),
        ("data:image/png,x", "base64,DATA"),
        ("data:image/png;base64,eA==", "cannot be read"),
        ("data:image/png;base64,%%%", "cannot be read"),
        (png(32, 32, 0, b"\x82\x82\x02{"), "cannot be read"),
        (png(100_000, 100_000, 0), "100000 × 100000 pixels"),
    ],
)
async def test_invalid_images_are_refused(models: ModelFixture, url: str, words: str) -> None:
    with pytest.raises(PorticoError, match=words) as error_info:
        await models.ask("eyes", seeing(url))
    assert error_info.value.status == 400 and str(error_info.value.param).startswith("messages[0]")


@pytest.mark.slow
async def test_a_text_only_model_refuses_images(models: ModelFixture) -> None:
    with pytest.raises(PorticoError, match="reads only text"):
        await models.ask("chat", seeing(png(8, 8, 0)))


# --- chat ---------------------------------------------------------------------------------------------------


def asked(**more: Any) -> dict[str, Any]:
    return {"messages": user("Tell me about the sea."), "max_tokens": 8, "temperature": 0, **more}


async def test_penalties_prevent_repeated_words(models: ModelFixture) -> None:
    plain = (await models.ask("chat", asked()))["choices"][0]["message"]["content"].split()
    choice = (await models.ask("chat", asked(frequency_penalty=2, presence_penalty=2)))["choices"][0]
    words = choice["message"]["content"].split()
    assert len(set(words)) >= len(set(plain)) and len(set(words)) == len(words)


async def test_generation_ends_when_the_context_is_full(models: ModelFixture) -> None:
    answer = await models.ask("chat", asked(max_tokens=5000, messages=user("sea " * 900)))
    usage = answer["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == 1024
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"messages": [{"role": "tool", "content": "x"}, {"role": "king", "content": "x"}]}, "messages"),
        ({"top_k": "many"}, "top_k"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}}, None),
        ({"adapter": {"name": "x"}}, "adapter"),
    ],
)
async def test_unsupported_options_are_refused_by_name(
    models: ModelFixture, wish: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(PorticoError) as error_info:
        await models.ask("chat", {**asked(), **wish})
    assert error_info.value.status == 400 and (param is None or error_info.value.param == param)


async def test_a_caller_who_leaves_frees_the_model(models: ModelFixture) -> None:
    relayed = await models.relay("chat", {**asked(max_tokens=900), "stream": True})
    await anext(relayed.chunks)
    await relayed.chunks.aclose()  # type: ignore[attr-defined]
    starts_before = models.models.get("chat").starts
    # Otherwise the call would wait for the rest of nine hundred tokens.
    answer = await models.ask("chat", asked(max_tokens=2))
    assert answer["usage"]["completion_tokens"] == 2 and models.models.get("chat").starts == starts_before


async def test_texts_are_tokenized_and_detokenized_with_the_models_tokenizer(models: ModelFixture) -> None:
    tokenized = await models.runner.call("tokens", "chat", Tokenize("the sea", texts=True), LOCAL)
    assert isinstance(tokenized, TokenizedText) and tokenized.texts is not None and tokenized.longest == 1024
    assert "".join(tokenized.texts).replace("Ġ", " ") == "the sea"
    back = await models.runner.call("tokens", "chat", Detokenize(tokenized.ids), LOCAL)
    assert isinstance(back, Detokenized) and back.text == "the sea"
    chat = await models.runner.call("tokens", "chat", Tokenize(messages=tuple(user("the sea"))), LOCAL)
    assert isinstance(chat, TokenizedText)
    answer = await models.ask("chat", {"messages": user("the sea"), "max_tokens": 1})
    assert len(chat.ids) == answer["usage"]["prompt_tokens"]


# --- adapters -----------------------------------------------------------------------------------------------


async def test_adapters_come_and_go_while_the_model_answers(models: ModelFixture) -> None:
    await models.ask("chat", asked())
    running = models.models.deployments["chat"].running.client
    assert isinstance(running, AttachesAdapters) and isinstance(Transformers(), TriesAdapters)
    client: Any = running
    folder = environment.models() / "adapter"

    async def said(adapter: AdapterScale | None) -> float:
        body = asked(logprobs=True, max_tokens=1)
        relayed = await client.relay(Relay("chat/completions", body, adapter), None)
        answer = json.loads(b"".join([chunk async for chunk in relayed.chunks]))
        return float(answer["choices"][0]["logprobs"]["content"][0]["logprob"])

    plain = await said(None)
    first = await said(AdapterScale("a", folder))
    second_logprob = await said(AdapterScale("b", environment.models() / "other"))
    assert len({plain, first, second_logprob}) == 3
    assert await said(AdapterScale("a", folder, 0.0)) == pytest.approx(plain)
    assert await said(AdapterScale("a", folder, 0.5)) not in (plain, first)
    assert await said(AdapterScale("a", folder)) == first and await said(None) == plain
    assert await said(AdapterScale("a", environment.models() / "other")) == second_logprob, (
        "another one under the same name"
    )
    assert await client.detach("a") and await client.detach("a")
    assert await said(None) == plain


async def test_an_adapter_answers_under_its_own_model_name(models: ModelFixture) -> None:
    await models.models.adapters.add("chat", environment.models() / "adapter", "ft:chat:portico:x:1")
    body = asked(logprobs=True, max_tokens=1)
    pid = models.models.get("chat").pid
    logprobs = {}
    for name in ("chat", "ft:chat:portico:x:1"):
        answer = await models.ask(name, body)
        assert answer["model"] == name
        logprobs[name] = answer["choices"][0]["logprobs"]["content"][0]["logprob"]
    assert len(set(logprobs.values())) == 2 and models.models.get("chat").pid == pid, (
        "nothing was started anew"
    )
    await models.models.adapters.remove("ft:chat:portico:x:1")
    assert (await models.ask("chat", body))["choices"][0]["logprobs"]["content"][0]["logprob"] == logprobs[
        "chat"
    ]
    with pytest.raises(InvalidRequest, match="inputs"):
        await models.models.adapters.add("chat", smollm(models.settings.home / "wide"), "odd")


async def test_a_pickled_or_mismatched_adapter_is_refused(models: ModelFixture, tmp_path: Path) -> None:
    client: Any = models.models.deployments["chat"].running.client
    pickle = tmp_path / "pickle"
    shutil.copytree(environment.models() / "adapter", pickle)
    (pickle / "adapter_model.safetensors").rename(pickle / "adapter_model.bin")
    with pytest.raises(PorticoError, match="pickle"):
        await client.attach(AdapterScale("x", pickle))
    odd = tmp_path / "odd"
    shutil.copytree(environment.models() / "adapter", odd)
    config = json.loads((odd / "adapter_config.json").read_text())
    (odd / "adapter_config.json").write_text(json.dumps({**config, "r": 2}))
    with pytest.raises(PorticoError, match="does not fit"):
        await client.attach(AdapterScale("x", odd))
    assert (await models.ask("chat", asked()))["choices"], "the model goes on without it"


# --- files that are not models
# ---------------------------------------------------------------------------------


async def refused(models: ModelFixture, made: ModelSpec) -> str:
    await models.models.add(made)
    try:
        with pytest.raises(PorticoError) as error_info:
            await models.models.load(made.name)
    finally:
        await models.models.remove(made.name)
    return error_info.value.message


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"config.json": '{"model_type": "bert"}', "pytorch_model.bin": "x"},
            "pickled weights, because they can run code",
        ),
        ({"config.json": '{"model_type": "bert"}'}, "neither a GGUF nor a safetensors model"),
        ({"config.json": "[]", "model.safetensors": "x"}, "is not a JSON object"),
    ],
)
async def test_a_folder_without_a_valid_model_is_refused_with_a_reason(
    models: ModelFixture, tmp_path: Path, files: dict[str, str], words: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert words in await refused(models, spec("x", tmp_path))


@pytest.mark.slow
async def test_code_beside_a_model_is_never_run(models: ModelFixture, tmp_path: Path) -> None:
    shutil.copytree(environment.models() / "embedding-mean", tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    code = {"model_type": "homemade", "auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}}
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, **code}))
    (tmp_path / "m" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "its own Python code, which Portico does not run" in await refused(
        models, spec("x", tmp_path / "m")
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
async def test_a_model_without_the_head_for_a_task_is_refused(models: ModelFixture) -> None:
    message = await refused(models, spec("x", environment.models() / "embedding-mean", task="rerank"))
    assert "classifier" in message and "is missing" in message


async def test_without_the_engine_environment_the_error_names_the_install_command(
    models: ModelFixture,
) -> None:
    model_spec = ModelSpec("x", str(environment.models() / "chat"), engine="transformers")
    await models.models.add(model_spec)
    with pytest.raises(Unavailable, match="portico engines install transformers"):
        await models.models.load("x")
    await models.models.remove("x")


# --- life ---------------------------------------------------------------------------------------------------


async def test_the_worker_process_ends_when_the_model_is_unloaded(models: ModelFixture) -> None:
    await models.ask("judge", {"query": "ships", "documents": TEXTS}, "rerank")
    pid = models.models.get("judge").pid
    assert pid is not None and psutil.pid_exists(pid)
    worker = psutil.Process(pid)
    assert not any(
        "portico_server" in module for module in worker.environ().get("PYTHONPATH", "").split(":")[1:]
    )
    await models.models.unload("judge")
    dead_processes, alive = await asyncio.to_thread(psutil.wait_procs, [worker], 10)
    assert dead_processes and not alive
