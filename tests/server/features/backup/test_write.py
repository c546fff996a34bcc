"""A backup taken while the daemon is written to, and the home restored from it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import api_server
from tests.client.cli.conftest import Command
from tests.daemon import Daemon, environment, running
from tests.kills import count_kills

from portico import AsyncClient, Client
from portico.errors import Conflict, ConnectionLost, Forbidden
from portico_server import home_replacement
from portico_server.archives.stream import BLOCK_BYTES
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.features.backup import layout
from portico_server.features.backup.staging import exclusive
from portico_server.features.backup.write import check_here
from portico_server.runs.artifacts import NewArtifact
from portico_server.settings import load

KILLS = count_kills(1)

QUESTIONS = ("which port does the lighthouse listen on", "how long is bread baked", "雪莲花生长在哪里")
FLOW = {"step": {"op": "llm", "model": "echo"}}
THINGS: dict[str, Any] = {
    "apps": [{"name": "twice", "flow": FLOW, "durability": "normal"}],
    "agents": [{"name": "clerk", "model": "echo", "tools": ["calculator"]}],
}


def restored(archive: Path, home: Path, *more: str) -> dict[str, Any]:
    """Run ``restore`` in a separate process and return its final output."""
    done = subprocess.run(
        [sys.executable, "-m", "portico_server", "restore", str(archive), "--home", str(home), *more],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


async def upload(client: AsyncClient, number: int) -> str:
    text = f"Note {number} is about the harbour and the number {number * 7919}."
    return (await client.files.add(text.encode(), filename=f"note-{number}.txt")).id


async def write_and_remove(client: AsyncClient, enough: asyncio.Event) -> None:
    """Add and remove files, each with its own bytes, until ``enough`` is set."""
    file_ids: list[str] = []
    for number in itertools.count(1000):
        file_ids.append(await upload(client, number))
        await client.apps.run("twice", "busy")
        if len(file_ids) > 5:
            await client.files.remove(file_ids.pop(0))
        if enough.is_set():
            return


async def known(client: AsyncClient) -> dict[str, Any]:
    """Return a daemon's answers to the same questions."""
    return {
        "stores": [(store.name, store.file_counts.completed) for store in await client.stores.list()],
        "found": [
            [
                (passage.filename, passage.text)
                for passage in (await client.search("handbook", question)).passages
            ]
            for question in QUESTIONS
        ],
        "keys": [(key.id, key.name, tuple(key.scopes)) for key in await client.keys.list()],
        "apps": sorted(app.name for app in await client.apps.list()),
        "prompts": [(prompt.name, prompt.version) for prompt in await client.prompts.list()],
        "sessions": [session.name for session in await client.sessions.list()],
    }


@pytest.mark.slow
async def test_a_backup_under_load_is_restored_completely_in_a_new_home(
    daemon: Daemon, settled: Path, tmp_path: Path
) -> None:
    archive, home = tmp_path / "backup.zip", tmp_path / "restored"
    async with AsyncClient(daemon.url) as client:
        await client.apply(THINGS)
        await client.prompts.save("greet", messages=[{"role": "user", "content": "Hello"}])
        key = await client.keys.add("website", ["chat", "stores:*:read"])
        await client.apps.run("clerk", "What is 2 + 2?", session="monday")
        assert await client.apps.run("twice", "once") is not None
        state_before = await known(client)
        runs = {run.id for run in await client.runs.list() if run.name == "twice"}
        assert runs
        first = {await upload(client, number) for number in range(5)}
        stop_event = asyncio.Event()
        load = [asyncio.create_task(write_and_remove(client, stop_event)) for _ in range(3)]
        try:
            for number in range(4):
                done = await client.backup(archive.with_suffix(f".{number}"))
                assert (done.missing, done.bytes) == (0, archive.with_suffix(f".{number}").stat().st_size)
        finally:
            stop_event.set()
            await asyncio.gather(*load)
    for number in range(4):
        report = restored(archive.with_suffix(f".{number}"), home / str(number))
        assert (report["restored"], report["missing"]) == (True, 0)
    with running(home / "3", "--file", str(settled / "test.yaml")) as again:
        again.settle()
        async with AsyncClient(again.url) as client:
            assert await known(client) == state_before
            assert runs <= {run.id for run in await client.runs.list(limit=500)}
            files = {file.id for file in await client.files.list()}
            assert first <= files
            for file in files:
                assert (await client.files.content(file)).startswith(b"Note "), "its bytes came along"
        async with AsyncClient(again.url, key.key) as website:
            assert (await website.search("handbook", QUESTIONS[0])).passages


