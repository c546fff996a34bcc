"""`portico draw` and `Client.images` against a daemon with a fake image model."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import AsyncClient, Client
from portico.errors import InvalidRequest


def size(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture(autouse=True, scope="module")
def _painter(daemon: Daemon) -> None:
    with Client(daemon.url) as client, pytest.raises(InvalidRequest, match="portico models add painter"):
        client.images.draw("a cat")
    painter = {"name": "painter", "source": "fake://", "task": "image"}
    httpx.post(f"{daemon.url}/api/deployments", json=painter).raise_for_status()


def test_a_picture_is_drawn_into_a_file_and_changed(command: Command, tmp_path: Path) -> None:
    first, second = tmp_path / "cat.png", tmp_path / "hat.png"
    done = command("draw", "a cat", "-o", str(first), "--size", "64x48")
    assert (done.code, done.out.strip()) == (0, str(first))
    assert size(first) == (64, 48)
    arguments = ("draw", "a hat", "--image", str(first), "-o", str(second), "-n", "2", "--json")
    pictures = command(*arguments).json["pictures"]
    assert [Path(picture["path"]).name for picture in pictures] == ["hat-1.png", "hat-2.png"]
    assert all(size(picture["path"]) == (64, 48) for picture in pictures)


def test_draw_refuses_invalid_arguments_with_a_reason(command: Command, tmp_path: Path) -> None:
    out = str(tmp_path / "x.png")
    for arguments, words in (
        (("-o", str(tmp_path / "x.gif")), "must end in .png"),
        (("-o", str(tmp_path / "no" / "x.png")), "/no' does not exist"),
        (("-o", out, "--mask", out), "--image"),
        (("-o", out, "--image", out), "Cannot read"),
        (("-o", out, "--model", "echo"), "Use 'painter' instead"),
        (("-o", out, "--size", "3x3"), "from 16 to 8192"),
    ):
        done = command("draw", "a cat", *arguments)
        assert done.code == 1
        assert words in done.err


async def test_the_client_for_asyncio_draws_with_the_usual_model(daemon: Daemon, tmp_path: Path) -> None:
    async with AsyncClient(daemon.url) as client:
        [picture] = await client.images.draw("a cat", size="32x32")
        picture_path = picture.save(tmp_path / "cat.png")
        [edited_picture] = await client.images.edit([picture_path, picture.data], "a hat", mask=None)
        assert picture.media_type == edited_picture.media_type == "image/png"
        await client.models.alias("default-image", "painter")
        assert (await client.images.draw("a cat", size="32x32"))[0].data == picture.data
