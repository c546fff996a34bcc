"""From a request to what a model is asked: what it continues with, the files that it names, the app or model meant."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import orjson

from portico_server.apps.responses.event_builder import EventBuilder
from portico_server.apps.responses.ids import ItemIds, response_of
from portico_server.apps.responses.items import Item
from portico_server.apps.responses.messages import check_pairs
from portico_server.apps.responses.request import ResponseRequest
from portico_server.apps.responses.skeleton import skeleton
from portico_server.apps.responses.tool_context import ResponseFiles
from portico_server.apps.responses.work import PreparedResponse
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico_server.core.invalid import unsupported
from portico_server.core.media import FILES_CAPABILITY
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Message
from portico_server.core.servable import Card, Servable, relays
from portico_server.db import conversations, responses
from portico_server.db.conversations import MAX_WHOLE_CHARS, MAX_WHOLE_ITEMS, ConversationRow
from portico_server.db.database import Database
from portico_server.db.responses import OPEN_STATUSES, ResponseRow

SESSION = "conversation/"
"""What the name of an app's session begins with that belongs to a conversation; its id alone would be a session's."""


class PromptRenderer(Protocol):
    """Prompts by name and version."""

    async def render(
        self, name: str, arguments: Mapping[str, Any], caller: Principal, *, version: int | None = None
    ) -> tuple[Message, ...]: ...


@dataclass(frozen=True, slots=True)
class Preparer:
    """Makes a request ready to be answered."""

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
        remembered: Mapping[str, Sequence[Item]] | None = None,
    ) -> PreparedResponse:
        """Raises `NotFound` for what is not there, `InvalidRequest` for what does not fit together.

        ``machine`` is that of a response which was begun already; ``remembered`` are the items of responses that are
        not stored. What is stored and continues one of these has them in its own input.
        """
        servable = await self._model(ask, caller)
        inlined = ask.previous in remembered if remembered else False
        if remembered and inlined:
            row, session, known = None, "", list(remembered[ask.previous])
            if len(known) > MAX_WHOLE_ITEMS or len(orjson.dumps(known)) > MAX_WHOLE_CHARS:
                raise _too_long(
                    f"The response '{ask.previous}' with those before it", "previous_response_id", _ANEW
                )
        else:
            row, session, known = await self._known(ask, servable.card, caller)
        given = await self._resolved(ask.input, known, caller)
        before = [*known, *given]
        check_pairs(before)
        if not before and ask.prompt is None:
            raise InvalidRequest(
                "There is nothing to answer: 'input' is empty, and so is what it continues.", param="input"
            )
        media = await self._media(before, servable.card, caller)
        head = await self.head(ask, caller)
        if machine is None:
            machine = EventBuilder(skeleton(ask, response_id), mint, ask.include)
        given_ask = ask if given == list(ask.input) else _with_input(ask, given)
        if inlined:
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
                    f"is not available from the app '{name}': it would have to sum up what it was asked. Name a model",
                )
            return servable
        can = ", ".join(sorted(servable.card.capabilities)) or "nothing else"
        raise InvalidRequest(
            f"The model '{name}' does not do responses; it does {can}. They need a chat model or an app that chats.",
            code="unsupported_operation",
            param="model",
        )

    async def _known(
        self, ask: ResponseRequest, card: Card, caller: Principal
    ) -> tuple[ConversationRow | None, str, list[Item]]:
        """The conversation that it continues with, the session of an app that keeps its own, the items before it."""
        if ask.previous:
            return None, "", await self._chain(ask.previous, caller)
        if not ask.conversation:
            return None, "", []
        keeps = _keeps_sessions(card)
        found = await self.database.read(conversations.whole, ask.conversation)
        if found is None or not caller.sees(found[0].owner):
            if keeps:  # a session of the app's own, as its owner calls it
                return None, ask.conversation, []
            raise NotFound(
                f"There is no conversation '{ask.conversation[:80]}' here or you have no access to it.",
                code="conversation_not_found",
                param="conversation",
            )
        row, texts = found
        if keeps:  # it remembers by itself; the items are also kept
            return row, f"{SESSION}{row.id}", []
        if texts is None:
            hint = "Delete items of it, or begin another one."
            raise _too_long(f"The conversation '{row.id}'", "conversation", hint)
        return row, "", [orjson.loads(text) for text in texts]

    async def _chain(self, response_id: str, caller: Principal) -> list[Item]:
        owner = None if caller.admin else caller.id
        rows = await self.database.read(responses.chain, response_id, owner)
        if rows is None:
            raise _too_long(
                f"The response '{response_id[:80]}' with those before it", "previous_response_id", _ANEW
            )
        first = rows[0].previous_id if rows else response_id
        if first is not None:
            raise NotFound(
                f"The previous response '{response_id[:80]}' is not here"
                + (f": it continues '{first[:80]}', which was deleted." if rows and first else ".")
                + " Responses are kept with 'store', for as long as the setting 'keep_responses_days' says.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        if rows[-1].status in OPEN_STATUSES:
            raise Conflict(
                f"The previous response '{response_id}' has not ended yet. Wait until it has.",
                code="response_not_ended",
                param="previous_response_id",
            )
        return [item for row in rows for item in row.items]

    async def _resolved(self, given: Sequence[Item], known: Sequence[Item], caller: Principal) -> list[Item]:
        """The input with the items in the place of references to them."""
        wanted = [item["id"] for item in given if item["type"] == "item_reference"]
        if not wanted:
            return list(given)
        by_id = {item["id"]: item for item in (*known, *given) if item["type"] != "item_reference"}
        missing = [item_id for item_id in wanted if item_id not in by_id]
        by_id.update(await self._items(missing, caller))
        found = []
        sizes = {item_id: len(orjson.dumps(by_id[item_id])) for item_id in set(wanted) & by_id.keys()}
        room = MAX_WHOLE_CHARS
        for number, item in enumerate(given):
            if item["type"] == "item_reference":
                if item["id"] not in by_id:
                    raise NotFound(
                        f"There is no item '{item['id'][:80]}' here or you have no access to it. Items are kept with "
                        "the stored response or the conversation that they are in.",
                        code="item_not_found",
                        param=f"input[{number}].id",
                    )
                # Each time: a reference is short, and what it stands for may be long.
                room -= sizes[item["id"]]
                if room < 0:
                    raise _too_much("refers to by 'item_reference'")
                item = by_id[item["id"]]
            found.append(item)
        return found

    async def _items(self, ids: Sequence[str], caller: Principal) -> dict[str, Item]:
        owner = None if caller.admin else caller.id
        rows = await self.database.read(
            responses.several, [found for item_id in ids if (found := response_of(item_id)) is not None]
        )
        texts = await self.database.read(conversations.find_items, list(ids), owner)
        if rows is None or texts is None:
            raise _too_much("refers to by 'item_reference', with what it is in,")
        by_id = {item["id"]: item for row in rows if caller.sees(row.owner) for item in row.items}
        return {**by_id, **{item_id: orjson.loads(text) for item_id, text in texts.items()}}

    async def head(self, ask: ResponseRequest, caller: Principal) -> tuple[Message, ...]:
        """The messages of the prompt that it names."""
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
            misconfigured = InvalidRequest(
                error.message, code=error.code, param=f"prompt.{error.param or 'id'}"
            )
            misconfigured.status, misconfigured.type = error.status, error.type
            raise misconfigured from error

    async def _media(self, items: Iterable[Item], card: Card, caller: Principal) -> dict[str, str]:
        """The uploaded files that messages name, as ``data:`` addresses: images, and files for a model that is sent
        them as they are. The text of others is read when the model is asked.
        """
        kinds = ("input_image", "input_file") if FILES_CAPABILITY in card.capabilities else ("input_image",)
        found: dict[str, str] = {}
        room = MAX_WHOLE_CHARS
        for item in items:
            if item["type"] not in ("message", "function_call_output"):
                continue
            parts = item.get("content") or item.get("output") or ()
            for part in parts if isinstance(parts, list) else ():
                file_id = part.get("file_id")
                if part["type"] not in kinds or not file_id:
                    continue
                if file_id not in found:
                    name, data = await self.uploads.read(file_id, caller, limit=room)
                    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                    found[file_id] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
                room -= len(found[file_id])  # a model is sent it each time
                if room < 0:
                    raise _too_much("names as 'file_id'")
        return found


_ANEW: Final = (
    "Start again without 'previous_response_id', and send in 'input' what is still needed; POST /v1/responses/compact "
    "makes that shorter."
)


def _too_long(what: str, param: str, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"{what} is too long to be continued: it has more than "
        f"{MAX_WHOLE_ITEMS:,} items or {MAX_WHOLE_CHARS:,} characters. {hint}",
        code="context_length_exceeded",
        param=param,
    )


def _too_much(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"What 'input' {what} has more than {MAX_WHOLE_CHARS:,} characters together, each mention counted. Send less.",
        code="context_length_exceeded",
        param="input",
    )


def _keeps_sessions(card: Card) -> bool:
    return card.kind == "app" and card.labels.get("app") == "agent"


def _with_input(ask: ResponseRequest, items: Sequence[Item]) -> ResponseRequest:
    return replace(ask, input=tuple(items))


def row_of(
    prepared: PreparedResponse,
    caller: Principal,
    run_id: str,
    *,
    ask: str | None = None,
    ended: float | None = None,
) -> ResponseRow:
    """The row that stands for a response as it is now."""
    document = prepared.machine.document()
    request = prepared.ask
    named = request.conversation if prepared.after is not None else None
    return ResponseRow(
        id=document["id"],
        owner=caller.id,
        run_id=run_id,
        previous_id=request.previous or None,
        conversation_id=named,
        status=document["status"],
        background=request.background,
        input=orjson.dumps(list(request.input)).decode(),
        document=orjson.dumps(document).decode(),
        created_at=float(document["created_at"]),
        finished_at=ended,
        ask=ask,
    )
