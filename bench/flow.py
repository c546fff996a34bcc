"""Overhead of a flow beyond the work in it: ``python bench/flow.py [--peers PYTHON] [--database URL]``.

The executor runs with a model that answers at once, so that only our overhead remains: a step of a chain in memory and
in the journal, a warp of functions, parallel sleeps, a resumed run, waiting runs. ``--peers``, the interpreter of an
environment with LangGraph, Haystack or LazyLLM, measures the same with them, alternately. ``--database``, the address
of an empty PostgreSQL database, stores the journal there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from harness import HERE, Report, medians

from portico_server.core import filter as filters
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.request import ChatReply, Request
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.features.flows.flows import Flows
from portico_server.features.sandbox.light import LightSandbox
from portico_server.http.server import new_loop
from portico_server.runs.questions import QuestionService
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog

STEPS = 1_000
ITEMS = 1_000
SLEEPS = 10
NAP = 0.1
WAITING = 1_000
MB = 1024 * 1024

GOALS = {
    "chain in memory, µs a step": 20.0,
    "chain in the journal, µs a step": 150.0,
    "chain in the journal, each step on the disk, µs a step": 2_000.0,
    "warp of 1,000 functions, ms": 10.0,
    "10 sleeps of 0.1 s at once, s": 0.12,
    "taking up 1,000 steps again, s": 0.5,
    "1,000 waiting runs, MB": 50.0,
}


class Instant:
    """A model that answers at once, or after a delay."""

    def __init__(self, name: str, nap: float = 0.0) -> None:
        self.card = Card(name, "model", capabilities=frozenset({"chat"}))
        self._nap = nap

    async def call(self, request: Request, context: Context) -> ChatReply:
        if self._nap:
            await asyncio.sleep(self._nap)
        return ChatReply("x")


class Broken:
    """A model that fails once, so that a run can be resumed."""

    card = Card("broken", "model", capabilities=frozenset({"chat"}))
    failed = False

    async def call(self, request: Request, context: Context) -> ChatReply:
        if not self.failed:
            self.failed = True
            raise InvalidRequest("Not yet.")
        return ChatReply("x")


@dataclass
class House:
    """The parts of a daemon that flows need."""

    flows: Flows
    runner: Runner
    scheduler: Scheduler
    broken: Broken

    async def run(self, step: Any, value: Any = None, durability: str = "off") -> Any:
        """Return the result of a flow."""
        run = await self.begin(step, value, durability)
        return await self.runner.wait(run)

    async def begin(self, step: Any, value: Any = None, durability: str = "off") -> Any:
        spec = {"portico_flow": 1, "name": "bench", "durability": durability, "step": step}
        return await self.flows.begin(await self.flows.read(spec, LOCAL), value, LOCAL)


@asynccontextmanager
async def house(folder: Path, url: str = "") -> AsyncIterator[House]:
    database = Database(url) if url else Database.at(folder / "portico.db")
    database.prepare()
    registry = Registry()
    broken = Broken()
    for model in (Instant("instant"), Instant("sleepy", NAP), broken):
        registry.add(model)
    runner = Runner(registry, UsageLog(database), timeout=600, questions=QuestionService(database))
    scheduler = Scheduler(database, runner)
    light = LightSandbox()
    flows = Flows(database, registry, runner, scheduler, light, filters.parse)
    task = asyncio.create_task(scheduler.run(is_alone=True))
    try:
        yield House(flows, runner, scheduler, broken)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await runner.close()
        await light.close()
        database.close()


def llm(name: str, model: str = "instant") -> dict[str, Any]:
    return {"op": "llm", "name": name, "model": model, "user": "x", "stream": False}


def pipeline(*steps: Any) -> dict[str, Any]:
    return {"op": "pipeline", "name": "p", "steps": list(steps)}


CHAIN = pipeline(*(llm(f"s{n}") for n in range(STEPS)))
CODE = pipeline(*({"op": "code", "source": "lambda x: x"} for _ in range(100)))
WARP = {"op": "warp", "name": "w", "step": {"op": "code", "source": "lambda x: x + 1"}}
NAPS = {"op": "parallel", "name": "n", "steps": [llm(f"s{n}", "sleepy") for n in range(SLEEPS)]}
ONCE_MORE = pipeline(*(llm(f"s{n}") for n in range(STEPS)), llm("last", "broken"))
ASKS = {"op": "approve", "name": "ok", "message": "Go?"}


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    gc.collect()
    begin = time.perf_counter()
    await work()
    return time.perf_counter() - begin


async def begun(made: House, step: Any, durability: str) -> float:
    """Return the seconds from the start of a run, which was parsed and checked before, to its end."""
    spec = {"portico_flow": 1, "name": "bench", "durability": durability, "step": step}
    flow = await made.flows.read(spec, LOCAL)

    run: Any = None

    async def work() -> None:
        nonlocal run
        run = await made.flows.begin(flow, None, LOCAL)
        await made.runner.wait(run)

    taken = await timed(work)
    # The events are written afterwards, and are not part of the next measurement.
    await made.scheduler.wait_for_end(run.id)
    return taken


async def again(made: House) -> float:
    """Return the seconds that a run of 1,000 steps takes to resume after its last step."""
    made.broken.failed = False
    run = await made.begin(ONCE_MORE, None, "normal")
    await asyncio.wait([run.task])
    await made.scheduler.wait_for_end(run.id)
    begin = time.perf_counter()
    await made.flows.resume(run.id, LOCAL)
    while (living := made.runner.get(run.id)) is None or living is run:  # noqa: ASYNC110  # it says nothing when it begins
        await asyncio.sleep(0)
    await made.runner.wait(living)
    return time.perf_counter() - begin


async def waiting(made: House) -> float:
    """Return the memory, in MB, of runs that wait for a person."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    runs = [await made.begin(ASKS, None, "normal") for _ in range(WAITING)]
    while any(run.status != "waiting" for run in runs):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    taken = (psutil.Process().memory_info().rss - before) / MB
    for run in runs:
        await run.cancel()
    return float(taken)


