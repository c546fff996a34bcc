"""Training on the processor stands still while the daemon answers on it.

A low priority is not enough: the threads of an engine wait for each other many times a token, and a training that gets
the core for one of them, or only the memory's attention, costs two thirds of the speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

LOOK: Final = 0.05
"""Seconds between two looks at whether something is being answered."""

LONGEST: Final = 5.0
"""Seconds that a training stands at a time, however much is asked."""

BREATH: Final = 0.5
"""Seconds that it then works all the same."""


class Holds(Protocol):
    """What can stand still: `portico_server.finetune.process.Training`."""

    def hold(self) -> None:
        """Stand still."""

    def go_on(self) -> None:
        """Work again; also where it never stood."""


@asynccontextmanager
async def courtesy(training: Holds, answering: Callable[[], bool] | None) -> AsyncGenerator[None]:
    """Let ``training`` stand still while ``answering``. Without that it just works."""
    if answering is None:
        yield
        return
    watching = asyncio.create_task(_give_way(training, answering), name="a training gives way")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        training.go_on()


async def _give_way(training: Holds, answering: Callable[[], bool]) -> None:
    stood = 0.0
    while True:
        await asyncio.sleep(LOOK)  # a call that begins is a counter that rises: nobody is told
        wanted = answering()
        if wanted and stood < LONGEST:
            if not stood:
                training.hold()
            stood += LOOK
        elif stood:
            training.go_on()
            stood = 0.0
            if wanted:
                await asyncio.sleep(BREATH)
