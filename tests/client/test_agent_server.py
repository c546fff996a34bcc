"""`portico agent-server`, driven by the client of the protocol's own SDK as an editor would drive it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from acp import RequestError, schema, spawn_agent_process, text_block
from acp.core import ClientSideConnection
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import Client

STRANGER = Path(__file__).parents[1] / "server" / "features" / "mcp_servers" / "stranger.py"

COMMAND = (sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())")

CONFIGURATION = """
models:
  - name: talker
    source: "fake://"
    aliases: [default]
    parameters:
      script:
        - {match: "read the note", times: 1, tool_calls: [{name: read_file, arguments: {path: note.txt}}]}
        - {match: "read the note", content: "I have read it."}
        - match: "write the note"
          times: 2
          tool_calls: [{name: write_file, arguments: {path: note.txt, content: "new\\n"}}]
        - {match: "write the note", content: "Done with it."}
        - {match: "look outside", times: 1, tool_calls: [{name: read_file, arguments: {path: ../secret.txt}}]}
        - {match: "look outside", content: "I could not."}
        - {match: "wipe", times: 3, tool_calls: [{name: wipe, arguments: {path: "/1"}}]}
        - {match: "wipe", content: "That was it."}
        - {match: "^use", result: "(.+)", content: 'It said: \\1'}
        - {match: "^use odd", tool_calls: [{name: odd_echo, arguments: {text: herons}}]}
        - {match: "^use web", tool_calls: [{name: web_calculator, arguments: {expression: 6 * 7}}]}
        - {match: "be silent", content: "one two three four", hang: 2}
        - {match: "break", error: {status: 400, message: "The prompt is too long.", code: context_length_exceeded}}
agents:
  - {name: clerk, model: talker, instructions: Answer., tools: [wipe]}
tools:
  - {name: wipe, command: [echo, wiped, "{path}"], approval: always}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with one agent whose tool asks for approval."""
    home = tmp_path_factory.mktemp("home")
    (home / "portico.yaml").write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as running:
        yield running


@dataclass
class Editor:
    """An editor: its view of the files, the answers of its user, and the messages it received."""

    files: dict[str, str] = field(default_factory=dict)
    choice: str | None = "allow"
    updates: list[Any] = field(default_factory=list)
    asked: list[schema.ToolCallUpdate] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def on_connect(self, conn: Any) -> None:
        pass

    async def session_update(self, session_id: str, update: Any, **_more: Any) -> None:
        self.updates.append(update)
        self.told.set()

    async def request_permission(
        self, session_id: str, tool_call: schema.ToolCallUpdate, options: Any, **_more: Any
    ) -> schema.RequestPermissionResponse:
        self.asked.append(tool_call)
        assert {option.option_id for option in options} == {"allow", "allow_always", "reject"}
        outcome: Any = schema.DeniedOutcome(outcome="cancelled")
        if self.choice is not None:
            outcome = schema.AllowedOutcome(outcome="selected", option_id=self.choice)
        return schema.RequestPermissionResponse(outcome=outcome)

    async def read_text_file(self, session_id: str, path: str, **_more: Any) -> schema.ReadTextFileResponse:
        if path not in self.files:
            raise RequestError.resource_not_found(path)
        return schema.ReadTextFileResponse(content=self.files[path])

    async def write_text_file(self, session_id: str, path: str, content: str, **_more: Any) -> None:
        self.files[path] = content

    def text(self, kind: str = "agent_message_chunk") -> str:
        return "".join(update.content.text for update in self.updates if update.session_update == kind)

    def calls(self) -> dict[str, list[str]]:
        """Return the states that each call went through, by the call's title."""
        titles: dict[str, str] = {}
        statuses: dict[str, list[str]] = {}
        for update in self.updates:
            if update.session_update == "tool_call":
                titles[update.tool_call_id] = update.title
            if update.session_update in ("tool_call", "tool_call_update"):
                statuses.setdefault(titles[update.tool_call_id], []).append(update.status)
        return statuses


@asynccontextmanager
async def editing(
    daemon: Daemon, editor: Editor, *, files: bool = True
) -> AsyncIterator[ClientSideConnection]:
    """Connect to the agent server of a daemon and complete the handshake."""
    command = (*COMMAND, "--url", daemon.url, "agent-server")
    async with spawn_agent_process(editor, *command, env=daemons.environment()) as (conn, _process):  # type: ignore[arg-type]
        lent = schema.FileSystemCapabilities(read_text_file=files, write_text_file=files)
        hello = await conn.initialize(
            protocol_version=1, client_capabilities=schema.ClientCapabilities(fs=lent)
        )
        assert hello.protocol_version == 1 and hello.agent_info.name == "portico"
        assert hello.agent_capabilities.load_session
        yield conn


