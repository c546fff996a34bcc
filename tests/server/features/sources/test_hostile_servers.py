"""Hostile servers of lists and files: every sync ends in time, with a reason, and without asking another address."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from tests.server.features.stores.store_services import store_services

from portico.wire import Failed, Finished
from portico_server.core.filenames import check_filename
from portico_server.core.principal import LOCAL
from portico_server.features.sources import bucket, listing, pages, web, webdav

MAX_FILES: Final = 500
"""Files that a store may follow in these tests."""

MAX_LIST_BYTES: Final = 2**20
"""Bytes that a list may have in these tests."""

Blocks: TypeAlias = Iterator[bytes]
Attack: TypeAlias = Callable[[int], Blocks]
"""Returns the bytes that a server at this port answers, block by block, until the client leaves."""

LISTS: Final[Mapping[str, str]] = {
    "feed": "<rss><channel>{}</channel></rss>",
    "sitemap": "<urlset>{}</urlset>",
    "webdav": '<d:multistatus xmlns:d="DAV:">{}</d:multistatus>',
    "bucket": "<ListBucketResult>{}</ListBucketResult>",
}

ENTRIES: Final[Mapping[str, str]] = {
    "feed": "<item><link>{url}</link></item>",
    "sitemap": "<url><loc>{url}</loc></url>",
    "webdav": (
        "<d:response><d:href>{path}</d:href><d:propstat><d:prop><d:getcontentlength>{size}</d:getcontentlength>"
        "<d:getlastmodified>{date}</d:getlastmodified></d:prop></d:propstat></d:response>"
    ),
    "bucket": "<Contents><Key>{path}</Key><Size>{size}</Size><LastModified>{date}</LastModified></Contents>",
}


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def once(data: bytes) -> Attack:
    return lambda _port: iter([data])


def forever(head: bytes, block: bytes) -> Attack:
    def blocks(_port: int) -> Blocks:
        yield head
        while True:
            yield block

    return blocks


def redirected(target: str) -> Attack:
    return lambda port: iter([answer(b"", f"Location: {target.format(port=port)}", status="302 Found")])


HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"

ATTACKS: Final[Mapping[str, Attack]] = {
    "no HTTP": once(b"\x00\xff" * 1_000),
    "a long status line": once(b"HTTP/1.1 200 " + b"a" * 1_000_000),
    "an endless header": forever(HEAD + b"X: ", b"a" * 65_536),
    "endless headers": forever(HEAD, b"X: a\r\n" * 10_000),
    "an endless body": forever(HEAD + b"\r\n<rss>", b" " * 100_000),
    "an endless body in chunks": forever(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"ffff\r\n" + b" " * 65_535 + b"\r\n"
    ),
    "a body that is cut": once(HEAD + b"Content-Length: 100\r\nConnection: close\r\n\r\n<rss>"),
    "a negative length": once(HEAD + b"Content-Length: -1\r\n\r\n<rss/>"),
    "two lengths": once(HEAD + b"Content-Length: 6\r\nContent-Length: 60\r\n\r\n<rss/>"),
    "a chunk of invalid size": once(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n<rss/>"),
    "a bomb": once(answer(gzip.compress(b" " * 10 * MAX_LIST_BYTES), "Content-Encoding: gzip")),
    "a bomb in the file": once(
        answer(gzip.compress(b" " * 10 * MAX_LIST_BYTES), "Content-Type: application/gzip")
    ),
    "damaged compression": once(answer(b"\x1f\x8b" + b"a" * 100, "Content-Encoding: gzip")),
    "an unknown compression": once(answer(b"<rss/>", "Content-Encoding: swordfish")),
    "a redirect loop": redirected("http://127.0.0.1:{port}/"),
    "a redirect to metadata": redirected("http://169.254.169.254/latest/meta-data/"),
    "a redirect to this machine": redirected("http://127.0.0.1:1/"),
    "a redirect to a file": redirected("file:///etc/passwd"),
    "a redirect to nowhere": redirected("http://["),
    "a NUL in a header": once(answer(b"<rss/>", "X: a\0b")),
    "a login": once(answer(b"", 'WWW-Authenticate: Basic realm="a"', status="401 Unauthorized")),
    "a status that does not exist": once(answer(b"", status="999 Swordfish")),
    "no content": once(b"HTTP/1.1 204 No Content\r\n\r\n"),
}

SILENT: Final[Mapping[str, Attack]] = {
    "nothing": once(b""),
    "endless interim answers": forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000),
    "a body that never comes": forever(HEAD + b"\r\n<rss>", b""),
    "a body that stops": forever(HEAD + b"Content-Length: 100\r\n\r\n<rss>", b""),
    "a head that stops": forever(HEAD, b""),
}
"""Attacks that only the deadline of the client ends."""


def listed(kind: str, *entries: str) -> Attack:
    return lambda port: iter(
        [answer(LISTS[kind].format("".join(entries)).encode(), "Content-Type: application/xml")]
    )


def list_attacks(kind: str, port: int) -> dict[str, Attack]:
    """Return the attacks with well-formed lists of a kind."""

    def entry(path: str, size: str = "1", date: str = "") -> str:
        return ENTRIES[kind].format(path=path, url=f"http://127.0.0.1:{port}{path}", size=size, date=date)

    distant = {"bucket": "9999-12-31T23:59:59Z", "webdav": "Fri, 31 Dec 9999 23:59:59 GMT"}.get(kind, "")
    early = {"bucket": "0001-01-01T00:00:00", "webdav": "Mon, 01 Jan 0001 00:00:00 +1400"}.get(kind, "")
    return {
        "more entries than files are allowed": listed(
            kind, *[entry(f"/{number}.txt") for number in range(2 * MAX_FILES)]
        ),
        "a size that is no number": listed(kind, entry("/a.txt", "swordfish")),
        "a size of thousands of digits": listed(kind, entry("/a.txt", "9" * 5_000)),
        "a negative size": listed(kind, entry("/a.txt", "-1")),
        "a date far away": listed(kind, entry("/a.txt", date=distant)),
        "a date long ago": listed(kind, entry("/a.txt", date=early)),
        "names out of the folder": listed(kind, entry("/../../etc/passwd"), entry("/%2e%2e/x.txt")),
        "names of devices and controls": listed(
            kind, entry("/con.txt"), entry("/a%0Ab.txt"), entry("/%00.txt")
        ),
    }


@contextmanager
def hostile(status: bytes) -> Iterator[tuple[int, list[Attack]]]:
    """Serve the attack at the end of a list, which tests may change, to every request. Yield the port and the list.

    ``status`` replaces the status of success.
    """
    attacks: list[Attack] = [once(b"")]
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(60)
            connection.recv(65_536)
            for block in attacks[-1](port):
                connection.sendall(block.replace(b"200 OK", status))
                if not block and connection.recv(65_536) == b"":  # a server that keeps its client waiting
                    return

    def accept() -> None:
        while True:
            connection, _address = listener.accept()
            if over.is_set():
                connection.close()
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield port, attacks
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


SOURCES: Final[Mapping[str, str]] = {
    "feed": "http://127.0.0.1:{port}/feed.xml",
    "sitemap": "http://127.0.0.1:{port}/sitemap.xml",
    "webdav": "webdav+http://127.0.0.1:{port}/",
    "bucket": "s3://library",
}


REASONS: Final = (
    *("source_unreadable", "source_too_large", "fetch_failed", "fetch_timeout"),
    *("too_many_redirects", "address_refused", "invalid_url"),
)


async def sync_from(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    deadline_s: float,
    attacks: Callable[[int], Mapping[str, Attack]],
) -> None:
    """Sync a store once with each attack of ``attacks(port)``, and expect an end with a reason."""
    for module, name in (
        (bucket, "LIST_TIMEOUT_S"),
        (bucket, "SCAN_TIMEOUT_S"),
        (webdav, "LIST_TIMEOUT_S"),
        (webdav, "SCAN_TIMEOUT_S"),
        (pages, "PAGE_TIMEOUT_S"),
        (web, "KIND_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, deadline_s)
    for module, name in (
        (listing, "MAX_LIST_BYTES"),
        (bucket, "MAX_LIST_PAGE_BYTES"),
        (pages, "MAX_PAGE_BYTES"),
    ):
        monkeypatch.setattr(module, name, MAX_LIST_BYTES)
    with hostile(b"207 Multi-Status" if kind == "webdav" else b"200 OK") as (port, served_attacks):
        settings = {
            "tool_hosts": f"127.0.0.1:{port}",
            "s3_endpoint": f"http://127.0.0.1:{port}",
            "source_max_files": MAX_FILES,
            "request_timeout": deadline_s,
        }
        async with store_services(folder, **settings) as shop:
            store = await shop.stores.create("library", LOCAL, source=SOURCES[kind].format(port=port))
            for name, attack in attacks(port).items():
                served_attacks.append(attack)
                last = (await shop.events(await shop.stores.sync(store)))[-1]
                if isinstance(last, Failed):
                    assert last.error.code in REASONS, (name, last)
                    assert "169.254" not in last.error.message or "private" in last.error.message, (
                        name,
                        last,
                    )
                else:
                    assert isinstance(last, Finished), (name, last)
                for row in (await shop.stores.contents.list(store, limit=10, order="asc")).data:
                    is_list = name not in ATTACKS and name not in SILENT
                    assert check_filename(row.filename) and is_list, (name, row)


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_sync_with_a_hostile_server_ends_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    await sync_from(
        tmp_path / "home", monkeypatch, kind, 3.0, lambda port: {**ATTACKS, **list_attacks(kind, port)}
    )


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_sync_with_a_silent_server_ends_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    another = "<IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken>"
    attacks = {**SILENT, "a page after another": listed(kind, another)}
    await sync_from(tmp_path / "home", monkeypatch, kind, 0.3, lambda _port: attacks)
