"""The screens of apps, runs, tools, prompts, evaluations, keys, usage, logs and settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.webhooks.receiver import Receiver, receiving
from tests.tui.terminal import Terminal, terminal
from textual.widgets import Tree

from portico import Client
from portico.webhooks import verify_webhook
from portico_tui.app import TITLES
from portico_tui.screens.apps import AppVersionsScreen
from portico_tui.screens.canaries import CanaryHistoryScreen
from portico_tui.screens.containers import ContainerFilesScreen
from portico_tui.screens.evals import (
    EvalItemsScreen,
    EvalRunsScreen,
    EvalSearchesScreen,
    EvalsScreen,
    EvalTrialsScreen,
)
from portico_tui.screens.prompts import PromptVersionsScreen
from portico_tui.screens.runs import TraceScreen
from portico_tui.screens.schedules import ScheduledRunsScreen
from portico_tui.screens.skills import SkillVersionsScreen
from portico_tui.screens.webhooks import DeliveriesScreen
from portico_tui.widgets.dialogs import Choose, Confirm, Form, Reader
from portico_tui.widgets.run_view import RunView

STRANGER = Path(__file__).parents[1] / "server" / "features" / "mcp_servers" / "stranger.py"

STORY = {
    "portico_flow": 1,
    "name": "story",
    "input_schema": {
        "type": "object",
        "required": ["topic", "parts"],
        "properties": {"topic": {"type": "string"}, "parts": {"type": "integer", "default": 2}},
    },
    "durability": "normal",
    "step": {
        "op": "pipeline",
        "steps": [
            {"name": "outline", "op": "llm", "system": "Be brief.", "user": {"$ref": "input.topic"}},
            {"name": "draft", "op": "llm"},
        ],
    },
}

REVIEW = """
name: review
messages: [{role: user, content: Review it.}]
cases: [{arguments: {}, answer: Review it., holds: Review}]
"""

EVALUATION = """
name: words
data: words.jsonl
criteria:
  - {type: string_check, name: same, input: "{{sample.output_text}}", reference: "{{item.word}}", operation: eq}
source:
  model: default
  messages: [{role: user, content: "{{item.word}}"}]
