"""The bytes of a file are gone from the disk: that is said, and they can be given again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.porch import Porch, porch

DOCUMENT = b"# Bread\n\nBread is baked at 230 degrees for forty minutes.\n"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Porch]:
    async with porch(tmp_path) as served:
        yield served


async def upload(house: Porch) -> dict[str, Any]:
    form = {"file": ("bread.md", DOCUMENT, "text/markdown")}
    answer = await house.client.post("/v1/files", files=form, data={"purpose": "user_data"})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def lose(house: Porch) -> None:
    """Take every file's bytes away, as a disk that was restored in part does."""
    blobs = house.parts.loaded.settings.blobs
    for path in [path for path in blobs.rglob("*") if path.is_file()]:
        path.unlink()


async def test_its_content_is_a_clear_error_and_the_list_still_has_it(house: Porch) -> None:
    file = await upload(house)
    lose(house)
    lost = await house.client.get(f"/v1/files/{file['id']}/content")
    assert lost.status_code == 404
    assert lost.json()["error"]["code"] == "file_content_missing"
    assert "Upload it again" in lost.json()["error"]["message"]
    listed = (await house.client.get("/v1/files")).json()["data"]
    assert [each["id"] for each in listed] == [file["id"]]


async def test_the_same_bytes_given_again_are_the_content_of_both(house: Porch) -> None:
    file = await upload(house)
    lose(house)
    again = await upload(house)
    for each in (file, again):
        found = await house.client.get(f"/v1/files/{each['id']}/content")
        assert found.status_code == 200 and found.content == DOCUMENT


async def test_it_can_be_deleted(house: Porch) -> None:
    file = await upload(house)
    lose(house)
    assert (await house.client.delete(f"/v1/files/{file['id']}")).status_code == 200
    assert (await house.client.get("/v1/files")).json()["data"] == []
