"""A request that waits for its run. The run's events become progress notifications and log messages; its questions
become requests to the client.

Log messages go to clients that request them: through ``logging/setLevel`` in a session, or since 2026-07-28 through a
field in each request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final, get_args

import anyio
import mcp_types as types
from mcp.server.connection import allowed_log_levels
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from portico.wire import (
    Answered,
    Asked,
    Cited,
    Delta,
    Event,
    Progressed,
    StepFinished,
    StepStarted,
    ToolCalled,
)
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, PorticoError
from portico_server.core.request import Result
from portico_server.features.mcp import inquiry
from portico_server.features.mcp.held import HeldRun
from portico_server.features.mcp.incoming import ask_client, caller_of, connection_of
from portico_server.runs.questions import QuestionService
from portico_server.runs.run import Run

PROGRESS_INTERVAL_S: Final = 0.25
"""Minimum interval between two progress notifications about text, in seconds. All other progress is reported
immediately.
"""

MAX_SILENCE_S: Final = 10.0
"""Maximum time without a progress notification, in seconds. Clients give up on a call that reports nothing for a
minute, and proxies earlier.
"""


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The outcome for a request that ends before its run. The request reported the run's events up to number ``seen``;
    ``message`` is the last message.

    ``questions``: questions that the client must answer in a separate request. Without questions, the run took too
    long.
    """

    seen: int
    message: str = ""
    questions: tuple[Asked, ...] = ()


class RunFollower:
    """Follows one run on behalf of one request."""

    def __init__(
        self, context: ServerRequestContext[Any], run: Run, questions: QuestionService, event_number: int = 0
    ) -> None:
        self._context = context
        self._run = run
        self._questions = questions
        self._last_seen = event_number
        self._question: Asked | None = None
        self._notices = _Notices(context, run.id)
        self._can_ask = inquiry.can_ask(context)
        self._may_ask_now = context.protocol_version not in MODERN_PROTOCOL_VERSIONS

    async def wait(self, timeout_s: float = math.inf) -> Result | ClientGone:
        """Return the run's result, or `ClientGone` if the run takes longer than ``timeout_s`` seconds or needs an
        answer in another request.

        Raise the `PorticoError` that ended the run. Cancelling this call does not end the run; the run's owner ends
        it.
        """
        run = self._run
        assert run.task is not None
        # Most clients want only the result.
        follows_events = timeout_s != math.inf or self._can_ask or self._notices.wanted
        if follows_events and not await self._until_ended(timeout_s):
            questions = (self._question,) if self._question is not None else ()
            return ClientGone(self._last_seen, self._notices.last, questions)
        await asyncio.wait([run.task])
        # another caller cancelled the run, and this request's caller is still waiting for an answer
        if run.task.cancelled():
            raise PorticoError("The run was cancelled before it produced an answer.", code="cancelled")
        result: Result = run.task.result()
        return result

    async def _until_ended(self, timeout_s: float) -> bool:
        """Return whether the run ended within ``timeout_s`` seconds and asked no question that needs another
        request.
        """
        asking: dict[str, asyncio.Task[None]] = {}
        beating = asyncio.create_task(self._notices.report_silence(), name=f"mcp silence {self._run.id}")
        try:
            with anyio.move_on_after(timeout_s):
                async with aclosing(self._run.log.follow(self._last_seen)) as events:
                    async for number, event in events:
                        self._last_seen = number
                        await self._notices.report(event)
                        request = inquiry.request(self._context, event) if isinstance(event, Asked) else None
                        if isinstance(event, Asked) and request is not None:
                            if not self._may_ask_now:
                                self._question = event
                                return False
                            asking[event.id] = asyncio.create_task(
                                self._ask(event, request), name=f"mcp asks {event.id}"
                            )
                        elif isinstance(event, Answered) and event.id in asking:
                            asking[
                                event.id
                            ].cancel()  # another client answered first, or the question was withdrawn
                return True
            return False
        finally:
            tasks = (beating, *asking.values())
            for task in tasks:
                task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, question: Asked, request: types.InputRequest) -> None:
        """Ask the client and pass its answer on. If the client fails to answer, leave the question to other clients.

        A question for the client's model has no other recipient, so a refusal counts as its answer.
        """
        try:
            try:
                # The request has the question's id, so that any daemon on the database can match the answer
                # to the question.
                result = inquiry.read(question, await ask_client(self._context, request, question.id))
            except (MCPError, ValidationError) as error:
                if question.kind != "chat":
                    raise
                reason = (
                    error.error.message if isinstance(error, MCPError) else "It answered without a message."
                )
                await self._questions.answer(
                    question.id, caller_of(self._context), is_accepted=False, note=reason[:1_000]
                )
            else:
                await answer(self._questions, self._context, question, result)
        except (MCPError, NoBackChannelError, ValidationError, PorticoError) as error:
            await send_log(self._context, "warning", self._run.id, f"The question got no answer: {error}")


