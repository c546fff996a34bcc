"""The engine `a2a` against agents that disconnect, forget, flood, hang or send nonsense: one clear error each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from aiohttp import web
from tests.server.features.a2a.engine.agents import card_of, raw_agent
from tests.server.features.a2a.engine.test_agent import failure, said, turns

from portico.testing.model_fixture import ModelFixture, user
from portico_server.core.errors import DeadlineExceeded, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.features.a2a.engine import client, link
from portico_server.features.a2a.engine.answer import AgentAnswer
from portico_server.models.spec import ModelSpec


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_POLL_S", 0.0)


def reply(result: Any) -> web.Response:
    return web.Response(body=orjson.dumps({"jsonrpc": "2.0", "id": "1", "result": result}))


def refusal(code: int, message: str = "No.") -> web.Response:
    error = {"code": code, "message": message}
    return web.Response(body=orjson.dumps({"jsonrpc": "2.0", "id": "1", "error": error}))


async def events(
    request: web.Request, *results: Any, hang: asyncio.Event | None = None
) -> web.StreamResponse:
    """Return a stream that ends after these results, or never."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for result in results:
        data = (
            result
            if isinstance(result, bytes)
            else orjson.dumps({"jsonrpc": "2.0", "id": "1", "result": result})
        )
        await response.write(b"data: " + data + b"\n\n")
    if hang is not None:
        await hang.wait()
    return response


def task(state: str = "WORKING", *artifacts: str) -> dict[str, Any]:
    documents = [{"artifactId": str(n), "parts": [{"text": text}]} for n, text in enumerate(artifacts)]
    return {"id": "t", "contextId": "c", "status": {"state": f"TASK_STATE_{state}"}, "artifacts": documents}