"""

SEARCH = """search:
  parameters:
    "input_messages.template[0].content": ["{{item.word}}", "Say {{item.word}}"]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon whose model echoes, with a durable flow, an agent, and a tool that asks first."""
    home = tmp_path_factory.mktemp("home")
    configuration = home / "portico.yaml"
    configuration.write_text(
        "models:\n  - {name: echo, source: 'fake://', aliases: [default]}\n"
        "agents:\n  - {name: clerk, model: echo, instructions: Answer.}\n"
    )
    hosts = {"PORTICO_TOOL_HOSTS": "127.0.0.1"}
    with daemons.running(home / "data", "--file", str(configuration), env=hosts) as running:
        with Client(running.url) as client:
            client.apps.deploy("story", STORY)
            client.tools.add("wipe", command=["echo", "wiped", "{path}"], approval="always")
        yield running


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as webhook_receiver:
        yield webhook_receiver


def said(screen: Terminal, part: str) -> str:
    return screen.text(part)


async def pick(screen: Terminal, mode: str, column: int, value: str) -> None:
    """Go to a screen and select the row that has the value in the column."""
    await screen.go(mode)
    table = screen.app.screen.table  # type: ignore[attr-defined]
    await screen.until(lambda: any(row[column] == value for row in table.cells))
    table.choose(
        next(key for key, row in zip(table.rows.keys, table.cells, strict=True) if row[column] == value)
    )
    await screen.until(lambda: screen.app.screen.chosen is not None)  # type: ignore[attr-defined]


async def test_an_app_is_run_from_a_form_that_validates_its_schema(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await pick(screen, "apps", 0, "story")
        assert "topic · string" in said(screen, "#detail")
        await screen.press("enter")
        await screen.fill(topic="herons", parts="two")
        assert "whole number" in said(screen, "#problem")
        await screen.fill(parts="2")
        await screen.over(RunView)
        await screen.until(lambda: "finished" in said(screen, "#end"))
        assert "outline" in said(screen, "#happened") and "herons" in said(screen, "#text")
        await screen.press("y", "escape")
        await screen.until(lambda: not isinstance(screen.app.screen, RunView))
        await pick(screen, "apps", 0, "clerk")
        await screen.press("r")
        await screen.fill(input="Who goes there?")
        await screen.over(RunView)
        await screen.until(lambda: "Who goes there?" in said(screen, "#text"))
        await screen.press("escape")


@pytest.mark.slow
async def test_versions_are_compared_and_rolled_back_and_an_app_is_deployed_and_removed(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "poem.json").write_text(json.dumps({**STORY, "name": "poem"}))
    async with terminal(daemon.url) as screen:
        await screen.go("apps")
        await screen.press("n")
        await screen.fill(file=str(tmp_path / "missing.json"))
        assert "missing.json does not exist" in said(screen, "#problem")
        await screen.fill(file=str(tmp_path / "poem.json"))
        await pick(screen, "apps", 0, "poem")
        await screen.press("e")
        await screen.fill(changes="[]")
        assert "JSON object" in said(screen, "#problem")
        await screen.fill(changes='{"outline.system": "Be long."}', note="longer")
        await screen.until(lambda: any("version 2" in line for line in screen.told))
        await screen.press("e")
        await screen.fill(changes='{"nowhere.system": "x"}')
        await screen.until(lambda: any("nowhere" in line for line in screen.told))
        await screen.press("v")
        await screen.over(AppVersionsScreen)
        await screen.until(lambda: len(screen.rows("#rows")) == 2)
        assert [row[0] for row in screen.rows("#rows")] == ["2", "1"]
        await screen.press("b")  # it is already running
        assert not isinstance(screen.app.screen, Confirm)
        await screen.press("down", "c")
        await screen.over(Reader)
        assert "-" in said(screen, "#text") and "Be long." in said(screen, "#text")
        await screen.press("escape", "b")
        await screen.agree()
        await screen.until(
            lambda: isinstance(screen.app.screen, AppVersionsScreen) and screen.rows("#rows")[1][1] == "●"
        )
        await screen.press("escape")
        await screen.until(lambda: not isinstance(screen.app.screen, AppVersionsScreen))
        await screen.press("l")
        await screen.fill(limits="concurrency=two")
        await screen.until(lambda: any("is not a limit" in line for line in screen.told))
        await screen.press("l")
        await screen.fill(limits="concurrency=2")
        await screen.until(lambda: "concurrency=2" in said(screen, "#detail"))
        await screen.press("w")
        await screen.over(Reader)
        assert "flowchart" in said(screen, "#text")
        await screen.press("escape", "d")
        await screen.agree()
        await screen.until(lambda: all(row[0] != "poem" for row in screen.rows("#rows")))


@pytest.mark.slow
async def test_a_run_is_traced_resumed_and_forked_from_a_step(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        running = client.apps.start("story", {"topic": "owls", "parts": 1})
        running.result()
    async with terminal(daemon.url) as screen:
        await screen.go("runs")
        await screen.until(lambda: screen.rows("#rows"))
        await screen.press("slash", *"story completed", "enter")
        assert {row[3] for row in screen.rows("#rows")} == {"● completed"}
        assert running.id is not None
        screen.app.screen.table.choose(running.id)  # type: ignore[attr-defined]
        await screen.press("t")
        await screen.over(TraceScreen)
        tree = screen.app.screen.query_one(Tree)
        await screen.until(lambda: tree.last_line > 1)
        labels = [str(tree.get_node_at_line(line).label) for line in range(tree.last_line + 1)]
        outline, draft = (
            next(line for line, label in enumerate(labels) if name in label) for name in ("outline", "draft")
        )
        assert "ms" in labels[outline]
        tree.move_cursor_to_line(outline)
        await screen.until(lambda: "Be brief." in screen.text("#content"))
        tree.move_cursor_to_line(draft)
        await screen.press("f")
        await screen.until(lambda: any("began at" in line for line in screen.told))
        count_before = len(screen.rows("#rows"))
        await screen.press("f")
        await screen.fill(input='{"topic": "gulls", "parts": 1}')
        await screen.until(lambda: any(line.endswith(" began.") for line in screen.told))
        await screen.until(lambda: len(screen.rows("#rows")) > count_before)
        await screen.press("e")
        await screen.over(RunView)
        await screen.until(lambda: "finished" in said(screen, "#end"))


async def test_a_run_that_is_not_durable_cannot_be_resumed_and_says_so(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        client.tools.call("calculator", {"expression": "1+1"})
    async with terminal(daemon.url) as screen:
        await pick(screen, "runs", 2, "tool/calculator")
        await screen.press("r")
        await screen.until(lambda: screen.told)
        await screen.press("t")
        await screen.until(lambda: any("No step" in line for line in screen.told))


async def test_a_waiting_run_is_cancelled(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        client.tools.start("wipe", {"path": "/9"})
    async with terminal(daemon.url) as screen:
        await pick(screen, "runs", 3, "◑ waiting")
        await screen.press("c")
        await screen.agree()
        await screen.until(lambda: all(row[3] != "◑ waiting" for row in screen.rows("#rows")))


@pytest.mark.slow
async def test_a_tool_is_called_by_a_form_and_an_approval_is_asked_in_place(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await pick(screen, "tools", 0, "calculator")
        await screen.press("c")
        await screen.fill(expression="6 * 7")
        await screen.over(RunView)
        await screen.until(lambda: "42" in said(screen, "#end"))
        await screen.press("escape")
        await pick(screen, "tools", 0, "wipe")
        assert "asks first" in screen.row("#rows", "wipe")[3]
        await screen.press("c")
        await screen.fill(path="/7")
        await screen.agree()
        await screen.over(RunView)
        await screen.until(lambda: "wiped /7" in said(screen, "#end"))
        await screen.press("escape")
        await pick(screen, "tools", 0, "wipe")
        await screen.press("c")
        await screen.fill(path="/8")
        await screen.over(Confirm)
        await screen.press("n")
        await screen.over(RunView)
        await screen.until(lambda: said(screen, "#end"))
        assert "wiped" not in said(screen, "#end")


@pytest.mark.slow
async def test_mcp_servers_and_tools_are_added_restarted_and_removed(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await screen.go("origins")
        await screen.press("a")
        await screen.fill(name="odd", target="sh 'unclosed")
        assert "quotation" in said(screen, "#problem")
        await screen.fill(target=f"{sys.executable} {STRANGER}")
        await pick(screen, "origins", 0, "odd")
        await screen.until(lambda: screen.row("#rows", "odd")[2] == "● ready")
        assert "odd_echo" in said(screen, "#detail")
        await screen.press("r")
        await screen.press("g")
        await screen.over(Reader)
        await screen.press("escape", "d")
        await screen.agree()
        await screen.until(lambda: not screen.row("#rows", "odd"))
        await screen.press("t")
        await screen.over(Choose)
        await screen.press("enter")
        await screen.press(*"comm", "enter")
        await screen.fill(name="say", what="echo {word}", approval="sometimes")
        assert "always, never" in said(screen, "#problem")
        await screen.fill(approval="never")
        await screen.until(lambda: screen.row("#rows", "say"))


@pytest.mark.slow
async def test_a_prompt_is_written_filled_in_edited_and_removed(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await screen.go("prompts")
        await screen.press("n")
        await screen.fill(name="greet", user="")
        assert "this field is required" in said(screen, "#problem")
        await screen.fill(user="Say hello to {who}\nin {language}.")
        await pick(screen, "prompts", 0, "greet")
        assert screen.row("#rows", "greet")[2] == "who, language"
        await screen.press("enter")
        await screen.fill(who="Ada", language="Latin")
        await screen.over(Reader)
        assert "Say hello to Ada\nin Latin." in said(screen, "#text")
        await screen.press("escape", "e")
        await screen.fill(system="Be polite.", user="Greet {who}.")
        await screen.until(lambda: screen.row("#rows", "greet")[1:3] == ["2", "who"])
        await screen.press("v")
        await screen.over(PromptVersionsScreen)
        await screen.until(lambda: len(screen.rows("#rows")) == 2)
        await screen.press("escape")
        await pick(screen, "prompts", 0, "greet")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.row("#rows", "greet"))


@pytest.mark.slow
async def test_prompts_are_imported_tried_edited_and_exported(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "review.yaml").write_text(REVIEW)
    async with terminal(daemon.url) as screen:
        await screen.go("prompts")
        await screen.press("i")
        await screen.fill(source=str(tmp_path))
        await pick(screen, "prompts", 0, "review")
        await screen.press("x")
        await screen.fill(format="word", folder=str(tmp_path))
        assert "expected one of" in said(screen, "#problem")
        await screen.fill(format="prompty")
        await screen.until(lambda: (tmp_path / "review.prompty").exists())
        await screen.press("t")
        await screen.fill(model="echo")
        await screen.until(lambda: any("1 of 1 answers passed" in line for line in screen.told))
        await screen.press("e")
        await screen.fill(user="Please review it.")
        await screen.until(lambda: screen.row("#rows", "review")[1] == "2")
        assert screen.app.screen.chosen.cases  # type: ignore[attr-defined]  # what the form lacks is kept


@pytest.mark.slow
async def test_an_evaluation_is_run_read_and_searched(daemon: Daemon, tmp_path: Path) -> None:
    lines = [json.dumps({"item": {"word": word}}) for word in ("heron", "amber")]
    (tmp_path / "words.jsonl").write_text("\n".join(lines), encoding="utf-8")
    file = tmp_path / "words.yaml"
    file.write_text(EVALUATION.replace("operation: eq", "operation: same"), encoding="utf-8")
    async with terminal(daemon.url, size=(110, 30)) as screen:
        await screen.go("evals")
        await screen.press("n")
        await screen.fill(file=str(file))
        await screen.until(lambda: screen.told)  # the daemon's message about the operation
        file.write_text(EVALUATION, encoding="utf-8")
        await screen.press("n")
        await screen.fill(file=str(file))
        await screen.agree()
        await screen.over(EvalRunsScreen)
        await screen.until(
            lambda: screen.rows("#rows") and screen.rows("#rows")[0][2:5:2] == ["● completed", "2 of 2"]
        )
        assert screen.rows("#rows")[0][3] == "1.000" and "same: 2 passed" in said(screen, "#detail")
        await screen.press("enter")
        await screen.over(EvalItemsScreen)
        await screen.until(lambda: [row[3] for row in screen.rows("#rows")] == ["heron", "amber"])
        await screen.press("escape", "escape")
        await screen.until(lambda: isinstance(screen.app.screen, EvalsScreen))
        file.write_text(EVALUATION + SEARCH, encoding="utf-8")
        await screen.press("n")
        await screen.fill(file=str(file))
        await screen.agree()
        await screen.over(EvalSearchesScreen)
        await screen.until(lambda: screen.rows("#rows") and screen.rows("#rows")[0][2] == "● completed")
        await screen.press("enter")
        await screen.over(EvalTrialsScreen)
        await screen.until(lambda: len(screen.rows("#rows")) == 2)
        assert screen.rows("#rows")[0][0] == "1.000"
        await screen.press("p")
        await screen.agree()
        await screen.until(lambda: any("deployed" in line for line in screen.told))
        await screen.press("escape", "escape")
        await screen.until(lambda: isinstance(screen.app.screen, EvalsScreen))
        await pick(screen, "evals", 1, "words")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: all(row[1] != "words" for row in screen.rows("#rows")))


@pytest.mark.slow
async def test_a_key_is_shown_once_and_revoked(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await screen.go("keys")
        await screen.press("n")
        await screen.fill(name="phone", scopes="chatter")
        await screen.until(lambda: any("is not a scope" in line for line in screen.told))
        await screen.press("n")
        await screen.fill(name="phone", scopes="admin", limits="concurrency=1")
        await screen.over(Reader)
        secret = said(screen, "#text").split()[0]
        await screen.press("y")
        assert screen.app.clipboard == secret
        await screen.press("escape")
        await screen.until(lambda: screen.row("#rows", "phone"))
        assert all(secret not in cell for row in screen.rows("#rows") for cell in row)
        assert screen.row("#rows", "phone")[1:3] == ["admin", "concurrency=1"]
    with Client(daemon.url, secret) as client:
        reader = client.keys.add("reader", ["chat"])
        async with terminal(daemon.url, reader.key, ready=False) as screen:
            await screen.go("keys")
            await screen.until(lambda: "admin" in screen.text("#empty"))  # the missing scope
        async with terminal(daemon.url, secret) as screen:
            await pick(screen, "keys", 0, "reader")
            await screen.press("e")
            await screen.fill(
                scopes="stores:a:read", filters='{"a": {"type": "eq", "key": "team", "value": "sales"}}'
            )
            await screen.until(lambda: screen.row("#rows", "reader")[1] == "stores:a:read")
            await screen.until(lambda: "sales" in screen.text("#detail"))
            await screen.press("e")
            await screen.fill(limits="concurrency=3")
            await screen.until(lambda: screen.row("#rows", "reader")[2] == "concurrency=3")
            await screen.press("d")
            await screen.agree()
            await screen.until(lambda: not screen.row("#rows", "reader"))
        [own_key] = client.keys.list()
        client.keys.revoke(own_key.id)


@pytest.mark.slow
async def test_a_webhook_is_made_tried_paused_and_deleted_and_its_deliveries_are_sent_again(
    daemon: Daemon, receiver: Receiver
) -> None:
    async with terminal(daemon.url) as screen:
        await screen.go("webhooks")
        await screen.press("n")
        await screen.fill(url=receiver.url("/tui"), events="run.ended")
        await screen.until(lambda: any("run.ended" in line for line in screen.told))
        await screen.press("n")
        await screen.fill(url=receiver.url("/tui"), events="run.finished, run.failed", name="[b]mine[/b]")
        await screen.over(Reader)
        secret = said(screen, "#text").split()[0]
        assert secret.startswith("whsec_")
        await screen.press("escape")
        await pick(screen, "webhooks", 0, "[b]mine[/b]")
        assert "run.finished, run.failed" in said(screen, "#detail")
        await screen.press("t")
        await screen.over(Choose)
        await screen.press("enter")
        await screen.until(lambda: any("HTTP 200" in line for line in screen.told))
        message = await receiver.next("/tui")
        assert verify_webhook(message.body, message.headers, secret).type == "run.finished"
        await screen.press("p")
        await screen.until(lambda: screen.row("#rows", "[b]mine[/b]")[2:3] == ["disabled"])
        await screen.press("e")
        await screen.fill(name="ours")
        await screen.until(lambda: screen.row("#rows", "ours")[2:3] == ["enabled"])
        with Client(daemon.url) as client:
            client.apps.run("story", {"topic": "herons", "parts": 1})
        await receiver.next("/tui")
        await pick(screen, "webhooks", 0, "ours")
        await screen.press("enter")
        await screen.over(DeliveriesScreen)
        await screen.until(
            lambda: [row[1:3] for row in screen.rows("#rows")] == [["run.finished", "delivered"]]
        )
        await screen.press("r")
        await receiver.next("/tui")
        await screen.press("escape")
        await pick(screen, "webhooks", 0, "ours")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.row("#rows", "ours"))


@pytest.mark.slow
async def test_a_schedule_is_made_run_paused_changed_and_deleted(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await screen.go("schedules")
        await screen.press("n")
        await screen.fill(name="daily", app="storey", when="@daily")
        await screen.until(lambda: any("storey" in line for line in screen.told))
        await screen.press("n")
        await screen.fill(name="daily", app="story", input='{"topic": "herons", "parts": 1}', when="@daily")
        await pick(screen, "schedules", 0, "daily")
        assert screen.row("#rows", "daily")[1:3] == ["app story", "@daily (UTC)"]
        assert '"topic": "herons"' in said(screen, "#detail")
        await screen.press("r")
        await screen.until(lambda: any("Began run_" in line for line in screen.told))
        await screen.press("enter")
        await screen.over(ScheduledRunsScreen)
        await screen.until(lambda: [row[1:3] for row in screen.rows("#rows")] == [["hand", "completed"]])
        await screen.press("escape")
        await pick(screen, "schedules", 0, "daily")
        await screen.press("p")
        await screen.until(lambda: screen.row("#rows", "daily")[3:4] == ["paused"])
        await screen.press("p")
        await screen.until(lambda: screen.row("#rows", "daily")[3:4] != ["paused"])
        await screen.press("e")
        await screen.fill(name="often", when="15m")
        await screen.until(lambda: screen.row("#rows", "often")[2:3] == ["every 15m"])
        await pick(screen, "schedules", 0, "often")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.row("#rows", "often"))


@pytest.mark.slow
async def test_a_skill_is_added_in_versions_saved_and_deleted(daemon: Daemon, tmp_path: Path) -> None:
    skill = tmp_path / "greet"
    skill.mkdir()
    file = skill / "SKILL.md"
    file.write_text("---\nname: greet\ndescription: How guests are greeted.\n---\nBow.\n")
    async with terminal(daemon.url) as screen:
        await screen.go("skills")
        await screen.press("n")
        await screen.fill(source=str(tmp_path))
        await screen.until(lambda: any("SKILL.md" in line for line in screen.told))
        await screen.press("n")
        await screen.fill(source=str(skill))
        await pick(screen, "skills", 0, "greet")
        file.write_text(file.read_text() + "Smile.\n")
        await screen.press("n")
        await screen.fill(source=str(skill))
        await screen.until(lambda: screen.row("#rows", "greet")[1:3] == ["2", "2"])
        await screen.press("enter")
        await screen.over(SkillVersionsScreen)
        await screen.until(lambda: [row[0] for row in screen.rows("#rows")] == ["2", "1"])
        assert "SKILL.md" in said(screen, "#detail")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: any("default" in line for line in screen.told))
        await screen.press("down", "s")
        await screen.until(lambda: any("Version 1 of 'greet'" in line for line in screen.told))
        await screen.press("x")
        await screen.fill(folder=str(tmp_path))
        await screen.until((tmp_path / "greet-1.zip").is_file)
        await screen.press("escape")
        await pick(screen, "skills", 0, "greet")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.row("#rows", "greet"))


@pytest.mark.slow
async def test_a_canary_is_set_changed_and_rolled_back(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        client.deployments.add("fresh", "fake://")
        client.models.alias("helper", "echo")
    async with terminal(daemon.url) as screen:
        await screen.go("canaries")
        await screen.press("n")
        await screen.fill(alias="helper", target="fresh", weight="many", promote="after")
        assert "Share of the calls" in said(screen, "#problem")
        await screen.fill(weight="0.25")
        assert "NAME=NUMBER" in said(screen, "#problem")
        await screen.fill(promote="after=200, max_error_rate=0.02")
        await screen.until(lambda: any("fresh receives 25.0%" in line for line in screen.told))
        await pick(screen, "canaries", 0, "helper")
        assert screen.row("#rows", "helper")[1:5] == ["running", "echo", "fresh", "25.0%"]
        assert "promote: after=200, max_error_rate=0.02" in said(screen, "#detail")
        assert "canary calls: 0 of 200" in said(screen, "#detail")
        await screen.press("e")
        await screen.fill(weight="0.5")
        await screen.until(lambda: screen.row("#rows", "helper")[4:5] == ["50.0%"])
        await screen.press("b")
        await screen.fill(reason="Not now")
        await screen.until(lambda: screen.row("#rows", "helper")[1:2] == ["rolled back"])
        await screen.press("enter")
        await screen.over(CanaryHistoryScreen)
        await screen.until(lambda: [row[4] for row in screen.rows("#rows")] == ["Not now"])
        assert "rolled back" in said(screen, "#detail") and "set" in said(screen, "#detail")
        await screen.press("escape")
        await pick(screen, "canaries", 0, "helper")
        await screen.press("n")
        await screen.fill(alias="helper", target="fresh", weight="1")
        await screen.until(lambda: screen.row("#rows", "helper")[1:2] == ["running"])
        await pick(screen, "canaries", 0, "helper")
        await screen.press("p")
        await screen.fill(reason="")
        await screen.until(lambda: screen.row("#rows", "helper")[1:2] == ["promoted"])


async def test_a_container_is_made_and_its_files_are_uploaded_saved_and_deleted(
    daemon: Daemon, tmp_path: Path
) -> None:
    table_path, save_folder = tmp_path / "table.csv", tmp_path / "saved"
    table_path.write_text("n\n1\n")
    save_folder.mkdir()
    async with terminal(daemon.url) as screen:
        await screen.go("containers")
        await screen.press("n")
        await screen.fill(name="analysis", minutes="90")
        await pick(screen, "containers", 0, "analysis")
        assert screen.row("#rows", "analysis")[2:3] == ["90"]
        await screen.press("enter")
        await screen.over(ContainerFilesScreen)
        await screen.press("u")
        await screen.fill(file=str(table_path))
        await screen.until(lambda: [row[0] for row in screen.rows("#rows")] == ["/work/table.csv"])
        await screen.press("x")
        await screen.fill(folder=str(save_folder))
        await screen.until((save_folder / "table.csv").is_file)
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.rows("#rows"))
        await screen.press("escape")
        await pick(screen, "containers", 0, "analysis")
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.row("#rows", "analysis"))


async def test_usage_logs_and_settings_are_read(daemon: Daemon) -> None:
    with Client(daemon.url) as client, client.chat("hello") as answer:
        answer.read()
    async with terminal(daemon.url) as screen:
        await screen.go("usage")
        await screen.until(lambda: screen.row("#rows", "echo") or screen.row("#rows", "default"))
        assert "in the last day" in said(screen, "#detail")
        await screen.press("p")
        await screen.over(Choose)
        await screen.press(*"all", "enter")
        await screen.until(lambda: "since the beginning" in said(screen, "#detail"))
        await screen.go("logs")
        await screen.until(lambda: screen.row("#rows", "echo") and said(screen, "#lines"))
        await pick(screen, "settings", 0, "port")
        assert screen.row("#rows", "port")[2] != "default" and said(screen, "#detail")


async def test_screens_without_a_digit_are_found_by_typing(daemon: Daemon) -> None:
    async with terminal(daemon.url) as screen:
        await screen.press("ctrl+g")
        await screen.over(Choose)
        await screen.press(*"promp", "enter")
        await screen.until(lambda: getattr(screen.app.screen, "MODE", "") == "prompts")
        await screen.press("ctrl+g")
        await screen.over(Choose)
        await screen.press(*"nowhere", "enter", "escape")
        assert screen.app.screen.MODE == "prompts"  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("modes", [list(TITLES)[first::3] for first in range(3)], ids=lambda modes: modes[0])
async def test_actions_without_a_row_do_nothing(daemon: Daemon, modes: list[str]) -> None:
    """Every key of every screen, pressed while the filter hides all rows."""
    async with terminal(daemon.url) as screen:
        for mode in modes:
            await screen.go(mode)
            actions = getattr(screen.app.screen, "ACTIONS", {})
            if not actions:
                continue
            screen.app.screen.table.narrow("no such row anywhere")  # type: ignore[attr-defined]
            for action in actions.values():
                if action.when is not None:
                    await screen.press(action.key.split(",")[0])
                    assert not isinstance(screen.app.screen, Form | Confirm | Reader), (mode, action)
        assert screen.told == []
