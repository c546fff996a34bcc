"""``GET /v1/chat/completions`` and the paths below it: chat completions that were requested with ``store``.

https://platform.openai.com/docs/api-reference/chat/list
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from portico_server.api.declarations import document
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.openai.answer_shapes import ChatCompletion, ChatToolCall, OpenShape
from portico_server.api.openai.bodies import MAX_METADATA, MAX_METADATA_NAME, MAX_METADATA_VALUE, METADATA
from portico_server.api.shapes import Page, RemovedObject, answer
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.db.chats import ChatRow

router = new_router(prefix="/v1/chat/completions", tags=["OpenAI: models"])

_FILTER: Final = re.compile(r"metadata\[([^\[\]]*)\]")

_FILTERS: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "description": "Only completions whose metadata has these entries: metadata[topic]=tea",
            "schema": {
                "type": "object",
                "maxProperties": MAX_METADATA,
                "additionalProperties": {"type": "string", "maxLength": MAX_METADATA_VALUE},
            },
        }
    ]
}


class ChatChange(BaseModel):
    """New metadata for a stored chat completion."""

    metadata: dict[str, str] | None


class StoredMessage(OpenShape):
    """A message of a stored request. ``content_parts`` contains the content if it is a list of parts."""

    id: str
    role: str
    content: str | None
    content_parts: list[dict[str, Any]] | None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None


@router.get("", responses=document(Page[ChatCompletion]), response_class=Response, openapi_extra=_FILTERS)
async def list_chat_completions(
    request: Request,
    services: TheServices,
    caller: Caller,
    model: Annotated[str | None, Query(max_length=200)] = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "asc",
) -> Response:
    """Return the stored chat completions, oldest first."""
    row_page = await services.chats.list(
        caller,
        model=model,
        metadata=_metadata_filter(request.query_params),
        after=after,
        limit=limit,
        order=order,
    )
    return answer(_page([_document(row) for row in row_page.data], row_page.has_more))


@router.get("/{completion_id}", responses=document(ChatCompletion), response_class=Response)
async def retrieve_chat_completion(completion_id: str, services: TheServices, caller: Caller) -> Response:
    """Return one stored chat completion."""
    return answer(_document(await services.chats.get(completion_id, caller)))


@router.post("/{completion_id}", responses=document(ChatCompletion), response_class=Response)
async def update_chat_completion(
    completion_id: str, body: ChatChange, services: TheServices, caller: Caller
) -> Response:
    """Replace the metadata of a stored chat completion."""
    metadata = body.metadata or {}
    METADATA.check(metadata, "metadata")
    return answer(_document(await services.chats.describe(completion_id, metadata, caller)))


@router.delete("/{completion_id}", responses=document(RemovedObject), response_class=Response)
async def delete_chat_completion(completion_id: str, services: TheServices, caller: Caller) -> Response:
    """Delete a stored chat completion."""
    await services.chats.delete(completion_id, caller)
    return answer({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})


@router.get("/{completion_id}/messages", responses=document(Page[StoredMessage]), response_class=Response)
async def list_chat_completion_messages(
    completion_id: str,
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "asc",
) -> Response:
    """Return the messages of a stored chat completion's request in order."""
    messages = _messages(await services.chats.get(completion_id, caller))
    if order == "desc":
        messages = messages[::-1]
    if after is not None:
        ids = [message["id"] for message in messages]
        if after not in ids:
            raise NotFound(
                f"This chat has no message '{after[:80]}'.", code="message_not_found", param="after"
            )
        messages = messages[ids.index(after) + 1 :]
    return answer(_page(messages[:limit], len(messages) > limit))


def _metadata_filter(query: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of a query in the form ``metadata[name]=value``, by which completions are filtered."""
    metadata = {
        match[1]: value for name, value in query.items() if (match := _FILTER.fullmatch(name)) is not None
    }
    if len(metadata) > MAX_METADATA or any(len(name) > MAX_METADATA_NAME for name in metadata):
        raise InvalidRequest(
            f"'metadata' names more than {MAX_METADATA} entries, or a name with more than "
            f"{MAX_METADATA_NAME} characters.",
            param="metadata",
        )
    return metadata


def _document(row: ChatRow) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(row.document)
    return {**document, "metadata": dict(row.metadata)}


def _messages(row: ChatRow) -> list[dict[str, Any]]:
    """Return the messages of a stored request in OpenAI's format: if the content is a list of parts, the parts are in
    a separate field and the content is null.
    """
    shown_messages = []
    for number, message in enumerate(orjson.loads(row.messages)):
        parts = message["content"] if isinstance(message.get("content"), list) else None
        shown_messages.append(
            {
                "id": f"{row.id}-{number}",
                "refusal": None,
                "content": None,
                **message,
                "content_parts": parts,
                **({} if parts is None else {"content": None}),
            }
        )
    return shown_messages


def _page(data: Sequence[Mapping[str, Any]], has_more: bool) -> dict[str, Any]:
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": ends[0], "last_id": ends[1], "has_more": has_more}
