"""A mail server for tests: pymap with mailboxes in memory, and the actions of another mail program on them."""

from __future__ import annotations

import asyncio
import datetime
import imaplib
import socket
import ssl
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from proxyprotocol.noop import ProxyProtocolNoop
from proxyprotocol.reader import ProxyProtocolReader
from pymap.backend.dict import DictBackend
from pymap.imap import IMAPServer

USER, PASSWORD = "ada@example.com", "wörd-1234"
WAIT_S = 60


@dataclass
class MailServer:
    """A server with ``imap://`` at ``port`` and ``imaps://`` at ``secure_port``; ``trusted`` names its certificate."""

    port: int
    secure_port: int
    trusted: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def source(self) -> str:
        return f"imap://{self.host}/INBOX"

    @property
    def logins(self) -> str:
        return f"example.com=ada:other,{self.host}={USER}:{PASSWORD},127.0.0.1:{self.secure_port}={USER}:{PASSWORD}"

    @contextmanager
    def opened(self, folder: str = "INBOX") -> Iterator[imaplib.IMAP4]:
        """Open a folder as another mail program does."""
        with imaplib.IMAP4("127.0.0.1", self.port, timeout=WAIT_S) as client:
            client.authenticate("PLAIN", lambda _challenge: f"\0{USER}\0{PASSWORD}".encode())
            client.create(folder)
            kind, data = client.select(folder)
            assert kind == "OK", data
            yield client

    def add(self, *messages: EmailMessage | bytes, folder: str = "INBOX") -> None:
        with self.opened(folder) as client:
            for message in messages:
                raw = message if isinstance(message, bytes) else message.as_bytes()
                kind, data = client.append(folder, "", "", raw)
                assert kind == "OK", data

    def remove(self, uid: int, *, expunge: bool = True) -> None:
        with self.opened() as client:
            client.uid("STORE", str(uid), "+FLAGS", r"(\Deleted)")
            if expunge:
                client.expunge()

    def flags(self) -> list[bytes]:
        with self.opened() as client:
            return [line for line in client.uid("FETCH", "1:*", "(FLAGS)")[1] if line]


def message(subject: str, text: str, **attached: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "ada@example.com", "bob@example.com"
    mail["Date"] = "Mon, 23 Nov 2026 10:00:00 +0000"
    mail.set_content(text)
    for name, content in attached.items():
        mail.add_attachment(content, filename=name.replace("_", "."))
    return mail


@contextmanager
def serving(folder: Path) -> Iterator[MailServer]:
    """Serve a mailbox of `USER` on free ports of this machine."""
    plain, secure = (socket.create_server(("127.0.0.1", 0)) for _number in range(2))
    server = MailServer(plain.getsockname()[1], secure.getsockname()[1], folder / "certificate.pem")
    context = _certified(folder, server.trusted)
    ready, ends = threading.Event(), []

    async def run() -> None:
        options = {"host": None, "port": 0, "cert": None, "key": None, "passlib_cfg": None}
        demo = {"demo_data": False, "demo_user": USER, "demo_password": PASSWORD}
        args = Namespace(debug=False, tls=False, proxy_protocol=None, **options, **demo)
        backend, config = await DictBackend.init(args)
        config.apply_context()
        answer = ProxyProtocolReader(ProxyProtocolNoop()).get_callback(IMAPServer(backend.login, config))
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            for listening, tls in ((plain, None), (secure, context)):
                await stack.enter_async_context(await asyncio.start_server(answer, sock=listening, ssl=tls))
            ends.append(lambda: loop.call_soon_threadsafe(end.set))
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(WAIT_S)
    try:
        yield server
    finally:
        ends[0]()
        thread.join()


@contextmanager
def speaking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Yield the port of a server that runs ``talk`` with each client that connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            while True:
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # the other side has disconnected
                    talk(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def _certified(folder: Path, certificate: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    issued_at = datetime.datetime.now(datetime.UTC)
    signed_certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issued_at - datetime.timedelta(days=1))
        .not_valid_after(issued_at + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate.write_bytes(signed_certificate.public_bytes(pem))
    (folder / "server.pem").write_bytes(secret + signed_certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