async def say(conn: ClientSideConnection, session: str, text: str) -> schema.PromptResponse:
    return await conn.prompt(session_id=session, prompt=[text_block(text)])


@pytest.mark.slow
@pytest.mark.conformance("ACP", "Sessions and turns", "agent-client-protocol")
async def test_an_agent_answers_and_a_conversation_is_loaded_again(daemon: Daemon, tmp_path: Path) -> None:
    editor = Editor()
    async with editing(daemon, editor) as conn:
        session = (await conn.new_session(cwd=str(tmp_path))).session_id
        done = await say(conn, session, "Who is there?")
        assert done.stop_reason == "end_turn" and done.usage.output_tokens > 0
        assert editor.text() == "Who is there?"
        attachment = schema.EmbeddedResourceContentBlock(
            type="resource",
            resource=schema.TextResourceContents(uri="file:///srv/a%20b.txt", text="Herons."),
        )
        await conn.prompt(session_id=session, prompt=[text_block("Attached:"), attachment])
        assert editor.text().endswith("Attached:\n\n/srv/a b.txt:\n```\nHerons.\n```")
    again = Editor()
    async with editing(daemon, again) as conn:
        sessions = (await conn.list_sessions(cwd=str(tmp_path))).sessions
        assert [entry.session_id for entry in sessions] == [session]
        assert (await conn.list_sessions(cwd="/nowhere")).sessions == []
        await conn.load_session(cwd=str(tmp_path), session_id=session)
        assert again.text("user_message_chunk").startswith("Who is there?")
        assert again.text().startswith("Who is there?")
        await say(conn, session, "And now?")
    with Client(daemon.url) as client:
        message_texts = [row.message["content"] for row in client.sessions.messages(session, "")]
    assert message_texts[0] == "Who is there?" and message_texts[-1] == "And now?"


