"""``configs/agents.yaml`` unchanged, and a program, with the real model that comes with Portico."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from tests.daemon import ROOT, Daemon, running
from tests.examples.agents.conftest import PROGRAMS

from portico import Client


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home: Path = tmp_path_factory.mktemp("home") / "data"
    with running(home, "--file", str(ROOT / "configs" / "agents.yaml")) as daemon:
        yield daemon


@pytest.mark.slow
def test_the_configured_agents_exist_and_one_answers_only_three_characters(served: Daemon) -> None:
    with Client(served.url) as client:
        assert {app.name for app in client.apps.list() if app.kind == "agent"} == {
            "three",
            "weather",
            "clerk",
        }
        for text in ("今天天气情况", "What is your name?"):
            assert client.chat(text, "three", conversation="c").read().text in ("典", "孝", "急")
        [session] = client.sessions.list("three")
        assert len(client.sessions.messages(session.id)) == 4


@pytest.mark.slow
def test_a_real_model_is_held_to_the_three_characters(
    served: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_URL", served.url)
    monkeypatch.syspath_prepend(str(PROGRAMS))
    agent = import_module("one_of_three").agent
    for text in ("今天天气情况", "Tell me a long story."):
        answer = agent(text, session=text)
        assert answer.content == answer.formatted and answer.content in ("典", "孝", "急")
