"""`portico.testing`: a flow in a unit test that runs without a separate daemon."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portico import Client
from portico.errors import NotFound
from portico.flow import flow, item, llm, parallel, pipeline, retrieve, warp
from portico.testing import daemonless

POOLS = {"portico-files", "portico-index", "portico-loading", "portico-models", "portico-search"}
"""Threads that the daemons of a process share and keep for the next daemon."""

RULES = [
    {"match": "outline of (\\w+)", "content": '{"value": ["Flour", "Water"]}'},
    {"match": "write about (\\w+)", "content": "All about \\1."},
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with daemonless(script=RULES, models={"judge": ["yes", "no"]}) as connected:
        yield connected


def test_a_flow_runs_with_a_scripted_model(client: Client) -> None:
    story = pipeline(
        titles=llm(user="outline of {topic}", format=list[str]),
        chapters=warp(llm(user="write about {title}").bind(title=item)),
    )
    assert client.run(story, {"topic": "bread"}) == ["All about Flour.", "All about Water."]


def test_texts_are_answered_one_after_another(client: Client) -> None:
    assert [client.run(llm("judge"), "?") for _ in range(3)] == ["yes", "no", "no"]


def test_a_client_side_function_runs_in_the_test_process(client: Client) -> None:
    lock = threading.Lock()

    def mine(x: int) -> int:
        with lock:
            return x + os.getpid()

    assert client.run(mine, 0) == os.getpid()


def test_an_app_is_deployed_and_answers_like_a_model(client: Client) -> None:
    client.apps.deploy("twice", flow(parallel(lambda t: t, lambda t: t, join="sum"), name="twice"))
    assert client.chat("ab", model="twice").read().text == "abab"


def test_an_unknown_model_in_a_flow_is_refused_with_a_suggestion(client: Client) -> None:
    with pytest.raises(NotFound, match="Did you mean"):
        client.run(llm("judg"), "x")


@pytest.mark.slow
def test_a_configuration_brings_stores(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "port.md").write_text("The Lighthouse daemon listens on port 7419.\n")
    stores: list[dict[str, Any]] = [{"name": "notes", "folder": str(folder)}]
    threads_before = set(threading.enumerate())
    with daemonless(configuration={"stores": stores}, home=tmp_path / "home") as client:
        for run in client.status().startup:
            for _event in client.runs.events(run):
                pass  # until the folder is indexed
        assert client.run(retrieve("notes", query="port"), "x")[0]["filename"] == "port.md"
    assert (tmp_path / "home").is_dir()
    new_threads = set(threading.enumerate()) - threads_before
    for thread in new_threads:
        if thread.name.startswith("AnyIO"):
            thread.join()  # its loop tells it to end
    assert {thread.name.partition("_")[0] for thread in new_threads if thread.is_alive()} <= POOLS
