"""Tools are found by group and by words."""

from __future__ import annotations

import pytest

from portico_server.core.servable import Card
from portico_server.settings import Settings
from portico_server.tools.builtin import outward
from portico_server.tools.toolbox import find


def card(name: str, description: str = "", group: str = "", **arguments: str) -> Card:
    properties = {key: {"type": "string", "description": text} for key, text in arguments.items()}
    return Card(
        name,
        "tool",
        title=name,
        description=description,
        input_schema={"type": "object", "properties": properties},
        labels={"group": group},
    )


CARDS = [
    card("web_fetch", "Read a page of the Web.", "web", url="Its address."),
    card("files", "Read a file.", "files", path="Where it is."),
    card("address_book", "People.", "office"),
    card("天气", "查询城市的天气预报", "office"),
]


@pytest.mark.parametrize(
    ("group", "words", "expected"),
    [
        ("", "", ["web_fetch", "files", "address_book", "天气"]),
        ("office", "", ["address_book", "天气"]),
        ("", "READ", ["web_fetch", "files"]),
        ("", "read web", ["web_fetch"]),
        ("", "address", ["address_book", "web_fetch"]),
        ("files", "web", []),
        ("", "天气", ["天气"]),
        ("", "预报", ["天气"]),
        ("nowhere", "", []),
        ("", "read nonsense", []),
    ],
)
def test_tools_are_found(group: str, words: str, expected: list[str]) -> None:
    assert [found.name for found in find(CARDS, group, words)] == expected


def test_a_schema_of_somebody_else_may_be_odd() -> None:
    odd = Card("odd", "tool", input_schema={"properties": {"x": True, "y": {"description": 7}}})
    assert find([odd], words="nothing") == [] and find([odd], words="y") == [odd]


def test_what_is_built_in_has_a_group() -> None:
    assert all(tool.group for tool in outward(Settings(tool_folders="/tmp")))
