"""How answers are parsed into values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from portico import Client, NotPortico, Passage, Place
from portico._read import Page, read
from portico.schemas.daemon import Setting
from portico.schemas.search import TraceStage
from portico.schemas.stores import FileCounts, StoreFile

STORE = {
    "id": "vs_1",
    "name": "docs",
    "description": "",
    "answers": "auto",
    "embedding_model": "",
    "guard": "hold",
    "index": "embedded",
}


def _read(answer: Any, call: Callable[[Client], Any]) -> Any:
    """Return what a call makes of an answer."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=answer))
    with Client("http://test", transport=transport) as client:
        return call(client)


def _store(**fields: Any) -> Any:
    return _read({**STORE, **fields}, lambda client: client.stores.get("docs"))


def test_unknown_response_fields_are_ignored() -> None:
    assert _store(colour="blue", file_counts={"total": 2, "lost": 1}).file_counts == FileCounts(0, 0, 0, 0, 2)


def test_a_null_is_the_default() -> None:
    assert _store(file_counts=None, folder=None) == _store()


@pytest.mark.parametrize(
    ("source", "read"),
    [("s3://b", "s3://b"), (["https://a", "https://b"], ("https://a", "https://b")), (None, None)],
)
def test_a_field_with_one_or_several_values_keeps_its_form(source: Any, read: Any) -> None:
    assert _store(source=source).source == read


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(
        NotPortico,
        match=r"The daemon's Store lacks a field .*'name'.*Do client and daemon have the same version",
    ):
        _read({"id": "vs_1"}, lambda client: client.stores.get("docs"))


@pytest.mark.parametrize(
    ("answer", "call", "words"),
    [
        ([], lambda client: client.stores.get("docs"), "returned list where a Store was expected"),
        ({"data": {}}, lambda client: client.stores.list(), "has no list 'data'"),
        ({"data": [3]}, lambda client: client.stores.list(), "returned int where a Store was expected"),
        ({}, lambda client: client.stores.sync("docs"), "lacks 'run'"),
        ({"runs": "run_1"}, lambda client: client.stores.retry_groups("docs"), "lacks 'runs'"),
        ([], lambda client: client.health(), "is not a JSON object"),
        (
            {"text": None, "segments": [{}]},
            lambda client: client.audio.transcribe(b"", "m"),
            "not a transcript",
        ),
        ({"data": [{}]}, lambda client: client.images.draw("a cat", "m"), "contains no images"),
    ],
)
def test_an_answer_of_another_shape_is_refused(
    answer: Any, call: Callable[[Client], Any], words: str
) -> None:
    with pytest.raises(NotPortico, match=words):
        _read(answer, call)


def test_a_page_knows_where_the_next_one_begins() -> None:
    answer = {"data": [{"id": "file_1", "filename": "a.md", "status": "completed"}], "has_more": True}
    page = _read(answer, lambda client: client.stores.files("docs"))
    assert page == Page((read(StoreFile, answer["data"][0]),), True, "file_1")
    assert _read({"data": []}, lambda client: client.stores.files("docs")) == Page(())


def test_lists_within_lists_and_objects_within_objects_are_values() -> None:
    passage = {
        "rank": 1,
        "score": 0.5,
        "text": "t",
        "file_id": "f",
        "filename": "n",
        "place": {"heading": ["a"]},
    }
    stage = {"name": "lexical", "milliseconds": 1.5, "candidates": [[3, 0.5]]}
    search_page = _read({"data": [passage], "trace": [stage]}, lambda client: client.search("docs", "port"))
    assert search_page.passages == (Passage(1, 0.5, "t", "f", "n", Place(heading=("a",))),)
    assert search_page.trace == (TraceStage("lexical", 1.5, ((3, 0.5),)),)


def test_values_are_read_from_nested_places_of_the_response() -> None:
    answer = {
        "id": "batch_1",
        "endpoint": "/v1/embeddings",
        "status": "failed",
        "created_at": 1,
        "expires_at": 2,
        "request_counts": {"total": 3, "failed": 1},
        "usage": {"input_tokens": 5},
        "errors": {"data": [{"code": "c", "message": "m", "line": 2}]},
    }
    batch = _read(answer, lambda client: client.batches.get("batch_1"))
    assert (batch.total, batch.completed, batch.failed, batch.prompt_tokens) == (3, 0, 1, 5)
    assert [(problem.message, problem.line) for problem in batch.errors] == [("m", 2)]
    attachment = {
        "id": "file_1",
        "status": "failed",
        "last_error": {"code": "c", "message": "cannot be read"},
    }
    file = _read(attachment, lambda client: client.stores.attach("vs_1", "file_1"))
    assert (file.filename, file.error) == ("file_1", "cannot be read")


def test_a_setting_may_have_no_value() -> None:
    rows = [{"name": "public_url", "value": None, "origin": "default", "doc": ""}]
    assert _read({"data": rows}, lambda client: client.settings()) == [
        Setting("public_url", None, "default", "")
    ]


def test_an_event_of_a_job_has_the_number_of_its_id() -> None:
    event = {"id": "ftevent-1-7", "level": "info", "message": "m", "type": "message", "created_at": 1}
    assert _read({"data": [event]}, lambda client: client.tuning.events("ftjob_1")).data[0].number == 7
