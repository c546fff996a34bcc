"""``/api/questions``: list and answer the questions of runs: approvals, client functions, input from people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import ListedPart
from portico_server.api.sse import EventStream, frame, while_present
from portico_server.core.principal import Principal
from portico_server.runs.questions import QuestionService

router = new_router(prefix="/api/questions", tags=["Questions"])

MAX_LEASE_S = 3600.0
MAX_WAIT_S = 30.0


class QuestionDescription(BaseModel, from_attributes=True):
    """A question whose answer a run waits for. Times are in seconds since 1970; ``answer_schema`` is the JSON Schema
    of the answer's ``value``.

    ``accepted``, ``value``, ``note``, ``answered_by`` and ``answered_at`` describe the answer. ``worker`` is the
    client that has claimed a function call, until ``lease_expires``. ``key`` stays the same when an interrupted run
    asks the same question again.
    """

    id: str
    run: str = Field(validation_alias="run_id")
    kind: Literal["approval", "function", "input", "chat"]
    name: str
    message: str
    arguments: dict[str, Any]
    answer_schema: dict[str, Any] | None
    status: Literal["pending", "answered", "expired", "cancelled"]
    created_at: float
    expires_at: float
    accepted: bool | None
    value: Any
    note: str | None
    answered_by: str | None
    answered_at: float | None
    worker: str | None = Field(validation_alias="lease_owner")
    lease_expires: float | None
    key: str = Field(validation_alias="effect")


class QuestionAnswer(BaseModel, extra="forbid"):
    """An answer. ``value`` is the requested value, ``note`` a remark for the run and its model.

    ``worker`` is the name of the worker that claimed the function call.
    """

    accepted: bool
    value: Any = None
    note: str = Field("", max_length=10_000)
    worker: str = Field("", max_length=200)


class Claim(BaseModel, extra="forbid"):
    """What a worker can execute: calls of the functions ``names``, of a single ``run`` if it is set.

    Up to ``limit`` calls are claimed for ``lease_seconds`` each; ``holding`` are ids of calls claimed earlier, whose
    lease is renewed for the same time. If no call is available, the request waits up to ``wait`` seconds for one.
    """

    kind: Literal["function"] = "function"
    names: list[str] = Field([], max_length=1_000)
    worker: str = Field(min_length=1, max_length=200)
    lease_seconds: float = Field(30.0, gt=0, le=MAX_LEASE_S)
    run: str | None = None
    limit: int = Field(1, ge=0, le=100)
    wait: float = Field(0.0, ge=0, le=MAX_WAIT_S)
    holding: list[str] = Field([], max_length=1_000)


class Claims(BaseModel):
    """The function calls that the worker has claimed. ``lost`` are the ids in ``holding`` that the worker no longer
    owns: it must stop working on these calls.
    """

    data: list[QuestionDescription]
    lost: list[str]


@router.get("")
async def list_questions(
    services: TheServices,
    caller: Caller,
    status: Literal["pending", "answered", "expired", "cancelled"] | None = None,
    run: Annotated[str | None, Query(description="Only questions of this run.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ListedPart[QuestionDescription]:
    """List the questions of the caller's runs, newest first. Admins see the questions of all runs."""
    page = await services.questions.list(caller, status=status, run_id=run, limit=limit)
    data = [QuestionDescription.model_validate(row) for row in page.data]
    return ListedPart(data=data, has_more=page.has_more)


@router.get(
    "/events",
    response_class=EventStream,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "Each question when it is asked and when it ends",
        }
    },
)
async def question_events(services: TheServices, caller: Caller) -> EventStream:
    """Stream all open questions, then each question when it is asked, is answered or ends. An event's name is the
    question's status.
    """
    return EventStream(_changes(services.questions, caller))


@router.post("/claim")
async def claim_questions(body: Claim, services: TheServices, caller: Caller, request: Request) -> Claims:
    """Claim function calls to execute. If a call is not answered before its lease expires, another worker can
    claim it.
    """
    claim_result = await while_present(
        request,
        services.questions.claim(
            caller,
            body.worker,
            body.lease_seconds,
            names=body.names,
            run_id=body.run,
            limit=body.limit,
            wait=body.wait,
            holding=body.holding,
        ),
    )
    return Claims(
        data=[QuestionDescription.model_validate(row) for row in claim_result.taken],
        lost=list(claim_result.lost),
    )


@router.get("/{question_id}")
async def retrieve_question(question_id: str, services: TheServices, caller: Caller) -> QuestionDescription:
    """Return a question."""
    return QuestionDescription.model_validate(await services.questions.get(question_id, caller))


@router.post("/{question_id}/answer")
async def answer_question(
    question_id: str, reply: QuestionAnswer, services: TheServices, caller: Caller
) -> QuestionDescription:
    """Answer a question; the run continues immediately. Only the first answer counts; a second answer is refused with
    409.
    """
    row = await services.questions.answer(
        question_id,
        caller,
        is_accepted=reply.accepted,
        value=reply.value,
        note=reply.note,
        worker=reply.worker,
        granted_functions=services.served.claimable_questions(caller),
    )
    return QuestionDescription.model_validate(row)


async def _changes(questions: QuestionService, caller: Principal) -> AsyncIterator[bytes]:
    yield b": questions\n\n"
    number = 0
    async for row in questions.watch(caller):
        number += 1
        yield frame(number, row.status, QuestionDescription.model_validate(row).model_dump())
