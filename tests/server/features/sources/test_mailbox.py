"""A store that follows a folder of a mailbox."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.sources.mail_server import PASSWORD, MailServer, message, serving, speaking
from tests.server.features.stores.store_services import store_services

from portico_server.blobs.place import ReceivedFile
from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.features.files.files import FileStorage
from portico_server.features.sources import mailbox, spec


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    with serving(tmp_path) as server:
        yield server


@pytest.mark.slow
async def test_a_folder_is_mirrored_and_only_new_messages_are_fetched(
    tmp_path: Path, server: MailServer
) -> None:
    server.add(
        message("Port/of the lighthouse?", "It listens on port 7419."),
        message("雪莲花", "雪莲花生长在高山。"),
        message("Offer", "See what is attached.", offer_md="# Prices\n\nA boat costs 4100 euros."),
        b"From: nobody@example.com\r\nSubject: =?broken?=\r\n\r\nNo more.\r\n",
    )
    flags_before = server.flags()
    async with store_services(tmp_path / "home", tool_hosts=server.host, source_logins=server.logins) as shop:
        store = await shop.stores.create("mail", LOCAL, source=server.source)
        result = await shop.sync(store)
        assert (result["added"], result["indexed"], result["failed"]) == (4, 4, 0), result
        names = {row.filename for row in await shop.settled(store)}
        assert names == {
            "Port of the lighthouse (101).eml",
            "雪莲花 (102).eml",
            "Offer (103).eml",
            "= broken = (104).eml",
        }
        passage = (await shop.search(store, "What does a boat cost?")).passages[0]
        assert (passage.filename, "4100 euros" in passage.text) == ("Offer (103).eml", True)
        assert server.flags() == flags_before

        assert (await shop.sync(store))["unchanged"] == 4
        server.add(message("Rules", "The harbour opens at six."))
        server.remove(101)
        server.remove(102, expunge=False)
        plan = await shop.stores.plan(store)
        assert (plan.added, plan.removed) == (
            ("Rules (105).eml",),
            ("Port of the lighthouse (101).eml", "雪莲花 (102).eml"),
        )
        result = await shop.sync(store)
        assert (result["added"], result["removed"], result["unchanged"]) == (1, 2, 2)
        store = await shop.stores.update(store.id, LOCAL, {"keep_removed": True})
        server.remove(103)
        assert (await shop.sync(store))["removed"] == 0
        assert not any(
            PASSWORD.encode() in path.read_bytes()
            for path in (tmp_path / "home").rglob("*")
            if path.is_file()
        )


async def test_a_folder_with_an_encoded_name_is_read_over_tls_with_a_valid_certificate(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(message("Rules", "The harbour opens at six."), folder='"&Zi8- \\"A &- B\\""')
    source = f'imaps://127.0.0.1:{server.secure_port}/是 "A & B"'.replace(" ", "%20")
    hosts = f"127.0.0.1:{server.secure_port}"
    async with store_services(tmp_path / "home", tool_hosts=hosts, source_logins=server.logins) as shop:
        store = await shop.stores.create("mail", LOCAL, source=source)
        with pytest.raises(Unavailable, match=r"its certificate is invalid"):
            await shop.stores.plan(store)
        monkeypatch.setenv("SSL_CERT_FILE", str(server.trusted))
        assert (await shop.sync(store))["added"] == 1


async def test_a_missing_or_wrong_login_is_reported_without_the_password(
    tmp_path: Path, server: MailServer
) -> None:
    async with store_services(tmp_path / "one", tool_hosts=server.host) as shop:
        store = await shop.stores.create("mail", LOCAL, source=server.source)
        with pytest.raises(Unavailable, match=r"set source_logins to 127\.0\.0\.1:\d+=USER:PASSWORD"):
            await shop.stores.plan(store)
    logins = f"{server.host}=ada@example.com:secret-5678"
    async with store_services(tmp_path / "two", tool_hosts=server.host, source_logins=logins) as shop:
        store = await shop.stores.create("mail", LOCAL, source=server.source)
        with pytest.raises(Unavailable, match=r"it rejects the login: check source_logins") as error:
            await shop.stores.plan(store)
        assert "secret-5678" not in error.value.message


@pytest.mark.slow
async def test_an_unusable_mailbox_is_refused_and_its_messages_stay_indexed(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(message("One", "The harbour."), message("Two", "The boats. " * 200))
    settings = {"tool_hosts": server.host, "source_logins": server.logins, "source_max_files": 2}
    async with store_services(tmp_path / "home", **settings) as shop:
        store = await shop.stores.create("mail", LOCAL, source=server.source)
        await shop.sync(store)
        row = replace(store, source=spec.parse_source(f"imap://{server.host}/Nowhere").kept())
        with pytest.raises(Unavailable, match="the folder 'Nowhere' does not exist"):
            await shop.stores.plan(row)
        server.add(message("Three", "The nets."))
        with pytest.raises(InvalidRequest, match="more than 2 messages"):
            await shop.stores.plan(store)
        server.remove(103)
        monkeypatch.setattr(mailbox, "MAX_MESSAGE_BYTES", 1_000)
        assert (await shop.stores.plan(store)).skipped == {"larger than 0 MB": 1}
        assert len(await shop.settled(store)) == 2
    async with store_services(tmp_path / "away", source_logins=server.logins) as shop:
        store = await shop.stores.create("mail", LOCAL, source=server.source)
        with pytest.raises(PorticoError, match="tool_hosts"):
            await shop.stores.plan(store)
    settings = {"tool_hosts": "mail.example.com", "source_logins": "mail.example.com=a:b"}
    monkeypatch.setattr("portico_server.core.pools.resolve", _public)
    async with store_services(tmp_path / "plain", **settings) as shop:
        store = await shop.stores.create("mail", LOCAL, source="imap://mail.example.com/")
        with pytest.raises(InvalidRequest, match="is not encrypted"):
            await shop.stores.plan(store)


@pytest.mark.slow
async def test_a_sync_that_fails_midway_leaves_no_received_files(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(message("One", "The harbour."), message("Two", "The boats."))
    receive, received_files = FileStorage.receive, list[ReceivedFile]()

    async def full(self: FileStorage, *args: Any, **more: Any) -> ReceivedFile:
        if received_files:
            raise Unavailable("The disk is full.", code="disk_full")
        received_files.append(await receive(self, *args, **more))
        return received_files[-1]

    async with store_services(tmp_path / "home", tool_hosts=server.host, source_logins=server.logins) as shop:
        store = await shop.stores.create("mail", LOCAL, source=server.source)
        with monkeypatch.context() as patched:
            patched.setattr(FileStorage, "receive", full)
            with pytest.raises(AssertionError, match="The disk is full"):
                await shop.sync(store)
        assert not received_files[0].path.exists()
        assert (await shop.sync(store))["added"] == 2


async def _public(host: str, port: int, family: int) -> list[tuple[int, int, tuple[str, int]]]:
    return [(socket.AF_INET, socket.IPPROTO_TCP, ("93.184.215.14", port))]


def _answers(*lines: bytes) -> Callable[[socket.socket], None]:
    """Return a server that greets and answers each command in order; ``TAG`` stands for the command's tag."""

    def talk(there: socket.socket) -> None:
        there.sendall(b"* OK ready\r\n")
        commands = there.makefile("rb")
        for line in lines:
            tag = commands.readline().partition(b" ")[0]
            there.sendall(line.replace(b"TAG", tag))
        commands.read()

    return talk


