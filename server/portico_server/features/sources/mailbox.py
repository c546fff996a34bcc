"""A mailbox folder as a source, accessed over IMAP (RFC 9051, RFC 3501). Each message is a document.

The mailbox is not changed: the folder is opened read-only, and no message is marked as seen.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import imaplib
import io
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from email import message_from_bytes, policy
from functools import partial
from ipaddress import ip_address
from typing import Protocol, TypeVar

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.fetching import FetchedResponse, Fetcher
from portico_server.core.filenames import to_filename
from portico_server.db.stores import StoreFileRow
from portico_server.features.files.files import FileStorage
from portico_server.features.sources import fetch
from portico_server.features.sources.fetch import ETagCache, ETagEntry
from portico_server.features.sources.limits import SourceLimits
from portico_server.features.sources.source import FetchFailure, FetchResult
from portico_server.features.sources.spec import MailAddress
from portico_server.features.sources.walk import SourceEntry, Walk, unfit_reason
from portico_server.settings import MB_BYTES

CONNECT_TIMEOUT_S = 10.0
"""Maximum time for connecting to one address of the server, in seconds."""

SILENCE_TIMEOUT_S = 120.0
"""Maximum time that the server may be silent, in seconds."""

OPEN_TIMEOUT_S = 60.0
"""Maximum time for connecting, logging in and opening the folder, in seconds."""

LIST_TIMEOUT_S = 600.0
"""Maximum time for listing the messages, or for requesting the subjects of a group of messages, in seconds."""

CLOSE_TIMEOUT_S = 5.0
"""Maximum time for logging out, in seconds."""

MAX_MESSAGE_BYTES = 64 * MB_BYTES
"""Maximum size of a message including attachments, in bytes, which is the limit of the mail reader. Only one message
is in memory at a time.
"""

MAX_LIST_BYTES = 50 * MB_BYTES
"""Maximum size of the response to a command other than fetching a message, in bytes."""

MAX_LINE_BYTES = 65_536
"""Maximum length of a response line, in bytes."""

MIN_LINE_BYTES = 64
"""Number of bytes for which a response line counts at least, because each line is an object in memory."""

SUBJECT_BYTES = 2_000
"""Number of bytes of the subject header that are requested."""

MAX_SUBJECTS_PER_CALL = 200
"""Number of messages whose subjects are requested with one command."""

MAX_SUBJECT_CHARS = 80
"""Maximum length of the subject in the name of a document, in characters."""

T = TypeVar("T")

_ENTRY = re.compile(rb"\d+ \(")
_UID = re.compile(rb"\bUID (\d{1,10})\b")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d{1,18})\b")
_DELETED = re.compile(rb"\bFLAGS \([^()]*\\Deleted\b", re.I)
_ODD = re.compile(r"[\s/\\:*?\"<>|\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class MailMessage:
    """A message in a folder, before it is fetched."""

    uid: int
    size: int
    deleted: bool


class MailSource:
    """A mailbox folder as a `portico_server.features.sources.source.StoreSource`.

    A message is identified by its UID. UIDs are never reused while the UIDVALIDITY of the folder is unchanged.
    ``login`` is ``USER:PASSWORD`` for the host.
    """

    def __init__(
        self,
        address: MailAddress,
        fetcher: Fetcher,
        files: FileStorage,
        notes: ETagCache,
        limits: SourceLimits,
        login: str,
    ) -> None:
        self._address = address
        self._fetcher = fetcher
        self._files = files
        self._notes = notes
        self._limits = limits
        self._login = login
        self._max_bytes = min(limits.bytes, MAX_MESSAGE_BYTES)

    @property
    def address(self) -> str:
        return f"mail folder {self._address.written()}"

    async def scan(self) -> Walk:
        await self._notes.load()
        walk = Walk()
        try:
            async with self._open() as (call, folder):
                if folder.messages > self._limits.files:
                    raise fetch.source_too_large(
                        f"The {self.address} contains more than {self._limits.files:,} messages. Follow a "
                        "smaller folder, or raise the setting source_max_files.",
                    )
                mail_messages = await call(LIST_TIMEOUT_S, lambda: folder.list_messages(self._limits.files))
                at = {item.uid: f"{folder.validity}.{item.uid}" for item in mail_messages}
                new = [uid for uid, key in at.items() if not self._notes.of(key).name]
                for begin in range(0, len(new), MAX_SUBJECTS_PER_CALL):
                    uid_batch = new[begin : begin + MAX_SUBJECTS_PER_CALL]
                    subjects = await call(LIST_TIMEOUT_S, partial(folder.subjects, uid_batch))
                    for uid in uid_batch:
                        self._notes.note(at[uid], ETagEntry(_name(subjects.get(uid, ""), uid)))
        except (imaplib.IMAP4.error, OSError) as error:
            raise fetch.unreadable(self.address, _reason(error)) from error
        for item in mail_messages:
            self._see(walk, item, at[item.uid])
        self._notes.keep(at.values())
        await self._notes.save()
        return walk

    async def digest(self, source_entry: SourceEntry) -> str | None:
        return self._notes.of(source_entry.at).sha256 or None

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        fetch_results: list[FetchResult] = []
        try:
            async with self._open() as (call, folder):
                for source_entry, _old in entries:
                    fetch_results.append(await self._take(call, folder, source_entry))
        except (imaplib.IMAP4.error, OSError) as error:
            if not fetch_results:
                raise fetch.unreadable(self.address, _reason(error)) from error
            detail = f"The connection was lost: {_reason(error)}"
            fetch_results += [FetchFailure("could not be fetched", detail=detail)] * (
                len(entries) - len(fetch_results)
            )
        except BaseException:
            await fetch.drop_received(self._files, fetch_results)
            raise
        await self._notes.save()
        return fetch_results

    async def _take(self, call: _MailCall, folder: _Mailbox, source_entry: SourceEntry) -> FetchResult:
        validity, _, uid = source_entry.at.partition(".")
        if int(validity) != folder.validity:
            return FetchFailure("removed during the scan")  # the server has assigned new UIDs to the messages
        data = await call(self._limits.seconds, lambda: folder.message(int(uid), self._max_bytes + 1))
        if data is None:
            return FetchFailure("removed during the scan", gone=True)
        if len(data) > self._max_bytes:
            return FetchFailure(_too_large(self._max_bytes), gone=True)
        response = FetchedResponse(self._address.written(), 200, {}, "", _pieces(data))
        fetched_file = await fetch.receive_document(self._files, response, source_entry.name, self._max_bytes)
        if not isinstance(fetched_file, FetchFailure):
            self._notes.note(source_entry.at, ETagEntry(source_entry.name, sha256=fetched_file.sha256))
        return fetched_file

    def _see(self, walk: Walk, item: MailMessage, at: str) -> None:
        name = self._notes.of(at).name
        if item.deleted:
            return  # the message has been deleted from the mailbox
        reason = unfit_reason(name, item.size, max_bytes=self._limits.bytes, pictures=True, recordings=True)
        if not reason and item.size > self._max_bytes:
            reason = _too_large(self._max_bytes)
        if reason:
            walk.skip(name, reason)
        else:
            state = int.from_bytes(hashlib.sha256(at.encode()).digest()[:7])
            walk.files[name] = SourceEntry(name, at, item.size, state)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[tuple[_MailCall, _Mailbox]]:
        """Yield the open folder, and a function that runs blocking calls in a thread with a time limit.

        Raises the errors of imaplib, `OSError`, `InvalidRequest`, `Unavailable`.
        """
        place = self._address
        if not self._login:
            raise fetch.unreadable(
                self.address, f"it requires a login: set source_logins to {place.netloc}=USER:PASSWORD"
            )
        addresses = await self._fetcher.addresses(place.checked)
        if place.scheme == "imap" and not all(ip_address(address).is_loopback for address in addresses):
            raise InvalidRequest(
                f"'{place.written()}' is not encrypted: use imaps://HOST/FOLDER.",
                code="insecure_url",
                param="source",
            )
        line = _Line(tuple(addresses), place.port, place.host if place.scheme == "imaps" else "")

        async def call(seconds: float, work: Callable[[], T]) -> T:
            running = pools.MAIL.begin(lambda: _understood(work))
            try:
                async with asyncio.timeout(seconds):
                    return await asyncio.shield(running)
            except BaseException as error:
                if not running.done():
                    line.cut()  # interrupts the thread that waits for the server
                    await asyncio.wait([running])
                    running.exception()
                if isinstance(error, TimeoutError):
                    raise TimeoutError(f"it took more than {seconds:g} s") from error
                raise

        folder = None
        try:
            folder = await call(OPEN_TIMEOUT_S, lambda: _Mailbox(line, place.folder, self._login))
            yield call, folder
        finally:
            try:
                if folder is not None:
                    with suppress(imaplib.IMAP4.error, OSError):
                        await call(CLOSE_TIMEOUT_S, folder.logout)
            finally:
                line.close()


def _understood(work: Callable[[], T]) -> T:
    """Call ``work``, and convert parsing errors to IMAP errors.

    imaplib does not validate the numbers and texts that it parses, and raises many kinds of errors for invalid ones.
    All of these mean that the server's response is wrong.
    """
    try:
        return work()
    except OSError:  # raised unchanged, because some subclasses of OSError are also subclasses of ValueError
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise imaplib.IMAP4.error("its response is not valid IMAP") from error


class _MailCall(Protocol):
    """Runs a function in a thread with a time limit in seconds."""

    async def __call__(self, seconds: float, work: Callable[[], T], /) -> T: ...


class _Line:
    """The connection to one of the validated ``addresses``. TLS is used for the name ``host`` unless ``host`` is
    empty.
    """

    def __init__(self, addresses: tuple[str, ...], port: int, host: str) -> None:
        self._addresses = addresses
        self._port = port
        self._host = host
        self._socket: socket.socket | None = None
        self._is_cut = False
        self.input: io.BufferedReader | None = None

    def open(self) -> socket.socket:
        """Connect. Raises `OSError`."""
        connection: socket.socket | None = None
        for address in self._addresses:
            try:
                connection = socket.create_connection((address, self._port), CONNECT_TIMEOUT_S)
                break
            except OSError:
                if self._is_cut or address == self._addresses[-1]:
                    raise
        assert connection is not None, (
            "at least one address exists, because otherwise resolving would have failed"
        )
        connection.settimeout(SILENCE_TIMEOUT_S)
        self._socket = connection
        if self._host:
            context = ssl.create_default_context()
            ssl_socket = context.wrap_socket(
                connection, server_hostname=self._host, do_handshake_on_connect=False
            )
            self._socket = ssl_socket
            if self._is_cut:
                raise TimeoutError
            ssl_socket.do_handshake()
        if self._is_cut:
            raise TimeoutError
        self.input = self._socket.makefile("rb")
        return self._socket

    def cut(self) -> None:
        """Interrupt all threads that wait for a response of the server."""
        self._is_cut = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(
                    self._socket, socket.SHUT_RDWR
                )  # a TLS shutdown would access state that another thread is using

    def close(self) -> None:
        """Close the connection once no thread uses it anymore."""
        if self.input is not None:
            self.input.close()
        if self._socket is not None:
            self._socket.close()


class _Mailbox(imaplib.IMAP4):
    """A folder opened read-only. Its calls block, so call it in a thread. The sizes of responses, lines and literals
    are limited.
    """

    def __init__(self, line: _Line, folder: str, login: str) -> None:
        self._line = line
        self._remaining_bytes = MAX_LIST_BYTES
        super().__init__()
        user, _, password = login.partition(":")
        try:
            if "AUTH=PLAIN" in self.capabilities:
                self.authenticate("PLAIN", lambda _challenge: f"\0{user}\0{password}".encode())
            else:
                self.login(user, password)
        except self.abort:
            raise
        except (self.error, UnicodeEncodeError) as error:
            raise self.error("it rejects the login: check source_logins") from error
        kind, data = self.select(_quote(folder), readonly=True)
        if kind != "OK":
            raise self.error(f"the folder '{folder}' does not exist, or cannot be opened")
        self.messages = int(data[0] or 0)
        _kind, valid = self.response("UIDVALIDITY")
        self.validity = int(valid[-1] or 0)
        if not self.validity:
            raise self.error(
                "the server does not report a UIDVALIDITY, so messages cannot be recognized again"
            )

    def list_messages(self, limit: int) -> list[MailMessage]:
        """Return at most ``limit`` messages, oldest first."""
        mail_messages: dict[int, MailMessage] = {}
        if self.messages:
            for text, _data in self._fetch("1:*", "(FLAGS RFC822.SIZE)", MAX_LIST_BYTES):
                uid, size = _UID.search(text), _SIZE.search(text)
                if uid and size:
                    number = int(uid[1])
                    mail_messages[number] = MailMessage(
                        number, int(size[1]), _DELETED.search(text) is not None
                    )
        return [mail_messages[uid] for uid in sorted(mail_messages)][:limit]

    def subjects(self, uids: Sequence[int]) -> dict[int, str]:
        """Return the subject of each message that has a subject, by UID."""
        message_part = f"(BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.{SUBJECT_BYTES}>)"
        subjects = {}
        for text, data in self._fetch(",".join(map(str, uids)), message_part, MAX_LIST_BYTES):
            if uid := _UID.search(text):
                subjects[int(uid[1])] = _subject(data[:SUBJECT_BYTES])
        return subjects

    def message(self, uid: int, limit: int) -> bytes | None:
        """Return the first ``limit`` bytes of a message, or ``None`` if the message no longer exists."""
        for text, data in self._fetch(str(uid), f"(BODY.PEEK[]<0.{limit}>)", limit + MAX_LINE_BYTES):
            if (match := _UID.search(text)) and int(match[1]) == uid:
                return data
        return None

    def _fetch(self, uids: str, message_part: str, limit: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the response line for each message, and the literal that follows the line."""
        self._remaining_bytes = limit
        kind, answers = self.uid("FETCH", uids, message_part)
        if kind != "OK":
            raise self.error(f"the server rejects the fetch: {answers[-1:]!r:.200}")
        descriptions: list[bytes] = []
        data = b""
        for answer in answers:
            description = answer[0] if isinstance(answer, tuple) else answer or b""
            if _ENTRY.match(description) and descriptions:
                yield b" ".join(descriptions), data
                descriptions, data = [], b""
            descriptions.append(description)
            if isinstance(answer, tuple):
                data = answer[1]
        if descriptions:
            yield b" ".join(descriptions), data

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        self.sock = self._line.open()
        assert self._line.input is not None, "the connection is open"
        self._input = self._line.input

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._input.read(size)

    def readline(self) -> bytes:
        line = self._input.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise self.abort("a line of the server's response is too long")
        self._take(max(MIN_LINE_BYTES, len(line)))
        return line

    def shutdown(self) -> None:
        self._line.cut()

    def _take(self, size: int) -> None:
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            raise self.abort("the server's response is larger than requested")


