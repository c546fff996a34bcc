"""Calls of models that a run makes, counted against the limits of the key that the run is for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from portico.wire import Usage
from portico_server.core.errors import TooMany
from portico_server.core.request import Detokenize, Embed, Request, Rerank, Tokenize
from portico_server.core.servable import Servable
from portico_server.runs.quotas import Meter

MAX_LIMIT_WAIT_S: Final = 300.0
"""Seconds that a call of a run which nobody waits for stands until a limit lets it in; a longer wait fails it."""

_UNCOUNTED: Final = (Embed, Rerank, Tokenize, Detokenize)
"""What a search and a check of lengths ask of models: their tokens count, they are no requests."""


class Charge:
    """What one run has cost its key so far. ``patient``: whether the run waits for a limit instead of failing."""

    __slots__ = ("_calls", "tokens")

    def __init__(self) -> None:
        self._calls = 0
        self.tokens = 0
        """Those that have been charged; the end of the run charges the rest."""

    @asynccontextmanager
    async def call(
        self, meter: Meter | None, servable: Servable, request: Request, *, patient: bool
    ) -> AsyncIterator[None]:
        """Around a call of a servable within the run. Raises `TooMany` if the key is over one of its limits.

        The first call of a model belongs to the request that began the run; each further one is a request more.
        """
        if meter is None or servable.card.kind != "model" or isinstance(request, _UNCOUNTED):
            yield
            return
        self._calls += 1
        if self._calls > 1:
            await _counted(meter, patient)
        async with meter.turn():
            yield

    def spend(self, meter: Meter | None, servable: Servable, result: Any) -> None:
        """Count the tokens of a call that has ended."""
        usage = getattr(result, "usage", None)
        if meter is not None and servable.card.kind == "model" and isinstance(usage, Usage):
            tokens = usage.prompt_tokens + usage.completion_tokens
            self.tokens += tokens
            meter.spend(tokens)


async def _counted(meter: Meter, patient: bool) -> None:
    waited = 0.0
    while True:
        try:
            meter.add_request()
        except TooMany as error:
            pause = max(error.retry_after or 1.0, 0.1)
            if not patient or waited + pause > MAX_LIMIT_WAIT_S:
                raise
            waited += pause
            await asyncio.sleep(pause)
        else:
            return
