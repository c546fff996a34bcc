"""Functions of clients that serve them for whoever calls, as steps of a deployed app need them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.errors import DeadlineExceeded, InvalidRequest, Unavailable
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Card, Kind


class ServedFunctions:
    """The functions that are there, and those that come. Made once, because it listens to the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._tools_changed = asyncio.Event()
        registry.watch(self._changed)

    def _changed(self, kind: Kind) -> None:
        if kind == "tool":
            self._tools_changed.set()
            self._tools_changed = asyncio.Event()

    def has(self, name: str, caller: Principal) -> bool:
        """Whether a client serves it to the caller just now."""
        found = self._registry.get(f"tool/{name}", caller)
        return found is not None and found.card.labels.get("source") == "client"

    def require(self, name: str, caller: Principal, *, app: str = "NAME") -> None:
        """Raise `Unavailable`, for a caller who waits for the answer, if no client serves it just now."""
        found = self._registry.get(f"tool/{name}", caller)
        if found is None:
            raise Unavailable(
                f"No client serves the function '{name}' now. Start one that does: portico serve FILE.py:{app}, or "
                f"client.serve([{name}]). A durable flow that is begun with POST /api/apps/{app}/run waits for it.",
                code="not_served",
            )

    async def function(self, name: str, caller: Principal, seconds: float) -> Card:
        """The function, waited for until a client serves it.

        Raises `DeadlineExceeded` if none does within so many seconds, `NotFound` or `Forbidden` if it is not for this
        caller, `InvalidRequest` if the name is that of another tool.
        """
        try:
            async with asyncio.timeout(seconds) as until:
                return await self._come(name, caller)
        except TimeoutError as error:
            if not until.expired():
                raise
            raise DeadlineExceeded(
                f"No client has served the function '{name}' within {seconds:g} s. Start one that does: "
                f"portico serve FILE.py:{name}, or client.serve([{name}]).",
                code="question_expired",
            ) from error

    async def _come(self, name: str, caller: Principal) -> Card:
        while True:
            changed = self._tools_changed
            if self._registry.get(f"tool/{name}", caller) is not None:
                card = (await self._registry.resolve(f"tool/{name}", caller)).card
                if card.labels.get("source") != "client":
                    raise InvalidRequest(
                        f"'{name}' is a tool of the daemon and no function of a client. Use a tool step, or name the "
                        "function differently.",
                        code="not_a_function",
                    )
                return card
            await changed.wait()


def by_name(card: Card, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by the names of the function's schema, whose properties stand in the order of its parameters."""
    names = list((card.input_schema or {}).get("properties") or ())
    if len(args) > len(names):
        raise InvalidRequest(
            f"The function '{card.name}' takes {', '.join(names) or 'nothing'}, but gets {len(args)} arguments.",
            code="type_clash",
        )
    placed = dict(zip(names, args, strict=False))
    twice = placed.keys() & kwargs.keys()
    if twice:
        raise InvalidRequest(
            f"The function '{card.name}' gets '{min(twice)}' twice, by place and by name.", code="type_clash"
        )
    return {**placed, **kwargs}
