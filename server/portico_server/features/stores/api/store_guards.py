"""``/api/stores/{store}/guards`` and ``/review``: questions that guard a store, and decisions about its changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from portico.schemas.store_guards import GuardQuestion, StoreReview
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedId, shaped
from portico_server.core.context import Context
from portico_server.db.guard_questions import GuardQuestionRow

router = new_router(prefix="/api/stores/{store}", tags=["Stores"])

MAX_ADDED_QUESTIONS = 100
"""Maximum number of questions in one request."""


class GuardQuestions(BaseModel, extra="forbid"):
    """Questions to add. Each has a ``question``, and the ``file`` (its name) that answers it, with a ``passage`` quoted
    from the file, or the ``facts`` that the passages must contain.
    """

    questions: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_ADDED_QUESTIONS)


@router.get("/guards")
async def list_guard_questions(store: str, services: TheServices, caller: Caller) -> Listed[GuardQuestion]:
    """List the questions that guard a store, oldest first."""
    row = await services.stores.get(store, caller, is_whole=True)
    question_rows = await services.stores.guards.list(row)
    return Listed(data=[shaped(GuardQuestion, question_row) for question_row in question_rows])


@router.post("/guards")
async def add_guard_questions(
    store: str, body: GuardQuestions, services: TheServices, caller: Caller
) -> Listed[GuardQuestion]:
    """Add questions that guard a store: each change of its files is checked with them before searches use it."""
    row = await services.stores.get(store, caller, "manage")

    async def work(context: Context) -> Sequence[GuardQuestionRow]:
        return await services.stores.guards.add(row, body.questions, caller, context)

    run = await services.runner.begin("guard questions", row.name or row.id, caller, work)
    question_rows = await services.runner.wait(run)
    return Listed(data=[shaped(GuardQuestion, question_row) for question_row in question_rows])


@router.delete("/guards/{question_id}")
async def remove_guard_question(
    store: str, question_id: str, services: TheServices, caller: Caller
) -> RemovedId:
    """Remove a question that guards a store."""
    await services.stores.guards.remove(await services.stores.get(store, caller, "manage"), question_id)
    return RemovedId(id=question_id)


@router.get("/review")
async def read_review(store: str, services: TheServices, caller: Caller) -> StoreReview:
    """Return the last check of a change of a store's files: the questions whose answers it turns wrong, with both
    passages.
    """
    return await services.stores.guards.review(await services.stores.get(store, caller, is_whole=True))


@router.post("/review/accept")
async def accept_change(store: str, services: TheServices, caller: Caller) -> StoreReview:
    """Accept the change that a store holds: from now on, searches use it."""
    row = await services.stores.get(store, caller, "manage")
    await services.stores.guards.settle(row, "accepted")
    return await services.stores.guards.review(row)


@router.post("/review/reject")
async def reject_change(store: str, services: TheServices, caller: Caller) -> StoreReview:
    """Reject the change that a store holds: remove its new files, and keep the old files. A store that follows a source
    is paused, because the next sync would bring the change back.
    """
    row = await services.stores.get(store, caller, "manage")
    await services.stores.guards.settle(row, "rejected")
    return await services.stores.guards.review(row)