async def answer(
    questions: QuestionService,
    context: ServerRequestContext[Any],
    question: Asked,
    result: types.InputResponse,
) -> None:
    """Pass the client's answer to the run that asked. Raise `PorticoError` if the answer is not accepted."""
    elicited_answer = inquiry.answer_in(question, result)
    if elicited_answer is not None:
        await questions.answer(
            question.id,
            caller_of(context),
            is_accepted=elicited_answer.accepted,
            value=elicited_answer.value,
            note=elicited_answer.note,
        )


async def answer_all(
    questions: QuestionService,
    context: ServerRequestContext[Any],
    held_run: HeldRun,
    responses: Mapping[str, types.InputResponse],
) -> None:
    """Pass the client's responses to a run that waits for answers. Ignore responses to other questions and late
    responses.
    """
    for question, response in responses.items():
        open_question = held_run.questions.get(question)
        if open_question is None or inquiry.answer_in(open_question, response) is None:
            continue
        try:
            await answer(questions, context, open_question, response)
        except Conflict as error:
            await send_log(context, "notice", held_run.run.id, error.message)  # another client answered first
        held_run.questions.pop(question, None)


class _Notices:
    """Sends events as progress notifications, whose number only increases, and as log messages."""

    def __init__(self, context: ServerRequestContext[Any], run: str) -> None:
        self._context = context
        self._run = run
        self._count = 0
        self._text = ""
        self._reported_at = float("-inf")
        self.wanted = progress_token_from_params(context.params) is not None or wants(context, "notice")
        """True if the client receives any notifications."""
        self.last = ""
        """The last message sent that was not a piece of text."""

    async def report(self, event: Event) -> None:
        match event:
            case Delta(text=delta):
                self._text += delta
                now = asyncio.get_running_loop().time()
                if now - self._reported_at >= PROGRESS_INTERVAL_S:
                    self._reported_at, text, self._text = now, self._text, ""
                    await self._progress(text)
            case Cited(passages=passages):
                files = dict.fromkeys(passage.filename for passage in passages)
                await self._send(
                    "debug", f"Found {len(passages)} passages in {', '.join(files) or 'no file'}"
                )
            case Progressed(stage=stage, message=message, done=done_units, total=total, unit=unit):
                share = f" ({done_units:g} of {total:g} {unit})" if done_units is not None and total else ""
                await self._send("info", f"{message or stage}{share}")
            case StepStarted(path=path):
                await self._send("debug", path)
            case StepFinished(path=path, milliseconds=elapsed_ms, error=error):
                await self._send("debug", f"{path}: {error or f'done in {elapsed_ms:.0f} ms'}")
            case ToolCalled(name=name):
                await self._send("info", f"Calls {name}")
            case Asked(id=question, name=name, message=message):
                waits = f"Waiting for an answer about '{name}' ({question}). {message}".strip()
                await self._send("notice", waits)

    async def report_silence(self) -> None:
        """Report that the run continues whenever nothing else was reported for a while. Runs until cancelled."""
        started_at = asyncio.get_running_loop().time()
        while True:
            count = self._count
            await asyncio.sleep(MAX_SILENCE_S)
            if count == self._count:
                elapsed_s = asyncio.get_running_loop().time() - started_at
                await self._progress(f"{self.last or 'Running'} ({elapsed_s:.0f} s)")

    async def _send(self, level: types.LoggingLevel, message: str) -> None:
        self.last = message
        await self._progress(message)
        await send_log(self._context, level, self._run, message)

    async def _progress(self, message: str) -> None:
        self._count += 1
        await self._context.session.report_progress(self._count, message=message)


_LEVELS: Final[tuple[types.LoggingLevel, ...]] = get_args(types.LoggingLevel)
_KEY: Final = "portico.log"
_UNASKED: Final[types.LoggingLevel] = "warning"
"""Minimum log level of a session that has set no level."""


async def set_level(
    context: ServerRequestContext[Any], params: types.SetLevelRequestParams
) -> types.EmptyResult:
    """Handle ``logging/setLevel``: from now on, this session receives messages of this level and above."""
    connection_of(context).state[_KEY] = params.level
    return types.EmptyResult()


async def send_log(
    context: ServerRequestContext[Any], level: types.LoggingLevel, run: str, message: str
) -> None:
    """Send a log message about a run as part of the response to this request, if the client wants messages of this
    level.
    """
    if not wants(context, level):
        return
    params = types.LoggingMessageNotificationParams(
        level=level, logger="portico", data={"run": run, "message": message}
    )
    await context.session.send_notification(
        types.LoggingMessageNotification(params=params), related_request_id=context.request_id
    )


def wants(context: ServerRequestContext[Any], level: types.LoggingLevel) -> bool:
    """Return whether the client of this request receives messages of a level, and so of all higher levels."""
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return level in allowed_log_levels(context.protocol_version, context.meta)
    lowest = connection_of(context).state.get(_KEY, _UNASKED)
    return _LEVELS.index(level) >= _LEVELS.index(lowest)
