"""Missing file bytes on disk are reported, and can be supplied again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import ApiServer, api_server

DOCUMENT = b"# Bread\n\nBread is baked at 230 degrees for forty minutes.\n"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


async def upload(daemon: ApiServer) -> dict[str, Any]:
    form = {"file": ("bread.md", DOCUMENT, "text/markdown")}
    answer = await daemon.client.post("/v1/files", files=form, data={"purpose": "user_data"})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def lose(daemon: ApiServer) -> None:
    """Delete every file's bytes, as a partially restored disk does."""
    blobs = daemon.services.loaded.settings.files_folder / "blobs"
    for path in [path for path in blobs.rglob("*") if path.is_file()]:
        path.unlink()


async def test_a_file_with_lost_content_gives_a_clear_404_and_stays_listed(daemon: ApiServer) -> None:
    file = await upload(daemon)
    lose(daemon)
    response = await daemon.client.get(f"/v1/files/{file['id']}/content")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "file_content_missing"
    assert "Upload it again" in response.json()["error"]["message"]
    files = (await daemon.client.get("/v1/files")).json()["data"]
    assert [item["id"] for item in files] == [file["id"]]


async def test_uploading_the_same_bytes_restores_a_file_with_lost_content(daemon: ApiServer) -> None:
    file = await upload(daemon)
    lose(daemon)
    again = await upload(daemon)
    for file_copy in (file, again):
        response = await daemon.client.get(f"/v1/files/{file_copy['id']}/content")
        assert response.status_code == 200 and response.content == DOCUMENT


async def test_a_file_with_lost_content_can_be_deleted(daemon: ApiServer) -> None:
    file = await upload(daemon)
    lose(daemon)
    assert (await daemon.client.delete(f"/v1/files/{file['id']}")).status_code == 200
    assert (await daemon.client.get("/v1/files")).json()["data"] == []
