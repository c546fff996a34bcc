"""Configuration files are edited in their own format, and everything else in them stays."""

from __future__ import annotations

from typing import Any

import pytest

from portico.connect.edit import Format, drop_all, parse, put_all
from portico.connect.setting import Entry, Place
from portico.errors import InvalidRequest

SERVER = {"url": "http://x/mcp"}
MCP: Place = ("mcpServers", "portico")
LISTED: Place = ("mcpServers", Entry("Portico"))
NAMED = {"name": "Portico", "url": "http://x/mcp"}

EDITS: list[tuple[Format, str, Place, Any, str]] = [
    # The format, the text before, the place, the value, and the text after.
    (
        "JSON",
        "",
        MCP,
        SERVER,
        '{\n  "mcpServers": {\n    "portico": {\n      "url": "http://x/mcp"\n    }\n  }\n}\n',
    ),
    ("JSON", "{}\n", ("a",), 1, '{\n  "a": 1\n}\n'),
    ("JSON", '{"b": 2}', ("a",), 1, '{"b": 2, "a": 1}'),
    (
        "JSON",
        '{\n\t// Mine, with a } and a "\n\t"b": "//x", /* , */\n\t"c": [1, 2,], // last\n}\n',
        ("a",),
        {"d": 1},
        '{\n\t// Mine, with a } and a "\n\t"b": "//x", /* , */\n\t"c": [1, 2,], // last\n'
        '\t"a": {\n\t\t"d": 1\n\t},\n}\n',
    ),
    (
        "JSON",
        '{\n    "b": 1 // one\n    // two\n}',
        ("a",),
        2,
        '{\n    "b": 1, // one\n    // two\n    "a": 2\n}',
    ),
    (
        "JSON",
        '{\n  "mcpServers": {\n    "portico": {"old": 1}, "z": {}\n  }\n}',
        MCP,
        SERVER,
        '{\n  "mcpServers": {\n    "portico": {\n      "url": "http://x/mcp"\n    }, "z": {}\n  }\n}',
    ),
    (
        "JSON",
        '{\n  "a": {\n    // none yet\n  }\n}',
        ("a", "b"),
        1,
        '{\n  "a": {\n    // none yet\n    "b": 1\n  }\n}',
    ),
    ("JSON", "[]", (Entry("P"),), {"name": "P"}, '[\n  {\n    "name": "P"\n  }\n]'),
    (
        "JSON",
        '[\n  {"name": "Q"}\n]',
        (Entry("P"),),
        {"name": "P"},
        '[\n  {"name": "Q"},\n  {\n    "name": "P"\n  }\n]',
    ),
    ("JSON", '\ufeff{"b": 2}\r\n', ("a",), 1, '\ufeff{"b": 2, "a": 1}\r\n'),
    ("JSON", '{\r\n  "b": 2\r\n}\r\n', ("a",), 1, '{\r\n  "b": 2,\r\n  "a": 1\r\n}\r\n'),
    ("TOML", "", ("mcp", "portico"), SERVER, '[mcp.portico]\nurl = "http://x/mcp"\n'),
    (
        "TOML",
        "# Mine\n[a]\nb = '''\n[c]\n'''\n",
        ("mcp", "portico"),
        {"headers": {"X-A": "b"}, "on": True},
        "# Mine\n[a]\nb = '''\n[c]\n'''\n\n[mcp.portico]\nheaders = { X-A = \"b\" }\non = true\n",
    ),
    ("TOML", "[a]\nb = 1\n", ("model",), "docs", 'model = "docs"\n\n[a]\nb = 1\n'),
    ("TOML", 'model = "x" # old\n[a]\n', ("model",), "docs", 'model = "docs" # old\n[a]\n'),
    (
        "TOML",
        "[mcp.portico]\nurl = 1\n\n[mcp.portico.env]\nA = 1\n\n# Of z\n[z]\n",
        ("mcp", "portico"),
        SERVER,
        '\n# Of z\n[z]\n\n[mcp.portico]\nurl = "http://x/mcp"\n',
    ),
    (
        "TOML",
        '# Mine\nmcp = { files = { command = "npx", args = ["}", "#"] } } # yes\n[z]\n',
        ("mcp", "portico"),
        SERVER,
        '# Mine\nmcp = { files = { command = "npx", args = ["}", "#"] }, portico = { url = "http://x/mcp" } } # yes\n'
        "[z]\n",
    ),
    ("TOML", "mcp = {}\n", ("mcp", "portico"), SERVER, 'mcp = { portico = { url = "http://x/mcp" } }\n'),
    (
        "TOML",
        'mcp = { "portico" = { url = "old" }, z = { args = [ # one\n "a",\n] } }\n',
        ("mcp", "portico"),
        SERVER,
        'mcp = { "portico" = { url = "http://x/mcp" }, z = { args = [ # one\n "a",\n] } }\n',
    ),
    (
        "TOML",
        'mcp = { portico.url = "old", portico.on = true, z.on = true }\n',
        ("mcp", "portico"),
        SERVER,
        'mcp = { z.on = true, portico = { url = "http://x/mcp" } }\n',
    ),
    (
        "TOML",
        "[a]\nmcp = { z = 1 } # yes\n\n[b]\n",
        ("a", "mcp", "portico"),
        SERVER,
        '[a]\nmcp = { z = 1, portico = { url = "http://x/mcp" } } # yes\n\n[b]\n',
    ),
    (
        "TOML",
        '[mcp]\nfiles = { on = true } # yes\nportico = { url = "old" }\n\n[z]\n',
        ("mcp", "portico"),
        SERVER,
        '[mcp]\nfiles = { on = true } # yes\nportico = { url = "http://x/mcp" }\n\n[z]\n',
    ),
    (
        "TOML",
        'mcp.files.command = "npx" # yes\nmcp.portico.url = "b"\nlast = """\n[mcp.portico]\n"""\n',
        ("mcp", "portico"),
        SERVER,
        'mcp.files.command = "npx" # yes\nlast = """\n[mcp.portico]\n"""\n\n[mcp.portico]\nurl = "http://x/mcp"\n',
    ),
    ("TOML", "a = { b = 1 }\n", ("a", "c"), {"x": 1}, "a = { b = 1, c = { x = 1 } }\n"),
    ("TOML", "[a]\nb.c = 1\n", ("a", "b"), {"x": 1}, "[a]\n\n[a.b]\nx = 1\n"),
    ("TOML", "[[a]]\nb = 1\n[[a]]\nb = 2\n", ("b",), 1, "b = 1\n\n[[a]]\nb = 1\n[[a]]\nb = 2\n"),
    ("YAML", "", ("extensions", "portico"), SERVER, "extensions:\n  portico:\n    url: http://x/mcp\n"),
    (
        "YAML",
        "# Mine\nextensions:\n    # First\n    dev:\n        on: true # yes\n\n# Last\nGOOSE: a\n",
        ("extensions", "portico"),
        SERVER,
        "# Mine\nextensions:\n    # First\n    dev:\n        on: true # yes\n    portico:\n      url: http://x/mcp\n"
        "\n# Last\nGOOSE: a\n",
    ),
    (
        "YAML",
        "extensions: {}\nb: 1\n",
        ("extensions", "p"),
        SERVER,
        "extensions:\n  p:\n    url: http://x/mcp\nb: 1\n",
    ),
    ("YAML", "extensions:\nb: 1\n", ("extensions", "p"), 2, "extensions:\n  p: 2\nb: 1\n"),
    ("YAML", "a: |\n  text\n", ("b",), 1, "a: |\n  text\nb: 1\n"),
    ("YAML", "a: 1", ("b",), 1, "a: 1\nb: 1\n"),
    ("YAML", "a: 1\n", LISTED, NAMED, "a: 1\nmcpServers:\n- name: Portico\n  url: http://x/mcp\n"),
    (
        "YAML",
        "mcpServers:\n  - name: Files # mine\n    command: npx\nz: 1\n",
        LISTED,
        NAMED,
        "mcpServers:\n  - name: Files # mine\n    command: npx\n  - name: Portico\n    url: http://x/mcp\nz: 1\n",
    ),
    (
        "YAML",
        "mcpServers:\n- name: Portico\n  url: old\n- name: Z\n",
        LISTED,
        NAMED,
        "mcpServers:\n- name: Portico\n  url: http://x/mcp\n- name: Z\n",
    ),
]


