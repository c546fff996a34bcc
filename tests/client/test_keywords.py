"""Every public callable of the SDK rejects unknown arguments and suggests the intended name."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import portico
from portico import AsyncClient, Client, Function, InvalidRequest, agent, flow
from portico.agent import Agent, Choice, Executor, Message, hooks, teams
from portico.agent.agent import Agent as AgentClass
from portico.model_options import CHAT_OPTIONS
from portico.spelling import nearest

FORWARDED = {
    "Stores.search",
    "Client.search",
    "AsyncClient.search",
    "Tools.add",
    "Mcp.add",
    "Prompts.save",
} | {
    "Evals.search",
    "Evals.plan_search",
}
"""Calls whose extra keywords are fields of a native body, which rejects unknown fields."""

FREE = {"pipeline", "parallel", "diverter", "graph", "tool", "template", "bind", "Step.bind", "Agent.forward"}
"""Calls with keywords chosen by the caller: names of steps, arguments, variables."""


def _of(owner: type[Any], name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for method, member in vars(owner).items():
        call = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(call) and (not method.startswith("_") or method in ("__init__", "__call__")):
            yield f"{name}.{method}", call


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    with Client("http://test") as client:
        groups = [*{type(group) for name, group in vars(client).items() if not name.startswith("_")}]
    for cls in (*groups, Client, AsyncClient, flow.Step, AgentClass, Executor, Message, Choice):
        yield from _of(cls, cls.__name__)
    yield from _of(AsyncClient, "AsyncClient")
    for cls in (hooks.Prefix, hooks.Redact, hooks.Guard, hooks.Limit, hooks.Code, teams.Human, agent.Handoff):
        yield from _of(cls, cls.__name__)
    for cls in (agent.Json, agent.Regex, agent.ToolParser):
        yield from _of(cls, cls.__name__)
    for module in (flow, teams):
        for name, member in vars(module).items():
            if (
                inspect.isfunction(member)
                and not name.startswith("_")
                and member.__module__ == module.__name__
            ):
                yield name, member
    yield "Function.of", Function.of


CALLS = {name: call for name, call in _public() if name not in FORWARDED | FREE and name != "flow_of"}


def _wait(answer: Any) -> None:
    if inspect.iscoroutine(answer):
        asyncio.run(answer)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_public_call_refuses_a_keyword_that_it_does_not_have(name: str) -> None:
    call = CALLS[name]
    parameters = [*inspect.signature(call).parameters.values()]
    keyword = next(
        (parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY), ""
    )
    wrong = f"{keyword}z" if keyword else "zz"
    positional = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    with pytest.raises(TypeError, match=f"'{wrong}'") as caught:
        _wait(call(*[str for _ in positional], **{wrong: 1}))
    assert isinstance(caught.value, InvalidRequest) and caught.value.param == wrong
    if keyword:
        assert f"'{keyword}'" in str(caught.value)


LAGENT: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: Agent()("one", session_id=1), "session_id", "session"),  # type: ignore[call-arg]
    (lambda: Agent(system_prompt="Be brief."), "system_prompt", "instructions"),  # type: ignore[call-arg]
    (lambda: Agent(tool=["calculator"]), "tool", "tools"),  # type: ignore[call-arg]
    (lambda: Agent(output_format=str), "output_format", "output"),  # type: ignore[call-arg]
    (lambda: Agent(aggregator="tool_text"), "aggregator", "aggregate"),  # type: ignore[call-arg]
    (lambda: Agent(stop_words=["x"]), "stop_words", "stop"),  # type: ignore[call-arg]
    (lambda: Agent(max_new_tokens=9), "max_new_tokens", "max_tokens"),  # type: ignore[call-arg]
    (lambda: Agent(top_k=1), "top_k", "extra_body"),  # type: ignore[call-arg]
    (lambda: Agent().memory(session_id=1), "session_id", "session"),  # type: ignore[call-arg]
    (lambda: Agent().state_dict(session_id=0), "session_id", "session"),  # type: ignore[call-arg]
    (lambda: Agent().reset(session_id=0), "session_id", "session"),  # type: ignore[call-arg]
    (lambda: Executor(actions=[]), "actions", "tools"),  # type: ignore[call-arg]
    (lambda: Executor([])(Message("x"), session_id=1), "session_id", "session"),  # type: ignore[call-arg]
    (lambda: type("Mine", (hooks.Hook,), {"before_actoin": print}), "before_actoin", "before_action"),
]

LAZYLLM: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: flow.llm("default", sytem="x"), "sytem", "system"),  # type: ignore[call-arg]
    (lambda: flow.llm("default", prompt="x"), "prompt", "system"),  # type: ignore[call-arg]
    (lambda: flow.llm("default", formatter="json"), "formatter", "format"),  # type: ignore[call-arg]
    (lambda: flow.llm("default", top_k=1), "top_k", "extra_body"),  # type: ignore[call-arg]
    (lambda: flow.retrieve("docs", topk=3), "topk", "top_k"),  # type: ignore[call-arg]
    (lambda: flow.retrieve("docs", group_name="x"), "group_name", "group"),  # type: ignore[call-arg]
    (lambda: flow.retrieve("docs", similarity="bm25"), "similarity", "ranker"),  # type: ignore[call-arg]
    (lambda: flow.rerank("m", topk=1), "topk", "top_k"),  # type: ignore[call-arg]
    (lambda: flow.parallel(str, jion="dict"), "jion", "join"),
    (lambda: flow.loop(str, limit=2, stop_condition=str), "stop_condition", "until"),  # type: ignore[call-arg]
    (lambda: Client("http://test").chat("hi", system_prompt="x"), "system_prompt", "messages"),  # type: ignore[call-arg]
    (lambda: Client("http://test").deployments.add("x", path="y"), "path", "source"),  # type: ignore[call-arg]
    (lambda: Client("http://test").stores.add_group("x", "y", chunk_size=9), "chunk_size", "chunking"),  # type: ignore[call-arg]
    (lambda: Client("http://test").tuning.create("x", n_epochs=1), "n_epochs", "hyperparameters"),  # type: ignore[call-arg]
    (lambda: Client("http://test").ask("hi", "docs", max_new_tokens=1), "max_new_tokens", "max_tokens"),  # type: ignore[call-arg]
]


@pytest.mark.parametrize(("call", "given", "ours"), LAGENT + LAZYLLM)
def test_keywords_of_other_frameworks_are_refused_with_the_portico_keyword(
    call: Callable[[], Any], given: str, ours: str
) -> None:
    with pytest.raises(portico.InvalidRequest, match=f"'{given}'") as caught:
        call()
    assert caught.value.param == given
    assert not ours or f"Did you mean '{ours}'" in caught.value.message


def test_a_program_with_a_forward_refuses_options_instead_of_losing_them() -> None:
    class Echo(Agent):
        def forward(self, message: Message) -> Message:
            return message

    for options in ({"temperature": 0}, {"variables": {"a": "b"}}):
        with pytest.raises(InvalidRequest, match="pass it to the agents"):
            Echo()("hi", **options)  # type: ignore[arg-type]


def test_model_specific_options_are_passed_in_extra_body() -> None:
    step = flow.llm("default", temperature=0, extra_body={"top_k": 1})
    assert step.fields["options"] == {"temperature": 0, "extra_body": {"top_k": 1}}


def test_the_chat_options_match_the_fields_declared_by_the_daemon() -> None:
    from portico_server.api.openai.bodies import CHAT

    declared_options = {*CHAT.required, *CHAT.optional}
    assert declared_options - CHAT_OPTIONS == {"model", "messages", "stream", "stream_options"}


def test_a_name_without_a_similar_match_gets_no_suggestion() -> None:
    assert nearest("zzzzzz", ["model"]) == ""
