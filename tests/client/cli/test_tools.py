"""`portico tools`: tools are shown, added and removed."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command

FOLDER = Path(__file__).parents[2] / "server" / "features" / "tools" / "sources"


def test_a_tool_is_shown_with_its_arguments(command: Command) -> None:
    details = command("tools", "show", "search").out
    assert "built-in" in details and "query\tstring\tyes" in details
    assert command("tools", "show", "search", "--json").json["read_only"] is True
    assert "Did you mean 'search'" in command("tools", "show", "serch").err


def test_a_command_is_added_called_and_removed(command: Command) -> None:
    assert "No tools added yet" in command("tools", "sources").out
    program = (sys.executable, "-c", "import sys; print(sys.argv[1:])", "{text}")
    addition = command("tools", "add", "echo", "--describe", "Says it again.", "--read-only", "--", *program)
    assert addition.out == "Added echo.\n"
    assert command("tools", "call", "echo", "text=$HOME;").out == "['$HOME;']\n\n"
    assert command("tools", "sources").out.splitlines()[1].startswith("echo\tcommand\tready\t1\t")
    assert command("tools", "remove", "echo", "--dry-run").code == 0
    assert command("tools", "remove", "echo", "--yes").code == 0
    assert command("tools", "call", "echo", "text=x").code == 1


def test_a_function_is_looked_for_in_this_folder(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    assert command("tools", "add", "area", "--function", "geometry:area").out == "Added area.\n"
    assert command("tools", "call", "area", "width=3", "--json").json["structured"]["area"] == 6
    assert command("tools", "remove", "area", "--yes").code == 0
    failure = command("tools", "add", "none", "--function", "geometry:none")
    assert failure.code == 1 and "none" in failure.err


def test_tools_add_without_exactly_one_source_is_refused(command: Command) -> None:
    assert "needs exactly one of" in command("tools", "add", "x").err
    assert "NAME=VALUE" in command("tools", "add", "x", "--env", "A", "--", "true").err


def test_a_command_that_floods_ends_as_a_file(command: Command, tmp_path: Path) -> None:
    addition = command("tools", "add", "flood", "--read-only", "--", "seq", "1", "50000")
    assert addition.code == 0
    done = command("tools", "call", "flood", "--out", str(tmp_path))
    command("tools", "remove", "flood", "--yes")
    assert done.code == 0 and len(done.out) < 30_000
    assert (tmp_path / "flood.txt").read_text().splitlines() == [str(n) for n in range(1, 50_001)]


def test_tools_are_listed_by_group_and_by_words(command: Command) -> None:
    def names(*options: str) -> list[str]:
        return [tool["name"] for tool in command("tools", "list", "--json", *options).json["data"]]

    assert set(names("--group", "web")) == {"web_fetch", "web_search", "http_request"}
    assert names("--search", "weekday")[0] == "current_time"
    assert set(names("--group", "web", "--search", "weekday")) <= {"web_fetch", "web_search", "http_request"}
    assert command("tools", "list", "--group", "nowhere").out.strip() == "No matching tools."


def test_a_tool_says_its_group_and_what_it_costs(command: Command) -> None:
    assert command("tools", "add", "dear", "--group", "office", "--cost", "0.25", "--", "true").code == 0
    details = command("tools", "show", "dear").out
    [tool_entry] = command("tools", "list", "--group", "office", "--json").json["data"]
    assert command("tools", "remove", "dear", "--yes").code == 0
    assert "office" in details and "0.25 US dollars" in details
    assert (tool_entry["name"], tool_entry["group"], tool_entry["cost"]) == ("dear", "office", 0.25)


def test_a_database_is_added_by_its_path(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("create table items (name text)")
        connection.execute("insert into items values ('bread')")
    assert "shop, shop_schema" in command("tools", "add", "shop", "--database", "shop.db").out
    query_result = command("tools", "call", "shop", "query=select name from items")
    schema_text = command("tools", "call", "shop_schema").out
    command("tools", "remove", "shop", "--yes")
    assert query_result.out.split() == ["name", "bread"] and "items (name TEXT)" in schema_text
