"""Preparation of a request: finds the earlier items that it continues from, the files that it names, and the app or
model that answers.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico_server.core.invalid import unsupported
from portico_server.core.media import FILES_CAPABILITY
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Message
from portico_server.core.servable import Card, Servable, relays, task_advice
from portico_server.db import conversations, responses
from portico_server.db.conversations import MAX_WHOLE_CHARS, MAX_WHOLE_ITEMS, ConversationRow
from portico_server.db.database import Database
from portico_server.db.responses import OPEN_STATUSES, ResponseRow
from portico_server.features.responses.event_builder import EventBuilder
from portico_server.features.responses.ids import ItemIds, response_of
from portico_server.features.responses.items import Item
from portico_server.features.responses.messages import check_pairs
from portico_server.features.responses.request import ResponseRequest
from portico_server.features.responses.skeleton import skeleton
from portico_server.features.responses.tool_context import ResponseFiles
from portico_server.features.responses.work import PreparedResponse

SESSION = "conversation/"
"""Prefix of an app session that belongs to a conversation, because the conversation's id alone could equal the id of
another session.
"""


class PromptRenderer(Protocol):
    """Renders prompts by name and version."""

    async def render(
        self, name: str, arguments: Mapping[str, Any], caller: Principal, *, version: int | None = None
    ) -> tuple[Message, ...]: ...


@dataclass(frozen=True, slots=True)
class Preparer:
    """Prepares a request to be answered."""

    database: Database
    registry: Registry
    uploads: ResponseFiles
    prompts: PromptRenderer

    async def prepare(
        self,
        ask: ResponseRequest,
        response_id: str,
        mint: ItemIds,
        caller: Principal,
        *,
        machine: EventBuilder | None = None,
        items: Mapping[str, Sequence[Item]] | None = None,
    ) -> PreparedResponse:
        """Prepare a request. Raises `NotFound` for missing resources, `InvalidRequest` for a contradictory request.

        ``machine`` is the event builder of a response that has already started; ``items`` maps the ids of unstored
        responses to their items. A stored response that continues from an unstored response contains its items in
        ``input``.
        """
        servable = await self._model(ask, caller)
        is_inlined = ask.previous in items if items else False
        if items and is_inlined:
            row, session, known_items = None, "", list(items[ask.previous])
            if len(known_items) > MAX_WHOLE_ITEMS or len(orjson.dumps(known_items)) > MAX_WHOLE_CHARS:
                raise _too_long(
                    f"The response '{ask.previous}' with its earlier responses", "previous_response_id", _ANEW
                )
        else:
            row, session, known_items = await self._find_history(ask, servable.card, caller)
        input_items = await self._resolve(ask.input, known_items, caller)
        before = [*known_items, *input_items]
        check_pairs(before)
        if not before and ask.prompt is None:
            raise InvalidRequest(
                "Nothing to answer: 'input' is empty, and the request does not continue an earlier "
                "conversation. Send a message in 'input'.",
                param="input",
            )
        media = await self._media(before, servable.card, caller)
        head = await self.head(ask, caller)
        if machine is None:
            machine = EventBuilder(skeleton(ask, response_id), mint, ask.include)
        given_ask = ask if input_items == list(ask.input) else _with_input(ask, input_items)
        if is_inlined:
            given_ask = replace(_with_input(ask, before), previous="")
        after = None if row is None else row.last_seq
        return PreparedResponse(given_ask, servable, machine, before, head, media, session, after)

    async def _model(self, ask: ResponseRequest, caller: Principal) -> Servable:
        name = ask.model
        servable = await self.registry.resolve(name, caller)
        if "chat" in servable.card.capabilities:
            if servable.card.kind == "app" and ask.options.get("logprobs"):
                unsupported("top_logprobs", f"is not available from the app '{name}'; call a model directly")
            if (ask.compacts or ask.threshold is not None) and not relays(servable):
                unsupported(
                    "context_management",
                    f"is not available from the app '{name}', because the app would have to summarize its "
                    "own input. Name a model",
                )
            return servable
        can = ", ".join(sorted(servable.card.capabilities)) or "nothing else"
        hint = task_advice(servable.card, "chat") or " Use a chat model or an app that chats."
        raise InvalidRequest(
            f"The model '{name}' does not support responses; it supports {can}.{hint}",
            code="unsupported_operation",
            param="model",
        )

    async def _find_history(
        self, ask: ResponseRequest, card: Card, caller: Principal
    ) -> tuple[ConversationRow | None, str, list[Item]]:
        """Return the conversation to continue, the session id for an app that keeps its own history, and the earlier
        items.
        """
        if ask.previous:
            return None, "", await self._chain(ask.previous, caller)
        if not ask.conversation:
            return None, "", []
        keeps = _keeps_sessions(card)
        conversation = await self.database.read(conversations.with_items, ask.conversation)
        if conversation is None or not caller.sees(conversation[0].owner):
            if keeps:  # a session of the app, named by its owner
                return None, ask.conversation, []
            raise NotFound(
                f"The conversation '{ask.conversation[:80]}' does not exist or you have no access to it.",
                code="conversation_not_found",
                param="conversation",
            )
        row, texts = conversation
        if keeps:  # the app keeps its own history; the items are stored too
            return row, f"{SESSION}{row.id}", []
        if texts is None:
            hint = "Delete some of its items, or start a new conversation."
            raise _too_long(f"The conversation '{row.id}'", "conversation", hint)
        return row, "", [orjson.loads(text) for text in texts]

    async def _chain(self, response_id: str, caller: Principal) -> list[Item]:
        owner = None if caller.admin else caller.id
        rows = await self.database.read(responses.chain, response_id, owner)
        if rows is None:
            raise _too_long(
                f"The response '{response_id[:80]}' with its earlier responses", "previous_response_id", _ANEW
            )
        first = rows[0].previous_id if rows else response_id
        if first is not None:
            raise NotFound(
                f"The previous response '{response_id[:80]}' does not exist"
                + (f": it continues '{first[:80]}', which was deleted." if rows and first else ".")
                + " Responses are stored if 'store' is true, for the number of days in the setting "
                "'keep_responses_days'.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        if rows[-1].status in OPEN_STATUSES:
            raise Conflict(
                f"The previous response '{response_id}' has not ended yet. Wait until it ends.",
                code="response_not_ended",
                param="previous_response_id",
            )
        return [item for row in rows for item in row.items]

    async def _resolve(
        self, given_items: Sequence[Item], items: Sequence[Item], caller: Principal
    ) -> list[Item]:
        """Return the input with each reference replaced by its item."""
        referenced_ids = [item["id"] for item in given_items if item["type"] == "item_reference"]
        if not referenced_ids:
            return list(given_items)
        by_id = {item["id"]: item for item in (*items, *given_items) if item["type"] != "item_reference"}
        missing = [item_id for item_id in referenced_ids if item_id not in by_id]
        by_id.update(await self._items(missing, caller))
        resolved_items = []
        sizes = {item_id: len(orjson.dumps(by_id[item_id])) for item_id in set(referenced_ids) & by_id.keys()}
        room = MAX_WHOLE_CHARS
        for number, item in enumerate(given_items):
            if item["type"] == "item_reference":
                if item["id"] not in by_id:
                    raise NotFound(
                        f"The item '{item['id'][:80]}' does not exist or you have no access to it. Items are "
                        "stored together with their response or conversation.",
                        code="item_not_found",
                        param=f"input[{number}].id",
                    )
                # Count every reference: a reference is short, but its item may be long.
                room -= sizes[item["id"]]
                if room < 0:
                    raise _too_much("refers to by 'item_reference'")
                item = by_id[item["id"]]
            resolved_items.append(item)
        return resolved_items

    async def _items(self, ids: Sequence[str], caller: Principal) -> dict[str, Item]:
        owner = None if caller.admin else caller.id
        rows = await self.database.read(
            responses.several,
            [response_id for item_id in ids if (response_id := response_of(item_id)) is not None],
        )
        texts = await self.database.read(conversations.find_items, list(ids), owner)
        if rows is None or texts is None:
            raise _too_much(
                "refers to by 'item_reference', together with the responses or conversations that contain it,"
            )
        by_id = {item["id"]: item for row in rows if caller.sees(row.owner) for item in row.items}
        return {**by_id, **{item_id: orjson.loads(text) for item_id, text in texts.items()}}

    async def head(self, ask: ResponseRequest, caller: Principal) -> tuple[Message, ...]:
        """Return the messages of the prompt template that the request names."""
        if ask.prompt is None:
            return ()
        version = ask.prompt["version"]
        variables = {
            name: value["text"] if isinstance(value, Mapping) and "text" in value else value
            for name, value in ask.prompt["variables"].items()
        }
        try:
            return await self.prompts.render(
                ask.prompt["id"], variables, caller, version=None if version is None else int(version)
            )
        except PorticoError as error:
            invalid_request = InvalidRequest(
                error.message, code=error.code, param=f"prompt.{error.param or 'id'}"
            )
            invalid_request.status, invalid_request.type = error.status, error.type
            raise invalid_request from error

    async def _media(self, items: Iterable[Item], card: Card, caller: Principal) -> dict[str, str]:
        """Return ``data:`` URLs of the uploaded files that messages and function outputs name: images, and other files
        if the model accepts files directly. Otherwise the text of a file is read when the model is called.
        """
        kinds = ("input_image", "input_file") if FILES_CAPABILITY in card.capabilities else ("input_image",)
        data_urls: dict[str, str] = {}
        room = MAX_WHOLE_CHARS
        for item in items:
            if item["type"] not in ("message", "function_call_output"):
                continue
            parts = item.get("content") or item.get("output") or ()
            for part in parts if isinstance(parts, list) else ():
                file_id = part.get("file_id")
                if part["type"] not in kinds or not file_id:
                    continue
                if file_id not in data_urls:
                    name, data = await self.uploads.read(file_id, caller, limit=room)
                    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                    data_urls[file_id] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
                room -= len(data_urls[file_id])  # the model receives the file once per mention
                if room < 0:
                    raise _too_much("names as 'file_id'")
        return data_urls


_ANEW: Final = (
    "Start again without 'previous_response_id', and send the items you still need in 'input'; POST "
    "/v1/responses/compact can shorten them."
)


def _too_long(subject: str, param: str, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"{subject} is too long to continue: it has more than {MAX_WHOLE_ITEMS:,} items or "
        f"{MAX_WHOLE_CHARS:,} characters. {hint}",
        code="context_length_exceeded",
        param=param,
    )


def _too_much(subject: str) -> InvalidRequest:
    return InvalidRequest(
        f"The content that 'input' {subject} has more than {MAX_WHOLE_CHARS:,} characters in total; a "
        "repeated mention counts again. Send less.",
        code="context_length_exceeded",
        param="input",
    )


def _keeps_sessions(card: Card) -> bool:
    return card.kind == "app" and card.labels.get("app") == "agent"


def _with_input(ask: ResponseRequest, items: Sequence[Item]) -> ResponseRequest:
    return replace(ask, input=tuple(items))


def row_of(
    response: PreparedResponse,
    caller: Principal,
    run_id: str,
    *,
    ask: str | None = None,
    finished_at: float | None = None,
) -> ResponseRow:
    """Return the database row for the current state of a response."""
    document = response.machine.document()
    request = response.ask
    conversation_id = request.conversation if response.after is not None else None
    return ResponseRow(
        id=document["id"],
        owner=caller.id,
        run_id=run_id,
        previous_id=request.previous or None,
        conversation_id=conversation_id,
        status=document["status"],
        background=request.background,
        input=orjson.dumps(list(request.input)).decode(),
        document=orjson.dumps(document).decode(),
        created_at=float(document["created_at"]),
        finished_at=finished_at,
        ask=ask,
    )
