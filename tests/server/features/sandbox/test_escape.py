"""Code that tries to escape or to take the host down: every attempt fails, and the next cell works."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.server.features.sandbox.attempts import CONTAINED, REFUSED
from tests.server.features.sandbox.processes import family, gone

from portico_server.features.sandbox import census, local, namespace
from portico_server.features.sandbox.environment import Environment
from portico_server.features.sandbox.local import LocalKernel, LocalSandbox
from portico_server.features.sandbox.protocol import MB, Cell, CellOutcome, SandboxLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = SandboxLimits(seconds=0.8, memory=512 * MB, disk=64 * MB, inodes=5_000)
SECRET = "the-canary-sings"

x86 = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the numbers of system calls in this attempt are those of x86-64"
)
CALLS = {"look into other processes", "mount", "make namespaces", "talk to the kernel"}


@dataclass(frozen=True)
class Host:
    """Parts of the host that no code in the sandbox may touch."""

    canary: Path
    home: Path
    port: int
    socket: Path

    def cell(self, code: str) -> Cell:
        for name in ("canary", "home", "port", "socket"):
            code = code.replace(f"{{{name}}}", str(getattr(self, name)))
        return Cell(code)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("PORTICO_CANARY_KEY", SECRET)
    monkeypatch.setattr(local, "INTERRUPT_TIMEOUT_S", 0.5)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "portico.db").write_text(SECRET, encoding="utf-8")
    canary = tmp_path / "canary"
    canary.write_text(SECRET, encoding="utf-8")
    canary.chmod(0o666)
    path = tmp_path / "door"
    with socket.create_server(("127.0.0.1", 0)) as gateway, socket.socket(socket.AF_UNIX) as unix_socket:
        unix_socket.bind(str(path))
        unix_socket.listen()
        yield Host(canary, tmp_path / "home", gateway.getsockname()[1], path)
    assert canary.read_text(encoding="utf-8") == SECRET
    assert sorted(item.name for item in tmp_path.iterdir()) == ["canary", "door", "home"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(environment: Environment) -> AsyncIterator[LocalKernel]:
    """Yield a kernel beside the misbehaving ones, which must not be affected."""
    kernel = await LocalSandbox(environment).open(replace(LIMITS, seconds=30))
    yield kernel
    await kernel.stop()


def everything(outcome: CellOutcome) -> str:
    return "\n".join([outcome.output, outcome.value or "", outcome.error or "", *outcome.notes])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=x86) if name in CALLS else name for name in REFUSED]
)
async def test_escape_attempts_are_refused_and_the_kernel_stays_usable(
    sandbox: LocalSandbox, host: Host, name: str
) -> None:
    kernel = await sandbox.open(replace(LIMITS, seconds=30))
    try:
        outcome = await kernel.run(host.cell(REFUSED[name]))
        output = everything(outcome)
        assert "refused" in output, output
        assert "ESCAPED" not in output
        assert SECRET not in output
        assert outcome.error is None, output
        assert (await kernel.run(Cell("6 * 7"))).value == "42"
    finally:
        await kernel.stop()


@pytest.mark.parametrize("name", CONTAINED)
async def test_hostile_cells_leak_nothing_and_do_not_affect_other_kernels(
    sandbox: LocalSandbox, neighbour: LocalKernel, host: Host, name: str
) -> None:
    kernel = await sandbox.open(LIMITS)
    try:
        processes = family(kernel._process.pid)
        async with asyncio.timeout(60):
            outcome = await kernel.run(host.cell(CONTAINED[name]))
        assert SECRET not in everything(outcome)
        assert len(everything(outcome)) < 4 * LIMITS.output
        for product in outcome.products:
            assert product.name not in ("", ".", "..") and product.name.isprintable()
            assert "/" not in product.name and SECRET.encode() not in product.data
        if kernel.alive:
            processes += family(kernel._process.pid)
            await kernel.run(Cell("1"))
        assert (await neighbour.run(Cell("6 * 7"))).value == "42"
    finally:
        await kernel.stop()
    assert gone(processes)


async def test_a_kernel_has_no_capabilities_and_a_seccomp_filter(sandbox: LocalSandbox) -> None:
    kernel = await sandbox.open(LIMITS)
    try:
        outcome = await kernel.run(Cell("print(open('/proc/self/status').read())"))
        facts = dict(line.split(":\t", 1) for line in outcome.output.splitlines() if ":\t" in line)
        assert set(facts["Uid"].split()) != {"0"}
        assert (facts["Groups"].strip(), facts["NoNewPrivs"], facts["Seccomp"]) in (
            ("", "1", "2"),
            ("65534", "1", "2"),
        )
        for rights in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(facts[rights], 16) == 0
    finally:
        await kernel.stop()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
async def test_every_jump_of_the_seccomp_filter_stays_within_the_program(machine: str) -> None:
    program = namespace.program(machine)
    steps = [program[start : start + 8] for start in range(0, len(program), 8)]
    returns = 0x06
    for number, step in enumerate(steps):
        code, yes, no = int.from_bytes(step[:2], "little"), step[2], step[3]
        assert number + 1 + max(yes, no) < len(steps) or code == returns
    assert int.from_bytes(steps[-1][:2], "little") == returns


async def test_the_files_of_the_host_are_not_counted_while_a_kernel_begins() -> None:
    not_inside_yet = census.take(os.getpid())
    assert not_inside_yet.processes >= 1
    assert not_inside_yet.inodes == 0
