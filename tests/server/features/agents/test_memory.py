"""What an agent remembers of a session, and how much of it the model sees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.features.agents.agent_fixture import AgentFixture, calls, texts

from portico_server.core.errors import Conflict, InvalidRequest, NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Chat

OTHER = Principal("key_other", frozenset({"chat", "models:read"}))


async def test_input_and_output_are_added_to_the_memory_with_all_their_fields(
    agent_fixture: AgentFixture,
) -> None:
    agent_fixture.model("急")
    reply = await agent_fixture.ask("今天天气情况", "0", name="Agent")
    assert (reply.sender, reply.content, reply.stream_state) == ("Agent", "急", 0)
    first, second = await agent_fixture.memory("0")
    assert {
        key: first[key] for key in ("sender", "content", "formatted", "type", "receiver", "extra_info")
    } == {
        "sender": "user",
        "content": "今天天气情况",
        "formatted": None,
        "type": None,
        "receiver": None,
        "extra_info": None,
    }
    assert second["sender"] == "Agent" and second["created_at"] >= first["created_at"] > 0


async def test_the_next_turn_gets_the_messages_of_the_turn_before(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("one", "two")
    await agent_fixture.ask("a", "s", instructions="Be kind.")
    await agent_fixture.ask("b", "s", instructions="Be kind.")
    assert model.sent() == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "b"},
    ]


async def test_without_a_session_no_messages_are_stored(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("one")
    await agent_fixture.ask("a")
    await agent_fixture.ask("b")
    assert model.sent() == [{"role": "user", "content": "b"}]
    assert (await agent_fixture.sessions.list(LOCAL)).data == ()


async def test_consecutive_messages_of_other_senders_are_merged_into_one_user_message(
    agent_fixture: AgentFixture,
) -> None:
    model = agent_fixture.model("seen")
    await agent_fixture.ask({"sender": "user", "content": "a"}, "s", path="x")
    agent_fixture.model("never")
    await agent_fixture.sessions.load_state_dict(
        (await agent_fixture.sessions.list(LOCAL)).data[0].id,
        LOCAL,
        {"memory": [{"sender": "user", "content": "a"}, {"sender": "critic", "content": "b"}]},
    )
    model = agent_fixture.model("ok")
    await agent_fixture.ask("c", "s")
    assert model.sent() == [{"role": "user", "content": "abc"}]


async def test_message_parts_are_stored_and_sent_unchanged(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("ok")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    await agent_fixture.ask([{"type": "text", "text": "what is this"}, picture], "s")
    assert model.sent()[0]["content"] == [{"type": "text", "text": "what is this"}, picture]
    assert (await agent_fixture.memory("s"))[0]["content"][1] == picture


async def test_a_window_keeps_the_current_turn_and_calls_with_their_results(
    agent_fixture: AgentFixture,
) -> None:
    agent_fixture.tool("look", lambda _given: "seen")
    spec: dict[str, Any] = {"tools": ["look"], "memory": {"policy": "window", "messages": 2}}
    agent_fixture.model(calls(("look", "{}"), ("look", "{}"), ("look", "{}")), "first")
    await agent_fixture.ask("a", "s", **spec)
    model = agent_fixture.model(calls(("look", "{}")), "second")
    await agent_fixture.ask("b", "s", **spec)
    roles = [message["role"] for message in model.sent()]
    # from the first turn: the call with its three results (two of them within the window), then all of this
    # turn
    assert roles == ["system", "assistant", "tool", "tool", "tool", "assistant", "user", "assistant", "tool"]
    assert model.sent()[6]["content"] == "b"


async def test_a_budget_of_tokens_drops_what_is_oldest(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("x" * 400)
    for letter in "abc":
        await agent_fixture.ask(letter * 400, "s", memory={"policy": "budget", "tokens": 320})
    assert texts(model.sent()) == ["b" * 400, "x" * 400, "c" * 400]  # 104 tokens each


async def test_the_policy_none_shows_this_turn_alone_with_its_tools(agent_fixture: AgentFixture) -> None:
    agent_fixture.tool("look", lambda _given: "seen")
    agent_fixture.model("old")
    await agent_fixture.ask("a", "s", memory="none")
    model = agent_fixture.model(calls(("look", "{}")), "new")
    await agent_fixture.ask("b", "s", memory="none", tools=["look"])
    assert [m["role"] for m in model.sent()] == ["system", "user", "assistant", "tool"]
    assert len(await agent_fixture.memory("s")) == 6


async def test_a_running_summary_stands_for_what_no_longer_fits(agent_fixture: AgentFixture) -> None:
    def says(request: Chat) -> str:
        if str(request.messages[0].get("content", "")).startswith("Sum up"):
            return "They spoke of harbours."
        return "y" * 200

    model = agent_fixture.model(says)
    policy = {"policy": "summary", "tokens": 200}
    for number in range(4):
        await agent_fixture.ask(f"{number} " + "z" * 200, "s", memory=policy)
    system, *recent_messages = model.sent()
    assert system["content"] == "The conversation so far, summed up:\nThey spoke of harbours."
    assert recent_messages[-1]["content"].startswith("3 ")
    assert not any(text.startswith("0 ") for text in texts(recent_messages))
    state = await agent_fixture.state("s")
    assert state["state"]["summary"] == "They spoke of harbours." and state["state"]["covered"] > 0
    assert len(await agent_fixture.memory("s")) == 8, "what was summed up is still there"
    summaries = sum("Sum up" in str(chat.messages[0].get("content")) for chat in model.asked)
    assert summaries < 3, "it is not summed up anew in every turn"


async def test_a_turn_reads_the_newest_messages_without_results_that_lack_their_call(
    agent_fixture: AgentFixture,
) -> None:
    agent_fixture.model("first")
    await agent_fixture.ask("a", "s")
    session = (await agent_fixture.sessions.list(LOCAL)).data[0].id
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [{"sender": "user", "content": f"m{number}"} for number in range(9_999)]
    messages[0] = {"sender": "a", "content": "", "type": "tool_call", "extra_info": {"tool_calls": [call]}}
    messages[1] = {
        "sender": "look",
        "content": "seen",
        "type": "tool_result",
        "extra_info": {"tool_call_id": "call_1"},
    }
    summary_state = {"summary": "Long ago.", "covered": 10}
    await agent_fixture.sessions.load_state_dict(session, LOCAL, {"memory": messages, "state": summary_state})
    model = agent_fixture.model("later")
    await agent_fixture.ask("b", "s")
    assert "tool" in {message["role"] for message in model.sent()}, "all 9,999 are read"
    # The first of 10,001 messages, the call, is beyond what a turn reads, so its result is dropped too.
    model = agent_fixture.model("last")
    await agent_fixture.ask("c", "s")
    assert "tool" not in {message["role"] for message in model.sent()}
    assert "m9998" in str(model.sent()[0]["content"]) and model.sent()[-1]["content"] == "c"


async def test_a_turn_reads_no_more_characters_than_its_bound(agent_fixture: AgentFixture) -> None:
    agent_fixture.model("first")
    await agent_fixture.ask("a", "s")
    session = (await agent_fixture.sessions.list(LOCAL)).data[0].id
    messages = [{"sender": "user", "content": letter * 3_000_000} for letter in "xyz"]
    await agent_fixture.sessions.load_state_dict(session, LOCAL, {"memory": messages})
    model = agent_fixture.model("later")
    await agent_fixture.ask("b", "s")
    content = model.sent()[0]["content"]
    assert (content[0], content[-1], len(content)) == ("y", "b", 6_000_001)


async def test_a_session_name_is_private_to_its_caller(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("ok")
    await agent_fixture.ask("mine", "s")
    await agent_fixture.ask("theirs", "s", caller=OTHER)
    assert texts(model.sent()) == ["theirs"]
    session = (await agent_fixture.sessions.list(LOCAL, name="s")).data[0]
    with pytest.raises(NotFound):
        await agent_fixture.sessions.get(session.id, OTHER)
    assert [row.id for row in (await agent_fixture.sessions.list(OTHER)).data] != [session.id]


async def test_a_session_can_be_addressed_by_its_id(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("ok")
    row = await agent_fixture.sessions.open("app", "s", LOCAL)
    await agent_fixture.ask("a", row.id)
    await agent_fixture.ask("b", "s")
    assert texts(model.sent()) == ["a", "ok", "b"]
    with pytest.raises(NotFound):
        await agent_fixture.ask("c", row.id, app="another")
    with pytest.raises(NotFound):
        await agent_fixture.ask("c", "conv_unknown")
    assert len((await agent_fixture.sessions.list(LOCAL)).data) == 1


async def test_concurrent_turns_in_one_session_run_one_after_another(agent_fixture: AgentFixture) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def slowly(request: Chat) -> str:
        entered.set()
        await go.wait()
        return f"heard {len(request.messages)}"

    agent_fixture.model(slowly)
    first = asyncio.create_task(agent_fixture.ask("a", "s"))
    await entered.wait()
    second = asyncio.create_task(agent_fixture.ask("b", "s"))
    with pytest.raises(Conflict) as error:
        await agent_fixture.ask("c", "s", busy="refuse")
    assert error.value.code == "session_busy"
    go.set()
    assert (await first).content == "heard 1"
    assert (await second).content == "heard 3"
    assert [m["content"] for m in await agent_fixture.memory("s")] == ["a", "heard 1", "b", "heard 3"]


async def test_agents_side_by_side_in_one_session_do_not_wait_for_each_other(
    agent_fixture: AgentFixture,
) -> None:
    """Agents side by side in one session do not wait for each other, and a root waits for the agents below it."""
    barrier = asyncio.Barrier(2)

    async def together(_request: Chat) -> str:
        await barrier.wait()
        return "ok"

    agent_fixture.model(together)
    async with asyncio.timeout(60):
        await asyncio.gather(
            agent_fixture.ask("a", "s", path="writer", name="writer"),
            agent_fixture.ask("b", "s", path="critic", name="critic"),
        )
    state = await agent_fixture.state("s")
    assert {key: len(value) for key, value in state.items() if key.endswith("memory")} == {
        "writer.memory": 2,
        "critic.memory": 2,
    }


async def test_a_failed_turn_stores_no_messages_and_no_session(agent_fixture: AgentFixture) -> None:
    agent_fixture.model(InvalidRequest("No."))
    with pytest.raises(InvalidRequest):
        await agent_fixture.ask("a", "s")
    assert (await agent_fixture.sessions.list(LOCAL)).data == ()
    model = agent_fixture.model("ok")
    await agent_fixture.ask("b", "s")
    assert texts(model.sent()) == ["b"]


async def test_a_session_that_is_reset_meanwhile_is_not_written_to(agent_fixture: AgentFixture) -> None:
    agent_fixture.model("ok")
    await agent_fixture.ask("a", "s")
    row = (await agent_fixture.sessions.list(LOCAL)).data[0]

    async def reset(_request: Chat) -> str:
        await agent_fixture.sessions.reset(row.id, LOCAL)
        return "late"

    agent_fixture.model(reset)
    with pytest.raises(Conflict) as conflict:
        await agent_fixture.ask("b", "s")
    assert conflict.value.code == "session_changed"
    assert await agent_fixture.memory("s") == []

    async def remove(_request: Chat) -> str:
        await agent_fixture.sessions.remove(row.id, LOCAL)
        return "late"

    agent_fixture.model(remove)
    with pytest.raises(NotFound):
        await agent_fixture.ask("b", "s")
    assert (await agent_fixture.sessions.list(LOCAL)).data == ()


@pytest.mark.slow
async def test_a_thousand_sessions_at_once_lose_and_mix_nothing(agent_fixture: AgentFixture) -> None:
    agent_fixture.model(lambda request: f"to {request.messages[-1]['content']} after {len(request.messages)}")
    for turn in range(2):
        await asyncio.gather(*(agent_fixture.ask(f"{n}.{turn}", f"s{n}") for n in range(1000)))
    rows = (await agent_fixture.sessions.list(LOCAL, limit=2000)).data
    assert len(rows) == 1000
    for row in rows:
        number = row.name[1:]
        contents = [
            item.message["content"] for item in (await agent_fixture.sessions.messages(row.id, LOCAL)).data
        ]
        assert contents == [f"{number}.0", f"to {number}.0 after 1", f"{number}.1", f"to {number}.1 after 3"]
