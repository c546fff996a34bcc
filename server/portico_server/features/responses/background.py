"""Background responses. They are stored before the client learns of them, and resumed after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Any, Final

import orjson

from portico.wire import Usage
from portico_server.core.binding import binding
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, EngineFailed, InvalidRequest, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.servable import Card
from portico_server.db import responses, runs
from portico_server.db.database import Database
from portico_server.db.responses import OPEN_STATUSES, ResponseRow, SaveOutcome
from portico_server.db.retention import ENDED_STATUSES
from portico_server.features.responses import read
from portico_server.features.responses.conversation_lock import ConversationLocks, require_kept
from portico_server.features.responses.event_builder import EventBuilder
from portico_server.features.responses.ids import ItemIds
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.prepare import Preparer, row_of
from portico_server.features.responses.request import FileSearchTool, ImageGenerationTool
from portico_server.features.responses.tool_context import Emit, OfferedTool, ResponseServices
from portico_server.features.responses.work import Note, PreparedResponse, ResponseWork
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

KIND: Final = "responses"
"""Kind of the runs that produce responses."""

PAGE_SIZE: Final = 500
"""Number of events that are read from the database at a time."""

POLL_INTERVAL_S: Final = 0.5
"""Seconds between two checks of a response that another daemon creates."""

NUMBER, DOING = "_number", "_doing"
"""Fields of an unfinished response document: the number of its next event, and the action in progress that must not be
repeated.
"""

ATTEMPT_STRIDE_COUNT: Final = 4096
"""Gap between the item ids that two attempts assign."""


Turns = Callable[[str, Context], AbstractAsyncContextManager[Callable[[Usage], None]]]
"""Signature of `portico_server.features.flows.flows.Flows.turn`."""


class BackgroundResponses:
    """Starts, follows and cancels background responses. The scheduler runs them."""

    def __init__(
        self,
        database: Database,
        scheduler: Scheduler,
        runner: Runner,
        around: ResponseServices,
        preparer: Preparer,
        busy: ConversationLocks,
        turns: Turns,
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._runner = runner
        self._around = around
        self._preparer = preparer
        self._busy = busy
        self._turns = turns
        self._change_events: dict[str, asyncio.Event] = {}

    async def begin(self, response: PreparedResponse, caller: Principal) -> ResponseRow:
        """Store a request and start its response. The response survives a crash from then on."""
        self._busy.require_free(response)
        machine = response.machine
        opening = machine.begin(is_queued=True)
        machine.response["status"] = "queued"
        ask = orjson.dumps(dict(response.ask.body)).decode()
        row = row_of(response, caller, "", ask=ask)
        draft = {**machine.response, NUMBER: machine.number}
        row = replace(row, document=orjson.dumps(draft).decode())
        events = _numbered(opening) if response.ask.stream else []

        def write(connection: Any, new: runs.NewRun, *lease: Any) -> runs.RunRow:
            run_row = runs.begin(connection, new, *lease)
            responses.begin(connection, replace(row, run_id=new.id))
            responses.append_events(connection, row.id, events)
            return run_row

        meter = await self._runner.meter(caller)
        try:
            with await self._runner.admitted(response.ask.model, caller) as admission, binding():
                await self._bind(response, caller)
                run = await self._scheduler.begin(
                    KIND, response.ask.model, {"response": row.id}, caller, write=write
                )
                admission.follow(run)
        except BaseException:
            if meter is not None:
                meter.leave()
            raise
        run.meter = meter
        return replace(row, run_id=run.id)

    async def _bind(self, response: PreparedResponse, caller: Principal) -> None:
        """Record which objects the names in a request currently refer to. A name that refers to no object yet is bound
        at its first use.
        """
        ask = response.ask
        keys = [ask.model]
        for tool in ask.tools:
            if isinstance(tool, FileSearchTool):
                keys += [f"store/{store}" for store in tool.stores]
            elif isinstance(tool, ImageGenerationTool) and tool.model:
                keys.append(tool.model)
        for key in dict.fromkeys(keys):
            with suppress(PorticoError):
                await self._preparer.registry.resolve(key, caller)
        await self._preparer.head(ask, caller)

    async def make(self, payload: Mapping[str, Any], context: Context) -> dict[str, str]:
        """Create a response. If an earlier attempt was interrupted, continue where it stopped."""
        response_id = str(payload["response"])
        row = await self._database.read(responses.get, response_id)
        try:
            if row is not None and row.status in OPEN_STATUSES:
                await self._respond(row, context)
        finally:
            self._wake_followers(response_id)
            self._change_events.pop(response_id, None)
        return {"response": response_id}

    async def _respond(self, row: ResponseRow, context: Context) -> None:
        draft: dict[str, Any] = orjson.loads(row.document)
        number, doing = draft.pop(NUMBER), draft.pop(DOING, None)
        is_restarted = draft["status"] != "queued"
        draft["status"] = "in_progress"
        assert row.ask is not None
        mint = ItemIds(row.id)
        ask = read.read(orjson.loads(row.ask), mint)
        # Skip ids that an earlier attempt may have assigned.
        mint.count += len(draft["output"]) + is_restarted * ATTEMPT_STRIDE_COUNT
        machine = EventBuilder(draft, mint, ask.include, output=draft["output"], number=number)
        try:
            if is_restarted:
                await self._database.write_soon(responses.rewind, row.id, number - 1)
            response = await self._preparer.prepare(ask, row.id, mint, context.caller, machine=machine)
            if is_restarted:
                _require_repeatable(response.servable.card, row.id, doing)
            run = self._runner.get(context.run)
            if run is not None:
                run.keeps_steps = _keeps_steps(response.servable.card)
            with self._busy.alone(response):
                work = ResponseWork(response, self._around, self._teller(response), self._noter(response))
                await work.note(None)
                try:
                    if _is_agent(response.servable.card):
                        async with self._turns(response.servable.card.name, context) as end_turn:
                            await work.run(context)
                            end_turn(work.usage)
                    else:
                        await work.run(context)
                finally:
                    if run is not None:
                        run.model = work.model
                number = machine.number
                events = work.finish()
                try:
                    await self._finish(machine, events, response)
                except PorticoError:
                    machine.number = number  # no client has seen the events after this number
                    raise
        except PorticoError as error:
            await self._end(machine, machine.fail(error), stream=ask.stream)
            raise

    def _teller(self, response: PreparedResponse) -> Emit:
        """Return the function that stores events before clients see them. If another daemon continues the response, it
        finds all events stored.
        """
        response_id = response.machine.response["id"]

        async def tell(events: Sequence[Event]) -> None:
            await self._database.write_soon(responses.append_events, response_id, _numbered(events))
            self._wake_followers(response_id)

        async def keep_silent(_events: Sequence[Event]) -> None:
            """Discard the events, because no client can request them."""

        return tell if response.ask.stream else keep_silent

    def _noter(self, response: PreparedResponse) -> Note:
        machine = response.machine

        async def note(offer: OfferedTool | None) -> None:
            draft = {**machine.draft(), "status": "in_progress", NUMBER: machine.number}
            if offer is not None and not offer.repeats:
                draft[DOING] = offer.function
            text = orjson.dumps(draft).decode()
            if not await self._database.write_soon(
                responses.note, machine.response["id"], "in_progress", text
            ):
                raise Conflict("The response has ended in the meantime.", code="cancelled")

        return note

    async def _finish(
        self, machine: EventBuilder, events: Sequence[Event], response: PreparedResponse
    ) -> None:
        """Store the end of a response, and add its items to its conversation. If the response ended with an error,
        raise it.
        """
        ask = response.ask
        outcome = await self._end(machine, events, stream=ask.stream, after=response.after)
        require_kept(outcome, ask.conversation)

    async def _end(
        self, machine: EventBuilder, events: Sequence[Event], *, stream: bool, after: int | None = None
    ) -> SaveOutcome:
        document = machine.document()
        text = orjson.dumps(document).decode()
        last = _numbered(events) if stream else []
        return await self._database.write(
            responses.finish, document["id"], document["status"], text, after, last
        )

    async def follow(self, row: ResponseRow, after: int) -> AsyncGenerator[list[bytes], None]:
        """Yield the events with a number above ``after`` as JSON, until the response ends. Raises `InvalidRequest` and
        `Conflict`.
        """
        assert row.ask is not None
        if not orjson.loads(row.ask).get("stream"):
            raise InvalidRequest(
                f"The response '{row.id}' has no stream, because it was created without 'stream'. Retrieve "
                "it without 'stream'.",
                code="not_streamed",
                param="stream",
            )
        _require_kept_events(row.lost or (), after)
        return self._follow(row, after)

    async def _follow(self, row: ResponseRow, after: int) -> AsyncGenerator[list[bytes], None]:
        lost_count = len(row.lost or ())
        while True:
            event = self._change_events.setdefault(row.id, asyncio.Event())
            current = await self.settle(row)
            numbered_events = await self._database.read(responses.events_after, row.id, after, PAGE_SIZE)
            if numbered_events:
                # If the response was resumed after a crash, the events after ``after`` may differ from those
                # of the first attempt.
                lost_ranges = await self._database.read(responses.lost_events, row.id)
                _require_kept_events(lost_ranges[lost_count:], after)
                lost_count = len(lost_ranges)
                after = numbered_events[-1][0]
                yield [data for _number, data in numbered_events]
            elif current is None or current.status not in OPEN_STATUSES:
                self._change_events.pop(row.id, None)
                return
            else:
                try:
                    async with asyncio.timeout(POLL_INTERVAL_S):
                        await event.wait()
                except TimeoutError:
                    continue

    def _wake_followers(self, response_id: str) -> None:
        """Make the clients that follow a response read its state again."""
        event = self._change_events.pop(response_id, None)
        if event is not None:
            event.set()

    async def cancel(self, row: ResponseRow) -> None:
        """Cancel a response that has not ended."""
        if row.status not in OPEN_STATUSES:
            return
        run = self._runner.get(row.run_id)
        if run is not None:
            await run.cancel()
            await self._scheduler.wait_for_end(row.run_id)
        else:
            error = {"message": "The response was cancelled.", "type": "server_error", "code": "cancelled"}
            await self._database.write(runs.cancel_elsewhere, row.run_id, error)
        await self.settle(row)

    async def settle_deserted(self) -> None:
        """End the responses whose runs were ended elsewhere, because a client may never ask for them."""
        for row in await self._database.read(responses.deserted, PAGE_SIZE):
            await self.settle(row)

    async def settle(self, row: ResponseRow) -> ResponseRow | None:
        """Return the response in its current state. If its run was ended elsewhere, end the response too."""
        current = await self._database.read(responses.get, row.id)
        if current is None or current.status not in OPEN_STATUSES:
            return current
        run = await self._database.read(runs.get, row.run_id)
        if run is not None and run.status not in ENDED_STATUSES:
            return current
        last = await self._database.read(responses.last_event, row.id)
        document: dict[str, Any] = orjson.loads(current.document)
        document.pop(NUMBER, None)
        document.pop(DOING, None)
        machine = EventBuilder(document, ItemIds(row.id), output=document["output"], number=last + 1)
        if run is None or run.status == "cancelled":
            events = machine.cancel()
        else:
            error = run.error or {}
            events = machine.fail(PorticoError(str(error.get("message") or "Its run has ended.")))
        await self._end(machine, events, stream=last >= 0)
        self._wake_followers(row.id)
        return await self._database.read(responses.get, row.id)


def _require_kept_events(lost_ranges: Sequence[Sequence[int]], after: int) -> None:
    """Raise `Conflict` if a crash discarded the event ``after`` and the resumed response replaced it."""
    for start, end in lost_ranges:
        if start < after <= end:
            raise Conflict(
                f"The daemon stopped after event {start} and generated the later events again. Discard all "
                f"events after it, and continue with starting_after={start}.",
                code="events_made_anew",
                param="starting_after",
            )


def _numbered(events: Sequence[Event]) -> list[tuple[int, bytes]]:
    return [(event["sequence_number"], orjson.dumps(event)) for event in events]


def _keeps_steps(card: Card) -> bool:
    """Return whether the app is a flow that, when called again, resumes after its last completed step."""
    return card.labels.get("app") == "flow" and card.labels.get("durability") != "off"


def _is_agent(card: Card) -> bool:
    """Return whether the app is an agent, whose calls are recorded in the run."""
    return card.labels.get("app") == "agent"


def _require_repeatable(card: Card, response_id: str, doing: str | None) -> None:
    """Raise `EngineFailed` if the interrupted action may have had an effect that must not be repeated."""
    if doing is None and (card.labels.get("app") != "flow" or _keeps_steps(card)):
        return
    activity = f"'{doing}' was running" if doing else f"the app '{card.name}' was running"
    raise EngineFailed(
        f"The daemon stopped while {activity}, which may have had an effect; the response '{response_id}' "
        "was not restarted. Check what was done, and send the request again.",
        code="effect_unknown",
    )
