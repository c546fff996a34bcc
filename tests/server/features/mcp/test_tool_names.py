"""Names of MCP tools."""

import re

from portico_server.core.names import MAX_TOOL_NAME_CHARS
from portico_server.core.servable import Card
from portico_server.features.mcp.tool_names import tool_names


def test_plain_names_are_kept() -> None:
    cards = [Card("docs", "app"), Card("docs", "store"), Card("current_time", "tool")]
    assert {name: card.key for name, card in tool_names(cards).items()} == {
        "docs": "docs",
        "search_docs": "store/docs",
        "current_time": "tool/current_time",
    }


def test_every_name_is_unique_and_of_plain_characters() -> None:
    odd = ["文档", "文件", "a b", "a-b", "a/b", "a?b", "é", "x" * 200, "x" * 201, "search_docs", "docs"]
    cards = [Card(name, kind) for name in odd for kind in ("app", "store", "tool")]
    cards_by_name = tool_names(cards)
    assert len(cards_by_name) == len(cards)
    for name in cards_by_name:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name) and len(name) <= MAX_TOOL_NAME_CHARS


def test_on_a_name_conflict_a_tool_keeps_the_name() -> None:
    cards_by_name = tool_names(
        [Card("docs", "store"), Card("search_docs", "app"), Card("search_docs", "tool")]
    )
    assert cards_by_name["search_docs"].kind == "tool" and len(cards_by_name) == 3


def test_a_tool_name_does_not_depend_on_other_cards() -> None:
    (alone,) = tool_names([Card("文档", "app")])
    assert alone in tool_names([Card("文档", "app"), Card("文件", "app"), Card("a b", "tool")])
