"""Agents as steps of flows: run at once, deployed, and with functions that stay on the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import Client, Conflict, InvalidRequest, NotFound, Unavailable
from portico.agent import Agent, Json
from portico.flow import agent, flow, llm, parallel, pipeline, warp

SCRIPT: list[dict[str, Any]] = [
    *(
        {"match": item, "tool_calls": [{"name": "price", "arguments": {"item": item}}], "times": 1}
        for item in ("tea", "salt")
    ),
    {"match": "^person", "content": '{"name": "Ann", "age": 7}'},
]
LOCK = threading.Lock()
"""An object that cannot travel, so that functions that use it stay."""
ASKED: list[str] = []
"""Items whose price was requested, in order."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    models = [
        {"name": "default", "source": "fake://"},
        {"name": "actor", "source": "fake://", "parameters": {"script": SCRIPT}},
    ]
    file = home / "models.yaml"
    file.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(file)) as running:
        yield running


@pytest.fixture
def client(served: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("PORTICO_URL", served.url)
    monkeypatch.setattr("portico._serving.CLAIM_WAIT_S", 0.1)
    with Client(served.url) as client:
        yield client


def price(item: str) -> str:
    """What an item costs."""
    with LOCK:
        ASKED.append(item)
        return "three crowns"


class Twice(Agent):
    """Says what it hears two times."""

    def __init__(self) -> None:
        self.voice = Agent("default")

    def forward(self, message: Any) -> str:
        return f"{self.voice(message).content} {message.content}"


def test_an_agent_is_a_step_of_its_own_kind(client: Client) -> None:
    agent_flow = flow(pipeline(Agent("default", name="one"), Agent("default", name="two")), name="both")
    assert [step["op"] for step in agent_flow.spec["step"]["steps"]] == ["agent", "agent"]
    assert agent_flow.functions == {}
    assert client.run(agent_flow, "Good morning") == "Good morning"


def test_functions_of_an_agent_step_are_called_in_the_client(client: Client) -> None:
    ASKED.clear()
    clerk = Agent("actor", name="clerk", tools=[price])
    assert client.run(pipeline(clerk, lambda text: text.strip()), "the price of tea?")
    assert ASKED == ["tea"]


def test_a_deployed_flow_asks_its_agent_without_a_client(client: Client) -> None:
    client.apps.deploy("pair", pipeline(first=Agent("default"), second=llm("default")))
    assert client.chat("Good morning", model="pair").read().text == "Good morning"


def test_the_formatted_output_of_an_agent_is_passed_to_the_next_step(client: Client) -> None:
    person = Agent("actor", output=Json({"type": "object", "required": ["name"]}))
    assert client.run(pipeline(person, lambda found: found["name"]), "person") == "Ann"
    assert client.run(warp(person), ["person", "person"]) == [{"name": "Ann", "age": 7}] * 2


def test_served_functions_answer_for_the_agent_of_a_deployed_flow(client: Client, served: Daemon) -> None:
    shop = flow(pipeline(Agent("actor", name="clerk", tools=[price])), name="shop")
    [warning] = client.apps.deploy("shop", shop).warnings
    assert "The agent calls the function 'price', which no worker currently serves" in warning
    stop = threading.Event()
    with Client(served.url) as worker:
        thread = threading.Thread(target=worker.serve, args=([shop],), kwargs={"stop": stop})
        thread.start()
        try:
            while "price" not in {tool.name for tool in client.tools.list()}:
                pass
            ASKED.clear()
            assert client.chat("the price of salt?", model="shop").read().text
            assert ASKED == ["salt"]
        finally:
            stop.set()
            thread.join(60)


def test_an_agent_with_a_forward_method_runs_in_the_client(client: Client) -> None:
    assert client.run(pipeline(Twice(), lambda text: text.upper()), "ho") == "HO HO"


def test_a_flow_with_an_unserved_function_is_refused_on_deploy_and_call(client: Client) -> None:
    echo = flow(parallel(a=llm("default"), b=Twice()), name="echo")
    with pytest.raises(
        Conflict, match="'echo' calls the function 'Twice', which no client currently serves"
    ) as caught:
        client.apps.deploy("echo", echo)
    assert caught.value.code == "not_served"
    client.apps.deploy("echo", echo, serve_later=True)
    for call in (
        lambda: client.chat("ho", model="echo").read(),
        lambda: client.apps.run("echo", "ho"),
    ):
        with pytest.raises(Unavailable, match="No client currently serves the function 'Twice'") as exc_info:
            call()
        assert exc_info.value.code == "not_served"


def test_a_bound_message_and_a_session_go_to_the_agent(client: Client) -> None:
    step = agent(Agent("default", name="kept"), message="Hello {name}", session="lisbon").bind(name="Ada")
    assert client.run(pipeline(step), "x") == "Hello Ada"
    assert [session.name for session in client.sessions.list("kept")] == ["lisbon"]
    with pytest.raises(InvalidRequest, match="runs in this process"):
        agent(Twice(), message="no")


def test_an_unknown_model_of_an_agent_step_is_refused_before_the_run(client: Client) -> None:
    with pytest.raises(NotFound, match=r"flow\.step\.agent\.model"):
        client.run(
            {"portico_flow": 1, "step": {"op": "agent", "agent": {"portico_agent": 1, "model": "nobody"}}}
        )
