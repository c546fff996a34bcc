"""LMDeploy's own command line, server, parsers and templates under the daemon; the test generates only the tokens.

``PORTICO_TEST_LMDEPLOY`` is an interpreter that has LMDeploy; it needs no GPU. The contract of engines also runs
against it: ``tests/server/models/engines/test_contract.py``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.server.features.gpu_engines.lmdeploy import environment
from tests.server.models.adapters import peft_files

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.models.spec import ModelSpec

pytestmark = [
    environment.needed,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

LIGHT = {
    "type": "function",
    "function": {
        "name": "light",
        "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
    },
}
CALL = '<tool_call>\n{"name": "light", "arguments": {"on": true}}\n</tool_call>'

TEMPLATE = (
    "{% if tools %}tools: {{ tools | length }}\n{% endif %}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n"
    "{% endfor %}assistant:"
)
"""Template of a model that supports tools."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelFixture]:
    """Yield ``m`` on the turbomind backend, whose template has no tools, and ``p`` on pytorch, which has parsers."""
    home: Path = tmp_path_factory.mktemp("real")
    models_folder = await asyncio.to_thread(environment.models, home)
    async with model_fixture(home, load_timeout=120.0) as fixture:
        parameters = {"context_length": 512, "max_sequences": 4, "python": environment.interpreter(home)}
        await fixture.models.add(
            ModelSpec("m", str(models_folder / "chat"), engine="lmdeploy", parameters=parameters)
        )
        knows = await asyncio.to_thread(
            environment.thinking, models_folder / "chat", home / "knows", TEMPLATE
        )
        parsers = {"backend": "pytorch", "tool_call_parser": "qwen3", "reasoning_parser": "qwen-qwq"}
        await fixture.models.add(
            ModelSpec("p", str(knows), engine="lmdeploy", parameters={**parameters, **parsers})
        )
        await fixture.models.load("m")
        yield fixture


def sessions(models: ModelFixture, name: str = "m") -> list[str]:
    """Return how the calls to LMDeploy ended, in order."""
    matches = (re.fullmatch(r"session \d+ (.*)", line) for line in models.models.logs(name, 1000))
    return [
        session_match[1]
        for session_match in matches
        if session_match is not None and "begins" not in session_match[1]
    ]


async def test_a_stop_of_several_tokens_ends_the_call_and_is_counted(models: ModelFixture) -> None:
    text = "one two three the end of the story and more of it, much more of it"
    body = {"messages": user(f"<<{text}>>"), "stop": ["end of", "never said"], "max_tokens": 400}
    answer = await models.ask("m", body)
    [choice] = answer["choices"]
    assert choice["message"]["content"] == "one two three the " and choice["finish_reason"] == "stop"
    assert 0 < answer["usage"]["completion_tokens"] < 40 and answer["usage"]["prompt_tokens"] > 0
    async with asyncio.timeout(60):
        while not any(end.startswith("was cancelled") for end in sessions(models)):
            await models.ask("m", {"messages": user("<<next>>")})
    streamed = await models.stream("m", body)
    assert streamed.text() == "one two three the " and streamed.done and streamed.finishes() == {0: "stop"}
    near_stop_body = {**body, "stop": "it, much less"}
    assert (await models.ask("m", near_stop_body))["choices"][0]["message"]["content"] == text, (
        "what was held back comes"
    )


async def test_leaving_a_stream_ends_the_session(models: ModelFixture) -> None:
    relayed = await models.relay("m", {"messages": user("Tell me."), "stream": True})
    async for _chunk in relayed.chunks:
        break
    count_before = len(sessions(models))
    await relayed.chunks.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        while len(sessions(models)) == count_before:
            await models.ask("m", {"messages": user("<<next>>")})
    ends = sessions(models)[count_before:]
    assert any(end.startswith(("was cancelled", "was left")) for end in ends)


