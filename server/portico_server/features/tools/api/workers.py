"""``/api/workers``: clients whose functions are served as tools. Workers claim the calls of these functions and answer
them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import BaseModel, ConfigDict, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import ClientLeft
from portico_server.api.native.questions import MAX_LEASE_S, MAX_WAIT_S, Claims, QuestionDescription
from portico_server.api.shapes import Listed
from portico_server.api.sse import while_present
from portico_server.core.dataclass import dataclass
from portico_server.features.tools.served import ServedFunctionSpec, WorkerInfo

router = new_router(prefix="/api/workers", tags=["Questions"])

Named = Annotated[str, Path(min_length=1, max_length=200, description="The name that the worker chose")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFunction(ServedFunctionSpec):
    """A function that a worker offers. ``timeout``: seconds that a call may take, including the wait for a free
    worker.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    description: Annotated[str, Field(max_length=20_000)] = ""
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60.0


class Joining(BaseModel, extra="forbid"):
    """A worker and all its functions. The worker chooses its own name, which must be unique among the workers of
    its key.
    """

    worker: str = Field(min_length=1, max_length=200)
    functions: list[ServedFunction] = Field(min_length=1, max_length=1_000)


class Joined(BaseModel):
    """The names of the tools that the worker now serves."""

    worker: str
    tools: list[str]


class NextCalls(BaseModel, extra="forbid"):
    """Claim up to ``limit`` calls for ``lease_seconds`` each, and renew the leases of the calls in ``holding`` for the
    same time.

    The fields work as for ``/api/questions/claim``. A worker that claims nothing for 45 seconds is considered gone.
    """

    lease_seconds: float = Field(30.0, gt=0, le=MAX_LEASE_S)
    limit: int = Field(1, ge=0, le=100)
    wait: float = Field(0.0, ge=0, le=MAX_WAIT_S)
    holding: list[str] = Field([], max_length=1_000)


class LeftWorker(BaseModel):
    """The worker has left."""

    worker: str
    deleted: bool = True


@router.get("")
async def list_workers(services: TheServices, caller: Caller) -> Listed[WorkerInfo]:
    """List the caller's workers. Admins see all workers."""
    return Listed(data=list(services.served.every(caller)))


@router.post("")
async def join(body: Joining, services: TheServices, caller: Caller) -> Joined:
    """Offer functions as tools for as long as this worker claims their calls. Requires the scope ``tools:NAME:call``
    for each function.

    An admin's functions are available to every key with that scope; another key's functions are available only to that
    key.
    """
    return Joined(worker=body.worker, tools=services.served.join(caller, body.worker, body.functions))


@router.post("/{worker}/claim")
async def claim_calls(
    worker: Named, body: NextCalls, services: TheServices, caller: Caller, request: Request
) -> Claims:
    """Claim calls of this worker's functions. The worker answers them at ``/api/questions/{id}/answer``.

    If the response is 404 with the code ``worker_not_found``, the worker must join again.
    """
    try:
        claim_result = await while_present(
            request,
            services.questions.claim(
                caller,
                worker,
                body.lease_seconds,
                names=(),
                granted_functions=services.served.note_worker(caller, worker),
                limit=body.limit,
                wait=body.wait,
                holding=body.holding,
            ),
        )
    except ClientLeft:
        services.served.broke_off(caller, worker)
        raise
    services.served.note_worker(caller, worker)
    return Claims(
        data=[QuestionDescription.model_validate(row) for row in claim_result.taken],
        lost=list(claim_result.lost),
    )


@router.delete("/{worker}")
async def leave(worker: Named, services: TheServices, caller: Caller) -> LeftWorker:
    """Remove a worker. Functions that no other worker serves disappear, and other workers can take the worker's
    unanswered calls.
    """
    services.served.leave(caller, worker)
    await services.questions.let_go(caller, worker)
    return LeftWorker(worker=worker)