_START = (
    b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n",
    b"TAG OK done\r\n",
    b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] .\r\nTAG OK [READ-ONLY] done\r\n",
)


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (
            lambda there: there.sendall(b"* OK " + b"x" * 100_000),
            "a line of the server's response is too long",
        ),
        (lambda there: there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "unexpected response"),
        (lambda there: None, "EOF"),
        (
            _answers(*_START[:2], b"* 1 EXISTS\r\nTAG OK [READ-ONLY] done\r\n"),
            "does not report a UIDVALIDITY, so messages cannot be recognized",
        ),
        (_answers(*_START, b"* 1 FETCH (UID 5 FLAGS {99999999999}\r\n"), "larger than requested"),
        (_answers(*_START, b"* 1 FETCH (UID 5 FLAGS ({5}\r\nab"), "it took more than"),
        (_answers(*_START, b"* BYE tired\r\n"), "tired"),
        (
            _answers(*_START, b"* 1 FETCH (UID 5 RFC822.SIZE 9)\r\nTAG OK done\r\n", b"TAG NO no\r\n"),
            "rejects the fetch",
        ),
        (
            _answers(_START[0], _START[1], b"* 1 EXISTS\r\n* OK [UIDVALIDITY x] .\r\nTAG OK done\r\n"),
            "not valid IMAP",
        ),
        (_answers(*_START[:2], b"* " + b"9" * 5_000 + b" EXISTS\r\n" + _START[2]), "not valid IMAP"),
        (_answers(*_START, b"* 1 FETCH (UID 5 FLAGS {" + b"9" * 5_000 + b"}\r\n"), "not valid IMAP"),
        (_answers(b"* CAPABILITY \xff\xfe\r\nTAG OK done\r\n"), "not valid IMAP"),
        (_answers(*_START, b"* 1 FETCH x\r\n" * 20_000), "larger than requested"),
        (_answers(*_START, b"* 1 FETCH (" + b"x {1}\r\ny" * 20_000), "larger than requested"),
        (
            _answers(
                *_START,
                b"* 1 FETCH (UID 5 RFC822.SIZE 9 " + b"FLAGS (" * 9_000 + b"\r\nTAG OK done\r\n",
                b"TAG NO no\r\n",
            ),
            "rejects the fetch",
        ),
        (_answers(*_START, b"* BAD no\r\n" * 100), "it took more than"),
        (_answers(*_START, b"+ go on\r\n"), "it took more than"),
        (_answers(b"TAG BAD no\r\n"), "CAPABILITY"),
        (_answers(_START[0], b"TAG NO " + b"x" * 60_000 + b"\r\n"), "it rejects the login"),
    ],
)
async def test_a_misbehaving_server_is_abandoned_within_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, talk: Callable[[socket.socket], None], said: str
) -> None:
    monkeypatch.setattr(mailbox, "MAX_LIST_BYTES", 2**20)
    monkeypatch.setattr(mailbox, "CLOSE_TIMEOUT_S", 0.1)
    if said == "it took more than":
        monkeypatch.setattr(mailbox, "LIST_TIMEOUT_S", 0.5)
    with speaking(talk) as port:
        settings = {"tool_hosts": f"127.0.0.1:{port}", "source_logins": f"127.0.0.1:{port}=ada:word"}
        async with store_services(tmp_path / "home", **settings) as shop:
            store = await shop.stores.create("mail", LOCAL, source=f"imap://127.0.0.1:{port}/INBOX")
            with pytest.raises(Unavailable, match=said):
                await shop.stores.plan(store)
