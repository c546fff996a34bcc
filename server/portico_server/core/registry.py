"""One table of names. What is registered once is served on every face."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from portico_server.core.errors import Conflict, NotFound, nearest
from portico_server.core.principal import Principal
from portico_server.core.servable import Card, Kind, Servable


class Source(Protocol):
    """A part of the daemon whose Servables are rows, looked up when asked for (stores, deployed apps)."""

    async def find(self, key: str, caller: Principal) -> Servable | None: ...

    async def cards(self, caller: Principal) -> Sequence[Card]: ...


class Registry:
    """Names to Servables. Aliases may point anywhere and move without clients noticing."""

    def __init__(self) -> None:
        self._servables: dict[str, Servable] = {}
        self._aliases: dict[str, str] = {}
        self._sources: list[Source] = []
        self._watchers: list[Callable[[Kind], None]] = []

    def add(self, servable: Servable, *, replace: bool = False) -> None:
        """Register under ``servable.card.key``; `Conflict` if the name is taken and ``replace`` is not set."""
        card = servable.card
        if not replace and card.key in self._servables:
            raise Conflict(f"The name '{card.name}' is taken by a {self._servables[card.key].card.kind}.")
        self._servables[card.key] = servable
        self.changed(card.kind)

    def remove(self, key: str) -> None:
        servable = self._servables.pop(key, None)
        if servable is not None:
            self.changed(servable.card.kind)

    def add_source(self, source: Source) -> None:
        self._sources.append(source)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources, in the order in which they are asked."""
        return tuple(self._sources)

    def alias(self, name: str, target: str) -> None:
        """Let ``name`` mean ``target`` from now on."""
        self._aliases[name] = target
        self.changed("model")

    def unalias(self, name: str) -> None:
        """Let ``name`` mean nothing."""
        if self._aliases.pop(name, None) is not None:
            self.changed("model")

    @property
    def aliases(self) -> dict[str, str]:
        return dict(self._aliases)

    def watch(self, watcher: Callable[[Kind], None]) -> None:
        """Call ``watcher`` with the kind whenever a list of names changes."""
        self._watchers.append(watcher)

    def changed(self, kind: Kind) -> None:
        for watcher in self._watchers:
            watcher(kind)

    def get(self, key: str) -> Servable | None:
        """What is registered under ``key`` or the alias ``key``, whoever asks. No I/O."""
        found = self._servables.get(key)
        if found is None:
            found = self._servables.get(self._aliases.get(key, ""))
        return found

    def __iter__(self) -> Iterator[Servable]:
        return iter(self._servables.values())

    async def resolve(self, key: str, caller: Principal) -> Servable:
        """The Servable that ``caller`` means by ``key``, checked for visibility and scope.

        Raises `NotFound` (with the nearest names) if it does not exist for this caller, `Forbidden` if it does and
        the caller may not call it.
        """
        found = self.get(key)
        if found is None:
            found = await self._find(key, caller)
        if found is None and key in self._aliases:
            found = await self._find(self._aliases[key], caller)
        if found is None or not caller.sees(found.card.owner):
            raise await self._unknown(key, caller)
        caller.require(found.card.scope)
        return found

    async def _find(self, key: str, caller: Principal) -> Servable | None:
        """What the first source has that knows it."""
        for source in self._sources:
            found = await source.find(key, caller)
            if found is not None:
                return found
        return None

    async def cards(self, caller: Principal, *kinds: Kind) -> list[Card]:
        """The cards that ``caller`` may see and call, by name, of ``kinds`` (all kinds if none is given)."""
        cards = [servable.card for servable in self._servables.values()]
        for source in self._sources:
            cards.extend(await source.cards(caller))
        return sorted(
            (
                card
                for card in cards
                if (not kinds or card.kind in kinds) and caller.sees(card.owner) and caller.allows(card.scope)
            ),
            key=lambda card: card.key,
        )

    async def _unknown(self, key: str, caller: Principal) -> NotFound:
        kind, _, name = key.rpartition("/")
        if kind in ("store", "tool"):
            known = [card.name for card in await self.cards(caller) if card.kind == kind]
            noun, code = kind, f"{kind}_not_found"
        else:
            name = key
            known = [card.name for card in await self.cards(caller, "model", "app")] + list(self._aliases)
            noun, code = "model", "model_not_found"
        return NotFound(
            f"The {noun} '{name}' does not exist here or you have no access to it.{nearest(name, known)}",
            code=code,
            param=noun,
        )
