"""Runs that ask an outside person or program, in one daemon; for the tests of questions."""

import asyncio
from collections.abc import Mapping
from typing import Any

from portico.wire import Asked
from portico_server.core.context import Context
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.registry import Registry
from portico_server.db import questions as rows
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.runs.questions import QuestionService
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog

APPROVE = NewQuestion("approval", "delete_all", "Delete everything?", {"path": "/"})


KEYED = NewQuestion("approval", "delete_all", arguments={"path": "/"}, key="steps/3")


ANNA = Principal("anna", frozenset({"chat"}))


BERT = Principal("bert", frozenset({"chat"}))


class AskingRunner:
    """A runner that can ask questions, as in one daemon."""

    def __init__(self, database: Database, *, timeout: float = 60, **options: Any) -> None:
        self.database = database
        self.questions = QuestionService(database, **options)
        self.usage = UsageLog(database)
        self.registry = Registry()
        self.runner = Runner(self.registry, self.usage, timeout=timeout, questions=self.questions)
        self.scheduler = Scheduler(database, self.runner)

    def ask(self, question: NewQuestion, caller: Principal = LOCAL) -> Run:
        """Start a run that only asks the question."""

        async def work(context: Context) -> GivenAnswer:
            return await context.ask(question)

        return self.runner.spawn("test", "asks", caller, work)

    async def pending(self) -> list[rows.QuestionRow]:
        return list((await self.questions.list(LOCAL, status="pending")).data)


async def asked(run: Run) -> Asked:
    """Return the first question of a run, once the run waits."""
    async with asyncio.timeout(60):
        async for _number, event in run.log.follow():
            if isinstance(event, Asked):
                return event
    raise AssertionError("the run has ended without a question")


def durable(asking: AskingRunner, question: NewQuestion) -> None:
    """Register a ``flow`` kind whose durable runs ask one question."""

    async def work(_payload: Mapping[str, Any], context: Context) -> Any:
        answer = await context.ask(question)
        return {"accepted": answer.accepted, "value": answer.value}

    asking.scheduler.handle("flow", work)


async def begin(asking: AskingRunner, question: NewQuestion) -> tuple[asyncio.Task[None], str]:
    """Start a scheduler and a run that waits; return the scheduler's task and the run's id."""
    durable(asking, question)
    await asking.questions.start(is_alone=True)
    task = asyncio.create_task(asking.scheduler.run(is_alone=True))
    run_id = await asking.scheduler.ensure("flow", "one")
    run = await asking.runner.arrival(run_id, 60)
    assert run is not None
    await asked(run)
    return task, run_id


async def ended(database: Database, run_id: str) -> runs.RunRow:
    async with asyncio.timeout(60):
        while True:
            row = await database.read(runs.get, run_id)
            assert row is not None
            if row.finished_at is not None:
                return row
            await asyncio.sleep(0)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def leased(database: Database) -> str:
    """Return a run of the kind ``flow`` that another daemon holds."""
    run_id = await database.write(runs.ensure, runs.NewRun("run_1", "flow", "one", "local", {}))
    await database.write(runs.claim, ["flow"], "somebody", 30)
    return run_id
