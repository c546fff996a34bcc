"""The engine `a2a` against the official SDK's server: chats become messages, tasks become answers."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from tests.server.features.a2a.engine.agents import KEY, card_of, raw_agent, sdk_agent

from portico.testing.model_fixture import ModelFixture, user
from portico.wire import Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.models.spec import ModelSpec


def said(got: Any) -> str:
    return str(got["choices"][0]["message"]["content"])


def turns(*texts: str) -> list[dict[str, Any]]:
    """Return the alternating messages of a person and an agent."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


async def failure(models: ModelFixture, body: Any) -> PorticoError:
    with pytest.raises(PorticoError) as error_info:
        await models.ask("desk", body)
    return error_info.value


@pytest.mark.parametrize(
    ("binding", "streaming"),
    [("JSONRPC", True), ("JSONRPC", False), ("HTTP+JSON", True), ("HTTP+JSON", False)],
)
async def test_a_follow_up_turn_continues_the_agents_context_with_new_messages_only(
    models: ModelFixture, binding: str, streaming: bool
) -> None:
    async with sdk_agent(binding=binding, capabilities={"streaming": streaming}) as agent:
        await models.models.add(ModelSpec("desk", agent.source))
        first = await models.ask("desk", {"messages": user("one two three")})
        assert said(first) == "one two three"
        streamed = await models.stream("desk", {"messages": turns("one two three", "one two three", "four")})
        assert (streamed.text(), streamed.finishes(), streamed.done) == ("four", {0: "stop"}, True)
        # The second message continues the context of the first and contains only what is new.
        _first, again = agent.desk.heard
        assert again["contextId"] and [part["text"] for part in again["parts"]] == ["four"]
        # Another chat with the same beginning is a separate conversation, which the agent receives in full.
        separate_answer = await models.ask(
            "desk",
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    *turns("one two three", "one two three", "five"),
                ]
            },
        )
        assert said(separate_answer) == "five" and agent.desk.heard[2]["contextId"] != again["contextId"]
        assert agent.desk.heard[2]["parts"][0]["text"] == (
            "Instructions:\nBe brief.\n\nThe conversation so far:\nUser: one two three\nYou: one two three\n\nUser:"
        )
        # The agent's question is the answer; the next message continues the task.
        question = await models.ask("desk", {"messages": user("book a room")})
        assert said(question) == "Which day?"
        assert (
            said(await models.ask("desk", {"messages": turns("book a room", "Which day?", "Monday")}))
            == "Monday"
        )
        assert agent.desk.heard[4]["taskId"] and agent.desk.heard[4]["contextId"]
        assert said(await models.ask("desk", {"messages": user("plain")})) == "Just a message."
        assert said(await models.ask("desk", {"messages": user("silent")})) == "Said at the end."
        for word, status, code in (
            ("fail", 502, "task_failed"),
            ("reject", 400, "task_rejected"),
            ("signin", 502, "agent_auth_required"),
        ):
            error = await failure(models, {"messages": user(word)})
            assert (error.status, error.code) == (status, code), error.message
        if streaming:
            assert first["choices"][0]["message"]["reasoning_content"] == "Thinking.\n"
            assert (first["usage"]["prompt_tokens"], first["usage"]["completion_tokens"]) == (3, 3)
            assert streamed.usage == Usage(3, 1)
        assert {path for path, _headers in agent.requests} >= {"/desk/.well-known/agent-card.json"}
        assert all(headers["a2a-version"] == "1.0" for _path, headers in agent.requests)


async def test_the_agent_card_provides_the_models_description_and_capabilities(models: ModelFixture) -> None:
    async with sdk_agent() as agent:
        await models.models.add(ModelSpec("desk", agent.source))
        card_before = (await models.registry.resolve("desk", LOCAL)).card
        assert card_before.description == "" and "hosted" in card_before.capabilities
        await models.models.load("desk")
        card = (await models.registry.resolve("desk", LOCAL)).card
        assert card.description == "Books rooms." and {"chat", "vision", "files"} <= card.capabilities
        assert card.labels["agent"] == {
            "name": "The desk",
            "version": "2.1",
            "streaming": True,
            "input_modes": ["text/plain", "image/*", "application/pdf"],
            "output_modes": ["text/plain"],
            "skills": [{"id": "book", "name": "Book a room", "description": "By day."}],
        }