async def ours(rounds: int, database: str = "") -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in GOALS}
    memory, journal, disk, warp, naps, taken, asked = found.values()
    functions = found.setdefault("chain of functions in the sandbox, µs a step", [])
    with tempfile.TemporaryDirectory() as folder:
        async with house(Path(folder), database) as made:
            await made.run(WARP, list(range(10)))  # starts the interpreters
            gc.collect()
            gc.freeze()  # as the daemon does once it serves
            for _ in range(rounds):
                memory.append(await begun(made, CHAIN, "off") / STEPS * 1e6)
                journal.append(await begun(made, CHAIN, "normal") / STEPS * 1e6)
                disk.append(await begun(made, CHAIN, "full") / STEPS * 1e6)
                warp.append(await timed(lambda: made.run(WARP, list(range(ITEMS)))) * 1e3)
                naps.append(await timed(lambda: made.run(NAPS)))
                taken.append(await again(made))
                functions.append(await timed(lambda: made.run(CODE)) / 100 * 1e6)
            asked.append(await waiting(made))
    return found


def theirs(python: str, peer: str) -> dict[str, float] | str:
    """Return the measurements of ``flow_peer.py``, or why it could not run."""
    command = [python, str(HERE / "flow_peer.py"), peer]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:100]
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", help="the Python of an environment with the others in it")
    parser.add_argument(
        "--database", default="", help="postgresql://USER@HOST/NAME in place of a SQLite file"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=new_loop) as runner:  # the daemon's event loop
        measured = medians(runner.run(ours(options.rounds, options.database)))
    peers = ("langgraph", "haystack", "lazyllm") if options.peers else ()
    others = {peer: theirs(options.peers, peer) for peer in peers}
    report = Report("Flows", ("what", "goal", "portico", *peers))
    for name, value in measured.items():
        row = {peer: found.get(name) for peer, found in others.items() if isinstance(found, dict)}
        report.add(what=name, goal=GOALS.get(name), portico=value, **row)
    for peer, found in others.items():
        if isinstance(found, str):
            report.notes[peer] = found
    report.show(options.json)


if __name__ == "__main__":
    main()