@pytest.mark.slow
async def test_the_agent_reads_unsaved_editor_text_but_no_file_outside_the_project(
    daemon: Daemon, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    editor = Editor({str(project / "note.txt"): "unsaved words", str(tmp_path / "secret.txt"): "hidden"})
    async with editing(daemon, editor) as conn:
        session = (await conn.new_session(cwd=str(project))).session_id
        await say(conn, session, "read the note")
        assert editor.text() == "I have read it."
        assert editor.calls() == {"Read note.txt": ["pending", "completed"]}
        assert "unsaved words" in [getattr(update, "raw_output", None) for update in editor.updates]
        editor.updates.clear()
        await say(conn, session, "look outside")
        assert editor.calls() == {"Read secret.txt": ["pending", "failed"]}
        assert "hidden" not in str(editor.updates)


@pytest.mark.slow
@pytest.mark.conformance("ACP", "Changes as diffs", "agent-client-protocol")
async def test_a_change_is_shown_as_a_diff_and_made_only_when_it_is_allowed(
    daemon: Daemon, tmp_path: Path
) -> None:
    note = str(tmp_path / "note.txt")
    editor = Editor({note: "old\n"}, choice="reject")
    async with editing(daemon, editor) as conn:
        session = (await conn.new_session(cwd=str(tmp_path))).session_id
        await say(conn, session, "write the note")
        # The second call of the script arrives in the same turn and is refused too.
        assert editor.files[note] == "old\n"
        [diff] = editor.asked[0].content or []
        assert (diff.path, diff.old_text, diff.new_text) == (note, "old\n", "new\n")
        assert editor.calls()["Write note.txt"][-1] == "failed"
    with Client(daemon.url) as client:
        client.deployments.unload("talker")  # its script starts over
    allowing = Editor(choice="allow_always")
    async with editing(daemon, allowing) as conn:
        session = (await conn.new_session(cwd=str(tmp_path))).session_id
        await say(conn, session, "write the note")
        assert allowing.files[note] == "new\n"
        assert len(allowing.asked) == 1, "the second call is allowed for good"
        assert (allowing.asked[0].content or [])[0].old_text is None
        assert "in_progress" in allowing.calls()["Write note.txt"]
        assert allowing.calls()["Write note.txt"][-1] == "completed"


@pytest.mark.slow
@pytest.mark.conformance("ACP", "Approvals", "agent-client-protocol")
async def test_a_tool_that_asks_first_is_approved_or_refused_in_the_editor(
    daemon: Daemon, tmp_path: Path
) -> None:
    with Client(daemon.url) as client:
        client.deployments.unload("talker")
    editor = Editor()
    async with editing(daemon, editor, files=False) as conn:
        session = (await conn.new_session(cwd=str(tmp_path))).session_id
        await say(conn, session, "wipe it")
        assert len(editor.asked) == 3 and editor.asked[0].raw_input == {"path": "/1"}
        assert "wiped /1" in str(editor.updates)
    with Client(daemon.url) as client:
        client.deployments.unload("talker")
    refusing = Editor(choice=None)
    async with editing(daemon, refusing) as conn:
        session = (await conn.new_session(cwd=str(tmp_path))).session_id
        await say(conn, session, "wipe it")
        assert "wiped" not in str(
            [update.raw_output for update in refusing.updates if hasattr(update, "raw_output")]
        )
        assert refusing.text() == "That was it."


async def test_a_turn_is_cancelled_and_the_session_answers_again(daemon: Daemon, tmp_path: Path) -> None:
    editor = Editor()
    async with editing(daemon, editor) as conn:
        session = (await conn.new_session(cwd=str(tmp_path))).session_id
        turn = asyncio.create_task(say(conn, session, "be silent"))
        await asyncio.wait_for(editor.told.wait(), 60)
        with pytest.raises(RequestError):
            await say(conn, session, "another")
        await conn.cancel(session_id=session)
        assert (await asyncio.wait_for(turn, 60)).stop_reason == "cancelled"
        assert (await say(conn, session, "Hello?")).stop_reason == "end_turn"


@pytest.mark.slow
async def test_invalid_requests_return_errors_and_the_server_continues(
    daemon: Daemon, tmp_path: Path
) -> None:
    async with editing(daemon, Editor()) as conn:
        with pytest.raises(RequestError) as missing:
            await say(conn, "ses_nowhere", "Hello")
        assert "not open" in str(missing.value.data)
        with pytest.raises(RequestError):
            await conn.load_session(cwd=str(tmp_path), session_id="ses_nowhere")
        with pytest.raises(RequestError) as relative:
            await conn.new_session(cwd="relative")
        assert "absolute" in str(relative.value.data)
        session = (await conn.new_session(cwd=str(tmp_path))).session_id
        with pytest.raises(RequestError) as empty:
            await conn.prompt(session_id=session, prompt=[])
        assert "no text" in str(empty.value.data)
        with pytest.raises(RequestError) as caught:
            await say(conn, session, "break")
        assert caught.value.data["code"] == "context_length_exceeded"
        assert (await say(conn, session, "Hello?")).stop_reason == "end_turn"


@pytest.mark.slow
@pytest.mark.conformance("ACP", "MCP servers of the editor", "agent-client-protocol")
@pytest.mark.parametrize(("name", "tool", "result"), [("odd", "echo", "herons"), ("web", "calculator", "42")])
async def test_tools_of_the_editors_servers_are_called_when_a_person_allows_it(
    daemon: Daemon, tmp_path: Path, name: str, tool: str, result: str
) -> None:
    servers = {
        "odd": schema.McpServerStdio(name="odd", command=sys.executable, args=[str(STRANGER)], env=[]),
        "web": schema.HttpMcpServer(type="http", name="web", url=f"{daemon.url}/mcp", headers=[]),
    }
    editor = Editor()
    async with editing(daemon, editor, files=False) as conn:
        session = (await conn.new_session(cwd=str(tmp_path), mcp_servers=[servers[name]])).session_id
        await say(conn, session, f"use {name}")
        assert editor.text() == f"It said: {result}"
        assert [call.title for call in editor.asked] == [f"{name}_{tool}"]
        editor.choice = "reject"
        await say(conn, session, f"use {name}")
        assert "does not allow" in editor.text()
        second_session = (await conn.new_session(cwd=str(tmp_path))).session_id
        await say(conn, second_session, f"use {name}")
        assert len(editor.asked) == 2, "the servers belong to one session"


@pytest.mark.slow
async def test_a_server_of_the_editor_that_cannot_start_is_named(daemon: Daemon, tmp_path: Path) -> None:
    missing = schema.McpServerStdio(name="ghost", command="/nowhere/ghost", args=[], env=[])
    old = schema.SseMcpServer(type="sse", name="old", url="http://127.0.0.1:9/sse", headers=[])
    async with editing(daemon, Editor()) as conn:
        for server in (missing, old):
            with pytest.raises(RequestError) as caught:
                await conn.new_session(cwd=str(tmp_path), mcp_servers=[server])
            assert f"'{server.name}'" in str(caught.value.data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "said"),
    [("nobody", "is not an agent. Available agents: "), ("talker", "is not an agent. Available agents: ")],
)
def test_an_unknown_agent_ends_the_command_with_an_error(daemon: Daemon, agent: str, said: str) -> None:
    command = [*COMMAND, "--url", daemon.url, "agent-server", "--agent", agent]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert said in done.stderr and "Traceback" not in done.stderr
