"""One session during a turn: the memories of all its agents, and the messages and states that the turn adds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from typing import Any, Protocol

from portico_server.core.context import Context, no_value
from portico_server.core.dataclass import dataclass
from portico_server.features.agents.message import AgentMessage, message_of
from portico_server.features.flows.budget import ValueBudget
from portico_server.runs.turn_steps import TurnSteps


@dataclass(slots=True)
class Recollection:
    """The memory of one agent.

    ``last`` is the number of the last stored message; ``earlier`` is the number of preceding messages that are not
    loaded.
    """

    messages: list[AgentMessage] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    last: int = 0
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Additions:
    """What a turn adds to a session: messages as (agent, message) in order, and changed states by agent.

    ``seen`` is, for each agent, the number of the last message on which the turn was based.
    """

    messages: Sequence[tuple[str, AgentMessage]]
    states: Mapping[str, Mapping[str, Any]]
    seen: Mapping[str, int]


class SessionStore(Protocol):
    """The storage of one session: `portico_server.features.agents.sessions`."""

    async def load(self, agent: str, *, last: int | None = None) -> Recollection: ...

    async def save(self, additions: Additions, run_id: str) -> None: ...


class _OutsideStore:
    """The storage of a session as data outside the run, so that a recording contains what a turn reads."""

    def __init__(self, store: SessionStore, context: Context) -> None:
        self._store = store
        self._context = context

    async def enter(self, agent: str, recollection: Recollection) -> Recollection:
        """Return the memory with which the turn begins: ``recollection`` or, in a replay, the recorded one."""

        async def load() -> Recollection:
            return recollection

        return await self._read(agent, load)

    async def load(self, agent: str, *, last: int | None = None) -> Recollection:
        return await self._read(agent, lambda: self._store.load(agent, last=last))

    async def _read(self, agent: str, load: Callable[[], Awaitable[Recollection]]) -> Recollection:
        return await self._context.outside("session", {"agent": agent}, load, _snapshot, _recollection)

    async def save(self, additions: Additions, run_id: str) -> None:
        messages = [[agent, message] for agent, message in additions.messages]
        await self._context.outside(
            "session",
            {"messages": messages, "states": {path: dict(state) for path, state in additions.states.items()}},
            lambda: self._store.save(additions, run_id),
            no_value,
            no_value,
        )


def _snapshot(recollection: Recollection) -> dict[str, Any]:
    return {
        "messages": tuple(recollection.messages),
        "state": dict(recollection.state),
        "last": recollection.last,
        "earlier": recollection.earlier,
    }


def _recollection(snapshot: Mapping[str, Any]) -> Recollection:
    messages = [message_of(message) for message in snapshot["messages"]]
    return Recollection(messages, dict(snapshot["state"]), snapshot["last"], snapshot["earlier"])


class AgentSession:
    """The memories of a session's agents, keyed by the path of the agent (``""`` for the root). Without a ``keeper``,
    the session ends with the turn.

    The additions of a turn are written together when the turn ends, so an interrupted turn leaves nothing behind.
    """

    def __init__(
        self,
        keeper: SessionStore | None = None,
        recollections: Mapping[str, Recollection] | None = None,
        *,
        app: str = "",
        name: str = "",
    ) -> None:
        self.budget = ValueBudget()
        """Limits the total size of the messages that the turn keeps."""
        self.app = app
        self.name = name
        self._keeper = keeper
        self._memories: dict[str, Recollection] = dict(recollections or {})
        self._last_ids = {path: memory.last for path, memory in self._memories.items()}
        self._additions: list[tuple[str, AgentMessage]] = []
        self._changed_paths: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._steps: TurnSteps | None = None

    async def begin(self, path: str, steps: TurnSteps, context: Context) -> None:
        """Begin a turn of the agent at ``path``. If a durable turn is repeated, each memory is as it was when the turn
        first began. In a replay, each memory is as it was in the recorded turn, and nothing is saved.
        """
        if self._keeper is not None:
            store = _OutsideStore(self._keeper, context)
            self._keeper = store
            self._memories[path] = await store.enter(path, self._memories[path])
            self._last_ids[path] = self._memories[path].last
        if self._keeper is not None and steps.durable:
            self._steps = steps
            found_recollection = await self._of(path)
            self._memories[path] = recollection = await self._as_it_was(path, found_recollection)
            self._last_ids[path] = recollection.last

    async def _as_it_was(self, path: str, found_recollection: Recollection) -> Recollection:
        """Return an agent's memory as it was when the turn first began.

        Since then, the session may have advanced; the repeated turn itself may have been stored.
        """
        assert self._steps is not None
        assert self._keeper is not None

        async def load_current() -> Recollection:
            return found_recollection

        def load_saved(saved_state: Mapping[str, Any]) -> Recollection:
            return Recollection([], saved_state["state"], saved_state["last"])

        at = f"session.{path}" if path else "session"
        was = await self._steps.once(
            self._steps.place_of(at),
            "session",
            path,
            load_current,
            lambda recollection: {"last": recollection.last, "state": recollection.state},
            load_saved,
            settle=False,
        )
        if was is found_recollection:
            return found_recollection
        if was.last != found_recollection.last:
            found_recollection = await self._keeper.load(path, last=was.last)
        return replace(found_recollection, state=was.state)

    async def memory(self, path: str) -> list[AgentMessage]:
        """Return the messages that the agent at ``path`` saw and sent, oldest first, without the `earlier` messages."""
        return (await self._of(path)).messages

    async def earlier(self, path: str) -> int:
        """Return how many messages of the agent's memory precede those that `memory` returns. A turn does not load
        these messages.
        """
        return (await self._of(path)).earlier

    async def state(self, path: str) -> Mapping[str, Any]:
        """Return the part of the agent's state that is not messages. Use `keep` to change it."""
        return (await self._of(path)).state

    async def _of(self, path: str) -> Recollection:
        recollection = self._memories.get(path)
        if recollection is None:
            recollection = Recollection() if self._keeper is None else await self._keeper.load(path)
            if self._steps is not None:
                recollection = await self._as_it_was(path, recollection)
            self._memories[path] = recollection
            self._last_ids[path] = recollection.last
        return recollection

    async def add(self, path: str, message: AgentMessage) -> None:
        """Add a message to an agent's memory. Raises the same errors as `hold`."""
        await self.hold(message)
        (await self._of(path)).messages.append(message)
        self._additions.append((path, message))

    async def hold(self, message: AgentMessage) -> None:
        """Count a message that the turn keeps. Raise `InvalidRequest` or `TooMany` if the turn keeps too much."""
        await self.budget.hold([message.content, message.formatted, message.extra_info], message.sender)

    async def keep(self, path: str, **values: Any) -> None:
        """Change values of the agent's state. ``None`` removes a value."""
        state = (await self._of(path)).state
        state.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del state[name]
        self._changed_paths.add(path)

    @asynccontextmanager
    async def branch(self, path: str) -> AsyncIterator[None]:
        """Run the turn of a sub-agent; turns at the same ``path`` run one at a time. If the turn fails, drop the
        additions of the sub-agent and of the agents below it.
        """
        lock = self._locks.setdefault(path, asyncio.Lock())
        async with lock:
            before = {
                at: (len(memory.messages), dict(memory.state))
                for at, memory in self._memories.items()
                if _within(at, path)
            }
            try:
                yield
            except BaseException:
                self._forget(path, before)
                raise

    def _forget(self, path: str, before: Mapping[str, tuple[int, dict[str, Any]]]) -> None:
        forgotten_ids: set[int] = set()
        for at, memory in self._memories.items():
            if _within(at, path):
                # If a memory was loaded during the branch, its original length is the number of its messages
                # minus the added ones.
                added_ids = {id(message) for message_path, message in self._additions if message_path == at}
                length, state = before.get(at) or (
                    sum(1 for message in memory.messages if id(message) not in added_ids),
                    memory.state,
                )
                forgotten_ids |= {id(message) for message in memory.messages[length:]}
                del memory.messages[length:]
                memory.state = state
        self._additions = [
            (at, message) for at, message in self._additions if id(message) not in forgotten_ids
        ]

    async def commit(self, run_id: str) -> None:
        """Write all additions, or none."""
        if self._keeper is not None and (self._additions or self._changed_paths):
            states = {path: self._memories[path].state for path in self._changed_paths}
            await self._keeper.save(Additions(self._additions, states, self._last_ids), run_id)
        self._additions, self._changed_paths = [], set()


def _within(path: str, root: str) -> bool:
    """Return whether an agent is ``root`` or below it in the tree."""
    return not root or path == root or path.startswith(f"{root}.")
