"""``/v1/uploads`` through a real daemon, by the official client."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Upload
from tests import daemon as daemons
from tests.api_server import ApiServer, api_server
from tests.daemon import Daemon

from portico import Client
from portico_server.blobs.place import ReceivedFile
from portico_server.core.principal import LOCAL
from portico_server.features.files import uploads as uploads_module
from portico_server.runs.retention import Retention

WHOLE = random.Random(7).randbytes(300_000)
PIECES = [WHOLE[at : at + 100_000] for at in range(0, len(WHOLE), 100_000)]
MD5 = hashlib.md5(WHOLE, usedforsecurity=False).hexdigest()


def connected(url: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
    )


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with connected(daemon.url) as client:
        yield client


def begin(client: openai.OpenAI, size: int = len(WHOLE), **more: Any) -> Upload:
    return client.uploads.create(
        **{
            "filename": "whole.bin",
            "purpose": "user_data",
            "bytes": size,
            "mime_type": "application/octet-stream",
            **more,
        }
    )


def state(daemon: Daemon, upload: Upload) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{daemon.url}/v1/uploads/{upload.id}").raise_for_status().json()
    return body


def refused(error: pytest.ExceptionInfo[openai.APIStatusError]) -> tuple[int, str | None, str | None]:
    return error.value.status_code, error.value.code, error.value.param


def blobs(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "blobs").rglob("*") if path.is_file())


def test_parts_sent_in_parallel_and_in_any_order_become_one_file(client: openai.OpenAI) -> None:
    upload = begin(client)
    assert (upload.status, upload.bytes, upload.file) == ("pending", len(WHOLE), None)
    assert upload.expires_at - upload.created_at == 3600
    with ThreadPoolExecutor(3) as threads:
        parts = threads.map(
            lambda number: client.uploads.parts.create(upload.id, data=PIECES[number]), (2, 0, 1)
        )
        last, first, middle = [part.id for part in parts]
    done = client.uploads.complete(upload.id, part_ids=[first, middle, last], md5=MD5)
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.filename, done.file.bytes, done.file.purpose) == ("whole.bin", len(WHOLE), "user_data")
    assert client.files.content(done.file.id).content == WHOLE
    assert client.files.retrieve(done.file.id) == done.file
    again = client.uploads.complete(upload.id, part_ids=[first, middle, last])
    assert again.file == done.file, "an answer that was lost is given again, and there is one file"
    client.files.delete(done.file.id)


@pytest.mark.conformance("OpenAI", "Uploads", "openai")
def test_the_official_client_cuts_a_file_itself(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "笔记.md"
    path.write_bytes(WHOLE)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="text/markdown", purpose="assistants", part_size=70_000, md5=MD5
    )
    assert done.file is not None
    assert client.files.content(done.file.id).content == WHOLE
    assert done.file.filename == "笔记.md"


def test_completing_with_wrong_parts_or_checksum_is_refused_and_leaves_the_upload_pending(
    client: openai.OpenAI, daemon: Daemon
) -> None:
    upload = begin(client)
    ids = [client.uploads.parts.create(upload.id, data=piece).id for piece in PIECES]

    def complete(part_ids: list[str], **more: Any) -> tuple[int, str | None, str | None]:
        with pytest.raises(openai.APIStatusError) as error:
            client.uploads.complete(upload.id, part_ids=part_ids, **more)
        return refused(error)

    assert complete(ids[:2]) == (400, "bytes_mismatch", "part_ids")
    assert complete([*ids[:2], ids[0]])[0] == 400
    assert complete([*ids[:2], "part_none"]) == (400, "part_not_found", "part_ids[2]")
    assert complete([])[0] == 400
    assert complete(ids[::-1], md5=MD5) == (400, "checksum_mismatch", "md5")
    assert complete(ids, md5="x" * 32)[::2] == (400, "md5")
    other_upload = begin(client)
    foreign = client.uploads.parts.create(other_upload.id, data=PIECES[2]).id
    assert complete([*ids[:2], foreign]) == (400, "part_not_found", "part_ids[2]")
    client.uploads.cancel(other_upload.id)
    upload_state = state(daemon, upload)
    assert (upload_state["status"], [part["id"] for part in upload_state["parts"]]) == ("pending", ids)
    done = client.uploads.complete(upload.id, part_ids=ids, md5=MD5.upper())
    assert done.file is not None
    client.files.delete(done.file.id)


def test_a_cancelled_upload_deletes_its_parts_and_refuses_further_calls(
    client: openai.OpenAI, daemon: Daemon
) -> None:
    blobs_before = blobs(daemon.home)
    upload = begin(client)
    part = client.uploads.parts.create(upload.id, data=PIECES[0])
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert blobs(daemon.home) == blobs_before
    for call in (
        lambda: client.uploads.parts.create(upload.id, data=b"x"),
        lambda: client.uploads.complete(upload.id, part_ids=[part.id]),
        lambda: client.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.ConflictError) as error:
            call()
        assert error.value.code == "upload_cancelled"


@pytest.mark.parametrize(
    ("more", "status", "param"),
    [
        ({"size": 0}, 400, "bytes"),
        ({"size": 2**40}, 413, "bytes"),
        ({"purpose": "fun"}, 400, "purpose"),
        ({"filename": "../x"}, 400, "filename"),
        ({"mime_type": "no type"}, 400, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "expires_after.seconds"),
    ],
)
def test_an_invalid_upload_request_is_refused_with_the_parameter(
    client: openai.OpenAI, more: dict[str, Any], status: int, param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        begin(client, **more)
    assert refused(error)[::2] == (status, param)


def test_a_part_without_form_data_is_a_400_and_is_not_stored(client: openai.OpenAI, daemon: Daemon) -> None:
    upload = begin(client)
    path = f"{daemon.url}/v1/uploads/{upload.id}/parts"
    for wrong in (
        {"json": {}},
        {"files": {"file": ("a", b"a")}},
        {"files": {"data": ("a", b"")}},
        {"content": b"--f\r\n", "headers": {"content-type": "multipart/form-data; boundary=f"}},
    ):
        answer = httpx.post(path, **wrong)  # type: ignore[arg-type]
        assert answer.status_code == 400, answer.text
    assert state(daemon, upload)["parts"] == []
    client.uploads.cancel(upload.id)


def test_a_file_of_an_upload_has_its_own_expiry_time(client: openai.OpenAI) -> None:
    upload = begin(client, 5, expires_after={"anchor": "created_at", "seconds": 7200})
    part = client.uploads.parts.create(upload.id, data=b"hello")
    done = client.uploads.complete(upload.id, part_ids=[part.id])
    assert done.file is not None
    assert done.file.expires_at is not None
    assert 7195 <= done.file.expires_at - done.file.created_at <= 7200


def test_an_upload_continues_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "whole.bin"
    path.write_bytes(WHOLE)
    with daemons.running(tmp_path / "home") as first, connected(first.url) as client:
        upload = begin(client)
        ids = [client.uploads.parts.create(upload.id, data=piece).id for piece in PIECES[:2]]
        first.stop(signal.SIGKILL)
    with daemons.running(tmp_path / "home") as second, connected(second.url) as client:
        assert [part["id"] for part in state(second, upload)["parts"]] == ids
        ids.append(client.uploads.parts.create(upload.id, data=PIECES[2]).id)
        done = client.uploads.complete(upload.id, part_ids=ids, md5=MD5)
        assert done.file is not None
        assert client.files.content(done.file.id).content == WHOLE
        assert blobs(tmp_path / "home") == [hashlib.sha256(WHOLE).hexdigest()[2:]], "the parts are gone"


def test_the_sdk_sends_only_what_has_not_arrived(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico._sync.knowledge.PART_BYTES", 100_000)
    path = tmp_path / "whole.bin"
    path.write_bytes(WHOLE)
    with Client(daemon.url) as client, connected(daemon.url) as official:
        upload = client.files.begin_upload(path, purpose="user_data")
        arrived = official.uploads.parts.create(upload.id, data=PIECES[1])
        file = client.files.continue_upload(upload.id, path)
        assert client.files.content(file.id) == WHOLE
        assert client.files.continue_upload(upload.id, path) == file
        other_upload = client.files.begin_upload(path)
        assert client.files.cancel_upload(other_upload.id).status == "cancelled"
        assert arrived.upload_id == upload.id


# --- limits and time ------------------------------------------------------------------------------------


@pytest.fixture
async def served(tmp_path: Path) -> Any:
    async with api_server(tmp_path, max_file_mb=1) as server:
        yield server


async def begun(served: ApiServer, size: int) -> httpx.Response:
    body = {"filename": "a", "purpose": "user_data", "bytes": size, "mime_type": "text/plain"}
    return await served.client.post("/v1/uploads", json=body)


async def send(served: ApiServer, upload_id: str, data: bytes) -> httpx.Response:
    return await served.client.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("a", data)})


async def test_pending_uploads_of_a_key_are_limited(served: ApiServer) -> None:
    size = 2**20
    ids = [(await begun(served, size)).json()["id"] for _ in range(uploads_module.MAX_PENDING_FILES)]
    full = await begun(served, 1)
    assert (full.status_code, full.json()["error"]["code"]) == (429, "too_many_uploads")
    await served.client.post(f"/v1/uploads/{ids[0]}/cancel")
    small = [await begun(served, 1) for _ in range(uploads_module.MAX_PENDING_UPLOADS - len(ids) + 1)]
    assert {answer.status_code for answer in small} == {200}
    assert (await begun(served, 1)).status_code == 429


async def test_parts_have_twice_as_many_bytes_as_announced_at_most(
    served: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = (await begun(served, 10)).json()["id"]
    assert [(await send(served, upload, b"0123456789")).status_code for _ in range(2)] == [200, 200]
    over = await send(served, upload, b"1")
    assert (over.status_code, over.json()["error"]["code"]) == (413, "too_many_parts")
    monkeypatch.setattr(uploads_module, "MAX_PARTS", 2)
    another = (await begun(served, 10)).json()["id"]
    assert [(await send(served, another, b"%d" % n)).status_code for n in range(3)] == [200, 200, 413]


@pytest.fixture
def pruned_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the daemon's automatic pruning, whose first run may come after a test has moved the clock."""

    async def rest(_retention: Retention) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Retention, "run", rest)


