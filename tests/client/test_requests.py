"""The requests that calls send, and the calls that refuse to send one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from portico import Client, InvalidRequest
from portico._read import read
from portico.schemas.apps import App, the_only


@pytest.fixture
def sent() -> list[httpx.Request]:
    return []


@pytest.fixture
def client(sent: list[httpx.Request]) -> Iterator[Client]:
    """A client whose requests are recorded in ``sent`` and answered with a terminating response."""

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if "text/event-stream" in request.headers["accept"]:
            chat = request.url.path == "/v1/chat/completions"
            return httpx.Response(
                200, text=f"data: {'[DONE]' if chat else json.dumps({'type': 'finished'})}\n\n"
            )
        names = ("id", "name", "description", "answers", "embedding_model", "guard", "index")
        store = dict.fromkeys(names, "docs")
        return httpx.Response(200, json={**store, "data": []})

    with Client("http://test", transport=httpx.MockTransport(answer)) as client:
        yield client


def _json(request: httpx.Request) -> Any:
    return json.loads(request.content)


def test_a_name_cannot_leave_its_place_in_the_path(client: Client, sent: list[httpx.Request]) -> None:
    client.stores.get("a/../b?c#d")
    assert sent[-1].url.raw_path == b"/api/stores/a%2F..%2Fb%3Fc%23d"
    client.stores.get("手册")
    assert sent[-1].url.raw_path == b"/api/stores/%E6%89%8B%E5%86%8C"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_ask_for_another_path_is_refused(
    client: Client, sent: list[httpx.Request], name: str
) -> None:
    with pytest.raises(InvalidRequest, match="is not a valid name for a store"):
        client.stores.remove(name)
    with pytest.raises(InvalidRequest, match="The id of a file is required"):
        client.files.remove(name)
    with pytest.raises(InvalidRequest, match="The id of a session is required"):
        client.sessions.get(name)
    assert not sent


def test_omitted_arguments_are_not_sent(client: Client, sent: list[httpx.Request]) -> None:
    client.stores.add("docs")
    assert _json(sent[-1]) == {"name": "docs"}
    client.search("docs", "port", max_num_results=5)
    assert _json(sent[-1]) == {"query": "port", "max_num_results": 5}


def test_a_search_of_several_stores_is_one_call_with_its_options(
    client: Client, sent: list[httpx.Request]
) -> None:
    client.search(["a", "b"], "port", max_num_results=5, groups=("fine",), neighbours=1)
    assert (sent[-1].url.path, _json(sent[-1])) == (
        "/api/search",
        {"stores": ["a", "b"], "query": "port", "max_num_results": 5, "groups": ["fine"], "neighbours": 1},
    )


def test_a_question_is_sent_after_the_given_history(client: Client, sent: list[httpx.Request]) -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    client.ask("c", "docs", history=history, temperature=0).read()
    assert [message["content"] for message in _json(sent[-1])["messages"]] == ["a", "b", "c"]
    assert _json(sent[-1])["temperature"] == 0


def test_options_of_a_chat_are_passed_on_and_usage_is_asked_for(
    client: Client, sent: list[httpx.Request]
) -> None:
    client.chat("hi", temperature=0).read()
    assert _json(sent[-1])["temperature"] == 0
    assert _json(sent[-1])["stream_options"] == {"include_usage": True}


def test_chat_with_stream_false_is_refused_with_a_hint_to_call_read(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="call read"):
        client.chat("hi", stream=False).read()  # type: ignore[call-arg]


def test_the_only_app_is_chosen_and_several_are_listed() -> None:
    docs, wiki = (
        read(App, {"name": name, "title": "", "description": "", "kind": "store"})
        for name in ("docs", "wiki")
    )
    assert the_only([docs]) == "docs"
    with pytest.raises(InvalidRequest, match="docs, wiki"):
        the_only([docs, wiki])
    with pytest.raises(InvalidRequest, match="portico stores add"):
        the_only([])


def test_a_missing_file_is_named_in_the_error(
    client: Client, sent: list[httpx.Request], tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=r"The file '.*gone\.pdf' does not exist"):
        client.files.add(tmp_path / "gone.pdf")
    with pytest.raises(InvalidRequest, match="need a file name"):
        client.files.add(b"text")
    assert not sent
