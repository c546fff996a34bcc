"""One table of names. What is registered once is served on every protocol adapter.

A name is *shared* (of the configuration, the local operator or an admin) or *private* to a key. A bare name means one's
own thing, then a shared one, never another key's; another key's things are reached by an admin alone, by their ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol, TypeAlias

from portico_server.core.binding import (
    BOUND,
    BoundNames,
    binding_of,
    id_of,
    name_changed_error,
    owner_in,
    target_in,
    to_target,
)
from portico_server.core.errors import Conflict, NotFound, Unavailable, nearest
from portico_server.core.interfaces import ReadsFiles
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.servable import Card, Kind, Servable, splits

RESERVED: Final = frozenset({"default", "default-embedding", "default-image", "client"})
"""Names that mean something everywhere, so that no key may give them to a thing of its own."""


def owner_of(caller: Principal) -> str | None:
    """Whose the things are that this caller makes under a name: an admin's are shared."""
    return None if caller.admin else caller.id


Versions: TypeAlias = Callable[[str], Awaitable[Servable | None]]
"""The version of a shared app that ``NAME@NUMBER`` means, if there is one."""

PREPARED_TIMEOUT_S: Final = 60.0
"""Seconds that a run which was taken up waits for what its names mean."""

STARTED_TIMEOUT_S: Final = 30.0
"""Seconds that a call waits for what is being started, after a start of the daemon."""

STARTING_RETRY_S: Final = 5.0
"""Seconds after which to call again what has not been started by then."""


class LateSource(Protocol):
    """A part of the daemon whose things come one after the other once it serves: tools, and apps that need them."""

    async def started(self, key: str) -> None:
        """Wait while what may have a key (``tool/``: any tool) is being started, and not for what could not be."""

    async def prepared(self, key: str) -> None:
        """Wait until what may have a key is there, whatever has failed so far."""


class Source(Protocol):
    """A part of the daemon whose Servables are rows, looked up when asked for (stores, their chat apps)."""

    async def find(self, key: str, owner: str | None) -> Servable | None:
        """What exactly this owner has under a name; ``None`` means what is shared."""

    async def by_id(self, key: str, caller: Principal) -> Servable | None:
        """What has this id, if the caller sees it."""

    async def cards(self, caller: Principal) -> Sequence[Card]:
        """What the caller has, and what is shared."""

    def has(self, key: str, owner: str) -> bool:
        """Whether a key may have something private of this name. No I/O: it is asked in every call of a model."""


