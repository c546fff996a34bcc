"""The prompt library over the native API and the SDK."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import api_server
from tests.daemon import Daemon

from portico.client import Client
from portico.errors import Conflict, Forbidden, InvalidRequest, NotFound
from portico_server.features.prompts import folder

REVIEW: dict[str, Any] = {
    "description": "Reviews code.",
    "arguments": [
        {"name": "language", "required": True},
        {"name": "lines", "type": "integer", "default": 5},
    ],
    "messages": [{"role": "user", "content": "Review this {language} in {lines} lines."}],
}


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.url) as client:
        yield client


@pytest.fixture
def reader(client: Client, daemon: Daemon) -> Iterator[Client]:
    key = client.keys.add("writer", ["chat"])
    with Client(daemon.url, key.key) as reader:
        yield reader
    client.keys.revoke(key.id)


def names(client: Client) -> list[str]:
    """Return the prompts that are not bundled with Portico."""
    return [prompt.name for prompt in client.prompts.list() if prompt.origin != "portico"]


def test_a_changed_prompt_is_stored_as_a_new_version(client: Client) -> None:
    first = client.prompts.save("review", **REVIEW)
    again = client.prompts.save("review", **REVIEW)
    second = client.prompts.save("review", **{**REVIEW, "title": "Review"})
    assert (first.version, again.version, second.version) == (1, 1, 2)
    assert client.prompts.get("review").title == "Review" and client.prompts.get("review", 1).title == ""
    assert [prompt.version for prompt in client.prompts.history("review")] == [2, 1]
    assert names(client) == ["review"]
    client.prompts.remove("review")
    with pytest.raises(NotFound) as caught:
        client.prompts.get("review")
    assert caught.value.code == "prompt_not_found"


def test_a_prompt_becomes_messages_for_a_model(client: Client) -> None:
    client.prompts.save("team/review", **REVIEW)
    messages = client.prompts.render("team/review", {"language": "Go"})
    assert list(messages) == [{"role": "user", "content": "Review this Go in 5 lines."}]
    assert "Review this Go" in "".join(client.chat(messages, "echo"))
    for arguments, param in (
        ({}, "arguments.language"),
        ({"language": 3}, "arguments.language"),
        ({"language": "Go", "more": 1}, "arguments.more"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            client.prompts.render("team/review", arguments)
        assert caught.value.param == param
    with pytest.raises(NotFound, match="has no version 9; its newest version is 1"):
        client.prompts.render("team/review", {"language": "Go"}, version=9)
    client.prompts.remove("team/review")


def test_an_import_reports_added_changed_and_unchanged_prompts(client: Client) -> None:
    files = {"a.yaml": "messages: A.", "b.md": "---\narguments: [x]\n---\nSay {x}.\n"}
    planned = client.prompts.load(files, dry_run=True)
    assert planned.added == ("a", "b") and names(client) == []
    assert client.prompts.load(files, origin="/prompts").added == ("a", "b")
    assert client.prompts.get("a").origin == "/prompts"
    done = client.prompts.load({**files, "a.yaml": "messages: B."})
    assert (done.added, done.changed, done.unchanged) == ((), ("a",), ("b",))
    for name in ("a", "b"):
        client.prompts.remove(name)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_value"),
        ({"files": {"a.yaml": "messages: A."}, "url": "https://example.com/p.git"}, "invalid_value"),
        ({"files": {"README.md": "# Nothing"}}, "no_prompts"),
        ({"files": {"a.yaml": "{"}}, "invalid_yaml"),
        ({"url": "http://169.254.169.254/p.git"}, "invalid_url"),
        ({"url": "file:///etc"}, "invalid_url"),
        ({"url": "https://169.254.169.254/p.git"}, "address_refused"),
        ({"url": "https://127.0.0.1/p.git"}, "address_refused"),
        ({"url": "https://[::ffff:10.0.0.1]/p.git"}, "address_refused"),
        ({"url": "https://localhost/p.git"}, "address_refused"),
        ({"files": {"a.yaml": "messages: A."}, "more": 1}, "unknown_parameter"),
    ],
)
def test_an_invalid_import_is_refused_and_stores_nothing(
    daemon: Daemon, body: dict[str, Any], code: str
) -> None:
    answer = httpx.post(f"{daemon.url}/api/prompts/import", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code
    prompts = httpx.get(f"{daemon.url}/api/prompts").json()["data"]
    assert {prompt["origin"] for prompt in prompts} == {"portico"}


def test_a_key_sees_only_shared_prompts_and_its_own(client: Client, reader: Client, daemon: Daemon) -> None:
    client.prompts.save("house", **REVIEW)
    reader.prompts.save("mine", **REVIEW)
    assert names(reader) == ["house", "mine"]
    with pytest.raises(Conflict):
        reader.prompts.save("house", **{**REVIEW, "title": "Taken over"})
    with pytest.raises(Conflict):
        reader.prompts.load({"a.yaml": "messages: A.", "house.yaml": "messages: B."})
    assert names(reader) == ["house", "mine"]
    with pytest.raises(Forbidden):
        reader.prompts.remove("house")
    with pytest.raises(Forbidden):
        reader.prompts.load(url="https://example.com/prompts.git")
    other_key = client.keys.add("other", ["models:read"])
    with Client(daemon.url, other_key.key) as stranger:
        assert names(stranger) == ["house"]
        with pytest.raises(NotFound):
            stranger.prompts.get("mine")
        with pytest.raises(Forbidden):
            stranger.prompts.save("another", **REVIEW)
    client.keys.revoke(other_key.id)
    reader.prompts.remove("mine")
    client.prompts.remove("house")


def test_a_prompt_is_exported_in_the_file_format_of_another_tool(client: Client) -> None:
    client.prompts.save("team/review", **REVIEW)
    export = client.prompts.export("team/review", "prompty")
    assert export.filename == "team-review.prompty" and "{{language}}" in export.text
    client.prompts.remove("team/review")
    assert client.prompts.load({export.filename: export.text}).added == ("team/review",)
    messages = client.prompts.render("team/review", {"language": "Go"})
    assert list(messages) == [{"role": "user", "content": "Review this Go in 5 lines."}]
    with pytest.raises(InvalidRequest, match="Did you mean 'yaml'") as caught:
        client.prompts.export("team/review", "yml")  # type: ignore[arg-type]
    assert caught.value.param == "format"
    with pytest.raises(InvalidRequest, match="has no cases"):
        client.prompts.evaluate("team/review", "echo")
    client.prompts.remove("team/review")


async def test_imported_files_are_parsed_outside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, threads = folder.read_texts, []

    def noted(files: Mapping[str, str]) -> list[Any]:
        threads.append(threading.current_thread())
        return read(files)

    monkeypatch.setattr(folder, "read_texts", noted)
    async with api_server(tmp_path) as server:
        answer = await server.client.post("/api/prompts/import", json={"files": {"a.yaml": "messages: hi\n"}})
    assert answer.json()["added"] == ["a"]
    assert threads and threads[0] is not threading.main_thread()
