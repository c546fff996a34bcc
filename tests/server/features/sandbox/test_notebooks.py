"""Notebooks in use: cells, sessions, figures and files."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from tests.server.features.sandbox.processes import gone

from portico_server.blobs.place import FolderBlobs
from portico_server.core.errors import TooMany, Unavailable
from portico_server.db.database import Database
from portico_server.features.sandbox import census, local, namespace, worker
from portico_server.features.sandbox.containers import ContainerService
from portico_server.features.sandbox.environment import Environment
from portico_server.features.sandbox.local import LocalSandbox
from portico_server.features.sandbox.notebooks import Notebooks
from portico_server.features.sandbox.protocol import (
    MB,
    Cell,
    CellOutcome,
    Kernel,
    Product,
    Report,
    SandboxLimits,
)
from portico_server.features.skills.library import SkillLibrary
from portico_server.features.tools.builtin import code_interpreter
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore
from portico_server.runs.quotas import StorageQuota

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = SandboxLimits(seconds=30, memory=512 * MB)
ME = "key_me"


async def quiet(_message: str) -> None:
    """Ignore progress messages."""


def opened(
    environment: Environment, limits: SandboxLimits = LIMITS, *, most: int = 3, idle: float = 60
) -> Notebooks:
    return Notebooks(LocalSandbox(environment), limits, limit=most, idle=idle)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def notebooks(environment: Environment) -> AsyncIterator[Notebooks]:
    open_notebooks = opened(environment)
    yield open_notebooks
    await open_notebooks.close()


async def test_a_session_remembers_and_a_call_without_one_does_not(notebooks: Notebooks) -> None:
    await notebooks.run(ME, "s", Cell("x = 41"), quiet)
    assert (await notebooks.run(ME, "s", Cell("x + 1"), quiet)).value == "42"
    assert "NameError" in str((await notebooks.run(ME, None, Cell("x"), quiet)).error)
    # Another caller's session with the same name is a different session.
    assert "NameError" in str((await notebooks.run("key_other", "s", Cell("x"), quiet)).error)


async def test_output_of_print_processes_and_stderr_is_returned_in_order(notebooks: Notebooks) -> None:
    code = "import os, sys\nprint('one')\nos.system('echo two')\nprint('三', file=sys.stderr)\nprint('four', end='')"
    assert (await notebooks.run(ME, "s", Cell(code), quiet)).output == "one\ntwo\n三\nfour"


async def test_figures_and_changed_files_are_returned_once(notebooks: Notebooks) -> None:
    plot = (
        "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()\nopen('a.csv', 'w').write('x,y');"
    )
    first = await notebooks.run(ME, "plot", Cell(plot), quiet)
    assert [product.name for product in first.products] == ["figure-1.png", "a.csv"]
    assert first.products[0].data.startswith(b"\x89PNG") and first.products[1].data == b"x,y"
    assert (await notebooks.run(ME, "plot", Cell("1"), quiet)).products == ()
    second = await notebooks.run(ME, "plot", Cell("open('a.csv', 'a').write('!');"), quiet)
    assert [product.data for product in second.products] == [b"x,y!"]


async def test_uploaded_files_can_be_read_and_are_not_returned_as_products(notebooks: Notebooks) -> None:
    cell = Cell("import pandas\nint(pandas.read_csv('t.csv')['n'].sum())", {"t.csv": b"n\n1\n2\n"})
    done = await notebooks.run(ME, "files", cell, quiet)
    assert (done.value, done.products) == ("3", ())


async def test_skills_can_be_read_and_run_but_not_written(notebooks: Notebooks) -> None:
    script = b"import sys\nprint('ran', sys.argv[1])"
    skill_files = {"one": {"SKILL.md": b"---", "scripts/run.py": script}, "two": {"SKILL.md": b"2"}}
    code = "!python /skills/one/scripts/run.py now\n!ls /skills; touch /skills/x /skills/one/SKILL.md"
    done = await notebooks.run(ME, "skilled", Cell(code, skills=skill_files), quiet)
    assert done.output.split()[:4] == ["ran", "now", "one", "two"]
    assert done.output.count("Read-only file system") + done.output.count("Permission denied") == 2
    again = await notebooks.run(
        ME,
        "skilled",
        Cell("open('/skills/two/SKILL.md').read()", skills={"two": {"SKILL.md": b"new"}}),
        quiet,
    )
    assert (again.value, done.products) == ("'new'", ())
    foreign_outcome = await notebooks.run(
        "key_other", "skilled", Cell("import os; os.listdir('/skills')"), quiet
    )
    assert foreign_outcome.value == "[]"


async def test_files_over_the_size_or_count_limit_are_skipped_with_a_note(environment: Environment) -> None:
    small_notebooks = opened(environment, replace(LIMITS, artifacts=1 * MB, artifact_count=2))
    try:
        code = "open('big', 'wb').write(bytes(2 * 2**20))\nfor n in 'abc': open(n, 'w').write(n)"
        done = await small_notebooks.run(ME, None, Cell(code), quiet)
        assert [product.name for product in done.products] == ["a", "b"]
        assert len(done.notes) == 2 and "'big'" in done.notes[1 - ("'c'" not in done.notes[0])]
    finally:
        await small_notebooks.close()


async def test_a_cell_that_takes_too_long_is_stopped_and_the_session_stays(environment: Environment) -> None:
    open_notebooks = opened(environment, replace(LIMITS, seconds=0.3))
    try:
        await open_notebooks.run(ME, "s", Cell("x = 1"), quiet)
        late = await open_notebooks.run(ME, "s", Cell("x = 2\nwhile True: pass"), quiet)
        assert "KeyboardInterrupt" in str(late.error)
        assert "stopped after 0.3 s" in late.notes[0]
        assert (await open_notebooks.run(ME, "s", Cell("x"), quiet)).value == "2"
    finally:
        await open_notebooks.close()


async def test_a_cancelled_call_stops_its_cell_and_keeps_the_session(notebooks: Notebooks) -> None:
    await notebooks.run(ME, "left", Cell("x = 7"), quiet)
    running = asyncio.create_task(notebooks.run(ME, "left", Cell("import time\ntime.sleep(600)"), quiet))
    for _ in range(20):
        await asyncio.sleep(0)  # until the cell has been sent
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await notebooks.run(ME, "left", Cell("x"), quiet)).value == "7"


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        (replace(LIMITS, processes=16), "import os\nwhile True: os.fork()", ""),
        (
            replace(LIMITS, memory=64 * MB),
            "import os, time\nfor _ in range(9):\n  if os.fork() == 0:\n    x = b'x' * 50 * 2**20\n    time.sleep(60)\n"
            "time.sleep(60)",
            "used more than 64 MB",
        ),
        (
            replace(LIMITS, inodes=100),
            "import time\nfor n in range(999): open(f'/tmp/{n}', 'w')\ntime.sleep(60)",
            "created more than 100 files",
        ),
    ],
    ids=["processes", "memory", "files"],
)
async def test_a_kernel_over_its_process_memory_or_file_limit_is_ended(
    environment: Environment, limits: SandboxLimits, code: str, words: str
) -> None:
    open_notebooks = opened(environment, limits)
    try:
        done = await open_notebooks.run(ME, "s", Cell(code), quiet)
        assert words in str(done.error)
        assert (await open_notebooks.run(ME, "s", Cell("6 * 7"), quiet)).value == "42"
    finally:
        await open_notebooks.close()


async def test_there_are_never_more_kernels_than_allowed(environment: Environment) -> None:
    open_notebooks = opened(environment, most=1)
    try:
        await open_notebooks.run(ME, "old", Cell("x = 1"), quiet)
        # The idle session makes room for the new one.
        assert (await open_notebooks.run(ME, "new", Cell("1"), quiet)).value == "1"
        assert "NameError" in str((await open_notebooks.run(ME, "old", Cell("x"), quiet)).error)
        busy = asyncio.create_task(open_notebooks.run(ME, "old", Cell("import time\ntime.sleep(600)"), quiet))
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(TooMany, match="notebooks"):
            await open_notebooks.run(ME, "third", Cell("1"), quiet)
        busy.cancel()
        await asyncio.wait([busy])
    finally:
        await open_notebooks.close()


async def test_an_idle_kernel_is_ended_after_the_idle_time(environment: Environment) -> None:
    open_notebooks = opened(environment, idle=1.0)
    pids_before = {child.pid for child in psutil.Process().children()}
    try:
        await open_notebooks.run(ME, "s", Cell("1"), quiet)
        ours = [child for child in psutil.Process().children() if child.pid not in pids_before]
        kernels = [child for child in ours if child.name() == "bwrap"]
        assert kernels
        _ended, alive = await asyncio.to_thread(psutil.wait_procs, kernels, 60)
        assert not alive
    finally:
        await open_notebooks.close()


async def test_calls_after_notebooks_are_closed_are_refused(environment: Environment) -> None:
    open_notebooks = opened(environment)
    await open_notebooks.run(ME, "s", Cell("1"), quiet)
    await open_notebooks.close()
    with pytest.raises(Unavailable):
        await open_notebooks.run(ME, "s", Cell("1"), quiet)


async def test_missing_packages_in_offline_mode_are_an_error(tmp_path: Path) -> None:
    environment = Environment(tmp_path, offline=True)
    offline_notebooks = Notebooks(LocalSandbox(environment), LIMITS, limit=1, idle=60)
    with pytest.raises(Unavailable, match="offline"):
        await offline_notebooks.run(ME, None, Cell("1"), quiet)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("complaint", "words"),
    [
        (
            "bwrap: No permissions to create new namespace",
            "bubblewrap cannot create a sandbox on this machine",
        ),
        ("bwrap: Unknown option --disable-userns", "0.8 or newer"),
    ],
)
async def test_a_bubblewrap_failure_is_explained_with_a_remedy(
    complaint: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "_try", lambda: complaint)
    assert words in str(namespace.missing())


async def test_a_missing_bubblewrap_is_reported_with_its_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install bubblewrap" in str(namespace.missing())


async def test_the_tool_without_bubblewrap_returns_the_reason_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    database = Database.at(tmp_path / "portico.db")
    environment = Environment(tmp_path / "environments")
    blocked_notebooks = Notebooks(LocalSandbox(environment), LIMITS, limit=1, idle=60)
    artifacts, skills = (
        ArtifactStore(database, FolderBlobs(database, tmp_path, ARTIFACT_BLOBS)),
        SkillLibrary(database, StorageQuota()),
    )
    containers = ContainerService(database, blocked_notebooks, artifacts, skills, StorageQuota(), 1_024)
    tool = code_interpreter.tool(containers, artifacts, skills, LIMITS)
    result = await tool.work({"code": "1"}, None)  # type: ignore[arg-type]
    assert result.is_error and "nothing runs outside a sandbox" in result.text
    assert not environment.path.exists()
    database.close()


async def test_a_kernel_that_cannot_start_says_why(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_path = tmp_path / "worker.py"
    worker_path.write_text("raise SystemExit('no worker today')", encoding="utf-8")
    os.chmod(tmp_path, 0o755)
    monkeypatch.setattr(namespace, "WORKER", worker_path)
    with pytest.raises(Unavailable, match="no worker today"):
        await LocalSandbox(environment).open(LIMITS)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.002, 0.004, 0.008, 0.03])
async def test_a_kernel_that_times_out_at_start_leaves_no_processes(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    orphans_before = _orphans()
    monkeypatch.setattr(local, "START_TIMEOUT_S", seconds)
    with pytest.raises(Unavailable, match="not ready within"):
        await LocalSandbox(environment).open(LIMITS)
    for pid in _orphans() - orphans_before:
        with contextlib.suppress(ProcessLookupError):
            assert gone([os.pidfd_open(pid)])


def _orphans() -> set[int]:
    """Return the running bubblewrap processes that no process waits for."""
    process_ids = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "bwrap" and process.ppid() == 1 and process.status() != psutil.STATUS_ZOMBIE:
                process_ids.add(process.pid)
    return process_ids


class Elsewhere:
    """A sandbox on another machine: it needs neither bubblewrap nor packages here, and echoes the request."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.stopped = 0

    def missing(self) -> str | None:
        return None

    async def prepare(self, report: Report) -> None:
        self.told.append("prepare")

    async def open(self, limits: SandboxLimits) -> Kernel:
        self.told.append(f"open, {limits.seconds:g} s")
        return _There(self)


