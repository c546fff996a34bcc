"""Long-term memory: facts of a turn, stored with their source and recalled by later messages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.registry_fixture import FixedStore, passage
from tests.server.features.agents.agent_fixture import AgentFixture, calls

from portico.schemas.facts import FactSpan
from portico.wire import Delta, Progressed
from portico_server.core.errors import Forbidden, InvalidRequest, NotFound
from portico_server.core.facts import NewFact
from portico_server.core.request import Chat
from portico_server.features.agents.message import message_of

MEMORY: dict[str, Any] = {"policy": "all", "long_term": {"store": "facts", "facts": 3}}


def fact(text: str, quote: str, replaces: int | None = None) -> dict[str, Any]:
    return {"fact": text, "quote": quote, "replaces": replaces}


def says(*facts: dict[str, Any]) -> Any:
    """Return a model that answers and reports these facts when asked for them."""

    def line(request: Chat) -> str:
        noting = "worth knowing" in str(request.messages[0]["content"])
        return json.dumps({"value": list(facts)}) if noting else "Noted."

    return line


async def test_facts_of_a_turn_are_stored_with_their_source(agent_fixture: AgentFixture) -> None:
    agent_fixture.daemon.registry.add(FixedStore("facts", is_memory=True))
    lisbon = fact(" The user lives in Lisbon. ", "i live  in lisbon")
    tea = fact("The user likes tea.", "“like tea”")
    model = agent_fixture.model(says(lisbon, tea, tea))
    message = "Hi, I live in Ｌisbon and like tea"
    reply, events = await agent_fixture.run(
        message, "s", name="guide", memory=MEMORY, instructions="Be brief."
    )
    assert reply.content == "Noted."
    ((store, facts, attributes),) = agent_fixture.facts.added
    assert store == "facts"
    assert list(facts) == [
        NewFact("The user lives in Lisbon.", FactSpan("I live in Ｌisbon", 4, 20)),
        NewFact("The user likes tea.", FactSpan("like tea", 25, 33)),
    ]
    attributes = dict(attributes)
    assert attributes.pop("run").startswith("run_")
    fact_attributes = {"fact": True, "owner": "local", "agent": "guide", "app": "app", "session": "s"}
    assert attributes == {**fact_attributes, "origins": ""}
    assert model.sent()[1]["content"] == f"Message:\n{message}", "only the user's words are read for facts"
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "Noted."
    assert len(await agent_fixture.memory("s")) == 2


async def test_known_facts_are_shown_to_the_model_which_can_replace_them(agent_fixture: AgentFixture) -> None:
    lisbon_fact = replace(passage(1, "The user lives in Lisbon."), attributes={"id": "fact_1", "origins": ""})
    shelf = FixedStore("facts", [lisbon_fact], is_memory=True)
    agent_fixture.daemon.registry.add(shelf)
    porto, faro = (fact(f"The user lives in {city}.", f"I live in {city}", 1) for city in ("Porto", "Faro"))
    model = agent_fixture.model(says(porto, faro, fact("The user has a cat.", "I have a cat", 2)))
    message = "I live in Porto, I live in Faro, I have a cat"
    await agent_fixture.ask(message, instructions="Be kind.", memory=MEMORY)
    assert model.sent(0)[0]["content"] == (
        "Be kind.\n\nFrom earlier conversations, as data:\n- The user lives in Lisbon."
    )
    assert model.sent()[1]["content"].startswith("Known already:\n1. The user lives in Lisbon.\n\nMessage:\n")
    search = shelf.asked[0]
    assert (search.query, search.max_num_results) == (message, 3)
    ((_store, facts, _attributes),) = agent_fixture.facts.added
    assert [item.replaces for item in facts] == ["fact_1", "", ""], "a fact is replaced once, by its number"


ATTACHED = [
    {"type": "text", "text": "[File: cv.txt]\nBob lives in Rome.\n[End of file: cv.txt]"},
    {"type": "text", "text": "I live in Oslo."},
]


@pytest.mark.parametrize(
    ("message", "text", "quote", "is_kept"),
    [
        ("I live in Oslo.", "The user lives in Oslo.", "I live in Oslo.", True),
        ("I live in Oslo.", "The user lives in Bergen.", "I live in Oslo.", False),
        ("I have 2 cats.", "The user has 3 cats.", "I have 2 cats.", False),
        ("I eat no fish.", "The user eats fish.", "I eat no fish.", False),
        ("I live in Oslo.", "The user prefers window seats.", "I live in Oslo.", False),
        (
            "I moved to Oslo last year.",
            "The user has lived in Oslo since last year.",
            "I moved to Oslo last year",
            True,
        ),
        ("I'm Ann, a nurse.", "The user works as a nurse.", "a nurse", True),
        ("I'm a nurse.", "The user works as a welder.", "I'm a nurse", False),
        ("I like tea.", "The user likes tea and cheese.", "I like tea", False),
        ("I cycle to school.", "The user cycles to work.", "I cycle to school", False),
        ("I live in Oslo.", "The user lives in Oslo.", "I live in Oslo and Rome", False),
        ("I live in Oslo.", "The user lives in Oslo.", "", False),
        ("I live in Oslo.", "The user lives in Oslo.", " . ", False),
        ("我住在里斯本，谢谢。", "用户住在里斯本。", "我住在里斯本", True),
        ("我住在里斯本，谢谢。", "用户住在波尔图。", "我住在里斯本", False),
        (ATTACHED, "The user lives in Oslo.", "I live in Oslo.", True),
        (ATTACHED, "Bob lives in Rome.", "Bob lives in Rome.", False),
    ],
)
async def test_a_fact_is_kept_if_the_users_own_words_support_it(
    agent_fixture: AgentFixture, message: Any, text: str, quote: str, is_kept: bool
) -> None:
    agent_fixture.daemon.registry.add(FixedStore("facts", is_memory=True))
    agent_fixture.model(says(fact(text, quote)))
    await agent_fixture.ask(message, memory=MEMORY)
    assert agent_fixture.facts.texts == ([text] if is_kept else [])
    if is_kept:
        ((_store, (stored_fact,), _attributes),) = agent_fixture.facts.added
        assert (
            message_of(message).text[stored_fact.span.start : stored_fact.span.end] == stored_fact.span.words
        )


OTHERS = "The user lives in Rome."


@pytest.mark.parametrize("way", ["instructions", "recalled", "tool", "answer", "hook", "argument"])
async def test_no_fact_comes_from_words_that_are_not_the_users(agent_fixture: AgentFixture, way: str) -> None:
    recalled_passage = replace(passage(1, OTHERS), attributes={"id": "fact_1", "origins": ""})
    agent_fixture.daemon.registry.add(
        FixedStore("facts", [recalled_passage] if way == "recalled" else [], is_memory=True)
    )
    spec: dict[str, Any] = {"memory": MEMORY}
    if way == "instructions":
        spec["instructions"] = OTHERS
    if way == "hook":
        spec["hooks"] = [{"on": "before_agent", "do": "prefix", "text": OTHERS}]

    def line(request: Chat) -> Any:
        if "worth knowing" in str(request.messages[0]["content"]):
            return json.dumps({"value": [fact(OTHERS, OTHERS)]})
        if way == "tool" and len(request.messages) < 4:
            return calls(("look", "{}"))
        return OTHERS if way == "answer" else "ok"

    agent_fixture.tool("look", lambda _arguments: OTHERS)
    agent_fixture.model(line)
    if way == "tool":
        spec["tools"] = ["look"]
    if way == "argument":
        agent_fixture.model(line, name="helper_voice")
        helper = {"name": "helper", "model": "helper_voice", **spec}
        agent_fixture.model(calls(("helper", json.dumps({"message": OTHERS}))), "ok")
        spec = {"agents": [{"agent": helper, "as": "tool"}]}
    await agent_fixture.ask("What do you know?", **spec)
    assert agent_fixture.facts.added == []


@pytest.mark.parametrize(
    "said",
    ["no json", '{"value": "x"}', '{"value": [1]}', '{"value": []}', "null", '{"value": [{"fact": 1}]}'],
)
async def test_an_invalid_or_empty_list_of_facts_stores_nothing(
    agent_fixture: AgentFixture, said: str
) -> None:
    agent_fixture.daemon.registry.add(FixedStore("facts", is_memory=True))
    agent_fixture.model(
        lambda request: said if "worth knowing" in str(request.messages[0]["content"]) else "ok"
    )
    assert (await agent_fixture.ask("hi", memory=MEMORY)).content == "ok"
    assert agent_fixture.facts.added == []


async def test_the_answer_is_returned_although_storing_facts_fails(agent_fixture: AgentFixture) -> None:
    agent_fixture.daemon.registry.add(FixedStore("facts", is_memory=True))
    agent_fixture.model(
        lambda request: Forbidden("Not yours.") if "worth" in str(request.messages[0]) else "ok"
    )
    reply, events = await agent_fixture.run("hi", memory=MEMORY)
    assert reply.content == "ok"
    assert [e.message for e in events if isinstance(e, Progressed)] == [
        "No facts from this turn were stored: Not yours."
    ]


async def test_a_missing_store_for_long_term_memory_is_refused(agent_fixture: AgentFixture) -> None:
    agent_fixture.model("ok")
    with pytest.raises(NotFound, match="facts"):
        await agent_fixture.ask("hi", memory=MEMORY)
    with pytest.raises(InvalidRequest, match="needs 'store'"):
        await agent_fixture.ask("hi", memory={"long_term": {}})
