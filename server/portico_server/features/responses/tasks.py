"""Tasks that other agents give to apps and models: background responses, stored with the messages of each task."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, NoReturn

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound
from portico_server.core.ids import new_id
from portico_server.core.invalid import wrong
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Card
from portico_server.db import agent_tasks, conversations, responses
from portico_server.db.agent_tasks import ANSWERABLE, ENDED_STATES, AgentTaskRow, TaskFilter, TaskState
from portico_server.db.conversations import ConversationRow
from portico_server.db.database import Database
from portico_server.db.questions import QuestionRow
from portico_server.db.responses import OPEN_STATUSES, ResponseRow
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.responder import Responder
from portico_server.runs.questions import QuestionService

MAX_MESSAGES: Final = 100
"""Maximum number of messages in a task: the first message, and the client's answers to the task's questions."""

MAX_CONTEXT_CHARS: Final = 256
"""Maximum length of a context name, in characters."""

POLL_INTERVAL_S: Final = 0.5
"""Seconds without an event before checking whether the task waits for an answer."""

_YES: Final = ("yes", "y", "ok", "approve", "approved", "accept", "true")
_NO: Final = ("no", "n", "refuse", "refused", "reject", "deny", "cancel", "false")


@dataclass(frozen=True, slots=True)
class TaskView:
    """The current state of a task. ``question`` is the question whose answer the task waits for."""

    row: AgentTaskRow
    response: ResponseRow
    question: QuestionRow | None = None

    @property
    def state(self) -> TaskState:
        """The state of the task: what it is doing, or how it ended."""
        end_state = ENDED_STATES.get(self.response.status)
        if end_state is not None:
            return end_state
        if self.question is not None:
            return "input_required"
        return "submitted" if self.response.status == "queued" else "working"

    @property
    def ended(self) -> bool:
        """Return whether the task has reached a final state."""
        return self.response.status not in OPEN_STATUSES

    @property
    def changed_at(self) -> float:
        """Time of the last state change, in seconds since 1970 (UTC)."""
        if self.question is not None and not self.ended:
            return self.question.created_at
        return self.response.finished_at or self.row.created_at


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """The answer to a waiting task; the question determines how to parse it."""

    text: str = ""
    data: Any = None


class AgentTasks:
    """The tasks that agents were given. Callers see their own tasks; an admin can access any task by its id."""

    def __init__(
        self, database: Database, registry: Registry, responder: Responder, questions: QuestionService
    ) -> None:
        self._database = database
        self._registry = registry
        self._responder = responder
        self._questions = questions

    async def agent(self, name: str, caller: Principal) -> Card:
        """Return the card of the app or model ``name``, which accepts tasks. Raises `NotFound`, `Forbidden`,
        `InvalidRequest`.
        """
        card = (await self._registry.resolve(name, caller)).card
        if "chat" not in card.capabilities:
            raise InvalidRequest(
                f"'{name}' does not answer messages. Use a chat model, or an app that answers messages.",
                code="unsupported_operation",
                param="model",
            )
        return card

    async def agents(self, caller: Principal) -> Sequence[Card]:
        """Return the apps that accept tasks from this caller."""
        return [card for card in await self._registry.cards(caller, "app") if "chat" in card.capabilities]

    async def begin(
        self,
        name: str,
        content: Sequence[Mapping[str, Any]],
        message: Mapping[str, Any],
        context_id: str,
        caller: Principal,
    ) -> TaskView:
        """Give the agent ``name`` a task.

        ``content`` is the message as content parts of a response's input; ``message`` is the message as the client
        sent it. Raises the errors of a background response.
        """
        card = await self.agent(name, caller)
        await self._responder.require_room(caller)
        context = context_id or new_id("ctx_")
        if len(context) > MAX_CONTEXT_CHARS:
            wrong("message.contextId", f"has more than {MAX_CONTEXT_CHARS} characters")
        body = {
            "model": name,
            "input": [{"role": "user", "content": list(content)}],
            "background": True,
            "stream": True,
            "conversation": await self._conversation(app_of(card), context, caller),
        }
        prepared_response = await self._responder.prepare(body, caller)
        response = await self._responder.background.begin(prepared_response, caller)
        messages = orjson.dumps([{**message, "contextId": context, "taskId": response.id}]).decode()
        row = AgentTaskRow(
            response.id, caller.id, app_of(card), context, response.run_id, messages, response.created_at
        )
        await self._database.write(agent_tasks.add, row)
        return TaskView(row, response)

    async def _conversation(self, app: str, context: str, caller: Principal) -> str:
        """Return the id of the conversation of an agent's tasks in a context; the first task creates the
        conversation.
        """
        context_hash = hashlib.sha256("\0".join((caller.id, app, context)).encode()).hexdigest()
        now = time.time()
        row = ConversationRow(
            f"conv_{context_hash[:32]}", caller.id, {"context": context[:MAX_CONTEXT_CHARS]}, 0, now, now
        )
        await self._database.write(conversations.ensure, row)
        return row.id

    async def answer(
        self, task: TaskView, message: Mapping[str, Any], answer: TaskAnswer, caller: Principal
    ) -> TaskView:
        """Answer a task that waits for input. Raises `Conflict` if the task is not waiting, and `InvalidRequest` if
        the answer does not fit the question.
        """
        question = task.question
        if task.ended or question is None:
            doing = f"has ended ({task.state})" if task.ended else "is not waiting for an answer"
            raise Conflict(
                f"The task '{task.row.id}' {doing}. To start another task in this conversation, send a "
                "message without 'taskId' and with the same 'contextId'.",
                code="task_not_waiting",
                param="message.taskId",
            )
        if len(orjson.loads(task.row.messages)) >= MAX_MESSAGES:
            raise Conflict(
                f"The task '{task.row.id}' has {MAX_MESSAGES} messages, which is the maximum.",
                code="too_many_messages",
                param="message.taskId",
            )
        is_accepted, value, note = _read(question, answer)
        await self._questions.answer(question.id, caller, is_accepted=is_accepted, value=value, note=note)
        message_document = {**message, "contextId": task.row.context_id, "taskId": task.row.id}
        await self._database.write(agent_tasks.add_message, task.row.id, message_document, MAX_MESSAGES)
        return await self.get(task.row.id, task.row.app, caller)

    async def get(self, task_id: str, app: str, caller: Principal) -> TaskView:
        """Return a task of the agent ``app``, given as the id or key of the agent's card. Raises `NotFound`."""
        row = await self._database.read(agent_tasks.get, task_id)
        if row is None or row.app != app or not caller.sees(row.owner):
            _unknown(task_id)
        return await self._view(row, caller)

    async def _view(self, row: AgentTaskRow, caller: Principal) -> TaskView:
        try:
            response = await self._responder.get(row.id, caller)
        except NotFound:
            _unknown(row.id)
        question = None
        if response.status in OPEN_STATUSES:
            pending = await self._questions.list(caller, status="pending", run_id=row.run_id)
            question = next(
                (question_row for question_row in reversed(pending.data) if question_row.kind in ANSWERABLE),
                None,
            )
        return TaskView(row, response, question)

    async def list(
        self, app: str, task_filter: TaskFilter, limit: int, caller: Principal
    ) -> tuple[list[TaskView], int, tuple[float, str] | None]:
        """Return a page of tasks, most recently changed first, the total number of tasks, and the position of the next
        page.
        """
        task_rows, total, has_more = await self._database.read(
            agent_tasks.page, caller.id, app, task_filter, limit
        )
        response_rows = {
            response_row.id: response_row
            for response_row in await self._database.read(responses.of_ids, [row.id for row, _ in task_rows])
        }
        views = [
            await self._view(row, caller)
            if response_rows[row.id].status in OPEN_STATUSES
            else TaskView(row, response_rows[row.id])
            for row, _moment in task_rows
            if row.id in response_rows  # the response may have been deleted since
        ]
        last = task_rows[-1] if has_more else None
        return views, total, None if last is None else (last[1], last[0].id)

    async def cancel(self, task: TaskView, caller: Principal) -> TaskView:
        """Cancel a task. Raises `Conflict` if it has ended."""
        refusal = Conflict(
            f"The task '{task.row.id}' has already ended.", code="task_not_cancelable", param="id"
        )
        if task.ended:
            raise refusal
        try:
            response = await self._responder.cancel(task.row.id, caller)
        except Conflict as error:  # the response has ended in the meantime
            raise refusal from error
        return TaskView(task.row, response)

    async def follow(
        self, task: TaskView, caller: Principal
    ) -> AsyncGenerator[Sequence[Event] | TaskView, None]:
        """Yield the events of the task's response from the start, then the task when it has ended or waits for an
        answer.
        """
        frames = await self._responder.background.follow(task.response, -1)
        coming: asyncio.Future[list[bytes]] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(frames))
                futures, _ = await asyncio.wait([coming], timeout=POLL_INTERVAL_S)
                if futures:
                    try:
                        batch = coming.result()
                    except StopAsyncIteration:
                        break
                    coming = None
                    yield [orjson.loads(data) for data in batch]
                    continue
                view = await self._view(task.row, caller)
                if view.question is not None:
                    yield view
                    return
        finally:
            if coming is not None and not coming.done():
                coming.cancel()
                await asyncio.wait([coming])
            await frames.aclose()
        yield await self._view(task.row, caller)

    async def wait_for_settled(self, task: TaskView, caller: Principal) -> TaskView:
        """Return the task when it has ended or waits for an answer."""
        last = task
        events = self.follow(task, caller)
        try:
            async for event in events:
                if isinstance(event, TaskView):
                    last = event
        finally:
            await events.aclose()
        return last


