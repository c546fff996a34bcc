"""One table of names."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import pytest

from portico_server.core import late_sources
from portico_server.core.binding import BOUND, BoundNames
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, Forbidden, NotFound, Unavailable
from portico_server.core.late_servables import LateServables
from portico_server.core.principal import LOCAL, SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.core.request import ChatReply, Request, Result
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card, Kind, Servable


class Echo:
    """A Servable that answers with its own name."""

    def __init__(self, card: Card) -> None:
        self.card = card

    async def call(self, request: Request, context: Context) -> Result:
        return ChatReply(self.card.name)


class Shelf:
    """A source with one store."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self.kinds: frozenset[Kind] = frozenset({card.kind})

    async def find(self, key: str, owner: str | None) -> Servable | None:
        return Echo(self._card) if (key, owner) == (self._card.key, self._card.owner) else None

    async def by_id(self, key: str, caller: Principal) -> Servable | None:
        return Echo(self._card) if key == f"{self._card.kind}/{self._card.id}" else None

    async def cards(
        self, caller: Principal, kinds: Collection[Kind] = (), listed_cards: Sequence[Card] = ()
    ) -> Sequence[Card]:
        return [self._card]

    async def similar(self, name: str, caller: Principal) -> Sequence[Card]:
        return [self._card]

    def has(self, key: str, owner: str) -> bool:
        return (key, owner) == (self._card.key, self._card.owner)


async def test_a_name_an_alias_and_a_source_resolve() -> None:
    registry = Registry()
    registry.add(Echo(Card("smol", "model")))
    registry.aliases.set("default", "smol")
    registry.add_source(Shelf(Card("handbook", "store")))
    for key, name in (("smol", "smol"), ("default", "smol"), ("store/handbook", "handbook")):
        assert (await registry.resolve(key, LOCAL)).card.name == name


class Workshop:
    """Builds two tools, and counts how often."""

    def __init__(self) -> None:
        self.count = 0
        keys = frozenset({"tool/saw", "tool/drill"})
        self.tools = LateServables("tool", keys, "portico_server.core.servable", self.build)

    def build(self) -> Sequence[Servable]:
        self.count += 1
        return [Echo(Card("saw", "tool")), Echo(Card("drill", "tool"))]


async def test_late_objects_are_built_by_the_first_lookup_and_by_the_first_list_of_their_kind() -> None:
    lookups = (
        lambda registry: registry.resolve("tool/saw", LOCAL),
        lambda registry: registry.find_owned("tool/saw", None),
        lambda registry: registry.cards(LOCAL),
        lambda registry: registry.cards(LOCAL, "model", "tool"),
    )
    for look_up in lookups:
        registry, workshop = Registry(), Workshop()
        changed_kinds: list[str] = []
        registry.add_late(workshop.tools)
        registry.watch(changed_kinds.append)
        registry.add(Echo(Card("smol", "model")))
        await registry.resolve("smol", LOCAL)
        assert [card.name for card in await registry.cards(LOCAL, "model")] == ["smol"]
        assert workshop.count == 0
        await asyncio.gather(look_up(registry), look_up(registry))
        assert [card.name for card in await registry.cards(LOCAL, "tool")] == ["drill", "saw"]
        assert registry.get("tool/drill") is not None
        assert (workshop.count, changed_kinds) == (1, ["model"])


async def test_nothing_takes_the_name_of_a_late_object() -> None:
    registry, workshop = Registry(), Workshop()
    registry.add_late(workshop.tools)
    with pytest.raises(Conflict):
        registry.add_late(Workshop().tools)
    for owner in (None, "key_1"):
        with pytest.raises(Conflict, match="already belongs to a tool"):
            async with registry.claims.hold(owner, "tool/saw"):
                pass
    with pytest.raises(Conflict):
        registry.add(Echo(Card("drill", "tool")))
    assert workshop.count == 1


async def test_a_lookup_without_io_builds_a_late_object() -> None:
    registry, workshop = Registry(), Workshop()
    registry.add_late(workshop.tools)
    assert registry.get("tool/hammer") is None and workshop.count == 0
    servable = registry.get("tool/saw", LOCAL)
    assert servable is not None and servable.card.name == "saw"