class _There:
    def __init__(self, place: Elsewhere) -> None:
        self._place = place
        self._cells = 0
        self.alive = True

    async def run(self, cell: Cell) -> CellOutcome:
        self._cells += 1
        return CellOutcome(value=f"{self._cells}: {cell.code}", products=[Product("a.txt", b"made there")])

    async def stop(self) -> None:
        self.alive = False
        self._place.stopped += 1


async def test_notebooks_work_with_a_sandbox_on_another_machine() -> None:
    place = Elsewhere()
    remote_notebooks = Notebooks(place, LIMITS, limit=2, idle=60)
    assert await remote_notebooks.missing() is None
    assert [(await remote_notebooks.run(ME, "s", Cell(code), quiet)).value for code in ("x", "y")] == [
        "1: x",
        "2: y",
    ]
    outcome = await remote_notebooks.run(ME, None, Cell("z"), quiet)
    assert outcome.value == "1: z" and outcome.products[0].data == b"made there"
    await remote_notebooks.close()
    assert set(place.told) == {"prepare", "open, 30 s"} and place.stopped == place.told.count("open, 30 s")


class _Reluctant(_There):
    """A kernel that does not end by itself."""

    def __init__(self, place: Elsewhere, stopping: asyncio.Event) -> None:
        super().__init__(place)
        self._stopping = stopping

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.Event().wait()


