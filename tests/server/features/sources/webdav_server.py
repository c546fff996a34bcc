"""A WebDAV server for tests: WsgiDAV over a folder of files, with an optional login and access control lists."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import unquote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from lxml import etree
from tests.server.features.sources.folder import write_files
from wsgidav.fs_dav_provider import FilesystemProvider
from wsgidav.wsgidav_app import WsgiDAVApp

Respond = Callable[[str, list[tuple[str, str]]], Any]


@dataclass
class WebDavServer:
    """A server that serves ``folder`` at ``url``. ``instead`` maps a path to its answer: status and body."""

    url: str
    folder: Path
    instead: dict[str, tuple[str, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    acls: dict[str, str] = field(default_factory=dict)
    """Access control lists by path, as the contents of ``DAV:acl``, with the properties ``DAV:owner`` and
    ``DAV:group`` after them. The login may not read the list of another path.
    """
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
        paths = sorted(path for method, path in self.asked if method == "GET")
        self.asked.clear()
        return paths


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _with_acls(app: Any, environ: dict[str, Any], respond: Respond, acls: dict[str, str]) -> Any:
    """Answer a ``PROPFIND``. If the request asks for ``DAV:acl``, which WsgiDAV does not know, the answer has the
    lists.
    """
    request_body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(request_body)
    responses: list[tuple[str, list[tuple[str, str]]]] = []
    body = b"".join(app(environ, lambda status, headers, *_: responses.append((status, headers))))
    [(status, headers)] = responses
    if status.startswith("207") and etree.fromstring(request_body).find("{DAV:}prop/{DAV:}acl") is not None:
        root = etree.fromstring(body)
        for response in root.iterfind("{DAV:}response"):
            for block in response.findall("{DAV:}propstat"):
                if block.find("{DAV:}prop/{DAV:}acl") is not None:
                    response.remove(block)
            acl = acls.get(unquote(response.findtext("{DAV:}href") or ""))
            text, word = ("", "403 Forbidden") if acl is None else (acl, "200 OK")
            values, _, properties = text.partition("</d:acl>")
            response.append(
                etree.fromstring(
                    f'<d:propstat xmlns:d="DAV:"><d:prop><d:acl>{values}</d:acl>{properties}</d:prop>'
                    f"<d:status>HTTP/1.1 {word}</d:status></d:propstat>"
                )
            )
        body = etree.tostring(root)
    respond(
        status,
        [(name, value) for name, value in headers if name.lower() != "content-length"]
        + [("Content-Length", str(len(body)))],
    )
    return [body]


def grant(principal: str, privilege: str = "read", action: str = "grant", more: str = "") -> str:
    """Return an entry of a list as SabreDAV writes it. ``principal`` is a path or the element of another kind."""
    principal_element = principal if principal.startswith("<") else f"<d:href>{principal}</d:href>"
    return (
        f"<d:ace><d:principal>{principal_element}</d:principal><d:{action}><d:privilege><d:{privilege}/></d:privilege>"
        f"</d:{action}>{more}</d:ace>"
    )


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
        if environ["REQUEST_METHOD"] == "PROPFIND":
            return _with_acls(app, environ, respond, server.acls)
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
    response_elements = "".join(
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>"
        f"{'<d:collection/>' if href.endswith('/') else ''}</d:resourcetype><d:getetag>x</d:getetag></d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
        for href in entries
    )
    body = f'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">{response_elements}</d:multistatus>'
    return "207 Multi-Status", [("Content-Type", "application/xml")], body.encode()
