"""Model calls of a run, counted against the limits of a key."""

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
"""Maximum seconds that a call of a background run waits for a limit; a longer wait fails the call."""

_UNCOUNTED: Final = (Embed, Rerank, Tokenize, Detokenize)
"""Requests that searches and length checks send to models. Their tokens count, but they do not count as requests."""


NO_USAGE: Final = Usage()
"""The empty usage."""


class ModelCalls:
    """The usage that one run has charged to its key so far."""

    __slots__ = ("_calls", "usage")

    def __init__(self) -> None:
        self._calls = 0
        self.usage = NO_USAGE
        """Usage charged so far; the rest is charged when the run ends."""

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
        """Wrap a call of a servable within the run. Raise `TooMany` if the key exceeds one of its limits.

        If the request that started the run ``is_counted``, the first call of a model is already counted; each further
        call counts as another request. ``patient``: wait for a limit instead of failing.
        """
        if meter is None or servable.card.kind != "model" or isinstance(request, _UNCOUNTED):
            yield
            return
        self._calls += 1
        if self._calls > 1 or not is_counted:
            await _count_request(meter, patient)
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
    """The part of a run's usage that is charged to another key than the run's own."""

    key: str
    charge: ModelCalls = field(default_factory=ModelCalls)
    usage: Usage = NO_USAGE


async def _count_request(meter: UsageMeter, patient: bool) -> None:
    waited_s = 0.0
    while True:
        try:
            await meter.add_request()
        except TooMany as error:
            pause = max(error.retry_after or 1.0, 0.1)
            if not patient or waited_s + pause > MAX_LIMIT_WAIT_S:
                raise
            waited_s += pause
            await asyncio.sleep(pause)
        else:
            return


async def with_text(registry: Registry, servable: Servable, request: Request, caller: Principal) -> Request:
    """Return a chat request to an app with the text of its files. For a model, return the request unchanged: models
    read files themselves.
    """
    if not isinstance(request, Chat) or servable.card.kind != "app" or not holds_files(request.messages):
        return request
    if registry.files is None:
        return request
    return replace(request, messages=tuple(await registry.files.as_text(request.messages, caller)))
