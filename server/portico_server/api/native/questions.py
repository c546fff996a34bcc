"""``/api/questions``: what runs wait for, and answering it: approvals, functions of clients, input of people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.exchange import ClientLeft
from portico_server.api.sse import EventStream, frame, while_present
from portico_server.core.principal import Principal
from portico_server.db.questions import QuestionRow
from portico_server.runs.questions import Questions
from portico_server.tools.approval import Rule
from portico_server.tools.served import ServedFunctionSpec

router = new_router(prefix="/api/questions", tags=["Questions"])

MAX_LEASE_S = 3600.0
MAX_WAIT_S = 30.0


class Question(BaseModel):
    """What a run waits for. Times in seconds since 1970; ``answer_schema`` is the JSON Schema of a value.

    ``accepted``, ``value``, ``note``, ``answered_by`` and ``answered_at`` are the answer. ``worker`` is the client that
    has taken a function, until ``lease_expires``. ``key`` is the same when a run that was cut off asks the same again.
    """

    id: str
    run: str
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
    worker: str | None
    lease_expires: float | None
    key: str

    @classmethod
    def of(cls, row: QuestionRow) -> Question:
        """As its row has it."""
        return cls(
            id=row.id,
            run=row.run_id,
            kind=row.kind,
            name=row.name,
            message=row.message,
            arguments=dict(row.arguments),
            answer_schema=dict(row.answer_schema) if row.answer_schema is not None else None,
            status=row.status,
            created_at=row.created_at,
            expires_at=row.expires_at,
            accepted=row.accepted,
            value=row.value,
            note=row.note,
            answered_by=row.answered_by,
            answered_at=row.answered_at,
            worker=row.lease_owner,
            lease_expires=row.lease_expires,
            key=row.effect,
        )


class QuestionList(BaseModel):
    """Newest first."""

    data: list[Question]


class Reply(BaseModel):
    """An answer. ``value`` is what was asked for, ``note`` what the run, and a model behind it, is told about it.

    ``worker`` is the name under which a function was claimed.
    """

    model_config = ConfigDict(extra="forbid")

    accepted: bool
    value: Any = None
    note: str = Field("", max_length=10_000)
    worker: str = Field("", max_length=200)


class Claim(BaseModel):
    """What a worker can do: functions called one of ``names``, of one ``run`` if it is named.

    Up to ``limit`` are taken for ``lease_seconds`` each; ``holding`` are ids taken earlier, kept as long again. If
    there is nothing, waits up to ``wait`` seconds for the first.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["function"] = "function"
    names: list[str] = Field([], max_length=1_000)
    worker: str = Field(min_length=1, max_length=200)
    lease_seconds: float = Field(30.0, gt=0, le=MAX_LEASE_S)
    run: str | None = None
    limit: int = Field(1, ge=0, le=100)
    wait: float = Field(0.0, ge=0, le=MAX_WAIT_S)
    holding: list[str] = Field([], max_length=1_000)


class Claims(BaseModel):
    """What the worker has taken; ``lost`` are those of ``holding`` that are no longer its own: stop working on them."""

    data: list[Question]
    lost: list[str]