async def test_closing_notebooks_does_not_wait_for_an_idle_kernel_that_will_not_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, stopping = Elsewhere(), asyncio.Event()
    idle_notebooks = Notebooks(place, LIMITS, limit=2, idle=0.1)
    await idle_notebooks.run(ME, "s", Cell("x"), quiet)

    async def reluctant(limits: SandboxLimits) -> Kernel:
        return _Reluctant(place, stopping)

    monkeypatch.setattr(place, "open", reluctant)
    await idle_notebooks.run(
        ME, None, Cell("y"), quiet
    )  # uses the spare kernel; the next spare kernel is of the other kind
    async with asyncio.timeout(60):
        await stopping.wait()
        await idle_notebooks.close()


async def test_watching_a_kernel_does_not_accumulate_futures(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: asyncio.Queue[int] = asyncio.Queue()
    loop, real = asyncio.get_running_loop(), census.take

    def take(pid: int) -> census.Census:
        loop.call_soon_threadsafe(looks.put_nowait, pid)
        return real(pid)

    async def futures(after: int) -> int:
        for _ in range(after):
            await looks.get()
        gc.collect()
        return sum(isinstance(item, asyncio.Future) for item in gc.get_objects())

    monkeypatch.setattr(local, "WATCH_INTERVAL_S", 0.001)
    monkeypatch.setattr(local, "take", take)
    kernel = await LocalSandbox(environment).open(LIMITS)
    try:
        count_before = await futures(5)
        assert await futures(60) < count_before + 30
    finally:
        await kernel.stop()


async def test_one_caller_uses_at_most_half_of_the_kernels_and_none_once_revoked(
    environment: Environment,
) -> None:
    open_notebooks = opened(environment, most=2)
    try:
        await open_notebooks.run("other", "s", Cell("x = 41"), quiet)
        await open_notebooks.run(ME, "a", Cell("1"), quiet)
        await open_notebooks.run(ME, "b", Cell("1"), quiet)  # in place of its own kernel
        assert (await open_notebooks.run(ME, "b", Cell("y = 1"), quiet)).error is None
        await open_notebooks.revoke(ME)
        assert "NameError" in str((await open_notebooks.run(ME, "b", Cell("y"), quiet)).error)
        assert (await open_notebooks.run("other", "s", Cell("x + 1"), quiet)).value == "42"
        await open_notebooks.run("operator", "c", Cell("1"), quiet, is_whole=True)
        await open_notebooks.run("operator", "d", Cell("1"), quiet, is_whole=True)
    finally:
        await open_notebooks.close()


async def test_files_with_odd_names_and_kinds_do_not_break_a_session(notebooks: Notebooks) -> None:
    outcome = await notebooks.run(
        ME,
        "names",
        Cell(
            "import os\n"
            "for name in (b'b\\xff.txt', 'a\\nb.txt', 'r\\u202etxt.exe', ' '): open(name, 'w').write('x')\n"
            "os.symlink('/etc/passwd', 'link.txt'); os.mkfifo('pipe'); os.symlink('.', 'loop')\n"
            "kept = 7"
        ),
        quiet,
    )
    assert outcome.error is None
    assert {product.name for product in outcome.products} == {"b?.txt", "ab.txt", "rtxt.exe", "file"}
    again = await notebooks.run(ME, "names", Cell("os.remove(b'b\\xff.txt'); kept"), quiet)
    assert (again.value, again.gone) == ("7", ("b?.txt",))


async def test_files_changed_after_listing_are_skipped_with_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WORK", tmp_path)
    folder = worker.Folder(limit=100, count=10)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "grown").write_bytes(b"x" * 1_000)
    (tmp_path / "kept").write_bytes(b"x" * 5)
    listing = [(name, (1, 5)) for name in ("gone", "grown", "kept", "link", "pipe")]
    monkeypatch.setattr(folder, "_look", lambda: iter(listing))
    products, notes = folder.take([])
    assert [product["name"] for product in products] == ["kept"]
    assert len(notes) == 4
