"""Durable runs that ask: they wait in the database, and ask only once even if they are interrupted."""

import asyncio
import sys
from pathlib import Path

import pytest
from tests.server.runs.asking import (
    APPROVE,
    KEYED,
    AskingRunner,
    asked,
    begin,
    durable,
    ended,
    leased,
    stop,
)

from portico_server.core.principal import LOCAL
from portico_server.core.question import NewQuestion
from portico_server.db import questions as rows
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.runs.questions import QuestionService


async def test_a_durable_run_waits_in_its_row(database: Database, asking: AskingRunner) -> None:
    task, run_id = await begin(asking, KEYED)
    row = await database.read(runs.get, run_id)
    assert row is not None and row.status == "waiting"
    (question,) = await asking.pending()
    await asking.questions.answer(question.id, LOCAL, is_accepted=True, value=7)
    row = await ended(database, run_id)
    assert (row.status, row.result) == ("completed", {"accepted": True, "value": 7})
    events = [event["type"] for _, event in await database.read(runs.events, run_id, 0, 10)]
    assert events == ["asked", "answered", "finished"]
    await stop(task)


async def test_a_run_that_was_cut_off_while_it_waited_does_not_ask_twice(database: Database) -> None:
    first = AskingRunner(database)
    task, run_id = await begin(first, KEYED)
    (question,) = await first.pending()
    await stop(task)  # as when a daemon ends: the run returns to the queue and its question stays
    second = AskingRunner(database)
    again, second_run_id = await begin(second, KEYED)
    assert second_run_id == run_id
    (pending_question,) = await second.pending()
    assert pending_question == question
    await second.questions.answer(question.id, LOCAL, is_accepted=True)
    assert (await ended(database, run_id)).status == "completed"
    await stop(again)


async def test_an_answer_given_while_no_daemon_runs_is_used_at_restart(database: Database) -> None:
    first = AskingRunner(database)
    task, run_id = await begin(first, KEYED)
    (question,) = await first.pending()
    await stop(task)
    await QuestionService(database).answer(question.id, LOCAL, is_accepted=True, value="while you slept")
    second = AskingRunner(database)
    durable(second, KEYED)
    again = asyncio.create_task(second.scheduler.run(is_alone=True))
    row = await ended(database, run_id)
    assert row.result == {"accepted": True, "value": "while you slept"}
    await stop(again)


async def test_an_approval_is_not_taken_for_one_of_other_arguments(database: Database) -> None:
    first = AskingRunner(database)
    task, _run_id = await begin(first, KEYED)
    (question,) = await first.pending()
    await stop(task)
    await QuestionService(database).answer(question.id, LOCAL, is_accepted=True)
    second = AskingRunner(database)
    other_question = NewQuestion("approval", "delete_all", arguments={"path": "/home"}, key=KEYED.key)
    again, _same = await begin(second, other_question)
    (pending_question,) = await second.pending()
    assert (pending_question.id == question.id, pending_question.arguments) == (False, {"path": "/home"})
    await stop(again)
    assert (await database.read(rows.get, question.id)).status == "answered"  # type: ignore[union-attr]


async def test_a_waiting_run_survives_many_restarts(database: Database) -> None:
    for _ in range(8):
        daemon = AskingRunner(database)
        task, run_id = await begin(daemon, KEYED)
        await stop(task)
    daemon = AskingRunner(database)
    task, run_id = await begin(daemon, KEYED)
    (question,) = await daemon.pending()
    await daemon.questions.answer(question.id, LOCAL, is_accepted=True)
    assert (await ended(database, run_id)).status == "completed"
    await stop(task)


async def test_a_cancelled_durable_run_asks_no_more(database: Database, asking: AskingRunner) -> None:
    task, run_id = await begin(asking, KEYED)
    run = asking.runner.get(run_id)
    assert run is not None
    await run.cancel()
    assert (await ended(database, run_id)).status == "cancelled"
    assert await asking.pending() == []
    await stop(task)


async def test_a_waiting_run_does_not_occupy_a_scheduler_slot(
    database: Database, asking: AskingRunner
) -> None:
    task, _run_id = await begin(asking, KEYED)
    second = await asking.runner.arrival(await asking.scheduler.ensure("flow", "two"), 10)
    assert second is not None
    await asked(second)
    await stop(task)


async def test_questions_of_runs_that_died_with_their_daemon_are_closed_at_the_next_start(
    database: Database,
) -> None:
    run = AskingRunner(database).ask(APPROVE)
    question = await asked(run)
    await QuestionService(database).start(is_alone=True)
    row = await database.read(rows.get, question.id)
    assert row is not None and row.status == "cancelled"
    await run.cancel()


async def test_an_answer_given_through_another_daemon_reaches_the_run(
    database: Database, asking: AskingRunner
) -> None:
    run = asking.ask(APPROVE)
    looking = asyncio.create_task(asking.questions.run(is_alone=False))
    await QuestionService(database).answer((await asked(run)).id, LOCAL, is_accepted=True)
    assert (await asking.runner.wait(run)).accepted
    await stop(looking)


async def test_a_restarted_run_repeats_questions_that_have_no_key(
    database: Database,
) -> None:
    first = AskingRunner(database)
    run = first.runner.spawn(
        "flow", "one", LOCAL, lambda context: context.ask(APPROVE), run_id=await leased(database)
    )
    question = await asked(run)
    second = AskingRunner(database)  # the first daemon has released nothing, as if it had been killed
    durable(second, APPROVE)
    task = asyncio.create_task(second.scheduler.run(is_alone=True))
    again = await second.runner.arrival(run.id, 10)
    assert again is not None
    assert (await asked(again)).id != question.id
    assert [row.run_id for row in await second.pending()] == [run.id]
    await stop(task)
    await run.cancel()


@pytest.mark.process
async def test_a_run_that_waits_survives_kill_9(database: Database, tmp_path: Path) -> None:
    script = Path(__file__).with_name("waits.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path / "portico.db"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        word, run_id = (await process.stdout.readline()).decode().split()
    process.kill()
    await process.wait()
    row = await database.read(runs.get, run_id)
    assert (word, row and row.status) == ("waiting", "waiting")
    daemon = AskingRunner(database)
    durable(daemon, KEYED)
    await daemon.questions.start(is_alone=True)
    (question,) = await daemon.pending()  # before the run is resumed
    await daemon.questions.answer(question.id, LOCAL, is_accepted=True)
    task = asyncio.create_task(daemon.scheduler.run(is_alone=True))
    row = await ended(database, run_id)
    assert (row.status, row.result["accepted"], row.attempts) == ("completed", True, 2)
    assert [item.id for item in (await daemon.questions.list(LOCAL)).data] == [question.id]
    await stop(task)
