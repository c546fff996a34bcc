"""Teams of agents as flows, with scripted models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import Client, InvalidRequest, NotFound
from portico.agent import Agent, teams
from portico.wire import Asked

SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "ann": [
        {"match": "How much does it matter", "content": ["3", "9", "0"]},
        {"match": "(?s)ann: one.*You are ann", "content": "Final: three"},
        {"match": "You are ann", "content": "one"},
        {"match": "^measure", "content": "4 m"},
        {"content": "ann on: \\0"},
    ],
    "bob": [
        {"match": "How much does it matter", "content": ["I bid 7.5.", "1", "0"]},
        {"match": "(?s)ann: one.*You are bob", "content": "two"},
        {"match": "You are bob", "content": "zero"},
        {"match": "^paint", "content": "blue"},
        {"content": "bob was told"},
    ],
    "boss": [
        {"match": "Write one line for each part", "content": "ann: measure it\nbob: paint it\nThat is all."},
        {
            "match": "(?s)What your team has done:.*measure it:\n4 m.*paint it:\nblue",
            "content": "4 m of blue",
        },
        {"match": "(?s)The debate:.*ann: one.*bob: two", "content": "Bob is right."},
        {"match": "(?s)bob: zero.*Who speaks next", "content": ["Let ann go on.", "DONE"]},
        {"match": "Who speaks next", "content": "I choose bob, not ann."},
    ],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    models = [
        {"name": f"{name}-model", "source": "fake://", "parameters": {"script": script}}
        for name, script in SCRIPTS.items()
    ]
    file = home / "models.yaml"
    file.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(file)) as running:
        yield running


@pytest.fixture
def client(served: Daemon) -> Iterator[Client]:
    with Client(served.url) as opened_client:
        yield opened_client


ann, bob, boss = (Agent(f"{name}-model", name=name) for name in SCRIPTS)


def ask(client: Client, team: teams.Team, name: str, task: str = "Build it.") -> Any:
    team.deploy(client, name)
    return client.apps.run(name, task)


def test_a_sequence_passes_each_answer_to_the_next_member(client: Client) -> None:
    assert ask(client, teams.sequence(ann, bob), "line", "Say it.") == "bob was told"
    assert {app.name for app in client.apps.list()} >= {"line", "line-ann", "line-bob"}


def test_a_round_robin_ends_with_the_final_answer(client: Client) -> None:
    assert ask(client, teams.round_robin(ann, bob, final="Final"), "round") == "Final: three"
    assert ask(client, teams.round_robin(ann, bob, rounds=1), "short") == "two"


def test_a_moderator_chooses_who_speaks(client: Client) -> None:
    assert ask(client, teams.moderated(boss, ann, bob), "panel") == "one"


def test_the_highest_bid_speaks(client: Client) -> None:
    assert ask(client, teams.bidding(ann, bob), "market") == "one"


def test_a_debate_is_judged(client: Client) -> None:
    assert ask(client, teams.debate(ann, bob, judge=boss, rounds=2), "debate") == "Bob is right."


def test_a_manager_delegates_subtasks_to_the_members(client: Client) -> None:
    assert ask(client, teams.hierarchy(boss, ann, bob), "firm") == "4 m of blue"


def test_a_person_is_one_of_the_speakers(client: Client) -> None:
    team = teams.round_robin(ann, teams.Human("eve"), rounds=1)
    team.deploy(client, "with-eve")
    running = client.apps.start("with-eve", "Build it.")
    for event in running.events():
        if isinstance(event, Asked):
            assert event.kind == "input" and "ann: one" in event.message and "You are eve" in event.message
            client.questions.answer(event.id, True, value="Enough.")
    assert running.result() == "Enough."


def test_teams_from_a_configuration_equal_teams_built_with_the_sdk(client: Client) -> None:
    pair, eve = ("ann", "bob"), teams.Human("eve", limit=60)
    person = {"human": "eve", "limit": 60}
    equal_teams: list[tuple[dict[str, Any], teams.Team]] = [
        ({"kind": "sequence", "members": ["ann", person]}, teams.sequence("ann", eve)),
        (
            {"kind": "round_robin", "rounds": 2, "final": "Final"},
            teams.round_robin(*pair, rounds=2, final="Final"),
        ),
        ({"kind": "moderator", "moderator": "boss", "turns": 5}, teams.moderated("boss", *pair, turns=5)),
        ({"kind": "decentralised"}, teams.bidding(*pair)),
        ({"kind": "debate", "judge": "boss"}, teams.debate(*pair, judge="boss")),
        ({"kind": "hierarchical", "manager": "boss"}, teams.hierarchy("boss", *pair)),
    ]
    agents = [{"name": name, "model": f"{name}-model"} for name in SCRIPTS]
    apps = [
        {"name": f"team-{team_spec['kind']}", "team": {"members": list(pair), **team_spec}}
        for team_spec, _team in equal_teams
    ]
    done = client.apply({"agents": agents, "apps": apps})
    assert {change.action for change in done.changes} == {"create"} and len(done.changes) == 9
    for team_spec, team in equal_teams:
        name = f"team-{team_spec['kind']}"
        [version] = client.apps.versions(name)
        assert version.spec == team.flow(name).spec
    assert client.apps.run("team-debate", "Build it.") == "Bob is right."
    again = client.apply({"agents": agents, "apps": apps})
    assert {change.action for change in again.changes} == {"unchanged"}


def test_a_team_is_traced(client: Client) -> None:
    team = teams.round_robin(ann, bob, rounds=1)
    team.deploy(client, "traced")
    running = client.apps.start("traced", "Build it.")
    assert running.result() == "two" and running.id
    agent_steps = [step for step in client.runs.trace(running.id) if step.kind == "agent"]
    assert [step.output for step in agent_steps] == ["one", "two"]


def test_a_team_with_an_unknown_agent_is_refused(client: Client) -> None:
    with pytest.raises((InvalidRequest, NotFound), match="nobody"):
        teams.sequence("nobody").deploy(client, "empty")


def test_teams_with_duplicate_too_few_or_client_side_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="ann, ann"):
        teams.round_robin(ann, ann)
    with pytest.raises(InvalidRequest, match="at least 2 members"):
        teams.debate(ann, judge=boss)

    class Own(Agent):
        def forward(self, message: Any) -> Any:
            return message

    with pytest.raises(InvalidRequest, match="serve it"):
        teams.sequence(Own())