def _quote(folder: str) -> str:
    """Return the name of a folder as a quoted string in the UTF-7 of IMAP (RFC 3501, 5.1.3)."""
    pieces = []
    for piece in re.split(r"([^\x20-\x7e]+)", folder.replace("&", "&-")):
        if piece and not piece.isascii():
            encoded_piece = base64.b64encode(piece.encode("utf-16-be")).decode().rstrip("=")
            piece = f"&{encoded_piece.replace('/', ',')}-"
        pieces.append(piece.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{"".join(pieces)}"'


def _subject(header: bytes) -> str:
    try:
        return str(message_from_bytes(header, policy=policy.default)["Subject"] or "")
    except (
        ValueError,
        IndexError,
        AttributeError,
        LookupError,
    ):  # the parser raises these errors for malformed headers
        return ""


def _name(subject: str, uid: int) -> str:
    """Return the name of the document that contains a message."""
    title = _ODD.sub(" ", subject)[:MAX_SUBJECT_CHARS].strip(" .") or "Message"
    return to_filename(f"{title} ({uid}).eml")


def _too_large(limit: int) -> str:
    return f"larger than {limit // MB_BYTES} MB"


def _reason(error: Exception) -> str:
    """Return a short reason for an error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is invalid ({error.verify_message})"
    server_reason = error.args[0] if error.args else ""
    text = server_reason.decode("utf-8", "replace") if isinstance(server_reason, bytes) else str(error)
    return " ".join(text.split())[:300] or type(error).__name__


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data
