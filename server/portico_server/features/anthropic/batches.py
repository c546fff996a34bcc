"""``/v1/messages/batches``: many messages, answered in the background.

A batch is a file of requests like a batch of OpenAI's API, so both have the same limits and one model each. Source:
https://platform.claude.com/docs/en/api/creating-message-batches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from portico_server.api.declarations import binary
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Exchange
from portico_server.api.services import ApiServices
from portico_server.core import pools
from portico_server.core.errors import Conflict, InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.db.batches import BatchRow
from portico_server.features.anthropic.errors import REFUSED
from portico_server.features.anthropic.pages import AnthropicPage
from portico_server.features.batches.api.batches import TheBatches
from portico_server.features.batches.batches import BatchService
from portico_server.features.batches.spec import MAX_LINES, MESSAGES, PURPOSE, WORKING, BatchSpec
from portico_server.features.files.api.files import require_upload

router = new_router(prefix=f"{MESSAGES}/batches", tags=["Anthropic: messages"], responses=REFUSED)

LINES_AT_ONCE: Final = 200
"""Number of lines of a result file that are read at once."""


class BatchedMessage(BaseModel):
    """A request of a batch: ``params`` is the body of a message, and ``custom_id`` identifies its result."""

    custom_id: str = Field(min_length=1, max_length=64)
    params: dict[str, Any]


class MessageBatchRequest(BaseModel):
    """The requests of a batch, all for one model."""

    requests: list[BatchedMessage] = Field(min_length=1, max_length=MAX_LINES)


class MessageCounts(BaseModel):
    """Counts of the requests of a batch by their state."""

    processing: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


class MessageBatch(BaseModel):
    """A batch in Anthropic's format. Times are in RFC 3339."""

    id: str
    type: Literal["message_batch"] = "message_batch"
    processing_status: Literal["in_progress", "canceling", "ended"]
    request_counts: MessageCounts
    created_at: str
    expires_at: str
    ended_at: str | None
    cancel_initiated_at: str | None
    archived_at: str | None = None
    results_url: str | None


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _counts(row: BatchRow) -> MessageCounts:
    """Return the counts of a batch. Requests without an answer have the state in which the batch ended."""
    remaining = max(0, row.total - row.completed - row.failed)
    has_ended = row.status not in WORKING
    return MessageCounts(
        processing=0 if has_ended else remaining,
        succeeded=row.completed,
        errored=row.failed + (remaining if row.status == "failed" else 0),
        canceled=remaining if row.status == "cancelled" else 0,
        expired=remaining if row.status == "expired" else 0,
    )


def _to_batch(row: BatchRow, request: Request, services: ApiServices) -> MessageBatch:
    exchange: Exchange = request.scope["portico.exchange"]
    address = f"{exchange.base_url(services.settings)}{MESSAGES}/batches/{row.id}/results"
    status: Literal["in_progress", "canceling", "ended"] = "in_progress"
    if row.status not in WORKING:
        status = "ended"
    elif row.status == "cancelling":
        status = "canceling"
    return MessageBatch(
        id=row.id,
        processing_status=status,
        request_counts=_counts(row),
        created_at=_moment(row.created_at) or "",
        expires_at=_moment(row.expires_at) or "",
        ended_at=_moment(row.finished_at) if status == "ended" else None,
        cancel_initiated_at=_moment(row.times.get("cancelling")),
        results_url=address if status == "ended" else None,
    )


async def _get(batch_id: str, batches: BatchService, caller: Principal) -> BatchRow:
    row = await batches.get(batch_id, caller)
    if row.endpoint != MESSAGES:
        raise NotFound(
            f"'{batch_id[:80]}' is a batch of {row.endpoint}; read it at /v1/batches.", param="batch_id"
        )
    return row


async def _lines(requests: Sequence[BatchedMessage]) -> AsyncIterator[bytes]:
    for request in requests:
        line = {"custom_id": request.custom_id, "method": "POST", "url": MESSAGES, "body": request.params}
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


