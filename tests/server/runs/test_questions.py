"""Runs that ask somebody outside: they wait, go on with the answer, and ask once although they were cut off."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from portico.wire import Answered, Asked
from portico_server.core.context import Context
from portico_server.core.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.question import Answer, Question
from portico_server.core.registry import Registry
from portico_server.core.request import Request, Result, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.db import questions as rows
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.runs.questions import Questions
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog

APPROVE = Question("approval", "delete_all", "Delete everything?", {"path": "/"})
ANNA = Principal("anna", frozenset({"chat"}))
BERT = Principal("bert", frozenset({"chat"}))


class House:
    """A runner that can ask, as one daemon has it."""

    def __init__(self, database: Database, *, timeout: float = 5, **options: Any) -> None:
        self.database = database
        self.questions = Questions(database, **options)
        self.usage = UsageLog(database)
        self.registry = Registry()
        self.runner = Runner(self.registry, self.usage, timeout=timeout, questions=self.questions)
        self.scheduler = Scheduler(database, self.runner)

    def ask(self, question: Question, caller: Principal = LOCAL) -> Run:
        """A run that does nothing but ask."""

        async def work(context: Context) -> Answer:
            return await context.ask(question)

        return self.runner.spawn("test", "asks", caller, work)

    async def pending(self) -> list[rows.QuestionRow]:
        return await self.questions.list(LOCAL, status="pending")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield database
    database.close()


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    house = House(database)
    yield house
    await house.runner.close()


async def asked(run: Run) -> Asked:
    """The first question of a run, once it waits."""
    async with asyncio.timeout(10):
        async for _number, event in run.log.follow():
            if isinstance(event, Asked):
                return event
    raise AssertionError("the run has ended without a question")


async def test_a_run_waits_and_goes_on_with_the_answer(house: House) -> None:
    run = house.ask(APPROVE)
    question = await asked(run)
    assert run.status == "waiting"
    assert (question.kind, question.name, question.arguments) == ("approval", "delete_all", {"path": "/"})
    await house.questions.answer(question.id, LOCAL, accepted=True, note="go on")
    assert await house.runner.wait(run) == Answer(True, None, "go on", "local")
    assert run.status == "completed"
    events = [event async for _number, event in run.log.follow()]
    assert events[1] == Answered(question.id, True, "local")
    assert await house.pending() == []


async def test_a_refusal_is_an_answer(house: House) -> None:
    run = house.ask(APPROVE)
    await house.questions.answer((await asked(run)).id, LOCAL, accepted=False, note="not today")
    assert await house.runner.wait(run) == Answer(False, None, "not today", "local")


async def test_a_question_of_a_child_reaches_the_listeners_of_the_run(house: House) -> None:
    class Asker:
        card = Card("asker", "app")

        async def call(self, request: Request, context: Context) -> ToolResult:
            return ToolResult(str((await context.ask(APPROVE)).accepted))

    house.registry.add(Asker())

    async def work(context: Context) -> Result:
        return await context.call("asker", ToolCall({}))

    run = house.runner.spawn("test", "parent", LOCAL, work)
    await house.questions.answer((await asked(run)).id, LOCAL, accepted=True)
    assert (await house.runner.wait(run)).text == "True"


async def test_waiting_does_not_count_against_the_runs_own_limit(database: Database) -> None:
    house = House(database, timeout=0.1)

    async def work(context: Context) -> bool:
        before = context.deadline
        with pytest.raises(DeadlineExceeded):
            await context.ask(Question("input", "colour", limit=0.4))  # longer than the run may take
        assert before is not None and context.deadline is not None
        return context.deadline > before

    assert await house.runner.wait(house.runner.spawn("test", "patient", LOCAL, work)) is True


async def test_after_the_answer_the_limit_holds_again(database: Database) -> None:
    house = House(database, timeout=0.2)

    async def work(context: Context) -> None:
        await context.ask(APPROVE)
        await asyncio.get_running_loop().create_future()

    run = house.runner.spawn("test", "slow", LOCAL, work)
    await house.questions.answer((await asked(run)).id, LOCAL, accepted=True)
    with pytest.raises(DeadlineExceeded):
        await house.runner.wait(run)


async def test_what_nobody_answers_expires(house: House) -> None:
    run = house.ask(Question("input", "colour", limit=0.05))
    with pytest.raises(DeadlineExceeded, match=r"Nobody answered 'colour' within 0\.05 s") as failure:
        await house.runner.wait(run)
    assert failure.value.code == "question_expired"
    (row,) = await house.questions.list(LOCAL)
    assert row.status == "expired"
    with pytest.raises(Conflict, match="in time"):
        await house.questions.answer(row.id, LOCAL, accepted=True)


async def test_cancelling_a_run_takes_its_questions_back(house: House) -> None:
    for key in ("", "step/1"):
        run = house.ask(Question("approval", "delete_all", key=key))
        question = await asked(run)
        await run.cancel()
        assert run.status == "cancelled"
        async with asyncio.timeout(5):
            async for _ in run.log.follow():
                pass
        assert (await house.questions.get(question.id, LOCAL)).status == "cancelled"
        with pytest.raises(Conflict, match="has ended"):
            await house.questions.answer(question.id, LOCAL, accepted=True)


async def test_of_two_answers_at_once_one_wins(house: House) -> None:
    run = house.ask(APPROVE)
    question = await asked(run)
    said = await asyncio.gather(
        *(house.questions.answer(question.id, LOCAL, accepted=yes) for yes in (True, False, True)),
        return_exceptions=True,
    )
    won = [item for item in said if isinstance(item, rows.QuestionRow)]
    assert len(won) == 1
    assert all(
        isinstance(item, Conflict) and item.code == "already_answered" for item in said if item not in won
    )
    assert (await house.runner.wait(run)).accepted is won[0].accepted


async def test_an_answer_must_have_the_shape_that_was_asked_for(house: House) -> None:
    schema = {
        "type": "object",
        "properties": {"sizes": {"type": "array", "items": {"type": "integer"}}},
        "required": ["sizes"],
    }
    run = house.ask(Question("input", "sizes", answer_schema=schema))
    question = await asked(run)
    with pytest.raises(InvalidRequest) as wrong:
        await house.questions.answer(question.id, LOCAL, accepted=True, value={"sizes": [1, "two"]})
    assert wrong.value.param == "value.sizes[1]"
    assert "properties/sizes/items/type" in wrong.value.message
    assert run.status == "waiting"
    await house.questions.answer(question.id, LOCAL, accepted=True, value={"sizes": [1, 2]})
    assert (await house.runner.wait(run)).value == {"sizes": [1, 2]}


async def test_only_the_owner_and_an_admin_see_a_question(house: House) -> None:
    run = house.ask(APPROVE, ANNA)
    question = await asked(run)
    with pytest.raises(NotFound):
        await house.questions.answer(question.id, BERT, accepted=True)
    assert await house.questions.list(BERT) == []
    assert [row.id for row in await house.questions.list(ANNA)] == [question.id]
    await house.questions.answer(question.id, ANNA, accepted=True)
    assert (await house.runner.wait(run)).by == "anna"


async def test_approvals_can_be_for_admins_alone(database: Database) -> None:
    house = House(database, approvers="admin")
    run = house.ask(APPROVE, ANNA)
    question = await asked(run)
    with pytest.raises(Forbidden, match="given by an admin"):
        await house.questions.answer(question.id, ANNA, accepted=True)
    await house.questions.answer(question.id, LOCAL, accepted=True)
    assert (await house.runner.wait(run)).by == "local"


async def test_steps_may_ask_side_by_side(house: House) -> None:
    async def work(context: Context) -> list[bool]:
        both = await asyncio.gather(*(context.ask(Question("approval", name)) for name in "ab"))
        return [answer.accepted for answer in both]

    run = house.runner.spawn("test", "both", LOCAL, work)
    numbered = run.log.follow()
    found = {}
    async with asyncio.timeout(5):
        while len(found) < 2:
            _number, event = await anext(numbered)
            if isinstance(event, Asked):
                found[event.name] = event.id
    await house.questions.answer(found["b"], LOCAL, accepted=False)
    while not isinstance((await anext(numbered))[1], Answered):
        pass
    assert run.status == "waiting"
    await house.questions.answer(found["a"], LOCAL, accepted=True)
    assert await house.runner.wait(run) == [True, False]


async def test_two_hundred_runs_may_wait_at_once(house: House) -> None:
    waiting = [house.ask(APPROVE) for _ in range(200)]
    questions = [await asked(run) for run in waiting]
    assert len(await house.questions.list(LOCAL, status="pending", limit=1000)) == 200
    await asyncio.gather(*(house.questions.answer(item.id, LOCAL, accepted=True) for item in questions))
    answers = [await house.runner.wait(run) for run in waiting]
    assert all(answer.accepted for answer in answers)


async def test_without_anybody_to_ask_the_run_says_so(database: Database) -> None:
    runner = Runner(Registry(), UsageLog(database), timeout=5)

    async def work(context: Context) -> None:
        await context.ask(APPROVE)

    with pytest.raises(Unavailable, match="nobody can be asked"):
        await runner.wait(runner.spawn("test", "mute", LOCAL, work))


# --- durable runs ---------------------------------------------------------------------------------------------


def durable(house: House, question: Question) -> None:
    """Let runs of the kind ``flow`` ask one question."""

    async def work(_payload: Mapping[str, Any], context: Context) -> Any:
        answer = await context.ask(question)
        return {"accepted": answer.accepted, "value": answer.value}

    house.scheduler.handle("flow", work)


KEYED = Question("approval", "delete_all", arguments={"path": "/"}, key="steps/3")


async def begin(house: House, question: Question) -> tuple[asyncio.Task[None], str]:
    """A scheduler at work, and a run that waits."""
    durable(house, question)
    await house.questions.start(alone=True)
    task = asyncio.create_task(house.scheduler.run(alone=True))
    run_id = await house.scheduler.ensure("flow", "one")
    run = await house.runner.arrival(run_id, 10)
    assert run is not None
    await asked(run)
    return task, run_id


async def ended(database: Database, run_id: str) -> runs.RunRow:
    async with asyncio.timeout(10):
        while True:
            row = await database.read(runs.get, run_id)
            assert row is not None
            if row.finished_at is not None:
                return row
            await asyncio.sleep(0)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_a_durable_run_waits_in_its_row(database: Database, house: House) -> None:
    task, run_id = await begin(house, KEYED)
    row = await database.read(runs.get, run_id)
    assert row is not None and row.status == "waiting"
    (question,) = await house.pending()
    await house.questions.answer(question.id, LOCAL, accepted=True, value=7)
    row = await ended(database, run_id)
    assert (row.status, row.result) == ("completed", {"accepted": True, "value": 7})
    events = [event["type"] for _, event in await database.read(runs.events, run_id, 0, 10)]
    assert events == ["asked", "answered", "finished"]
    await stop(task)


async def test_a_run_that_was_cut_off_while_it_waited_does_not_ask_twice(database: Database) -> None:
    first = House(database)
    task, run_id = await begin(first, KEYED)
    (question,) = await first.pending()
    await stop(task)  # as a daemon does that ends: the run goes back into the queue, its question stays
    second = House(database)
    again, same = await begin(second, KEYED)
    assert same == run_id
    (found,) = await second.pending()
    assert found == question
    await second.questions.answer(question.id, LOCAL, accepted=True)
    assert (await ended(database, run_id)).status == "completed"
    await stop(again)


async def test_an_answer_given_while_nobody_ran_is_found_at_once(database: Database) -> None:
    first = House(database)
    task, run_id = await begin(first, KEYED)
    (question,) = await first.pending()
    await stop(task)
    await Questions(database).answer(question.id, LOCAL, accepted=True, value="while you slept")
    second = House(database)
    durable(second, KEYED)
    again = asyncio.create_task(second.scheduler.run(alone=True))
    row = await ended(database, run_id)
    assert row.result == {"accepted": True, "value": "while you slept"}
    await stop(again)


async def test_an_approval_is_not_taken_for_one_of_other_arguments(database: Database) -> None:
    first = House(database)
    task, _run_id = await begin(first, KEYED)
    (question,) = await first.pending()
    await stop(task)
    await Questions(database).answer(question.id, LOCAL, accepted=True)
    second = House(database)
    other = Question("approval", "delete_all", arguments={"path": "/home"}, key=KEYED.key)
    again, _same = await begin(second, other)
    (found,) = await second.pending()
    assert (found.id == question.id, found.arguments) == (False, {"path": "/home"})
    await stop(again)
    assert (await database.read(rows.get, question.id)).status == "answered"  # type: ignore[union-attr]


async def test_waiting_through_many_restarts_is_not_giving_up(database: Database) -> None:
    for _ in range(8):
        house = House(database)
        task, run_id = await begin(house, KEYED)
        await stop(task)
    house = House(database)
    task, run_id = await begin(house, KEYED)
    (question,) = await house.pending()
    await house.questions.answer(question.id, LOCAL, accepted=True)
    assert (await ended(database, run_id)).status == "completed"
    await stop(task)


async def test_a_cancelled_durable_run_asks_no_more(database: Database, house: House) -> None:
    task, run_id = await begin(house, KEYED)
    run = house.runner.get(run_id)
    assert run is not None
    await run.cancel()
    assert (await ended(database, run_id)).status == "cancelled"
    assert await house.pending() == []
    await stop(task)


async def test_a_run_that_waits_keeps_no_place(database: Database, house: House) -> None:
    task, _run_id = await begin(house, KEYED)
    second = await house.runner.arrival(await house.scheduler.ensure("flow", "two"), 10)
    assert second is not None
    await asked(second)
    await stop(task)


async def test_questions_of_runs_that_died_with_their_daemon_are_closed_at_the_next_start(
    database: Database,
) -> None:
    run = House(database).ask(APPROVE)
    question = await asked(run)
    await Questions(database).start(alone=True)
    row = await database.read(rows.get, question.id)
    assert row is not None and row.status == "cancelled"
    await run.cancel()


async def test_another_daemon_on_the_database_may_be_told_the_answer(
    database: Database, house: House
) -> None:
    run = house.ask(APPROVE)
    looking = asyncio.create_task(house.questions.run(alone=False))
    await Questions(database).answer((await asked(run)).id, LOCAL, accepted=True)
    assert (await house.runner.wait(run)).accepted
    await stop(looking)


# --- functions of clients -------------------------------------------------------------------------------------


async def test_a_function_goes_to_one_worker(house: House) -> None:
    run = house.ask(Question("function", "add", arguments={"a": 1}))
    await asked(run)
    first, second = await asyncio.gather(
        *(house.questions.claim(LOCAL, worker, 30, names=["add"]) for worker in ("w1", "w2"))
    )
    taken = [*first.taken, *second.taken]
    assert len(taken) == 1
    await house.questions.answer(taken[0].id, LOCAL, accepted=True, value=3, worker="w1")
    assert await house.runner.wait(run) == Answer(True, 3, "", "local:w1")


async def test_a_function_of_a_silent_worker_goes_to_another(house: House) -> None:
    run = house.ask(Question("function", "add"))
    await asked(run)
    (taken,) = (await house.questions.claim(LOCAL, "w1", 0.01, names=["add"])).taken
    (again,) = (await house.questions.claim(LOCAL, "w2", 30, names=["add"], wait=10)).taken
    assert (again.id, again.lease_owner) == (taken.id, "local:w2")
    assert (await house.questions.claim(LOCAL, "w1", 30, names=["add"], holding=[taken.id])).lost == [
        taken.id
    ]
    await run.cancel()


async def test_a_worker_that_waits_is_told_at_once(house: House) -> None:
    waiting = asyncio.create_task(house.questions.claim(LOCAL, "w1", 30, names=["add"], wait=30))
    run = house.ask(Question("function", "add"))
    async with asyncio.timeout(5):
        assert len((await waiting).taken) == 1
    await run.cancel()


async def test_a_worker_gets_no_function_of_somebody_else(house: House) -> None:
    run = house.ask(Question("function", "add"), ANNA)
    await asked(run)
    for other in (BERT, LOCAL):  # nor does an admin: it would be the wrong program
        assert (await house.questions.claim(other, "w", 30, names=["add"])).taken == []
    assert len((await house.questions.claim(ANNA, "w", 30, names=["add"])).taken) == 1
    await run.cancel()


async def test_approvals_are_no_work_for_workers(house: House) -> None:
    run = house.ask(APPROVE)
    await asked(run)
    assert (await house.questions.claim(LOCAL, "w", 30, names=["delete_all"])).taken == []
    await run.cancel()


async def test_a_worker_that_leaves_gives_back_what_it_has(house: House) -> None:
    run = house.ask(Question("function", "add"))
    await asked(run)
    await house.questions.claim(LOCAL, "w1", 3600, names=["add"])
    await house.questions.let_go(LOCAL, "w1")
    assert len((await house.questions.claim(LOCAL, "w2", 30, names=["add"])).taken) == 1
    await run.cancel()


async def test_a_watcher_sees_what_waits_and_what_becomes_of_it(house: House) -> None:
    run = house.ask(APPROVE, ANNA)
    question = await asked(run)
    seen = house.questions.watch(ANNA)
    others = house.questions.watch(BERT)
    nothing = asyncio.create_task(anext(others))  # type: ignore[arg-type]
    first = await anext(seen)
    await house.questions.answer(question.id, ANNA, accepted=True)
    second = await anext(seen)
    assert [(row.id, row.status) for row in (first, second)] == [
        (question.id, "pending"),
        (question.id, "answered"),
    ]
    assert not nothing.done()
    nothing.cancel()
    await asyncio.wait([nothing])


async def test_what_was_asked_without_a_key_is_asked_anew_by_a_run_that_begins_again(
    database: Database,
) -> None:
    first = House(database)
    run = first.runner.spawn(
        "flow", "one", LOCAL, lambda context: context.ask(APPROVE), run_id=await _leased(database)
    )
    question = await asked(run)
    second = House(database)  # the first has not let go of anything, as if it had been killed
    durable(second, APPROVE)
    task = asyncio.create_task(second.scheduler.run(alone=True))
    again = await second.runner.arrival(run.id, 10)
    assert again is not None
    assert (await asked(again)).id != question.id
    assert [row.run_id for row in await second.pending()] == [run.id]
    await stop(task)
    await run.cancel()


async def _leased(database: Database) -> str:
    """A run of the kind ``flow`` that some daemon works on."""
    run_id = await database.write(runs.ensure, "run_1", "flow", "one", "local", {})
    await database.write(runs.claim, ["flow"], "somebody", 30)
    return run_id


async def test_what_is_no_json_cannot_be_asked(house: House) -> None:
    run = house.ask(Question("input", "odd", arguments={"thing": object()}))
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        await house.runner.wait(run)
    assert run.status == "failed"


async def test_a_watcher_that_is_too_slow_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico_server.runs.questions.BEHIND", 2)
    first = house.ask(APPROVE)
    await asked(first)
    seen = house.questions.watch(LOCAL)
    await anext(seen)
    later = [house.ask(APPROVE) for _ in range(4)]
    for run in later:
        await asked(run)
    rest = [row async for row in seen]
    assert len(rest) < 4
    for run in (first, *later):
        await run.cancel()


async def test_a_run_that_waits_survives_kill_9(database: Database, tmp_path: Path) -> None:
    script = Path(__file__).with_name("waits.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path / "portico.db"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        word, run_id = (await process.stdout.readline()).decode().split()
    process.kill()
    await process.wait()
    row = await database.read(runs.get, run_id)
    assert (word, row and row.status) == ("waiting", "waiting")
    house = House(database)
    durable(house, KEYED)
    await house.questions.start(alone=True)
    (question,) = await house.pending()  # before the run is taken up again
    await house.questions.answer(question.id, LOCAL, accepted=True)
    task = asyncio.create_task(house.scheduler.run(alone=True))
    row = await ended(database, run_id)
    assert (row.status, row.result["accepted"], row.attempts) == ("completed", True, 2)
    assert [item.id for item in await house.questions.list(LOCAL)] == [question.id]
    await stop(task)
