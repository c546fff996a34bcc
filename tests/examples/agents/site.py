"""A web of a few pages on this machine, served from a thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """An address and its pages: media type and text by path."""

    url: str
    pages: dict[str, tuple[str, str]] = field(default_factory=dict)


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """Serve pages for the duration of a ``with`` block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            media_type, text = site.pages.get(self.path.partition("?")[0], ("text/plain", ""))
            self.send_response(200 if text else 404)
            self.send_header("Content-Type", f"{media_type}; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site = Site(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
