"""``/api/chunkers`` and ``/api/chunk`` through a real daemon."""

import json
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon
from tests.server.features.readers import documents, office

from portico import AsyncClient, Client, InvalidRequest

TEXT = "# Fees\n\nA berth costs 40 crowns. It is paid at the gate.\n\n# 价目\n\n帆船每晚四十克朗。\n"


def post(daemon: Daemon, **body: Any) -> httpx.Response:
    return httpx.post(f"{daemon.url}/api/chunk", json=body, timeout=60)


def test_the_chunkers_are_listed_with_what_they_are_for(daemon: Daemon) -> None:
    chunkers = {row["name"]: row for row in httpx.get(f"{daemon.url}/api/chunkers").json()["data"]}
    assert len(chunkers) >= 20
    assert chunkers["slides"]["formats"] == ["odp", "otp", "potx", "ppsx", "pptm", "pptx"]
    assert "xlsx" in chunkers["rows"]["formats"]
    assert all(row["description"] and row["size"] >= 50 for row in chunkers.values())


def test_a_text_is_cut_by_several_strategies_side_by_side(daemon: Daemon) -> None:
    answer = post(
        daemon,
        text=TEXT,
        filename="fees.md",
        strategies=["auto", {"type": "fixed", "size": 50, "overlap": 0}],
    )
    auto, fixed = answer.json()["data"]
    assert (auto["total"], auto["chunks"][0]["text"]) == (1, TEXT.strip())
    assert fixed["total"] > auto["total"]
    assert fixed["strategy"] == {"type": "fixed", "size": 50, "overlap": 0}
    assert all(len(chunk["text"]) <= 50 for chunk in fixed["chunks"])
    assert (
        TEXT[fixed["chunks"][1]["place"]["start"] : fixed["chunks"][1]["place"]["end"]]
        == fixed["chunks"][1]["text"]
    )


def test_a_previewed_file_is_chunked_by_its_format_and_not_stored(daemon: Daemon) -> None:
    files_before = httpx.get(f"{daemon.url}/v1/files").json()["data"]
    data = office.slides(("Fees", "A berth costs 40 crowns.", "Smile."), ("价目", "四十克朗。", ""))
    answer = httpx.post(
        f"{daemon.url}/api/chunk",
        files={"file": ("talk.pptx", data)},
        data={"strategies": json.dumps(["auto"]), "limit": "1"},
        timeout=60,
    )
    [auto] = answer.json()["data"]
    assert (auto["total"], len(auto["chunks"])) == (2, 1)
    assert auto["chunks"][0]["place"]["page"] == 1
    assert httpx.get(f"{daemon.url}/v1/files").json()["data"] == files_before
    assert not [
        path for path in daemon.home.rglob("*") if path.is_file() and path.read_bytes()[:4] == data[:4]
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": "x", "strategies": ["sentense"]}, "chunking_strategy.type"),
        ({"text": "x", "strategies": []}, "strategies"),
        ({"text": "x", "strategies": ["auto"] * 11}, "strategies"),
        ({"text": "x", "limit": 0}, "limit"),
        ({"text": ""}, "file"),
        ({"text": " \n"}, "file"),
    ],
)
def test_a_refused_chunk_request_names_the_invalid_parameter(
    daemon: Daemon, body: dict[str, Any], param: str
) -> None:
    answer = post(daemon, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_invalid_json_and_damaged_files_are_refused(daemon: Daemon) -> None:
    answer = httpx.post(f"{daemon.url}/api/chunk", content=b"{", headers={"content-type": "application/json"})
    assert answer.json()["error"]["code"] == "invalid_json"
    answer = httpx.post(
        f"{daemon.url}/api/chunk", files={"file": ("x.pdf", documents.pdf("a")[:200])}, timeout=60
    )
    assert answer.status_code == 400
    assert "x.pdf is not a complete PDF" in answer.json()["error"]["message"]
    answer = httpx.post(
        f"{daemon.url}/api/chunk", files={"file": ("x.txt", b"a")}, data={"strategies": "auto"}
    )
    assert answer.json()["error"]["param"] == "strategies"


async def test_the_sdk_previews_text_bytes_and_files(daemon: Daemon, tmp_path: Any) -> None:
    path = tmp_path / "fees.md"
    path.write_text(TEXT, encoding="utf-8")
    with Client(daemon.url) as client:
        [auto, fine] = client.chunkers.preview(path, "auto", {"type": "fine"})
        assert auto.chunks[0].place.line == 1
        assert fine.strategy["size"] == 512
        assert client.chunkers.preview("Some words.")[0].chunks[0].text == "Some words."
        with pytest.raises(InvalidRequest, match="need a file name"):
            client.chunkers.preview(b"bytes")
        names = [item.name for item in client.chunkers.list()]
    async with AsyncClient(daemon.url) as client:
        assert [item.name for item in await client.chunkers.list()] == names
        [chunk_of_bytes, _] = await client.chunkers.preview(
            path.read_bytes(), "auto", "fine", filename="fees.md"
        )
        assert chunk_of_bytes == auto
