"""Agents that ask agents: as tools, by handoff, deployed or local, each with its own memory in the session."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.server.features.agents.agent_fixture import AgentFixture, calls, texts

from portico.wire import Delta, HandedOff, StepFinished, StepStarted, Usage
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat
from portico_server.db.apps import AppRow


def row_of(name: str) -> AppRow:
    """Return an agent that is deployed for everybody."""
    return AppRow(f"app_{name}", name, None, "agent", 1, None, 0.0, 0.0)


EXPERT: dict[str, Any] = {"name": "expert", "model": "deep", "description": "Knows tides."}


def ask(name: str, message: str) -> tuple[str, str]:
    return name, f'{{"message": "{message}"}}'


async def test_a_sub_agent_answers_like_a_tool_and_remembers_in_the_session(
    agent_fixture: AgentFixture,
) -> None:
    deep = agent_fixture.model("High at noon.", "And low at six.", name="deep")
    agent_fixture.model(
        calls(ask("expert", "when?")), "At noon.", calls(ask("expert", "and low?")), "At six."
    )
    spec: dict[str, Any] = {"name": "guide", "agents": [{"agent": EXPERT}]}
    reply, events = await agent_fixture.run("tides?", "s", **spec)
    assert (reply.sender, reply.content) == ("guide", "At noon.")
    assert [e.path for e in events if isinstance(e, StepStarted)] == ["expert"]
    assert "".join(e.text for e in events if isinstance(e, Delta)) == "At noon.", (
        "it speaks to the guide alone"
    )
    assert events[-1] == Usage(30, 15)
    await agent_fixture.ask("low?", "s", **spec)
    assert texts(deep.sent()) == ["when?", "High at noon.", "and low?"]
    memory = await agent_fixture.memory("s", "expert")
    assert [(m["sender"], m["receiver"]) for m in memory] == [("guide", "expert"), ("expert", None)] * 2


async def test_a_reset_clears_the_whole_tree(agent_fixture: AgentFixture) -> None:
    """A reset clears the whole tree, whereas Lagent keeps the memories of sub-agents."""
    agent_fixture.model("deep", name="deep")
    agent_fixture.model(calls(ask("expert", "when?")), "At noon.")
    await agent_fixture.ask("tides?", "s", agents=[{"agent": EXPERT}])
    row = (await agent_fixture.sessions.list(LOCAL)).data[0]
    assert set(await agent_fixture.state("s")) == {"portico_session", "memory", "expert.memory"}
    await agent_fixture.sessions.reset(row.id, LOCAL)
    assert await agent_fixture.state("s") == {"portico_session": 1}
    deep = agent_fixture.model("again", name="deep")
    agent_fixture.model(calls(ask("expert", "when?")), "At noon.")
    await agent_fixture.ask("tides?", "s", agents=[{"agent": EXPERT}])
    assert texts(deep.sent()) == ["when?"]


async def test_a_failed_sub_agent_is_reported_to_the_model_and_stores_no_messages(
    agent_fixture: AgentFixture,
) -> None:
    agent_fixture.tool("look", lambda _given: "seen")
    agent_fixture.model(calls(("look", "{}")), name="deep")
    model = agent_fixture.model(calls(ask("expert", "when?")), "I do not know.")
    failing = {**EXPERT, "tools": ["look"], "limits": {"turns": 2}}
    reply, events = await agent_fixture.run("tides?", "s", agents=[{"agent": failing}])
    assert reply.content == "I do not know."
    assert "'expert' failed: The agent 'expert' did not produce an answer" in model.sent()[-1]["content"]
    (step_end,) = [e for e in events if isinstance(e, StepFinished) and e.path == "expert"]
    assert step_end.error is not None
    assert await agent_fixture.memory("s", "expert") == []
    deep = agent_fixture.model("High.", name="deep")
    agent_fixture.model(calls(ask("expert", "now?")), "ok")
    await agent_fixture.ask("tides?", "s", agents=[{"agent": failing}])
    assert texts(deep.sent())[1:] == ["now?"]


async def test_a_failed_turn_of_a_sub_agent_keeps_what_it_knew_before(agent_fixture: AgentFixture) -> None:
    agent_fixture.model("High.", InvalidRequest("Broken."), "Low.", name="deep")
    agent_fixture.model(
        calls(ask("expert", "one")), "a", calls(ask("expert", "two")), "b", calls(ask("expert", "three")), "c"
    )
    for text in "abc":
        await agent_fixture.ask(text, "s", agents=[{"agent": EXPERT}])
    assert [m["content"] for m in await agent_fixture.memory("s", "expert")] == [
        "one",
        "High.",
        "three",
        "Low.",
    ]


async def test_one_sub_agent_asked_twice_at_once_takes_turns(agent_fixture: AgentFixture) -> None:
    busy = 0

    async def alone(request: Chat) -> str:
        nonlocal busy
        busy += 1
        assert busy == 1
        await asyncio.sleep(0)
        busy -= 1
        return f"to {request.messages[-1]['content']}"

    agent_fixture.model(alone, name="deep")
    agent_fixture.model(calls(ask("expert", "one"), ask("expert", "two")), "ok")
    await agent_fixture.ask("go", "s", agents=[{"agent": EXPERT}])
    assert [m["content"] for m in await agent_fixture.memory("s", "expert")] == [
        "one",
        "to one",
        "two",
        "to two",
    ]


def desk(*others: Any) -> dict[str, Any]:
    """Return an agent that hands over to others."""
    specs = others or ({"name": "spanish", "model": "deep"},)
    return {"name": "desk", "agents": [{"agent": spec, "as": "handoff"} for spec in specs]}


def handed(events: list[Any]) -> list[str]:
    return [event.to for event in events if isinstance(event, HandedOff)]


async def test_a_handoff_lets_the_other_agent_answer_until_it_hands_back(agent_fixture: AgentFixture) -> None:
    deep = agent_fixture.model(
        "Hola.", "Que tal.", calls(ask("transfer_to_desk", "wants English")), name="deep"
    )
    model = agent_fixture.model(calls(ask("transfer_to_spanish", "saluda")), "Back again.")
    spec = desk()
    reply, events = await agent_fixture.run("hola", "s", **spec)
    assert (reply.sender, reply.content) == ("spanish", "Hola.")
    assert handed(events) == ["spanish"]
    assert "".join(e.text for e in events if isinstance(e, Delta)) == "Hola."
    last = (await agent_fixture.memory("s"))[-1]
    assert (last["sender"], last["content"], last["extra_info"]["said_by"]) == ("desk", "Hola.", "spanish")
    reply, events = await agent_fixture.run("y ahora?", "s", **spec)
    assert (reply.sender, reply.content, handed(events)) == ("spanish", "Que tal.", [])
    assert texts(deep.sent())[1:] == ["saluda", "Hola.", "y ahora?"]
    assert len(model.asked) == 1
    assert (await agent_fixture.state("s"))["state"] == {"active": "spanish"}
    reply, events = await agent_fixture.run("and now?", "s", **spec)
    assert (reply.sender, reply.content, handed(events)) == ("desk", "Back again.", ["desk"])
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "assistant", "user"]
    assert [m["role"] for m in model.sent()] == roles
    assert model.sent()[-1]["content"] == "and now?\n\nspanish hands the conversation back: wants English"
    assert "state" not in await agent_fixture.state("s")
    await agent_fixture.ask("still you?", "s", **spec)
    assert len(model.asked) == 3


async def test_a_handoff_is_copied_with_the_state_dict_and_ended_by_a_reset(
    agent_fixture: AgentFixture,
) -> None:
    agent_fixture.model("Hola.", name="deep")
    agent_fixture.model(calls(ask("transfer_to_spanish", "saluda")), "Hello.")
    await agent_fixture.ask("hola", "s", **desk())
    copy = await agent_fixture.sessions.open("app", "copy", LOCAL)
    await agent_fixture.sessions.load_state_dict(copy.id, LOCAL, await agent_fixture.state("s"))
    assert (await agent_fixture.ask("y?", "copy", **desk())).sender == "spanish"
    await agent_fixture.sessions.reset(copy.id, LOCAL)
    assert (await agent_fixture.ask("y?", "copy", **desk())).sender == "desk"
    assert (await agent_fixture.ask("y?", "s", **desk({"name": "other", "model": "deep"}))).sender == "desk"


async def test_a_conversation_handed_back_at_once_is_the_result_of_the_call(
    agent_fixture: AgentFixture,
) -> None:
    agent_fixture.model(calls(ask("transfer_to_desk", "not mine")), name="deep")
    model = agent_fixture.model(calls(ask("transfer_to_spanish", "saluda")), "Then I do it.")
    reply, events = await agent_fixture.run("hola", "s", **desk())
    assert (reply.sender, reply.content) == ("desk", "Then I do it.")
    assert handed(events) == ["spanish", "desk"]
    assert model.sent()[-1]["content"] == "spanish hands the conversation back: not mine"
    assert "state" not in await agent_fixture.state("s")


async def test_a_conversation_is_handed_back_across_several_agents(agent_fixture: AgentFixture) -> None:
    catalan = {"name": "catalan", "model": "deeper", "agents": [{"agent": "desk", "as": "handoff"}]}
    spanish = {"name": "spanish", "model": "deep", "agents": [{"agent": catalan, "as": "handoff"}]}
    row = row_of("desk")
    agent_fixture.daemon.registry.add(agent_fixture.agents.build("desk", {"portico_agent": 1}, row))
    agent_fixture.model("Bon dia.", calls(ask("transfer_to_desk", "English again")), name="deeper")
    deep = agent_fixture.model(calls(ask("transfer_to_catalan", "saluda")), name="deep")
    agent_fixture.model(calls(ask("transfer_to_spanish", "saluda")), "Hello.")
    reply, events = await agent_fixture.run("bon dia", "s", **desk(spanish))
    assert (reply.sender, handed(events)) == ("catalan", ["spanish", "catalan"])
    reply, events = await agent_fixture.run("hello", "s", **desk(spanish))
    assert (reply.sender, reply.content, handed(events)) == ("desk", "Hello.", ["desk"])
    assert len(deep.asked) == 1, "spanish only passes it on"
    assert not [key for key in await agent_fixture.state("s") if key.endswith("state")]


async def test_only_the_first_of_two_handoffs_in_one_answer_is_followed(agent_fixture: AgentFixture) -> None:
    agent_fixture.model("A.", name="deep")
    agent_fixture.model(calls(ask("transfer_to_a", "go"), ask("transfer_to_b", "go")), "no")
    subagents = [{"agent": {"name": name, "model": "deep"}, "as": "handoff"} for name in "ab"]
    reply, events = await agent_fixture.run("go", "s", agents=subagents)
    assert reply.sender == "a" and [e.to for e in events if isinstance(e, HandedOff)] == ["a"]
    assert await agent_fixture.memory("s", "b") == []


async def test_a_deployed_agent_as_a_sub_agent_remembers_in_the_same_session(
    agent_fixture: AgentFixture,
) -> None:
    deep = agent_fixture.model("High.", "Low.", name="deep")
    row = row_of("expert")
    spec = {"portico_agent": 1, "model": "deep"}
    agent_fixture.daemon.registry.add(agent_fixture.agents.build("expert", spec, row))
    agent_fixture.model(calls(ask("expert", "one")), "a", calls(ask("expert", "two")), "b")
    for text in "ab":
        await agent_fixture.ask(text, "s", agents=["expert"])
    assert texts(deep.sent()) == ["one", "High.", "two"]
    assert len(await agent_fixture.memory("s", "expert")) == 4


async def test_an_agent_that_asks_itself_ends(agent_fixture: AgentFixture) -> None:
    row = row_of("loop")
    spec = {"portico_agent": 1, "agents": ["loop"], "limits": {"turns": 2}}
    agent_fixture.daemon.registry.add(agent_fixture.agents.build("loop", spec, row))

    def says(request: Chat) -> Any:
        return "done" if request.messages[-1]["role"] == "tool" else calls(ask("loop", "again"))

    model = agent_fixture.model(says)
    assert (await agent_fixture.ask("go", agents=["loop"])).content == "done"
    assert any("agents deep" in str(chat.messages[-1]["content"]) for chat in model.asked)


async def test_memories_of_nested_agents_are_stored_under_their_paths(agent_fixture: AgentFixture) -> None:
    inner = {"name": "b", "model": "deep2"}
    agent_fixture.model("deepest", name="deep2")
    agent_fixture.model(calls(ask("b", "x")), "deeper", name="deep")
    agent_fixture.model(calls(ask("a", "x")), "top")
    await agent_fixture.ask(
        "go", "s", agents=[{"agent": {"name": "a", "model": "deep", "agents": [{"agent": inner}]}}]
    )
    assert set(await agent_fixture.state("s")) == {"portico_session", "memory", "a.memory", "a.b.memory"}
