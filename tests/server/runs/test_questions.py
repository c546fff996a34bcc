"""Runs that ask an outside person or program wait, and continue with the answer."""

import asyncio

import pytest
from tests.server.runs.asking import (
    ANNA,
    APPROVE,
    BERT,
    AskingRunner,
    asked,
)

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
from portico_server.core.principal import LOCAL
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.registry import Registry
from portico_server.core.request import Request, Result, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.db import questions as rows
from portico_server.db.database import Database
from portico_server.runs.runner import Runner
from portico_server.runs.usage import UsageLog


async def test_a_run_waits_and_continues_with_the_answer(asking: AskingRunner) -> None:
    run = asking.ask(APPROVE)
    question = await asked(run)
    assert run.status == "waiting"
    assert (question.kind, question.name, question.arguments) == ("approval", "delete_all", {"path": "/"})
    await asking.questions.answer(question.id, LOCAL, is_accepted=True, note="go on")
    assert await asking.runner.wait(run) == GivenAnswer(True, None, "go on", "local")
    assert run.status == "completed"
    events = [event async for _number, event in run.log.follow()]
    assert events[1] == Answered(question.id, True, "local")
    assert await asking.pending() == []


async def test_a_refusal_is_an_answer(asking: AskingRunner) -> None:
    run = asking.ask(APPROVE)
    await asking.questions.answer((await asked(run)).id, LOCAL, is_accepted=False, note="not today")
    assert await asking.runner.wait(run) == GivenAnswer(False, None, "not today", "local")


async def test_a_question_of_a_child_reaches_the_listeners_of_the_run(asking: AskingRunner) -> None:
    class Asker:
        card = Card("asker", "app")

        async def call(self, request: Request, context: Context) -> ToolResult:
            return ToolResult(str((await context.ask(APPROVE)).accepted))

    asking.registry.add(Asker())

    async def work(context: Context) -> Result:
        return await context.call("asker", ToolCall({}))

    run = asking.runner.spawn("test", "parent", LOCAL, work)
    await asking.questions.answer((await asked(run)).id, LOCAL, is_accepted=True)
    assert (await asking.runner.wait(run)).text == "True"


async def test_waiting_does_not_count_against_the_runs_own_limit(database: Database) -> None:
    daemon = AskingRunner(database, timeout=60)

    async def work(context: Context) -> bool:
        deadline_before = context.deadline
        with pytest.raises(DeadlineExceeded):
            await context.ask(NewQuestion("input", "colour", limit=0.05))
        assert deadline_before is not None and context.deadline is not None
        return context.deadline > deadline_before

    assert await daemon.runner.wait(daemon.runner.spawn("test", "patient", LOCAL, work)) is True


async def test_after_the_answer_the_limit_holds_again(database: Database) -> None:
    daemon = AskingRunner(database, timeout=2)

    async def work(context: Context) -> None:
        await context.ask(APPROVE)
        await asyncio.get_running_loop().create_future()

    run = daemon.runner.spawn("test", "slow", LOCAL, work)
    await daemon.questions.answer((await asked(run)).id, LOCAL, is_accepted=True)
    with pytest.raises(DeadlineExceeded):
        await daemon.runner.wait(run)


async def test_an_unanswered_question_expires_at_its_time_limit(asking: AskingRunner) -> None:
    run = asking.ask(NewQuestion("input", "colour", limit=0.05))
    with pytest.raises(DeadlineExceeded, match=r"Nobody answered 'colour' within 0\.05 s") as failure:
        await asking.runner.wait(run)
    assert failure.value.code == "question_expired"
    (row,) = (await asking.questions.list(LOCAL)).data
    assert row.status == "expired"
    with pytest.raises(Conflict, match="in time"):
        await asking.questions.answer(row.id, LOCAL, is_accepted=True)


async def test_cancelling_a_run_takes_its_questions_back(asking: AskingRunner) -> None:
    for key in ("", "step/1"):
        run = asking.ask(NewQuestion("approval", "delete_all", key=key))
        question = await asked(run)
        await run.cancel()
        assert run.status == "cancelled"
        async with asyncio.timeout(60):
            async for _ in run.log.follow():
                pass
        assert (await asking.questions.get(question.id, LOCAL)).status == "cancelled"
        with pytest.raises(Conflict, match="has ended"):
            await asking.questions.answer(question.id, LOCAL, is_accepted=True)


async def test_only_one_of_several_concurrent_answers_is_accepted(asking: AskingRunner) -> None:
    run = asking.ask(APPROVE)
    question = await asked(run)
    results = await asyncio.gather(
        *(asking.questions.answer(question.id, LOCAL, is_accepted=yes) for yes in (True, False, True)),
        return_exceptions=True,
    )
    won = [item for item in results if isinstance(item, rows.QuestionRow)]
    assert len(won) == 1
    assert all(
        isinstance(item, Conflict) and item.code == "already_answered" for item in results if item not in won
    )
    assert (await asking.runner.wait(run)).accepted is won[0].accepted


