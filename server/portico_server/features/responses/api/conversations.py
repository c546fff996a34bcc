"""``/v1/conversations``: conversations and their items."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, Query
from starlette.responses import Response

from portico_server.api.declarations import document
from portico_server.api.endpoint import Caller, new_router
from portico_server.api.shapes import Page, RemovedObject, answer
from portico_server.db.conversations import ConversationRow
from portico_server.features.responses.api.answer_shapes import ConversationState, ResponseItem
from portico_server.features.responses.api.shapes import page
from portico_server.features.responses.api.stored import Included, TheResponses
from portico_server.features.responses.event_builder import to_client_item
from portico_server.features.responses.read import include as read_include

router = new_router(prefix="/v1/conversations", tags=["OpenAI: conversations"])

RequestObject = Annotated[dict[str, Any], Body()]


@router.post("", responses=document(ConversationState), response_class=Response)
async def create_conversation(
    responses: TheResponses, caller: Caller, body: Annotated[dict[str, Any] | None, Body()] = None
) -> Response:
    """Create a conversation, with up to 20 items."""
    return answer(_to_conversation(await responses.conversations.create(body or {}, caller)))


@router.get("/{conversation_id}", responses=document(ConversationState), response_class=Response)
async def retrieve_conversation(conversation_id: str, responses: TheResponses, caller: Caller) -> Response:
    """Return one conversation, without its items."""
    return answer(_to_conversation(await responses.conversations.get(conversation_id, caller)))


@router.post("/{conversation_id}", responses=document(ConversationState), response_class=Response)
async def update_conversation(
    conversation_id: str, body: RequestObject, responses: TheResponses, caller: Caller
) -> Response:
    """Replace the metadata of a conversation."""
    return answer(_to_conversation(await responses.conversations.change(conversation_id, body, caller)))


@router.delete("/{conversation_id}", responses=document(RemovedObject), response_class=Response)
async def delete_conversation(conversation_id: str, responses: TheResponses, caller: Caller) -> Response:
    """Delete a conversation with its items. Responses that belong to it are kept."""
    await responses.conversations.delete(conversation_id, caller)
    return answer({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@router.post("/{conversation_id}/items", responses=document(Page[ResponseItem]), response_class=Response)
async def create_items(
    conversation_id: str, body: RequestObject, responses: TheResponses, caller: Caller, include: Included
) -> Response:
    """Append up to 20 items to a conversation."""
    included_fields = read_include(include)
    return answer(
        page(
            await responses.conversations.add(conversation_id, body, caller), included_fields, has_more=False
        )
    )


@router.get("/{conversation_id}/items", responses=document(Page[ResponseItem]), response_class=Response)
async def list_items(
    conversation_id: str,
    responses: TheResponses,
    caller: Caller,
    include: Included,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """Return the items of a conversation, newest first."""
    included_fields = read_include(include)
    item_page = await responses.conversations.page(
        conversation_id, caller, after=after, limit=limit, descending=order == "desc"
    )
    return answer(page(item_page.items, included_fields, has_more=item_page.more))


@router.get("/{conversation_id}/items/{item_id}", responses=document(ResponseItem), response_class=Response)
async def retrieve_item(
    conversation_id: str,
    item_id: str,
    responses: TheResponses,
    caller: Caller,
    include: Included,
) -> Response:
    """Return one item of a conversation."""
    included_fields = read_include(include)
    return answer(
        to_client_item(await responses.conversations.item(conversation_id, item_id, caller), included_fields)
    )


@router.delete(
    "/{conversation_id}/items/{item_id}", responses=document(ConversationState), response_class=Response
)
async def delete_item(
    conversation_id: str, item_id: str, responses: TheResponses, caller: Caller
) -> Response:
    """Delete an item, and return the conversation without it."""
    return answer(_to_conversation(await responses.conversations.remove(conversation_id, item_id, caller)))


def _to_conversation(row: ConversationRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "conversation",
        "created_at": int(row.created_at),
        "metadata": dict(row.metadata),
    }