async def test_only_an_admin_may_take_a_backup_and_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    async with api_server(tmp_path / "home", require_key=True, api_key="pk-admin-0123456789") as server:
        _row, secret = await server.auth.create("reader", ["chat", "stores:*:manage"])
        async with AsyncClient(server.url, secret) as reader:
            with pytest.raises(Forbidden):
                await reader.backup(tmp_path / "no.zip")
            with pytest.raises(Forbidden):
                await reader.vacuum()
        async with AsyncClient(server.url, "pk-admin-0123456789") as admin:
            with (
                exclusive(tmp_path / "home"),
                pytest.raises(Conflict, match="Another backup of this home folder is running"),
            ):
                await admin.backup(tmp_path / "no.zip")
            assert not [name for name in os.listdir(tmp_path) if name.startswith("no.zip")]
            assert (await admin.backup(tmp_path / "yes.zip")).missing == 0
        assert stat.S_IMODE((tmp_path / "yes.zip").stat().st_mode) == 0o600
        assert not (tmp_path / "home" / home_replacement.STAGING).exists()


@pytest.mark.slow
async def test_artifacts_and_adapters_come_along_and_missing_bytes_are_counted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with api_server(home) as server:
        context = type("Author", (), {"caller": LOCAL, "run": "run_1"})()
        [figure, second_artifact] = await server.services.artifacts.keep(
            [
                NewArtifact("figure.svg", "image/svg+xml", b"<svg/>"),
                NewArtifact("gone.txt", "text/plain", b"gone"),
            ],
            context,
        )
        lost_artifact = await server.services.artifacts.get(second_artifact.id, LOCAL)
        (home / layout.artifact(lost_artifact.sha256)).unlink()
        (home / "adapters" / "abc").mkdir(parents=True)
        (home / "adapters" / "abc" / "weights.bin").write_bytes(bytes(3 * BLOCK_BYTES))
        (home / "models").mkdir(exist_ok=True)
        (home / "models" / "small.gguf").write_bytes(b"GGUF")
        async with AsyncClient(server.url) as client:
            byte_counts: list[int] = []
            done = await client.backup(tmp_path / "without.zip", told=byte_counts.append)
            assert byte_counts[-1] == done.bytes
            assert done.missing == 1
            await client.backup(tmp_path / "with.zip", models=True)
    report = restored(tmp_path / "without.zip", tmp_path / "new")
    assert (report["missing"], report["models"]) == (1, False)
    assert not (tmp_path / "new" / "models").exists()
    assert (tmp_path / "new" / "adapters" / "abc" / "weights.bin").stat().st_size == 3 * BLOCK_BYTES
    assert restored(tmp_path / "with.zip", tmp_path / "full")["models"] is True
    assert (tmp_path / "full" / "models" / "small.gguf").read_bytes() == b"GGUF"
    async with api_server(tmp_path / "new") as server:
        assert await server.services.artifacts.read(figure.id, LOCAL) == b"<svg/>"


async def test_a_file_that_is_removed_while_its_backup_is_sent_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    async with api_server(tmp_path / "home") as server, AsyncClient(server.url) as client:
        large = await client.files.add(bytes(range(256)) * 4096 * 12, filename="large.bin")
        async with server.client.stream("GET", "/api/backup") as answer:
            with (tmp_path / "b.zip").open("wb") as out:
                blocks = answer.aiter_raw(1024)
                out.write(await anext(blocks))
                await client.files.remove(large.id)
                async for block in blocks:
                    out.write(block)
    assert restored(tmp_path / "b.zip", tmp_path / "new")["missing"] == 0
    async with api_server(tmp_path / "new") as server, AsyncClient(server.url) as client:
        assert len(await client.files.content(large.id)) == 256 * 4096 * 12


