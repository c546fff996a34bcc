"""`portico agents`, `portico sessions` and `portico facts` against a real daemon."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon

from portico import Conflict, InvalidRequest, NotFound
from portico.cli.root import run
from portico.client import Client
from portico.schemas.facts import Fact, FactSpan

SPEC = {
    "portico_agent": 1,
    "name": "clerk",
    "description": "Repeats what it hears.",
    "instructions": "Repeat.",
    "tools": ["calculator", {"tool": "python_light", "as": "python"}],
    "strategy": "text_tools",
}


SCRIPT = [
    {
        "match": "Message:",
        "content": '{"value": [{"fact": "The user lives in Lisbon.", "quote": "I live in Lisbon", "replaces": null}]}',
    },
    {"match": "", "content": "Noted."},
]
MOVED, PET = (
    [{"match": "Message:", "content": json.dumps({"value": [fact]})}, {"match": "", "content": "Noted."}]
    for fact in (
        {"fact": "The user lives in Porto.", "quote": "I live in Porto", "replaces": 1},
        {"fact": "The user has a cat.", "quote": "I have a cat", "replaces": None},
    )
)
GUIDE: dict[str, Any] = {
    "portico_agent": 1,
    "name": "guide",
    "model": "noter",
    "memory": {"long_term": {"store": "facts"}},
}


class Shell:
    """Commands to one daemon."""

    def __init__(self, daemon: Daemon, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._daemon, self._capsys, self._patch = daemon, capsys, patch

    def __call__(self, *words: str, given: str = "", code: int = 0) -> str:
        self._patch.setattr("sys.stdin", io.StringIO(given))
        assert run(["--url", self._daemon.url, *words]) == code
        out, error = self._capsys.readouterr()
        return out if code == 0 else error

    def json(self, *words: str, given: str = "") -> Any:
        return json.loads(self(*words, "--json", given=given))


@pytest.fixture
def shell(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(daemon, capsys, monkeypatch)


@pytest.fixture
def clerk(shell: Shell, tmp_path: Path) -> str:
    file = tmp_path / "clerk.json"
    file.write_text(json.dumps(SPEC), encoding="utf-8")
    shell("agents", "deploy", str(file))
    return "clerk"


def test_an_agent_is_deployed_listed_shown_and_removed(shell: Shell, clerk: str) -> None:
    assert "clerk" in shell("agents", "list") and "Repeats what it hears." in shell("agents", "list")
    assert [item["name"] for item in shell.json("agents", "list")["data"]] == ["clerk"]
    details = shell("agents", "show", clerk)
    assert all(word in details for word in ("text_tools", "calculator, python_light", "Repeat."))
    assert shell.json("agents", "show", clerk)["spec"]["tools"] == SPEC["tools"]
    assert "Would remove" in shell("agents", "remove", clerk, "--dry-run")
    assert "Removed 'clerk'" in shell("agents", "remove", clerk, "--yes")
    assert f"The deployed app '{clerk}' does not exist" in shell("agents", "show", clerk, code=1)


def test_agents_show_refuses_an_app_that_is_not_an_agent(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(
        '{"portico_flow": 1, "name": "plain", "step": {"name": "say", "op": "emit", "text": "x"}}'
    )
    shell("apps", "deploy", str(file))
    assert "'plain' is not an agent" in shell("agents", "show", "plain", code=1)


def test_an_agent_of_a_python_file_is_deployed(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "parrot.py"
    file.write_text("from portico.agent import Agent\nagent = Agent(name='parrot', instructions='Repeat.')\n")
    assert "'parrot' answers at version 1" in shell("agents", "deploy", f"{file}:agent")
    assert "hello" in shell("agents", "chat", "parrot", given="hello\n")


def test_an_agent_chat_continues_its_named_session(shell: Shell, clerk: str) -> None:
    assert shell("agents", "chat", clerk, "--session", "mon", given="one\n\ntwo\n").split() == ["one", "two"]
    messages = shell.json("agents", "chat", clerk, "--session", "mon", given="three\n")["messages"]
    assert [message["content"] for message in messages] == ["three", "three"]
    session_text = shell("sessions", "show", "clerk/mon")
    assert [session_text.count(word) for word in ("one", "two", "three", "clerk\n")] == [3, 2, 2, 4], (
        "one is its title too"
    )


def test_sessions_are_listed_searched_and_named(shell: Shell, clerk: str) -> None:
    shell("agents", "chat", clerk, "--session", "heater", given="the heater is broken\n")
    shell("agents", "chat", clerk, "--session", "other", given="hello\n")
    sessions = shell.json("sessions", "list", "--app", clerk)["data"]
    assert [item["name"] for item in sessions][:2] == ["other", "heater"]
    next_page = shell.json("sessions", "list", "--app", clerk, "--after", sessions[0]["id"])["data"]
    assert next_page == sessions[1:]
    assert "The session 'conv_nope' in 'after' does not exist" in shell(
        "sessions", "list", "--after", "conv_nope", code=1
    )
    search_results = shell.json("sessions", "list", "--search", "heater is")["data"]
    assert [item["name"] for item in search_results] == ["heater"]
    assert "'heater' now has the title 'Cold'" in shell("sessions", "rename", "clerk/heater", "Cold")
    assert "Cold" in shell("sessions", "list") and "Cold" in shell(
        "sessions", "show", search_results[0]["id"]
    )
    assert "has no session 'nope'" in shell("sessions", "show", "clerk/nope", code=1)
    first = shell.json("sessions", "show", "clerk/other", "--limit", "1")
    next_page = shell.json("sessions", "show", "clerk/other", "--after", str(first["messages"][0]["seq"]))
    assert (first["has_more"], next_page["has_more"]) == (True, False)
    all_messages = shell.json("sessions", "show", "clerk/other")["messages"]
    assert [*first["messages"], *next_page["messages"]] == all_messages


def test_a_session_is_published_and_unpublished(shell: Shell, clerk: str) -> None:
    shell("agents", "chat", clerk, "--session", "news", given="the heater works\n")
    address = shell("sessions", "publish", "clerk/news", "--days", "7").split()[0]
    base, _, secret = address.partition("/#/public/")
    public = f"{base}/api/public-sessions/{secret}"
    assert "the heater works" in httpx.get(public, timeout=60).text
    [link] = shell.json("sessions", "public-links", "clerk/news")["data"]
    assert link["expires_at"] - link["created_at"] == pytest.approx(7 * 24 * 3600)
    assert secret not in shell("sessions", "public-links", "clerk/news")
    assert f"Removed the link '{link['id']}'." in shell("sessions", "unpublish", "clerk/news", link["id"])
    assert httpx.get(public, timeout=60).status_code == 404


def test_a_session_is_copied_emptied_and_removed(shell: Shell, clerk: str) -> None:
    shell("agents", "chat", clerk, "--session", "first", given="hello\n")
    assert "clerk/second" in shell("sessions", "fork", "clerk/first", "--name", "second")
    assert "--yes" in shell("sessions", "reset", "clerk/first", code=1)
    assert "is empty" in shell("sessions", "reset", "clerk/first", "--yes")
    assert shell.json("sessions", "show", "clerk/first")["messages"] == []
    assert len(shell.json("sessions", "show", "clerk/second")["messages"]) == 2
    assert "Would remove" in shell("sessions", "delete", "clerk/second", "--dry-run")
    assert shell.json("sessions", "delete", "clerk/second", "--yes")["removed"].startswith("conv_")
    assert "has no session" in shell("sessions", "show", "clerk/second", code=1)


def test_an_answer_is_rated_and_listed(shell: Shell, clerk: str) -> None:
    shell("agents", "chat", clerk, "--session", "rated", given="hello\n")
    [_, answer] = shell.json("sessions", "show", "clerk/rated")["messages"]
    number = str(answer["seq"])
    assert "is rated: good" in shell("sessions", "rate", "clerk/rated", number, "good", "--note", "kind")
    assert "corrected" in shell("sessions", "rate", "clerk/rated", number, "corrected", code=1)
    [rating] = shell.json("sessions", "ratings", "--app", "clerk")["data"]
    assert (rating["message"], rating["value"], rating["note"]) == (answer["seq"], "good", "kind")
    assert "kind" in shell("sessions", "ratings", "--value", "good")
    assert "No ratings." in shell("sessions", "ratings", "--value", "bad")


def test_a_session_is_exported_and_read_back(shell: Shell, clerk: str, tmp_path: Path) -> None:
    shell("agents", "chat", clerk, "--session", "whole", given="hello\n")
    state = shell("sessions", "export", "clerk/whole")
    assert [message["content"] for message in json.loads(state)["memory"]] == ["hello", "hello"]
    file = tmp_path / "whole.json"
    file.write_text(state, encoding="utf-8")
    assert "clerk/back is there" in shell("sessions", "import", str(file), "clerk/back")
    assert shell("sessions", "export", "clerk/back") == state
    assert "--yes" in shell("sessions", "import", str(file), "clerk/back", code=1)
    assert shell.json("sessions", "import", "-", "clerk/back", "--yes", given=state)["name"] == "back"
    assert "APP/NAME" in shell("sessions", "import", str(file), "nameless", code=1)
    file.write_text("[1", encoding="utf-8")
    assert "is not JSON" in shell("sessions", "import", str(file), "clerk/back", code=1)


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[Client]:
    """Prepare facts: a model that finds a fact in every conversation, and a store for the facts."""
    with Client(daemon.url) as client:
        client.deployments.add("noter", "fake://", parameters={"script": SCRIPT})
        for name, script in (("mover", MOVED), ("petter", PET)):
            client.deployments.add(name, "fake://", parameters={"script": script})
        client.stores.add("facts")
        yield client


def indexed(client: Client) -> None:
    for run_entry in client.runs.list():
        for _event in client.runs.events(run_entry.id):
            pass


def learn(client: Client, session: str) -> Fact:
    """Return the fact that an agent learns in a session."""
    client.agents.run(GUIDE, "I live in Lisbon", session=("api", session))
    indexed(client)
    row = client.sessions.open("api", session)
    (fact,) = client.facts.list(session=row.id)
    return fact


def search(client: Client) -> list[str]:
    return [passage.text for passage in client.stores.search("facts", "Where does the user live?").passages]


@pytest.mark.slow
def test_a_fact_is_listed_with_the_message_it_was_learnt_from_changed_and_forgotten(client: Client) -> None:
    fact = learn(client, "s")
    session = client.sessions.open("api", "s")
    source = fact.source
    assert (fact.text, fact.store) == ("The user lives in Lisbon.", "facts")
    assert (source.agent, source.app, source.name, source.session) == ("guide", "api", "s", session.id)
    [source_message] = [m for m in client.sessions.messages(session.id) if m.seq == source.message]
    assert (
        source_message.message["content"] == source.said == "I live in Lisbon"
        and source_message.run == source.run
    )
    assert [item.id for item in client.facts.list(store="facts", agent="guide")] == [fact.id]
    assert client.facts.list(agent="somebody") == []

    changed_fact = client.facts.change(fact.id, " The user lives in Porto. ")
    indexed(client)
    assert (changed_fact.id, changed_fact.text, changed_fact.source) == (
        fact.id,
        "The user lives in Porto.",
        source,
    )
    assert changed_fact.created_at == fact.created_at and changed_fact.changed_at > fact.changed_at
    assert search(client) == ["The user lives in Porto."]
    client.sessions.remove(session.id)
    [remaining_fact] = client.facts.list()
    assert (
        remaining_fact.id,
        remaining_fact.source.name,
        remaining_fact.source.session,
        remaining_fact.source.said,
    ) == (fact.id, "s", None, None)

    client.facts.remove(fact.id)
    assert client.facts.list() == [] == search(client)
    for request_call in (lambda: client.facts.remove(fact.id), lambda: client.facts.change(fact.id, "x")):
        with pytest.raises(NotFound, match=f"Fact '{fact.id}' not found"):
            request_call()


def test_a_fact_is_found_in_a_copy_of_the_session_that_it_was_learnt_in(client: Client) -> None:
    fact = learn(client, "trunk")
    trunk = client.sessions.open("api", "trunk")
    branch = client.sessions.fork(trunk.id, name="branch")
    runs = [message.run for message in client.sessions.messages(branch.id)]
    assert runs == [message.run for message in client.sessions.messages(trunk.id)] and None not in runs
    client.sessions.remove(trunk.id)
    [remaining_fact] = client.facts.list()
    assert (remaining_fact.id, remaining_fact.source.name, remaining_fact.source.session) == (
        fact.id,
        "branch",
        branch.id,
    )
    assert remaining_fact.source.said == "I live in Lisbon"
    client.sessions.remove(branch.id)
    client.facts.remove(fact.id)


def test_a_known_fact_is_not_stored_twice_and_is_a_store_file(client: Client) -> None:
    fact = learn(client, "twice")
    client.agents.run(GUIDE, "I live in Lisbon", session=("api", "twice"))
    assert [item.id for item in client.facts.list()] == [fact.id], "it was known"
    (file,) = client.stores.files(client.stores.get("facts").id)
    attributes = dict(file.attributes)
    assert attributes["fact"] is True and (attributes["agent"], attributes["owner"]) == ("guide", "local")
    for text in ("", "  ", "x" * 501):
        with pytest.raises(InvalidRequest):
            client.facts.change(fact.id, text)
    client.files.remove(file.id)
    assert client.facts.list() == []


def test_another_keys_facts_do_not_exist(client: Client, daemon: Daemon) -> None:
    fact = learn(client, "own")
    key = client.keys.add("nosy", ["chat", "stores:facts:write"])
    with httpx.Client(base_url=daemon.url, headers={"Authorization": f"Bearer {key.key}"}) as stranger:
        assert stranger.get("/api/facts").json() == {"data": []}
        assert stranger.delete(f"/api/facts/{fact.id}").status_code == 404
        assert stranger.patch(f"/api/facts/{fact.id}", json={"text": "x"}).status_code == 404
        session = client.sessions.open("api", "own")
        assert stranger.get(f"/api/sessions/{session.id}/facts").status_code == 404
    client.keys.revoke(key.id)
    client.facts.remove(fact.id)


def test_a_fact_shows_its_words_and_its_history_and_can_be_reverted(client: Client) -> None:
    """A person changes a fact, the user says it again, and both changes are undone."""
    fact = learn(client, "wed")
    assert fact.span == FactSpan("I live in Lisbon", 0, 16)
    assert (client.facts.get(fact.id).fact, client.facts.get(fact.id).versions) == (fact, ())
    with pytest.raises(Conflict, match="has no version before this one"):
        client.facts.revert(fact.id)

    client.facts.change(fact.id, "The user lives in Porto.")
    changed_fact = client.facts.change(fact.id, "The user lives in Lisbon!")
    assert changed_fact.span is None, "nobody said the new text"
    again = learn(client, "thu")
    assert (again.id, again.text, again.span) == (fact.id, fact.text, fact.span)
    assert again.source.name == "thu"
    versions = client.facts.get(fact.id).versions
    assert [(version.text, version.reason, version.span) for version in versions] == [
        ("The user lives in Lisbon!", "merged", None),
        ("The user lives in Porto.", "changed", None),
        (fact.text, "changed", fact.span),
    ]
    assert versions[-1].source.said == "I live in Lisbon"
    assert versions[0].ended_at == again.changed_at
    assert client.facts.list() == [again]
    assert client.facts.list(versions=True) == [again, *versions]

    assert client.facts.revert(fact.id).text == "The user lives in Lisbon!"
    assert client.facts.revert(fact.id).text == "The user lives in Porto."
    restored = client.facts.revert(fact.id)
    assert (restored.text, restored.span, restored.source) == (fact.text, fact.span, fact.source)
    indexed(client)
    assert search(client) == [fact.text]
    with pytest.raises(Conflict):
        client.facts.revert(fact.id)
    assert {version.reason for version in client.facts.get(fact.id).versions} == {"reverted"}
    client.facts.remove(fact.id)
    assert client.facts.list(versions=True) == []


def test_a_fact_that_contradicts_a_known_fact_takes_its_place(client: Client) -> None:
    fact = learn(client, "fri")
    client.agents.run(
        {**GUIDE, "model": "mover"}, "I moved to Porto, I live in Porto now", session=("api", "sat")
    )
    indexed(client)
    [current_fact] = client.facts.list()
    assert (current_fact.id, current_fact.text, current_fact.source.name) == (
        fact.id,
        "The user lives in Porto.",
        "sat",
    )
    [former_version] = client.facts.get(fact.id).versions
    assert (former_version.text, former_version.reason, former_version.source.name) == (
        fact.text,
        "replaced",
        "fri",
    )
    assert search(client) == ["The user lives in Porto."]
    assert client.facts.revert(fact.id).text == fact.text
    client.facts.remove(fact.id)


@pytest.mark.slow
def test_a_fact_has_at_most_20_former_versions(client: Client) -> None:
    fact = learn(client, "sun")
    for number in range(22):
        client.facts.change(fact.id, f"Text {number}.")
    versions = client.facts.get(fact.id).versions
    assert [version.text for version in versions] == [f"Text {number}." for number in reversed(range(1, 21))]
    client.facts.remove(fact.id)


def test_facts_are_listed_page_by_page(client: Client) -> None:
    first = learn(client, "page")
    client.agents.run({**GUIDE, "model": "petter"}, "I have a cat", session=("api", "pet"))
    pet, *_rest = client.facts.list()
    assert client.facts.list(limit=1) == [pet]
    assert client.facts.list(after=pet.id, limit=1) == [first]
    assert client.facts.list(after=first.id) == []
    for fact in (first, pet):
        client.facts.remove(fact.id)


def test_a_manually_edited_fact_has_no_conversation_quote(shell: Shell, client: Client) -> None:
    fact = learn(client, "old")
    client.facts.change(fact.id, "The user lives in Porto.")
    assert client.facts.get(fact.id).fact.span is None
    assert "no words of a conversation support this text" in shell("facts", "show", fact.id)
    client.facts.remove(fact.id)


def test_facts_are_listed_shown_changed_and_exported_by_commands(shell: Shell, client: Client) -> None:
    fact = learn(client, "tue")
    assert shell.json("facts", "list", "--agent", "nobody")["data"] == []
    fact_table = shell("facts", "list", "--session", "api/tue")
    assert fact.text in fact_table and "api/tue" in fact_table and "I live in Lisbon" in fact_table
    [fact_row] = shell.json("facts", "list", "--store", "facts")["data"]
    assert fact_row["id"] == fact.id and fact_row["source"]["said"] == "I live in Lisbon"
    fact_row = shell("facts", "show", fact.id)
    assert "I live in Lisbon (characters 0 to 16 of the message)" in fact_row and "api/tue" in fact_row
    assert "says: He lives in Faro." in shell("facts", "change", fact.id, "He lives in Faro.")
    assert "changed" in shell("facts", "list", "--all") and "changed" in shell("facts", "show", fact.id)
    assert shell.json("facts", "show", fact.id)["versions"][0]["text"] == fact.text
    lines = [json.loads(line) for line in shell("facts", "export").splitlines()]
    assert [(line["text"], line["reason"]) for line in lines] == [
        ("He lives in Faro.", None),
        (fact.text, "changed"),
    ]
    assert f"says again: {fact.text}" in shell("facts", "revert", fact.id)
    assert "has no version before this one" in shell("facts", "revert", fact.id, code=1)
    assert "--yes" in shell("facts", "delete", fact.id, code=1)
    assert "Forgot" in shell("facts", "delete", fact.id, "--yes")
    assert f"Fact '{fact.id}' not found" in shell("facts", "delete", fact.id, "--yes", code=1)
    assert "No facts." in shell("facts", "list")
