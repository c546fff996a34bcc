"""A running daemon reads its own configuration file again: on SIGHUP, and when `portico apply` names no file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.client.cli.conftest import Command
from tests.client.cli.conftest import command as command
from tests.daemon import Daemon
from tests.server.daemons import until

from portico import Client
from portico.errors import Conflict, PorticoError

FILE = """
models:
  - {name: poet, source: "fake://", description: a poet, aliases: [default]}
  - {name: rhymer, source: "fake://"}
tools:
  - {name: greet, command: [echo, "hello {name}"], parameters: {name: {type: string}}}
  - {name: part, command: [echo, "bye"]}
agents:
  - {name: clerk, model: poet, instructions: Be kind.}
guards:
  - {name: mail, on: poet, detect: [pii], where: input, action: block}
settings:
  log_level: info
"""

CHANGED = """
models:
  - {name: poet, source: "fake://", description: a better poet, aliases: [default]}
  - {name: scribe, source: "fake://", aliases: [writer]}
tools:
  - {name: greet, command: [echo, "good day {name}"], parameters: {name: {type: string}}}
agents:
  - {name: clerk, model: scribe, instructions: Be brief.}
settings:
  log_level: warning
keys:
  - {name: site, key: a-key-that-is-long-enough, scopes: [chat]}
"""

BROKEN = {
    "no YAML": ("models: [", "portico.yaml is not valid YAML"),
    "an unknown key": ("modles: []", "'modles' is not a key of the configuration"),
    "a model that cannot work": (
        FILE.replace('rhymer, source: "fake://"', "rhymer, source: nonsense"),
        "models[1]: 'nonsense' is not a model source",
    ),
    "an agent without its model": (
        FILE.replace("model: poet, instructions: Be kind.", "model: nobody, instructions: Be brief."),
        "'nobody'",
    ),
    "a wrong setting": (FILE.replace("log_level: info", "log_level: 7"), "log_level"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "portico.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture
def daemon(file: Path) -> Iterator[Daemon]:
    with daemons.running(file.parent / "home", "--file", str(file)) as running:
        yield running


def log_of(daemon: Daemon) -> str:
    """Return the log, which exists from the first message on."""
    path = daemon.home / "logs" / "daemon.log"
    return path.read_text("utf-8") if path.exists() else ""


def state(client: Client) -> dict[str, object]:
    """Return what the daemon has of `FILE` and `CHANGED`."""
    named_models = {"poet", "rhymer", "scribe", "writer"}
    return {
        "models": {model.id for model in client.models.list()} & named_models,
        "poet": next(model.description for model in client.status().models if model.name == "poet"),
        "tools": {source.name: source.configured for source in client.tools.sources()},
        "clerk": client.apps.get("clerk").version,
    }


def test_sighup_applies_the_file_and_a_restart_keeps_the_same_state(file: Path, daemon: Daemon) -> None:
    mail = "Write to ada@example.com."
    with Client(daemon.url) as client:
        with pytest.raises(PorticoError, match="mail"):
            client.chat(mail).read()
        file.write_text(CHANGED, encoding="utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "restart the daemon to apply: keys, settings.log_level" in log_of(daemon), "applied")
        target_state = {
            "models": {"poet", "scribe", "writer"},
            "poet": "a better poet",
            "tools": {"greet": True},
            "clerk": 2,
        }
        assert state(client) == target_state
        assert client.chat(mail).read().text == mail
    assert daemon.stop() == 0
    with daemons.running(daemon.home, "--file", str(file)) as again, Client(again.url) as client:
        assert state(client) == target_state


def test_apply_makes_the_changes_shown_by_its_dry_run(file: Path, daemon: Daemon, command: Command) -> None:
    assert command("apply").out.endswith("0 created, 0 changed, 0 removed, 5 unchanged.\n")
    file.write_text(CHANGED, encoding="utf-8")
    lines = ("~ models/poet (description)", "+ models/scribe", "~ tools/greet (command)", "- tools/part")
    dry = command("apply", "--dry-run")
    assert dry.out.endswith("1 would be created, 3 would be changed, 2 would be removed, 0 unchanged.\n")
    done = command("apply")
    assert done.out.endswith("1 created, 3 changed, 2 removed, 0 unchanged.\n"), done.err
    for line in (*lines, "~ apps/clerk (spec)", "- models/rhymer"):
        assert line in dry.out and line in done.out
    assert "Ignored: keys, settings.log_level" in done.err
    assert command("apply", "--prune").code == 1


def test_an_invalid_file_changes_nothing_and_is_a_problem_until_fixed(
    file: Path, daemon: Daemon, command: Command
) -> None:
    with Client(daemon.url) as client:
        state_before = state(client)
        for case, (text, reason) in BROKEN.items():
            file.write_text(text, encoding="utf-8")
            apply_result = command("apply")
            assert apply_result.code == 1 and reason in apply_result.err, (case, apply_result)
            [problem] = client.status().problems
            assert (problem.name, problem.place) == ("portico.yaml", "file"), case
            assert reason in problem.reason
            assert "problem: portico.yaml (file): " in command("status").out
            assert problem.reason in log_of(daemon)
            assert state(client) == state_before, case
        file.unlink()
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "does not exist" in client.status().problems[0].reason, "the missing file is named")
        file.write_text(FILE, encoding="utf-8")
        assert command("apply").code == 0
        assert client.status().problems == ()


def test_applying_the_file_keeps_objects_added_over_the_api(
    file: Path, daemon: Daemon, command: Command
) -> None:
    with Client(daemon.url) as client:
        client.apply({"models": [{"name": "guest", "source": "fake://"}]})
        file.write_text("models: []\n", encoding="utf-8")
        assert command("apply").out.endswith("0 created, 0 changed, 4 removed, 0 unchanged.\n")
        assert {"guest"} == {model.id for model in client.models.list()} & {"guest", "poet", "rhymer"}
        assert client.apps.get("clerk").version == 1


def test_apply_is_refused_by_a_daemon_without_a_configuration_file(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "home") as daemon, Client(daemon.url) as client:
        with pytest.raises(Conflict, match="without a configuration file"):
            client.apply()
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "without a configuration file" in log_of(daemon), "the log names it")
        assert client.status().problems == ()