async def test_pictures_files_and_data_go_both_ways(models: ModelFixture) -> None:
    png, pdf = (base64.b64encode(data).decode() for data in (b"\x89PNG", b"%PDF-1.7"))
    async with sdk_agent() as agent:
        await models.models.add(ModelSpec("desk", agent.source))
        content = [
            {"type": "text", "text": "files please"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{pdf}"},
            },
        ]
        text = said(await models.ask("desk", {"messages": [{"role": "user", "content": content}]}))
        assert text == (
            'Here:\n{"rows":[1.0,2.0]}\n\n![a.png](data:image/png;base64,iVBORw==)\n\nnaïve\n'
            "\n[a.pdf](https://example.com/a%20b.pdf)\n"
        )
        assert agent.desk.heard[0]["parts"][1:] == [
            {"raw": png, "mediaType": "image/png"},
            {"url": "https://example.com/a.jpg", "mediaType": "image/jpeg"},
            {"raw": pdf, "mediaType": "application/pdf", "filename": "a.pdf"},
        ]
        sound = {"type": "input_audio", "input_audio": {"data": png, "format": "wav"}}
        invalid_image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}
        for part, code in (
            (sound, "content_type_not_supported"),
            (invalid_image, "invalid_value"),
            ({"type": "x"}, None),
        ):
            error = await failure(models, {"messages": [{"role": "user", "content": [part]}]})
            assert error.status == 400 and error.param and error.code in (code, "invalid_value"), (
                error.message
            )
        tool = {"type": "function", "function": {"name": "f"}}
        for parameters in (
            {"tools": [tool]},
            {"n": 2},
            {"response_format": {"type": "json_object"}},
            {"logprobs": True},
        ):
            error = await failure(models, {"messages": user("hi"), **parameters})
            assert (error.status, error.param) == (400, next(iter(parameters))), error.message
        assert len(agent.desk.heard) == 1


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_disconnected_callers_task_is_cancelled_at_the_agent(
    models: ModelFixture, streaming: bool
) -> None:
    async with sdk_agent(capabilities={"streaming": streaming}) as agent:
        await models.models.add(ModelSpec("desk", agent.source))
        if streaming:
            relayed = await models.relay("desk", {"messages": user("hang"), "stream": True})
            await anext(relayed.chunks)
            await relayed.chunks.aclose()  # type: ignore[attr-defined]
        else:
            call = asyncio.create_task(models.ask("desk", {"messages": user("hang")}))
            await agent.watched.wait()  # so that its task is known
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        async with asyncio.timeout(60):
            await agent.desk.cancelled.wait()


@pytest.mark.parametrize(
    ("header", "scheme"),
    [
        ("authorization", {"httpAuthSecurityScheme": {"scheme": "bearer"}}),
        ("x-desk-key", {"apiKeySecurityScheme": {"location": "header", "name": "X-Desk-Key"}}),
    ],
)
async def test_a_key_goes_where_the_card_says(models: ModelFixture, header: str, scheme: Any) -> None:
    security = {"securitySchemes": {"k": scheme}, "securityRequirements": [{"schemes": {"k": {"list": []}}}]}
    async with sdk_agent(header=header, **security) as agent:
        await models.models.add(ModelSpec("desk", agent.source, api_key=KEY))
        assert said(await models.ask("desk", {"messages": user("hello")})) == "hello"
        error = await failure(models, {"messages": user("fail")})
        assert KEY not in error.message and "Out of paper" in error.message
        card_headers, *call_headers = [headers for path, headers in agent.requests]
        assert KEY not in "".join(card_headers.values()) and all(
            KEY in headers[header] for headers in call_headers
        )
        for name, key, code in (
            ("keyless", "", "missing_provider_key"),
            ("wrong", "wrong-key", "agent_key_refused"),
        ):
            await models.models.add(ModelSpec(name, agent.source, api_key=key))
            with pytest.raises(PorticoError) as error_info:
                await models.ask(name, {"messages": user("hello")})
            assert error_info.value.code == code and "wrong-key" not in error_info.value.message


