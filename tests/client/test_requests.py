"""Requests as they are built, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico import InvalidRequest
from portico._calls.chat import app_run, chat, the_only
from portico._calls.knowledge import file_add, file_remove, search, store_add, store_get, store_remove
from portico.values import App


def test_a_name_cannot_leave_its_place_in_the_path() -> None:
    assert store_get("a/../b?c#d").path == "/api/stores/a%2F..%2Fb%3Fc%23d"
    assert store_get("手册").path == "/api/stores/%E6%89%8B%E5%86%8C"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_ask_for_another_path_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a name for a store"):
        store_remove(name)
    with pytest.raises(InvalidRequest, match="is not a name for a file"):
        file_remove(name)


def test_what_is_not_given_is_not_sent() -> None:
    assert store_add("docs", None, None, None, None, None, None).json == {"name": "docs"}
    assert search("docs", "port", 5, None, None, None, False, {}).json == {
        "query": "port",
        "max_num_results": 5,
    }


def test_a_search_of_several_stores_is_one_call_with_its_options() -> None:
    call = search(["a", "b"], "port", 5, None, None, None, False, {"groups": ("fine",), "neighbours": 1})
    assert (call.path, call.json) == (
        "/api/search",
        {"stores": ["a", "b"], "query": "port", "max_num_results": 5, "groups": ["fine"], "neighbours": 1},
    )


def test_a_question_follows_what_was_said_before() -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    call = app_run("docs", "c", history, {"temperature": 0})
    assert [message["content"] for message in call.json["messages"]] == ["a", "b", "c"]
    assert call.json["temperature"] == 0


def test_options_of_a_chat_are_passed_on_and_usage_is_asked_for() -> None:
    body = chat("hi", "default", {"temperature": 0}).json
    assert body["temperature"] == 0
    assert body["stream_options"] == {"include_usage": True}


def test_a_chat_that_shall_not_stream_is_told_how() -> None:
    with pytest.raises(InvalidRequest, match="call read"):
        chat("hi", "default", {"stream": False})


def test_the_only_app_is_chosen_and_several_are_listed() -> None:
    assert the_only([App("docs")]) == "docs"
    with pytest.raises(InvalidRequest, match="docs, wiki"):
        the_only([App("docs"), App("wiki")])
    with pytest.raises(InvalidRequest, match="portico stores add"):
        the_only([])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"There is no file at .*gone"):
        file_add(tmp_path / "gone.pdf", None, "assistants")
    with pytest.raises(InvalidRequest, match="need a file name"):
        file_add(b"text", None, "assistants")