def artifact(text: str, *, append: bool = False) -> dict[str, Any]:
    document = {"artifactId": "0", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": document, "append": append}}


def status(state: str, task_id: str = "t") -> dict[str, Any]:
    return {"statusUpdate": {"taskId": task_id, "contextId": "c", "status": {"state": f"TASK_STATE_{state}"}}}


class Script:
    """Answers each method with the answers of the test in order, repeating the last; ``heard`` are the calls."""

    def __init__(self, **answers: Sequence[Any]) -> None:
        self.answers = answers
        self.heard: list[tuple[str, Any]] = []

    async def __call__(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        method = body["method"]
        count = sum(name == method for name, _params in self.heard)
        self.heard.append((method, body["params"]))
        answers = self.answers.get(method, [refusal(-32601)])
        answer = answers[min(count, len(answers) - 1)]
        if isinstance(answer, list):
            return await events(request, *answer)
        if isinstance(answer, web.Response):
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        return reply(answer)

    @property
    def methods(self) -> list[str]:
        return [name for name, _params in self.heard]


async def test_a_stream_that_breaks_off_is_taken_up_again_and_nothing_is_said_twice(
    models: ModelFixture,
) -> None:
    script = Script(
        SendStreamingMessage=[[{"task": task()}, artifact("one"), status("COMPLETED", "another")]],
        GetTask=[task("WORKING", "one tw")],
        SubscribeToTask=[
            [{"task": task("WORKING")}, artifact("on"), artifact("e two", append=True)],
            [artifact("one two"), artifact(" three", append=True), status("COMPLETED")],
        ],
    )
    async with raw_agent(script) as source:
        await models.models.add(ModelSpec("desk", source))
        assert said(await models.ask("desk", {"messages": user("hello")})) == "one two three"
    assert "CancelTask" not in script.methods


async def test_an_agent_that_breaks_off_for_ever_is_given_up_and_its_task_cancelled(
    models: ModelFixture,
) -> None:
    script = Script(
        SendStreamingMessage=[[{"task": task()}]],
        GetTask=[task()],
        SubscribeToTask=[[status("WORKING")]],
        CancelTask=[task("CANCELED")],
    )
    async with raw_agent(script) as source:
        await models.models.add(ModelSpec("desk", source))
        error = await failure(models, {"messages": user("hello")})
    assert error.code == "upstream_unreachable" and script.methods[-1] == "CancelTask"
    assert script.methods.count("SubscribeToTask") == client.MAX_LOST_COUNT + 1


async def test_an_agent_without_the_conversation_is_sent_all_of_its_messages(models: ModelFixture) -> None:
    question_task = {"task": task("INPUT_REQUIRED")}
    script = Script(
        SendStreamingMessage=[[question_task], refusal(-32001), [{"message": {"parts": [{"text": "Ah."}]}}]]
    )
    async with raw_agent(script) as source:
        await models.models.add(ModelSpec("desk", source))
        question = said(await models.ask("desk", {"messages": user("book a room")}))
        assert said(await models.ask("desk", {"messages": turns("book a room", question, "Monday")})) == "Ah."
        _first, continued, full_message = [params["message"] for _method, params in script.heard]
        assert (continued["taskId"], continued["contextId"]) == ("t", "c") and len(continued["parts"]) == 1
        assert (
            "taskId" not in full_message
            and "contextId" not in full_message
            and "book a room" in full_message["parts"][0]["text"]
        )
        assert len(script.heard) == 3


FLOOD = {"message": {"parts": [{"text": "x" * 3_000}]}}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([], "invalid_agent_answer"),
        ([b"{"], "invalid_agent_answer"),
        ([b"[]"], "invalid_agent_answer"),
        ([None], "invalid_agent_answer"),
        ([b'{"error": {"code": "x", "message": {"a": 1}, "data": [7]}}'], "agent_refused"),
        ([FLOOD], "answer_too_large"),
        ([status("WORKING")] * 100, "answer_too_large"),
        ([b"[" + b"0," * 200 + b"0]"], "answer_too_large"),
        ([{"task": task("WORKING", *"abcdefgh")}], "answer_too_large"),
        (web.Response(body=b"<html>"), "invalid_agent_answer"),
        (web.Response(body=b"x" * 3_000), "answer_too_large"),
        (web.Response(status=302, headers={"Location": "http://169.254.169.254/"}), "agent_redirects"),
        (web.Response(status=404, body=b"nothing"), "agent_failed"),
        (web.Response(status=403, body=b'{"error": {"message": "Not you."}}'), "agent_key_refused"),
        (web.Response(status=429, headers={"Retry-After": "7"}), "provider_limit"),
        (web.Response(status=503, headers={"Retry-After": "7"}), "unavailable"),
        (web.Response(status=500, body=b'{"error": {"code": 500, "message": "Oh."}}'), "agent_refused"),
        (refusal(-32005), "content_type_not_supported"),
        (refusal(-32603), "agent_refused"),
    ],
)
async def test_nonsense_and_floods_are_one_error(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch, answer: Any, code: str
) -> None:
    monkeypatch.setattr(link, "MAX_EVENT_BYTES", 2_000)
    monkeypatch.setattr(link, "MAX_ANSWER_BYTES", 8_000)
    monkeypatch.setattr(link, "MAX_VALUES_COUNT", 100)
    monkeypatch.setattr("portico_server.features.a2a.engine.answer.MAX_ARTIFACTS_COUNT", 4)
    async with raw_agent(Script(SendStreamingMessage=[answer])) as source:
        await models.models.add(ModelSpec("desk", source))
        error = await failure(models, {"messages": user("hello"), "stream": True})
    assert error.code == code, (error.code, error.message)
    if code in ("provider_limit", "unavailable"):
        assert error.retry_after == 7


ODD = [
    {
        "message": {
            "parts": [7, {"text": 7}, {"raw": "?"}, {"raw": 1}, {"url": 2}, {"data": None}, {"text": "ok"}]
        }
    },
    {
        "message": {
            "parts": {"text": "x"},
            "metadata": {"usage": {"input_tokens": 1e300, "output_tokens": -1}},
        }
    },
    {"task": {"id": 7, "status": {"state": 7}, "artifacts": {"a": 1}, "history": 7}},
    {"task": {"id": "t", "status": "done", "artifacts": [7, {"parts": 7}], "metadata": 7}},
    {"statusUpdate": {"taskId": ["t"], "status": {"state": "TASK_STATE_COMPLETED", "message": 7}}},
    {"artifactUpdate": {"taskId": "t", "artifact": 7}},
    {"unknown": 1},
    orjson.Fragment(b'{"message": {"parts": [{"data": ' + b"[" * 400 + b"]" * 400 + b"}]}}"),
]