@pytest.mark.timeout(300 + 30 * KILLS)
async def test_a_daemon_that_is_killed_while_it_sends_leaves_nothing_behind(tmp_path: Path) -> None:
    home, dice = tmp_path / "home", random.Random(48)
    with running(home) as daemon, Client(daemon.url) as client:
        client.files.add(dice.randbytes(6 * BLOCK_BYTES), filename="large.bin")
    for _ in range(KILLS):
        # What is still to be sent by then does not fit into the buffers of the connection.
        end = dice.randrange(2 * BLOCK_BYTES)
        with running(home) as daemon:
            assert not (home / home_replacement.STAGING).exists()
            async with AsyncClient(daemon.url) as sender:

                def kill(size: int, end: int = end, daemon: Daemon = daemon) -> None:
                    if size > end:
                        daemon.process.send_signal(signal.SIGKILL)

                with pytest.raises(ConnectionLost):
                    await sender.backup(tmp_path / "b.zip", told=kill)
        assert not [name for name in os.listdir(tmp_path) if name.startswith("b.zip")]
        assert (home / home_replacement.STAGING).is_dir(), "it was killed while it held a copy"
    with running(home) as again:
        assert not (home / home_replacement.STAGING).exists()
        with Client(again.url) as blocking:
            assert blocking.backup(tmp_path / "b.zip").missing == 0
            assert [file.filename for file in blocking.files.list()] == ["large.bin"]


@pytest.mark.slow
def test_a_home_is_backed_up_restored_and_vacuumed_by_commands_without_a_daemon(
    command: Command, settled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PORTICO_URL")
    home, new, archive = tmp_path / "home", tmp_path / "new", tmp_path / "b.zip"
    shutil.copytree(settled / "data", home)
    monkeypatch.setenv("PORTICO_HOME", str(home))
    assert command("backup", str(archive), "--json").json["missing"] == 0
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert "--overwrite" in command("backup", str(archive)).err
    assert command("backup", str(archive), "--overwrite").code == 0
    preview = command("restore", str(archive), "--home", str(new), "--dry-run")
    assert "portico.db" in preview.out and "Would restore" in preview.out
    assert not new.exists() or not list(new.iterdir())
    assert command("restore", str(archive), "--home", str(new), "--json").json["restored"] is True
    for dry_run in ((), ("--dry-run",)):
        refusal = command("restore", str(archive), "--home", str(new), *dry_run, "--json")
        assert json.loads(refusal.err)["error"]["code"] == "home_not_empty"
    aside = Path(command("restore", str(archive), "--home", str(new), "--replace", "--json").json["aside"])
    assert (aside / "portico.db").is_file() and aside.parent == new
    assert command("vacuum", "--home", str(new), "--json").json["freed"] == 0
    assert json.loads(command("vacuum", "--home", str(tmp_path / "none"), "--json").err)["error"]["code"] == (
        "home_not_found"
    )


@pytest.mark.slow
def test_backup_commands_use_the_running_daemon_of_a_home_and_restore_is_refused(
    command: Command, settled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PORTICO_URL")
    home, archive = tmp_path / "home", tmp_path / "b.zip"
    shutil.copytree(settled / "data", home)
    with running(home, "--file", str(settled / "test.yaml")) as daemon:
        assert command("backup", str(archive), "--home", str(home), "--json").json["missing"] == 0
        assert command("vacuum", "--home", str(home)).code == 0
        for replace in ((), ("--replace",), ("--dry-run",), ("--replace", "--dry-run")):
            done = command("restore", str(archive), "--home", str(home), *replace, "--json")
            assert json.loads(done.err)["error"]["code"] == "home_in_use"
        # Act as if its note were stale: the lock still says that it runs.
        (home / "daemon.json").write_text(json.dumps({"pid": 1, "url": "http://127.0.0.1:9"}))
        done = command("backup", str(archive), "--overwrite", "--home", str(home), "--json")
        assert json.loads(done.err)["error"]["code"] == "home_in_use"
        with Client(daemon.url) as client:
            assert client.status().stores


def test_backing_up_an_external_database_is_refused_with_advice_to_use_pg_dump() -> None:
    settings = load(flags={"database": "postgresql://me@host/name"}, environment={}).settings
    with pytest.raises(InvalidRequest, match="pg_dump") as caught:
        check_here(settings)
    assert caught.value.code == "database_elsewhere"


def test_every_entry_of_a_home_is_either_backed_up_or_known_to_be_derived(daemon: Daemon) -> None:
    database_entries = {
        layout.DATABASE,
        f"{layout.DATABASE}-wal",
        f"{layout.DATABASE}-shm",
        layout.BLOBS,
        layout.ARTIFACTS,
    }
    accounted = {
        *database_entries,
        *layout.FOLDERS,
        layout.MODELS,
        *layout.DERIVED,
        *home_replacement.TRANSIENT,
    }
    assert {path.name for path in daemon.home.iterdir()} - accounted == set(), (
        "a new entry of the home: name it in features/backup/layout.py and in docs/configuration.md"
    )
