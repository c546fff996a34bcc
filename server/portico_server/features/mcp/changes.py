"""Notifications that a list or a file has changed, for clients of the session-based protocol and of 2026-07-28."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Final
from weakref import WeakKeyDictionary

import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
    event_to_notification,
)

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.core.servable import Kind
from portico_server.features.mcp.held import HeldRun
from portico_server.features.mcp.incoming import caller_of, connection_of
from portico_server.features.mcp.resources import ResourceOffers
from portico_server.features.mcp.tasks import TaskCalls, TaskNotification

MAX_STREAMS: Final = 1_024
"""Maximum number of open notification streams."""

MAX_STREAMS_PER_KEY: Final = MAX_STREAMS // 2
"""Maximum number of streams per key."""

MAX_WATCHED_FILES: Final = 1_000
"""Maximum number of files that one client may watch."""

MAX_UNREAD_NOTICES: Final = 1_024
"""Maximum number of unread notifications in a stream. A stream with more unread notifications ends, and its client
reconnects.
"""

COLLECT_INTERVAL_S: Final = 0.2
"""Seconds for which changes are collected, so that importing a folder sends one notification instead of thousands."""

_TOOLS: Final[frozenset[Kind]] = frozenset({"app", "tool", "store"})


@dataclass(eq=False, slots=True)
class _Watching:
    """One listener and the files it watches. Each file has its version at the last notification."""

    caller: Principal
    files: dict[str, str | None] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Stream:
    """One notification stream for clients of 2026-07-28."""

    watching: _Watching
    kinds: frozenset[type[ServerEvent]]
    tasks: frozenset[str]
    waiting: asyncio.Queue[ServerEvent | HeldRun | None] = field(
        default_factory=lambda: asyncio.Queue(MAX_UNREAD_NOTICES)
    )

    def put(self, event: ServerEvent | HeldRun | None) -> None:
        if self.waiting.full():
            while not self.waiting.empty():
                self.waiting.get_nowait()
            event = None
        self.waiting.put_nowait(event)


class Changes:
    """Sends change notifications to clients: through their session, or through `listen` for clients of 2026-07-28.

    Notifications about lists contain no names, so that clients may receive them whatever their rights are.
    """

    def __init__(self, resources: ResourceOffers, tasks: TaskCalls) -> None:
        self._resources = resources
        self._tasks = tasks
        # The transport keeps a connection while its session exists, and reports no event when the session
        # ends.
        self._sessions: WeakKeyDictionary[Connection, _Watching] = WeakKeyDictionary()
        self._streams: set[_Stream] = set()
        self._changed_kinds: set[type[ServerEvent]] = set()
        self._files = False
        self._has_changes = asyncio.Event()

    def names(self, kind: Kind) -> None:
        """Record that a name was added or removed."""
        if kind in _TOOLS:
            self._note(ToolsListChanged)
        if kind == "store":
            self._note(ResourcesListChanged)

    def prompts(self) -> None:
        """Record that a prompt was added, removed or changed."""
        self._note(PromptsListChanged)

    def store(self, _store_id: str) -> None:
        """Record that the files of a store changed."""
        self._files = True
        self._note(ResourcesListChanged)

    def task(self, held_run: HeldRun) -> None:
        """Record that the state of a task changed."""
        for stream in self._streams:
            if held_run.id in stream.tasks:
                stream.put(held_run)

    def _note(self, kind: type[ServerEvent]) -> None:
        self._changed_kinds.add(kind)
        self._has_changes.set()

    async def on_initialized(
        self, context: ServerRequestContext[Any], _params: types.NotificationParams | None
    ) -> None:
        """Handle ``notifications/initialized``: from now on, this session receives notifications."""
        self._sessions.setdefault(connection_of(context), _Watching(caller_of(context)))

    async def subscribe(
        self, context: ServerRequestContext[Any], params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        """Handle ``resources/subscribe``. Raise `MCPError` if this caller cannot read the file."""
        version = await self._resources.version(context, params.uri)
        watching = self._sessions.setdefault(connection_of(context), _Watching(caller_of(context)))
        if len(watching.files) >= MAX_WATCHED_FILES:
            raise MCPError(
                types.INVALID_REQUEST,
                f"A session may watch at most {MAX_WATCHED_FILES} files; unsubscribe from some first.",
            )
        watching.files[params.uri] = version
        return types.EmptyResult()

    async def unsubscribe(
        self, context: ServerRequestContext[Any], params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        """Handle ``resources/unsubscribe``."""
        watching = self._sessions.get(connection_of(context))
        if watching is not None:
            watching.files.pop(params.uri, None)
        return types.EmptyResult()

    async def listen(
        self, context: ServerRequestContext[Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Handle ``subscriptions/listen``: send the requested notifications until the client leaves."""
        if context.request_id is None:
            raise MCPError(types.INVALID_REQUEST, "subscriptions/listen is a request and needs an id.")
        if len(self._streams) >= MAX_STREAMS:
            raise MCPError(
                types.INTERNAL_ERROR, f"The maximum of {MAX_STREAMS} notification streams is open."
            )
        caller = caller_of(context)
        if sum(stream.watching.caller.id == caller.id for stream in self._streams) >= MAX_STREAMS_PER_KEY:
            raise MCPError(
                types.INTERNAL_ERROR,
                f"This API key has the maximum of {MAX_STREAMS_PER_KEY} notification streams open.",
            )
        stream, subscription_filter = await self._open_stream(context, params.notifications)
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: context.request_id}
        self._streams.add(stream)
        try:
            acknowledged_notification = types.SubscriptionsAcknowledgedNotification(
                params=types.SubscriptionsAcknowledgedNotificationParams(
                    notifications=subscription_filter, _meta=meta
                )
            )
            await context.session.send_notification(
                acknowledged_notification, related_request_id=context.request_id
            )
            while (event := await stream.waiting.get()) is not None:
                await self._send(context, event, meta)
        finally:
            self._streams.discard(stream)
        return types.SubscriptionsListenResult(_meta=meta)

    async def _open_stream(
        self, context: ServerRequestContext[Any], subscription_filter: types.SubscriptionFilter
    ) -> tuple[_Stream, types.SubscriptionFilter]:
        """Return a stream of the notifications that this caller may receive, and the filter that the client gets as
        acknowledgement.
        """
        watching = _Watching(caller_of(context))
        for uri in (subscription_filter.resource_subscriptions or ())[:MAX_WATCHED_FILES]:
            try:
                watching.files[uri] = await self._resources.version(context, uri)
            except MCPError:
                continue  # not honored: the acknowledgement omits this file
        task_ids = (subscription_filter.model_extra or {}).get("taskIds")
        tasks: list[str] = []
        if isinstance(task_ids, list):
            self._tasks.require(context)
            names = [item for item in task_ids[:MAX_WATCHED_FILES] if isinstance(item, str)]
            tasks = [name for name in names if await self._tasks.visible(context, name)]
        kinds: dict[type[ServerEvent], bool | None] = {
            ToolsListChanged: subscription_filter.tools_list_changed,
            PromptsListChanged: subscription_filter.prompts_list_changed,
            ResourcesListChanged: subscription_filter.resources_list_changed,
        }
        stream = _Stream(watching, frozenset(kind for kind, on in kinds.items() if on), frozenset(tasks))
        extra: dict[str, Any] = {"taskIds": tasks} if tasks else {}
        honored_subscription_filter = types.SubscriptionFilter(
            tools_list_changed=subscription_filter.tools_list_changed or None,
            prompts_list_changed=subscription_filter.prompts_list_changed or None,
            resources_list_changed=subscription_filter.resources_list_changed or None,
            resource_subscriptions=list(watching.files) or None,
            **extra,
        )
        return stream, honored_subscription_filter

    async def _send(
        self, context: ServerRequestContext[Any], event: ServerEvent | HeldRun, meta: dict[str, Any]
    ) -> None:
        notice: Any
        if isinstance(event, HeldRun):
            state = await self._tasks.describe(context, event)
            notice = TaskNotification(params={**state, "_meta": {**state["_meta"], **meta}})
        else:
            notice = event_to_notification(event, meta)
        await context.session.send_notification(notice, related_request_id=context.request_id)

    async def run(self) -> None:
        """Send notifications until cancelled. Changes that occur together become one notification."""
        while True:
            await self._has_changes.wait()
            await asyncio.sleep(COLLECT_INTERVAL_S)
            self._has_changes.clear()
            changed_kinds, self._changed_kinds = self._changed_kinds, set()
            files, self._files = self._files, False
            for stream in tuple(self._streams):
                for kind in changed_kinds & stream.kinds:
                    stream.put(kind())  # type: ignore[call-arg]  # those of lists have no fields
                for uri in await self._changed_files(stream.watching) if files else ():
                    stream.put(ResourceUpdated(uri))
            for session, watching in tuple(self._sessions.items()):
                await _notify_session(session, changed_kinds)
                for uri in await self._changed_files(watching) if files else ():
                    await session.send_resource_updated(uri)

    async def _changed_files(self, watching: _Watching) -> Iterable[str]:
        """Yield the files that changed since the listener's last notification."""
        uris = []
        for uri, before in tuple(watching.files.items()):
            now = await self._resources.state(watching.caller, uri)
            if now != before:
                watching.files[uri] = now
                uris.append(uri)
        return uris

    def close(self) -> None:
        """End the streams of the listeners cleanly."""
        for stream in self._streams:
            stream.put(None)


async def _notify_session(session: Connection, changed_kinds: set[type[ServerEvent]]) -> None:
    if ToolsListChanged in changed_kinds:
        await session.send_tool_list_changed()
    if ResourcesListChanged in changed_kinds:
        await session.send_resource_list_changed()
    if PromptsListChanged in changed_kinds:
        await session.send_prompt_list_changed()
