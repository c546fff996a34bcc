"""A bucket store for tests that is as strict as S3: signatures, pages of a list, its own errors.

It checks signatures by the documented rules, from the bytes of the request and with its own code.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS, SECRET, REGION = "test-access", "test/secret+key", "eu-test-1"
MODIFIED = "2026-11-20T10:00:00.000Z"
"""Modification time of all objects. Such stores report whole seconds, so two states may have the same time."""


@dataclass
class ObjectStore:
    """A bucket store. ``buckets`` may change at any time; ``asked`` has the key of each request or the prefix of a
    list.
    """

    url: str
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    page: int = 2
    closed: set[str] = field(default_factory=set)
    """Keys that this access key may list but not read."""
    faults: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Status and code of the next answers, by method.

    The status 0 cuts the connection: midway through a requested object, and before an uploaded object is processed.
    """
    gates: dict[str, tuple[threading.Event, threading.Event]] = field(default_factory=dict)
    """Two events by method: the first is set when such a request arrives, and the answer waits for the second."""

    def taken(self) -> list[str]:
        keys = [key for operation, key in self.asked if operation == "get"]
        self.asked.clear()
        return sorted(keys)


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


def check(command: str, target: str, headers: Any) -> None:
    authorization = headers.get("Authorization", "")
    if not authorization:
        raise Refused(403, "AccessDenied")
    scheme, _, parameters = authorization.partition(" ")
    parts = dict(item.strip().split("=", 1) for item in parameters.split(","))
    access, day, region, service, end = parts["Credential"].split("/")
    if access != ACCESS:
        raise Refused(403, "InvalidAccessKeyId")
    if region != REGION:
        raise Refused(400, "AuthorizationHeaderMalformed")
    names = parts["SignedHeaders"].split(";")
    split = urlsplit(target)
    pairs = sorted(parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query)))
    canonical = "\n".join(
        [
            command,
            quote(unquote(split.path), safe="/-._~"),
            "&".join(f"{quote(a, safe='-._~')}={quote(b, safe='-._~')}" for a, b in pairs),
            *(f"{name}:{headers[name].strip()}" for name in names),
            "",
            ";".join(names),
            headers["x-amz-content-sha256"],
        ]
    )
    scope = f"{day}/{region}/{service}/{end}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{scheme}\n{headers['x-amz-date']}\n{scope}\n{digest}"
    key = b"AWS4" + SECRET.encode()
    for part in (day, region, service, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    if hmac.new(key, text.encode(), hashlib.sha256).hexdigest() != parts["Signature"]:
        raise Refused(403, "SignatureDoesNotMatch")
    if "host" not in names or "x-amz-date" not in names:
        raise Refused(403, "AccessDenied")


@contextmanager
def serving() -> Iterator[ObjectStore]:
    store = ObjectStore("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            cut = False
            try:
                if faults := store.faults.get(self.command):
                    fault, code = faults.pop(0)
                    cut = not fault
                    if fault:
                        raise Refused(fault, code)
                    if self.command != "GET":
                        self.close_connection = True
                        return
                check(self.command, self.path, self.headers)
                if gate := store.gates.get(self.command):
                    gate[0].set()
                    assert gate[1].wait(60)
                if self.command in ("PUT", "DELETE"):
                    self._change(body)
                    data, media_type, tag = b"", "application/xml", ""
                else:
                    data, media_type, tag = self._found()
                status = 200 if data or self.command != "DELETE" else 204
            except Refused as error:
                status, media_type, tag = error.status, "application/xml", ""
                data = f"<?xml version='1.0'?><Error><Code>{error.code}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(data) + cut))
            if tag:
                self.send_header("ETag", tag)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            self.close_connection |= cut

        do_HEAD = do_PUT = do_DELETE = do_GET

        def _change(self, body: bytes) -> None:
            bucket, _, key = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
            objects = store.buckets.get(bucket)
            if objects is None:
                raise Refused(404, "NoSuchBucket")
            if self.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
                raise Refused(400, "XAmzContentSHA256Mismatch")
            store.asked.append((self.command.lower(), key))
            if self.command == "PUT":
                objects[key] = body
            else:
                objects.pop(key, None)

        def _found(self) -> tuple[bytes, str, str]:
            split = urlsplit(self.path)
            bucket, _, key = unquote(split.path).removeprefix("/").partition("/")
            objects = store.buckets.get(bucket)
            if objects is None:
                raise Refused(404, "NoSuchBucket")
            if key:
                store.asked.append((self.command.lower(), key))
                if key not in objects:
                    raise Refused(404, "NoSuchKey")
                if key in store.closed:
                    raise Refused(403, "AccessDenied")
                return objects[key], "binary/octet-stream", tagged(objects[key])
            query = dict(parse_qsl(split.query))
            assert query["list-type"] == "2"
            store.asked.append(("list", query.get("prefix", "")))
            keys = sorted(key for key in objects if key.startswith(query.get("prefix", "")))
            begin = int(query.get("continuation-token", "0"))
            page_keys, has_more = keys[begin : begin + store.page], len(keys) > begin + store.page
            encode_key = quote if query.get("encoding-type") == "url" else escape
            entries = "".join(
                f"<Contents><Key>{encode_key(key)}</Key><LastModified>{MODIFIED}</LastModified>"
                f"<ETag>{escape(tagged(objects[key]))}</ETag><Size>{len(objects[key])}</Size></Contents>"
                for key in page_keys
            )
            token = f"<NextContinuationToken>{begin + store.page}</NextContinuationToken>" if has_more else ""
            text = (
                '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult '
                f'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{str(has_more).lower()}</IsTruncated>'
                f"{token}{entries}</ListBucketResult>"
            )
            return text.encode(), "application/xml", ""

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tagged(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'
