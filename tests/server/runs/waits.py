"""A daemon's scheduler in a separate process, with one durable run that asks; for a test that kills it.

``python waits.py DATABASE`` prints ``waiting ID`` once the run waits, and works until it is killed.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portico.wire import Asked
from portico_server.core.context import Context
from portico_server.core.question import NewQuestion
from portico_server.core.registry import Registry
from portico_server.db.database import Database
from portico_server.runs.questions import QuestionService
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog


async def main(path: Path) -> None:
    database = Database.at(path)
    database.prepare()
    questions = QuestionService(database)
    await questions.start(is_alone=True)
    runner = Runner(Registry(), UsageLog(database), timeout=60, questions=questions)
    scheduler = Scheduler(database, runner)

    async def work(_payload: Mapping[str, Any], context: Context) -> Any:
        answer = await context.ask(
            NewQuestion("approval", "delete_all", arguments={"path": "/"}, key="steps/3")
        )
        return {"accepted": answer.accepted}

    scheduler.handle("flow", work)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scheduler.run(is_alone=True))
        run_id = await scheduler.ensure("flow", "one")
        run = await runner.arrival(run_id, 60)
        assert run is not None
        async for _number, event in run.log.follow():
            if isinstance(event, Asked):
                print("waiting", run_id, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