class Registry:
    """Names to Servables. Aliases may point anywhere and move without clients noticing."""

    def __init__(self) -> None:
        self._shared: dict[str, Servable] = {}
        self._private: dict[str, dict[str, Servable]] = {}
        """By owner, then by key."""
        self._ids: dict[str, Servable] = {}
        """What is held here, by its id."""
        self._aliases: dict[str, str] = {}
        self._behind: dict[str, Servable] = {}
        """What an alias means that has no name of its own: a version of an app, or a split between two things."""
        self._reserved: set[str] = set(RESERVED)
        self._sources: list[Source] = []
        self._late_sources: list[LateSource] = []
        self._watchers: list[Callable[[Kind], None]] = []
        self._naming = asyncio.Lock()
        self.around: Callable[[Servable], Servable] | None = None
        """What is put around everything that is resolved: guards, if there are any."""
        self.files: ReadsFiles | None = None
        """Reads the files that come with a question, for what reads text alone."""
        self.versions: Versions | None = None
        """Finds versions of apps."""

    def add(self, servable: Servable, *, replace: bool = False) -> None:
        """Register under ``servable.card.key`` for its owner.

        Raises `Conflict` if this owner has something else of that name; ``replace``: unless it is of the same kind.
        """
        card = servable.card
        table = self._shared if card.owner is None else self._private.setdefault(card.owner, {})
        known = table.get(card.key)
        if known is not None and not (replace and known.card.kind == card.kind):
            raise _taken(card.name, known.card.kind)
        table[card.key] = servable
        if known_as := _id(card):
            self._ids[known_as] = servable
        self.changed(card.kind)

    def remove(self, key: str, owner: str | None = None) -> None:
        """Take out what this owner has under ``key``; nothing happens if that is nothing."""
        table = self._shared if owner is None else self._private.get(owner, {})
        servable = table.pop(key, None)
        if servable is None:
            return
        known_as = _id(servable.card)
        self._ids.pop(known_as, None)
        if known_as:
            for alias in [name for name, behind in self._behind.items() if behind.card.id == known_as]:
                del self._behind[alias]
        if owner is not None and not table:
            del self._private[owner]
        self.changed(servable.card.kind)

    def add_source(self, source: Source) -> None:
        self._sources.append(source)

    def add_late_source(self, source: LateSource) -> None:
        """Ask ``source`` before a name is taken for unknown, or that of a durable run for gone."""
        self._late_sources.append(source)

    async def started(self, key: str) -> None:
        """Wait for what may have a key and is being started. Raises `Unavailable` if that takes long."""
        try:
            async with asyncio.timeout(STARTED_TIMEOUT_S) as until:
                for late in self._late_sources:
                    await late.started(key)
        except TimeoutError:
            if not until.expired():
                raise
            noun, name = _noun(key)
            raise Unavailable(
                f"The {noun} '{name}' may come of something that is still being started. Try again in "
                f"{STARTING_RETRY_S:g} s.",
                code="starting",
                param=noun,
                retry_after=STARTING_RETRY_S,
            ) from None

    async def tools_started(self) -> None:
        """Wait while any tool is being started, for a late source whose things need them."""
        for late in self._late_sources:
            await late.started("tool/")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources, in the order in which they are asked."""
        return tuple(self._sources)

    def alias(self, name: str, target: str, behind: Servable | None = None) -> None:
        """Let ``name`` mean ``target`` from now on; ``behind`` answers if that is not the name of anything."""
        self._aliases[name] = target
        if behind is None:
            self._behind.pop(name, None)
        else:
            self._behind[name] = behind
        self.changed("model")

    async def version(self, target: str) -> Servable | None:
        """The version of a shared app that ``NAME@NUMBER`` means, if there is one and nothing has that name."""
        if self.versions is None or "@" not in target or target in self._shared:
            return None
        return await self.versions(target)

    def unalias(self, name: str) -> None:
        """Let ``name`` mean nothing."""
        self._behind.pop(name, None)
        if self._aliases.pop(name, None) is not None:
            self.changed("model")

    @property
    def aliases(self) -> dict[str, str]:
        return dict(self._aliases)

    def behind(self, alias: str) -> str:
        """The name that what an alias means has in lists: that of the app, where it means a version of one."""
        found = self._behind.get(alias)
        return self._aliases.get(alias, alias) if found is None else found.card.key

    @property
    def meanings(self) -> dict[str, str]:
        """Aliases, and the names that what they mean has in lists."""
        return {**self._aliases, **{alias: behind.card.key for alias, behind in self._behind.items()}}

    def watch(self, watcher: Callable[[Kind], None]) -> None:
        """Call ``watcher`` with the kind whenever a list of names changes."""
        self._watchers.append(watcher)

    def changed(self, kind: Kind) -> None:
        for watcher in self._watchers:
            watcher(kind)

    # --- giving names ------------------------------------------------------------------------------------------

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for the operator: from now on no key gives them to a thing of its own."""
        self._reserved.update(names)

    def require_unreserved(self, name: str, owner: str | None) -> None:
        """Raise `Conflict` if a key wants a name that the operator keeps."""
        if owner is not None and name in self._reserved:
            raise Conflict(
                f"The name '{name}' is reserved by the operator. Choose another name.",
                code="name_reserved",
                param="name",
            )

    @asynccontextmanager
    async def claim(self, owner: str | None, *keys: str, aliases: Iterable[str] = ()) -> AsyncIterator[None]:
        """Hold names for ``owner`` (``None``: shared) while the block makes what is to have them.

        Raises `Conflict` for a name that is reserved, shared or the owner's already; one that is to be an alias may be
        one, which moves. What other keys have of that name does not matter: a shared thing may come beside it.
        """
        async with self._naming:
            for key in keys:
                await self._require_free(key, owner)
                if key in self._aliases:
                    raise _taken(key, "alias")
            for alias in aliases:
                if alias not in self._aliases:
                    await self._require_free(alias, None)
            yield

    async def _require_free(self, key: str, owner: str | None) -> None:
        name = key.rpartition("/")[2] if key.startswith(("store/", "tool/")) else key
        self.require_unreserved(name, owner)
        found = await self.owned(key, owner)
        if found is None and owner is not None:
            found = await self.owned(key, None)
        if found is not None and not found.card.labels.get("fallback"):
            raise _taken(name, found.card.kind)

    # --- finding what a name means -------------------------------------------------------------------------------

    def get(self, key: str, caller: Principal | None = None) -> Servable | None:
        """What is held here under ``key``: the caller's own, what is shared, what an alias means. No I/O.

        With a ``caller`` an id is found too, if what has it exists for that caller.
        """
        if caller is not None:
            own = self._private.get(caller.id)
            if own is not None and key in own:
                return own[key]
        found = self._shared.get(key)
        if found is None:
            found = self._behind.get(key)
        if found is None:
            key = self._aliases.get(key, key)
            found = self._shared.get(key)
        if found is None and caller is not None and key in self._ids:
            found = self._ids[key]
            return found if caller.sees(found.card.owner) else None
        return found

    async def owned(self, key: str, owner: str | None) -> Servable | None:
        """What exactly this owner has under a name, aliases aside; ``None`` means what is shared."""
        table = self._shared if owner is None else self._private.get(owner, {})
        return table.get(key) or await self._find(key, owner)

    def __iter__(self) -> Iterator[Servable]:
        """Everything shared that is held here."""
        return iter(self._shared.values())

    async def resolve(self, key: str, caller: Principal) -> Servable:
        """The Servable that ``caller`` means by a name or an id, checked for visibility and scope.

        Raises `NotFound` (with the nearest names) if it does not exist for this caller, `Forbidden` if it does and
        the caller may not call it. Within a durable run a name means what it meant when the run began: `Conflict` if
        that is gone.
        """
        bound = BOUND.get()
        if bound is not None and caller.id != SYSTEM.id:
            found = await self._bound(key, caller, bound)
        else:
            found = await self._resolve(key, caller)
        return self._surrounded(found)

    def admit(self, found: Servable, caller: Principal) -> Servable:
        """What ``caller`` has been given already, as `resolve` returns it. Raises `Forbidden`."""
        caller.require(found.card.scope)
        return self._surrounded(found)

    def _surrounded(self, found: Servable) -> Servable:
        return found if self.around is None else self.around(found)

    async def _bound(self, key: str, caller: Principal, bound: BoundNames) -> Servable:
        meaning = bound.known.get(key)
        if meaning is None:
            found = await self._resolve(key, caller)
            if splits(found):
                found = found.one(caller)
            await bound.bind(key, self._meaning(key, found))
            return found
        same = await self._meant(key, caller, meaning)
        if same is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(PREPARED_TIMEOUT_S):
                    for late in self._late_sources:
                        await late.prepared(key)
            same = await self._meant(key, caller, meaning)
        if same is None or (target_in(meaning) is None and binding_of(same.card) != meaning):
            raise name_changed_error(key, meaning)
        caller.require(same.card.scope)
        return same

    def _meaning(self, key: str, found: Servable) -> str:
        """What a name means. An alias of something that has no name of its own means the target that answers."""
        if key in self._shared or key not in self._behind:
            return binding_of(found.card)
        return to_target(getattr(found, "target", self._aliases[key]))

    async def _meant(self, key: str, caller: Principal, meaning: str) -> Servable | None:
        """What is there now of what a name meant when a run began."""
        target = target_in(meaning)
        if target is not None:
            split = self._behind.get(key)
            side = split.side(target) if split is not None and splits(split) else None
            return side or self._shared.get(target) or await self.version(target)
        known_as = id_of(meaning)
        if known_as is not None:
            kind = key.rpartition("/")[0]
            return await self._identified(f"{kind}/{known_as}" if kind else known_as, caller)
        owner = owner_in(meaning)
        if owner is None:
            return self.get(key) or await self._from_sources(key, caller)
        return await self.owned(key, owner)

    async def _resolve(self, key: str, caller: Principal) -> Servable:
        found = await self._known(key, caller)
        if found is None and caller.id != SYSTEM.id:  # the daemon itself starts them, or waits for none
            await self.started(key)
            found = await self._known(key, caller)
        if found is None:
            raise await self._unknown(key, caller)
        caller.require(found.card.scope)
        return found

    async def _known(self, key: str, caller: Principal) -> Servable | None:
        own = self._private.get(caller.id)
        found = None if own is None else own.get(key)
        if found is None:
            shared = self.get(key)
            if shared is None or self._may_have(key, caller.id):
                found = await self._find(key, caller.id)
            found = found or shared or await self._from_sources(key, caller)
        return found

    def _may_have(self, key: str, owner: str) -> bool:
        for source in self._sources:  # noqa: SIM110  # a generator would cost every call of a model
            if source.has(key, owner):
                return True
        return False

    async def _from_sources(self, key: str, caller: Principal) -> Servable | None:
        """What is shared and not held here, or what has this id."""
        target = self._aliases.get(key)
        if target is not None:
            return await self._find(target, None) or await self._identified(target, caller)
        return await self._find(key, None) or await self._identified(key, caller)

    async def _find(self, key: str, owner: str | None) -> Servable | None:
        """What the first source has that knows it."""
        for source in self._sources:
            found = await source.find(key, owner)
            if found is not None:
                return found
        return None

    async def _identified(self, key: str, caller: Principal) -> Servable | None:
        """What has this id, if the caller sees it."""
        found = self._ids.get(key)
        if found is not None:
            return found if caller.sees(found.card.owner) else None
        for source in self._sources:
            found = await source.by_id(key, caller)
            if found is not None:
                return found if caller.sees(found.card.owner) else None
        return None

    async def cards(self, caller: Principal, *kinds: Kind) -> list[Card]:
        """The cards that ``caller`` may call by name, of ``kinds`` (all kinds if none is given), by name.

        What it has itself stands in the place of what is shared under the same name.
        """
        cards = [servable.card for servable in self._shared.values()]
        cards += [servable.card for servable in self._private.get(caller.id, {}).values()]
        for source in self._sources:
            cards.extend(await source.cards(caller))
        meant: dict[str, Card] = {}
        for card in cards:
            if card.owner not in (None, caller.id) or (kinds and card.kind not in kinds):
                continue
            if card.key not in meant or (card.owner is not None and meant[card.key].owner is None):
                meant[card.key] = card
        return sorted(
            (card for card in meant.values() if caller.allows(card.scope)), key=lambda card: card.key
        )

    async def _unknown(self, key: str, caller: Principal) -> NotFound:
        noun, name = _noun(key)
        if noun == "model":
            known = [card.name for card in await self.cards(caller, "model", "app")] + list(self._aliases)
        else:
            known = [card.name for card in await self.cards(caller) if card.kind == noun]
        return NotFound(
            f"The {noun} '{name}' does not exist here or you have no access to it.{nearest(name, known)}",
            code=f"{noun}_not_found",
            param=noun,
        )


def _noun(key: str) -> tuple[str, str]:
    """What an error calls a key: a store, a tool, or anything that answers as a model does; and its name."""
    kind, _, name = key.rpartition("/")
    return (kind, name) if kind in ("store", "tool") else ("model", key)


def _id(card: Card) -> str:
    """What a thing is reached by under any name; empty if nothing. A trained model's name holds the id of its job."""
    return card.id or (card.name if card.kind == "model" and card.owner is not None else "")


def _taken(name: str, kind: str) -> Conflict:
    return Conflict(
        f"The name '{name}' belongs to {'an' if kind[0] in 'ai' else 'a'} {kind} here. Choose another name.",
        code="name_taken",
        param="name",
    )
