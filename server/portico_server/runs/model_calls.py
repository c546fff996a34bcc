"""Calls of models that a run makes, counted against the limits of the key that the run is for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field, replace
from typing import Any, Final

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import TooMany
from portico_server.core.media import holds_files
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay
from portico_server.core.request import Chat, Detokenize, Embed, Request, Rerank, Tokenize
from portico_server.core.servable import Servable
from portico_server.runs.quotas import UsageMeter

MAX_LIMIT_WAIT_S: Final = 300.0
"""Seconds that a call of a run which nobody waits for stands until a limit lets it in; a longer wait fails it."""

_UNCOUNTED: Final = (Embed, Rerank, Tokenize, Detokenize)
"""What a search and a check of lengths ask of models: their tokens count, they are not requests."""


NO_USAGE: Final = Usage()
"""What nothing has used."""


class ModelCalls:
    """What one run has cost its key so far."""

    __slots__ = ("_calls", "usage")

    def __init__(self) -> None:
        self._calls = 0
        self.usage = NO_USAGE
        """What has been charged; the end of the run charges the rest."""

    @asynccontextmanager
    async def call(
        self,
        meter: UsageMeter | None,
        servable: Servable,
        request: Request | Relay,
        *,
        patient: bool,
        is_counted: bool,
    ) -> AsyncIterator[None]:
        """Around a call of a servable within the run. Raises `TooMany` if the key is over one of its limits.

        The first call of a model belongs to the request that began the run, if one was ``is_counted``; each further one
        is a request more. ``patient``: it waits for a limit instead of failing.
        """
        if meter is None or servable.card.kind != "model" or isinstance(request, _UNCOUNTED):
            yield
            return
        self._calls += 1
        if self._calls > 1 or not is_counted:
            await _counted(meter, patient)
        async with meter.turn():
            yield

    def spend(self, meter: UsageMeter | None, servable: Servable, result: Any) -> None:
        """Count the tokens of a call that has ended."""
        usage = getattr(result, "usage", None)
        if meter is not None and servable.card.kind == "model" and isinstance(usage, Usage):
            self.usage += usage
            meter.spend(usage.prompt_tokens + usage.completion_tokens)


@dataclass(slots=True)
class ExpenseShare:
    """What a run has used at the expense of another key than its own."""

    key: str
    charge: ModelCalls = field(default_factory=ModelCalls)
    usage: Usage = NO_USAGE


async def _counted(meter: UsageMeter, patient: bool) -> None:
    waited_s = 0.0
    while True:
        try:
            meter.add_request()
        except TooMany as error:
            pause = max(error.retry_after or 1.0, 0.1)
            if not patient or waited_s + pause > MAX_LIMIT_WAIT_S:
                raise
            waited_s += pause
            await asyncio.sleep(pause)
        else:
            return


async def with_text(registry: Registry, servable: Servable, request: Request, caller: Principal) -> Request:
    """What an app is asked: a chat with the text of its files. A model knows itself what it reads."""
    if not isinstance(request, Chat) or servable.card.kind != "app" or not holds_files(request.messages):
        return request
    if registry.files is None:
        return request
    return replace(request, messages=tuple(await registry.files.as_text(request.messages, caller)))