async def test_an_alias_can_be_set_to_another_model() -> None:
    registry = Registry()
    registry.add(Echo(Card("small", "model")))
    registry.add(Echo(Card("large", "model")))
    registry.aliases.set("default", "small")
    registry.aliases.set("default", "large")
    assert (await registry.resolve("default", LOCAL)).card.name == "large"


async def test_an_unknown_name_is_refused_with_the_most_similar_name() -> None:
    registry = Registry()
    registry.add(Echo(Card("smollm2", "model")))
    with pytest.raises(NotFound, match="Did you mean 'smollm2'") as caught:
        await registry.resolve("smolm2", LOCAL)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


async def test_foreign_objects_are_not_found_and_own_objects_without_scope_are_forbidden() -> None:
    registry = Registry()
    registry.add_source(Shelf(Card("handbook", "store", owner="key_1")))
    with pytest.raises(NotFound):
        await registry.resolve("store/handbook", Principal("key_2", frozenset({"stores:*:read"})))
    with pytest.raises(Forbidden):
        await registry.resolve("store/handbook", Principal("key_1", frozenset({"chat"})))
    assert await registry.resolve("store/handbook", Principal("key_1", frozenset({"stores:*:read"})))


async def test_suggested_names_are_only_names_visible_to_the_caller() -> None:
    registry = Registry()
    registry.add_source(Shelf(Card("handbook", "store", owner="key_1")))
    with pytest.raises(NotFound) as caught:
        await registry.resolve("store/handbok", Principal("key_2", frozenset({"stores:*:read"})))
    assert "handbook" not in caught.value.message


def test_adding_a_name_twice_for_a_kind_is_a_conflict() -> None:
    registry = Registry()
    registry.add(Echo(Card("smol", "model")))
    with pytest.raises(Conflict):
        registry.add(Echo(Card("smol", "model")))
    registry.add(Echo(Card("smol", "store")))


def test_watchers_are_notified_of_additions_and_removals() -> None:
    registry, kinds = Registry(), []
    registry.watch(kinds.append)
    registry.add(Echo(Card("search", "tool")))
    registry.remove("tool/search")
    registry.remove("tool/search")
    assert kinds == ["tool", "tool"]


class Starting:
    """A source that registers one Servable as soon as somebody waits for it, or never."""

    def __init__(self, registry: Registry, servable: Servable | None) -> None:
        self._registry = registry
        self._servable = servable

    async def wait_for_start(self, key: str) -> None:
        if self._servable is None:
            await asyncio.Event().wait()
        elif self._servable.card.key == key:
            self._registry.add(self._servable)

    async def prepared(self, key: str) -> None:
        await self.wait_for_start(key)

    def problem(self, key: str) -> str:
        return "The source 'lookups' is not ready." if self._servable is None else ""


async def test_a_call_waits_for_what_is_being_started() -> None:
    registry = Registry()
    registry.late_sources.add(Starting(registry, Echo(Card("lookup", "tool"))))
    with pytest.raises(NotFound):
        await registry.resolve("tool/other", LOCAL)
    with pytest.raises(NotFound):
        await registry.resolve("tool/lookup", SYSTEM)
    assert (await registry.resolve("tool/lookup", LOCAL)).card.name == "lookup"


async def test_a_call_waits_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_sources, "STARTED_TIMEOUT_S", 0.0)
    registry = Registry()
    registry.late_sources.add(Starting(registry, None))
    words = "'lookup' may belong to a part of the daemon that is still starting"
    with pytest.raises(Unavailable, match=words) as error:
        await registry.resolve("tool/lookup", LOCAL)
    assert (error.value.code, error.value.param) == ("starting", "tool") and error.value.retry_after
    with pytest.raises(NotFound):
        await registry.resolve("tool/lookup", SYSTEM)


async def test_a_durable_run_names_the_source_of_a_tool_that_does_not_become_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(late_sources, "PREPARED_TIMEOUT_S", 0.0)
    registry = Registry()
    registry.late_sources.add(Starting(registry, None))

    async def keep(_names: Mapping[str, str]) -> None:
        """Store nothing."""

    for known_names in ({}, {"tool/lookup": "tool:"}):
        with (
            ScopedValue(BOUND, BoundNames(known_names, keep)),
            pytest.raises(Unavailable, match=r"'lookup' was not available .* source 'lookups' is not ready"),
        ):
            await registry.resolve("tool/lookup", LOCAL)
