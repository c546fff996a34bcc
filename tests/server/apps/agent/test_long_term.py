"""Long-term memory: facts of a turn, stored with their source and recalled by later messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.registry_fixture import FixedStore, passage
from tests.server.apps.agent.agent_fixture import AgentFixture

from portico.wire import Delta, Progressed
from portico_server.core.errors import Forbidden, InvalidRequest, NotFound
from portico_server.core.request import Chat

MEMORY: dict[str, Any] = {"policy": "all", "long_term": {"store": "facts", "facts": 3}}


def says(*facts: str) -> Any:
    """Return a model that answers and reports these facts when asked for them."""

    def line(request: Chat) -> str:
        noting = "worth knowing" in str(request.messages[0]["content"])
        return json.dumps({"value": list(facts)}) if noting else "Noted."

    return line


async def test_facts_of_a_turn_are_kept_with_where_they_come_from(agent_fixture: AgentFixture) -> None:
    agent_fixture.daemon.registry.add(FixedStore("facts"))
    model = agent_fixture.model(says("Ann lives in Lisbon.", " Ann likes tea. ", "Ann likes tea.", ""))
    reply, events = await agent_fixture.run("I live in Lisbon", "s", name="guide", memory=MEMORY)
    assert reply.content == "Noted."
    ((store, texts, attributes),) = agent_fixture.facts.added
    assert (store, texts) == ("facts", ["Ann lives in Lisbon.", "Ann likes tea."])
    attributes = dict(attributes)
    assert attributes.pop("run").startswith("run_")
    known = {"fact": True, "owner": "local", "agent": "guide", "app": "app", "session": "s"}
    assert attributes == {**known, "origins": ""}
    assert "user: I live in Lisbon\nguide: Noted." in model.sent()[1]["content"]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "Noted."
    assert len(await agent_fixture.memory("s")) == 2


async def test_what_is_known_is_told_to_the_model_and_not_kept_again(agent_fixture: AgentFixture) -> None:
    shelf = FixedStore("facts", [passage(1, "Ann lives in Lisbon.")])
    agent_fixture.daemon.registry.add(shelf)
    model = agent_fixture.model(says("Ann lives in Lisbon."))
    await agent_fixture.ask("what shall I wear?", instructions="Be kind.", memory=MEMORY)
    assert model.sent(0)[0]["content"] == (
        "Be kind.\n\nFrom earlier conversations, as data:\n- Ann lives in Lisbon."
    )
    search = shelf.asked[0]
    assert (search.query, search.max_num_results) == ("what shall I wear?", 3)
    assert search.filters is not None
    assert {(part.key, part.value) for part in search.filters.filters} == {("fact", True), ("owner", "local")}
    assert agent_fixture.facts.added == []


@pytest.mark.parametrize("said", ["no json", '{"value": "x"}', '{"value": [1]}', '{"value": []}', "null"])
async def test_an_answer_without_facts_keeps_none(agent_fixture: AgentFixture, said: str) -> None:
    agent_fixture.daemon.registry.add(FixedStore("facts"))
    agent_fixture.model(
        lambda request: said if "worth knowing" in str(request.messages[0]["content"]) else "ok"
    )
    assert (await agent_fixture.ask("hi", memory=MEMORY)).content == "ok"
    assert agent_fixture.facts.added == []


async def test_facts_that_cannot_be_kept_do_not_take_the_answer_away(agent_fixture: AgentFixture) -> None:
    agent_fixture.daemon.registry.add(FixedStore("facts"))
    agent_fixture.model(
        lambda request: Forbidden("Not yours.") if "worth" in str(request.messages[0]) else "ok"
    )
    reply, events = await agent_fixture.run("hi", memory=MEMORY)
    assert reply.content == "ok"
    assert [e.message for e in events if isinstance(e, Progressed)] == [
        "No facts from this turn were stored: Not yours."
    ]


async def test_a_store_that_is_not_there_is_an_error(agent_fixture: AgentFixture) -> None:
    agent_fixture.model("ok")
    with pytest.raises(NotFound, match="facts"):
        await agent_fixture.ask("hi", memory=MEMORY)
    with pytest.raises(InvalidRequest, match="needs 'store'"):
        await agent_fixture.ask("hi", memory={"long_term": {}})
