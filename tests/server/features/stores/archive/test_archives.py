"""A store as one file: after export and import, it gives the same answers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.db.stores import StoreRow
from portico_server.features.stores.archive import archives, restore
from portico_server.features.stores.contents import FileToAttach

QUESTIONS = ("when does the harbour open", "hot bread", "雪莲花生长在哪里", "number 17")


async def filled(shop: StoreServices) -> StoreRow:
    store = await shop.stores.create("book", LOCAL, metadata={"shelf": "3"}, description="A book.")
    texts: dict[str, str | bytes] = {
        "harbour.txt": "The harbour opens at six in the morning.",
        "bread.md": "# Bread\n\nBread is baked hot.\n\n## Rest\n\nLet it rest.",
        "雪莲.txt": "雪莲花生长在海拔四千米以上的高山地带。",
        "many.txt": "\n\n".join(f"Paragraph number {i} is about the sea. " * 8 for i in range(40)),
        "broken.pdf": b"%PDF-1.4 nothing else",
    }
    rows = [await shop.upload(name, text) for name, text in texts.items()]
    await shop.stores.contents.attach(
        store, [FileToAttach(row.id, {"n": number}) for number, row in enumerate(rows)], LOCAL
    )
    await shop.settled(store)
    await shop.result(
        (await shop.stores.groups.add(store, "small", chunking={"type": "sentence", "size": 80}))[1]
    )
    await shop.stores.update(store.id, LOCAL, {"vector_weight": 0.4, "app": True, "answers": "quote"})
    return await shop.stores.get(store.id, LOCAL)


async def exported(shop: StoreServices, store: StoreRow, path: Path, *, vectors: bool = True) -> Path:
    with path.open("wb") as file:
        async for piece in shop.stores.portable.export(store, vectors=vectors):
            file.write(piece)
    return path


async def answers(shop: StoreServices, store: StoreRow) -> list[list[tuple[Any, ...]]]:
    results = [(await shop.search(store, question)).passages for question in QUESTIONS]
    return [
        [(p.score, p.filename, p.text, p.place, dict(p.attributes)) for p in passages] for passages in results
    ]


def like(answers: list[list[tuple[Any, ...]]]) -> list[list[tuple[Any, ...]]]:
    """Return the answers in the same order, with approximate scores.

    BM25 counts what an index has not merged away yet, so scores may differ slightly.
    """
    return [[(pytest.approx(score, abs=0.05), *fields) for score, *fields in hits] for hits in answers]


async def test_an_imported_store_answers_as_the_one_that_was_exported(
    shop: StoreServices, tmp_path: Path
) -> None:
    store = await filled(shop)
    answers_before = await answers(shop, store)
    archive = await exported(shop, store, tmp_path / "book.zip")
    async with store_services(tmp_path / "elsewhere") as target_shop:
        restored_store, run = await target_shop.stores.portable.restore(archive, "", LOCAL)
        assert (
            restored_store.name,
            restored_store.description,
            restored_store.metadata,
            restored_store.vector_weight,
            restored_store.answers,
            run,
        ) == (*("book", "A book.", {"shelf": "3"}, 0.4, "quote", None),)
        files = await target_shop.settled(restored_store)
        assert sorted((file.filename, file.status) for file in files) == sorted(
            (file.filename, file.status) for file in await shop.settled(store)
        )
        assert target_shop.model.asked == []
        assert await answers(target_shop, restored_store) == like(answers_before)
        assert [group.name for group in await target_shop.stores.groups.list(restored_store, 4)] == [
            "chunk",
            "small",
        ]
        source = await target_shop.stores.contents.source(restored_store, files[0].file_id)
        assert target_shop.files.holds(source.sha256, source.bytes)


async def test_missing_vectors_are_embedded_again_on_import(shop: StoreServices, tmp_path: Path) -> None:
    store = await filled(shop)
    answers_before = await answers(shop, store)
    archive = await exported(shop, store, tmp_path / "book.zip", vectors=False)
    restored_store, run = await shop.stores.portable.restore(archive, "again", LOCAL)
    assert run is not None
    assert (await shop.result(run))["embedded"] > 0
    await shop.stores.update(restored_store.id, LOCAL, {"vector_weight": 0.4})
    assert await answers(shop, restored_store) == like(answers_before)


async def test_an_import_under_a_taken_name_is_refused_and_stores_nothing(
    shop: StoreServices, tmp_path: Path
) -> None:
    store = await filled(shop)
    archive = await exported(shop, store, tmp_path / "book.zip")
    count_before = await shop.database.read(_count)
    with pytest.raises(Conflict) as error:
        await shop.stores.portable.restore(archive, "", LOCAL)
    assert error.value.code == "name_taken"
    assert await shop.database.read(_count) == count_before
    assert len(await shop.stores.list(LOCAL)) == 1


def _count(connection: Any) -> int:
    from sqlalchemy import func, select

    from portico_server.db.schema import chunks as table

    return int(connection.execute(select(func.count()).select_from(table)).scalar())


def rewritten(archive: Path, to: Path, change: dict[str, Any]) -> Path:
    """Return the archive with other bytes for some entries.

    ``None`` omits an entry; a dict changes the manifest.
    """
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as new:
        for name in [*old.namelist(), *(name for name in change if name not in old.namelist())]:
            data = old.read(name) if name in old.namelist() else b""
            content = change.get(name, data)
            if isinstance(content, dict):
                content = json.dumps({**json.loads(data), **content}).encode()
            if content is not None:
                new.writestr(name, content)
    return to


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"manifest.json": None}, "contains no manifest.json"),
        ({"manifest.json": {"format": "zip"}}, "not a store"),
        ({"manifest.json": {"version": 99}}, "version 99"),
        ({"manifest.json": b"{"}, "manifest.json is damaged"),
        ({"manifest.json": {"chunks": 1}}, "its manifest lists 1"),
        ({"../escape.txt": b"x"}, "contains an unexpected entry"),
        ({"blobs/../../escape": b"x"}, "contains an unexpected entry"),
        ({"chunks.jsonl": b"{}\n"}, "chunks.jsonl does not match the manifest"),
        ({"files.jsonl": None}, "files.jsonl is missing"),
        ({"vectors.bin": b"\x04\x00\x00\x00ab"}, "vectors.bin does not match the manifest"),
    ],
)
async def test_a_malformed_archive_is_refused_with_a_reason(
    shop: StoreServices, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    archive = await exported(shop, await filled(shop), tmp_path / "book.zip")
    malformed_archive = rewritten(archive, tmp_path / "broken.zip", change)
    count_before = await shop.database.read(_count)
    with pytest.raises(InvalidRequest) as error:
        await shop.stores.portable.restore(malformed_archive, "other", LOCAL)
    assert error.value.code == "invalid_archive"
    assert why in error.value.message
    assert await shop.database.read(_count) == count_before
    assert not (tmp_path / "escape.txt").exists()


DEEP = b'{"format":"portico-store","x":[' + b"[]," * 2_000_000 + b"0]}"


def _with_line(archive: Path, to: Path, line: bytes) -> Path:
    """Return the archive with another ``chunks.jsonl`` that its manifest matches."""
    with zipfile.ZipFile(archive) as entries:
        sums = json.loads(entries.read("manifest.json"))["sha256"]
    sums["chunks.jsonl"] = hashlib.sha256(line).hexdigest()
    return rewritten(archive, to, {"chunks.jsonl": line, "manifest.json": {"sha256": sums}})


async def test_an_archive_is_read_in_small_pages_and_too_many_entries_are_refused(
    shop: StoreServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await exported(shop, await filled(shop), tmp_path / "book.zip")
    with closing(await shop.stores.portable.open(path)) as archive:
        page_sizes = [len(page) async for page in restore._pages(archive, archive.chunks())]
        monkeypatch.setattr(restore, "PAGE_BYTES", 1)
        assert [len(page) async for page in restore._pages(archive, archive.chunks())] == [1] * sum(
            page_sizes
        )
    await shop.stores.portable.require_portable(await shop.stores.get("book", LOCAL))
    monkeypatch.setattr(archives, "MAX_STORE_BLOBS", 0)
    with pytest.raises(InvalidRequest, match="an archive can contain at most 0"):
        await shop.stores.portable.require_portable(await shop.stores.get("book", LOCAL))
    monkeypatch.setattr("portico_server.archives.reader.ENTRY_BYTES", 0)
    with pytest.raises(InvalidRequest, match="too many entries"):
        await shop.stores.portable.open(path)


@pytest.mark.slow
async def test_archive_bombs_and_altered_bytes_are_refused(shop: StoreServices, tmp_path: Path) -> None:
    archive = await exported(shop, await filled(shop), tmp_path / "book.zip")
    with zipfile.ZipFile(archive) as entries:
        blob = next(name for name in entries.namelist() if name.startswith("blobs/"))
    bomb = rewritten(archive, tmp_path / "bomb.zip", {f"blobs/{'0' * 64}": b"\0" * 400_000_000})
    for path, reason in (
        (bomb, "unpacks to more than"),
        (rewritten(archive, tmp_path / "other.zip", {blob: b"changed"}), "do not match the manifest"),
        # 6 MB of JSON that would become 130 MB of objects and block everybody while they are created.
        (rewritten(archive, tmp_path / "deep.zip", {"manifest.json": DEEP}), "more than 2,000,000 objects"),
        (
            _with_line(archive, tmp_path / "line.zip", b'{"place":[' + b"[]," * 30_000 + b"0]}\n"),
            "10,000 objects",
        ),
    ):
        with pytest.raises(InvalidRequest) as error:
            await shop.stores.portable.restore(path, "other", LOCAL)
        assert reason in error.value.message
    (tmp_path / "text.zip").write_text("no archive at all")
    with pytest.raises(InvalidRequest):
        await shop.stores.portable.restore(tmp_path / "text.zip", "other", LOCAL)


async def test_an_interrupted_import_is_removed_at_the_next_start(
    shop: StoreServices, tmp_path: Path
) -> None:
    store = await filled(shop)
    archive = await exported(shop, store, tmp_path / "book.zip")

    async def killed(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    async with store_services(tmp_path / "elsewhere") as target_shop:
        restore = target_shop.stores.portable._restore
        restore._finish = killed  # type: ignore[method-assign]
        restore._give_up = lambda *_: _nothing()  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            await target_shop.stores.portable.restore(archive, "", LOCAL)
        assert await target_shop.database.read(_count) > 0
    async with store_services(tmp_path / "elsewhere") as again:
        assert await again.database.read(_count) == 0
        assert [path for path in (tmp_path / "elsewhere" / "blobs").rglob("*") if path.is_file()] == []


async def _nothing() -> None:
    return None


@pytest.mark.slow
def test_export_and_import_work_over_http_and_the_command_line(daemon: Daemon, tmp_path: Path) -> None:
    portico = [str(Path(sys.executable).with_name("portico")), "--url", daemon.url, "stores"]
    out = tmp_path / "handbook.zip"
    result = subprocess.run(
        [*portico, "export", "handbook", str(out), "--json"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["bytes"] == out.stat().st_size
    again = subprocess.run(
        [*portico, "export", "handbook", str(out)], capture_output=True, text=True, timeout=60
    )
    assert (again.returncode, "--overwrite" in again.stderr) == (1, True)
    result = subprocess.run(
        [*portico, "import", str(out), "--name", "copy", "--json"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["name"] == "copy"
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        question = {"query": "Which port does the daemon listen on?"}
        results = [
            http.post(f"/api/stores/{name}/search", json=question).json()["data"]
            for name in ("handbook", "copy")
        ]
        assert [hit["text"] for hit in results[0]] == [hit["text"] for hit in results[1]]
        response = http.post("/api/stores/import", files={"file": ("x.zip", b"no zip")})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_archive")
        assert http.get("/api/stores/nowhere/export").status_code == 404
