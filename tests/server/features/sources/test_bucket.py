"""A store that follows a bucket."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.sources.store import ACCESS, REGION, SECRET, ObjectStore, serving
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.blobs.s3 import BucketEndpoint
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.db.stores import StoreRow
from portico_server.settings import Settings


@pytest.fixture
def bucket() -> Iterator[ObjectStore]:
    with serving() as store:
        yield store


def keyed(bucket: ObjectStore, **more: Any) -> dict[str, Any]:
    return {
        "s3_endpoint": bucket.url,
        "s3_region": REGION,
        "s3_access_key": ACCESS,
        "s3_secret_key": SECRET,
        **more,
    }


@pytest.fixture
async def shop(tmp_path: Path, bucket: ObjectStore) -> AsyncIterator[StoreServices]:
    async with store_services(tmp_path / "home", **keyed(bucket)) as shop:
        yield shop


async def files(shop: StoreServices, store: StoreRow) -> dict[str, str]:
    page = await shop.stores.contents.list(store, limit=1000, order="asc")
    return {row.filename: row.file_id for row in page.data}


async def test_objects_below_a_prefix_are_mirrored(shop: StoreServices, bucket: ObjectStore) -> None:
    bucket.buckets["library"] = {
        "docs/a b+c&d=e%.md": b"# Harbour\n\nIt opens at six.",
        "docs/sub/文档.txt": "雪莲花生长在高山。".encode(),
        "docs/sub/": b"",
        "docs/.hidden.txt": b"hidden",
        "docs/blob.bin": b"\x00\x01\x02",
        "docs/x//y.txt": b"in a folder without a name",
        "docs/x/%2F/y.txt": b"named like the last",
        "docs/../y.txt": b"outside",
        "docsother/c.txt": b"elsewhere",
    }
    store = await shop.stores.create("library", LOCAL, source="s3://library/docs")
    result = await shop.sync(store)
    assert set(await files(shop, store)) == {"a b+c&d=e%.md", "sub/文档.txt", "x/%2F/y.txt"}
    assert result["skipped_because"] == {"unusable name": 1, "of an unsupported format": 1}
    assert result["missed"] == [{"name": "blob.bin", "reason": "of an unsupported format"}]
    assert (await shop.search(store, "雪莲花")).passages[0].filename == "sub/文档.txt"
    assert len([prefix for operation, prefix in bucket.asked if operation == "list"]) == 4  # pages of two
    bucket.taken()
    result = await shop.sync(store)
    assert (result["unchanged"], result["indexed"]) == (3, 0)
    assert bucket.taken() == []  # neither the stored nor the refused objects


async def test_changes_moves_and_deletions_are_mirrored(shop: StoreServices, bucket: ObjectStore) -> None:
    objects = {"a.txt": b"A harbour.", "b.txt": b"A bridge.", "c.txt": b"A canal.."}
    bucket.buckets["library"] = objects
    store = await shop.stores.create("library", LOCAL, source="s3://library")
    await shop.sync(store)
    files_before = await files(shop, store)
    bucket.taken()
    request_count = len(shop.model.asked)
    objects["moved.txt"] = objects.pop("b.txt")
    result = await shop.sync(store)
    assert (result["moved"], result["indexed"], bucket.taken()) == (1, 0, [])
    assert (await files(shop, store))["moved.txt"] == files_before["b.txt"]
    assert len(shop.model.asked) == request_count
    objects["a.txt"] = b"A gardens!"  # the same length as before, within the same second
    del objects["c.txt"]
    plan = await shop.stores.plan(store)
    assert (plan.changed, plan.removed, plan.unchanged) == (("a.txt",), ("c.txt",), 1)
    result = await shop.sync(store)
    assert (result["changed"], result["removed"], bucket.taken()) == (1, 1, ["a.txt"])
    assert (await shop.search(store, "gardens")).passages[0].filename == "a.txt"


async def test_an_unreadable_object_is_skipped_with_its_reason(
    shop: StoreServices, bucket: ObjectStore
) -> None:
    bucket.buckets["library"] = {"a.txt": b"A harbour.", "b.txt": b"A bridge."}
    bucket.closed.add("b.txt")
    store = await shop.stores.create("library", LOCAL, source="s3://library")
    result = await shop.sync(store)
    assert set(await files(shop, store)) == {"a.txt"}
    assert result["missed"] == [{"name": "b.txt", "reason": "answers 403 Forbidden (AccessDenied)"}]


async def test_a_missing_bucket_is_reported_and_its_files_stay_indexed(
    shop: StoreServices, bucket: ObjectStore
) -> None:
    bucket.buckets["library"] = {"a.txt": b"A harbour."}
    store = await shop.stores.create("library", LOCAL, source="s3://library")
    await shop.sync(store)
    bucket.buckets.clear()
    with pytest.raises(Unavailable, match=r"NoSuchBucket\)\. The bucket does not exist"):
        await shop.stores.plan(store)
    assert set(await files(shop, store)) == {"a.txt"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"s3_secret_key": "another"}, "check s3_secret_key"),
        ({"s3_access_key": "nobody"}, "check s3_access_key"),
        ({"s3_region": "us-east-1"}, "check s3_region"),
        ({"s3_access_key": "", "s3_secret_key": ""}, "Set s3_access_key"),
    ],
)
async def test_each_wrong_credential_is_named_and_never_shown(
    tmp_path: Path, bucket: ObjectStore, wrong: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    bucket.buckets["library"] = {}
    async with store_services(tmp_path / "home", **keyed(bucket, **wrong)) as shop:
        store = await shop.stores.create("library", LOCAL, source="s3://library")
        with pytest.raises(Unavailable, match=said) as error:
            await shop.stores.plan(store)
        assert SECRET not in error.value.message
        assert SECRET not in str(store)


def test_the_endpoint_comes_from_settings_or_else_the_environment() -> None:
    settings = Settings()
    assert BucketEndpoint.of(settings, {}) == BucketEndpoint(
        "https://s3.us-east-1.amazonaws.com", "us-east-1"
    )
    environment = {
        "AWS_REGION": "eu-1",
        "AWS_ENDPOINT_URL_S3": "http://minio:9000/",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "the-secret",
        "AWS_SESSION_TOKEN": "c",
    }
    gateway = BucketEndpoint.of(settings, environment)
    assert (gateway.endpoint, gateway.region, gateway.host) == ("http://minio:9000", "eu-1", "minio:9000")
    assert gateway.credentials is not None
    assert gateway.credentials.token == "c"
    assert "the-secret" not in repr(gateway)
    explicit_endpoint = BucketEndpoint.of(Settings(s3_access_key="x", s3_secret_key="y"), environment)
    assert explicit_endpoint.credentials is not None
    assert (explicit_endpoint.credentials.access_key, explicit_endpoint.credentials.token) == ("x", "")


@pytest.mark.parametrize(
    "wrong", [{"s3_endpoint": "minio:9000"}, {"s3_endpoint": "http://host/path"}, {"s3_access_key": "x"}]
)
def test_an_invalid_endpoint_is_refused_with_its_setting_named(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="s3_") as error:
        BucketEndpoint.of(Settings(**wrong), {})
    assert error.value.param == next(iter(wrong))


async def test_the_bucket_folder_of_uploaded_files_cannot_be_followed(
    tmp_path: Path, bucket: ObjectStore
) -> None:
    settings = keyed(bucket, files="s3://library/files", database="postgresql://me@host/name")
    async with store_services(tmp_path / "home", **settings) as shop:
        for source in ("s3://library", "s3://library/files", "s3://library/files/blobs"):
            with pytest.raises(InvalidRequest, match="cannot follow it") as caught:
                await shop.stores.create("library", LOCAL, source=source)
            assert caught.value.param == "source"
        await shop.stores.create("library", LOCAL, source="s3://library/filesystem")
