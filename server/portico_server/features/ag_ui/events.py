"""The events of a run in the protocol's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico.wire import (
    Answered,
    Asked,
    Cited,
    Delta,
    StepFinished,
    StepStarted,
    ToolCalled,
    ToolReturned,
    as_json,
)
from portico_server.core.errors import PorticoError
from portico_server.core.passage import to_json
from portico_server.core.request import CalledTool, ChatReply
from portico_server.runs.run import Run

VERSION: Final = "1.0"


class AgUiEvents:
    """Translates the events of one run. As the protocol requires, an open message is closed before any other event
    begins.
    """

    def __init__(self, body: Mapping[str, Any], run: Run) -> None:
        self._ids = {"threadId": body["threadId"], "runId": body["runId"]}
        self._run = run
        self._state = body.get("state")
        self._message = ""
        self._messages_count = 0
        self._steps: dict[str, None] = {}
        self._calls: dict[str, None] = {}
        self._returns: set[str] = set()
        self.said = False

    def begin(self) -> list[dict[str, Any]]:
        """Return the events for the start of the run."""
        metadata = {"run": self._run.id}
        events: list[dict[str, Any]] = [
            {"type": "RUN_STARTED", **self._ids, "protocolVersion": VERSION, "metadata": metadata}
        ]
        if self._state is not None:
            events.append({"type": "STATE_SNAPSHOT", "snapshot": self._state})
        return events

    def of(self, event: Any) -> list[dict[str, Any]]:
        """Return the protocol events for one event of the run."""
        match event:
            case Delta(text=text, index=0) if text:
                return self.text(text)
            case ToolCalled():
                return self.call_events(CalledTool(event.id, event.name, event.arguments))
            case ToolReturned():
                if event.id not in self._calls or event.id in self._returns:
                    return []
                self._returns.add(event.id)
                result = {"toolCallId": event.id, "content": event.text, "role": "tool"}
                return [
                    *self.close(),
                    {"type": "TOOL_CALL_RESULT", "messageId": self._next(), **result},
                ]
            case StepStarted(path=path) if path not in self._steps:
                self._steps[path] = None
                return [{"type": "STEP_STARTED", "stepName": path}]
            case StepFinished(path=path) if path in self._steps:
                del self._steps[path]
                return [{"type": "STEP_FINISHED", "stepName": path}]
            case Cited(passages=passages):
                return self._to_citations(to_json(passages))
            case Asked() | Answered():
                return [{"type": "CUSTOM", "name": f"portico.{event.type}", "value": as_json(event)}]
        return []

    def _to_citations(self, passages: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the events that add the passages to the front end's state."""
        if self._state is None:
            self._state = {}
            return [{"type": "STATE_SNAPSHOT", "snapshot": {"citations": passages}}]
        if not isinstance(self._state, Mapping):
            return [{"type": "CUSTOM", "name": "portico.cited", "value": passages}]
        return [{"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/citations", "value": passages}]}]

    def text(self, piece: str) -> list[dict[str, Any]]:
        """Return the events for a piece of the answer."""
        events: list[dict[str, Any]] = []
        if not self._message:
            self._message = self._next()
            events.append({"type": "TEXT_MESSAGE_START", "messageId": self._message, "role": "assistant"})
        self.said = True
        return [*events, {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._message, "delta": piece}]

    def call_events(self, call: CalledTool) -> list[dict[str, Any]]:
        """Return the events for a tool call, whether the tool belongs to the front end or to the daemon."""
        if call.id in self._calls:
            return []
        self._calls[call.id] = None
        call_fields = {"toolCallId": call.id}
        argument_events = (
            [{"type": "TOOL_CALL_ARGS", **call_fields, "delta": call.arguments}] if call.arguments else []
        )
        start_event = {"type": "TOOL_CALL_START", **call_fields, "toolCallName": call.name}
        return [*self.close(), start_event, *argument_events, {"type": "TOOL_CALL_END", **call_fields}]

    def close(self) -> list[dict[str, Any]]:
        """Close the open message."""
        if not self._message:
            return []
        message_id, self._message = self._message, ""
        return [{"type": "TEXT_MESSAGE_END", "messageId": message_id}]

    def _settle(self) -> list[dict[str, Any]]:
        """Return the events that close the open message and all open steps."""
        steps = [{"type": "STEP_FINISHED", "stepName": path} for path in reversed(self._steps)]
        self._steps.clear()
        return [*self.close(), *steps]

    def end(self, reply: ChatReply) -> list[dict[str, Any]]:
        """Return the events for the end of the run."""
        events = [] if self.said or not reply.content else self.text(reply.content)
        for call in reply.tool_calls:
            events += self.call_events(call)
        open_calls = [call for call in self._calls if call not in self._returns]
        outcome: dict[str, Any] = {"type": "success"}
        if open_calls:
            outcome["pendingToolCallIds"] = open_calls
        last = {"type": "RUN_FINISHED", **self._ids, "outcome": outcome, "usage": self._usage()}
        return [*events, *self._settle(), last]

    def fail(self, error: PorticoError) -> list[dict[str, Any]]:
        """Return the events for a failed run."""
        last = {"type": "RUN_ERROR", "message": error.message, "usage": self._usage()}
        if error.code:
            last["code"] = error.code
        return [*self._settle(), last]

    def _usage(self) -> list[dict[str, Any]]:
        usage = self._run.usage
        token_counts = {
            "inputTokens": usage.prompt_tokens,
            "outputTokens": usage.completion_tokens,
            "totalTokens": usage.prompt_tokens + usage.completion_tokens,
            "cachedInputTokens": usage.cached_tokens,
        }
        return [{"model": self._run.model or self._run.name, **token_counts}]

    def _next(self) -> str:
        self._messages_count += 1
        return f"{self._run.id}-{self._messages_count}"
