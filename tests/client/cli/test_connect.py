"""`portico connect` writes the files of editors and agents in an empty home, checks them, and restores them."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tomllib
import zipfile
from pathlib import Path

import jsonschema
import pytest
from mcp import Client as McpClient
from mcp import StdioServerParameters
from tests.client.cli.conftest import Command
from tests.client.cli.terminal import Terminal
from tests.daemon import Daemon, running

from portico import Client
from portico.connect.clients import CLIENTS, resolve
from portico.errors import Unauthenticated

GOLDEN = Path(__file__).with_name("connected")
MANIFEST_SCHEMA = Path(__file__).with_name("mcpb-manifest-v0.3.schema.json")
"""The schema of github.com/modelcontextprotocol/mcpb."""

SKILL = "---\nname: pdf-forms\ndescription: Fills PDF forms.\n---\nAsk.\n"
VARIABLES = ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "APPDATA")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the user's home."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="module")
def skill(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("skills") / "pdf-forms"
    folder.mkdir()
    (folder / "SKILL.md").write_text(SKILL)
    with Client(daemon.url) as client:
        client.skills.add(folder)


def files_of(home: Path) -> dict[str, str]:
    """Return every file below a home by its path, without Portico's own."""
    return {
        str(path.relative_to(home)): path.read_text(encoding="utf-8")
        for path in sorted(home.rglob("*"))
        if path.is_file() and ".config/portico" not in str(path)
    }


def folders_of(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_dir()}


def key_of(daemon: Daemon, name: str) -> list[str]:
    with Client(daemon.url) as client:
        return [key.id for key in client.keys.list() if key.name == f"connect {name}"]


@pytest.mark.usefixtures("skill")
@pytest.mark.parametrize("name", CLIENTS)
def test_the_files_in_an_empty_home_match_the_golden_file(
    command: Command, daemon: Daemon, home: Path, name: str
) -> None:
    done = command("connect", name, "--model", "echo", "--yes")
    assert (done.code, done.err) == (0, "")
    files = files_of(home)
    [key_id] = key_of(daemon, name)
    secret = next(iter(re.findall(r"pk-[\w-]+", "".join(files.values()))))
    text = "".join(f"=== {path}\n{text}" for path, text in files.items())
    golden = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert text.replace(daemon.url, "http://127.0.0.1:8642").replace(secret, "pk-secret") == golden
    assert secret not in done.out
    assert all(stat.S_IMODE((home / path).stat().st_mode) == 0o600 for path in files)
    with Client(daemon.url, secret) as client:
        assert client.whoami().id == key_id
    assert command("connect", name, "--check").out.splitlines()[1].startswith(f"{name}\tconnected\t")
    assert command("connect", name, "--remove", "--yes").code == 0
    assert files_of(home) == {} and folders_of(home) <= {
        ".config",
        ".config/portico",
        ".config/portico/connections",
    }
    assert key_of(daemon, name) == []
    assert command("connect", name, "--check").code == 1


def test_nothing_changes_without_yes(command: Command, daemon: Daemon, home: Path) -> None:
    done = command("connect", "cursor")
    assert done.code == 0 and '+    "portico": {' in done.out and "--yes" in done.err
    assert "Would connect Cursor: " in done.out
    [result] = command("connect", "cursor", "--json").json["data"]
    assert (result["client"], result["changed"], result["key"]) == ("cursor", False, None)
    assert files_of(home) == {} and key_of(daemon, "cursor") == []


@pytest.mark.slow
def test_a_person_at_a_terminal_is_asked(command: Command, daemon: Daemon, home: Path) -> None:
    terminal = Terminal(daemon.url, "connect", "cursor", HOME=str(home))
    terminal.until("Connect Cursor to")
    terminal.type("n")
    terminal.until("Would connect Cursor")
    assert terminal.process.wait(60) == 0 and files_of(home) == {}
    terminal = Terminal(daemon.url, "connect", "cursor", HOME=str(home))
    terminal.until("Connect Cursor to")
    terminal.type("y")
    terminal.until("Connected Cursor")
    assert terminal.process.wait(60) == 0 and ".cursor/mcp.json" in files_of(home)
    assert command("connect", "cursor", "--remove", "--yes").code == 0


