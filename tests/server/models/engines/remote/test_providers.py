"""The presets: where requests go, with which key, and how they are adapted to each provider."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.server.models.engines.remote.provider import Answer, completion, embeddings, serving

from portico.testing.model_fixture import ModelFixture, user
from portico.testing.providers import PROVIDER_CHECKS, ProviderCheck
from portico.wire import Usage
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.models.engines.openai_client.quirks import Quirks, fit_body
from portico_server.models.engines.remote.providers import PROVIDERS
from portico_server.models.engines.remote.target import PARAMETERS, find_target
from portico_server.models.spec import ModelSpec

ROOT = Path(__file__).parents[5]


def spec(source: str, key: str = "", **parameters: Any) -> ModelSpec:
    return ModelSpec("m", source, api_key=key, parameters=parameters)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("check", PROVIDER_CHECKS, ids=lambda check: check.__name__)
def test_every_provider_preset_passes_the_provider_checks(name: str, check: ProviderCheck) -> None:
    check(name)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_preset_and_parameter_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    provider = PROVIDERS[name]
    assert f"| `{name}` |" in page
    assert all(f"`{word}`" in page for word in (provider.key, provider.address) if word)
    assert all(f"`{parameter}`" in page for parameter in PARAMETERS)


def test_provider_addresses_come_from_preset_environment_or_parameter() -> None:
    def url(source: str, environment: dict[str, str] | None = None, **parameters: Any) -> str:
        return find_target(spec(source, "k", **parameters), environment or {}).endpoint.url

    assert url("remote://openai/x") == "https://api.openai.com/v1"
    assert (
        url("remote://openai/x", {"OPENAI_BASE_URL": "http://proxy.example/v1/"}) == "http://proxy.example/v1"
    )
    azure = {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/"}
    assert url("remote://azure/mine", azure) == "https://me.openai.azure.com/openai/v1"
    assert url("remote://azure/mine", base_url="https://a.example/openai/v1") == "https://a.example/openai/v1"
    assert url("https://a.example/v1#x") == "https://a.example/v1"


@pytest.mark.parametrize(
    ("source", "parameters", "param"),
    [
        ("remote://azure/x", {}, "parameters.base_url"),
        ("remote://openai/x", {"base_url": "ftp://x"}, "parameters.base_url"),
        ("remote://openai/x", {"retires": 1}, "parameters.retires"),
        ("remote://openai/x", {"retries": 1.5}, "parameters.retries"),
        ("remote://openai/x", {"retries": -1}, "parameters.retries"),
        ("remote://openai/x", {"stall_timeout": "long"}, "parameters.stall_timeout"),
        ("remote://openai/x", {"fallback": [1]}, "parameters.fallback"),
        ("remote://openai/x", {"fallback": "m"}, "parameters.fallback"),
        ("remote://openai/x", {"headers": {"a": 1}}, "parameters.headers"),
        ("remote://openai/x", {"tuning": "opnai"}, "parameters.tuning"),
        ("remote://openai/x", {"training_price": "8"}, "parameters.training_price"),
    ],
)
def test_invalid_provider_parameters_are_refused_by_name(
    source: str, parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        find_target(spec(source, **parameters), {})
    assert error_info.value.param == param


CHAT = {"messages": user("hi"), "temperature": None, "max_completion_tokens": 5, "store": True, "user": "u"}


def test_without_quirks_only_null_fields_are_removed() -> None:
    assert fit_body(CHAT, "chat/completions", Quirks(), "m") == {
        k: v for k, v in CHAT.items() if v is not None
    }


@pytest.mark.parametrize(
    ("provider", "given", "sent"),
    [
        ("openai", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", {"max_tokens": 5, "max_completion_tokens": 6}, {"max_completion_tokens": 6}),
        ("deepseek", {"max_completion_tokens": 5, "store": True}, {"max_tokens": 5}),
        ("mistral", {"seed": 1, "stream_options": {"include_usage": True}}, {"random_seed": 1}),
        ("sensenova", {"thinking": {}, "x": 1, "max_completion_tokens": 2}, {"max_tokens": 2}),
        ("sensenova", {"response_format": {"type": "text"}}, {}),
        ("gemini", {"parallel_tool_calls": True, "metadata": {"a": "b"}}, {}),
        ("openrouter", {"provider": {"order": ["x"]}}, {"provider": {"order": ["x"]}}),
    ],
)
def test_fields_are_renamed_and_dropped(provider: str, given: dict[str, Any], sent: dict[str, Any]) -> None:
    assert fit_body(given, "chat/completions", PROVIDERS[provider].quirks, "m") | {"messages": []} == {
        **sent,
        "messages": [],
    }


@pytest.mark.parametrize(
    ("provider", "field", "value"),
    [
        ("sensenova", "response_format", {"type": "json_object"}),
        ("groq", "logprobs", True),
        ("mistral", "logit_bias", {"5": 1}),
    ],
)
def test_an_unsupported_parameter_is_refused_instead_of_dropped(
    provider: str, field: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        fit_body({field: value}, "chat/completions", PROVIDERS[provider].quirks, "m")
    assert error_info.value.param == field and error_info.value.code == "unsupported_parameter"


def test_roles_and_tools_are_adapted_to_the_provider() -> None:
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}
    body = {"messages": [{"role": "developer", "content": "a"}], "tools": [tool]}
    fitted = fit_body(body, "chat/completions", PROVIDERS["sensenova"].quirks, "m")
    assert fitted["messages"] == [{"role": "system", "content": "a"}]
    assert fitted["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert tool["function"] == {"name": "f", "strict": True, "parameters": {}}


async def test_a_preset_reaches_its_address_with_its_key_and_dialect(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    async with serving(Answer(completion())) as provider:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", provider.url)
        await models.models.add(ModelSpec("m", "remote://azure/my-gpt"))
        answer = await models.ask("m", {"messages": user("hi"), "max_tokens": 5})
    assert answer["choices"][0]["message"]["content"] == "hello"
    assert provider.paths == ["/openai/v1/chat/completions"]
    assert provider.headers[0]["api-key"] == "azure-key" and "Authorization" not in provider.headers[0]
    assert provider.bodies[0] == {"model": "my-gpt", "messages": user("hi"), "max_completion_tokens": 5}


async def test_embeddings_are_batched_and_encoded_for_servers_that_support_neither(
    models: ModelFixture,
) -> None:
    texts = [str(number) for number in range(12)]
    first = embeddings(*([float(n), 1.0] for n in range(10)))
    async with serving(Answer(first), Answer(embeddings([10.0, 1.0], [11.0, 1.0]))) as provider:
        await models.models.add(
            ModelSpec(
                "e",
                "remote://dashscope/text-embedding-v4",
                api_key="k",
                parameters={"base_url": provider.url},
            )
        )
        relayed = await models.relay("e", {"input": texts, "encoding_format": "base64"}, "embeddings")
        document = orjson.loads(b"".join([chunk async for chunk in relayed.chunks]))
    assert [len(body["input"]) for body in provider.bodies] == [10, 2]
    assert all(body["encoding_format"] == "float" for body in provider.bodies)
    vectors = [struct.unpack("<2f", base64.b64decode(row["embedding"])) for row in document["data"]]
    assert vectors == [(float(n), 1.0) for n in range(12)]
    assert [row["index"] for row in document["data"]] == list(range(12))
    assert relayed.usage == Usage(12) and document["usage"]["prompt_tokens"] == 12


async def test_vectors_that_are_missing_are_an_error(models: ModelFixture) -> None:
    async with serving(Answer(embeddings([1.0]))) as provider:
        parameters = {"base_url": provider.url}
        await models.models.add(ModelSpec("e", "remote://ollama/nomic-embed-text", parameters=parameters))
        with pytest.raises(EngineFailed, match="1 vectors for 2 texts"):
            await models.relay("e", {"input": ["a", "b"], "encoding_format": "base64"}, "embeddings")
