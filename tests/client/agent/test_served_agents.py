"""A class with a ``forward`` under a name, called with keys of its own and of others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import Client, Forbidden, InvalidRequest, PorticoError, ServerFailed, Unavailable
from portico.agent import Agent, Message
from portico.agent.serve import function_name

CONFIGURATION = """
models:
  - {name: default, source: "fake://"}
keys:
  - {name: boss, key: boss-secret-key-of-the-tests, scopes: [admin]}
  - {name: one, key: one-secret-key-of-the-tests, scopes: [chat, "apps:*:call", "tools:*:call"]}
  - {name: two, key: two-secret-key-of-the-tests, scopes: [chat, "apps:*:call", "tools:*:call"]}
  - {name: poor, key: poor-secret-key-of-the-tests, scopes: [chat, "apps:*:call"]}
"""


class Echoes(Agent):
    """Says everything twice.

    More about it.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client=client)
        self.inner = Agent()

    def forward(self, message: Message) -> str:
        if message.content == "fail":
            raise ValueError("The well is dry.")
        return self.inner(message).content * 2


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    file = home / "keys.yaml"
    file.write_text(CONFIGURATION, encoding="utf-8")
    env = {"PORTICO_REQUIRE_KEY": "true"}
    with daemons.running(home / "data", "--file", str(file), env=env) as running:
        yield running


def client_of(house: Daemon, name: str) -> Client:
    return Client(house.url, f"{name}-secret-key-of-the-tests")


@pytest.fixture(scope="module")
def boss(house: Daemon) -> Iterator[Client]:
    with client_of(house, "boss") as client:
        yield client


@pytest.fixture
def echoes(boss: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Echoes]:
    monkeypatch.setattr("portico._serving.WAIT", 0.1)
    agent = Echoes(boss)
    with serving(boss, agent, "echoes"):
        yield agent


@contextmanager
def serving(client: Client, agent: Agent, name: str) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=agent.serve, args=(client, name), kwargs={"stop": stop})
    thread.start()
    try:
        while function_name(name) not in {tool.name for tool in client.tools.list()}:
            assert thread.is_alive()
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def say(house: Daemon, key: str, text: str, **options: Any) -> str:
    with client_of(house, key) as client:
        return client.chat(text, "echoes", **options).read().text


def test_it_answers_and_is_described(house: Daemon, boss: Client, echoes: Echoes) -> None:
    assert say(house, "boss", "hi", user="a") == "hihi"
    [app] = [app for app in boss.apps.list() if app.name == "echoes"]
    assert app.kind == "agent" and app.description == "Says everything twice."
    assert boss.apps.run("echoes", "ho", session="b")["content"] == "hoho"


def test_sessions_of_different_keys_never_meet(house: Daemon, boss: Client, echoes: Echoes) -> None:
    assert say(house, "one", "mine", user="x") == "minemine"
    assert say(house, "two", "yours", user="x") == "yoursyours"
    names = [session.name for session in boss.sessions.list("Echoes") if session.name.endswith("/x")]
    assert len(set(names)) == 2
    said = sorted([message.content for message in echoes.inner.memory(name)] for name in names)
    assert said == [["mine", "mine"], ["yours", "yours"]]


def test_calls_without_a_session_stand_alone(house: Daemon, echoes: Echoes, boss: Client) -> None:
    before = len(boss.sessions.list("Echoes"))
    assert say(house, "boss", "a") == "aa" and say(house, "boss", "b") == "bb"
    assert len(boss.sessions.list("Echoes")) == before + 2


def test_what_it_raises_is_told(house: Daemon, echoes: Echoes) -> None:
    with pytest.raises(ServerFailed, match=r"The well is dry\."):
        say(house, "boss", "fail")


def test_a_key_that_may_not_use_the_function_is_refused(house: Daemon, echoes: Echoes) -> None:
    with pytest.raises(PorticoError, match="echoes_forward") as refused:
        say(house, "poor", "hi")
    assert isinstance(refused.value, Forbidden | Unavailable)


def test_nobody_serves_it(house: Daemon, boss: Client) -> None:
    Echoes(boss).deploy(boss, "echoes")
    with pytest.raises(Unavailable, match="Start that program again") as refused:
        say(house, "boss", "hi")
    assert refused.value.code == "not_served"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"forward": "f"}, "portico_agent"),
        ({"portico_agent": 2, "forward": "f"}, "portico_agent"),
        ({"portico_agent": 1, "forward": ""}, "forward"),
        ({"portico_agent": 1, "forward": "f", "tools": []}, "tools"),
    ],
)
def test_a_specification_that_is_wrong_says_where(boss: Client, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        boss.apps.deploy("wrong", spec, kind="agent")
