"""What a model, a tool or a client writes is never a page of the daemon: each kind of file at each address."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server

from portico_server.core.principal import LOCAL
from portico_server.runs.artifacts import Author, NewArtifact

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = b"<script>alert(document.domain)</script>"

FILES = {
    "page.html": ("text/html", SCRIPT),
    "page.xhtml": (
        "application/xhtml+xml",
        b"<html xmlns='http://www.w3.org/1999/xhtml'>" + SCRIPT + b"</html>",
    ),
    "drawing.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>"),
    "style.xml": ("text/xml", b"<?xml-stylesheet href='data:text/xsl,x'?><a>" + SCRIPT + b"</a>"),
    "code.js": ("text/javascript", b"alert(document.domain)"),
    "notes.md": ("text/markdown", SCRIPT),
    "notes.txt": ("text/plain", SCRIPT),
    "picture.png": ("image/png", SCRIPT),
    "paper.pdf": ("application/pdf", b"%PDF-1.7 " + SCRIPT),
    "mail.mhtml": ("multipart/related", SCRIPT),
    "unknown": ("", SCRIPT),
    "table.csv": ("text/csv", b"=cmd|'/c calc'!A1\n"),
    'a"; x="<img src=x onerror=alert(1)>.html': ("text/html; charset=utf-7", SCRIPT),
}

ADDRESSES = ("files", "artifacts", "containers")

PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("home")) as server:
        yield server


async def content(daemon: ApiServer, address: str, name: str) -> httpx.Response:
    """Store a file, and return the response with its bytes."""
    media_type, data = FILES[name]
    if address == "artifacts":
        artifact = NewArtifact(name, media_type, data)
        [stored_artifact] = await daemon.services.artifacts.keep([artifact], Author("run_1", LOCAL))
        return await daemon.client.get(f"/api/artifacts/{stored_artifact.id}/content")
    form = {"file": (name, data, media_type)}
    if address == "files":
        created = await daemon.client.post("/v1/files", files=form, data={"purpose": "assistants"})
        return await daemon.client.get(f"/v1/files/{created.json()['id']}/content")
    container = (await daemon.client.post("/v1/containers", json={"name": "box"})).json()["id"]
    created = await daemon.client.post(f"/v1/containers/{container}/files", files=form)
    return await daemon.client.get(f"/v1/containers/{container}/files/{created.json()['id']}/content")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("name", FILES)
async def test_served_files_are_sandboxed_and_never_shown_as_pages(
    daemon: ApiServer, address: str, name: str
) -> None:
    response = await content(daemon, address, name)
    assert response.status_code == 200 and response.content == FILES[name][1]
    headers = response.headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers["content-security-policy"] == "sandbox"
    is_picture = headers["content-type"] in PICTURES
    assert headers["content-disposition"].startswith("attachment") or is_picture


@pytest.mark.parametrize("path", ["/", "/docs", "/web/artifact.html"])
async def test_no_page_fetches_an_image_from_another_host(daemon: ApiServer, path: str) -> None:
    policy = (await daemon.client.get(path)).headers["content-security-policy"]
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    for name in ("img-src", "media-src", "font-src", "connect-src", "frame-src", "style-src", "script-src"):
        sources = directives.get(name, "'none'").split()
        assert not [source for source in sources if source == "*" or source.startswith("http")], (
            name,
            sources,
        )
    assert directives["base-uri"] == directives["form-action"] == "'none'"
