"""`portico mcp add` and its siblings: third-party servers, added directly or from an assistant's settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command

from portico.cli.mcp import read_settings
from portico.errors import InvalidRequest

STRANGER = str(Path(__file__).parents[2] / "server" / "features" / "mcp_servers" / "stranger.py")
SCRIPTED = str(Path(STRANGER).with_name("scripted.py"))


def test_a_server_is_added_looked_at_and_removed(command: Command) -> None:
    assert "No servers yet" in command("mcp", "list").out
    options = ("--env", "GIVEN_TOKEN=a=b", "--allow", "echo", "--allow", "env*", "--allow", "die")
    addition = command("mcp", "add", "odd", *options, "--json", "--", sys.executable, STRANGER, "garbage")
    assert addition.code == 0
    assert addition.json["state"] == "ready" and "odd_echo" in addition.json["tools"]
    assert "odd\tready" in command("mcp", "list").out
    details = command("mcp", "show", "odd").out
    assert "GIVEN_TOKEN" in details and "A <b>stranger</b>" in details and "tools.listChanged" in details
    assert command("tools", "call", "odd_echo", "text=hi").out == "hi\n"
    assert json.loads(command("tools", "call", "odd_environment").out)["token"] == "a=b"
    assert "note://lease\tlease" in command("mcp", "resources", "odd").out
    assert "840 euros" in command("mcp", "resources", "odd", "note://lease").out
    assert "[image/png, " in command("mcp", "resources", "odd", "note://pixel").out
    assert command("mcp", "resources", "odd", "note://nothing").code == 1
    assert "letter\twho, tone" in command("mcp", "prompts", "odd").out
    filled = command("mcp", "prompts", "odd", "letter", "--argument", "who=Ada")
    assert filled.out == "user: Write to Ada, kindly.\n"
    assert command("tools", "call", "odd_die").code == 1
    assert command("mcp", "logs", "odd").out == "about to die\n"
    assert command("mcp", "restart", "odd").code == 0
    assert command("mcp", "remove", "odd").code == 1
    assert command("mcp", "remove", "odd", "--dry-run").code == 0
    assert command("mcp", "remove", "odd", "--yes").code == 0
    assert command("mcp", "list", "--json").json == {"data": []}


def test_show_names_the_problems_of_a_servers_tools_and_why_a_server_has_ended(
    command: Command, tmp_path: Path
) -> None:
    tools = [{"name": "fine"}, 7, {"name": "odd", "inputSchema": {"type": "string"}}]
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"list": {"tools": tools}}), encoding="utf-8")
    command("mcp", "add", "odd", "--", sys.executable, SCRIPTED, str(script))
    details = command("mcp", "show", "odd").out
    assert "odd_fine, odd_odd" in details and "Tool number 2 of the server is not offered" in details
    assert "The tool 'odd' is offered without what could not be read: inputSchema.type." in details
    script.write_text(json.dumps({"stderr": ["No licence"], "exit": 1}), encoding="utf-8")
    command("mcp", "add", "gone", "--", sys.executable, SCRIPTED, str(script))
    assert "It ended at its start. It last wrote: No licence" in command("mcp", "show", "gone").out
    assert "No licence" in command("mcp", "list").out
    for name in ("odd", "gone"):
        assert command("mcp", "remove", name, "--yes").code == 0


def test_mcp_servers_are_imported_from_the_settings_of_an_assistant(command: Command, tmp_path: Path) -> None:
    settings = {
        "mcpServers": {
            "one": {"command": sys.executable, "args": [STRANGER]},
            "off": {"command": "x", "disabled": True},
            "bad name": {"command": "x"},
        }
    }
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    done = command("mcp", "import", str(file))
    assert done.code == 1
    assert done.out.startswith("one: ready, ") and "bad name: " in done.err
    assert [server["name"] for server in command("mcp", "list", "--json").json["data"]] == ["one"]
    assert command("mcp", "remove", "one", "--yes").code == 0


def test_an_env_option_without_a_value_is_refused(command: Command) -> None:
    done = command("mcp", "add", "odd", "--env", "TOKEN", "--", "x")
    assert done.code == 1 and "NAME=VALUE" in done.err


def test_every_form_of_settings_is_read() -> None:
    text = json.dumps(
        {
            "servers": {
                "web": {
                    "type": "http",
                    "url": "https://x/mcp",
                    "headers": {"Authorization": "Bearer ${env:TOKEN}"},
                },
                "files": {
                    "command": "npx",
                    "args": ["-y", "${PACKAGE}"],
                    "env": {"A": "${UNSET}"},
                    "cwd": "/d",
                },
            }
        }
    )
    settings = read_settings(text, {"TOKEN": "t", "PACKAGE": "p"})
    assert settings["web"]["headers"] == {"Authorization": "Bearer t"}
    assert settings["web"]["command"] == [] and settings["web"]["url"] == "https://x/mcp"
    assert settings["files"]["command"] == ["npx", "-y", "p"]
    assert settings["files"]["env"] == {"A": "${UNSET}"} and settings["files"]["folder"] == "/d"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mcpServers": []}', '{"mcpServers": {"a": 7}}'])
def test_settings_without_a_valid_mcp_servers_object_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="mcpServers"):
        read_settings(text, {})
