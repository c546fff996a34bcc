"""Guards content that leaves an object without a call, such as the text of a file in a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from portico_server.core.errors import PorticoError
from portico_server.core.registry import Content
from portico_server.core.servable import Card
from portico_server.features.guards.call_guards import Guards, HitLog
from portico_server.features.guards.fields import guard_content
from portico_server.features.guards.guard import EVERYTHING, ContentBlocked, ContentGuard
from portico_server.features.guards.guarded import guards_of, names_of


class ContentGuards:
    """See `portico_server.core.registry.GuardsContent`. The detections are logged, because there is no run."""

    def __init__(self, guards: Sequence[ContentGuard], aliases: Mapping[str, str]) -> None:
        self._guards = guards
        self._aliases = aliases

    async def pass_content(self, card: Card, content: Content) -> Content:
        guards = Guards(guards_of(card, self._guards, self._aliases))
        return await guard_content(content, guards, HitLog(card.key))

    def unknown_names(self, cards: Sequence[Card]) -> Sequence[tuple[str, str]]:
        known_names = {EVERYTHING, *(name for card in cards for name in names_of(card))}
        return [
            (guard.name, name)
            for guard in self._guards
            for name in sorted(guard.on)
            if name not in known_names and self._aliases.get(name) not in known_names
        ]

    async def require_unguarded(self, card: Card, read: Callable[[], Awaitable[Sequence[str]]]) -> None:
        """Raise `ContentBlocked`, also for a text that cannot be read, unless the guard's ``on_error`` is ``pass``."""
        guards = Guards(
            tuple(
                replace(guard, action="block")
                for guard in guards_of(card, self._guards, self._aliases)
                if guard.action in ("block", "mask")
            )
        )
        if not guards.at("tool_results"):
            return
        try:
            texts = await read()
        except PorticoError as error:
            for guard in guards.guards:
                if "tool_results" in guard.where and guard.on_error == "block":
                    raise ContentBlocked(
                        f"The guard '{guard.name}' blocks the file, because its text cannot be read."
                    ) from error
            return
        await guards.adjacent(texts, "tool_results", HitLog(card.key))
