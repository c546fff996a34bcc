"""A web site for tests: pages by path, entity tags and dates, and a record of requests."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """The answer of a path."""

    data: bytes
    media_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    tagged: bool = True


@dataclass
class Site:
    """A site. ``pages`` may change at any time; ``asked`` has the method, the path and the status of each request."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def put(
        self, path: str, text: str | bytes, media_type: str = "text/html; charset=utf-8", **more: Any
    ) -> str:
        """Serve a page at ``path`` and return its address."""
        self.pages[path] = Page(text.encode() if isinstance(text, str) else text, media_type, **more)
        return f"{self.url}{path}"

    def sitemap(self, *paths: str, at: str = "/sitemap.xml") -> str:
        """Serve a sitemap that lists these paths and return its address."""
        entries = "".join(f"<url><loc>{self.url}{path}</loc></url>" for path in paths)
        text = f'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>'
        return self.put(at, text, "application/xml")

    def index(self, folder: str, *names: str) -> str:
        """Serve a folder listing, as servers do, and return its address."""
        links = "".join(f'<li><a href="{name}">{name}</a>' for name in ("?C=M;O=A", "../", *names))
        return self.put(folder, f"<html><title>Index of {folder}</title><ul>{links}</ul></html>")

    def taken(self) -> list[str]:
        """Return the paths whose bodies were sent since the last call."""
        paths = [path for method, path, status in self.asked if method == "GET" and status == 200]
        self.asked.clear()
        return sorted(paths)


@contextmanager
def serving() -> Iterator[Site]:
    """Serve a site on a free port of this machine."""
    site = Site("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            page = site.pages.get(self.path, Page(b"not here", status=404))
            tag = f'"{hashlib.md5(page.data).hexdigest()}"'
            status = page.status
            if status == 200 and page.tagged and self.headers.get("If-None-Match") == tag:
                status = 304
            since = self.headers.get("If-Modified-Since")
            if status == 200 and since and since == page.headers.get("Last-Modified"):
                status = 304
            site.asked.append((self.command, self.path, status))
            self.send_response(status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            if status == 200 and page.tagged:
                self.send_header("ETag", tag)
            self.send_header("Content-Type", page.media_type)
            self.send_header("Content-Length", "0" if status == 304 else str(len(page.data)))
            self.end_headers()
            if body and status != 304:
                self.wfile.write(page.data)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