async def test_parallel_prompts_keep_their_choice_indexes(models: ModelFixture) -> None:
    body = {"prompt": ["<<first>>", "<<second>>"], "max_tokens": 20}
    streamed = await models.stream("m", body, "completions")
    assert [streamed.text(0), streamed.text(1)] == ["first", "second"]
    answer = await models.ask("m", {**body, "n": 2, "stop": "cond"}, "completions")
    assert [choice["text"] for choice in answer["choices"]] == ["first", "first", "se", "se"]
    assert answer["id"].startswith("cmpl-")
    long = await models.ask("m", {"prompt": "Tell me"}, "completions")
    assert long["usage"]["completion_tokens"] <= 16, "OpenAI's default"


@pytest.mark.parametrize(
    ("operation", "body", "param"),
    [
        ("chat/completions", {"messages": user("hi"), "presence_penalty": 0.5}, "presence_penalty"),
        ("completions", {"prompt": "hi", "frequency_penalty": 0.5}, "frequency_penalty"),
        ("chat/completions", {"messages": user("hi"), "logit_bias": {"5": 10}}, "logit_bias"),
        ("completions", {"prompt": "hi", "logprobs": 2}, "logprobs"),
        ("completions", {"prompt": [5, 6]}, "prompt"),
        ("completions", {"prompt": "hi", "echo": True}, "echo"),
    ],
)
async def test_fields_that_lmdeploy_would_ignore_are_refused(
    models: ModelFixture, operation: Any, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        await models.relay("m", body, operation)
    assert error_info.value.param == param


async def test_zero_penalties_and_lmdeploys_internal_fields_are_harmless(models: ModelFixture) -> None:
    body = {"messages": user("<<fine>>"), "presence_penalty": 0, "frequency_penalty": 0.0}
    for extra_fields in (
        {"session_id": 7, "with_cache": True, "migration_request": {"x": 1}},
        {"stop": None},
    ):
        assert (await models.ask("m", {**body, **extra_fields}))["choices"][0]["message"]["content"] == "fine"


async def test_lmdeploys_refusals_are_returned_as_openai_errors(models: ModelFixture) -> None:
    for body, says in (
        ({"messages": user("hi"), "temperature": 9}, "temperature 9"),
        ({"messages": user("hi"), "reasoning_effort": "minimal"}, "reasoning_effort"),
        ({"messages": user("hi"), "max_tokens": -1}, "max_tokens -1"),
    ):
        with pytest.raises(PorticoError, match=re.escape(says)) as error_info:
            await models.relay("m", body)
        error = error_info.value
        assert (error.status, error.type, error.code) == (400, "invalid_request_error", None)


async def test_tools_work_without_a_chat_template_that_supports_them(models: ModelFixture) -> None:
    body = {"messages": user("Light on!"), "tools": [LIGHT], "max_tokens": 100, "temperature": 0}
    [choice] = (await models.ask("m", body))["choices"]
    message = choice["message"]
    assert message["content"] or json.loads(message["tool_calls"][0]["function"]["arguments"])


async def test_tool_calls_and_reasoning_are_parsed_from_model_output(models: ModelFixture) -> None:
    await models.models.load("p")
    body = {"messages": user(f"<<I think.</think>So be it. {CALL}>>"), "tools": [LIGHT], "max_tokens": 300}
    [choice] = (await models.ask("p", body))["choices"]
    message = choice["message"]
    assert message["reasoning_content"] == "I think." and message["content"].strip() == "So be it."
    [call] = message["tool_calls"]
    assert call["id"].startswith("call_") and call["function"]["name"] == "light"
    assert (
        json.loads(call["function"]["arguments"]) == {"on": True} and choice["finish_reason"] == "tool_calls"
    )
    streamed = await models.stream("p", {**body, "stop": ["never"]})
    assert streamed.text().strip() == "So be it." and streamed.finishes() == {0: "tool_calls"}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": LIGHT["function"]["parameters"]}}
    schema_body = {"messages": user("Light on!"), "response_format": schema, "max_tokens": 200}
    assert json.loads((await models.ask("p", schema_body))["choices"][0]["message"]["content"])["on"] in (
        True,
        False,
    )
    forced = {**body, "messages": user("Light on!"), "tool_choice": "required"}
    [choice] = (await models.ask("p", forced))["choices"]
    assert isinstance(json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])["on"], bool)
    biased = {"messages": user("hi"), "logit_bias": {"5": 100}, "max_tokens": 3, "temperature": 0}
    assert (await models.ask("p", biased))["usage"]["completion_tokens"] == 3
    answer = await models.ask("p", {"messages": user("hi"), "logprobs": True, "max_tokens": 2})
    assert len(answer["choices"][0]["logprobs"]["content"]) == 2


