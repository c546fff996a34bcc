"""One request of a batch, repeated until its answer is final."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from portico_server.core.errors import Forbidden
from portico_server.core.principal import Principal
from portico_server.core.work_slots import FairSlots
from portico_server.features.batches.spec import AnswerLine, LineAnswer
from portico_server.runs.throttle import Throttle

MAX_ATTEMPTS: Final = 5
"""Maximum number of attempts for a request if the model or the provider fails."""

RETRIED_STATUS: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses for which a later attempt may succeed."""

FIRST_RETRY_S: Final = 0.5
"""Seconds between the first two attempts; the delay doubles after each attempt."""

MAX_RETRY_S: Final = 30.0
"""Maximum seconds between two attempts."""


class RevokedError(Exception):
    """The key that created the batch no longer exists."""

    def __init__(self, error: Forbidden) -> None:
        super().__init__(error.message)
        self.error = error


class LineRequest:
    """Sends the requests of one batch on behalf of its owner, with the owner's current permissions.

    All batches of this daemon share ``slots``; a request that waits for its next attempt uses no slot.
    """

    def __init__(
        self,
        ask: AnswerLine,
        principals: Callable[[str], Principal],
        slots: FairSlots,
        throttle: Throttle,
        owner: str,
        endpoint: str,
        model: str,
    ) -> None:
        self._ask = ask
        self._principals = principals
        self._slots = slots
        self._throttle = throttle
        self._owner = owner
        self._endpoint = endpoint
        self._model = model

    async def answer(self, body: bytes) -> LineAnswer:
        """Return the answer, which may be an error. If a queue or a quota of this daemon is full, retry without a
        limit.

        Raises `RevokedError`.
        """
        tries, pause = 0, FIRST_RETRY_S
        while True:
            async with self._slots.hold():
                await self._throttle.wait_for_idle(self._model)
                answer = await self._ask(self._endpoint, body, self._caller())
            tries += not answer.ours
            if not answer.ours and (answer.status not in RETRIED_STATUS or tries >= MAX_ATTEMPTS):
                return answer
            wait = min(MAX_RETRY_S, max(pause, answer.retry_after or 0.0))
            await asyncio.sleep(wait * random.uniform(1.0, 1.25))  # noqa: S311  # so that not all come at once
            pause = min(MAX_RETRY_S, pause * 2)

    def _caller(self) -> Principal:
        try:
            return self._principals(self._owner)
        except Forbidden as error:
            raise RevokedError(error) from error
