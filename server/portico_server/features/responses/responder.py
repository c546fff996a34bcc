"""Responses: created while the client waits or in the background, stored, retrieved and resumed."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import orjson

from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.relay import Relay
from portico_server.core.request import Tokenize, TokenizedText
from portico_server.core.servable import Relays
from portico_server.db import responses
from portico_server.db.database import Database
from portico_server.db.responses import OPEN_STATUSES, ResponseRow
from portico_server.features.responses import read
from portico_server.features.responses.answer_reader import AnswerReader
from portico_server.features.responses.background import KIND, BackgroundResponses, Turns
from portico_server.features.responses.chat_options import chat_options
from portico_server.features.responses.compaction import requests_among, window
from portico_server.features.responses.conversation_lock import ConversationLocks, require_kept
from portico_server.features.responses.event_builder import usage_of
from portico_server.features.responses.event_pipe import EventPipe
from portico_server.features.responses.ids import ItemIds
from portico_server.features.responses.items import Item
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.prepare import Preparer, PromptRenderer, row_of
from portico_server.features.responses.stream_reader import Piece, pieces, read_whole
from portico_server.features.responses.tool_context import Emit, ResponseServices
from portico_server.features.responses.work import PreparedResponse, ResponseWork, named_as_input, unheard
from portico_server.runs.quotas import StorageQuota
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Responder:
    """Answers requests for responses."""

    def __init__(
        self,
        database: Database,
        runner: Runner,
        scheduler: Scheduler,
        around: ResponseServices,
        prompts: PromptRenderer,
        turns: Turns,
        quota: StorageQuota,
    ) -> None:
        self._database = database
        self._quota = quota
        self._runner = runner
        self._around = around
        self._preparer = Preparer(database, around.registry, around.uploads, prompts)
        self._busy = ConversationLocks()
        self.background = BackgroundResponses(
            database, scheduler, runner, around, self._preparer, self._busy, turns
        )

    async def prepare(
        self,
        body: Mapping[str, Any],
        caller: Principal,
        items: Mapping[str, Sequence[Item]] | None = None,
    ) -> PreparedResponse:
        """Prepare a request to be answered.

        ``items`` maps the ids of unstored responses that the request may continue from to their items. Raises
        `InvalidRequest`, `NotFound`, `Forbidden`, `Conflict`, `TooLarge`.
        """
        response_id = new_id("resp_")
        mint = ItemIds(response_id)
        if body.get("model") is None:
            body = {**body, "model": await self._preparer.registry.only_model("chat", caller)}
        ask = read.read(body, mint)
        if ask.store:
            await self.require_room(caller)
        return await self._preparer.prepare(ask, response_id, mint, caller, items=items)

    async def require_room(self, caller: Principal) -> None:
        """Raise `TooLarge` if the caller's storage quota has no room for another response."""
        await self._quota.admit(self._database, caller.id)

    async def prime(self, response: PreparedResponse, caller: Principal) -> AsyncGenerator[list[Event], None]:
        """Yield the events of a response without an answer, from which a later response can continue."""
        with self._busy.alone(response):
            events = response.machine.prime()
            await self._keep(response, caller, "")
            yield events

    async def respond(self, response: PreparedResponse, caller: Principal) -> dict[str, Any]:
        """Return the complete response. Cancelling the caller cancels the response. Raises the error of the
        response.
        """
        machine = response.machine
        with self._busy.alone(response):
            model = self._lean(response)
            if model is not None:
                async for _events in self._relayed(response, model, caller, stream=False):
                    pass
            else:
                run, work = await self._begin(response, caller, unheard)
                await self._runner.wait(run)
                work.finish()
                await self._keep(response, caller, run.id)
        return machine.snapshot()

    async def stream(
        self, response: PreparedResponse, caller: Principal, has_started: Callable[[], bool]
    ) -> AsyncGenerator[list[Event], None]:
        """Yield the events of a response as they are made. Closing the generator stops the work.

        If ``has_started()`` is false and no event was yielded, an error is raised. Otherwise the error becomes the
        last events.
        """
        with self._busy.alone(response):
            model = self._lean(response)
            if model is not None:
                events = self._relayed(response, model, caller, stream=True)
            else:
                events = self._follow(response, caller)
            held_events: list[Event] = response.machine.begin()
            has_sent = False
            try:
                async for batch in events:
                    yield [*held_events, *batch]
                    held_events, has_sent = [], True
            except PorticoError as error:
                if not (has_sent or has_started()):
                    raise
                failure_events = response.machine.fail(error)
                await self._keep_failed(response, caller)
                yield [*held_events, *failure_events]
            finally:
                await events.aclose()

    @staticmethod
    def _lean(response: PreparedResponse) -> Relays | None:
        """Return the model if the response needs only the model's answer. The engine's chunks are then parsed only
        once, without a separate task.
        """
        ask = response.ask
        approves = any(item["type"] == "mcp_approval_response" for item in ask.input)
        loads = any(item["type"] == "tool_search_output" for item in response.before)
        compacts = ask.compacts or ask.threshold is not None
        works = ask.hosted or ask.truncate or approves or loads or compacts
        return None if works else response.relayed()

    async def _relayed(
        self, response: PreparedResponse, model: Relays, caller: Principal, *, stream: bool
    ) -> AsyncGenerator[list[Event], None]:
        ask, machine = response.ask, response.machine
        body = {**chat_options(ask), "model": ask.model, "messages": response.messages()}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        request = Relay("chat/completions", body)
        with named_as_input():
            relay_response = await self._runner.relay(model, ask.model, request, caller, kind=KIND)
        if relay_response.answered_by:
            machine.response["model"] = relay_response.answered_by
        machine.unenforced = relay_response.unenforced
        hearing = AnswerReader(machine)
        try:
            if stream:
                async for chunk in relay_response.chunks:
                    events = _answer_events(hearing, pieces(chunk))
                    if events:
                        yield events
            else:
                data = await relay_response.read()
                _answer_events(hearing, read_whole(data))
        finally:
            close = getattr(relay_response.chunks, "aclose", None)
            if close is not None:
                await close()
        closing = machine.close(hearing.reason)
        number = machine.number
        events = machine.end(hearing.reason, relay_response.usage, hearing.thoughts)
        try:
            closing_events = await self._store(events, number, response, caller, "")
        except PorticoError:
            yield closing
            raise
        yield [*closing, *closing_events]  # one write to the client instead of two

    async def _follow(
        self, response: PreparedResponse, caller: Principal
    ) -> AsyncGenerator[list[Event], None]:
        pipe = EventPipe()
        run, work = await self._begin(response, caller, pipe.put)
        assert run.task is not None
        run.task.add_done_callback(pipe.close)
        try:
            async for batch in pipe.batches():
                yield batch
            await self._runner.wait(run)
            number = response.machine.number
            yield await self._store(work.finish(), number, response, caller, run.id)
        finally:
            await run.leave()

    async def _begin(
        self, response: PreparedResponse, caller: Principal, emit: Emit
    ) -> tuple[Run, ResponseWork]:
        """Start the work of a response in its own run."""
        work = ResponseWork(response, self._around, emit)

        async def finish(context: Context) -> dict[str, str]:
            try:
                await work.run(context)
            finally:
                run.model = work.model
            return {"response": response.machine.response["id"]}

        name = response.ask.model
        with await self._runner.admitted(name, caller) as admission:
            run = await self._runner.begin(KIND, name, caller, finish)
            admission.follow(run)
        return run, work

    async def _store(
        self, events: list[Event], number: int, response: PreparedResponse, caller: Principal, run_id: str
    ) -> list[Event]:
        """Store the response, then return its last events. If storing fails, the error event reuses their
        ``number``.
        """
        try:
            await self._keep(response, caller, run_id)
        except PorticoError:
            response.machine.number = number
            raise
        return events

    async def _keep(self, response: PreparedResponse, caller: Principal, run_id: str) -> None:
        if response.ask.store:
            row = row_of(response, caller, run_id, finished_at=time.time())
            if response.after is None:
                await responses.keep_soon(self._database, row)
            else:
                outcome = await self._database.write_soon(responses.keep, row, response.after)
                require_kept(outcome, response.ask.conversation)
            self._quota.count(caller.id, lambda: row.bytes)

    async def _keep_failed(self, response: PreparedResponse, caller: Principal) -> None:
        """Store a response that failed midway, because the client knows its id. Its conversation is not changed."""
        if response.ask.store:
            row = row_of(response, caller, "", finished_at=time.time())
            try:
                await self._database.write_soon(responses.keep, row)
            except PorticoError as error:
                logger.error("the failed response %s was not stored: %s", row.id, error.message)

    async def get(self, response_id: str, caller: Principal) -> ResponseRow:
        """Return a stored response. Raises `NotFound`."""
        row = await self._database.read(responses.get, response_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The response '{response_id[:80]}' does not exist or you have no access to it. Responses "
                "are stored if 'store' is true, for the number of days in the setting 'keep_responses_days'.",
                code="response_not_found",
                param="response_id",
            )
        if row.status in OPEN_STATUSES:
            row = await self.background.settle(row) or row
        return row

    async def input_items(self, response_id: str, caller: Principal) -> list[Item]:
        """Return the items of a stored response's input, oldest first. Raises `NotFound`."""
        items: list[Item] = orjson.loads((await self.get(response_id, caller)).input)
        return items

    async def compact(self, body: Mapping[str, Any], caller: Principal) -> dict[str, Any]:
        """Return the conversation of a request as its user's messages and a compaction item; nothing is stored."""
        response_id = new_id("resp_")
        mint = ItemIds(response_id)
        ask = read.compaction(body, mint)
        response = await self._preparer.prepare(ask, response_id, mint, caller)
        run, work = await self._begin(response, caller, unheard)
        await self._runner.wait(run)
        return {
            "id": response_id,
            "object": "response.compaction",
            "created_at": response.machine.response["created_at"],
            "model": ask.model,
            "output": [*requests_among(window(response.before)), *response.machine.output],
            "usage": usage_of(work.usage),
        }

    async def count(self, body: Mapping[str, Any], caller: Principal) -> int:
        """Return the number of tokens in a request's conversation and functions, as the model counts them."""
        response = await self.prepare({**body, "store": False, "background": False}, caller)
        name = response.ask.model
        functions = [tool for tool in response.ask.functions if not tool.deferred]
        options = chat_options(response.ask, functions=functions)
        request = Tokenize(messages=tuple(response.messages()), options=options)
        with named_as_input():
            tokenized = await self._runner.call("tokenize", name, request, caller)
        if not isinstance(tokenized, TokenizedText):
            raise PorticoError(f"'{name}' returned an invalid response to a request to count tokens.")
        return len(tokenized.ids)

    async def delete(self, response_id: str, caller: Principal) -> None:
        """Delete a response; a response in progress is stopped first. Raises `NotFound`."""
        row = await self.get(response_id, caller)
        if row.background:
            await self.background.cancel(row)
        await self._database.write(responses.remove, row.id)

    async def cancel(self, response_id: str, caller: Principal) -> ResponseRow:
        """Stop a background response. A cancelled response stays unchanged.

        Raises `NotFound`, `InvalidRequest` for a response that is not in the background, and `Conflict` for a response
        that has ended otherwise.
        """
        row = await self.get(response_id, caller)
        if not row.background:
            raise InvalidRequest(
                "Only a response that was created with 'background' can be cancelled; for any other "
                "response, close the connection.",
                code="not_in_background",
                param="response_id",
            )
        await self.background.cancel(row)
        row = await self.get(response_id, caller)
        if row.status != "cancelled":
            raise Conflict(
                f"The response '{row.id}' has already ended ({row.status}), so it cannot be cancelled. Retrieve it "
                "instead.",
                code="response_ended",
                param="response_id",
            )
        return row


def _answer_events(hearing: AnswerReader, found_pieces: Sequence[Piece]) -> list[Event]:
    return [event for piece in found_pieces for event in hearing.hear(piece)]
