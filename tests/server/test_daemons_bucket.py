"""Two daemons on one PostgreSQL database that store their files in one bucket."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests import postgres
from tests.daemon import Daemon
from tests.server.daemons import answered, call, end, start
from tests.server.features.sources.store import ACCESS, REGION, SECRET, ObjectStore, serving

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(300)]

CONFIGURATION = 'models: [{name: echo, source: "fake://", aliases: [default]}]\n'


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with serving() as store:
        store.buckets["shop"] = {}
        yield store


@pytest.fixture
def pair(tmp_path: Path, store: ObjectStore) -> Iterator[tuple[Daemon, Daemon]]:
    environment = {
        "PORTICO_FILES": "s3://shop/portico",
        "PORTICO_S3_ENDPOINT": store.url,
        "PORTICO_S3_REGION": REGION,
        "PORTICO_S3_ACCESS_KEY": ACCESS,
        "PORTICO_S3_SECRET_KEY": SECRET,
    }
    with postgres.running() as server:
        database = server.new()
        with ThreadPoolExecutor(2) as threads:
            starting = [
                threads.submit(start, tmp_path, name, database, CONFIGURATION, **environment) for name in "ab"
            ]
            first, second = (future.result() for future in starting)
        yield first, second
        end(first, second)


def upload(daemon: Daemon, content: bytes) -> httpx.Response:
    return call(
        daemon, "POST", "/v1/files", files={"file": ("a.txt", content)}, data={"purpose": "user_data"}
    )


def test_acknowledged_files_stay_available_at_the_other_daemon_after_a_kill_during_upload(
    pair: tuple[Daemon, Daemon], store: ObjectStore
) -> None:
    a, b = pair
    file_id = upload(a, b"acknowledged").json()["id"]
    assert call(b, "GET", f"/v1/files/{file_id}/content").content == b"acknowledged"
    arrival, go = threading.Event(), threading.Event()
    store.gates["PUT"] = (arrival, go)
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(upload, a, b"never acknowledged")
        assert arrival.wait(60)
        a.process.send_signal(signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            sending.result()
    go.set()
    store.gates.clear()
    assert [file["id"] for file in answered(b, "GET", "/v1/files")["data"]] == [file_id]
    assert upload(b, b"never acknowledged").status_code == 200, "what is left does not stand in its way"
    assert answered(b, "GET", "/api/status")["problems"] == []
    store.buckets.clear()
    response = upload(b, b"into no bucket")
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["code"] == "storage_unavailable" and "does not exist (NoSuchBucket)" in error["message"]
    assert call(b, "GET", f"/v1/files/{file_id}/content").content == b"acknowledged", "it is in the cache"
    [problem] = answered(b, "GET", "/api/status")["problems"]
    assert (problem["place"], problem["reason"]) == ("settings.files", error["message"])
    settings = answered(b, "GET", "/api/settings")
    assert SECRET not in str(settings)
