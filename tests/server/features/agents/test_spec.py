"""An invalid specification is refused with the place of the fault."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.features.agents.agent_fixture import agent

from portico_server.core.errors import InvalidRequest
from portico_server.features.agents.message import message_of


def test_a_whole_specification_is_read() -> None:
    spec = agent(
        name="desk",
        title="Desk",
        description="Helps.",
        model="m",
        instructions="Be {tone}.",
        variables={"tone": "kind"},
        tools=["web_fetch", {"tool": "sql", "as": "query"}],
        stores=["handbook"],
        agents=["expert", {"agent": {"name": "inner", "tools": ["look"]}, "as": "handoff"}],
        strategy="react",
        memory={"policy": "window", "messages": 4},
        output=[
            {"type": "tool", "tool_type": "code", "begin": "<", "end": ">", "validate": "json"},
            {"type": "regex", "pattern": "a+"},
            "text",
        ],
        aggregate={"template": "{sender}: {content}"},
        few_shot=[{"role": "user", "content": "hi"}],
        hooks=[{"on": "before_agent", "do": "prefix", "text": "x", "senders": ["a"]}],
        limits={"turns": 3, "tokens": 100, "seconds": 2, "tool_calls": 5},
        final="Final Answer",
        options={"temperature": 0},
        busy="refuse",
        attempts=3,
    )
    assert [use.name for use in spec.tools] == ["web_fetch", "query"]
    assert spec.agents[0].spec is None and spec.agents[1].handoff and spec.agents[1].name == "inner"
    assert (spec.limits.turns, spec.limits.tokens, spec.limits.seconds) == (3, 100, 2.0)
    assert len(spec.output) == 3 and spec.memory.messages == 4
    assert agent(strategy="plan_and_solve").limits.turns > agent().limits.turns


@pytest.mark.parametrize(
    ("spec", "param", "words"),
    [
        ({"toolz": []}, "agent.toolz", "Did you mean 'tools'"),
        ({"model": 3}, "agent.model", "must be a string"),
        ({"strategy": "magic"}, "agent.strategy", "one of tools, text_tools"),
        ({"tools": [{"as": "x"}]}, "agent.tools[0].tool", "needs 'tool'"),
        ({"tools": [{"function": "a b"}]}, "agent", "cannot call 'a b'"),
        ({"tools": ["a", {"tool": "b", "as": "a"}]}, "agent", "two of the agent's tools are named 'a'"),
        ({"tools": ["search_x"], "stores": ["x"]}, "agent", "two of the agent's tools are named 'search_x'"),
        ({"memory": "elephant"}, "agent.memory.policy", "one of all, window"),
        ({"memory": {"policy": "window", "messages": 0}}, "agent.memory.messages", "from 1 to"),
        ({"output": {"type": "tool", "tool_type": "x", "begin": "<"}}, "agent.output.end", "needs 'end'"),
        (
            {"output": [{"type": "regex", "pattern": "("}]},
            "agent.output[0].pattern",
            "not a regular expression",
        ),
        ({"aggregate": "loud"}, "agent.aggregate", "must be an object"),
        ({"few_shot": ["hi"]}, "agent.few_shot[0]", "'role' and 'content'"),
        ({"hooks": [{"on": "never", "do": "prefix"}]}, "agent.hooks[0].on", "one of before_agent"),
        ({"hooks": [{"on": "after_agent", "do": "guard"}]}, "agent.hooks[0].pattern", "needs 'pattern'"),
        ({"limits": {"turns": True}}, "agent.limits.turns", "whole number"),
        ({"agents": [{"agent": {"nmae": "x"}}]}, "agent.agents[0].agent.nmae", "Did you mean 'name'?"),
        ({"portico_agent": 2}, "agent.portico_agent", "supports versions up to 1"),
        ({"portico_agent": None}, "agent.portico_agent", '"portico_agent": 1'),
    ],
)
def test_an_invalid_specification_is_refused_with_the_path_of_its_field(
    spec: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        agent(**spec)
    assert error.value.param == param and words in error.value.message


def test_agents_nested_too_deep_are_refused() -> None:
    spec: dict[str, Any] = {"name": "x"}
    for _ in range(12):
        spec = {"name": "x", "agents": [{"agent": spec}]}
    with pytest.raises(InvalidRequest) as error:
        agent(**spec)
    assert error.value.code == "too_deep"


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        {},
        {"content": 3},
        {"content": ["x"]},
        {"content": [{"text": "x"}]},
        {"content": "x", "sender": 3},
        {"content": "x", "extra_info": []},
        {"content": "x", "created_at": "now"},
        {"content": "x", "stream_state": True},
    ],
)
def test_an_invalid_message_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        message_of(value)
    assert error.value.code == "invalid_message"


def test_a_message_of_lagent_is_read() -> None:
    lagent_message = {
        "content": "急",
        "sender": "Agent",
        "formatted": None,
        "extra_info": None,
        "type": None,
        "receiver": None,
        "stream_state": 0,
    }
    message = message_of(lagent_message)
    assert {
        name: message.to_json()[name] for name in lagent_message
    } == lagent_message and message.created_at > 0