async def test_an_upload_whose_time_has_run_out_is_expired_and_then_forgotten(
    pruned_by_hand: None, served: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = (await begun(served, 10)).json()["id"]
    part = (await send(served, upload, b"0123456789")).json()["id"]
    assert len(blobs(tmp_path)) == 1
    later = time.time() + uploads_module.LIFETIME_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert (await served.client.get(f"/v1/uploads/{upload}")).json()["status"] == "expired"
    late = await served.client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]})
    assert (late.status_code, late.json()["error"]["code"]) == (409, "upload_expired")
    assert (await served.services.retention.prune(dry_run=True)).uploads == 1
    assert (await served.services.retention.prune()).uploads == 1
    assert blobs(tmp_path) == []
    assert (await served.client.get(f"/v1/uploads/{upload}")).json()["status"] == "expired"
    monkeypatch.setattr(time, "time", lambda: later + uploads_module.KEEP_ENDED_S)
    await served.services.retention.prune()
    assert (await served.client.get(f"/v1/uploads/{upload}")).status_code == 404


async def test_parallel_complete_calls_of_one_upload_create_one_file(served: ApiServer) -> None:
    upload = (await begun(served, 4)).json()["id"]
    part = (await send(served, upload, b"once")).json()["id"]
    body = {"part_ids": [part]}
    path = f"/v1/uploads/{upload}/complete"
    answers = await asyncio.gather(*(served.client.post(path, json=body) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["file"]["id"] for answer in answers}) == 1
    assert len((await served.services.files.list(LOCAL)).data) == 1


@pytest.mark.parametrize(
    ("other", "expected"), [("complete", (200, None)), ("cancel", (409, "upload_cancelled"))]
)
async def test_an_upload_ended_by_another_call_during_completion_creates_no_second_file(
    served: ApiServer, monkeypatch: pytest.MonkeyPatch, other: str, expected: tuple[int, str | None]
) -> None:
    upload = (await begun(served, 4)).json()["id"]
    parts = [(await send(served, upload, data)).json()["id"] for data in (b"on", b"ce")]
    body = {"part_ids": parts}
    receive = served.services.files.receive

    async def receive_after_the_other(blocks: AsyncIterator[bytes]) -> ReceivedFile:
        monkeypatch.setattr(served.services.files, "receive", receive)
        response = await served.client.post(
            f"/v1/uploads/{upload}/{other}", json=body if other == "complete" else None
        )
        assert response.status_code == 200
        return await receive(blocks)

    monkeypatch.setattr(served.services.files, "receive", receive_after_the_other)
    answer = await served.client.post(f"/v1/uploads/{upload}/complete", json=body)
    assert (answer.status_code, answer.json().get("error", {}).get("code")) == expected
    assert len((await served.services.files.list(LOCAL)).data) == (1 if other == "complete" else 0)
