"""Cost of an agent's turn beyond its model, compared with LangGraph and Lagent: ``python bench/agent.py``.

The model answers at once, so the benchmark measures everything around it: the run, reading and writing the session,
and building the messages from it. Each session has twenty turns. Goals: ≤2 ms in memory and ≤4 ms with the session
stored (p50), a thousand sessions at once with nothing lost or mixed, ≤20 ms for loading a session of 1,000 messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

from harness import HERE, Report

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.facts import FactStore
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, ChatReply, Request
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.features.agents import read
from portico_server.features.agents.app import AgentApps
from portico_server.features.agents.message import AgentMessage
from portico_server.features.agents.sessions import AgentSessions
from portico_server.features.agents.spec import AgentSpec
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.skills.library import SkillLibrary
from portico_server.features.stores.tool_search import ToolIndex
from portico_server.runs.quotas import StorageQuota
from portico_server.runs.runner import Runner
from portico_server.runs.usage import UsageLog

TURNS = 20
SESSIONS = 1000
LONG = 1000
GOALS = {"memory": 2.0, "stored": 4.0, "load": 20.0}


class Instant:
    """A model that answers at once with the number of messages that it received."""

    card = Card("instant", "model", capabilities=frozenset({"chat"}))

    async def call(self, request: Request, context: Context) -> ChatReply:
        assert isinstance(request, Chat)
        return ChatReply(
            f"{request.messages[-1]['content']} after {len(request.messages)}", usage=Usage(1, 1)
        )


class NoFacts:
    """A fact store that contains no facts: none of these agents has any."""

    async def add(self, *_arguments: object) -> None: ...


class Bench:
    """Agents with their own database."""

    def __init__(self, database: Database) -> None:
        registry = Registry()
        registry.add(Instant())
        self.runner = Runner(registry, UsageLog(database), timeout=60)
        self.sessions = AgentSessions(database, registry)
        self.light = LightSandbox()
        self.agents = AgentApps(
            registry,
            self.runner,
            self.light,
            self.sessions,
            cast("FactStore", NoFacts()),
            ToolIndex(registry),
            SkillLibrary(database, StorageQuota()),
        )
        self.spec: AgentSpec = read.agent(
            {"portico_agent": 1, "model": "instant", "instructions": "Be brief."}
        )

    async def say(self, text: str, session: str | None) -> None:
        kept = None if session is None else ("bench", session)
        run = await self.agents.begin(self.spec, AgentMessage("user", text), LOCAL, session=kept)
        await self.runner.wait(run)


async def turns(say: Callable[[int, int], Awaitable[None]], sessions: int) -> list[float]:
    """Return the milliseconds of each turn; turns run one after another."""
    taken: list[float] = []
    for session in range(sessions):
        for turn in range(TURNS):
            begun = time.perf_counter()
            await say(session, turn)
            taken.append((time.perf_counter() - begun) * 1e3)
    return taken


async def loads(bench: Bench) -> list[float]:
    """Return the milliseconds for reading the memory of a long session."""
    row = await bench.sessions.open("bench", "long", LOCAL)
    said = [{"sender": "user" if n % 2 else "agent", "content": f"Message {n}. " * 10} for n in range(LONG)]
    await bench.sessions.load_state_dict(row.id, LOCAL, {"memory": said})
    taken: list[float] = []
    for _ in range(15):
        begun = time.perf_counter()
        async with bench.sessions.turn(("", "bench"), "long", LOCAL) as session:
            assert len(await session.memory("")) == LONG
        taken.append((time.perf_counter() - begun) * 1e3)
    return taken


async def crowd(bench: Bench) -> tuple[float, int]:
    """Return the turns per second in a thousand concurrent sessions, and the number of messages lost or mixed up."""
    begun = time.perf_counter()
    for turn in range(2):
        await asyncio.gather(*(bench.say(f"{n}.{turn}", f"crowd {n}") for n in range(SESSIONS)))
    rate = 2 * SESSIONS / (time.perf_counter() - begun)
    wrong = 0
    for row in (await bench.sessions.list(LOCAL, app="bench", limit=3 * SESSIONS)).data:
        if row.name.startswith("crowd "):
            number = row.name.split()[1]
            messages = await bench.sessions.messages(row.id, LOCAL)
            said = [item.message["content"] for item in messages.data]
            expected = [f"{number}.0", f"{number}.0 after 2", f"{number}.1", f"{number}.1 after 4"]
            wrong += said != expected
    return rate, wrong


async def ours(sessions: int) -> tuple[dict[str, list[float]], float, int]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.at(Path(folder) / "portico.db")
        database.prepare()
        bench = Bench(database)
        try:
            await bench.say("warm", "warm")
            found = {
                "memory": await turns(lambda s, t: bench.say(f"{s}.{t}", None), sessions),
                "stored": await turns(lambda s, t: bench.say(f"{s}.{t}", f"s{s}"), sessions),
                "load": await loads(bench),
            }
            return found, *await crowd(bench)
        finally:
            await bench.runner.close()
            await bench.light.close()
            database.close()


def other(python: str, name: str, sessions: int) -> dict[str, list[float]]:
    """Run the same turns with another framework, in its own environment."""
    done = subprocess.run(
        [python, str(HERE / "bare_agent.py"), name, str(sessions), str(TURNS), str(LONG)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(series: Sequence[float] | None) -> float | None:
    return statistics.median(series) if series else None


def main() -> int:
    """Measure, print and store the results; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--langgraph", metavar="PYTHON", help="an interpreter with langgraph and its SQLite saver"
    )
    parser.add_argument("--lagent", metavar="PYTHON", help="an interpreter with lagent")
    parser.add_argument("--sessions", type=int, default=10, help="sessions of twenty turns each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found, rate, wrong = asyncio.run(ours(options.sessions))
    report = Report("one turn of an agent beyond its model (p50, ms)", ("who", *GOALS))
    report.add(who="portico", **{name: middle(found[name]) for name in GOALS})
    for name in ("langgraph", "lagent"):
        python = getattr(options, name)
        if python:
            theirs = other(python, name, options.sessions)
            report.add(who=name, **{case: middle(theirs.get(case)) for case in GOALS})
    report.notes["turns a second in 1,000 sessions at once"] = rate
    report.notes["sessions with a lost or mixed message"] = wrong
    report.show(options.json)
    good = wrong == 0 and all(statistics.median(found[name]) <= goal for name, goal in GOALS.items())
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
