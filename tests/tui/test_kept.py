"""The screens of engines, guards, adapters, artifacts, facts and stored chats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.tui.terminal import Terminal, terminal

from portico import Client
from portico_tui.widgets.dialogs import Form, Reader
from portico_tui.widgets.run_view import RunView

LEARNS = [
    {
        "match": "Message:",
        "content": '{"value": [{"fact": "The user lives in Lisbon.", "quote": "I live in Lisbon", "replaces": null}]}',
    },
    {"match": "", "content": "Noted."},
]
GUIDE = {"portico_agent": 1, "name": "guide", "model": "noter", "memory": {"long_term": {"store": "facts"}}}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon with a guard, a fact, an artifact and two stored chats."""
    home = tmp_path_factory.mktemp("home")
    guards = home / "guards.yaml"
    guards.write_text("guards: [{name: people, on: echo, detect: pii, action: flag}]\n", encoding="utf-8")
    with daemons.running(home / "data", "--file", str(guards)) as running:
        with Client(running.url) as client:
            client.deployments.add("noter", "fake://", parameters={"script": LEARNS})
            client.deployments.add("echo", "fake://")
            client.deployments.add("voice", "fake://", task="speech")
            client.stores.add("facts")
            client.agents.run(GUIDE, "I live in Lisbon", session=("api", "lisbon"))
            client.tools.call("speak", {"text": "The door is open."})
            for topic in ("tea", "coffee"):
                extra_body = {"store": True, "metadata": {"topic": topic}}
                client.chat(f"A cup of {topic}", model="echo", extra_body=extra_body).read()
            for run in client.runs.list():
                for _event in client.runs.events(run.id):
                    pass
        yield running


async def open_list(screen: Terminal, mode: str) -> None:
    """Go to a screen and wait for its first row."""
    await screen.go(mode)
    await screen.until(lambda: screen.rows("#rows"))


@pytest.mark.slow
async def test_stored_chats_are_read_labelled_and_forgotten(daemon: Daemon) -> None:
    async with terminal(daemon.url, size=(110, 24)) as screen:
        await open_list(screen, "chats")
        assert [row[1:4] for row in screen.rows("#rows")] == [
            ["echo", f"topic={topic}", f"A cup of {topic}"] for topic in ("coffee", "tea")
        ]
        await screen.press("enter")
        await screen.over(Reader)
        assert screen.text("#text").startswith("user\nA cup of coffee\n\nassistant\nA cup of coffee")
        await screen.press("escape", "e")
        await screen.fill(labels="topic")
        await screen.until(lambda: any("must be NAME=VALUE" in line for line in screen.told))
        await screen.press("e")
        await screen.fill(labels="topic=espresso size=small")
        await screen.until(lambda: "espresso" in screen.rows("#rows")[0][2])
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: [row[3] for row in screen.rows("#rows")] == ["A cup of tea"])


async def test_an_artifact_is_saved_without_overwriting_a_file_and_deleted(
    daemon: Daemon, tmp_path: Path
) -> None:
    path = tmp_path / "door.wav"
    async with terminal(daemon.url) as screen:
        await open_list(screen, "artifacts")
        await screen.press("s")
        await screen.fill(path=str(path))
        await screen.until(lambda: any("is written" in line for line in screen.told))
        assert path.read_bytes().startswith(b"RIFF")
        await screen.press("s")
        await screen.fill(path=str(path))
        await screen.until(lambda: any("already exists" in line for line in screen.told))
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.rows("#rows"))


async def test_a_fact_is_corrected_and_forgotten(daemon: Daemon) -> None:
    async with terminal(daemon.url, size=(110, 24)) as screen:
        await open_list(screen, "facts")
        assert "I live in Lisbon" in screen.text("#detail")  # the source of the fact
        await screen.press("e")
        await screen.fill(text="The user lives in Porto.")
        await screen.until(lambda: screen.rows("#rows")[0][2] == "The user lives in Porto.")
        await screen.press("enter")
        await screen.over(Reader)
        fact_text = screen.text("#text")
        assert "Porto" in fact_text and "said: I live in Lisbon" in fact_text
        await screen.press("escape")
        await screen.press("z")
        await screen.until(lambda: screen.rows("#rows")[0][2] == "The user lives in Lisbon.")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.rows("#rows"))


async def test_an_engine_lists_the_parameters_of_its_models(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await open_list(screen, "engines")
        screen.app.screen.table.choose("vllm")  # type: ignore[attr-defined]
        await screen.press("enter")
        await screen.over(Reader)
        assert "tensor_parallel" in screen.text("#text")


async def test_guards_are_listed_and_their_findings_appear_in_run_events(daemon: Daemon) -> None:
    async with terminal(daemon.url, size=(110, 24)) as screen:
        await open_list(screen, "guards")
        assert screen.rows("#rows")[0][:2] == ["people", "echo"]
        assert "email" in screen.text("#detail") and "input, output" in screen.text("#detail")
        with Client(daemon.url) as client:
            client.chat("Write to jane@example.com", model="echo").read()
            [run] = [run for run in client.runs.list() if run.name == "echo"][:1]
        await open_list(screen, "runs")
        screen.app.screen.table.choose(run.id)  # type: ignore[attr-defined]
        await screen.press("e")
        await screen.over(RunView)
        await screen.until(lambda: "people: flag email × 1 in input" in screen.text("#happened"))


async def test_a_missing_adapter_is_refused_with_the_daemons_message(daemon: Daemon, tmp_path: Path) -> None:
    async with terminal(daemon.url) as screen:
        await screen.go("adapters")
        await screen.until(lambda: "No adapters yet" in screen.text("#empty"))
        await screen.press("a")
        await screen.fill(base="echo", path=str(tmp_path / "none"), name="polite")
        await screen.until(lambda: screen.told)
        assert not isinstance(screen.app.screen, Form) and not screen.rows("#rows")