def app_of(card: Card) -> str:
    """Return the key under which the tasks of an app or a model are stored."""
    return card.id or card.key


def _unknown(task_id: str) -> NoReturn:
    raise NotFound(
        f"The task '{task_id[:80]}' does not exist or you have no access to it.",
        code="task_not_found",
        param="id",
    )


def _read(question: QuestionRow, answer: TaskAnswer) -> tuple[bool, Any, str]:
    """Return whether the answer accepts the question, the value of the answer, and a note."""
    data = answer.data
    if isinstance(data, Mapping) and isinstance(data.get("accepted"), bool):
        return data["accepted"], data.get("value"), str(data.get("note") or answer.text)[:2000]
    if question.kind == "approval":
        word = answer.text.strip().rstrip(".!").lower()
        if word in _YES or word in _NO:
            return word in _YES, None, ""
        raise InvalidRequest(
            f"'{question.name}' waits for approval: answer 'yes' or 'no', or send a data part, for example "
            '{"accepted": false, "note": "why"}.',
            code="invalid_answer",
            param="message.parts",
        )
    if data is not None:
        return True, data, ""
    wants = (question.answer_schema or {}).get("type", "string")
    if wants == "string":
        return True, answer.text, ""
    try:
        return True, orjson.loads(answer.text), ""
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"'{question.name}' asks for a value of type '{wants}': send the value as a data part.",
            code="invalid_answer",
            param="message.parts",
        ) from error