def test_connect_says_how_many_tools_the_client_sees(command: Command, home: Path, tmp_path: Path) -> None:
    [result] = command("connect", "cursor", "--yes", "--json").json["data"]
    assert {"calculator", "ask_model"} < set(result["tools"])
    assert (
        f"Cursor sees {len(result['tools'])} tools over MCP.\n" in command("connect", "cursor", "--yes").out
    )
    assert command("connect", "cursor", "--remove", "--yes").code == 0
    with running(tmp_path / "searched", env={"PORTICO_MCP_TOOL_SEARCH": "3"}) as searched:
        done = command("--url", searched.url, "connect", "cursor", "--yes")
        assert (done.code, done.err) == (0, "")
        assert " tools over MCP; 'find_tools' finds the others.\n" in done.out
        assert command("--url", searched.url, "connect", "cursor", "--remove", "--yes").code == 0


MINE = '{\n  // Mine\n  "mcpServers": {"files": {"command": "npx",},},\n}\n'


def test_a_file_of_the_user_is_restored_byte_for_byte(command: Command, home: Path) -> None:
    file = home / "dotfiles" / "mcp.json"
    file.parent.mkdir()
    file.write_text(MINE)
    file.chmod(0o640)
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").symlink_to(file)
    assert command("connect", "cursor", "--yes").code == 0
    assert command("connect", "cursor", "--yes").code == 0, "again, with another key"
    assert "// Mine" in file.read_text() and '"portico"' in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640 and (home / ".cursor" / "mcp.json").is_symlink()
    assert command("connect", "--all", "--remove", "--yes").code == 0
    assert file.read_text() == MINE


def test_removing_a_connection_keeps_later_changes_by_the_user(command: Command, home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text(MINE)
    assert command("connect", "cursor", "--yes").code == 0
    file.write_text(file.read_text().replace("// Mine", "// Still mine"))
    assert command("connect", "cursor", "--check").code == 0
    file.write_text(file.read_text().replace("/mcp", "/other"))
    assert "another value at mcpServers.portico" in command("connect", "--check").out
    assert command("connect", "cursor", "--remove", "--yes").code == 0
    assert file.read_text() == MINE.replace("// Mine", "// Still mine")


def test_each_connection_has_its_own_key(command: Command, daemon: Daemon, home: Path) -> None:
    assert command("connect", "cursor", "--yes").code == 0
    text = (home / ".cursor" / "mcp.json").read_text()
    secret = json.loads(text)["mcpServers"]["portico"]["headers"]["Authorization"].removeprefix("Bearer ")
    [first] = key_of(daemon, "cursor")
    assert command("connect", "cursor", "--yes").code == 0
    [second] = key_of(daemon, "cursor")
    assert first != second
    with Client(daemon.url, secret) as client, pytest.raises(Unauthenticated):
        client.whoami()
    with Client(daemon.url) as client:
        client.keys.revoke(second)
    assert command("connect", "cursor", "--check").code == 1
    assert command("connect", "cursor", "--remove", "--yes").code == 0, "although the key is gone"


@pytest.mark.usefixtures("skill")
def test_a_skill_of_the_user_stays(command: Command, home: Path) -> None:
    file = home / ".cursor" / "skills" / "pdf-forms" / "SKILL.md"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert command("connect", "cursor", "--yes").code == 0
    assert command("connect", "cursor", "--remove", "--yes").code == 0
    assert file.read_text() == "mine"


def test_an_invalid_file_stays_and_the_error_names_the_line(
    command: Command, daemon: Daemon, home: Path
) -> None:
    file = home / ".config" / "zed" / "settings.json"
    file.parent.mkdir(parents=True)
    file.write_text('{\n  "theme": "One"\n  "vim": true\n}\n')
    done = command("connect", "zed", "--yes")
    assert done.code == 1 and f"{file} is not valid JSON, so it stays unchanged: line 3" in done.err
    assert file.read_text() == '{\n  "theme": "One"\n  "vim": true\n}\n' and key_of(daemon, "zed") == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("opencod",), "Did you mean 'opencode' or 'codex'? Clients: claude-code, codex,"),
        ((), "Give a client, or --all."),
        (("--all",), "No client is installed."),
        (("zed", "--all"), "either a client or --all"),
        (("zed", "--remove", "--check"), "either --remove or --check"),
        (("zed", "--model", "ecko"), "Did you mean 'echo'"),
    ],
)
def test_wrong_arguments_are_refused(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: str
) -> None:
    monkeypatch.setenv("PATH", "")
    done = command("connect", *arguments)
    assert done.code == 1 and error in done.err


