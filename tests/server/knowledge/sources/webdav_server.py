"""A WebDAV server for tests: WsgiDAV over a folder of files, with an optional login."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tests.server.knowledge.sources.folder import write_files
from wsgidav.fs_dav_provider import FilesystemProvider
from wsgidav.wsgidav_app import WsgiDAVApp

Respond = Callable[[str, list[tuple[str, str]]], Any]


@dataclass
class WebDavServer:
    """A server that serves ``folder`` at ``url``. ``instead`` maps a path to its answer: status and body."""

    url: str
    folder: Path
    instead: dict[str, tuple[str, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def source(self) -> str:
        return f"webdav+{self.url}"

    def write(self, **files: str | None) -> None:
        """Write files, or remove those that are ``None``. ``__`` in a name is a slash, ``_`` a dot."""
        write_files(self.folder, files)

    def taken(self) -> list[str]:
        """Return the paths fetched since the last call."""
        found = sorted(path for method, path in self.asked if method == "GET")
        self.asked.clear()
        return found


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path, login: str = "") -> Iterator[WebDavServer]:
    """Serve ``folder`` at ``/dav/`` on a free port of this machine; ``login`` is ``USER:PASSWORD``."""
    folder.mkdir(parents=True, exist_ok=True)
    user, _, password = login.partition(":")
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/dav": FilesystemProvider(str(folder), readonly=True)},
            "simple_dc": {"user_mapping": {"*": {user: {"password": password}} if login else True}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )

    def answer(environ: dict[str, Any], respond: Respond) -> Any:
        path = environ["PATH_INFO"]
        server.asked.append((environ["REQUEST_METHOD"], path))
        if path in server.instead:
            status, headers, body = server.instead[path]
            respond(status, [*headers, ("Content-Length", str(len(body)))])
            return [body]
        return app(environ, respond)

    http = make_server("127.0.0.1", 0, answer, server_class=_Server, handler_class=_Quiet)
    server = WebDavServer(f"http://127.0.0.1:{http.server_port}/dav/", folder)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def multistatus(*entries: str) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return a ``PROPFIND`` answer that names these paths; those that end in ``/`` are folders."""
    told = "".join(
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>"
        f"{'<d:collection/>' if href.endswith('/') else ''}</d:resourcetype><d:getetag>x</d:getetag></d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
        for href in entries
    )
    body = f'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">{told}</d:multistatus>'
    return "207 Multi-Status", [("Content-Type", "application/xml")], body.encode()
