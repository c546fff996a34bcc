"""Chat apps of stores. The chat app of a store has the store's name and answers questions about its documents, with
citations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from portico.wire import Unsupported
from portico_server.core.context import Context
from portico_server.core.pools import LOADING
from portico_server.core.principal import Principal
from portico_server.core.registry import FOUND, Registry, Source
from portico_server.core.request import Request, Result
from portico_server.core.servable import Card, Kind, Servable
from portico_server.core.training_passages import StorePassage
from portico_server.features.answers.trust import ReaderTest, is_tiny

if TYPE_CHECKING:
    from portico_server.features.answers.ask import AskApp, FindPassages

MODEL = "default"
"""The model that answers if the label ``model`` is missing on the store's card."""

MAX_PROPOSED_STORES = 256
"""Maximum number of stores whose proposed questions are cached."""


class StoreApps:
    """A registry `Source` that provides a chat app for each store whose card has the label ``app``."""

    kinds: frozenset[Kind] = frozenset({"app"})

    def __init__(
        self, registry: Registry, trust: ReaderTest, unsupported_action: Unsupported = "mark"
    ) -> None:
        self._registry = registry
        self._trust = trust
        self._unsupported = unsupported_action
        self._ask_app: type[AskApp] | None = None
        self._proposals: OrderedDict[str, tuple[Hashable, Sequence[str]]] = OrderedDict()
        """For each store id, the version of the store and the questions proposed for this version."""

    async def load(self) -> type[AskApp]:
        """Return the class that answers from a store. The first call imports it outside the event loop."""
        if self._ask_app is None:
            app: type[AskApp] = await LOADING.run(resolve_name, "portico_server.features.answers.ask:AskApp")
            self._ask_app = app
        return self._ask_app

    async def _answering(self, store: Card) -> AskApp:
        return (await self.load())(store, _card(store), self._registry, self._trust, self._unsupported)

    async def quotes(self, model: Card) -> bool:
        """Return whether a model failed its test as a reader. Until a model is tested, its size decides. The test
        starts if the model is untested.
        """
        if await self._trust.way(model) == "write":
            return False
        return is_tiny(model) or await self._trust.verdict(model) is not None

    async def answer_for(self, model: Card, stores: Sequence[Card], find: FindPassages) -> AskApp:
        """Return an app that answers in place of ``model``, from the passages that ``find`` returns from ``stores``. It
        quotes, unless the first store's setting says that models write.
        """
        store = stores[0]
        way = "write" if store.labels.get("answers") == "write" else "quote"
        app = Card(
            model.name,
            "app",
            capabilities=frozenset({"chat"}),
            labels={"store": store.name, "model": model.name},
            owner=model.owner,
        )
        return (await self.load())(
            replace(store, labels={**store.labels, "answers": way}),
            app,
            self._registry,
            self._trust,
            self._unsupported,
            places=[f"store/{card.id}" if card.id else card.key for card in stores],
            find=find,
        )

    async def propose(
        self,
        store: Card,
        version: Hashable,
        read: Callable[[], Awaitable[Sequence[StorePassage]]],
        context: Context,
    ) -> Sequence[str]:
        """Return a few questions that the documents of ``store`` answer. The store's app judges whether they do.

        The questions are cached until ``version`` changes. ``read`` returns passages of the store.
        """
        hashable, questions = self._proposals.get(store.id, (None, ()))
        if hashable == version:
            return questions
        app = await self._answering(store)
        questions = await app.propose(await read(), context)
        self._proposals[store.id] = (version, questions)
        self._proposals.move_to_end(store.id)
        if len(self._proposals) > MAX_PROPOSED_STORES:
            self._proposals.popitem(last=False)
        return questions

    async def find(self, key: str, owner: str | None) -> Servable | None:
        if "/" in key:
            return None
        return self._app(await self._registry.find_owned(f"store/{key}", owner))

    async def by_id(self, key: str, caller: Principal) -> Servable | None:
        for source in self._registry.sources if "/" not in key else ():
            if source is not self and (store := await source.by_id(f"store/{key}", caller)) is not None:
                return self._app(store)
        return None

    def _app(self, store: Servable | None) -> Servable | None:
        return StoreApp(store, self._answering) if store is not None and _is_app(store.card) else None

    async def cards(
        self, caller: Principal, kinds: Collection[Kind] = (), listed_cards: Sequence[Card] = ()
    ) -> Sequence[Card]:
        if not kinds or "store" in kinds:
            return self.of_stores(listed_cards)
        return await self._apps(lambda source: source.cards(caller, self.kinds))

    async def similar(self, name: str, caller: Principal) -> Sequence[Card]:
        return await self._apps(lambda source: source.similar(name, caller))

    async def _apps(self, read: Callable[[Source], Awaitable[Sequence[Card]]]) -> Sequence[Card]:
        """Return the cards of the apps of the registered stores, and of those that ``read`` returns for a source."""
        stores = [servable.card for servable in self._registry]
        for source in self._registry.sources:
            if "store" in source.kinds:
                stores.extend(await read(source))
        return self.of_stores(stores)

    @staticmethod
    def of_stores(stores: Sequence[Card]) -> Sequence[Card]:
        """Return the cards of the apps of those ``stores`` that are apps."""
        return [_card(store) for store in stores if _is_app(store)]

    def has(self, key: str, owner: str) -> bool:
        store = f"store/{key}"
        for source in self._registry.sources:  # noqa: SIM110  # a generator would cost every call of a model
            if source is not self and source.has(store, owner):
                return True
        return False


class StoreApp:
    """The chat app of one store, without the modules that answer, which its first call imports."""

    def __init__(self, store: Servable, answering: Callable[[Card], Awaitable[AskApp]]) -> None:
        self._store = store
        self._answering = answering
        self.card = _card(store.card)

    async def call(self, request: Request, context: Context) -> Result:
        app = await self._answering(self._store.card)
        token = FOUND.set((f"store/{self._store.card.id}", self._store))
        try:
            return await app.call(request, context)
        finally:
            FOUND.reset(token)


def _is_app(card: Card) -> bool:
    return card.kind == "store" and card.labels.get("app") is True


def _card(store: Card) -> Card:
    """Return the card of a store's chat app."""
    return Card(
        name=store.name,
        kind="app",
        title=store.title or store.name,
        description=store.description
        or f"Answers questions about the documents in '{store.name}', with citations.",
        capabilities=frozenset({"chat"}),
        labels={"store": store.name, "model": store.labels.get("model") or MODEL},
        owner=store.owner,
        created=store.created,
        id=store.id,
    )