def install(folder: Path, program: str) -> Path:
    """Make a program in a folder of PATH, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / program
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", CLIENTS)
def test_connect_all_connects_a_program_that_was_never_started(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for number, program in enumerate(CLIENTS[name].programs):
        folder = home.parent / f"bin-{number}"
        path = install(folder, program)
        monkeypatch.setenv("PATH", str(folder))
        [planned] = command("connect", "--all", "--json").json["data"]
        assert (planned["client"], planned["found"], planned["changed"]) == (name, str(path), False)
        assert planned["files"] and files_of(home) == {}
        done = command("connect", "--all", "--yes")
        assert (done.code, done.err) == (0, "")
        assert f"Found {CLIENTS[name].title}: {path}" in done.out
        assert command("connect", name, "--check").code == 0
        assert command("connect", name, "--remove", "--yes").code == 0
        assert files_of(home) == {}


def test_a_daemon_of_the_system_with_the_name_of_a_client_is_not_connected(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(home / "usr" / "sbin", "zed")
    monkeypatch.setenv("PATH", str(home / "usr" / "sbin"))
    assert "No client is installed" in command("connect", "--all").err


def test_connect_all_connects_the_other_clients_if_a_file_is_invalid(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home / "bin"))
    codex = install(home / "bin", "codex")
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").write_text("{")
    (home / ".junie").write_text("a file, not a folder")
    done = command("connect", "--all", "--yes", "--json")
    results = {result["client"]: result for result in done.json["data"]}
    assert done.code == 1 and list(results) == ["codex", "cursor", "jetbrains"]
    assert (results["codex"]["changed"], results["codex"]["found"]) == (True, str(codex))
    assert "mcp.json is not valid JSON" in results["cursor"]["error"]
    assert ".junie" in results["jetbrains"]["error"]
    assert [results[name]["changed"] for name in ("cursor", "jetbrains")] == [False, False]
    done = command("connect", "--all", "--yes")
    assert "Connected Codex: " in done.out and "Cursor is not connected: " in done.err


INLINE = (
    '# Mine\nmcp_servers = { files = { command = "npx", args = ["a}"] } } # by hand\n'
    'model_providers = {}\n\n[tui]\ntheme = "dark"\n'
)


def test_an_inline_table_of_codex_keeps_its_other_entries(command: Command, home: Path) -> None:
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text(INLINE)
    for _attempt in range(2):
        assert command("connect", "codex", "--yes").code == 0
        document = tomllib.loads(file.read_text())
        assert list(document["mcp_servers"]) == ["files", "portico"]
        assert document["mcp_servers"]["files"] == {"command": "npx", "args": ["a}"]}
        assert document["model_providers"]["portico"]["wire_api"] == "responses"
        assert command("connect", "codex", "--check").code == 0
    assert command("connect", "codex", "--remove", "--yes").code == 0
    assert file.read_text() == INLINE
    assert command("connect", "codex", "--yes").code == 0
    file.write_text(file.read_text().replace("# Mine", "# Still mine"))
    assert command("connect", "codex", "--remove", "--yes").code == 0
    assert file.read_text() == INLINE.replace("# Mine", "# Still mine")


def test_connect_all_applies_only_to_installed_clients(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    (home / ".cursor").mkdir()
    (home / ".junie").mkdir()
    connected = command("connect", "--all", "--yes", "--json").json["data"]
    assert [result["client"] for result in connected] == ["cursor", "jetbrains"]
    states = command("connect", "--check", "--json").json["data"]
    assert [(row["client"], row["state"]) for row in states] == [
        ("cursor", "connected"),
        ("jetbrains", "connected"),
    ]
    removals = command("connect", "--all", "--remove", "--yes", "--json").json["data"]
    assert [result["client"] for result in removals] == ["cursor", "jetbrains"]
    assert command("connect", "--all", "--remove", "--yes").out == "Nothing is connected.\n"


@pytest.mark.parametrize(
    ("platform", "place", "path"),
    [
        ("linux", "{vscode}/mcp.json", ".config/Code/User/mcp.json"),
        ("darwin", "{vscode}/mcp.json", "Library/Application Support/Code/User/mcp.json"),
        ("win32", "{vscode}/mcp.json", "AppData/Roaming/Code/User/mcp.json"),
        ("linux", "{goose}/config.yaml", ".config/goose/config.yaml"),
        ("win32", "{goose}/config.yaml", "AppData/Roaming/Block/goose/config/config.yaml"),
        ("darwin", "{zed}/settings.json", ".config/zed/settings.json"),
        ("win32", "{zed}/settings.json", "AppData/Roaming/Zed/settings.json"),
        ("win32", "{codex}/config.toml", ".codex/config.toml"),
    ],
)
def test_client_settings_paths_depend_on_the_operating_system(
    home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, place: str, path: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert resolve(place) == home / path


def test_environment_variables_of_clients_relocate_their_settings_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{os.sep}srv{os.sep}{name}")
    assert resolve("{claude_state}/.claude.json") == Path("/srv/CLAUDE_CONFIG_DIR/.claude.json")
    assert resolve("{codex}/config.toml") == Path("/srv/CODEX_HOME/config.toml")
    assert resolve("{config}/opencode/opencode.json") == Path("/srv/XDG_CONFIG_HOME/opencode/opencode.json")


async def test_a_bundle_follows_the_schema_of_its_manifest_and_starts_the_bridge(
    command: Command, daemon: Daemon, home: Path
) -> None:
    file = home / "portico.mcpb"
    done = command("connect", "--bundle", str(file))
    assert (done.code, done.err) == (0, "")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(home / "installed")
    manifest = json.loads((home / "installed" / "manifest.json").read_text("utf-8"))
    jsonschema.validate(manifest, json.loads(MANIFEST_SCHEMA.read_text("utf-8")))
    server = manifest["server"]
    assert (home / "installed" / server["entry_point"]).is_file()
    settings = {name: field["default"] for name, field in manifest["user_config"].items()}
    variables = {"__dirname": str(home / "installed"), **{f"user_config.{n}": v for n, v in settings.items()}}

    def fill(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: variables[match[1]], text)

    config = server["mcp_config"]
    environment = {name: fill(value) for name, value in config["env"].items()}
    parameters = StdioServerParameters(
        command=config["command"],
        args=[fill(argument) for argument in config["args"]],
        env={**os.environ, **environment},
    )
    async with McpClient(parameters) as assistant:
        tools = await assistant.list_tools()
    assert "calculator" in {tool.name for tool in tools.tools}


@pytest.mark.parametrize("more", [["opencode"], ["--all"], ["--check"]])
def test_the_bundle_option_cannot_be_combined_with_clients_all_or_check(
    command: Command, home: Path, more: list[str]
) -> None:
    done = command("connect", "--bundle", str(home / "x.mcpb"), *more)
    assert done.code == 1 and "--bundle" in done.err


def test_a_bundle_that_cannot_be_written_is_named(command: Command, home: Path) -> None:
    done = command("connect", "--bundle", str(home / "nowhere" / "x.mcpb"))
    assert done.code == 1 and "x.mcpb cannot be written" in done.err
