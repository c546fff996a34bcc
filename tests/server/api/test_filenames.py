"""Names of files over HTTP: every endpoint that takes one refuses the same names, and stores nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import pytest
from tests.api_server import ApiServer, api_server

MISLEADING: Final = (
    "",
    "   ",
    ".",
    "..",
    "a/../b.txt",
    "a//b.txt",
    "a/",
    "/etc/passwd",
    "C:/boot.ini",
    "a\\b.txt",
    "a\x07b.txt",
    "a\x7fb.txt",
    "a\u2028b.txt",
    "cod\u202etxt.exe",
    "cod\u2066txt.exe",
    "nul.txt",
    "docs/COM1",
    "文" * 86,
    "x" * 256,
    "/".join(["x" * 250] * 5),
)

DOORS: Final[Mapping[str, tuple[str, str, Callable[[str], dict[str, Any]]]]] = {
    "files": ("/v1/files", "file", lambda name: form("file", name, purpose="assistants")),
    "uploads": (
        "/v1/uploads",
        "filename",
        lambda name: {
            "json": {"filename": name, "purpose": "assistants", "bytes": 1, "mime_type": "text/plain"}
        },
    ),
    "parts of uploads": ("/v1/uploads/{upload}/parts", "data", lambda name: form("data", name)),
    "previews of files": ("/api/chunk", "file", lambda name: form("file", name)),
    "previews of texts": ("/api/chunk", "filename", lambda name: {"json": {"text": "a", "filename": name}}),
    "archives of stores": ("/api/stores/import", "file", lambda name: form("file", name)),
    "skills": ("/v1/skills", "files", lambda name: form("files[]", name)),
}
"""Each endpoint, the ``param`` of its error, and its body."""


def form(field: str, filename: str, **fields: str) -> dict[str, Any]:
    """Return a form as bytes, because HTTP clients replace some of these names."""
    parts = [f'name="{field}"; filename="{filename}"\r\n\r\na']
    parts += [f'name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    body = "".join(f"--x\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + "--x--\r\n"
    return {"content": body.encode(), "headers": {"content-type": "multipart/form-data; boundary=x"}}


@pytest.fixture
async def served(tmp_path: Any) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


@pytest.mark.parametrize("door", DOORS)
async def test_a_misleading_filename_is_refused_and_stores_nothing(served: ApiServer, door: str) -> None:
    path, param, request = DOORS[door]
    upload = await served.client.post("/v1/uploads", **DOORS["uploads"][2]("a.txt"))
    path = path.replace("{upload}", upload.json()["id"])
    for name in MISLEADING:
        answer = await served.client.post(path, **request(name))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), (name, answer.text)
    assert (await served.client.get("/v1/files")).json()["data"] == []
    assert not any((served.services.loaded.settings.home / "blobs").rglob("*.*"))
