"""Values as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from portico._read import read
from portico_tui.daemon import App, Glance, Partner, Passage, Progressed, Store, partners
from portico_tui.text import cell, counts, heading, measure


def test_a_cell_is_one_line_without_control_characters() -> None:
    assert cell("a\nb\x1b[2J\u202ec[b]").plain == "a b [2J c[b]"


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progressed("download", done=12_100_000, total=98_300_000, unit="bytes"), "12.1 MB of 98.3 MB"),
        (Progressed("download", done=12_100_000, unit="bytes"), "12.1 MB"),
        (Progressed("index", done=3, total=8, unit="files"), "3 of 8 files"),
        (Progressed("load", "warming\nup"), "warming up"),
    ],
)
def test_progress_is_measured_in_its_unit(progress: Progressed, said: str) -> None:
    assert measure(progress) == said


def test_a_store_counts_what_is_ready_waiting_and_failed() -> None:
    fields = ("id", "name", "description", "answers", "embedding_model", "guard", "index")
    names = dict.fromkeys(fields, "")
    store = read(Store, {**names, "file_counts": {"in_progress": 2, "completed": 5, "failed": 1, "total": 8}})
    assert counts(store).plain == "5/7 ✗1"


def test_a_passage_is_headed_by_its_file() -> None:
    assert heading(Passage(1, 0.5, "text", "file-1", "a\x1bb.md")) == "a b.md"


def _model(name: str, task: str, aliases: tuple[str, ...] = ()) -> dict[str, Any]:
    model = {
        "name": name,
        "source": "fake://",
        "engine": "fake",
        "task": task,
        "state": "cold",
        "description": "",
    }
    return {**model, "aliases": aliases}


def _app(name: str, kind: str = "store", input_schema: Mapping[str, Any] | None = None) -> App:
    return read(
        App, {"name": name, "title": "", "description": "", "kind": kind, "input_schema": input_schema}
    )


def test_chat_partners_are_apps_then_the_default_then_other_chat_models() -> None:
    models = (
        _model("alpha", "chat"),
        _model("zulu", "chat", ("default",)),
        _model("vectors", "embedding", ("default-embedding",)),
        *(_model(task, task) for task in ("rerank", "speech", "image")),
    )
    apps = ("docs", "story", "greeting", "clerk", "unknown")
    glance = read(Glance, {"version": "1", "home": "/home", "url": "", "models": models, "apps": apps})
    known_apps = (
        _app("docs"),
        _app("story", kind="flow", input_schema={"type": "object", "properties": {}}),
        _app("greeting", kind="flow"),
        _app("clerk", kind="agent"),
    )
    assert partners(glance, {app.name: app for app in known_apps}) == (
        Partner("docs", True),
        Partner("greeting", True),
        Partner("clerk", True),
        Partner("default", False),
        Partner("alpha", False),
        Partner("zulu", False),
    )
