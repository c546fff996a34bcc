"""Questions that are functions of clients: each goes to one worker."""

import asyncio

from tests.server.runs.asking import (
    ANNA,
    APPROVE,
    BERT,
    AskingRunner,
    asked,
)

from portico_server.core.principal import LOCAL
from portico_server.core.question import GivenAnswer, NewQuestion


async def test_a_function_goes_to_one_worker(asking: AskingRunner) -> None:
    run = asking.ask(NewQuestion("function", "add", arguments={"a": 1}))
    await asked(run)
    first, second = await asyncio.gather(
        *(asking.questions.claim(LOCAL, worker, 30, names=["add"]) for worker in ("w1", "w2"))
    )
    claimed_questions = [*first.taken, *second.taken]
    assert len(claimed_questions) == 1
    await asking.questions.answer(claimed_questions[0].id, LOCAL, is_accepted=True, value=3, worker="w1")
    assert await asking.runner.wait(run) == GivenAnswer(True, 3, "", "local:w1")


async def test_a_function_of_a_silent_worker_goes_to_another(asking: AskingRunner) -> None:
    run = asking.ask(NewQuestion("function", "add"))
    await asked(run)
    (claimed_question,) = (await asking.questions.claim(LOCAL, "w1", 0.01, names=["add"])).taken
    (again,) = (await asking.questions.claim(LOCAL, "w2", 30, names=["add"], wait=10)).taken
    assert (again.id, again.lease_owner) == (claimed_question.id, "local:w2")
    assert (
        await asking.questions.claim(LOCAL, "w1", 30, names=["add"], holding=[claimed_question.id])
    ).lost == [claimed_question.id]
    await run.cancel()


async def test_a_waiting_worker_receives_a_new_function_call_immediately(asking: AskingRunner) -> None:
    claim = asyncio.create_task(asking.questions.claim(LOCAL, "w1", 30, names=["add"], wait=30))
    run = asking.ask(NewQuestion("function", "add"))
    async with asyncio.timeout(60):
        assert len((await claim).taken) == 1
    await run.cancel()


async def test_a_worker_gets_no_function_of_somebody_else(asking: AskingRunner) -> None:
    run = asking.ask(NewQuestion("function", "add"), ANNA)
    await asked(run)
    for caller in (BERT, LOCAL):  # nor may an admin: it would be the wrong program
        assert (await asking.questions.claim(caller, "w", 30, names=["add"])).taken == []
    assert len((await asking.questions.claim(ANNA, "w", 30, names=["add"])).taken) == 1
    await run.cancel()


async def test_workers_do_not_receive_approvals(asking: AskingRunner) -> None:
    run = asking.ask(APPROVE)
    await asked(run)
    assert (await asking.questions.claim(LOCAL, "w", 30, names=["delete_all"])).taken == []
    await run.cancel()


async def test_function_calls_of_a_leaving_worker_become_available_to_others(asking: AskingRunner) -> None:
    run = asking.ask(NewQuestion("function", "add"))
    await asked(run)
    await asking.questions.claim(LOCAL, "w1", 3600, names=["add"])
    await asking.questions.let_go(LOCAL, "w1")
    assert len((await asking.questions.claim(LOCAL, "w2", 30, names=["add"])).taken) == 1
    await run.cancel()