ELSEWHERE = {"url": "http://169.254.169.254/a2a", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}


def secured(scheme: Any) -> dict[str, Any]:
    return {"securitySchemes": {"k": scheme}, "securityRequirements": [{"schemes": {"k": {"list": []}}}]}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"supportedInterfaces": [ELSEWHERE]}, "agent_elsewhere"),
        ({"supportedInterfaces": [{**ELSEWHERE, "url": "file:///etc/passwd"}]}, "invalid_agent_card"),
        ({"supportedInterfaces": [{**ELSEWHERE, "protocolVersion": "0.3"}]}, "agent_unsupported"),
        ({"supportedInterfaces": [{**ELSEWHERE, "protocolBinding": "GRPC"}, 7]}, "agent_unsupported"),
        (
            {"supportedInterfaces": [{**ELSEWHERE, "url": "http://127.0.0.1/a\r\nX: 1 \x7f"}]},
            "invalid_agent_card",
        ),
        ({"supportedInterfaces": None, "url": "http://127.0.0.1"}, "invalid_agent_card"),
        ({"capabilities": {"extensions": [{"uri": "urn:x", "required": True}]}}, "agent_unsupported"),
        (secured({"oauth2SecurityScheme": {}}), "agent_auth_unsupported"),
        (secured({"mtlsSecurityScheme": {}}), "agent_auth_unsupported"),
        (secured({"apiKeySecurityScheme": {"location": "query", "name": "k"}}), "agent_auth_unsupported"),
        (secured({"apiKeySecurityScheme": {"location": "header", "name": "Host"}}), "agent_auth_unsupported"),
    ],
)
async def test_an_unusable_agent_card_is_refused_without_sending_a_message(
    models: ModelFixture, changes: Any, code: str
) -> None:
    async def never(_request: Any, _body: Any) -> Any:
        raise AssertionError("nothing is sent to it")

    async with raw_agent(never, **changes) as source:
        await models.models.add(ModelSpec("desk", source, api_key=KEY))
        error = await failure(models, {"messages": user("hello")})
        assert error.code == code and KEY not in error.message, error.message


async def test_the_base_url_parameter_overrides_the_message_address_of_the_card(models: ModelFixture) -> None:
    async with sdk_agent() as agent:
        elsewhere = card_of("http://10.0.0.1:1/a2a")

        async def never(_request: Any, _body: Any) -> Any:
            raise AssertionError("the card alone is here")

        async with raw_agent(never, elsewhere) as source:
            await models.models.add(ModelSpec("desk", source, parameters={"base_url": agent.url}))
            assert said(await models.ask("desk", {"messages": user("hello")})) == "hello"


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ({"source": "a2a+https://"}, "source"),
        ({"source": "a2a+https://user:pass@host"}, "source"),
        ({"source": "a2a+https://host?key=1"}, "source"),
        ({"source": "a2a+ftp://host"}, "source"),
        ({"source": "fake://", "engine": "a2a"}, "source"),
        ({"task": "embedding"}, "task"),
        ({"parameters": {"headers": ["x"]}}, "parameters.headers"),
        ({"parameters": {"base_url": "ftp://x"}}, "parameters.base_url"),
        ({"parameters": {"stall_timeout": 0}}, "parameters.stall_timeout"),
        ({"parameters": {"stal_timeout": 1}}, "parameters.stal_timeout"),
    ],
)
async def test_a_wrong_model_is_refused_with_the_field(models: ModelFixture, spec: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        await models.models.add(ModelSpec("desk", **{"source": "a2a+https://host", **spec}))
    assert error_info.value.param == param and "pass@" not in error_info.value.message


async def test_an_unreachable_agent_is_one_error(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("desk", "a2a+http://127.0.0.1:9", api_key=KEY))
    error = await failure(models, {"messages": user("hello")})
    assert (
        isinstance(error, EngineFailed) and error.code == "upstream_unreachable" and KEY not in error.message
    )