async def test_adapters_answer_beside_their_base_model(models: ModelFixture, tmp_path: Path) -> None:
    layers = {f"self_attn.{part}": shape for part, shape in (("q_proj", (64, 64)), ("v_proj", (64, 32)))}
    newer = {"use_rslora": True, "target_modules": "all-linear", "arrow_config": None, "lora_bias": False}
    adapters = {"ft:m:x": newer, "other": {}}
    await models.models.unload("m")  # started once for both models
    for seed, (name, config) in enumerate(adapters.items()):
        matrices = peft_files.pairs(2, layers, 4, seed=seed, size=5.0)
        await models.models.adapters.add(
            "m", peft_files.write(tmp_path / str(seed), matrices, **config), name
        )

    async def top(name: str) -> list[float]:
        body = {
            "messages": user("hello"),
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": 5,
            "temperature": 0,
        }
        answer = await models.ask(name, body)
        assert answer["model"] == name
        return [
            candidate["logprob"]
            for candidate in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        ]

    await models.models.load("m")  # longer than the time limit of a call
    base, first, second = [await top(name) for name in ("m", *adapters)]
    assert len(base) == 5 and base != first != second != base
    await models.models.adapters.scale("ft:m:x", 0)
    await models.models.load("m")
    assert await top("ft:m:x") == pytest.approx(base, abs=1e-3)
    await models.models.unload("m")
    for name in adapters:
        await models.models.adapters.remove(name)
    await models.models.load("m")
    assert await top("m") == pytest.approx(base, abs=1e-3)


async def test_an_adapter_that_leaves_out_layers_is_refused(models: ModelFixture, tmp_path: Path) -> None:
    folder = peft_files.write(tmp_path / "a", peft_files.pairs(1, {"self_attn.q_proj": (64, 64)}, 4))
    with pytest.raises(InvalidRequest, match=r"leaves out 'model.layers.1.self_attn.q_proj' \(1 in all\)"):
        await models.models.adapters.add("m", folder, "half")


async def test_a_lost_gpu_ends_the_process_and_the_next_call_starts_another(models: ModelFixture) -> None:
    await models.models.load("m")
    pid = models.models.get("m").pid
    with pytest.raises(EngineFailed, match="internal server error"):
        await models.relay("m", {"messages": user("fill the memory")})
    assert (await models.ask("m", {"messages": user("<<well>>")}))["choices"], "a call alone has failed"
    async with asyncio.timeout(60):
        while True:  # LMDeploy checks its state periodically
            with pytest.raises(EngineFailed) as error_info:
                await models.relay("m", {"messages": user("break the engine"), "stream": True})
            if error_info.value.code == "engine_lost":
                break
    await models.models.load("m")
    assert (await models.ask("m", {"messages": user("<<well>>")}))["choices"]
    assert models.models.get("m").pid != pid


async def test_the_reason_for_a_failed_start_is_quoted(models: ModelFixture) -> None:
    home = models.settings.home
    parameters = {"max_sequences": 4, "python": environment.interpreter(home), "tool_call_parser": "hermes"}
    folder = str(environment.models(home) / "chat")
    await models.models.add(ModelSpec("bad", folder, engine="lmdeploy", parameters=parameters))
    try:
        with pytest.raises(PorticoError, match="The tool parser hermes is not in the parser list"):
            await models.models.load("bad")
    finally:
        await models.models.remove("bad")