@router.post("")
async def create_message_batch(
    body: MessageBatchRequest, request: Request, services: TheServices, batches: TheBatches, caller: Caller
) -> MessageBatch:
    """Start a batch of messages. All requests are checked first."""
    require_upload(caller)
    await services.files.require_room(caller.id, 1)
    upload = await services.files.receive(_lines(body.requests))
    file = await services.files.keep(upload, "message-batch.jsonl", PURPOSE, caller)
    try:
        for problem in (await batches.check(file.id, MESSAGES, caller)).problems:
            number = (problem.line or 1) - 1
            param = (problem.param or "").replace("body", "params")
            raise InvalidRequest(problem.message, code=problem.code, param=f"requests[{number}].{param}")
        row = await batches.create(file.id, MESSAGES, BatchSpec(), caller)
    except BaseException:
        await services.files.delete(file.id, caller)
        raise
    return _to_batch(row, request, services)


@router.get("")
async def list_message_batches(
    request: Request,
    services: TheServices,
    batches: TheBatches,
    caller: Caller,
    after_id: str | None = None,
    before_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
) -> AnthropicPage[MessageBatch]:
    """Return the caller's batches of messages, newest first."""
    if before_id is not None:
        raise InvalidRequest(
            "'before_id' is not supported; page forwards with 'after_id'.", param="before_id"
        )
    page = await batches.list(caller, after=after_id, limit=limit, endpoint=MESSAGES)
    data = [_to_batch(row, request, services) for row in page.data]
    return AnthropicPage.of(data, has_more=page.has_more)


@router.get("/{batch_id}")
async def retrieve_message_batch(
    batch_id: str, request: Request, services: TheServices, batches: TheBatches, caller: Caller
) -> MessageBatch:
    """Return one batch of messages."""
    return _to_batch(await _get(batch_id, batches, caller), request, services)


@router.post("/{batch_id}/cancel")
async def cancel_message_batch(
    batch_id: str, request: Request, services: TheServices, batches: TheBatches, caller: Caller
) -> MessageBatch:
    """Cancel a batch of messages. Requests that were answered before keep their results."""
    await _get(batch_id, batches, caller)
    return _to_batch(await batches.cancel(batch_id, caller), request, services)


@router.get(
    "/{batch_id}/results",
    response_class=StreamingResponse,
    responses=binary("A line of JSON for each request", "application/x-jsonl"),
)
async def read_message_batch(
    batch_id: str, services: TheServices, batches: TheBatches, caller: Caller
) -> StreamingResponse:
    """Return the results of a batch that has ended, in any order."""
    row = await _get(batch_id, batches, caller)
    if row.status in WORKING:
        raise Conflict(f"The batch '{row.id}' has not ended yet; its results follow then.", code="not_ended")
    return StreamingResponse(_results(row, services, caller), media_type="application/x-jsonl")


async def _results(row: BatchRow, services: ApiServices, caller: Principal) -> AsyncIterator[bytes]:
    for file_id in filter(None, (row.output_file_id, row.error_file_id)):
        file = await services.files.get(file_id, caller)
        async with services.files.open(file.sha256) as path:
            with await pools.FILES.run(path.open, "rb") as lines:
                while block := await pools.FILES.run(lambda: list(islice(lines, LINES_AT_ONCE))):
                    yield b"".join(map(_to_result, block))


def _to_result(line: bytes) -> bytes:
    """Return a line of a result file in Anthropic's format."""
    answer = orjson.loads(line)
    response = answer["response"]
    result: Mapping[str, Any]
    if response is None:
        result = _unanswered(answer["error"])
    elif response["status_code"] < 400:
        result = {"type": "succeeded", "message": response["body"]}
    else:
        result = {"type": "errored", "error": response["body"]}
    return orjson.dumps(
        {"custom_id": answer["custom_id"], "result": result}, option=orjson.OPT_APPEND_NEWLINE
    )


def _unanswered(error: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = {"batch_expired": "expired", "batch_cancelled": "canceled"}.get(error["code"])
    if kind is not None:
        return {"type": kind}
    detail = {"type": "api_error", "message": error["message"]}
    return {"type": "errored", "error": {"type": "error", "error": detail, "request_id": None}}