@pytest.mark.parametrize("odd", ODD)
async def test_odd_shapes_are_an_answer_or_an_error_but_never_a_crash(models: ModelFixture, odd: Any) -> None:
    script = Script(SendStreamingMessage=[[odd]], GetTask=[refusal(-32001)])
    async with raw_agent(script) as source:
        await models.models.add(ModelSpec("desk", source))
        answers = await asyncio.gather(
            models.ask("desk", {"messages": user("hello")}), return_exceptions=True
        )
    for outcome in answers:
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, PorticoError) and outcome.code in (
                "invalid_agent_answer",
                "agent_refused",
            )
        else:
            assert outcome["usage"]["prompt_tokens"] == 0


def test_repeated_artifact_pieces_are_read_in_linear_time() -> None:
    # Comparing the whole text with each piece would take minutes.
    answer = AgentAnswer("desk", str)

    def said(text: str, *, append: bool) -> str:
        return "".join(piece.text for piece in answer.read(artifact(text, append=append)))

    full_text = "x" * 10_000_000
    assert said(full_text, append=False) == full_text and said("", append=False) == ""
    assert not any(said("x", append=True) for _ in range(50_000))
    assert said("x" * (len(full_text) - 50_000) + "new", append=True) == "new"


async def test_an_agent_that_says_something_else_each_time_it_is_asked_is_cut_off(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.features.a2a.engine.answer.MAX_ANSWER_CHARS", 1_000)
    task_versions = [task("WORKING", f"{number}{'x' * 100}") for number in range(100)]
    script = Script(SendMessage=[{"task": task()}], GetTask=task_versions, CancelTask=[task("CANCELED")])
    async with raw_agent(script, capabilities={}) as source:
        await models.models.add(ModelSpec("desk", source))
        error = await failure(models, {"messages": user("hello")})
    assert error.code == "answer_too_large" and script.methods.count("GetTask") < 20


async def test_silence_in_the_middle_counts_as_broken(models: ModelFixture) -> None:
    never = asyncio.Event()

    async def hang(request: web.Request, _body: Any = None) -> web.StreamResponse:
        return await events(request, b"", hang=never)

    impatient = {"stall_timeout": 0.05}
    async with raw_agent(hang) as silent, raw_agent(hang, hang) as mute:
        try:
            for name, source in (("desk", silent), ("mute", mute)):
                await models.models.add(ModelSpec(name, source, parameters=impatient))
                with pytest.raises(PorticoError) as error_info:
                    await models.ask(name, {"messages": user("hello")})
                assert error_info.value.code == "upstream_unreachable"
        finally:
            never.set()


async def test_an_agent_that_never_ends_is_left_at_the_deadline(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_POLL_S", 1_000.0)  # beyond every deadline
    script = Script(SendMessage=[{"task": task()}], CancelTask=[task("CANCELED")])
    async with raw_agent(script, capabilities={}) as source:
        await models.models.add(ModelSpec("desk", source))
        assert isinstance(await failure(models, {"messages": user("hello")}), DeadlineExceeded)
    assert script.methods == ["SendMessage", "CancelTask"]


async def test_the_agent_card_is_refreshed_and_kept_when_it_disappears(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CARD_AGE_S", 0.0)
    monkeypatch.setattr(client, "CARD_RETRY_S", 0.0)
    script = Script(SendStreamingMessage=[[{"message": {"parts": [{"text": "ok"}]}}]])
    card_document: dict[str, Any] = {}
    async with raw_agent(script, card_document) as source:
        card_document |= card_of(source.removeprefix("a2a+"))
        await models.models.add(ModelSpec("desk", source))
        for description, current_description in (
            ("First.", "First."),
            ("Second.", "Second."),
            (None, "Second."),
        ):
            if description is None:
                card_document.clear()
            else:
                card_document["description"] = description
            assert said(await models.ask("desk", {"messages": user("hello")})) == "ok"
            assert (await models.registry.resolve("desk", LOCAL)).card.description == current_description
