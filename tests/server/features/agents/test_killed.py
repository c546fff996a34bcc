"""A session survives `kill -9`, between turns and during a turn."""

from __future__ import annotations

import itertools
import random
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.kills import count_kills

pytestmark = [pytest.mark.process, pytest.mark.process]

SCRIPT = [{"match": "hang", "content": "One two three", "hang": 1}]


KILLS = count_kills(2)
"""Number of moments at which the daemon is killed."""


def start(home: Path) -> Daemon:
    return daemons.start(home / "data", env={"PORTICO_MODEL": ""})


def kill(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait(60)
    for stream in (daemon.process.stdin, daemon.process.stdout):
        if stream is not None:
            stream.close()


def end(daemon: Daemon) -> None:
    daemon.stop()
    for stream in (daemon.process.stdin, daemon.process.stdout):
        if stream is not None:
            stream.close()


def prepare(daemon: Daemon) -> None:
    model = {"name": "clerk", "source": "fake://", "parameters": {"script": SCRIPT}}
    httpx.post(f"{daemon.url}/api/deployments", json=model, timeout=60).raise_for_status()
    app = {"name": "desk", "kind": "agent", "spec": {"portico_agent": 1, "model": "clerk"}}
    httpx.post(f"{daemon.url}/api/apps", json=app, timeout=60).raise_for_status()


def say(daemon: Daemon, text: str) -> str:
    body = {"model": "desk", "messages": [{"role": "user", "content": text}], "conversation": "s"}
    answer = httpx.post(f"{daemon.url}/v1/chat/completions", json=body, timeout=60)
    answer.raise_for_status()
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


def memory(daemon: Daemon) -> list[dict[str, Any]]:
    sessions = httpx.get(f"{daemon.url}/api/sessions", timeout=60).json()["data"]
    if not sessions:
        return []
    state: dict[str, Any] = httpx.get(
        f"{daemon.url}/api/sessions/{sessions[0]['id']}/state", timeout=60
    ).json()
    return state["memory"]


def test_a_kill_keeps_finished_turns_and_discards_the_unfinished_one(tmp_path: Path) -> None:
    daemon = start(tmp_path)
    try:
        prepare(daemon)
        assert say(daemon, "one") == "one"
        kill(daemon)
        daemon = start(tmp_path)
        assert [m["content"] for m in memory(daemon)] == ["one", "one"]
        body = {
            "model": "desk",
            "messages": [{"role": "user", "content": "hang"}],
            "conversation": "s",
            "stream": True,
        }
        with httpx.stream("POST", f"{daemon.url}/v1/chat/completions", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if "One" in line:  # the turn has started to answer
                    kill(daemon)
                    break
        daemon = start(tmp_path)
        assert [m["content"] for m in memory(daemon)] == ["one", "one"]
        assert say(daemon, "two") == "two"
        assert [m["content"] for m in memory(daemon)] == ["one", "one", "two", "two"]
    finally:
        end(daemon)


@pytest.mark.slow
def test_every_acknowledged_turn_is_complete_after_random_kills(tmp_path: Path) -> None:
    numbers = itertools.count()
    acknowledged: list[str] = []
    dice = random.Random(20261121)
    daemon = start(tmp_path)
    try:
        prepare(daemon)
        for _ in range(KILLS):
            enough, rounds = threading.Event(), dice.randint(1, 30)

            def turns(
                daemon: Daemon = daemon, enough: threading.Event = enough, rounds: int = rounds
            ) -> None:
                try:
                    for done in itertools.count():
                        text = f"turn {next(numbers)}"
                        if done >= rounds:
                            enough.set()  # the next turn runs when the daemon is killed
                        say(daemon, text)
                        acknowledged.append(text)
                except httpx.HTTPError:
                    enough.set()

            speaker = threading.Thread(target=turns)
            speaker.start()
            assert enough.wait(60)
            kill(daemon)
            speaker.join(60)
            daemon = start(tmp_path)
            messages = memory(daemon)
            assert [m["sender"] for m in messages] == ["user", "desk"] * (len(messages) // 2)
            questions = [m["content"] for m in messages if m["sender"] == "user"]
            assert questions == [m["content"] for m in messages if m["sender"] == "desk"]
            assert [text for text in questions if text in acknowledged] == acknowledged
            assert len(questions) - len(acknowledged) <= KILLS, "at most the one under way, each time"
    finally:
        end(daemon)
