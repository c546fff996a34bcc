"""`portico approvals`: tools that ask before they run, approved on the command line and on a terminal."""

from __future__ import annotations

import codecs
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon, environment

from portico import Client
from portico.schemas.questions import Question
from portico.schemas.tools import ToolResult

COMMAND = [sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module", autouse=True)
def _asks(daemon: Daemon) -> None:
    """Add a tool that asks before each call."""
    with Client(daemon.url) as client:
        client.tools.add("wipe", command=["echo", "wiped", "{path}"], approval="always")


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.url) as client:
        yield client


def asked(client: Client) -> Question:
    """Return the first pending question."""
    return next(item for item in client.questions.watch() if item.status == "pending")


@pytest.fixture
def call(client: Client) -> Iterator[Future[ToolResult]]:
    """Start a call that waits for its approval."""
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.tools.call, "wipe", {"path": "/x"})
        yield call
        call.result(60)


def test_a_pending_approval_is_listed_shown_and_approved(
    command: Command, client: Client, call: Future[ToolResult]
) -> None:
    question = asked(client)
    (row,) = command("approvals", "list", "--json").json["data"]
    assert (row["id"], row["kind"], row["arguments"]) == (question.id, "approval", {"path": "/x"})
    assert "wipe\tpath=/x\tpending" in command("approvals", "list").out
    assert "wipe\tpath=/x\tpending" in command("approvals", "watch").out  # once, if there is no terminal
    details = command("approvals", "show", question.id).out
    assert "Run the tool 'wipe'?" in details and '"path": "/x"' in details
    run = command("runs", "show", question.run).out
    assert "waiting" in run and f"portico approvals approve {question.id}" in run
    assert command("approvals", "approve", question.id, "--note", "once").out == "Approved 'wipe'.\n"
    assert call.result(60).text.strip() == "wiped /x"
    again = command("approvals", "approve", question.id)
    assert (again.code, again.out) == (1, "") and "already accepted" in again.err
    assert command("approvals", "list").out == "No open questions.\n"
    assert command("approvals", "list", "--all", "--json").json["data"][0]["note"] == "once"


def test_a_refusal_reaches_the_caller(command: Command, client: Client, call: Future[ToolResult]) -> None:
    question = asked(client)
    done = command("approvals", "refuse", question.id, "--note", "not on a Friday", "--json").json
    assert (done["status"], done["accepted"]) == ("answered", False)
    result = call.result(60)
    assert result.is_error and "not on a Friday" in result.text


def test_a_call_without_a_terminal_says_what_it_waits_for(
    command: Command, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: client.questions.answer(asked(client).id, True))
        done = command("tools", "call", "wipe", "path=/y")
        assert answer.result(60).accepted
    assert (done.code, done.out) == (0, "wiped /y\n\n")
    assert "portico approvals approve ask_" in done.err


class Terminal:
    """A command on its own terminal."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env=environment(PORTICO_URL=url, TERM="dumb"),
        )
        os.close(terminal)
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._seen = ""

    def until(self, words: str) -> None:
        """Read until ``words`` are printed, and discard the output before them."""
        while words not in self._seen:
            self._seen += self._text.decode(os.read(self._controller, 4096))
        self._seen = self._seen.partition(words)[2]

    def type(self, line: str) -> None:
        os.write(self._controller, f"{line}\n".encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        os.close(self._controller)


def test_a_tool_call_on_a_terminal_prompts_for_approval(daemon: Daemon) -> None:
    terminal = Terminal(daemon.url, "tools", "call", "wipe", "path=/z")
    try:
        terminal.until("Approve? [y/N]")
        terminal.type("y")
        terminal.until("wiped /z")
        assert terminal.process.wait(60) == 0
    finally:
        terminal.close()


def test_watching_answers_one_question_after_the_other(daemon: Daemon, client: Client) -> None:
    terminal = Terminal(daemon.url, "approvals", "watch")
    try:
        terminal.until("Waiting for questions")
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(client.tools.call, "wipe", {"path": "/1"})
            terminal.until("Approve? [y/N]")
            terminal.type("y")
            assert first.result(60).text.strip() == "wiped /1"
            second = pool.submit(client.tools.call, "wipe", {"path": "/2"})
            terminal.until("Approve? [y/N]")
            terminal.type("n")
            assert second.result(60).is_error
    finally:
        terminal.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "--app", "janitor"),
        ("chat", "--model", "careful", "--tool", "wipe"),
        ("agents", "chat", "janitor"),
    ],
    ids=["app", "model", "agent"],
)
def test_a_conversation_shows_its_tool_calls_and_asks_in_place(
    daemon: Daemon, client: Client, arguments: tuple[str, ...]
) -> None:
    script = [
        *(
            {
                "match": f"wipe {path}",
                "tool_calls": [{"name": "wipe", "arguments": {"path": path}}],
                "times": 1,
            }
            for path in ("/4", "/5")
        ),
        {"match": "wipe", "content": "That is all."},
    ]
    client.deployments.add("careful", "fake://", parameters={"script": script})
    client.apps.deploy("janitor", {"portico_agent": 1, "model": "careful", "tools": ["wipe"]}, kind="agent")
    terminal = Terminal(daemon.url, *arguments)
    try:
        for path, answer in (("/4", "y"), ("/5", "n")):
            terminal.until("› ")
            terminal.type(f"wipe {path}")
            terminal.until("→ wipe")
            terminal.until("Approve? [y/N]")
            terminal.type(answer)
            terminal.until("That is all.")
        questions = client.questions.list(status="answered", limit=2)
        assert [question.accepted for question in questions] == [False, True]
    finally:
        terminal.close()
        client.apps.remove("janitor")
        client.deployments.remove("careful")


def test_chat_with_an_app_refuses_the_tool_option(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    done = command("chat", "--app", "handbook", "--tool", "wipe")
    assert done.code == 1 and "has its own tools" in done.err