@pytest.mark.parametrize(("file_format", "before", "place", "value", "after"), EDITS)
def test_a_value_is_set(file_format: Format, before: str, place: Place, value: Any, after: str) -> None:
    edited_bytes = put_all(before.encode(), file_format, {place: value}, "file")
    assert edited_bytes.decode() == after
    assert put_all(edited_bytes, file_format, {place: value}, "file") == edited_bytes


def with_no_null(document: Any) -> Any:
    """Return a document without keys that have no value: an empty file, and a key without a value, may disappear."""
    if isinstance(document, dict):
        return {key: item for key, item in document.items() if item is not None} or None
    return document or None


def test_a_value_in_a_line_of_yaml_is_set_but_not_removed() -> None:
    place = ("a", "p")
    edited_bytes = put_all(b"a: {b: 1}\n", "YAML", {place: SERVER}, "file")
    assert edited_bytes == b'a: {b: 1, "p": {"url": "http://x/mcp"}}\n'
    assert put_all(edited_bytes, "YAML", {place: SERVER}, "file") == edited_bytes
    with pytest.raises(InvalidRequest, match="stays unchanged"):
        drop_all(edited_bytes, "YAML", {place: SERVER}, {"a": {"b": 1}}, "file")


@pytest.mark.parametrize(("file_format", "before", "place", "value", "after"), EDITS)
def test_a_value_is_removed_although_the_file_has_changed(
    file_format: Format, before: str, place: Place, value: Any, after: str
) -> None:
    former = parse(before.encode(), file_format, "file")
    edited_bytes = drop_all(after.encode(), file_format, {place: value}, former, "file")
    assert with_no_null(parse(edited_bytes, file_format, "file")) == with_no_null(former)
    assert edited_bytes.count(b"#") == before.count("#") or "old" in before
    assert edited_bytes.count(b"//") == before.count("//")