@router.get("")
async def list_questions(
    parts: TheParts,
    caller: Caller,
    status: Literal["pending", "answered", "expired", "cancelled"] | None = None,
    run: Annotated[str | None, Query(description="Only what this run asked.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> QuestionList:
    """What the caller's runs have asked, newest first; what all runs have asked, for an admin."""
    rows = await parts.questions.list(caller, status=status, run_id=run, limit=limit)
    return QuestionList(data=[Question.of(row) for row in rows])


@router.get(
    "/events",
    response_class=EventStream,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Questions as they come and end"}},
)
async def question_events(parts: TheParts, caller: Caller) -> EventStream:
    """All that wait, then each question as it is asked, answered or ends: events called by its status."""
    return EventStream(_changes(parts.questions, caller))


@router.post("/claim")
async def claim_questions(wish: Claim, parts: TheParts, caller: Caller, request: Request) -> Claims:
    """Take functions to execute. What a worker does not answer before its lease runs out, another one gets."""
    claimed = await while_present(
        request,
        parts.questions.claim(
            caller,
            wish.worker,
            wish.lease_seconds,
            names=wish.names,
            run_id=wish.run,
            limit=wish.limit,
            wait=wish.wait,
            holding=wish.holding,
        ),
    )
    return Claims(data=[Question.of(row) for row in claimed.taken], lost=list(claimed.lost))


@router.get("/{question_id}")
async def retrieve_question(question_id: str, parts: TheParts, caller: Caller) -> Question:
    """One of them."""
    return Question.of(await parts.questions.get(question_id, caller))


@router.post("/{question_id}/answer")
async def answer_question(question_id: str, reply: Reply, parts: TheParts, caller: Caller) -> Question:
    """Answer; the run continues at once. Only the first answer counts: a second one is refused with 409."""
    row = await parts.questions.answer(
        question_id,
        caller,
        accepted=reply.accepted,
        value=reply.value,
        note=reply.note,
        worker=reply.worker,
        granted=parts.served.granted(caller),
    )
    return Question.of(row)


async def _changes(questions: Questions, caller: Principal) -> AsyncIterator[bytes]:
    yield b": questions\n\n"
    number = 0
    async for row in questions.watch(caller):
        number += 1
        yield frame(number, row.status, Question.of(row).model_dump())


# ``/api/workers``: clients whose functions are tools here. They claim the calls and answer them.


worker_router = new_router(prefix="/api/workers", tags=["Questions"])

Named = Annotated[str, Path(min_length=1, max_length=200, description="The name that the worker gave itself")]


class ServedFunction(BaseModel):
    """A function of a client. ``timeout``: seconds a call may take, the wait for a free worker included."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = Field("", max_length=20_000)
    input_schema: dict[str, Any]
    read_only: bool = False
    destructive: bool = False
    timeout: float = Field(60.0, gt=0, le=86_400)
    approval: Rule = ""


class Joining(BaseModel):
    """A worker and all it can do. Its name is its own choice, unique among the workers of its key."""

    model_config = ConfigDict(extra="forbid")

    worker: str = Field(min_length=1, max_length=200)
    functions: list[ServedFunction] = Field(min_length=1, max_length=1_000)


class Joined(BaseModel):
    """The names of the tools that it now serves."""

    worker: str
    tools: list[str]


class Worker(BaseModel):
    """A worker that is there. ``seen``: its last word, in seconds since 1970."""

    name: str
    owner: str
    functions: list[str]
    seen: float


class WorkerList(BaseModel):
    """By name."""

    data: list[Worker]


class NextCalls(BaseModel):
    """Take up to ``limit`` calls for ``lease_seconds`` each, and keep ``holding`` as long.

    The same as for ``/api/questions/claim``. A worker that claims nothing for 45 seconds is taken for gone.
    """

    model_config = ConfigDict(extra="forbid")

    lease_seconds: float = Field(30.0, gt=0, le=MAX_LEASE_S)
    limit: int = Field(1, ge=0, le=100)
    wait: float = Field(0.0, ge=0, le=MAX_WAIT_S)
    holding: list[str] = Field([], max_length=1_000)


class LeftWorker(BaseModel):
    """It has gone."""

    worker: str
    deleted: bool = True


@worker_router.get("")
async def list_workers(parts: TheParts, caller: Caller) -> WorkerList:
    """The caller's workers; all of them for an admin."""
    return WorkerList(data=[Worker(**asdict(info)) for info in parts.served.every(caller)])


@worker_router.post("")
async def join(wish: Joining, parts: TheParts, caller: Caller) -> Joined:
    """Offer functions as tools while this worker claims their calls. Asks for ``tools:NAME:call`` of each.

    Those of an admin are for every key with that scope, those of another key for that key alone.
    """
    functions = [ServedFunctionSpec(**item.model_dump()) for item in wish.functions]
    return Joined(worker=wish.worker, tools=parts.served.join(caller, wish.worker, functions))


@worker_router.post("/{worker}/claim")
async def claim_calls(
    worker: Named, wish: NextCalls, parts: TheParts, caller: Caller, request: Request
) -> Claims:
    """Calls of this worker's functions, to be answered at ``/api/questions/{id}/answer``.

    404 with the code ``worker_not_found``: join again.
    """
    try:
        claimed = await while_present(
            request,
            parts.questions.claim(
                caller,
                worker,
                wish.lease_seconds,
                names=(),
                granted=parts.served.heard(caller, worker),
                limit=wish.limit,
                wait=wish.wait,
                holding=wish.holding,
            ),
        )
    except ClientLeft:
        parts.served.broke_off(caller, worker)
        raise
    parts.served.heard(caller, worker)
    return Claims(data=[Question.of(row) for row in claimed.taken], lost=list(claimed.lost))


@worker_router.delete("/{worker}")
async def leave(worker: Named, parts: TheParts, caller: Caller) -> LeftWorker:
    """Say goodbye: the functions that no other worker serves are gone, calls not answered go to others."""
    parts.served.leave(caller, worker)
    await parts.questions.let_go(caller, worker)
    return LeftWorker(worker=worker)