async def test_an_answer_must_have_the_shape_that_was_asked_for(asking: AskingRunner) -> None:
    schema = {
        "type": "object",
        "properties": {"sizes": {"type": "array", "items": {"type": "integer"}}},
        "required": ["sizes"],
    }
    run = asking.ask(NewQuestion("input", "sizes", answer_schema=schema))
    question = await asked(run)
    with pytest.raises(InvalidRequest) as wrong:
        await asking.questions.answer(question.id, LOCAL, is_accepted=True, value={"sizes": [1, "two"]})
    assert wrong.value.param == "value.sizes[1]"
    assert "properties/sizes/items/type" in wrong.value.message
    assert run.status == "waiting"
    await asking.questions.answer(question.id, LOCAL, is_accepted=True, value={"sizes": [1, 2]})
    assert (await asking.runner.wait(run)).value == {"sizes": [1, 2]}


async def test_only_the_owner_and_an_admin_see_a_question(asking: AskingRunner) -> None:
    run = asking.ask(APPROVE, ANNA)
    question = await asked(run)
    with pytest.raises(NotFound):
        await asking.questions.answer(question.id, BERT, is_accepted=True)
    assert not (await asking.questions.list(BERT)).data
    assert [row.id for row in (await asking.questions.list(ANNA)).data] == [question.id]
    await asking.questions.answer(question.id, ANNA, is_accepted=True)
    assert (await asking.runner.wait(run)).by == "anna"


async def test_approvals_can_be_for_admins_alone(database: Database) -> None:
    daemon = AskingRunner(database, approvers="admin")
    run = daemon.ask(APPROVE, ANNA)
    question = await asked(run)
    with pytest.raises(Forbidden, match="Only an admin can give approvals"):
        await daemon.questions.answer(question.id, ANNA, is_accepted=True)
    await daemon.questions.answer(question.id, LOCAL, is_accepted=True)
    assert (await daemon.runner.wait(run)).by == "local"


async def test_steps_may_ask_side_by_side(asking: AskingRunner) -> None:
    async def work(context: Context) -> list[bool]:
        answers = await asyncio.gather(*(context.ask(NewQuestion("approval", name)) for name in "ab"))
        return [answer.accepted for answer in answers]

    run = asking.runner.spawn("test", "both", LOCAL, work)
    numbered = run.log.follow()
    question_ids = {}
    async with asyncio.timeout(60):
        while len(question_ids) < 2:
            _number, event = await anext(numbered)
            if isinstance(event, Asked):
                question_ids[event.name] = event.id
    await asking.questions.answer(question_ids["b"], LOCAL, is_accepted=False)
    while not isinstance((await anext(numbered))[1], Answered):
        pass
    assert run.status == "waiting"
    await asking.questions.answer(question_ids["a"], LOCAL, is_accepted=True)
    assert await asking.runner.wait(run) == [True, False]


async def test_two_hundred_runs_may_wait_at_once(asking: AskingRunner) -> None:
    waiting_runs = [asking.ask(APPROVE) for _ in range(200)]
    questions = [await asked(run) for run in waiting_runs]
    assert len((await asking.questions.list(LOCAL, status="pending", limit=1000)).data) == 200
    await asyncio.gather(*(asking.questions.answer(item.id, LOCAL, is_accepted=True) for item in questions))
    answers = [await asking.runner.wait(run) for run in waiting_runs]
    assert all(answer.accepted for answer in answers)


async def test_a_question_fails_when_no_question_service_exists(database: Database) -> None:
    runner = Runner(Registry(), UsageLog(database), timeout=60)

    async def work(context: Context) -> None:
        await context.ask(APPROVE)

    with pytest.raises(Unavailable, match="nobody can answer questions"):
        await runner.wait(runner.spawn("test", "mute", LOCAL, work))


async def test_a_watcher_receives_pending_and_answered_questions_of_its_own(asking: AskingRunner) -> None:
    run = asking.ask(APPROVE, ANNA)
    question = await asked(run)
    own_changes = asking.questions.watch(ANNA)
    foreign_changes = asking.questions.watch(BERT)
    foreign_change = asyncio.create_task(anext(foreign_changes))  # type: ignore[arg-type]
    first = await anext(own_changes)
    await asking.questions.answer(question.id, ANNA, is_accepted=True)
    second = await anext(own_changes)
    assert [(row.id, row.status) for row in (first, second)] == [
        (question.id, "pending"),
        (question.id, "answered"),
    ]
    assert not foreign_change.done()
    foreign_change.cancel()
    await asyncio.wait([foreign_change])


async def test_question_arguments_that_are_not_json_fail_the_run(asking: AskingRunner) -> None:
    run = asking.ask(NewQuestion("input", "odd", arguments={"thing": object()}))
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        await asking.runner.wait(run)
    assert run.status == "failed"


async def test_a_watcher_with_too_many_unread_changes_is_disconnected(
    asking: AskingRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.runs.questions.MAX_UNREAD_CHANGES", 2)
    first = asking.ask(APPROVE)
    await asked(first)
    changes = asking.questions.watch(LOCAL)
    await anext(changes)
    later = [asking.ask(APPROVE) for _ in range(4)]
    for run in later:
        await asked(run)
    remaining_changes = [row async for row in changes]
    assert len(remaining_changes) < 4
    for run in (first, *later):
        await run.cancel()
