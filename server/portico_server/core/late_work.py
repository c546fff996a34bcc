"""Background work of parts of the daemon that are built when they are first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from portico_server.core.errors import shutting_down

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""A coroutine function that works until it is cancelled."""


class LateWork:
    """Owns the tasks of work that begins while the daemon serves."""

    def __init__(self) -> None:
        self._works: dict[str, Work] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._has_ended = False

    def begin(self, name: str, work: Work) -> None:
        """Begin work now, or once `run` is called. Raises `Unavailable` while the daemon shuts down."""
        if self._has_ended:
            raise shutting_down()
        if self._tasks is None:
            self._works[name] = work
        else:
            self._tasks.create_task(work(), name=name)

    async def run(self) -> None:
        """Do all work until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            for name, work in self._works.items():
                self._tasks.create_task(work(), name=name)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._has_ended = True
