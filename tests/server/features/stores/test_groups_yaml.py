"""Chunk groups of a configuration: built at the start, kept at the next start, rebuilt if the file has changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons

from portico_server import config
from portico_server.core.errors import InvalidRequest

MODELS = """
models:
  - name: summarist
    source: "fake://"
    aliases: [default]
    parameters: {script: [{match: "<text>.*(gulls|lamps)", content: "In short: \\\\1."}]}
stores:
  - name: harbour
    folder: ./harbour
    embedding_model: ""
    groups:
"""
TEXT = "The keeper has seven gulls. The tower has nine lamps. " * 30


def start(home: Path, *groups: str) -> dict[str, Mapping[str, Any]]:
    """Return the groups of the store by name after a start with these groups."""
    folder = home / "harbour"
    folder.mkdir(exist_ok=True)
    (folder / "tower.txt").write_text(TEXT, encoding="utf-8")
    file = home / "portico.yaml"
    file.write_text(MODELS + "".join(f"      - {group}\n" for group in groups), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(file)) as daemon:
        daemon.settle()
        with httpx.Client(base_url=daemon.url, timeout=60) as http:
            for kind in ("ingest", "write"):  # the first starts the second
                for run in http.get("/api/runs").json()["data"]:
                    if run["kind"] == kind:
                        http.get(f"/api/runs/{run['id']}/events")
            group_rows = http.get("/api/stores/harbour/groups").json()["data"]
    return {group["name"]: group for group in group_rows}


@pytest.mark.slow
def test_configured_groups_are_rebuilt_only_if_their_definition_changes(tmp_path: Path) -> None:
    group_entries = ["{name: CoarseChunk}", "{name: FineChunk, parent: CoarseChunk}"]
    groups = start(tmp_path, *group_entries, "{name: brief, strategy: summary, embedding_model: ''}")
    assert {name: (group["parent"], group["completed"]) for name, group in groups.items()} == {
        "chunk": ("", 1),
        "CoarseChunk": ("", 1),
        "FineChunk": ("CoarseChunk", 1),
        "brief": ("", 1),
    }
    assert groups["CoarseChunk"]["chunking"]["static"] == {
        "max_chunk_size_tokens": 1024,
        "chunk_overlap_tokens": 100,
    }
    assert groups["brief"]["chunking"]["model"] == "default"
    again = start(tmp_path, *group_entries)
    assert again == groups  # the group no longer named in the file remains
    rebuilt_groups = start(tmp_path, "{name: CoarseChunk, strategy: sentence, size: 200}", group_entries[1])
    assert rebuilt_groups["CoarseChunk"]["chunks"] > groups["CoarseChunk"]["chunks"]
    assert rebuilt_groups["FineChunk"] == groups["FineChunk"]
    assert rebuilt_groups["brief"] == groups["brief"]


@pytest.mark.parametrize(
    ("group", "param", "words"),
    [
        ({"name": "a", "size": 300}, "stores[0].groups[0].strategy", "needs a 'strategy'"),
        ({"name": "a", "strategy": "sentense"}, "stores[0].groups[0].chunking_strategy.type", "sentence"),
        ({"name": "a", "strategie": "x"}, "stores[0].groups[0].strategie", "Did you mean 'strategy'"),
        ({"name": "a", "parent": 3}, "stores[0].groups[0].parent", "must be text"),
        ({"strategy": "sentence"}, "stores[0].groups[0].name", "needs a 'name'"),
    ],
)
def test_an_invalid_configured_group_is_refused_with_its_position(
    tmp_path: Path, group: dict[str, Any], param: str, words: str
) -> None:
    document = {"stores": [{"name": "harbour", "groups": [group]}]}
    with pytest.raises(InvalidRequest, match=words) as caught:
        config.parse(document, tmp_path, {})
    assert caught.value.param == param