@pytest.mark.parametrize(
    ("file_format", "text", "line"),
    [
        ("JSON", '{\n  "a": 1\n  "b": 2\n}', "line 3"),
        ("JSON", "{\n  // never closed\n", "line 3"),
        ("TOML", "a = 1\nb = \n", "line 2"),
        ("YAML", "a: 1\nb: [1\nc: 2\n", "line 3"),
        ("YAML", "a: 1\n\tb: 2\n", "line 2"),
    ],
)
def test_an_invalid_file_is_refused_with_the_line(file_format: Format, text: str, line: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"settings is not valid {file_format}.*{line}"):
        put_all(text.encode(), file_format, {("a",): 1}, "settings")


@pytest.mark.parametrize(
    ("file_format", "text", "place"),
    [
        ("JSON", "[]", ("a",)),
        ("JSON", '{"a": 1}', ("a", "b")),
        ("JSON", '{"a": {}}', ("a", Entry("b"))),
        ("TOML", "a = 1\n", ("a", "b")),
        ("TOML", "[[a]]\nb = 1\n", ("a", "b")),
        ("YAML", "a: 1\n", ("a", "b")),
        ("YAML", "a: &x {c: 1}\nb: *x\n", ("b", "d")),
        ("YAML", "- 1\n", ("a",)),
    ],
)
def test_a_file_that_cannot_be_changed_safely_stays(file_format: Format, text: str, place: Place) -> None:
    with pytest.raises(InvalidRequest, match="stays unchanged"):
        put_all(text.encode(), file_format, {place: {"x": 1}}, "settings")


def test_bytes_that_are_not_text_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        put_all(b"\xff\xfe", "JSON", {("a",): 1}, "settings")
