"""``/v1/responses/{id}``: retrieve, follow, cancel and delete responses, and list their input items. Also compaction
and token counts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, Depends, Query, Request
from starlette.responses import Response

from portico_server.api.declarations import document
from portico_server.api.endpoint import Caller, TheServices, feature_service, new_router
from portico_server.api.exchange import Presence
from portico_server.api.shapes import Page, RemovedObject, answer
from portico_server.api.sse import EventStream
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.features.responses.api.answer_shapes import (
    CompactedResponse,
    InputTokenCount,
    ModelResponse,
    ResponseItem,
)
from portico_server.features.responses.api.create import to_frames
from portico_server.features.responses.api.own_endpoint import with_own_paths
from portico_server.features.responses.api.service import ResponseService
from portico_server.features.responses.api.shapes import (
    DOCUMENT_OR_EVENTS,
    page,
    response_document,
)
from portico_server.features.responses.read import include as read_include

router = new_router(prefix="/v1/responses", tags=["OpenAI: responses"])


def _include_fields(
    include: Annotated[list[str] | None, Query()] = None,
    bracketed_values: Annotated[list[str] | None, Query(alias="include[]", include_in_schema=False)] = None,
) -> list[str]:
    return [*(include or ()), *(bracketed_values or ())]


TheResponses = Annotated[ResponseService, feature_service("responses", ResponseService)]
"""The service of the feature."""

Included = Annotated[list[str], Depends(_include_fields)]
"""The values of the query parameter ``include``; OpenAI's clients write lists as ``include[]=…``.

``/openapi.json`` declares only ``include``: in code that is generated from it, both would have the same name.
"""


@router.post("/input_tokens", responses=document(InputTokenCount), response_class=Response)
async def count_input_tokens(
    body: Annotated[dict[str, Any], Body()],
    request: Request,
    services: TheServices,
    responses: TheResponses,
    caller: Caller,
) -> Response:
    """Count the tokens that a request would send to the model, without running the request. This loads the model."""
    exchange = request.scope["portico.exchange"]
    count = await responses.responder.count(with_own_paths(body, exchange, services.settings), caller)
    return answer({"object": "response.input_tokens", "input_tokens": count})


@router.post("/compact", responses=document(CompactedResponse), response_class=Response)
async def compact_response(
    body: Annotated[dict[str, Any], Body()], request: Request, responses: TheResponses, caller: Caller
) -> Response:
    """Compact a conversation into its user messages and one item in which the model summarizes everything else."""
    with Presence(request.scope["portico.exchange"]):
        return answer(await responses.responder.compact(body, caller))


@router.get("/{response_id}", responses=DOCUMENT_OR_EVENTS, response_class=Response)
async def retrieve_response(
    response_id: str,
    responses: TheResponses,
    caller: Caller,
    include: Included,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1)] = -1,
) -> Response:
    """Return a stored response. With ``stream``, return the events of a background response that follow number
    ``starting_after``.
    """
    row = await responses.responder.get(response_id, caller)
    if not stream:
        return answer(response_document(row, read_include(include)))
    if not row.background:
        raise InvalidRequest(
            "Only a response created with 'background' and 'stream' can be followed.",
            code="not_streamed",
            param="stream",
        )
    return EventStream(to_frames(await responses.responder.background.follow(row, starting_after)))


@router.delete("/{response_id}", responses=document(RemovedObject), response_class=Response)
async def delete_response(response_id: str, responses: TheResponses, caller: Caller) -> Response:
    """Delete a stored response. A response in progress is cancelled."""
    await responses.responder.delete(response_id, caller)
    return answer({"id": response_id, "object": "response", "deleted": True})


@router.post("/{response_id}/cancel", responses=document(ModelResponse), response_class=Response)
async def cancel_response(response_id: str, responses: TheResponses, caller: Caller) -> Response:
    """Cancel a background response. A cancelled response stays unchanged; any other ended response gets 409."""
    return answer(response_document(await responses.responder.cancel(response_id, caller), frozenset()))


@router.get("/{response_id}/input_items", responses=document(Page[ResponseItem]), response_class=Response)
async def list_input_items(
    response_id: str,
    responses: TheResponses,
    caller: Caller,
    include: Included,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """Return the items of the request's own input, without items of the conversation that the request continues."""
    items = await responses.responder.input_items(response_id, caller)
    if order == "desc":
        items = items[::-1]
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise NotFound(f"This input has no item '{after[:80]}'.", code="item_not_found", param="after")
        items = items[ids.index(after) + 1 :]
    included_fields = read_include(include)
    return answer(page(items[:limit], included_fields, has_more=len(items) > limit))
