"""The table of names. A name that is registered once is served by every protocol adapter.

A name is *shared* (defined by the configuration, the local operator or an admin) or *private* to a key. A bare name
refers to the caller's own object or, if none exists, to a shared object, and never to another key's. Only an admin can
reach the objects of another key, by their ids.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from importlib import import_module
from typing import Final, Protocol, TypeAlias, TypeVar

from portico_server.core import pools
from portico_server.core.aliases import Aliases
from portico_server.core.attached_files import ReadsFiles
from portico_server.core.binding import (
    BOUND,
    BoundNames,
    binding_of,
    id_of,
    is_executing,
    name_changed_error,
    owner_in,
    target_in,
    to_target,
)
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.late_servables import LateServables
from portico_server.core.late_sources import LateSources
from portico_server.core.name_claims import NameClaims, name_taken_error
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.servable import Card, Kind, Servable, noun_and_name, splits

MAX_LISTED_MODELS: Final = 20
"""Maximum number of models that an error lists."""


def owner_of(caller: Principal) -> str | None:
    """Return the owner of the objects that this caller creates; ``None`` for an admin, whose objects are shared."""
    return None if caller.admin else caller.id


Content = TypeVar("Content")


class GuardsContent(Protocol):
    """Applies guards to content that leaves an object without a call, such as the text of a file in a store."""

    async def pass_content(self, card: Card, content: Content) -> Content:
        """Return the content as the guards around the object of ``card`` let it pass.

        ``content`` consists of dataclasses, sequences and texts. Raises the errors of guards.
        """

    def unknown_names(self, cards: Sequence[Card]) -> Sequence[tuple[str, str]]:
        """Return each guard with each name that it protects and that none of the objects with these ``cards`` has."""

    async def require_unguarded(self, card: Card, read: Callable[[], Awaitable[Sequence[str]]]) -> None:
        """Raise the error of a guard around the object of ``card`` that would mask or block a text of ``read``."""


FOUND: ContextVar[tuple[str, Servable] | None] = ContextVar("found", default=None)
"""The key by id of an object that the current call has found already, and the object."""


Versions: TypeAlias = Callable[[str], Awaitable[Servable | None]]
"""A function that returns the version of a shared app to which ``NAME@NUMBER`` refers, or ``None``."""


class Source(Protocol):
    """A part of the daemon that stores its Servables as database rows and looks them up on demand, such as stores and
    their chat apps.
    """

    async def find(self, key: str, owner: str | None) -> Servable | None:
        """Return the object of a name that belongs to exactly this owner; ``None`` as the owner means shared
        objects.
        """

    async def by_id(self, key: str, caller: Principal) -> Servable | None:
        """Return the object with this id, if the caller can see it."""

    kinds: frozenset[Kind]
    """The kinds of its objects."""

    async def cards(
        self, caller: Principal, kinds: Collection[Kind] = (), listed_cards: Sequence[Card] = ()
    ) -> Sequence[Card]:
        """Return the cards of the caller's own objects and of the shared objects.

        ``kinds`` are the kinds that are needed, by default all: for apps alone, stores that are no apps may be left
        out. ``listed_cards`` are the cards of these kinds that the registry and the sources before this one returned.
        """

    async def similar(self, name: str, caller: Principal) -> Sequence[Card]:
        """Return those of the `cards` whose names can be meant by a wrong ``name``. Unlike `cards`, it takes no longer
        if there are many objects.
        """

    def has(self, key: str, owner: str) -> bool:
        """Return whether a key may have a private object with this name. Does no I/O, because every call of a model
        calls it.
        """


class Registry:
    """Maps names to Servables. Aliases may point to any name, and may change without clients noticing."""

    def __init__(self) -> None:
        self._shared_servables: dict[str, Servable] = {}
        self._private: dict[str, dict[str, Servable]] = {}
        """Maps owners to their private servables, which are keyed by registry key."""
        self._ids: dict[str, Servable] = {}
        """Registered servables, by id."""
        self._late_servables: dict[str, LateServables] = {}
        """The shared servables that have not been built yet, by registry key."""
        self.aliases = Aliases(self.announce)
        self.claims = NameClaims(self.find_owned, self.aliases)
        """Says which names are free, and reserves names while their objects are created."""
        self._sources: list[Source] = []
        self.late_sources = LateSources()
        self._watchers: list[Callable[[Kind], None]] = []
        self.changes = 0
        """The number of changes of names that were announced in this process."""
        self.around: Callable[[Servable], Servable] | None = None
        """Wraps every Servable that is resolved, for example in guards; ``None`` without guards."""
        self.content_guard: GuardsContent | None = None
        """Applies guards to content that leaves an object without a call; ``None`` without guards."""
        self.files: ReadsFiles | None = None
        """Reads the files attached to messages, for Servables that accept only text."""
        self.versions: Versions | None = None
        """Finds versions of apps."""

    def add(self, servable: Servable, *, replace: bool = False) -> None:
        """Register a servable under its card's key for its owner.

        Raises `Conflict` if this owner already has an object with that name; with ``replace``, only if that object is
        of another kind.
        """
        card = servable.card
        table = self._shared_servables if card.owner is None else self._private.setdefault(card.owner, {})
        known_servable = self._shared_servable(card.key) if card.owner is None else table.get(card.key)
        if known_servable is not None and not (replace and known_servable.card.kind == card.kind):
            raise name_taken_error(card.name, known_servable.card.kind)
        table[card.key] = servable
        if known_as := _id(card):
            self._ids[known_as] = servable
        self.announce(card.kind)

    def add_late(self, group: LateServables) -> None:
        """Register shared objects that their first lookup builds. Raises `Conflict` if a name is in use."""
        for key in group.keys:
            if key in self._late_servables or key in self._shared_servables:
                raise name_taken_error(noun_and_name(key)[1], group.kind)
        self._late_servables.update(dict.fromkeys(group.keys, group))

    async def load(self, key: str) -> None:
        """Import what the object of ``key`` needs outside the event loop, if its next lookup builds it."""
        if key in self._late_servables:
            await pools.LOADING.run(import_module, self._late_servables[key].module)

    def _shared_servable(self, key: str) -> Servable | None:
        """Return the shared object registered under ``key``, and build it if necessary."""
        servable = self._shared_servables.get(key)
        if servable is None and key in self._late_servables:
            self._build(self._late_servables[key])
            servable = self._shared_servables[key]
        return servable

    def _build(self, group: LateServables) -> None:
        """Build the objects of a group. Their names were already known, so no watcher is called."""
        self._shared_servables.update((servable.card.key, servable) for servable in group.build())
        for key in group.keys:
            del self._late_servables[key]

    def remove(self, key: str, owner: str | None = None) -> None:
        """Remove the object that this owner has registered under ``key``, if any."""
        table = self._shared_servables if owner is None else self._private.get(owner, {})
        servable = table.pop(key, None)
        if servable is None:
            return
        known_as = _id(servable.card)
        self._ids.pop(known_as, None)
        if known_as:
            self.aliases.forget(known_as)
        if owner is not None and not table:
            del self._private[owner]
        self.announce(servable.card.kind)

    def add_source(self, source: Source) -> None:
        self._sources.append(source)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources, in lookup order."""
        return tuple(self._sources)

    async def version(self, target: str) -> Servable | None:
        """Return the version of a shared app to which ``NAME@NUMBER`` refers, or ``None``. A shared object with
        exactly that name takes precedence.
        """
        if self.versions is None or "@" not in target or target in self._shared_servables:
            return None
        return await self.versions(target)

    def watch(self, watcher: Callable[[Kind], None]) -> None:
        """Call ``watcher`` with the kind of the objects whenever the list of names of this kind changes."""
        self._watchers.append(watcher)

    def announce(self, kind: Kind) -> None:
        self.changes += 1
        for watcher in self._watchers:
            watcher(kind)

    def get(self, key: str, caller: Principal | None = None) -> Servable | None:
        """Return the object registered under ``key``: the caller's own, a shared object, or the target of an alias.
        Does no I/O.

        With a ``caller``, ``key`` may also be the id of an object that the caller can see.
        """
        if caller is not None:
            servables = self._private.get(caller.id)
            if servables is not None and key in servables:
                return servables[key]
        servable = self._shared_servable(key)
        if servable is None:
            servable = self.aliases.behind.get(key)
        if servable is None:
            key = self.aliases.targets.get(key, key)
            servable = self._shared_servable(key)
        if servable is None and caller is not None and key in self._ids:
            servable = self._ids[key]
            return servable if caller.sees(servable.card.owner) else None
        return servable

    async def find_owned(self, key: str, owner: str | None) -> Servable | None:
        """Return the object of a name that belongs to exactly this owner, ignoring aliases; ``None`` as the owner
        means shared objects.
        """
        if owner is None:
            await self.load(key)
        servable = self._shared_servable(key) if owner is None else self._private.get(owner, {}).get(key)
        return servable or await self._find(key, owner)

    def __iter__(self) -> Iterator[Servable]:
        """Iterate over the registered shared objects. Late ones are missing until their first lookup."""
        return iter(self._shared_servables.values())

    async def resolve(self, key: str, caller: Principal) -> Servable:
        """Return the Servable to which ``caller`` refers by a name or an id, after checking visibility and scope.

        Raises `NotFound` (with the closest names) if the Servable does not exist for this caller, and `Forbidden` if
        the caller may not call it. Within a durable run, a name keeps the meaning that it had when the run began;
        raises `Conflict` if that object no longer exists.
        """
        if key in self._late_servables:
            await self.load(key)
        bound = BOUND.get()
        if bound is not None and caller.id != SYSTEM.id:
            servable = await self._find_bound(key, caller, bound)
        else:
            servable = await self._resolve(key, caller)
        return self._surrounded(servable)

    def admit(self, servable: Servable, caller: Principal) -> Servable:
        """Check and wrap a Servable that was already found for ``caller``, as `resolve` does. Raises `Forbidden`."""
        caller.require(*servable.card.scopes)
        return self._surrounded(servable)

    def _surrounded(self, servable: Servable) -> Servable:
        return servable if self.around is None else self.around(servable)

    async def pass_content(self, card: Card, content: Content) -> Content:
        """See `GuardsContent.pass_content`. Without guards, return the content unchanged."""
        return content if self.content_guard is None else await self.content_guard.pass_content(card, content)

    async def _find_bound(self, key: str, caller: Principal, bound: BoundNames) -> Servable:
        meaning = bound.known.get(key)
        if meaning is None:
            servable = await self._resolve(key, caller)
            if splits(servable):
                servable = servable.choose_side(caller)
            await bound.bind(key, self._meaning(key, servable))
            return servable
        same = await self._find_meant(key, caller, meaning)
        if same is None:
            await self.late_sources.prepared(key)
            same = await self._find_meant(key, caller, meaning)
        if same is None or (target_in(meaning) is None and binding_of(same.card) != meaning):
            raise name_changed_error(key, meaning)
        caller.require(*same.card.scopes)
        return same

    def _meaning(self, key: str, servable: Servable) -> str:
        """Return the meaning of a name. For an alias whose target has no name in the registry, the meaning is the
        target that answers.
        """
        if key in self._shared_servables or key not in self.aliases.behind:
            return binding_of(servable.card)
        return to_target(getattr(servable, "target", self.aliases[key]))

    async def _find_meant(self, key: str, caller: Principal, meaning: str) -> Servable | None:
        """Return the object that a name referred to when a run began, if it still exists."""
        target = target_in(meaning)
        if target is not None:
            split = self.aliases.behind.get(key)
            side = split.side(target) if split is not None and splits(split) else None
            return side or self._shared_servables.get(target) or await self.version(target)
        known_as = id_of(meaning)
        if known_as is not None:
            kind = key.rpartition("/")[0]
            return await self._identified(f"{kind}/{known_as}" if kind else known_as, caller)
        owner = owner_in(meaning)
        if owner is None:
            return self.get(key) or await self._from_sources(key, caller)
        return await self.find_owned(key, owner)

    async def _resolve(self, key: str, caller: Principal) -> Servable:
        servable = await self._known(key, caller)
        # the daemon's own calls do not wait, because the daemon itself starts these objects
        if servable is None and caller.id != SYSTEM.id:
            wait = self.late_sources.prepared if is_executing() else self.late_sources.wait_for_start
            await wait(key)
            servable = await self._known(key, caller)
        if servable is None:
            raise await self._unknown(key, caller)
        caller.require(*servable.card.scopes)
        return servable

    async def _known(self, key: str, caller: Principal) -> Servable | None:
        servables = self._private.get(caller.id)
        servable = None if servables is None else servables.get(key)
        if servable is None:
            shared_servable = self.get(key)
            if shared_servable is None or self._may_have(key, caller.id):
                servable = await self._find(key, caller.id)
            servable = servable or shared_servable or await self._from_sources(key, caller)
        return servable

    def _may_have(self, key: str, owner: str) -> bool:
        for source in self._sources:  # noqa: SIM110  # a generator would cost every call of a model
            if source.has(key, owner):
                return True
        return False

    async def _from_sources(self, key: str, caller: Principal) -> Servable | None:
        """Return a shared object that a source provides, or the object with this id."""
        target = self.aliases.targets.get(key)
        if target is not None:
            return await self._find(target, None) or await self._identified(target, caller)
        return await self._find(key, None) or await self._identified(key, caller)

    async def _find(self, key: str, owner: str | None) -> Servable | None:
        """Return the object from the first source that has one under this key."""
        for source in self._sources:
            servable = await source.find(key, owner)
            if servable is not None:
                return servable
        return None

    async def _identified(self, key: str, caller: Principal) -> Servable | None:
        """Return the object with this id, if the caller can see it."""
        found_servable = FOUND.get()
        if found_servable is not None and found_servable[0] == key:
            servable: Servable | None = found_servable[1]
        else:
            servable = self._ids.get(key)
        if servable is not None:
            return servable if caller.sees(servable.card.owner) else None
        for source in self._sources:
            servable = await source.by_id(key, caller)
            if servable is not None:
                return servable if caller.sees(servable.card.owner) else None
        return None

    async def only_model(self, capability: str, caller: Principal, param: str = "model") -> str:
        """Return the name of the only model with a capability that ``caller`` may call.

        If there are several models or none, raise `InvalidRequest` for ``param``, which is missing in the request.
        """
        names = await self.names_with(capability, caller, "model")
        if len(names) == 1:
            return names[0]
        choices = (
            f"Send one of: {', '.join(names[:MAX_LISTED_MODELS])}"
            if names
            else f"No model supports {capability}"
        )
        raise InvalidRequest(
            f"Missing required parameter: '{param}'. {choices}.",
            code="missing_required_parameter",
            param=param,
        )

    async def names_with(self, capability: str, caller: Principal, *kinds: Kind) -> list[str]:
        """Return the sorted names of the objects of these kinds with a capability that ``caller`` may call."""
        return [card.name for card in await self.cards(caller, *kinds) if capability in card.capabilities]

    async def cards(self, caller: Principal, *kinds: Kind) -> list[Card]:
        """Return the cards of all objects that ``caller`` may call, sorted by name; ``kinds`` limits them to these
        kinds.

        The caller's own object replaces a shared object with the same name.
        """
        cards = await self._registered(caller, kinds)
        for source in self._sources:
            if not kinds or source.kinds.intersection(kinds):
                cards.extend(await source.cards(caller, kinds, cards))
        return _callable_cards(cards, caller, kinds)

    async def cards_with(self, further_cards: Sequence[Card], caller: Principal, *kinds: Kind) -> list[Card]:
        """Return `cards`, but of the objects in sources only those that ``further_cards`` contains."""
        return _callable_cards([*await self._registered(caller, kinds), *further_cards], caller, kinds)

    async def _registered(self, caller: Principal, kinds: Sequence[Kind]) -> list[Card]:
        """Return the cards of the shared objects, and of the caller's own, that no source stores."""
        for group in set(self._late_servables.values()):
            if not kinds or group.kind in kinds:
                await self.load(min(group.keys))
                if not self._late_servables.keys().isdisjoint(group.keys):  # nothing built them meanwhile
                    self._build(group)
        cards = [servable.card for servable in self._shared_servables.values()]
        return cards + [servable.card for servable in self._private.get(caller.id, {}).values()]

    async def _unknown(self, key: str, caller: Principal) -> NotFound:
        noun, name = noun_and_name(key)
        kinds: tuple[Kind, ...] = _KINDS_OF_NOUN[noun]
        cards = await self._registered(caller, kinds)
        for source in self._sources:
            if source.kinds.intersection(kinds):
                cards.extend(await source.similar(name, caller))
        names = [card.name for card in _callable_cards(cards, caller, kinds)]
        names += self.aliases if noun == "model" else ()
        return NotFound(
            f"The {noun} '{name}' does not exist or you have no access to it.{nearest(name, names)}",
            code=f"{noun}_not_found",
            param=noun,
        )


_KINDS_OF_NOUN: Final[Mapping[str, tuple[Kind, ...]]] = {
    "model": ("model", "app"),
    "store": ("store",),
    "tool": ("tool",),
}


def _callable_cards(cards: Iterable[Card], caller: Principal, kinds: Sequence[Kind]) -> list[Card]:
    """Return the cards of these kinds whose objects ``caller`` may call, sorted by name. Of two objects with one name,
    return the caller's own.
    """
    cards_by_key: dict[str, Card] = {}
    for card in cards:
        if card.owner not in (None, caller.id) or (kinds and card.kind not in kinds):
            continue
        if card.key not in cards_by_key or (card.owner is not None and cards_by_key[card.key].owner is None):
            cards_by_key[card.key] = card
    return sorted(
        (card for card in cards_by_key.values() if caller.allows_any(card.scopes)), key=lambda card: card.key
    )


def _id(card: Card) -> str:
    """Return the id that identifies an object under any name; empty if it has none. The name of a trained model serves
    as its id, because it contains the id of the training job.
    """
    return card.id or (card.name if card.kind == "model" and card.owner is not None else "")
